"""The emulator as boto3's own HealthImaging client sees it."""

from __future__ import annotations

import gzip
import json
import socket
import subprocess
import sys
import time
import warnings
import zlib
from pathlib import Path

import boto3
import imagecodecs
import numpy as np
import pydicom
import pytest
import requests
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError, ResponseStreamingError
from botocore.exceptions import ConnectionError as BotoConnectionError
from pydicom.data import get_testdata_file

from local.health_imaging import Fault, FrameAddress, GeneratedBody, HealthImagingEmulator
from local.health_imaging.faults import STATUSES
from tests.unit.conftest import SERVED

ROLE = "arn:aws:iam::000000000000:role/import"


def new_client(url):
    return boto3.client(
        "medical-imaging",
        endpoint_url=url,
        config=Config(inject_host_prefix=False, retries={"total_max_attempts": 1}, read_timeout=1),
    )


@pytest.fixture
def boto(health_imaging):
    return new_client(health_imaging.url)


@pytest.fixture
def frame(health_imaging):
    return health_imaging.add_frame(SERVED, b"0123456789" * 20_000, "image/jph")


def get(boto, frame):
    return boto.get_image_frame(
        datastoreId=frame.datastore_id,
        imageSetId=frame.image_set_id,
        imageFrameInformation={"imageFrameId": frame.image_frame_id},
    )


def path_of(name):
    return Path(get_testdata_file(name, download=False))


def imported(health_imaging, *names):
    """The image sets that came of files, with their metadata as a client reads it."""
    datastore_id = health_imaging.create_datastore("import")
    with warnings.catch_warnings(action="ignore"):
        image_sets = health_imaging.import_files(datastore_id, [path_of(name) for name in names])
    return datastore_id, [each.id for each in image_sets]


def metadata_of(boto, datastore_id, image_set_id, **version):
    answer = boto.get_image_set_metadata(datastoreId=datastore_id, imageSetId=image_set_id, **version)
    return json.loads(gzip.decompress(answer["imageSetMetadataBlob"].read()))


def only_instance(metadata):
    (series,) = metadata["Study"]["Series"].values()
    (instance,) = series["Instances"].values()
    return instance


def frame_content(boto, datastore_id, image_set_id, entry):
    answer = boto.get_image_frame(
        datastoreId=datastore_id, imageSetId=image_set_id, imageFrameInformation={"imageFrameId": entry["ID"]}
    )
    return answer["imageFrameBlob"].read(), answer["contentType"]


# Data stores and image sets


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


def test_image_sets_are_searched_page_by_page_and_by_series(boto, health_imaging):
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


def test_copy_of_an_instance_goes_to_an_image_set_that_is_not_primary(boto, health_imaging):
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
        get(boto, frame)
    with pytest.raises(boto.exceptions.ResourceNotFoundException):
        metadata_of(boto, frame.datastore_id, frame.image_set_id)


def test_many_frames_are_added_to_one_image_set(boto, health_imaging):
    contents = [b"frame %d" % number for number in range(3000)]
    frames = health_imaging.add_frames(SERVED, contents, "image/jph")
    (image_set_id,) = {frame.image_set_id for frame in frames}
    (series,) = metadata_of(boto, SERVED, image_set_id)["Study"]["Series"].values()
    instances = list(series["Instances"].values())
    assert [each["ImageFrames"] for each in instances] == [
        [{"ID": frame.image_frame_id, "FrameSizeInBytes": len(content)}]
        for frame, content in zip(frames, contents, strict=True)
    ]
    assert {each["StoredTransferSyntaxUID"] for each in instances} == {"1.2.840.10008.1.2.4.202"}
    assert health_imaging.content(frames[-1]) == b"frame 2999"


def test_added_frames_can_share_an_instance_and_join_an_image_set(boto, health_imaging):
    first = health_imaging.add_frame(SERVED, b"x", "image/jpeg")
    health_imaging.add_frames(SERVED, [b"x"] * 5, "image/jph", image_set_id=first.image_set_id, per_instance=2)
    (series,) = metadata_of(boto, SERVED, first.image_set_id)["Study"]["Series"].values()
    assert [len(each["ImageFrames"]) for each in series["Instances"].values()] == [1, 2, 2, 1]
    assert boto.get_image_set(datastoreId=SERVED, imageSetId=first.image_set_id)["versionId"] == "1"


