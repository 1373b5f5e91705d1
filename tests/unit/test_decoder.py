"""The decoder process: its limits, and how it is replaced."""

from __future__ import annotations

import time
import zlib

import psutil
import pytest

from framegate.export.decoder import DecoderProcess, DecodeStatus
from framegate.jpeg2000.pixels import Decoder
from tests.unit.codestreams import htj2k, noise, slow_frame


@pytest.fixture(scope="module")
def slow():
    return slow_frame()


@pytest.fixture
def process():
    running = DecoderProcess()
    yield running
    running.stop()


def decode(process, content, decoder=Decoder.OPENJPH, seconds=30):
    return process.decode([content], len(content), decoder, seconds)


def test_process_is_reused_for_the_next_frame(process):
    pids = set()
    for number in range(3):
        pixels = noise("u2") + number
        assert decode(process, htj2k(pixels)).checksums == (zlib.crc32(pixels.tobytes()),)
        pids.add(process._process.pid)
    assert len(pids) == 1


def test_process_has_no_credentials_and_cannot_open_files(process, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "secret")
    decode(process, htj2k(noise("u2")))
    child = psutil.Process(process._process.pid)
    assert set(child.environ()) <= {"PYTHONPATH", "OPENBLAS_NUM_THREADS", "LD_LIBRARY_PATH", "LC_CTYPE"}
    for limit in (psutil.RLIMIT_NOFILE, psutil.RLIMIT_NPROC, psutil.RLIMIT_FSIZE, psutil.RLIMIT_CORE):
        assert child.rlimit(limit) == (0, 0)
    soft, hard = child.rlimit(psutil.RLIMIT_AS)
    assert soft == hard
    assert soft < child.memory_info().vms + 600 * 1024**2
    assert child.rlimit(psutil.RLIMIT_CPU)[0] < 100
    assert child.num_fds() <= 3


def test_process_out_of_memory_is_replaced():
    small = DecoderProcess(memory_bytes=16 * 1024**2)
    assert decode(small, htj2k(noise("u2", (3000, 3000)))).status is not DecodeStatus.DECODED
    assert decode(small, htj2k(noise("u2"))).status is DecodeStatus.DECODED
    small.stop()


def test_process_out_of_time_is_replaced(process, slow):
    _, content = slow
    decode(process, htj2k(noise("u2")))
    started = time.monotonic()
    assert decode(process, content, Decoder.OPENJPEG, seconds=0.1).status is DecodeStatus.STOPPED
    assert time.monotonic() - started < 5
    assert decode(process, htj2k(noise("u2"))).status is DecodeStatus.DECODED


def test_killed_process_is_replaced(process):
    decode(process, htj2k(noise("u2")))
    process._process.kill()
    process._process.wait()
    assert decode(process, htj2k(noise("u2"))).status is DecodeStatus.DECODED


def test_reader_error_is_passed_on_and_the_next_frame_is_decoded(process):
    def broken():
        yield b"\xff\x4f"
        raise KeyError("gone")

    with pytest.raises(KeyError):
        process.decode(broken(), 1000, Decoder.OPENJPH, 30)
    assert decode(process, htj2k(noise("u2"))).status is DecodeStatus.DECODED


@pytest.mark.parametrize("size", [10, 10_000])
def test_wrong_frame_size_is_an_error_and_does_not_affect_the_next_frame(process, size):
    with pytest.raises(ValueError, match="another size"):
        process.decode([b"\xff" * 1000], size, Decoder.OPENJPH, 30)
    assert decode(process, htj2k(noise("u2"))).status is DecodeStatus.DECODED


def test_process_ends_with_its_owner():
    process = DecoderProcess()
    decode(process, htj2k(noise("u2")))
    child = psutil.Process(process._process.pid)
    del process
    assert not child.is_running()
