"""Where the emulator has to do exactly as HealthImaging documents, and what else a fault can be."""

from __future__ import annotations

import gzip
import json
import logging
import socket
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import imagecodecs
import numpy as np
import pydicom
import pytest
import requests
from botocore.config import Config
from botocore.exceptions import ClientError, ReadTimeoutError, ResponseStreamingError
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate

from local.health_imaging import Fault, HealthImagingEmulator

SIGNED = {"Authorization": "AWS4-HMAC-SHA256 anything"}
ROLE = "arn:aws:iam::000000000000:role/import"


@pytest.fixture(scope="module")
def own_emulator(aws_environment):
    """An emulator for this module: one shared with others would fill their lists with its data stores."""
    with HealthImagingEmulator() as running:
        yield running


@pytest.fixture
def health_imaging(own_emulator):
    own_emulator.faults.clear()
    own_emulator.calls.clear()
    return own_emulator


@pytest.fixture
def boto(health_imaging):
    return new_client(health_imaging.url)


def new_client(url):
    config = Config(inject_host_prefix=False, retries={"total_max_attempts": 1}, read_timeout=1)
    return boto3.client("medical-imaging", endpoint_url=url, config=config)


@pytest.fixture
def datastore_id(health_imaging):
    return health_imaging.create_datastore("conformance")


@pytest.fixture
def frame(health_imaging, datastore_id):
    return health_imaging.add_frame(datastore_id, b"0123456789" * 1_000, "image/jph")


def get(boto, frame):
    answer = boto.get_image_frame(
        datastoreId=frame.datastore_id,
        imageSetId=frame.image_set_id,
        imageFrameInformation={"imageFrameId": frame.image_frame_id},
    )
    return answer["imageFrameBlob"].read()


def path_of(name):
    return Path(get_testdata_file(name, download=False))


def instance_of(boto, image_set):
    answer = boto.get_image_set_metadata(datastoreId=image_set.datastore_id, imageSetId=image_set.id)
    metadata = json.loads(gzip.decompress(answer["imageSetMetadataBlob"].read()))
    (series,) = metadata["Study"]["Series"].values()
    (instance,) = series["Instances"].values()
    return instance


def imported_pixels(boto, health_imaging, datastore_id, path):
    (image_set,) = health_imaging.import_files(datastore_id, [path])
    instance = instance_of(boto, image_set)
    (entry,) = instance["ImageFrames"]
    answer = boto.get_image_frame(
        datastoreId=datastore_id, imageSetId=image_set.id, imageFrameInformation={"imageFrameId": entry["ID"]}
    )
    return instance["StoredTransferSyntaxUID"], entry, answer["imageFrameBlob"].read()


# Pixels


@pytest.mark.parametrize(
    ("transfer_syntax_uid", "encode"),
    [("1.2.840.10008.1.2.4.80", imagecodecs.jpegls_encode), ("1.2.840.10008.1.2.4.70", imagecodecs.ljpeg_encode)],
)
def test_signed_pixels_of_a_codec_without_signs_stay_signed(
    boto, health_imaging, datastore_id, tmp_path, transfer_syntax_uid, encode
):
    dataset = pydicom.dcmread(path_of("693_UNCR.dcm"))
    pixels = dataset.pixel_array
    dataset.file_meta.TransferSyntaxUID = transfer_syntax_uid
    dataset.PixelData = encapsulate([encode(pixels.view(np.uint16))])
    dataset.save_as(tmp_path / "signed.dcm")
    _, entry, content = imported_pixels(boto, health_imaging, datastore_id, tmp_path / "signed.dcm")
    np.testing.assert_array_equal(imagecodecs.htj2k_decode(content), pixels)
    assert (entry["MinPixelValue"], entry["MaxPixelValue"]) == (int(pixels.min()), int(pixels.max())) == (-2000, 2492)


def test_sign_is_the_highest_stored_bit_where_codestream_and_dataset_differ(boto, health_imaging, datastore_id):
    _, entry, _ = imported_pixels(boto, health_imaging, datastore_id, path_of("J2K_pixelrep_mismatch.dcm"))
    assert (entry["MinPixelValue"], entry["MaxPixelValue"]) == (-2000, 1896)


def test_twelve_bit_jpeg_is_transcoded(boto, health_imaging, datastore_id):
    syntax, entry, content = imported_pixels(boto, health_imaging, datastore_id, path_of("JPGExtended.dcm"))
    assert syntax == "1.2.840.10008.1.2.4.202"
    assert imagecodecs.htj2k_decode(content).shape == (1024, 256)
    assert entry["MaxPixelValue"] == 264


