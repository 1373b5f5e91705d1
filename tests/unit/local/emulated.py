"""Helpers for the tests of the emulator."""

import gzip
import json
import re
import warnings
from pathlib import Path

import boto3
import pydicom
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from pydicom.data import get_testdata_file

from local.health_imaging import FrameAddress

SIGNED = {"Authorization": "AWS4-HMAC-SHA256 anything"}
ROLE = "arn:aws:iam::000000000000:role/import"


def new_client(url, read_timeout_seconds=5):
    config = Config(inject_host_prefix=False, retries={"total_max_attempts": 1}, read_timeout=read_timeout_seconds)
    return boto3.client("medical-imaging", endpoint_url=url, config=config)


class SigV4(requests.auth.AuthBase):
    """Signs requests to HealthImaging's DICOMweb, which the SDKs do not offer."""

    def __call__(self, request):
        signed = AWSRequest(request.method, request.url)
        SigV4Auth(Credentials("0" * 20, "secret"), "medical-imaging", "us-east-1").add_auth(signed)
        request.headers.update(signed.headers.items())
        return request


def dicomweb_get(url, accept=None, **query):
    """Send a signed GET request; a value that is a list repeats its parameter."""
    headers = {"Accept": accept} if accept is not None else {}
    return requests.get(url, params=query, headers=headers, auth=SigV4(), timeout=10)


def parts_of(response):
    """The content type and the bytes of each part of a multipart response."""
    boundary = re.search(r"; boundary=([0-9a-z]+)$", response.headers["Content-Type"])[1].encode()
    first, *parts, last = (b"\r\n" + response.content).split(b"\r\n--" + boundary)
    assert (first, last) == (b"", b"--\r\n")
    read = []
    for part in parts:
        head, _, content = part.partition(b"\r\n\r\n")
        headers = dict(line.split(": ") for line in head.decode().strip().split("\r\n"))
        assert headers.pop("Content-Length") == str(len(content))
        read.append((headers.pop("Content-Type"), content))
        assert not headers
    return read


class Bus:
    """Accepts events as EventBridge does."""

    def __init__(self):
        self.received = []

    def put_events(self, Entries):  # noqa: N803 - boto3's spelling
        self.received += [(each["DetailType"], json.loads(each["Detail"])) for each in Entries]
        return {"FailedEntryCount": 0, "Entries": [{}]}

    def of_image_set(self, image_set_id):
        """The detail type, version, state and workflow status of each event of an image set."""
        return [
            (name, detail["imageSetVersion"], detail["imageSetState"], detail["imageSetWorkflowStatus"])
            for name, detail in self.received
            if detail.get("imagesetId") == image_set_id
        ]


def metadata_of(boto, datastore_id, image_set_id, **version):
    answer = boto.get_image_set_metadata(datastoreId=datastore_id, imageSetId=image_set_id, **version)
    return json.loads(gzip.decompress(answer["imageSetMetadataBlob"].read()))


def series_of(metadata):
    (series,) = metadata["Study"]["Series"].values()
    return series


def only_instance(metadata):
    (instance,) = series_of(metadata)["Instances"].values()
    return instance


def frame_response(boto, frame):
    return boto.get_image_frame(
        datastoreId=frame.datastore_id,
        imageSetId=frame.image_set_id,
        imageFrameInformation={"imageFrameId": frame.image_frame_id},
    )


def frame_bytes(boto, frame):
    return frame_response(boto, frame)["imageFrameBlob"].read()


def frame_content(boto, datastore_id, image_set_id, entry):
    """The bytes and media type of a frame, by its entry in the metadata."""
    answer = frame_response(boto, FrameAddress(datastore_id, image_set_id, entry["ID"]))
    return answer["imageFrameBlob"].read(), answer["contentType"]


def path_of(name):
    """The path of one of pydicom's sample files."""
    return Path(get_testdata_file(name, download=False))


def imported(emulator, *names):
    """Import sample files into a new data store; return its id and the ids of the image sets."""
    datastore_id = emulator.create_datastore("import")
    with warnings.catch_warnings(action="ignore"):
        image_sets = emulator.import_files(datastore_id, [path_of(name) for name in names])
    return datastore_id, [each.id for each in image_sets]


def start_import(boto, datastore_id, **changes):
    request = {
        "datastoreId": datastore_id,
        "dataAccessRoleArn": ROLE,
        "inputS3Uri": "s3://dicom/input/",
        "outputS3Uri": "s3://dicom/output",
        "clientToken": "token",
    }
    return boto.start_dicom_import_job(**request | changes)["jobId"]


def dicom_file(folder, **attributes):
    """Write a CT file with changed attributes; return its path."""
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm", download=False))
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    path = Path(folder) / f"{dataset.SOPInstanceUID}.dcm"
    dataset.save_as(path)
    return path
