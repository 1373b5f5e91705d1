"""Import jobs read from S3, write their output, and send the documented events."""

from __future__ import annotations

import json
import logging
import time

import pytest

from local.health_imaging import HealthImagingEmulator
from tests.unit.local.emulated import new_client, path_of, start_import


class Bus:
    """Accepts events as EventBridge does, or rejects them."""

    def __init__(self, failed=0):
        self.received, self._failed = [], failed

    def put_events(self, Entries):  # noqa: N803 - boto3's spelling
        self.received += [
            (each["DetailType"], json.loads(each["Detail"]), each["Resources"], each["Source"]) for each in Entries
        ]
        return {"FailedEntryCount": self._failed, "Entries": [{"ErrorCode": "InternalFailure"}]}


def test_import_job_reports_files_that_it_cannot_read(moto, s3):
    s3.create_bucket(Bucket="dicom")
    for name in ("CT_small.dcm", "MR_truncated.dcm"):
        s3.put_object(Bucket="dicom", Key=f"input/{name}", Body=path_of(name).read_bytes())
    s3.put_object(Bucket="dicom", Key="input/notes.txt", Body=b"not DICOM")
    with HealthImagingEmulator(s3=s3) as emulator:
        boto = new_client(emulator.url)
        datastore_id = emulator.create_datastore("jobs")
        job_id = start_import(boto, datastore_id)
        properties = finished_job(boto, datastore_id, job_id)
        assert properties["jobStatus"] == "COMPLETED"
        assert len(boto.search_image_sets(datastoreId=datastore_id)["imageSetsMetadataSummaries"]) == 1
    folder = f"output/{datastore_id}-DicomImport-{job_id}"
    manifest = s3.get_object(Bucket="dicom", Key=f"{folder}/job-output-manifest.json")["Body"].read()
    summary = json.loads(manifest)["jobSummary"]
    assert (summary["numberOfScannedFiles"], summary["numberOfImportedFiles"]) == (3, 1)
    failures = s3.get_object(Bucket="dicom", Key=f"{folder}/FAILURE/failure.ndjson")["Body"].read().splitlines()
    assert {json.loads(line)["inputFile"] for line in failures} == {"input/MR_truncated.dcm", "input/notes.txt"}


def test_import_job_fails_without_its_bucket(moto, s3):
    with HealthImagingEmulator(s3=s3) as emulator:
        boto = new_client(emulator.url)
        datastore_id = emulator.create_datastore("jobs")
        uri = "s3://no-such-bucket-here/"
        job_id = start_import(boto, datastore_id, inputS3Uri=uri, outputS3Uri=uri)
        assert finished_job(boto, datastore_id, job_id)["jobStatus"] == "FAILED"


def finished_job(boto, datastore_id, job_id):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        properties = boto.get_dicom_import_job(datastoreId=datastore_id, jobId=job_id)["jobProperties"]
        if properties["jobStatus"] in ("COMPLETED", "FAILED"):
            return properties
        time.sleep(0.02)
    raise AssertionError(f"job {job_id} does not end")


@pytest.fixture
def job(s3):
    """A finished job with one DICOM file and one other file: the client, the job's properties, and the bus."""
    s3.create_bucket(Bucket="dicom")
    s3.put_object(Bucket="dicom", Key="input/ct.dcm", Body=path_of("CT_small.dcm").read_bytes())
    s3.put_object(Bucket="dicom", Key="input/notes.txt", Body=b"not DICOM")
    bus = Bus()
    with HealthImagingEmulator(s3=s3, events=bus) as emulator:
        boto, datastore_id = new_client(emulator.url), emulator.create_datastore("jobs")
        job_id = start_import(boto, datastore_id)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            properties = boto.get_dicom_import_job(datastoreId=datastore_id, jobId=job_id)["jobProperties"]
            if "endedAt" in properties and bus.received[-1][0].startswith("Import Job"):
                break
            time.sleep(0.02)
        yield boto, properties, bus


