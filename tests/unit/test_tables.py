"""The rows of the tables: which there are, and that they agree with the files, the manifests and the attributes."""

from __future__ import annotations

import json
import warnings
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.uid import generate_uid

from framegate.dicomweb.uids import instance_hash
from framegate.identifiers import FrameRef
from framegate.storage.image_set_remover import ImageSetRemover
from framegate.table_schema import IDENTIFYING_KEYWORDS, TABLES, columns_of
from framegate.tables import homes as homes_module
from framegate.time_budget import TimeBudget
from local.health_imaging import Fault
from tests.unit import dicom_files, exporting, tabling
from tests.unit.conftest import BUCKET, SERVED
from tests.unit.dicom_files import dicom_order, image_set_of, import_together
from tests.unit.dicomweb import path_of
from tests.unit.exporting import add_image_set, content, keys, order_for
from tests.unit.local.dicom_builder import dicom_file
from tests.unit.tabling import (
    SECRET,
    assert_tables_agree,
    connect,
    download,
    etags,
    new_updater,
    rows,
    table_keys,
    tabled,
    update,
)

pace, exporter, dicom_exporter = exporting.pace, exporting.exporter, dicom_files.dicom_exporter
updater = tabling.updater

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def add_files(health_imaging, tmp_path):
    """Imports DICOM files as one image set; returns its reference."""
    return lambda *files: image_set_of(import_together(health_imaging, tmp_path, *files))


@pytest.fixture
def two_exports(s3, health_imaging, exporter, updater):
    """Two exported image sets in the tables."""
    image_sets = [add_image_set(health_imaging, frames=count)[0] for count in (3, 2)]
    for image_set in image_sets:
        exporter.export(order_for(image_set), TimeBudget(60))
    update(updater, *image_sets)
    return image_sets


def metadata_calls(health_imaging):
    return sum(call.operation == "GetImageSetMetadata" for call in health_imaging.calls)


# Which rows there are


def test_each_exported_frame_is_a_row(s3, two_exports):
    assert_tables_agree(s3)
    assert sorted(map(len, tabled(s3).values())) == [2, 3]
    for row in rows(s3, "frames"):
        stored = s3.head_object(Bucket=BUCKET, Key=row["frame_key"], ChecksumMode="ENABLED")
        assert (row["frame_size_bytes"], row["frame_checksum_crc32"], row["frame_content_type"]) == (
            stored["ContentLength"],
            stored["ChecksumCRC32"],
            stored["ContentType"],
        )


def test_each_dicom_file_is_a_row_and_so_is_each_frame_in_it(s3, add_files, dicom_exporter, updater):
    uids = generate_uid(), generate_uid()
    pixels = np.arange(4 * 256, dtype=np.uint16).reshape(4, 16, 16)
    image_set = add_files(
        dicom_file(series=uids), dicom_file(pixels[0], series=uids, NumberOfFrames=4, PixelData=pixels.tobytes())
    )
    dicom_exporter.export(dicom_order(image_set), TimeBudget(60))
    update(updater, image_set)
    assert_tables_agree(s3)
    for row in rows(s3, "instances"):
        stored = s3.head_object(Bucket=BUCKET, Key=row["dicom_key"], ChecksumMode="ENABLED")
        assert (row["dicom_size_bytes"], row["dicom_checksum_crc32"]) == (
            stored["ContentLength"],
            stored["ChecksumCRC32"],
        )
        dataset = dicom_files.read(content(s3, row["dicom_key"]))
        assert row["instance_hash"] == instance_hash(SECRET, image_set, dataset.SOPInstanceUID)
        assert row["dicom_key"].endswith(f"/{row['instance_hash']}.dcm")
        frames = [each for each in rows(s3, "frames") if each["instance_hash"] == row["instance_hash"]]
        assert [each["frame_number"] for each in frames] == list(range(1, row["number_of_frames"] + 1))
        assert {(each["dicom_key"], each["frame_key"]) for each in frames} == {(row["dicom_key"], None)}


def test_both_kinds_of_export_share_rows(s3, add_files, dicom_exporter, updater):
    image_set = add_files(dicom_file())
    dicom_exporter.export(order_for(image_set), TimeBudget(60))
    dicom_exporter.export(dicom_order(image_set), TimeBudget(60))
    update(updater, image_set)
    ((frame,), (instance,)) = rows(s3, "frames"), rows(s3, "instances")
    assert frame["frame_key"].startswith("frames/")
    assert frame["dicom_key"] == instance["dicom_key"]
    assert instance["stored_frames"] == 1


