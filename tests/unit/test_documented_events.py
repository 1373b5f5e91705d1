"""The handlers process the sample events of AWS's service guides unchanged."""

from __future__ import annotations

import json
from base64 import b64decode
from types import SimpleNamespace

import pytest

from framegate.entrypoints import api, authorizer, export
from framegate.entrypoints.authorizer import UnauthorizedError
from framegate.export.request_summary import RequestSummaries
from framegate.identifiers import ImageSetRef
from framegate.messages import (
    ExportOrder,
    ImageSetChanged,
    ImageSetDeleted,
    UnknownMessageError,
    ValidatedManifest,
    decode,
)
from framegate.settings import AuthorizerSettings, ExportQueueSettings, ExportSettings, Settings
from framegate.time_budget import TimeBudget
from tests.documented_events import DATASTORE, FOLDER, IMAGE_SET, documented, health_imaging_events, image_set_event
from tests.unit.conftest import BUCKET, forget_clients
from tests.unit.exporting import content, keys

CONTEXT = SimpleNamespace(get_remaining_time_in_millis=lambda: 60_000)
THE_IMAGE_SET = ImageSetRef(DATASTORE, IMAGE_SET)


def test_readme_names_the_source_of_every_sample():
    named = (FOLDER / "README.md").read_text()
    assert {each.name for each in FOLDER.glob("*.json")} == {
        line.split("`")[1] for line in named.splitlines() if line.startswith("| `")
    }


@pytest.fixture
def environment(health_imaging, s3, queue, deferred_store_queue, monkeypatch):
    """The environment of functions that serve the data store of the samples."""
    parts = (
        Settings(
            datastore_ids=(DATASTORE,),
            frame_bucket=BUCKET,
            presigned_url_lifetime_seconds=300,
            deferred_store_queue_url=deferred_store_queue.url,
            cors_origins=("*",),
            auth="iam",
            uid_hash_secret="secret of the test",
        ),
        ExportSettings(
            uid_hash_secret="secret",
            datastore_ids=(DATASTORE,),
            frame_bucket=BUCKET,
            event_bus="default",
            calls_per_second=10_000,
            verify=False,
            events=("Created", "Updated", "Copied"),
        ),
        ExportQueueSettings(
            queue_url=queue.url,
            deferred_store_queue_url=deferred_store_queue.url,
            removal_recheck_seconds=33,
        ),
        AuthorizerSettings(
            datastore_ids=(DATASTORE,),
            issuer="https://issuer.example",
            audiences=("framegate",),
            datastores_claim=None,
        ),
    )
    settings = {name: value for part in parts for name, value in part.to_environment().items()}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    caches = (api._api, export._worker, authorizer._settings, authorizer._checker)
    forget_clients()
    for each in caches:
        each.cache_clear()
    yield
    for each in caches:
        each.cache_clear()


@pytest.mark.parametrize("kind", ["Created", "Updated", "Copied"])
def test_event_of_a_change_names_the_image_set_and_version_of_its_detail(kind):
    changed = decode(json.dumps(image_set_event(f"Image Set {kind}")))
    assert changed == ImageSetChanged(kind, THE_IMAGE_SET, "1", is_primary=True)
    assert ExportOrder.on_change(changed, verify=False) == ExportOrder(THE_IMAGE_SET, "version-1", "1")


def test_event_of_a_deletion_removes_the_image_set_of_its_detail():
    assert decode(json.dumps(image_set_event("Image Set Deleted"))) == ImageSetDeleted(THE_IMAGE_SET)


OTHERS = [
    each
    for each in health_imaging_events()
    if each["detail-type"] not in [f"Image Set {kind}" for kind in ("Created", "Updated", "Copied", "Deleted")]
]


@pytest.mark.parametrize("event", OTHERS, ids=lambda each: each["detail-type"])
def test_other_events_are_rejected(event):
    with pytest.raises(UnknownMessageError):
        decode(json.dumps(event))