def test_checksum_of_a_frame_can_be_spoilt(boto, health_imaging, frame):
    datastore_id, (image_set_id,) = imported(health_imaging, "CT_small.dcm")
    (right,) = only_instance(metadata_of(boto, datastore_id, image_set_id))["ImageFrames"]
    health_imaging.spoil_checksum(FrameAddress(datastore_id, image_set_id, right["ID"]))
    (wrong,) = only_instance(metadata_of(boto, datastore_id, image_set_id))["ImageFrames"]
    checksums = "PixelDataChecksumFromBaseToFullResolution"
    assert all(a["Checksum"] != b["Checksum"] for a, b in zip(right[checksums], wrong[checksums], strict=True))
    assert right | {checksums: None} == wrong | {checksums: None}
    with pytest.raises(ValueError, match="no checksum"):
        health_imaging.spoil_checksum(frame)


# Import


@pytest.mark.parametrize(
    "name",
    [
        "CT_small.dcm",  # signed 16 bit
        "MR2_UNCR.dcm",  # unsigned 16 bit
        "MR_small_RLE.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "SC_rgb_jpeg_gdcm.dcm",  # JPEG lossless, colour
        "examples_rgb_color.dcm",
        "image_dfl.dcm",  # deflated
        "rtdose_1frame.dcm",  # 32 bit
        "emri_small.dcm",  # 10 frames
    ],
)
def test_file_is_transcoded_to_htj2k_without_loss(boto, health_imaging, name):
    datastore_id, (image_set_id,) = imported(health_imaging, name)
    instance = only_instance(metadata_of(boto, datastore_id, image_set_id))
    assert instance["StoredTransferSyntaxUID"] == "1.2.840.10008.1.2.4.202"
    frames = [frame_content(boto, datastore_id, image_set_id, entry) for entry in instance["ImageFrames"]]
    assert {content_type for _, content_type in frames} == {"image/jph"}
    decoded = np.stack([imagecodecs.htj2k_decode(content) for content, _ in frames])
    expected = decoded_by_other_means(name)
    np.testing.assert_array_equal(decoded.reshape(expected.shape), expected)


def decoded_by_other_means(name):
    dataset = pydicom.dcmread(path_of(name))
    others = {"1.2.840.10008.1.2.4.70": imagecodecs.ljpeg_decode, "1.2.840.10008.1.2.4.80": imagecodecs.jpegls_decode}
    decode = others.get(dataset.file_meta.TransferSyntaxUID)
    if decode is None:
        return pydicom.pixels.pixel_array(dataset, raw=True)
    return decode(next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1)))


@pytest.mark.parametrize("name", ["693_UNCR.dcm", "RG3_UNCR.dcm", "examples_rgb_color.dcm", "MR_small.dcm"])
def test_transcoded_frame_has_a_tile_part_and_a_checksum_for_each_resolution(boto, health_imaging, name):
    datastore_id, (image_set_id,) = imported(health_imaging, name)
    (entry,) = only_instance(metadata_of(boto, datastore_id, image_set_id))["ImageFrames"]
    content, _ = frame_content(boto, datastore_id, image_set_id, entry)
    resolutions = entry["PixelDataChecksumFromBaseToFullResolution"]
    assert entry["FrameSizeInBytes"] == len(content)
    assert max(resolutions[0]["Width"], resolutions[0]["Height"]) <= 64
    assert b"\xff\x55" in content[:200], "there is no TLM marker in the main header"
    cod = content.index(b"\xff\x52")
    assert content[cod + 5] == 2, "the progression order is not RPCL"
    tile_parts = [at for at in range(len(content)) if content.startswith(b"\xff\x90\x00\x0a", at)]
    assert len(tile_parts) == len(resolutions)
    for number, resolution in enumerate(resolutions):
        end = (*tile_parts[1:], len(content))[number]
        image = imagecodecs.htj2k_decode(content[:end] + b"\xff\xd9", skipres=len(resolutions) - 1 - number)
        assert image.shape[:2] == (resolution["Height"], resolution["Width"])
        assert zlib.crc32(image.tobytes()) == resolution["Checksum"]


@pytest.mark.parametrize(
    ("name", "content_type", "frames"),
    [("color3d_jpeg_baseline.dcm", "image/jpeg", 120), ("MR2_J2KI.dcm", "image/j2c", 1)],
)
def test_lossy_file_is_kept_as_it_is(boto, health_imaging, name, content_type, frames):
    datastore_id, (image_set_id,) = imported(health_imaging, name)
    entries = only_instance(metadata_of(boto, datastore_id, image_set_id))["ImageFrames"]
    originals = pydicom.encaps.generate_frames(pydicom.dcmread(path_of(name)).PixelData, number_of_frames=frames)
    assert len(entries) == frames
    for entry, original in zip(entries, originals, strict=True):
        assert frame_content(boto, datastore_id, image_set_id, entry) == (original, content_type)


