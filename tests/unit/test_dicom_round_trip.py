"""DICOM files of every sample of pydicom and pydicom-data, imported, exported, and compared with the originals."""

from __future__ import annotations

import re
import subprocess
import uuid
import warnings
import zlib
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import data_store
import numpy as np
import pydicom
import pydicom.data
import pytest
from pydicom.encaps import generate_frames
from pydicom.multival import MultiValue

from framegate.datasets.part10 import IMPLEMENTATION_CLASS_UID
from framegate.identifiers import ImageSetRef
from framegate.time_budget import TimeBudget
from local.health_imaging.decoders import decode_frame
from local.health_imaging.transcoding import little_endian
from tests.unit import dicom_files, exporting
from tests.unit.dicom_files import dicom_order, exported_files, read
from tests.unit.dicom_readers import (
    HTJ2K,
    MODULES,
    digests,
    errors_of_dciodvfy,
    pictures_of_dcmtk,
    require_program,
    with_known_syntax,
    without_pixels,
)

pace, dicom_exporter = exporting.pace, dicom_files.dicom_exporter

FOLDERS = [Path(module.__file__).parent for module in (pydicom.data, data_store)]
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
HEALTHIMAGING_DROPS = {0x0000, 0x0002, 0x7FE0, 0xFFFC, 0xFFFE}
"""Groups that are not part of the data set, or describe the pixel data's encoding."""
CHANGED = {0x00080005: "all text is UTF-8", 0x00280006: "frames hold the samples of a pixel together"}

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


NOT_IMPORTED = {
    "ExplVR_BigEndNoMeta.dcm": "has no preamble",
    "ExplVR_LitEndNoMeta.dcm": "has no preamble",
    "MR_truncated.dcm": "its pixel data is incomplete",
    "emri_small_jpeg_2k_lossless_too_short.dcm": "its pixel data is incomplete",
    "OT-PAL-8-face.dcm": "its pixel data is incomplete",
    "badVR.dcm": "has a value that no reader understands",
    "rtplan_truncated.dcm": "its data set is incomplete",
    "rtstruct.dcm": "has no preamble",
}
"""Samples with the UIDs of an instance that HealthImaging's emulator rejects, and why."""

BITS_OF_OPENJPEG = "OpenJPEG, which decodes HTJ2K for it, supports 31 bits"
READERS_DIFFER = {
    ("pydicom", "32 bits"): BITS_OF_OPENJPEG,
    ("GDCM", "32 bits"): BITS_OF_OPENJPEG,
    ("SimpleITK", "32 bits"): BITS_OF_OPENJPEG,
    ("MONAI", "32 bits"): BITS_OF_OPENJPEG,
    ("SimpleITK", "MONOCHROME1"): "ITK inverts it by the bits of the codestream instead of Bits Stored",
}
"""Frames in HTJ2K of which a library does not return the pixels of the original file, and why."""

NEW_ERRORS = {
    r"PhotometricInterpretation.* Unrecognized enumerated value = <RGB>": (
        "JPEG 2000 allows RGB without a transformation of components (PS3.5, section 8.2.4)"
    ),
    r"NumberOfFrames.* Unrecognized enumerated value = <0x2>": (
        "samples with two frames of a single-frame class; in those of 32 bits, dciodvfy ends before it finds that"
    ),
    r"MediaStorageSOPInstanceUID": "bad_sequence.dcm has an invalid SOP Instance UID, which the file meta repeats",
}
"""Errors that dciodvfy finds in exported files only, and why they are none."""


@dataclass(frozen=True)
class RoundTrip:
    path: Path
    original: pydicom.Dataset
    file: Path
    exported: pydicom.Dataset
    frames: list
    """The entries of the frames in the metadata, with their bytes."""

    @property
    def is_htj2k(self):
        return self.exported.file_meta.TransferSyntaxUID in HTJ2K

    @property
    def traits(self):
        """Why a reader may differ."""
        if not self.is_htj2k:
            return set()
        return {f"{self.exported.BitsAllocated} bits", self.exported.PhotometricInterpretation}

    def __str__(self):
        return self.path.name