def test_manifest_is_in_the_output_folder_of_the_job(job, s3):
    _, properties, _ = job
    bucket, _, folder = properties["outputS3Uri"].removeprefix("s3://").partition("/")
    assert folder == f"output/{properties['datastoreId']}-DicomImport-{properties['jobId']}/"
    manifest = s3.get_object(Bucket=bucket, Key=f"{folder}job-output-manifest.json")["Body"].read()
    (image_set,) = json.loads(manifest)["jobSummary"]["imageSetsSummary"]
    assert (image_set["isPrimary"], image_set["numberOfMatchedSOPInstances"]) == (True, 1)
    failure = json.loads(s3.get_object(Bucket=bucket, Key=f"{folder}FAILURE/failure.ndjson")["Body"].read())
    assert failure["exception"]["exceptionType"] == "ValidationException"
    assert "not a DICOM Part 10 file" in failure["exception"]["message"]


def test_same_client_token_returns_the_same_job(job):
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
    assert [name for name, *_ in bus.received] == [
        "Data Store Creating",
        "Data Store Created",
        "Import Job Submitted",
        "Import Job In Progress",
        "Image Set Created",
        "Import Job Completed",
    ]
    store_arn = f"arn:aws:medical-imaging:us-east-1:000000000000:datastore/{properties['datastoreId']}"
    assert bus.received[-1][1:3] == (
        {
            "imagingVersion": "1.0",
            "jobStatus": "COMPLETED",
            **{name: properties[name] for name in ("datastoreId", "jobId", "jobName", "inputS3Uri", "outputS3Uri")},
        },
        [store_arn],
    )
    _, detail, resources, _ = bus.received[4]
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


def test_announce_sends_an_event_without_a_change():
    bus = Bus()
    with HealthImagingEmulator(events=bus) as emulator:
        frame = emulator.add_frame(emulator.create_datastore("events"), b"x", "image/jph")
        bus.received.clear()
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
        for name, detail, *_ in bus.received
    ] == [
        ("Image Set Copied", frame.image_set_id, "1", "ACTIVE", "COPIED"),
        ("Image Set Copied", frame.image_set_id, "1", "ACTIVE", "COPIED"),
        ("Image Set Deleting", frame.image_set_id, "1", "LOCKED", "DELETING"),
        ("Image Set Deleted", frame.image_set_id, "1", "DELETED", "DELETED"),
        ("Image Set Deleted", frame.image_set_id, "7", "DELETED", "DELETED"),
    ]


def test_rejected_event_is_logged_and_ignored(caplog):
    with HealthImagingEmulator(events=Bus(failed=1)) as emulator:
        assert emulator.create_datastore("refused")
    assert "EventBridge rejected the event Data Store Created: InternalFailure" in caplog.text


def test_image_set_events_are_sent(moto):
    bus = Bus()
    with HealthImagingEmulator(events=bus, event_source="local.medical-imaging") as emulator:
        datastore_id = emulator.create_datastore("events")
        (image_set,) = emulator.import_files(datastore_id, [path_of("CT_small.dcm")])
        emulator.delete_image_set(datastore_id, image_set.id)
    assert [name for name, *_ in bus.received] == [
        "Data Store Creating",
        "Data Store Created",
        "Image Set Created",
        "Image Set Deleting",
        "Image Set Deleted",
    ]
    assert {source for *_, source in bus.received} == {"local.medical-imaging"}
    detail = bus.received[2][1]
    assert (detail["datastoreId"], detail["imagesetId"], detail["imageSetState"]) == (
        datastore_id,
        image_set.id,
        "ACTIVE",
    )


def test_import_into_an_unknown_data_store_fails(emulator):
    with pytest.raises(Exception, match="no such data store"):
        emulator.import_files("0" * 32, [path_of("CT_small.dcm")])


def test_file_that_cannot_be_imported_is_logged(emulator, tmp_path, caplog):
    (tmp_path / "notes.txt").write_text("not DICOM")
    datastore_id = emulator.create_datastore("import")
    with caplog.at_level(logging.WARNING):
        assert emulator.import_files(datastore_id, [tmp_path / "notes.txt"]) == []
    assert "notes.txt was not imported: The file is not a DICOM Part 10 file" in caplog.text