def test_one_bit_pixels_are_kept_uncompressed(boto, health_imaging):
    datastore_id, (image_set_id,) = imported(health_imaging, "liver_1frame.dcm")
    instance = only_instance(metadata_of(boto, datastore_id, image_set_id))
    assert instance["StoredTransferSyntaxUID"] == "1.2.840.10008.1.2.1"
    content = frame_content(boto, datastore_id, image_set_id, instance["ImageFrames"][0])
    assert content == (pydicom.dcmread(path_of("liver_1frame.dcm")).PixelData, "application/octet-stream")


def test_video_is_one_frame(boto, health_imaging, tmp_path):
    dataset = pydicom.dcmread(path_of("color3d_jpeg_baseline.dcm"))
    stream = b"\x00\x00\x00\x20ftypisom" + bytes(5000)
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"
    dataset.PixelData = pydicom.encaps.encapsulate([stream])
    dataset.save_as(tmp_path / "video.dcm")
    datastore_id = health_imaging.create_datastore("video")
    (image_set,) = health_imaging.import_files(datastore_id, [tmp_path / "video.dcm"])
    (entry,) = only_instance(metadata_of(boto, datastore_id, image_set.id))["ImageFrames"]
    assert frame_content(boto, datastore_id, image_set.id, entry) == (stream, "video/mp4")


def test_metadata_has_the_attributes_at_their_levels(boto, health_imaging):
    datastore_id, (image_set_id,) = imported(health_imaging, "CT_small.dcm")
    metadata = metadata_of(boto, datastore_id, image_set_id)
    assert (metadata["DatastoreID"], metadata["ImageSetID"]) == (datastore_id, image_set_id)
    assert metadata["Patient"]["DICOM"]["PatientID"] == "1CT1"
    assert "PatientID" not in only_instance(metadata)["DICOM"]
    (series,) = metadata["Study"]["Series"].values()
    assert series["DICOM"]["Modality"] == "CT"
    assert only_instance(metadata)["DICOM"]["Rows"] == 128


def test_import_job_reads_s3_and_reports_what_it_could_not_read(moto, s3):
    s3.create_bucket(Bucket="dicom")
    for name in ("CT_small.dcm", "MR_truncated.dcm"):
        s3.put_object(Bucket="dicom", Key=f"input/{name}", Body=path_of(name).read_bytes())
    s3.put_object(Bucket="dicom", Key="input/notes.txt", Body=b"not DICOM")
    with HealthImagingEmulator(s3=s3) as emulator:
        boto = new_client(emulator.url)
        datastore_id = emulator.create_datastore("jobs")
        started = boto.start_dicom_import_job(
            datastoreId=datastore_id,
            dataAccessRoleArn=ROLE,
            inputS3Uri="s3://dicom/input/",
            outputS3Uri="s3://dicom/output/",
            clientToken="a",
        )
        properties = finished_job(boto, datastore_id, started["jobId"])
        assert properties["jobStatus"] == "COMPLETED"
        assert len(boto.search_image_sets(datastoreId=datastore_id)["imageSetsMetadataSummaries"]) == 1
    folder = f"output/{datastore_id}-DicomImport-{started['jobId']}"
    manifest = s3.get_object(Bucket="dicom", Key=f"{folder}/job-output-manifest.json")["Body"].read()
    summary = json.loads(manifest)["jobSummary"]
    assert (summary["numberOfScannedFiles"], summary["numberOfImportedFiles"]) == (3, 1)
    failures = s3.get_object(Bucket="dicom", Key=f"{folder}/FAILURE/failure.ndjson")["Body"].read().splitlines()
    assert {json.loads(line)["inputFile"] for line in failures} == {"input/MR_truncated.dcm", "input/notes.txt"}


def test_import_job_without_a_bucket_fails(moto, s3):
    with HealthImagingEmulator(s3=s3) as emulator:
        boto = new_client(emulator.url)
        datastore_id = emulator.create_datastore("jobs")
        uri = "s3://no-such-bucket-here/"
        job = boto.start_dicom_import_job(
            datastoreId=datastore_id, dataAccessRoleArn=ROLE, inputS3Uri=uri, outputS3Uri=uri, clientToken="a"
        )
        assert finished_job(boto, datastore_id, job["jobId"])["jobStatus"] == "FAILED"


