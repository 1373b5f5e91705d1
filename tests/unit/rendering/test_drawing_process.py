"""The process that draws: its limits, how it is replaced, and hostile frames."""

from __future__ import annotations

import time

import psutil
import pytest

from bench.fuzz_pictures import MeasuredProcess, fuzz
from framegate.rendering.drawing_child import DrawStatus, skipped_decompositions
from framegate.rendering.drawing_process import DrawingProcess, DrawTask
from framegate.rendering.presentation import Presentation
from framegate.rendering.request import PictureRequest
from tests.unit.codestreams import slow_frame
from tests.unit.htj2k_frames import encoded, image

HTJ2K, JPEG_2000 = "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.90"


@pytest.fixture
def process():
    running = DrawingProcess()
    yield running
    running.stop()


def attributes(rows, columns, bits=16):
    numbers = {"00280002": 1, "00280010": rows, "00280011": columns, "00280100": bits, "00280103": 0}
    return {
        "00280004": {"Value": ["MONOCHROME2"]},
        **{tag: {"Value": [number]} for tag, number in numbers.items()},
    }


def draw(process, content, rows=64, columns=64, syntax=HTJ2K, seconds=30):
    task = DrawTask(syntax, attributes(rows, columns), None, PictureRequest(), max(rows, columns))
    return process.draw(content, task, seconds)


def test_process_is_reused_for_the_next_frame(process):
    pids = set()
    for number in range(3):
        assert draw(process, encoded(image(64, 64, number))).status is DrawStatus.DRAWN
        pids.add(process._process.pid)
    assert len(pids) == 1


def test_process_has_no_credentials_and_cannot_open_files(process, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    draw(process, encoded(image(64, 64)))
    child = psutil.Process(process._process.pid)
    assert set(child.environ()) <= {"PYTHONPATH", "OPENBLAS_NUM_THREADS", "LD_LIBRARY_PATH", "LC_CTYPE"}
    for limit in (psutil.RLIMIT_NOFILE, psutil.RLIMIT_NPROC, psutil.RLIMIT_FSIZE, psutil.RLIMIT_CORE):
        assert child.rlimit(limit) == (0, 0)
    assert child.rlimit(psutil.RLIMIT_AS)[0] < child.memory_info().vms + 1200 * 1024**2
    assert child.rlimit(psutil.RLIMIT_CPU)[0] < 60
    assert child.num_fds() <= 3


def test_process_out_of_memory_is_replaced():
    small = DrawingProcess(memory_bytes=16 * 1024**2)
    assert draw(small, encoded(image(3000, 3000)), 3000, 3000).status is DrawStatus.STOPPED
    assert draw(small, encoded(image(64, 64))).status is DrawStatus.DRAWN
    small.stop()


def test_process_out_of_time_is_replaced(process):
    pixels, content = slow_frame()
    draw(process, encoded(image(64, 64)))
    started = time.monotonic()
    assert draw(process, content, *pixels.shape[:2], syntax=JPEG_2000, seconds=0.1).status is DrawStatus.STOPPED
    assert time.monotonic() - started < 5
    assert draw(process, encoded(image(64, 64))).status is DrawStatus.DRAWN


@pytest.mark.parametrize(
    ("offset", "number"),
    [(24, 0), (28, 0), (24, 1), (32, 1), (36, 2**16)],
    ids=["no width", "no height", "a million tiles", "first tile right of the image", "first tile below the image"],
)
def test_codestream_with_impossible_tiles_is_refused_before_it_is_decoded(process, offset, number):
    content = bytearray(encoded(image(1_000, 1_200)))
    draw(process, content, 1_000, 1_200)
    before = process._process.pid
    # SIZ declares the size and the offset of tiles (ITU-T T.800, A.5.1).
    content[offset : offset + 4] = number.to_bytes(4, "big")
    if offset == 24:
        content[offset + 4 : offset + 8] = number.to_bytes(4, "big")
    drawing = draw(process, content, 1_000, 1_200)
    assert (drawing.status, drawing.reason) == (DrawStatus.DAMAGED, "The headers of the frame are damaged")
    assert process._process.pid == before


@pytest.mark.parametrize(
    ("min_pixels", "skipped"), [(1, 5), (32, 5), (33, 4), (500, 1), (501, 0), (1000, 0), (2000, 0)]
)
def test_smallest_resolution_that_loses_no_detail_is_decoded(min_pixels, skipped):
    presentation = Presentation.of_frame(attributes(700, 1000), 1)
    assert skipped_decompositions(presentation, min_pixels, 5) == skipped


def test_mutated_frames_attributes_and_parameters_end_within_their_bounds():
    process = MeasuredProcess()
    ends = fuzz(range(300), process)
    process.stop()
    assert ends.counts["drawn"] > 50
    assert ends.counts["The headers of the frame are damaged"] > 20
    assert sum(ends.counts.values()) == 300