@pytest.fixture
def batch(queue):
    """The documented batch, from the export queue of the test."""
    sample = documented("lambda-sqs-batch")
    for record in sample["Records"]:
        record["eventSourceARN"] = queue.arn
    return sample


def test_batch_processes_an_event_and_reports_a_text_as_failed(environment, batch, log_lines, s3):
    batch["Records"][0]["body"] = json.dumps(image_set_event("Image Set Created"))
    answer = export.lambda_handler(batch, CONTEXT)

    assert answer == {"batchItemFailures": [{"itemIdentifier": batch["Records"][1]["messageId"]}]}
    lines = {line["message"]: line for line in log_lines()}
    # The emulator has no such image set, so the export fails.
    exported = lines["export failed"]
    assert (exported["datastore_id"], exported["image_set_id"]) == (DATASTORE, IMAGE_SET)
    assert exported["correlation_id"] == batch["Records"][0]["messageId"]
    assert lines["message not understood"]["correlation_id"] == batch["Records"][1]["messageId"]
    assert keys(s3) == []


@pytest.mark.parametrize("detail_type", ["Image Set Updated", "Image Set Copied", "Image Set Deleted"])
def test_every_forwarded_event_is_acknowledged(environment, batch, detail_type):
    for record in batch["Records"]:
        record["body"] = json.dumps(image_set_event(detail_type))
    assert export.lambda_handler(batch, CONTEXT) == {"batchItemFailures": []}


@pytest.mark.parametrize("iam", [False, True])
def test_proxy_integration_request_is_answered(environment, iam):
    event = documented("apigateway-proxy")
    if iam:
        event["requestContext"] = documented("apigateway-iam-request-context")
    answer = api.lambda_handler(event, CONTEXT)

    assert answer["statusCode"] == 404
    body = b64decode(answer["body"]) if answer["isBase64Encoded"] else answer["body"]
    assert json.loads(body)["type"] == "urn:framegate:problem:unknown-route"
    assert json.loads(body)["requestId"] == event["requestContext"]["requestId"]


def test_request_with_an_invalid_token_is_rejected(environment, log_lines):
    with pytest.raises(UnauthorizedError):
        authorizer.lambda_handler(documented("apigateway-token-authorizer"), None)
    assert [line["message"] for line in log_lines()] == ["token refused"]


def test_records_of_a_map_run_are_summarized(objects, s3):
    """The samples, with input and output replaced by those of Framegate."""
    run = documented("stepfunctions-map-result")
    manifest, folder = run["ResultWriterDetails"]["Key"], "exports/requests/monday.jsonl/execution-1/results"
    record = documented("stepfunctions-map-record")
    result = {"outcome": "failed", "frames": {"copied": 4, "present": 0, "failed": 1}, "bytes": 9}
    record["Input"] = json.dumps({"task": "export", "request": {"line": 1, "datastoreId": DATASTORE}})
    record["Output"] = json.dumps(result)
    s3.put_object(Bucket=BUCKET, Key=f"{folder}/SUCCEEDED_0.jsonl", Body=json.dumps(record).encode())
    files = {"ResultFiles": {"FAILED": [], "PENDING": [], "SUCCEEDED": [{"Key": f"{folder}/SUCCEEDED_0.jsonl"}]}}
    s3.put_object(Bucket=BUCKET, Key=manifest, Body=json.dumps(files).encode())
    validated = ValidatedManifest(BUCKET, "export-requests/x", "exports/requests/x/e", "x", 0, "x", 0, 0)

    summary = RequestSummaries(objects).write(validated, manifest, TimeBudget(60))
    assert (summary["exports"], summary["frames"]) == ({"completed": 0, "failed": 1}, result["frames"])
    assert json.loads(content(s3, "exports/requests/x/e/failed.jsonl")) == {"datastoreId": DATASTORE}