def finished_job(boto, datastore_id, job_id):
    give_up = time.monotonic() + 10
    while time.monotonic() < give_up:
        properties = boto.get_dicom_import_job(datastoreId=datastore_id, jobId=job_id)["jobProperties"]
        if properties["jobStatus"] in ("COMPLETED", "FAILED"):
            return properties
        time.sleep(0.02)
    raise AssertionError(f"job {job_id} does not end")


def test_image_set_events_are_sent(moto):
    taken = []

    class Bus:
        def put_events(self, Entries):  # noqa: N803 - boto3's spelling
            taken.extend(Entries)
            return {"FailedEntryCount": 0, "Entries": [{}]}

    with HealthImagingEmulator(events=Bus(), event_source="local.medical-imaging") as emulator:
        datastore_id = emulator.create_datastore("events")
        (image_set,) = emulator.import_files(datastore_id, [path_of("CT_small.dcm")])
        emulator.delete_image_set(datastore_id, image_set.id)
    assert [each["DetailType"] for each in taken] == [
        "Data Store Creating",
        "Data Store Created",
        "Image Set Created",
        "Image Set Deleting",
        "Image Set Deleted",
    ]
    assert {each["Source"] for each in taken} == {"local.medical-imaging"}
    detail = json.loads(taken[2]["Detail"])
    assert (detail["datastoreId"], detail["imagesetId"], detail["imageSetState"]) == (
        datastore_id,
        image_set.id,
        "ACTIVE",
    )


# Frames and their faults


@pytest.mark.parametrize("announce_length", [True, False])
def test_frame_comes_with_its_media_type(boto, health_imaging, announce_length):
    frame = health_imaging.add_frame(SERVED, b"pixels", "image/x-new", announce_length=announce_length)
    answer = get(boto, frame)
    assert (answer["imageFrameBlob"].read(), answer["contentType"]) == (b"pixels", "image/x-new")


def test_frame_can_be_a_file_or_generated(boto, health_imaging, tmp_path):
    (tmp_path / "frame").write_bytes(b"from a file")
    file = health_imaging.add_frame(SERVED, tmp_path / "frame", "image/jph")
    generated = health_imaging.add_frame(SERVED, GeneratedBody(6, lambda: iter([b"abc", b"def"])), "video/mp4")
    assert [get(boto, each)["imageFrameBlob"].read() for each in (file, generated)] == [b"from a file", b"abcdef"]


@pytest.mark.parametrize("error", STATUSES)
def test_armed_exception_is_the_services_own(boto, health_imaging, frame, error):
    health_imaging.faults.arm(Fault(error=error, times=1))
    with pytest.raises(ClientError) as raised:
        get(boto, frame)
    assert raised.value.response["Error"]["Code"] == error
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == STATUSES[error]
    assert get(boto, frame)["imageFrameBlob"].read()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"imageSetId": "0" * 32}, "ResourceNotFoundException"),
        ({"datastoreId": "0" * 32}, "ResourceNotFoundException"),
        ({"imageFrameInformation": {"imageFrameId": "0" * 32}}, "ResourceNotFoundException"),
        ({"imageFrameInformation": {"imageFrameId": "short"}}, "ValidationException"),
    ],
)
def test_wrong_ids_are_refused_as_the_service_does(boto, frame, changes, error):
    right = {
        "datastoreId": frame.datastore_id,
        "imageSetId": frame.image_set_id,
        "imageFrameInformation": {"imageFrameId": frame.image_frame_id},
    }
    with pytest.raises(ClientError) as raised:
        boto.get_image_frame(**right | changes)
    assert raised.value.response["Error"]["Code"] == error


def test_unsigned_call_is_refused(health_imaging, frame):
    url = f"{health_imaging.url}/datastore/{SERVED}/imageSet/{frame.image_set_id}/getImageFrame"
    answer = requests.post(url, json={"imageFrameId": frame.image_frame_id}, timeout=5)
    assert (answer.status_code, answer.headers["x-amzn-ErrorType"]) == (403, "AccessDeniedException")


def test_connection_is_reset_before_the_answer(boto, health_imaging, frame):
    health_imaging.faults.arm(Fault(then="reset"))
    with pytest.raises((ConnectionClosedError, BotoConnectionError)):
        get(boto, frame)


