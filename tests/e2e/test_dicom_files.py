"""DICOM files on a deployment that writes them: by events, by request manifest, and through DICOMweb."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file

from local.samples import MAMMOGRAM
from tests.e2e.test_viewers_page import blocks, token
from tests.e2e.watching import Bucket, wait_for

__all__ = ["token"]


@pytest.fixture(scope="module")
def bucket(viewer):
    return Bucket(viewer.cloud.client("s3"), viewer.deployment.frame_bucket)


@pytest.fixture(scope="module")
def select(viewer):
    """Runs a query in the deployment's Athena workgroup; returns the rows as dictionaries of text."""
    athena = viewer.cloud.client("athena")

    def run(query):
        started = athena.start_query_execution(
            QueryString=query,
            WorkGroup=viewer.deployment.table_workgroup,
            QueryExecutionContext={"Database": viewer.deployment.table_database},
        )
        query_id = started["QueryExecutionId"]

        def status():
            found = athena.get_query_execution(QueryExecutionId=query_id)["QueryExecution"]["Status"]
            return found if found["State"] not in ("QUEUED", "RUNNING") else None

        ended = wait_for(status)
        assert ended["State"] == "SUCCEEDED", ended
        names, *values = (
            [cell.get("VarCharValue") for cell in row["Data"]]
            for row in athena.get_query_results(QueryExecutionId=query_id)["ResultSet"]["Rows"]
        )
        return [dict(zip(names, row, strict=True)) for row in values]

    return run


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


def test_tables_list_the_files_of_an_export_until_the_image_set_is_deleted(viewer, bucket, select):
    cloud = viewer.cloud
    (image_set,) = cloud.health_imaging.import_files(viewer.datastore_ids[2], [Path(get_testdata_file("CT_small.dcm"))])
    instances = f"SELECT * FROM instances WHERE image_set_id = '{image_set.id}'"
    cloud.health_imaging.announce("Image Set Created", viewer.datastore_ids[2], image_set.id)
    (row,) = wait_for(lambda: select(instances))
    original = viewer.datasets["CT_small.dcm"]
    assert (row["modality"], row["rows"], row["bits_stored"]) == ("CT", str(original.Rows), str(original.BitsStored))
    assert (row["datastore_id"], row["slice_thickness_mm"]) == (viewer.datastore_ids[2], "5.0")
    file = pydicom.dcmread(io.BytesIO(bucket.read(row["dicom_key"])))
    assert (file.SOPInstanceUID, row["manufacturer"]) == (original.SOPInstanceUID, original.Manufacturer)
    (joined,) = select(
        "SELECT frames.dicom_key FROM frames JOIN instances ON frames.instance_hash = instances.instance_hash "
        f"WHERE instances.image_set_id = '{image_set.id}'"
    )
    assert joined["dicom_key"] == row["dicom_key"]
    cloud.health_imaging.delete_image_set(viewer.datastore_ids[2], image_set.id)
    wait_for(lambda: not select(instances))
    assert [key for key in bucket.listed() if image_set.id in key] == []


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
