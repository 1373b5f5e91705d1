"""DICOM files on a deployment that writes them: by events, by request manifest, and through DICOMweb."""

from __future__ import annotations

import io
import json

import pydicom
import pytest

from local.samples import MAMMOGRAM
from tests.e2e.test_viewers_page import blocks, token
from tests.e2e.watching import Bucket, wait_for

__all__ = ["token"]


@pytest.fixture(scope="module")
def bucket(viewer):
    return Bucket(viewer.cloud.client("s3"), viewer.deployment.frame_bucket)


@pytest.fixture
def client(viewer, token):
    """The dicomweb-client of docs/viewers.md."""
    dataset = viewer.datasets["CT_small.dcm"]
    names = {
        "api": viewer.deployment.api_url,
        "datastore": viewer.datastore_ids[0],
        "token": token,
        "study_uid": dataset.StudyInstanceUID,
        "series_uid": dataset.SeriesInstanceUID,
        "instance_uid": dataset.SOPInstanceUID,
    }
    (code,) = blocks("python")
    exec(compile(code, "docs/viewers.md", "exec"), names)
    return names["client"]


def frame_of(viewer, name):
    return next(each for each in viewer.frames if each.sop_instance_uid == viewer.datasets[name].SOPInstanceUID)


def test_event_exports_a_file_of_each_instance(viewer, bucket):
    frame = frame_of(viewer, "CT_small.dcm")
    viewer.cloud.health_imaging.announce("Image Set Created", frame.datastore_id, frame.image_set_id)
    wait_for(lambda: bucket.manifest(frame, "version-1-dicom"))
    (line,) = bucket.manifest(frame, "version-1-dicom")
    assert line["outcome"] in ("copied", "present")
    file, original = pydicom.dcmread(io.BytesIO(bucket.read(line["key"]))), viewer.datasets["CT_small.dcm"]
    assert (file.SOPInstanceUID, file.PatientName) == (original.SOPInstanceUID, original.PatientName)
    assert file.PixelData[16:].startswith(b"\xff\x4f\xff\x51")


def test_request_manifest_asks_for_files(viewer, bucket):
    frame = frame_of(viewer, MAMMOGRAM)
    line = {"datastoreId": frame.datastore_id, "imageSetId": frame.image_set_id, "output": "dicom"}
    bucket.s3.put_object(Bucket=bucket.name, Key="export-requests/files.jsonl", Body=json.dumps(line).encode())
    (key,) = wait_for(
        lambda: [each for each in bucket.listed("exports/requests/files.jsonl/") if each.endswith("summary.json")]
    )
    summary = json.loads(bucket.read(key))
    assert summary["exports"] == {"completed": 1, "failed": 0}
    assert sum(summary["instances"].values()) == 1


@pytest.mark.parametrize("name", ["CT_small.dcm", MAMMOGRAM])
def test_dicomweb_client_retrieves_an_instance_and_its_series(viewer, client, name):
    original = viewer.datasets[name]
    uids = original.StudyInstanceUID, original.SeriesInstanceUID
    for found in (client.retrieve_instance(*uids, original.SOPInstanceUID), *client.retrieve_series(*uids)):
        assert (found.SOPInstanceUID, found.PatientID) == (original.SOPInstanceUID, original.PatientID)
        assert (found.Rows, found.Columns) == (original.Rows, original.Columns)