def test_report_without_pixels_is_an_instance_without_frames(s3, add_files, dicom_exporter, updater):
    report = dict.fromkeys(["PixelData", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit"])
    image_set = add_files(dicom_file(Modality="SR", **report))
    dicom_exporter.export(dicom_order(image_set), TimeBudget(60))
    update(updater, image_set)
    (instance,) = rows(s3, "instances")
    assert (instance["modality"], instance["number_of_frames"], instance["rows"]) == ("SR", 0, None)
    assert rows(s3, "frames") == []


def test_export_without_version_gets_the_latest_one(s3, health_imaging, exporter, updater):
    image_set, _ = add_image_set(health_imaging)
    exporter.export(exporting.ExportOrder(image_set, "execution-1"), TimeBudget(60))
    update(updater, image_set)
    assert {row["image_set_version"] for row in rows(s3, "frames")} == {1}


def test_new_version_replaces_the_rows(s3, health_imaging, add_files, dicom_exporter, updater):
    image_set = add_files(dicom_file(BodyPartExamined="CHEST"))
    dicom_exporter.export(dicom_order(image_set), TimeBudget(60))
    update(updater, image_set)
    stored = health_imaging.stores.image_set(SERVED, image_set.image_set_id)
    changed = deepcopy(stored.versions[-1])
    next(iter(changed["Study"]["Series"].values()))["DICOM"]["BodyPartExamined"] = "HEAD"
    stored.versions.append(changed)
    order = exporting.ExportOrder.of_version(image_set, "2", verify=False, output="dicom")
    dicom_exporter.export(order, TimeBudget(60))
    update(updater, image_set)
    (row,) = rows(s3, "instances")
    assert (row["image_set_version"], row["body_part_examined"]) == (2, "HEAD")
    assert_tables_agree(s3)


def test_late_export_of_an_old_version_changes_no_attribute(s3, health_imaging, exporter, updater):
    image_set, _ = add_image_set(health_imaging)
    stored = health_imaging.stores.image_set(SERVED, image_set.image_set_id)
    stored.versions.append(deepcopy(stored.versions[-1]))
    for version in ("2", "1"):
        exporter.export(exporting.ExportOrder.of_version(image_set, version, verify=False), TimeBudget(60))
        update(updater, image_set)
    assert {row["image_set_version"] for row in rows(s3, "frames")} == {2}


# Which rows go


def test_rows_go_with_a_deleted_image_set(s3, two_exports, health_imaging, objects, updater):
    deleted, other = two_exports
    health_imaging.delete_image_set(SERVED, deleted.image_set_id)
    ImageSetRemover(objects).remove(deleted, TimeBudget(60))
    assert update(updater, deleted).removed == 1
    assert tabled(s3).keys() == {other.image_set_id}
    assert_tables_agree(s3)
    assert not any(deleted.image_set_id in key for key in keys(s3))


def test_rows_go_before_the_files_of_a_deleted_image_set(s3, two_exports, health_imaging, exporter, updater):
    deleted, other = two_exports
    exporter.export(exporting.ExportOrder(deleted, "execution-1"), TimeBudget(60))
    health_imaging.delete_image_set(SERVED, deleted.image_set_id)
    update(updater, deleted)
    assert tabled(s3).keys() == {other.image_set_id}


def test_rows_go_with_files_that_expire(s3, two_exports, updater):
    image_set, _ = two_exports
    expired = sorted(tabled(s3)[image_set.image_set_id])[0]
    s3.delete_object(Bucket=BUCKET, Key=expired)
    update(updater, image_set)
    assert expired not in {row["frame_key"] for row in rows(s3, "frames")}
    assert_tables_agree(s3)


def test_frame_with_wrong_pixels_has_no_row(s3, add_files, store, dicom_exporter, updater, health_imaging):
    uids = generate_uid(), generate_uid()
    image_set = add_files(dicom_file(series=uids), dicom_file(np.ones((32, 32), np.uint16), series=uids))
    dicom_exporter.export(order_for(image_set), TimeBudget(60))
    update(updater, image_set)
    stored = health_imaging.stores.image_set(SERVED, image_set.image_set_id)
    frame = FrameRef(SERVED, image_set.image_set_id, next(iter(stored.frames)))
    store.quarantine(frame, store.find(frame, TimeBudget(60)).etag, TimeBudget(60))
    update(updater, image_set)
    assert frame.image_frame_id not in {row["image_frame_id"] for row in rows(s3, "frames")}
    assert len(rows(s3, "frames")) == 1


def test_replaced_file_has_its_own_size_and_no_checksum(s3, add_files, dicom_exporter, updater):
    image_set = add_files(dicom_file())
    dicom_exporter.export(dicom_order(image_set), TimeBudget(60))
    ((key),) = keys(s3, "instances/")
    s3.put_object(Bucket=BUCKET, Key=key, Body=b"other")
    update(updater, image_set)
    (row,) = rows(s3, "instances")
    assert (row["dicom_size_bytes"], row["dicom_checksum_crc32"]) == (5, None)


# When nothing has changed


def test_repeated_update_writes_nothing_and_needs_no_metadata(s3, two_exports, health_imaging, updater):
    before = etags(s3)
    health_imaging.calls.clear()
    assert update(updater, *two_exports).unchanged == 2
    assert etags(s3) == before
    assert metadata_calls(health_imaging) == 0


def test_image_set_without_export_leaves_no_trace(s3, health_imaging, updater):
    image_set, _ = add_image_set(health_imaging)
    assert update(updater, image_set).unchanged == 1
    assert keys(s3) == []
    assert metadata_calls(health_imaging) == 0


def test_update_makes_one_metadata_call_an_image_set(two_exports, health_imaging, exporter, updater):
    health_imaging.calls.clear()
    image_set, _ = two_exports
    exporter.export(exporting.ExportOrder.of_version(image_set, "1", verify=False, output="frames"), TimeBudget(60))
    calls = metadata_calls(health_imaging)
    update(updater, *two_exports)
    assert metadata_calls(health_imaging) - calls <= 1


# Where rows are


def test_partitions_are_data_store_and_month(s3, two_exports):
    for table in TABLES:
        (key,) = table_keys(s3, table)
        folder, month, name = key.removeprefix(f"tables/schema-1/{table}/").split("/")
        assert (folder, name) == (f"datastore_id={SERVED}", "part-00000.parquet")
        assert month.removeprefix("month=") == s3.head_object(Bucket=BUCKET, Key=key)["LastModified"].strftime("%Y-%m")


def test_full_files_take_no_further_image_sets(s3, health_imaging, exporter, updater, monkeypatch):
    monkeypatch.setattr(homes_module, "MAX_PART_BYTES", 1)
    image_sets = [add_image_set(health_imaging, frames=2)[0] for _ in range(3)]
    for image_set in image_sets:
        exporter.export(order_for(image_set), TimeBudget(60))
        update(updater, image_set)
    assert [key[-18:] for key in table_keys(s3, "frames")] == [f"part-{number:05d}.parquet" for number in range(3)]
    assert_tables_agree(s3)
    # An image set keeps its home.
    exporter.export(exporting.ExportOrder(image_sets[0], "execution-1"), TimeBudget(60))
    update(updater, *image_sets)
    assert len(table_keys(s3, "frames")) == 3
    assert_tables_agree(s3)


def test_many_image_sets_need_few_writes(s3, health_imaging, exporter, updater, s3_server):
    image_sets = [add_image_set(health_imaging, frames=1)[0] for _ in range(12)]
    for image_set in image_sets:
        exporter.export(order_for(image_set), TimeBudget(60))
    with s3_server.counting("PutObject") as puts:
        assert update(updater, *image_sets).written == 12
    # Two notes for each image set, and two files.
    assert len(puts) == 2 * 12 + 2
    assert_tables_agree(s3)


# Privacy


def test_tables_hold_nothing_that_identifies_by_default(s3, add_files, dicom_exporter, updater):
    secrets = {
        keyword: f"{keyword}-of-somebody"[:16]
        for keyword in ("PatientID", "StudyID", "AccessionNumber", "StationName", "SeriesDescription")
    }
    image_set = add_files(dicom_file(PatientName="Secret^Name", StudyDate="20200102", **secrets))
    dicom_exporter.export(dicom_order(image_set), TimeBudget(60))
    update(updater, image_set)
    dataset = dicom_files.read(content(s3, keys(s3, "instances/")[0]))
    uids = [dataset.SOPInstanceUID, dataset.StudyInstanceUID, dataset.SeriesInstanceUID]
    public = json.dumps([rows(s3, table) for table in TABLES], default=str) + " ".join(keys(s3))
    for value in (*secrets.values(), "Secret", "2020", *uids):
        assert str(value) not in public


def test_configured_columns_identify(s3, add_files, dicom_exporter, objects, health_imaging):
    image_set = add_files(
        dicom_file(PatientName="Secret^Name", StudyDate="20200102", PatientWeight="71.5", SeriesNumber=4)
    )
    dicom_exporter.export(dicom_order(image_set), TimeBudget(60))
    with ThreadPoolExecutor(2) as threads:
        update(new_updater(objects, threads, IDENTIFYING_KEYWORDS), image_set)
    for table in TABLES:
        (row,) = rows(s3, table)
        assert list(row) == [column.name for column in columns_of(table, IDENTIFYING_KEYWORDS)]
        assert (row["patient_name"], row["patient_id"], row["patient_weight_kg"]) == ("Secret^Name", "P", 71.5)
        assert (str(row["study_date"]), row["series_number"], row["patient_age"]) == ("2020-01-02", 4, None)


def test_column_that_is_no_longer_configured_goes_with_the_next_update(s3, add_files, dicom_exporter, objects):
    image_sets = [add_files(dicom_file()) for _ in range(2)]
    for image_set in image_sets:
        dicom_exporter.export(dicom_order(image_set), TimeBudget(60))
    with ThreadPoolExecutor(2) as threads:
        update(new_updater(objects, threads, ["PatientID"]), *image_sets)
        assert {row["patient_id"] for row in rows(s3, "frames")} == {"P"}
        # One update rewrites the file, and thus drops the column for the other image set, too.
        assert update(new_updater(objects, threads), image_sets[0]).written == 1
        assert all("patient_id" not in row for table in TABLES for row in rows(s3, table))
        assert update(new_updater(objects, threads, ["PatientID"]), *image_sets).written == 2
    assert {row["patient_id"] for row in rows(s3, "frames")} == {"P"}


# Attributes


def attributes_in(dataset):
    """The attributes of a dataset as the tables have them, computed from pydicom's values alone."""

    def numbers(keyword, count=None):
        value = dataset.get(keyword)
        if value is None or value == "":
            return None
        values = [float(each) for each in (value if hasattr(value, "__iter__") else [value])]
        return values if count in (None, len(values)) else None

    def text(keyword):
        return str(dataset.get(keyword) or "").strip() or None

    def item(keyword, index):
        values = numbers(keyword)
        return values[index] if values and len(values) > index else None

    return {
        "modality": text("Modality"),
        "sop_class_uid": text("SOPClassUID"),
        "body_part_examined": text("BodyPartExamined"),
        "rows": dataset.get("Rows"),
        "columns": dataset.get("Columns"),
        "samples_per_pixel": dataset.get("SamplesPerPixel"),
        "bits_allocated": dataset.get("BitsAllocated"),
        "bits_stored": dataset.get("BitsStored"),
        "is_signed": None if "PixelRepresentation" not in dataset else bool(dataset.PixelRepresentation),
        "pixel_spacing_row_mm": item("PixelSpacing", 0),
        "pixel_spacing_column_mm": item("PixelSpacing", 1),
        "slice_thickness_mm": item("SliceThickness", 0),
        "spacing_between_slices_mm": item("SpacingBetweenSlices", 0),
        "image_position_patient_mm": numbers("ImagePositionPatient", 3),
        "image_orientation_patient": numbers("ImageOrientationPatient", 6),
        "rescale_slope": item("RescaleSlope", 0),
        "rescale_intercept": item("RescaleIntercept", 0),
        "window_center": numbers("WindowCenter"),
        "window_width": numbers("WindowWidth"),
        "manufacturer": text("Manufacturer"),
        "manufacturer_model_name": text("ManufacturerModelName"),
        "instance_number": None if dataset.get("InstanceNumber") in (None, "") else int(dataset.InstanceNumber),
    }


SAMPLES = ["CT_small.dcm", "MR_small.dcm", "SC_rgb_small_odd_jpeg.dcm", "SC_rgb_rle_2frame.dcm", "rtdose.dcm"]


def test_attributes_are_those_of_the_files(s3, health_imaging, dicom_exporter, updater):
    expected = {}
    with warnings.catch_warnings(action="ignore"):
        for imported in health_imaging.import_files(SERVED, [path_of(name) for name in SAMPLES]):
            dicom_exporter.export(dicom_order(image_set_of(imported)), TimeBudget(60))
            update(updater, image_set_of(imported))
        for name in SAMPLES:
            dataset = pydicom.dcmread(path_of(name))
            expected[str(dataset.SOPClassUID), int(dataset.get("InstanceNumber") or 0), dataset.Rows] = dataset
        found = rows(s3, "instances")
        assert len(found) == len(SAMPLES) == len(expected)
        for row in found:
            dataset = expected[row["sop_class_uid"], row["instance_number"] or 0, row["rows"]]
            wanted = attributes_in(dataset)
            assert {name: row[name] for name in wanted} == wanted
            assert row["number_of_frames"] == int(dataset.get("NumberOfFrames", 1))


def group(**attributes):
    """A functional group with one item."""
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return [dataset]


def test_frames_of_an_enhanced_instance_have_their_own_values(s3, add_files, dicom_exporter, updater):
    pixels = np.arange(3 * 256, dtype=np.uint16).reshape(3, 16, 16)
    measures = group(PixelSpacing=[0.5, 0.25], SliceThickness=3)
    shared = Dataset()
    shared.PixelMeasuresSequence = measures
    own = []
    for number in range(3):
        item = Dataset()
        item.PlanePositionSequence = group(ImagePositionPatient=[1, 2, 2.5 * number])
        item.FrameVOILUTSequence = group(WindowCenter=40, WindowWidth=[400, 80])
        own.append(item)
    own[2].PixelMeasuresSequence = group(SliceThickness=5)
    image_set = add_files(
        dicom_file(
            pixels[0],
            NumberOfFrames=3,
            PixelData=pixels.tobytes(),
            SliceThickness=1,
            SharedFunctionalGroupsSequence=[shared],
            PerFrameFunctionalGroupsSequence=own,
        )
    )
    dicom_exporter.export(dicom_order(image_set), TimeBudget(60))
    update(updater, image_set)
    frames = rows(s3, "frames")
    assert [row["image_position_patient_mm"] for row in frames] == [[1, 2, 0], [1, 2, 2.5], [1, 2, 5]]
    assert [row["slice_thickness_mm"] for row in frames] == [3, 3, 5]
    assert {(row["pixel_spacing_row_mm"], row["pixel_spacing_column_mm"]) for row in frames} == {(0.5, 0.25)}
    (instance,) = rows(s3, "instances")
    # What the frames do not share is null.
    assert (instance["image_position_patient_mm"], instance["slice_thickness_mm"]) == (None, None)
    assert (instance["pixel_spacing_row_mm"], instance["window_width"]) == (0.5, [400, 80])


# DuckDB


def test_duckdb_reads_the_tables(s3, two_exports, tmp_path):
    download(s3, tmp_path)
    connection = connect(tmp_path)
    assert connection.execute("SELECT count(*) FROM frames").fetchone() == (5,)
    joined = connection.execute(
        "SELECT count(*), any_value(frames.datastore_id) FROM frames JOIN instances USING (instance_hash)"
    ).fetchone()
    assert joined == (5, SERVED)


def test_failed_image_set_does_not_stop_the_others(s3, health_imaging, exporter, updater):
    image_sets = [add_image_set(health_imaging, frames=2)[0] for _ in range(3)]
    for image_set in image_sets:
        exporter.export(order_for(image_set), TimeBudget(60))
    health_imaging.faults.arm(Fault("GetImageSetMetadata", error="AccessDeniedException", times=1))
    result = updater.update(image_sets, TimeBudget(60))
    assert (result.written, len(result.failed)) == (2, 1)
    assert {problem.slug for problem in result.failed.values()} == {"access-denied"}
    assert len(tabled(s3)) == 2
    update(updater, *image_sets)
    assert_tables_agree(s3)