def test_body_is_cut_short(boto, health_imaging, frame):
    health_imaging.faults.arm(Fault(then="close", after=150_000))
    with pytest.raises(ResponseStreamingError, match="50000 more expected"):
        get(boto, frame)["imageFrameBlob"].read()
    (call,) = health_imaging.calls
    assert (call.bytes_sent, call.aborted) == (150_000, True)


def test_body_is_reset_in_the_middle(boto, health_imaging, frame):
    health_imaging.faults.arm(Fault(then="reset", after=150_000))
    with pytest.raises(ResponseStreamingError, match="reset"):
        get(boto, frame)["imageFrameBlob"].read()


def test_body_stalls_and_slowness_and_latency_take_their_time(boto, health_imaging, frame):
    health_imaging.faults.arm(Fault(latency=0.3, times=1))
    health_imaging.faults.arm(Fault(bytes_per_second=500_000, times=1))
    for at_least in (0.3, 0.35):
        started = time.monotonic()
        get(boto, frame)["imageFrameBlob"].read()
        assert time.monotonic() - started > at_least
    health_imaging.faults.arm(Fault(then="stall", after=1_000))
    with pytest.raises(ReadTimeoutError):
        get(boto, frame)["imageFrameBlob"].read()


def test_fault_can_befall_a_share_of_calls_or_one_frame(boto, health_imaging, frame):
    health_imaging.faults.arm(Fault(error="ConflictException", probability=0.5))
    assert 10 < sum(fails(boto, frame) for _ in range(60)) < 50
    health_imaging.faults.clear()
    health_imaging.faults.arm(Fault(error="ConflictException", image_frame_id="f" * 32))
    assert not fails(boto, frame)


def fails(boto, frame):
    try:
        get(boto, frame)["imageFrameBlob"].read()
    except ClientError:
        return True
    return False


def test_calls_are_recorded(boto, health_imaging, frame):
    get(boto, frame)["imageFrameBlob"].read()
    (call,) = health_imaging.calls
    assert (call.operation, call.image_frame_id, call.status) == ("GetImageFrame", frame.image_frame_id, 200)
    assert (call.bytes_sent, call.aborted) == (200_000, False)


def test_faults_and_calls_are_reached_over_http(health_imaging, boto, frame):
    faults = f"{health_imaging.url}/_emulator/faults"
    assert requests.post(faults, json={"error": "ThrottlingException", "times": 1}, timeout=5).status_code == 200
    assert fails(boto, frame)
    assert (
        requests.post(faults, json={"eror": "ThrottlingException"}, timeout=5)
        .json()["message"]
        .startswith("unknown: eror")
    )
    requests.delete(faults, timeout=5)
    assert requests.get(faults, timeout=5).json() == {"faults": []}
    (call,) = requests.get(f"{health_imaging.url}/_emulator/calls", timeout=5).json()["calls"]
    assert call["status"] == 429


def test_closing_ends_a_stalled_answer_at_once():
    with HealthImagingEmulator() as emulator:
        frame = emulator.add_frame(emulator.create_datastore("close"), bytes(5000), "image/jph")
        emulator.faults.arm(Fault(then="stall", after=100))
        stalled = get(new_client(emulator.url), frame)["imageFrameBlob"]
        started = time.monotonic()
    assert time.monotonic() - started < 5
    with pytest.raises(ResponseStreamingError):
        stalled.read()


# The command


def test_command_serves_a_folder_until_it_is_stopped(tmp_path):
    (tmp_path / "ct.dcm").write_bytes(path_of("CT_small.dcm").read_bytes())
    command = [sys.executable, "-m", "local.health_imaging", "--port", "0", "--dicom", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        lines = [process.stdout.readline() for _ in range(7)]
        url = lines[0].split()[2]
        words = lines[6].split()
        address = {words[at]: words[at + 1] for at in range(2, len(words) - 1)}
        answer = new_client(url).get_image_frame(
            datastoreId=address["--datastore-id"],
            imageSetId=address["--image-set-id"],
            imageFrameInformation={"imageFrameId": address["--image-frame-information"].partition("=")[2]},
        )
        pixels = imagecodecs.htj2k_decode(answer["imageFrameBlob"].read())
        np.testing.assert_array_equal(pixels, pydicom.dcmread(tmp_path / "ct.dcm").pixel_array)
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def test_command_says_in_a_line_what_is_wrong(tmp_path):
    def run(*arguments):
        command = [sys.executable, "-m", "local.health_imaging", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = run("--port", port)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert f"Port {port} cannot be used" in refused.stderr
    assert "is not a folder" in run("--dicom", str(tmp_path / "missing")).stderr
