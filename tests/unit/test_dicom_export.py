"""Exports of DICOM files: repeats, faults, frames that are stored already, versions, and deletions."""

from __future__ import annotations

import threading
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
from pydicom.encaps import generate_frames, parse_basic_offsets
from pydicom.uid import generate_uid

from framegate.export.exporter import ExportResult
from framegate.identifiers import FrameRef
from framegate.time_budget import TimeBudget
from local.health_imaging import Fault
from tests.unit import dicom_files, exporting
from tests.unit.conftest import BUCKET, SERVED
from tests.unit.dicom_files import dicom_order, exported_files, image_set_of, import_together, read
from tests.unit.exporting import finish, keys, manifest_lines, order_for, outcomes
from tests.unit.local.dicom_builder import dicom_file

pace, dicom_exporter, events = exporting.pace, dicom_files.dicom_exporter, exporting.events

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

JPEG = "1.2.840.10008.1.2.4.50"


@pytest.fixture
def add_files(health_imaging, tmp_path):
    """Imports files as one image set; returns its reference."""
    return lambda *files: import_together(health_imaging, tmp_path, *files)


@pytest.fixture
def series(add_files):
    """An image set of five instances."""
    uids = generate_uid(), generate_uid()
    pixels = np.arange(1024, dtype=np.uint16).reshape(32, 32)
    return add_files(*(dicom_file(pixels + number, series=uids, InstanceNumber=number) for number in range(5)))


def calls(health_imaging, *operations):
    return [call.operation for call in health_imaging.calls if call.operation in operations]


def dicom_lines(s3, image_set):
    return manifest_lines(s3, image_set, "version-1-dicom")


def test_export_stores_a_file_of_each_instance_and_a_manifest(s3, series, dicom_exporter, events):
    image_set = image_set_of(series)
    result = dicom_exporter.export(dicom_order(image_set), TimeBudget(60))
    counts = {"copied": 5, "present": 0, "failed": 0}
    assert (result.completed, result.instances, result.frames) == (True, counts, counts)
    files, lines = exported_files(s3, image_set), dicom_lines(s3, image_set)
    assert [line["sopInstanceUID"] for line in lines] == list(series.files)
    assert set(outcomes(lines)) == {"copied"}
    for line in lines:
        stored = s3.head_object(Bucket=BUCKET, Key=line["key"], ChecksumMode="ENABLED")
        assert (line["contentType"], line["contentLength"]) == (stored["ContentType"], stored["ContentLength"])
        assert (line["checksumCRC32"], line["frames"]) == (stored["ChecksumCRC32"], 1)
        assert stored["ContentType"] == "application/dicom"
        assert len(files[line["sopInstanceUID"]]) == line["contentLength"]
    ((detail_type, detail),) = events()
    assert (detail_type, detail["instances"], detail["exportId"]) == (
        "Frame Export Completed",
        counts,
        "version-1-dicom",
    )


def test_keys_and_events_have_no_uid(s3, series, dicom_exporter, events):
    dicom_exporter.export(dicom_order(image_set_of(series)), TimeBudget(60))
    public = " ".join([*keys(s3), str(events())])
    for dataset in (read(file) for file in exported_files(s3, image_set_of(series)).values()):
        for value in (dataset.SOPInstanceUID, dataset.SeriesInstanceUID, dataset.StudyInstanceUID, "A^B"):
            assert str(value) not in public


def test_repeated_export_finds_its_files_present(s3, series, dicom_exporter, health_imaging):
    image_set = image_set_of(series)
    dicom_exporter.export(dicom_order(image_set), TimeBudget(60))
    health_imaging.calls.clear()
    result = dicom_exporter.export(dicom_order(image_set), TimeBudget(60))
    assert result.instances == {"copied": 0, "present": 5, "failed": 0}
    assert calls(health_imaging, "GetImageFrame") == []


def test_export_makes_one_metadata_call_a_series(series, dicom_exporter, health_imaging):
    health_imaging.calls.clear()
    dicom_exporter.export(dicom_order(image_set_of(series)), TimeBudget(60))
    assert len(calls(health_imaging, "GetDICOMSeriesMetadata")) == 1
    assert len(calls(health_imaging, "GetImageFrame")) == 5
    assert calls(health_imaging, "GetDICOMInstance") == []


def test_stored_frames_are_read_from_s3(s3, series, dicom_exporter, health_imaging):
    image_set = image_set_of(series)
    dicom_exporter.export(order_for(image_set), TimeBudget(60))
    health_imaging.calls.clear()
    result = dicom_exporter.export(dicom_order(image_set), TimeBudget(60))
    assert result.completed
    assert calls(health_imaging, "GetImageFrame") == []


def test_update_builds_the_changed_files_again(s3, series, dicom_exporter):
    image_set = image_set_of(series)
    dicom_exporter.export(dicom_order(image_set), TimeBudget(60))
    renamed = deepcopy(series.versions[-1])
    renamed["Patient"]["DICOM"]["PatientName"] = "New^Name"
    series.versions.append(renamed)
    order = replace(dicom_order(image_set), version_id="2", export_id="version-2-dicom")
    assert dicom_exporter.export(order, TimeBudget(60)).instances["copied"] == 5
    assert {str(read(file).PatientName) for file in exported_files(s3, image_set).values()} == {"New^Name"}


def test_export_survives_throttling_and_faults(s3, series, dicom_exporter, health_imaging):
    health_imaging.faults.arm(Fault(error="ThrottlingException", times=3))
    health_imaging.faults.arm(Fault(then="reset", after=100, times=3))
    result, _ = finish(dicom_exporter, dicom_order(image_set_of(series)))
    assert result.completed
    assert len(exported_files(s3, image_set_of(series))) == 5