@pytest.mark.parametrize(("keyword", "kind"), [("FloatPixelData", "<f4"), ("DoubleFloatPixelData", "<f8")])
def test_floating_point_pixels_are_kept_as_they_are_even_with_nan(
    boto, health_imaging, datastore_id, tmp_path, keyword, kind
):
    dataset = pydicom.dcmread(path_of("CT_small.dcm"))
    pixels = np.linspace(-1, 1, dataset.Rows * dataset.Columns).astype(kind)
    pixels[0] = np.nan
    for absent in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
        delattr(dataset, absent)
    dataset.BitsAllocated = pixels.itemsize * 8
    setattr(dataset, keyword, pixels.tobytes())
    dataset.save_as(tmp_path / "float.dcm")
    syntax, entry, content = imported_pixels(boto, health_imaging, datastore_id, tmp_path / "float.dcm")
    assert (syntax, content) == ("1.2.840.10008.1.2.1", pixels.tobytes())
    assert "MinPixelValue" not in entry


def test_file_without_pixels_has_no_frames(boto, health_imaging, datastore_id):
    (image_set,) = health_imaging.import_files(datastore_id, [path_of("rtplan.dcm")])
    assert instance_of(boto, image_set)["ImageFrames"] == []


# Operations


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


def test_newest_image_set_is_found_first_unless_asked_otherwise(boto, datastore_id, ct_and_mr):
    ct, mr = ct_and_mr
    assert search(boto, datastore_id) == [mr, ct]
    assert search(boto, datastore_id, sortField="createdAt", sortOrder="ASC") == [ct, mr]


def test_image_sets_are_found_by_time(boto, datastore_id, ct_and_mr):
    now, hour = datetime.now(UTC), timedelta(hours=1)
    for name in ("createdAt", "updatedAt"):
        recent = {"operator": "BETWEEN", "values": [{name: now - hour}, {name: now + hour}]}
        older = {"operator": "BETWEEN", "values": [{name: now - 2 * hour}, {name: now - hour}]}
        assert set(search(boto, datastore_id, recent)) == set(ct_and_mr)
        assert search(boto, datastore_id, older) == []


def test_image_sets_are_found_by_date_of_the_study(boto, datastore_id, ct_and_mr):
    date = pydicom.dcmread(path_of("CT_small.dcm")).StudyDate
    bounds = [
        {"DICOMStudyDateAndTime": {"DICOMStudyDate": date, "DICOMStudyTime": time}} for time in ("000000", "235959")
    ]
    assert ct_and_mr[0] in search(boto, datastore_id, {"operator": "BETWEEN", "values": bounds})
    long_ago = [{"DICOMStudyDateAndTime": {"DICOMStudyDate": year, "DICOMStudyTime": "0"}} for year in ("1900", "1901")]
    assert search(boto, datastore_id, {"operator": "BETWEEN", "values": long_ago}) == []


def test_image_sets_are_found_by_being_primary(boto, datastore_id, ct_and_mr):
    assert set(search(boto, datastore_id, {"operator": "EQUAL", "values": [{"isPrimary": True}]})) == set(ct_and_mr)
    assert search(boto, datastore_id, {"operator": "EQUAL", "values": [{"isPrimary": False}]}) == []


@pytest.mark.parametrize("filters", [["x"], [{}], [{"operator": "EQUAL", "values": [{"Unknown": "x"}]}]])
def test_malformed_filter_is_a_validation_exception(health_imaging, datastore_id, ct_and_mr, filters):
    url = f"{health_imaging.url}/datastore/{datastore_id}/searchImageSets"
    answer = requests.post(url, json={"filters": filters}, headers=SIGNED, timeout=5)
    assert (answer.status_code, answer.headers["x-amzn-ErrorType"]) == (400, "ValidationException")


def test_instances_that_conflict_with_the_series_are_not_primary(health_imaging, datastore_id, tmp_path):
    dataset = pydicom.dcmread(path_of("CT_small.dcm"))
    primary = []
    for number, patient_name in enumerate(("One", "Another")):
        dataset.SOPInstanceUID, dataset.PatientName = f"1.2.3.{number}", patient_name
        dataset.save_as(tmp_path / "ct.dcm")
        (image_set,) = health_imaging.import_files(datastore_id, [tmp_path / "ct.dcm"])
        primary.append(image_set.is_primary)
    assert primary == [True, False]


