"""DICOM files of every sample of pydicom and pydicom-data, imported, exported, and compared with the originals."""

from __future__ import annotations

import shutil
import subprocess
import uuid
import warnings
import zlib
from collections import Counter
from dataclasses import dataclass
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

pace, dicom_exporter = exporting.pace, dicom_files.dicom_exporter

FOLDERS = [Path(module.__file__).parent for module in (pydicom.data, data_store)]
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
HEALTHIMAGING_DROPS = {0x0000, 0x0002, 0x7FE0, 0xFFFC, 0xFFFE}
"""Groups that are not part of the data set, or describe the pixel data's encoding."""
CHANGED = {0x00080005: "all text is UTF-8", 0x00280006: "frames hold the samples of a pixel together"}

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@dataclass(frozen=True)
class RoundTrip:
    path: Path
    original: pydicom.Dataset
    file: bytes
    exported: pydicom.Dataset
    frames: list
    """The entries of the frames in the metadata, with their bytes."""

    def __str__(self):
        return self.path.name


@pytest.fixture(scope="module")
def imported(emulator):
    """Each sample that the emulator imports, in a data store of its own: its path, data store, image set and UID."""
    found = []
    for path in sorted(path for folder in FOLDERS for path in folder.rglob("*") if path.is_file()):
        datastore_id = uuid.uuid4().hex
        emulator.create_datastore("round-trip", datastore_id=datastore_id)
        try:
            with warnings.catch_warnings(action="ignore"):
                (image_set,) = emulator.import_files(datastore_id, [path])
        except Exception:
            # The file is not DICOM, or is broken.
            continue
        found.append((path, datastore_id, image_set))
    return found


@pytest.fixture
def round_trips(imported, dicom_exporter, s3):
    """Each sample, exported."""
    return list(_round_trips(imported, dicom_exporter, s3))


def _round_trips(imported, exporter, s3):
    for path, datastore_id, image_set in imported:
        ref = ImageSetRef(datastore_id, image_set.id)
        result = exporter.export(dicom_order(ref), TimeBudget(60))
        assert result.completed, (path, result)
        ((uid, file),) = exported_files(s3, ref).items()
        (series,) = image_set.versions[-1]["Study"]["Series"].values()
        entries = series["Instances"][uid]["ImageFrames"]
        frames = [(entry, b"".join(image_set.frames[entry["ID"]].content.pieces())) for entry in entries]
        original = pydicom.dcmread(path, force=True)
        yield RoundTrip(path, original, file, read(file), frames)


def test_every_sample_comes_back(round_trips, tmp_path):
    covered, problems = Counter(), []
    for each in round_trips:
        covered["files"] += 1
        problems += [f"{each}: {problem}" for problem in differences(each.original, each.exported)]
        meta = each.exported.file_meta
        assert meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID or not each.frames, each
        assert meta.MediaStorageSOPInstanceUID == each.original.SOPInstanceUID, each
        covered["with pixels"] += check_pixels(each)
        problems += [f"{each}: {problem}" for problem in problems_of_tools(each, tmp_path)]
    assert problems == [], "\n".join(problems[:100])
    # These minimums show that no file was skipped unnoticed.
    assert covered["files"] >= 150
    assert covered["with pixels"] >= 130


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


def problems_of_tools(each, folder):
    """What DCMTK, where it is installed, finds wrong in a file."""
    path = folder / "file.dcm"
    path.write_bytes(each.file)
    if shutil.which("dcmdump"):
        result = subprocess.run(["dcmdump", "-q", str(path)], capture_output=True, check=False)
        if result.returncode != 0:
            yield f"dcmdump: {result.stderr.decode('utf-8', 'replace')[:200]}"
