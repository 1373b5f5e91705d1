"""The emulator manages data stores, image sets and their versions, and searches them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pydicom
import pytest
import requests
from botocore.exceptions import ClientError

from local.health_imaging import FrameAddress
from tests.unit.local.emulated import (
    ROLE,
    SIGNED,
    frame_response,
    imported,
    metadata_of,
    only_instance,
    path_of,
    start_import,
)


@pytest.fixture
def health_imaging(own_emulator):
    own_emulator.faults.clear()
    own_emulator.calls.clear()
    return own_emulator


@pytest.fixture
def frame(health_imaging, datastore_id):
    return health_imaging.add_frame(datastore_id, b"0123456789" * 20_000, "image/jph")


def test_data_stores_are_created_listed_and_deleted(boto):
    created = boto.create_datastore(datastoreName="radiology", clientToken="a")["datastoreId"]
    properties = boto.get_datastore(datastoreId=created)["datastoreProperties"]
    assert (properties["datastoreName"], properties["datastoreStatus"]) == ("radiology", "ACTIVE")
    assert created in [each["datastoreId"] for each in boto.list_datastores()["datastoreSummaries"]]
    boto.delete_datastore(datastoreId=created)
    with pytest.raises(boto.exceptions.ResourceNotFoundException):
        boto.get_datastore(datastoreId=created)


def test_data_store_with_image_sets_is_not_deleted(boto, health_imaging):
    datastore_id = health_imaging.create_datastore("full")
    health_imaging.add_frame(datastore_id, b"x", "image/jph")
    with pytest.raises(boto.exceptions.ConflictException):
        boto.delete_datastore(datastoreId=datastore_id)


def test_search_finds_image_sets_by_page_and_by_series(boto, health_imaging):
    datastore_id, image_set_ids = imported(health_imaging, "CT_small.dcm", "MR_small.dcm", "examples_rgb_color.dcm")
    pages = boto.get_paginator("search_image_sets").paginate(datastoreId=datastore_id, PaginationConfig={"PageSize": 2})
    found = [each["imageSetId"] for page in pages for each in page["imageSetsMetadataSummaries"]]
    assert sorted(found) == sorted(image_set_ids)
    series = str(pydicom.dcmread(path_of("CT_small.dcm")).SeriesInstanceUID)
    answer = boto.search_image_sets(
        datastoreId=datastore_id,
        searchCriteria={"filters": [{"operator": "EQUAL", "values": [{"DICOMSeriesInstanceUID": series}]}]},
    )
    assert [each["imageSetId"] for each in answer["imageSetsMetadataSummaries"]] == image_set_ids[:1]


def test_second_file_of_a_series_makes_a_new_version(boto, health_imaging, tmp_path):
    dataset = pydicom.dcmread(path_of("CT_small.dcm"))
    datastore_id = health_imaging.create_datastore("versions")
    for number in (1, 2):
        dataset.SOPInstanceUID = f"1.2.3.{number}"
        dataset.save_as(tmp_path / "slice.dcm")
        (image_set,) = health_imaging.import_files(datastore_id, [tmp_path / "slice.dcm"])
    properties = boto.get_image_set(datastoreId=datastore_id, imageSetId=image_set.id)
    assert (properties["versionId"], properties["imageSetState"]) == ("2", "ACTIVE")
    versions = boto.list_image_set_versions(datastoreId=datastore_id, imageSetId=image_set.id)
    assert [each["versionId"] for each in versions["imageSetPropertiesList"]] == ["2", "1"]
    (series,) = metadata_of(boto, datastore_id, image_set.id)["Study"]["Series"].values()
    assert set(series["Instances"]) == {"1.2.3.1", "1.2.3.2"}
    (series,) = metadata_of(boto, datastore_id, image_set.id, versionId="1")["Study"]["Series"].values()
    assert set(series["Instances"]) == {"1.2.3.1"}


def test_second_file_of_an_instance_goes_to_a_non_primary_image_set(boto, health_imaging):
    datastore_id, image_set_ids = imported(health_imaging, "MR2_UNCI.dcm", "MR2_J2KI.dcm")
    primary = [
        boto.get_image_set(datastoreId=datastore_id, imageSetId=image_set_id)["isPrimary"]
        for image_set_id in image_set_ids
    ]
    assert primary == [True, False]


def test_deleted_image_set_is_gone(boto, frame):
    answer = boto.delete_image_set(datastoreId=frame.datastore_id, imageSetId=frame.image_set_id)
    assert answer["imageSetWorkflowStatus"] == "DELETING"
    with pytest.raises(boto.exceptions.ResourceNotFoundException):
        frame_response(boto, frame)
    with pytest.raises(boto.exceptions.ResourceNotFoundException):
        metadata_of(boto, frame.datastore_id, frame.image_set_id)


def test_many_frames_are_added_to_one_image_set(boto, health_imaging, datastore_id):
    contents = [b"frame %d" % number for number in range(3000)]
    frames = health_imaging.add_frames(datastore_id, contents, "image/jph")
    (image_set_id,) = {frame.image_set_id for frame in frames}
    (series,) = metadata_of(boto, datastore_id, image_set_id)["Study"]["Series"].values()
    instances = list(series["Instances"].values())
    assert [each["ImageFrames"] for each in instances] == [
        [{"ID": frame.image_frame_id, "FrameSizeInBytes": len(content)}]
        for frame, content in zip(frames, contents, strict=True)
    ]
    assert {each["StoredTransferSyntaxUID"] for each in instances} == {"1.2.840.10008.1.2.4.202"}
    assert health_imaging.content(frames[-1]) == b"frame 2999"


def test_added_frames_can_share_an_instance_and_join_an_image_set(boto, health_imaging, datastore_id):
    first = health_imaging.add_frame(datastore_id, b"x", "image/jpeg")
    health_imaging.add_frames(datastore_id, [b"x"] * 5, "image/jph", image_set_id=first.image_set_id, per_instance=2)
    (series,) = metadata_of(boto, datastore_id, first.image_set_id)["Study"]["Series"].values()
    assert [len(each["ImageFrames"]) for each in series["Instances"].values()] == [1, 2, 2, 1]
    assert boto.get_image_set(datastoreId=datastore_id, imageSetId=first.image_set_id)["versionId"] == "1"


def test_spoil_checksum_changes_every_checksum_of_the_frame(boto, health_imaging, frame):
    datastore_id, (image_set_id,) = imported(health_imaging, "CT_small.dcm")
    (right,) = only_instance(metadata_of(boto, datastore_id, image_set_id))["ImageFrames"]
    health_imaging.spoil_checksum(FrameAddress(datastore_id, image_set_id, right["ID"]))
    (wrong,) = only_instance(metadata_of(boto, datastore_id, image_set_id))["ImageFrames"]
    checksums = "PixelDataChecksumFromBaseToFullResolution"
    assert all(a["Checksum"] != b["Checksum"] for a, b in zip(right[checksums], wrong[checksums], strict=True))
    assert right | {checksums: None} == wrong | {checksums: None}
    with pytest.raises(ValueError, match="no checksum"):
        health_imaging.spoil_checksum(frame)


def search(boto, datastore_id, *filters, **sort):
    criteria = {"filters": list(filters)} if filters else {}
    if sort:
        criteria["sort"] = sort
    answer = boto.search_image_sets(datastoreId=datastore_id, searchCriteria=criteria)
    return [each["imageSetId"] for each in answer["imageSetsMetadataSummaries"]]


@pytest.fixture
def ct_and_mr(health_imaging, datastore_id):
    image_sets = health_imaging.import_files(datastore_id, [path_of("CT_small.dcm"), path_of("MR_small.dcm")])
    return [each.id for each in image_sets]


def test_search_returns_the_newest_image_set_first_by_default(boto, datastore_id, ct_and_mr):
    ct, mr = ct_and_mr
    assert search(boto, datastore_id) == [mr, ct]
    assert search(boto, datastore_id, sortField="createdAt", sortOrder="ASC") == [ct, mr]


def test_search_finds_image_sets_by_time(boto, datastore_id, ct_and_mr):
    now, hour = datetime.now(UTC), timedelta(hours=1)
    for name in ("createdAt", "updatedAt"):
        recent = {"operator": "BETWEEN", "values": [{name: now - hour}, {name: now + hour}]}
        older = {"operator": "BETWEEN", "values": [{name: now - 2 * hour}, {name: now - hour}]}
        assert set(search(boto, datastore_id, recent)) == set(ct_and_mr)
        assert search(boto, datastore_id, older) == []


def test_search_finds_image_sets_by_study_date(boto, datastore_id, ct_and_mr):
    date = pydicom.dcmread(path_of("CT_small.dcm")).StudyDate
    bounds = [
        {"DICOMStudyDateAndTime": {"DICOMStudyDate": date, "DICOMStudyTime": time}} for time in ("000000", "235959")
    ]
    assert ct_and_mr[0] in search(boto, datastore_id, {"operator": "BETWEEN", "values": bounds})
    long_ago = [{"DICOMStudyDateAndTime": {"DICOMStudyDate": year, "DICOMStudyTime": "0"}} for year in ("1900", "1901")]
    assert search(boto, datastore_id, {"operator": "BETWEEN", "values": long_ago}) == []


def test_search_finds_primary_image_sets(boto, datastore_id, ct_and_mr):
    assert set(search(boto, datastore_id, {"operator": "EQUAL", "values": [{"isPrimary": True}]})) == set(ct_and_mr)
    assert search(boto, datastore_id, {"operator": "EQUAL", "values": [{"isPrimary": False}]}) == []


@pytest.mark.parametrize("filters", [["x"], [{}], [{"operator": "EQUAL", "values": [{"Unknown": "x"}]}]])
def test_malformed_filter_raises_validation_exception(health_imaging, datastore_id, ct_and_mr, filters):
    url = f"{health_imaging.url}/datastore/{datastore_id}/searchImageSets"
    answer = requests.post(url, json={"filters": filters}, headers=SIGNED, timeout=5)
    assert (answer.status_code, answer.headers["x-amzn-ErrorType"]) == (400, "ValidationException")


def test_instances_that_conflict_with_the_series_go_to_a_non_primary_image_set(health_imaging, datastore_id, tmp_path):
    dataset = pydicom.dcmread(path_of("CT_small.dcm"))
    primary = []
    for number, patient_name in enumerate(("One", "Another")):
        dataset.SOPInstanceUID, dataset.PatientName = f"1.2.3.{number}", patient_name
        dataset.save_as(tmp_path / "ct.dcm")
        (image_set,) = health_imaging.import_files(datastore_id, [tmp_path / "ct.dcm"])
        primary.append(image_set.is_primary)
    assert primary == [True, False]


def test_versions_have_a_workflow_status(boto, datastore_id, ct_and_mr):
    versions = boto.list_image_set_versions(datastoreId=datastore_id, imageSetId=ct_and_mr[0])
    assert [each["ImageSetWorkflowStatus"] for each in versions["imageSetPropertiesList"]] == ["CREATED"]


@pytest.mark.parametrize("version", ["0", "2"])
def test_unknown_version_is_not_found(boto, datastore_id, ct_and_mr, version):
    for operation in (boto.get_image_set, boto.get_image_set_metadata):
        with pytest.raises(boto.exceptions.ResourceNotFoundException):
            operation(datastoreId=datastore_id, imageSetId=ct_and_mr[0], versionId=version)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda boto, _: boto.list_dicom_import_jobs(datastoreId="0" * 32), "ResourceNotFoundException"),
        (lambda boto, _: boto.list_dicom_import_jobs(datastoreId="short"), "ValidationException"),
        (lambda boto, here: boto.get_dicom_import_job(datastoreId=here, jobId="NO"), "ValidationException"),
        (lambda boto, here: boto.get_dicom_import_job(datastoreId=here, jobId="0"), "ResourceNotFoundException"),
        (lambda boto, _: boto.create_datastore(datastoreName="no spaces"), "ValidationException"),
        (lambda boto, _: boto.create_datastore(losslessStorageFormat="JPEG_LS"), "ValidationException"),
        (lambda boto, here: start_import(boto, here, dataAccessRoleArn=ROLE[:-7]), "ValidationException"),
        (lambda boto, here: start_import(boto, here, inputS3Uri="s3://No_Bucket/"), "ValidationException"),
    ],
)  # fmt: skip
def test_invalid_request_raises_the_service_exception(boto, datastore_id, call, error):
    with pytest.raises(ClientError) as raised:
        call(boto, datastore_id)
    assert raised.value.response["Error"]["Code"] == error


def test_data_stores_are_listed_by_status(boto, datastore_id):
    pages = boto.get_paginator("list_datastores").paginate(datastoreStatus="ACTIVE")
    assert datastore_id in [each["datastoreId"] for page in pages for each in page["datastoreSummaries"]]
    assert boto.list_datastores(datastoreStatus="DELETED")["datastoreSummaries"] == []