def test_versions_tell_their_workflow_status(boto, datastore_id, ct_and_mr):
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
def test_request_is_validated_as_the_service_does(boto, datastore_id, call, error):
    with pytest.raises(ClientError) as raised:
        call(boto, datastore_id)
    assert raised.value.response["Error"]["Code"] == error


def test_data_stores_are_listed_by_status(boto, datastore_id):
    pages = boto.get_paginator("list_datastores").paginate(datastoreStatus="ACTIVE")
    assert datastore_id in [each["datastoreId"] for page in pages for each in page["datastoreSummaries"]]
    assert boto.list_datastores(datastoreStatus="DELETED")["datastoreSummaries"] == []


def test_import_into_an_unknown_data_store_is_an_error(health_imaging):
    with pytest.raises(Exception, match="no such data store"):
        health_imaging.import_files("0" * 32, [path_of("CT_small.dcm")])


def test_file_that_cannot_be_imported_is_logged(health_imaging, datastore_id, tmp_path, caplog):
    (tmp_path / "notes.txt").write_text("not DICOM")
    with caplog.at_level(logging.WARNING):
        assert health_imaging.import_files(datastore_id, [tmp_path / "notes.txt"]) == []
    assert "notes.txt was not imported: The file is not a DICOM Part 10 file" in caplog.text


@pytest.mark.parametrize("header", ["Content-Length: many", "Transfer-Encoding: chunked"])
def test_request_without_a_usable_length_is_refused_once_and_the_connection_closed(
    health_imaging, datastore_id, header
):
    with socket.create_connection(("127.0.0.1", int(health_imaging.url.rpartition(":")[2])), timeout=5) as connection:
        request = f"POST /datastore/{datastore_id}/searchImageSets HTTP/1.1\r\nHost: x\r\nAuthorization: x\r\n{header}"
        connection.sendall(request.encode() + b"\r\n\r\n2\r\n{}\r\n0\r\n\r\n")
        answer = b""
        # Closing with bytes of the request unread resets the connection, after the answer.
        while piece := _received(connection):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1


def _received(connection):
    try:
        return connection.recv(65536)
    except ConnectionResetError:
        return b""


# Import jobs and events


def start_import(boto, datastore_id, **changes):
    request = {
        "datastoreId": datastore_id,
        "dataAccessRoleArn": ROLE,
        "inputS3Uri": "s3://dicom/input/",
        "outputS3Uri": "s3://dicom/output",
        "clientToken": "token",
    }
    return boto.start_dicom_import_job(**request | changes)["jobId"]


class Bus:
    """Takes events as EventBridge does, or refuses them."""

    def __init__(self, failed=0):
        self.taken, self._failed = [], failed

    def put_events(self, Entries):  # noqa: N803 - boto3's spelling
        self.taken += [(each["DetailType"], json.loads(each["Detail"]), each["Resources"]) for each in Entries]
        return {"FailedEntryCount": self._failed, "Entries": [{"ErrorCode": "InternalFailure"}]}


@pytest.fixture
def job(s3):
    """A finished job of two files, one of which is no DICOM file: boto3, its properties, and the events."""
    s3.create_bucket(Bucket="dicom")
    s3.put_object(Bucket="dicom", Key="input/ct.dcm", Body=path_of("CT_small.dcm").read_bytes())
    s3.put_object(Bucket="dicom", Key="input/notes.txt", Body=b"not DICOM")
    bus = Bus()
    with HealthImagingEmulator(s3=s3, events=bus) as emulator:
        boto, datastore_id = new_client(emulator.url), emulator.create_datastore("jobs")
        job_id = start_import(boto, datastore_id)
        give_up = time.monotonic() + 10
        while time.monotonic() < give_up:
            properties = boto.get_dicom_import_job(datastoreId=datastore_id, jobId=job_id)["jobProperties"]
            if "endedAt" in properties and bus.taken[-1][0].startswith("Import Job"):
                break
            time.sleep(0.02)
        yield boto, properties, bus