def test_export_longer_than_an_invocation_continues(s3, add_files, dicom_exporter, health_imaging):
    uids = generate_uid(), generate_uid()
    image_set = image_set_of(add_files(*(dicom_file(series=uids) for _ in range(24))))
    health_imaging.faults.arm(Fault(latency=0.2))
    result, invocations = finish(dicom_exporter, dicom_order(image_set), seconds=1.6)
    assert result.completed
    assert invocations > 1
    assert len(exported_files(s3, image_set)) == len(dicom_lines(s3, image_set)) == 24
    assert [key for key in keys(s3, "exports/") if "progress" in key] == []


def test_deletion_during_an_export_leaves_nothing(s3, add_files, dicom_exporter, health_imaging):
    uids = generate_uid(), generate_uid()
    image_set = image_set_of(add_files(*(dicom_file(series=uids) for _ in range(24))))
    health_imaging.faults.arm(Fault(latency=0.1))
    deletion = threading.Timer(0.5, health_imaging.delete_image_set, (SERVED, image_set.image_set_id))
    deletion.start()
    result, _ = finish(dicom_exporter, dicom_order(image_set))
    deletion.join()
    assert result.problem.slug == "frame-not-found"
    assert keys(s3) == []


def test_mismatched_frame_is_in_no_file(s3, series, dicom_exporter, store):
    image_set = image_set_of(series)
    dicom_exporter.export(order_for(image_set), TimeBudget(60))
    frame_id = next(iter(series.frames))
    ref = FrameRef(SERVED, series.id, frame_id)
    store.quarantine(ref, store.find(ref, TimeBudget(60)).etag, TimeBudget(60))
    result = dicom_exporter.export(dicom_order(image_set), TimeBudget(60), last_attempt=True)
    assert result.instances == {"copied": 4, "present": 0, "failed": 1}
    assert outcomes(dicom_lines(s3, image_set)).count("pixel-mismatch") == 1


def test_verifying_export_stores_and_verifies_the_frames_first(s3, series, dicom_exporter):
    image_set = image_set_of(series)
    result = dicom_exporter.export(dicom_order(image_set, verify=True), TimeBudget(60))
    assert result.completed
    assert len(keys(s3, "frames/")) == len(keys(s3, "instances/")) == 5


def test_wrong_pixels_fail_a_verifying_export(s3, series, dicom_exporter):
    frames = iter(series.frames.values())
    first, second = next(frames), next(frames)
    first.content, second.content = second.content, first.content
    result = dicom_exporter.export(dicom_order(image_set_of(series), verify=True), TimeBudget(60), last_attempt=True)
    assert result.instances == {"copied": 3, "present": 0, "failed": 2}
    assert outcomes(dicom_lines(s3, image_set_of(series))).count("pixel-mismatch") == 2


def test_multi_frame_instance_keeps_the_order_of_its_frames(s3, add_files, dicom_exporter, health_imaging):
    pixels = np.arange(64 * 256, dtype=np.uint16).reshape(64, 16, 16)
    image_set = add_files(dicom_file(pixels[0], NumberOfFrames=64, PixelData=pixels.tobytes()))
    health_imaging.faults.arm(Fault(error="InternalServerException", times=5))
    assert dicom_exporter.export(dicom_order(image_set_of(image_set)), TimeBudget(60)).completed
    ((_, file),) = exported_files(s3, image_set_of(image_set)).items()
    dataset = read(file)
    stored = [b"".join(frame.content.pieces()) for frame in image_set.frames.values()]
    found = list(generate_frames(dataset.PixelData, number_of_frames=64))
    assert [each[: len(frame)] for each, frame in zip(found, stored, strict=True)] == stored
    offsets = parse_basic_offsets(dataset.PixelData)
    assert len(offsets) == 64
    start = 8 + 4 * 64
    assert [
        dataset.PixelData[start + each + 8 :][: len(frame)] for each, frame in zip(offsets, stored, strict=True)
    ] == stored


def test_bulk_data_is_fetched(s3, add_files, dicom_exporter):
    document = bytes(range(256)) * 8192
    image_set = add_files(dicom_file(EncapsulatedDocument=document))
    assert dicom_exporter.export(dicom_order(image_set_of(image_set)), TimeBudget(60)).completed
    ((_, file),) = exported_files(s3, image_set_of(image_set)).items()
    assert read(file).EncapsulatedDocument == document


def test_missing_transfer_syntax_comes_from_the_frame(s3, series, dicom_exporter):
    for each in series.versions[-1]["Study"]["Series"].values():
        for instance in each["Instances"].values():
            del instance["StoredTransferSyntaxUID"]
            for frame in instance["ImageFrames"]:
                del frame["FrameSizeInBytes"]
    assert dicom_exporter.export(dicom_order(image_set_of(series)), TimeBudget(60)).completed
    syntaxes = {read(file).file_meta.TransferSyntaxUID for file in exported_files(s3, image_set_of(series)).values()}
    assert syntaxes == {"1.2.840.10008.1.2.4.202"}


def test_order_fails_where_dicom_files_are_off(s3, series, store, objects, pace, health_imaging, moto, events):
    exporter = exporting.new_exporter(store, objects, pace)
    result = exporter.export(dicom_order(image_set_of(series)), TimeBudget(60))
    assert isinstance(result, ExportResult)
    assert (result.completed, result.problem.slug) == (False, "not-supported")
    assert keys(s3) == []


def test_removal_removes_the_files(s3, series, dicom_exporter, objects):
    image_set = image_set_of(series)
    dicom_exporter.export(dicom_order(image_set), TimeBudget(60))
    exporting.ImageSetRemover(objects).remove(image_set, TimeBudget(60))
    assert keys(s3) == []