def sample_files():
    return sorted(path for folder in FOLDERS for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def imported(emulator):
    """Each sample that the emulator imports, in a data store of its own: its path, data store, image set and UID."""
    found = []
    for path in sample_files():
        datastore_id = uuid.uuid4().hex
        emulator.create_datastore("round-trip", datastore_id=datastore_id)
        with warnings.catch_warnings(action="ignore"):
            image_sets = emulator.import_files(datastore_id, [path])
        found += [(path, datastore_id, image_set) for image_set in image_sets]
    return found


@pytest.fixture(scope="module")
def exported_before():
    """The samples that an earlier test of this module has exported."""
    return []


@pytest.fixture
def round_trips(imported, exported_before, dicom_exporter, s3, tmp_path_factory):
    """Each sample, exported."""
    if not exported_before:
        exported_before += list(_round_trips(imported, dicom_exporter, s3, tmp_path_factory.mktemp("exported")))
    return exported_before


def _round_trips(imported, exporter, s3, folder):
    for number, (path, datastore_id, image_set) in enumerate(imported):
        ref = ImageSetRef(datastore_id, image_set.id)
        result = exporter.export(dicom_order(ref), TimeBudget(300))
        assert result.completed, (path, result)
        ((uid, content),) = exported_files(s3, ref).items()
        (series,) = image_set.versions[-1]["Study"]["Series"].values()
        entries = series["Instances"][uid]["ImageFrames"]
        frames = [(entry, b"".join(image_set.frames[entry["ID"]].content.pieces())) for entry in entries]
        file = folder / f"{number}.dcm"
        file.write_bytes(content)
        yield RoundTrip(path, pydicom.dcmread(path, force=True), file, read(content), frames)


def test_every_instance_is_imported(imported):
    imported_paths = {path for path, _, _ in imported}
    rejected = {path.name for path in sample_files() if path not in imported_paths and is_instance(path)}
    assert rejected == NOT_IMPORTED.keys()


def is_instance(path):
    try:
        with warnings.catch_warnings(action="ignore"):
            dataset = pydicom.dcmread(path, force=True, stop_before_pixels=True)
    except Exception:
        return False
    return all(uid in dataset for uid in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"))


def test_every_sample_comes_back(round_trips):
    covered, problems = Counter(), []
    for each in round_trips:
        covered["files"] += 1
        problems += [f"{each}: {problem}" for problem in differences(each.original, each.exported)]
        meta = each.exported.file_meta
        assert meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID or not each.frames, each
        assert meta.MediaStorageSOPInstanceUID == each.original.SOPInstanceUID, each
        covered["with pixels"] += check_pixels(each)
        covered["with several frames"] += len(each.frames) > 1
    assert problems == [], "\n".join(problems[:100])
    # These minimums show that no kind of file was skipped unnoticed.
    assert covered["files"] >= 220
    assert covered["with pixels"] >= 160
    assert covered["with several frames"] >= 25


@pytest.fixture(scope="module")
def digests_of_originals():
    """Returns the digests that a library finds in the original files, and reads each of them once."""
    return cache(lambda library, paths: digests(library, paths))


@pytest.mark.parametrize("library", MODULES)
def test_library_reads_the_pixels_of_the_original(library, round_trips, digests_of_originals):
    images = [each for each in round_trips if each.frames]
    paths = tuple(each.path for each in images)
    originals, of_pydicom = digests_of_originals(library, paths), digests_of_originals("pydicom", paths)
    exported = digests(library, [each.file for each in images])
    problems, compared = [], 0
    for each, of_original, reference, found in zip(images, originals, of_pydicom, exported, strict=True):
        # Some libraries misread an original, but not its exported file.
        expected = {of_original, reference} - {None}
        compared += found in expected
        is_read = found is not None or of_original is None
        is_right = found is None or not expected or found in expected
        if not (is_read and is_right) and not any((library, trait) in READERS_DIFFER for trait in each.traits):
            problems.append(f"{each}: {'other pixels' if is_read else 'no pixels'}")
    assert problems == []
    assert compared >= 140


def test_dcmdump_reads_every_file(round_trips):
    program, problems = require_program("dcmdump"), []
    for each in round_trips:
        result = subprocess.run([program, "-q", str(each.file)], capture_output=True, check=False)
        if result.returncode != 0:
            problems.append(f"{each}: {result.stderr.decode('utf-8', 'replace')[:200]}")
    assert problems == []


def test_dcmtk_draws_the_pictures_of_the_original(round_trips, tmp_path):
    # DCMTK decodes no JPEG 2000.
    drawn = [each for each in round_trips if each.frames and not each.is_htj2k]
    different, compared = [], 0
    for each in drawn:
        expected = pictures_of_dcmtk(each.path, tmp_path)
        if expected and pictures_of_dcmtk(each.file, tmp_path) != expected:
            different.append(str(each))
        compared += bool(expected)
    assert different == []
    assert compared >= 15


def test_dciodvfy_finds_no_new_error(round_trips, tmp_path):
    problems = []
    for each in round_trips:
        before = errors_of_dciodvfy(each.path)
        if before is None:
            before = errors_of_dciodvfy(without_pixels(each.path, tmp_path))
        after = errors_of_dciodvfy(with_known_syntax(each.file, tmp_path))
        assert after is not None, each
        new = (error for error in after - before if not any(re.search(known, error) for known in NEW_ERRORS))
        problems += [f"{each}: {error}" for error in new]
    assert problems == []


def check_pixels(each):
    """Check that the pixel data is that of the stored frames; return whether there is any."""
    if not each.frames:
        return False
    syntax, contents = each.exported.file_meta.TransferSyntaxUID, [content for _, content in each.frames]
    if syntax != EXPLICIT_LITTLE_ENDIAN:
        found = list(generate_frames(each.exported.PixelData, number_of_frames=len(contents)))
        assert [frame.removesuffix(b"\0") for frame in found] == [frame.removesuffix(b"\0") for frame in contents], each
        for (entry, _), frame in zip(each.frames, found, strict=True):
            checksums = entry.get("PixelDataChecksumFromBaseToFullResolution")
            if checksums:
                assert zlib.crc32(little_endian(decode_frame(syntax, frame))) == checksums[-1]["Checksum"], each
    else:
        assert np.array_equal(each.exported.pixel_array, each.original.pixel_array, equal_nan=True), each
    return True


def differences(original, exported, where=""):
    """The attributes that differ."""
    for tag in sorted({*original.keys(), *exported.keys()}):
        is_icon = tag.group == 0x7FE0 and where
        if (tag.group in HEALTHIMAGING_DROPS and not is_icon) or tag in CHANGED or tag.element == 0:
            continue
        name = f"{where}{tag}"
        if tag not in original:
            yield f"{name} was added"
            continue
        try:
            before = original[tag]
        except Exception:
            # The import drops private attributes that cannot be read.
            continue
        if tag not in exported:
            yield f"{name} is missing"
        elif before.VR == "SQ":
            items = list(before.value), list(exported[tag].value)
            if len(items[0]) != len(items[1]):
                yield f"{name} has {len(items[1])} items instead of {len(items[0])}"
            for number, (left, right) in enumerate(zip(*items, strict=False)):
                yield from differences(left, right, f"{name}[{number}].")
        elif not is_equal(in_little_endian(before, original), exported[tag]):
            yield f"{name} is {exported[tag].value!r:.80} instead of {before.value!r:.80}"


def in_little_endian(element, dataset):
    """Swap the bytes of words from a big-endian file, which pydicom leaves as they are."""
    if element.VR != "OW" or dataset.original_encoding[1] is not False:
        return element
    words = np.frombuffer(element.value, ">u2").astype("<u2")
    return pydicom.DataElement(element.tag, "OW", words.tobytes())


def is_equal(before, after):
    if before.is_empty and after.is_empty:
        return True
    left, right = plain(before.value), plain(after.value)
    if isinstance(left, bytes) and isinstance(right, bytes):
        return left.rstrip(b"\0") == right.rstrip(b"\0")
    return left == right or (left != left and right != right)


def plain(value):
    if isinstance(value, MultiValue | list):
        return [plain(each) for each in value]
    if isinstance(value, bytes | int | float):
        return value
    return str(value).strip() if value is not None else ""