def test_manifest_is_where_the_job_says(job, s3):
    _, properties, _ = job
    bucket, _, folder = properties["outputS3Uri"].removeprefix("s3://").partition("/")
    assert folder == f"output/{properties['datastoreId']}-DicomImport-{properties['jobId']}/"
    manifest = s3.get_object(Bucket=bucket, Key=f"{folder}job-output-manifest.json")["Body"].read()
    (image_set,) = json.loads(manifest)["jobSummary"]["imageSetsSummary"]
    assert (image_set["isPrimary"], image_set["numberOfMatchedSOPInstances"]) == (True, 1)
    failure = json.loads(s3.get_object(Bucket=bucket, Key=f"{folder}FAILURE/failure.ndjson")["Body"].read())
    assert failure["exception"]["exceptionType"] == "ValidationException"
    assert "not a DICOM Part 10 file" in failure["exception"]["message"]


def test_same_client_token_is_the_same_job(job):
    boto, properties, _ = job
    assert start_import(boto, properties["datastoreId"]) == properties["jobId"]
    assert start_import(boto, properties["datastoreId"], clientToken="other") != properties["jobId"]


def test_jobs_are_listed_by_status_and_have_a_name(job):
    boto, properties, _ = job
    listed = boto.list_dicom_import_jobs(datastoreId=properties["datastoreId"], jobStatus="COMPLETED")["jobSummaries"]
    assert [each["jobId"] for each in listed] == [properties["jobId"]]
    assert listed[0]["jobName"]
    assert boto.list_dicom_import_jobs(datastoreId=properties["datastoreId"], jobStatus="FAILED")["jobSummaries"] == []


def test_events_of_a_job_are_as_documented(job):
    _, properties, bus = job
    assert [name for name, _, _ in bus.taken] == [
        "Data Store Creating",
        "Data Store Created",
        "Import Job Submitted",
        "Import Job In Progress",
        "Image Set Created",
        "Import Job Completed",
    ]
    store_arn = f"arn:aws:medical-imaging:us-east-1:000000000000:datastore/{properties['datastoreId']}"
    assert bus.taken[-1][1:] == (
        {
            "imagingVersion": "1.0",
            "jobStatus": "COMPLETED",
            **{name: properties[name] for name in ("datastoreId", "jobId", "jobName", "inputS3Uri", "outputS3Uri")},
        },
        [store_arn],
    )
    _, detail, resources = bus.taken[4]
    assert set(detail) == {
        "imagingVersion",
        "isPrimary",
        "imageSetVersion",
        "datastoreId",
        "imagesetId",
        "imageSetState",
        "imageSetWorkflowStatus",
    }
    assert resources == [f"{store_arn}/imageset/{detail['imagesetId']}"]


def test_event_of_an_image_set_can_be_sent_at_will():
    bus = Bus()
    with HealthImagingEmulator(events=bus) as emulator:
        frame = emulator.add_frame(emulator.create_datastore("events"), b"x", "image/jph")
        bus.taken.clear()
        for _ in range(2):
            emulator.announce("Image Set Copied", frame.datastore_id, frame.image_set_id)
        emulator.delete_image_set(frame.datastore_id, frame.image_set_id)
        emulator.announce("Image Set Deleted", frame.datastore_id, frame.image_set_id, version=7)
    assert [
        (
            name,
            detail["imagesetId"],
            *(detail[key] for key in ("imageSetVersion", "imageSetState", "imageSetWorkflowStatus")),
        )
        for name, detail, _ in bus.taken
    ] == [
        ("Image Set Copied", frame.image_set_id, "1", "ACTIVE", "COPIED"),
        ("Image Set Copied", frame.image_set_id, "1", "ACTIVE", "COPIED"),
        ("Image Set Deleting", frame.image_set_id, "1", "LOCKED", "DELETING"),
        ("Image Set Deleted", frame.image_set_id, "1", "DELETED", "DELETED"),
        ("Image Set Deleted", frame.image_set_id, "7", "DELETED", "DELETED"),
    ]


def test_refused_event_is_logged_and_breaks_nothing(caplog):
    with HealthImagingEmulator(events=Bus(failed=1)) as emulator:
        assert emulator.create_datastore("refused")
    assert "EventBridge rejected the event Data Store Created: InternalFailure" in caplog.text


# Faults and closing


@pytest.mark.parametrize("part", ["datastore_id", "image_set_id", "image_frame_id"])
def test_fault_can_be_limited_to_a_part_of_the_address(boto, health_imaging, datastore_id, frame, part):
    health_imaging.faults.arm(Fault(error="ConflictException", **{part: "0" * 32}))
    assert get(boto, frame)
    health_imaging.faults.arm(Fault(error="ConflictException", **{part: getattr(frame, part)}))
    with pytest.raises(boto.exceptions.ConflictException):
        get(boto, frame)


