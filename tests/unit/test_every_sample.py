"""Resolutions of every DICOM file in pydicom and pydicom-data, checked with two decoders."""

from __future__ import annotations

import zlib
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import data_store
import imagecodecs
import numpy as np
import pydicom
import pydicom.data
import pytest

from framegate.delivery.portions import ByLevels, ByResolution, Portion
from framegate.delivery.resolutions import MIN_READ_BYTES, StreamPrefix, cut
from framegate.time_budget import TimeBudget
from local.health_imaging.frames import CONTENT_TYPES
from local.health_imaging.transcoding import encode_frames
from tests.unit.codestreams import by_openjpeg
from tests.unit.conftest import SERVED
from tests.unit.test_byte_ranges import ref

FOLDERS = [Path(module.__file__).parent for module in (pydicom.data, data_store)]
HTJ2K = "image/jph"
LIMIT = 64 * 1024 * 1024

# pydicom warns about some of the files, which do not conform to DICOM.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@dataclass(frozen=True)
class Sample:
    """A frame of a file, in the form in which the emulator stores it."""

    path: Path
    frame_number: int
    content: bytes
    content_type: str
    checksums: list[dict]

    def __str__(self):
        return f"frame {self.frame_number} of {self.path}"


@pytest.fixture(scope="module")
def samples():
    """The first and the last frame of each file that has frames and can be imported."""
    found = []
    for path in sorted(path for folder in FOLDERS for path in folder.rglob("*") if path.is_file()):
        try:
            syntax, frames = encode_frames(pydicom.dcmread(path))
        except Exception:
            # The file is not DICOM, or is broken. A test below counts the others.
            continue
        for index in sorted({0, len(frames) - 1}) if frames else ():
            frame = frames[index]
            found.append(Sample(path, index + 1, frame.content, CONTENT_TYPES[syntax], frame.checksums))
    return found


@dataclass(frozen=True)
class Fetched:
    """The result of a selection, and the number of bytes that were read for it."""

    content: bytes
    portion: Portion
    bytes_read: int


@pytest.fixture
def fetch(health_imaging, source):
    """A function that cuts selections out of a frame while it arrives from the emulator."""

    def fetch_each(sample, selections):
        frame = ref(health_imaging.add_frame(SERVED, sample.content, sample.content_type))
        return [source.fetch(frame, partial(use, each), TimeBudget(60)) for each in selections]

    def use(selection, stream):
        prefix = StreamPrefix(stream, LIMIT)
        taken = cut(prefix, selection)
        bytes_read = stream.bytes_read
        content = b"".join(prefix.all()) if taken.content is None else taken.content
        return Fetched(content, taken.portion, bytes_read)

    return fetch_each


def test_each_resolution_equals_the_whole_frame_at_that_resolution(samples, fetch):
    covered = Counter()
    for sample in samples:
        if sample.content_type != HTJ2K:
            continue
        top = len(sample.checksums) - 1
        for number, fetched in enumerate(fetch(sample, map(ByResolution, range(top + 1)))):
            resolution, skip = fetched.portion.resolution, top - number
            checksum = sample.checksums[number]
            assert fetched.portion == Portion(number == top, resolution, top + 1), sample
            assert (resolution.columns, resolution.rows) == (checksum["Width"], checksum["Height"]), sample

            pixels = imagecodecs.htj2k_decode(fetched.content, skipres=skip)
            assert np.array_equal(pixels, imagecodecs.htj2k_decode(sample.content, skipres=skip)), sample
            assert zlib.crc32(np.ascontiguousarray(pixels)) == checksum["Checksum"], sample
            covered["resolutions by OpenJPH"] += 1
            # OpenJPEG does not decode samples of 32 bits.
            if pixels.dtype.itemsize < 4:
                whole = by_openjpeg(sample.content, skip, resolution)
                assert np.array_equal(by_openjpeg(fetched.content, skip, resolution), whole), sample
                covered["resolutions by OpenJPEG"] += 1
        covered["frames"] += 1
    covered["files"] = len({sample.path for sample in samples if sample.content_type == HTJ2K})
    # These minimums show that no file was skipped unnoticed.
    assert covered >= Counter(
        {"files": 142, "frames": 163, "resolutions by OpenJPH": 455, "resolutions by OpenJPEG": 419}
    )


def test_reading_a_resolution_overshoots_by_at_most_one_piece(samples, fetch):
    for sample in samples:
        if sample.content_type == HTJ2K:
            for fetched in fetch(sample, map(ByResolution, range(len(sample.checksums) - 1))):
                assert fetched.bytes_read <= len(fetched.content) + MIN_READ_BYTES, sample


def test_levels_of_each_frame_join_to_the_frame(samples, fetch):
    for sample in samples:
        if sample.content_type == HTJ2K:
            levels = [ByLevels(number, number) for number in range(len(sample.checksums))]
            assert b"".join(fetched.content for fetched in fetch(sample, levels)) == sample.content, sample


def test_frame_in_another_format_is_delivered_whole(samples, fetch):
    covered = Counter()
    for sample in samples:
        if sample.content_type == HTJ2K:
            continue
        for fetched in fetch(sample, [ByResolution(0), ByLevels(0, 0)]):
            assert fetched.portion == Portion(True), sample
            assert fetched.content == sample.content, sample
        (above,) = fetch(sample, [ByLevels(1, None)])
        assert (above.content, above.portion.is_whole) == (b"", False), sample
        covered[sample.content_type] += 1
    assert covered >= Counter({"image/jpeg": 17, "image/j2c": 8, "application/octet-stream": 6})