def test_fault_can_befall_every_operation(boto, health_imaging, frame):
    health_imaging.faults.arm(Fault(operation=None, error="InternalServerException"))
    with pytest.raises(boto.exceptions.InternalServerException):
        boto.list_datastores()
    with pytest.raises(boto.exceptions.InternalServerException):
        get(boto, frame)


@pytest.mark.parametrize("after", [None, 0, 5_000, 9_999])
def test_stall_can_pass(boto, health_imaging, frame, after):
    health_imaging.faults.arm(Fault(then="stall", after=after, stall_seconds=0.2))
    started = time.monotonic()
    assert get(boto, frame) == b"0123456789" * 1_000
    assert time.monotonic() - started >= 0.2


def test_stall_of_a_read_that_gives_up_is_a_timeout(boto, health_imaging, frame):
    health_imaging.faults.arm(Fault(then="stall", stall_seconds=5))
    with pytest.raises(ReadTimeoutError):
        get(boto, frame)


@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize("after", [0, 5_000])
def test_chunked_body_that_breaks_off_is_never_a_whole_one(boto, health_imaging, datastore_id, then, after):
    frame = health_imaging.add_frame(datastore_id, bytes(10_000), "image/jph", announce_length=False)
    health_imaging.faults.arm(Fault(then=then, after=after))
    with pytest.raises((ResponseStreamingError, ConnectionError)):
        get(boto, frame)


def test_faults_by_chance_come_the_same_after_each_clearing(boto, health_imaging, frame):
    def sequence():
        health_imaging.faults.clear()
        health_imaging.faults.arm(Fault(error="ThrottlingException", probability=0.5))
        health_imaging.calls.clear()
        for _ in range(12):
            with suppress(ClientError):
                get(boto, frame)
        return [call.status for call in health_imaging.calls]

    assert sequence() == sequence()


@pytest.mark.parametrize(
    "document",
    [
        {"times": "3"},
        {"after": 1.5},
        {"after": -1},
        {"bytes_per_second": 0},
        {"probability": 2},
        {"latency": None},
        {"stall_seconds": True},
    ],
)
def test_fault_that_makes_no_sense_is_refused_when_it_is_armed(health_imaging, document):
    answer = requests.post(f"{health_imaging.url}/_emulator/faults", json=document, timeout=5)
    assert answer.status_code == 400
    assert next(iter(document)) in answer.json()["message"]


def test_error_inside_the_emulator_is_an_internal_server_exception(
    boto, health_imaging, datastore_id, tmp_path, caplog
):
    (tmp_path / "frame").write_bytes(b"x")
    frame = health_imaging.add_frame(datastore_id, tmp_path / "frame", "image/jph")
    image_set = health_imaging.stores.image_set(datastore_id, frame.image_set_id)
    image_set.frames[frame.image_frame_id].content = None
    with pytest.raises(boto.exceptions.InternalServerException):
        get(boto, frame)
    assert "The emulator failed in GetImageFrame" in caplog.text


def test_frame_that_is_not_read_does_not_count_as_sent(boto, health_imaging, datastore_id):
    frame = health_imaging.add_frame(datastore_id, bytes(8 << 20), "video/mp4")
    answer = boto.get_image_frame(
        datastoreId=datastore_id,
        imageSetId=frame.image_set_id,
        imageFrameInformation={"imageFrameId": frame.image_frame_id},
    )
    time.sleep(0.1)
    answer["imageFrameBlob"].close()
    (call,) = health_imaging.calls
    assert call.aborted
    assert call.bytes_sent < 4 << 20


def test_closing_ends_latency_and_leaves_no_thread():
    before = set(threading.enumerate())
    with HealthImagingEmulator() as emulator:
        frame = emulator.add_frame(emulator.create_datastore("close"), bytes(5_000), "image/jph")
        boto = new_client(emulator.url)
        get(boto, frame)
        emulator.faults.arm(Fault(latency=30))
        errors = []
        waiting = threading.Thread(target=lambda: errors.append(_error_of(get, new_client(emulator.url), frame)))
        waiting.start()
        give_up = time.monotonic() + 5
        while len(emulator.calls._calls) < 2 and time.monotonic() < give_up:
            time.sleep(0.01)
        started = time.monotonic()
    assert time.monotonic() - started < 15
    waiting.join(5)
    assert errors != [None]
    assert set(threading.enumerate()) <= before


def _error_of(function, *arguments):
    try:
        function(*arguments)
    except Exception as error:
        return error
    return None
