"""Invokes the export function with queue messages, as Lambda does."""

from __future__ import annotations

import json
from contextlib import contextmanager
from types import SimpleNamespace

from framegate.aws import clients
from framegate.entrypoints import export, export_parts
from tests.documented_events import image_set_event
from tests.unit.conftest import BUCKET, SERVED, forget_clients

RECHECK_SECONDS = 33


@contextmanager
def export_function(queue, deferred_store_queue, monkeypatch):
    """Set up the function, and give a callable that invokes it with messages and returns the ids of the failed ones.

    The messages come from the export queue, unless the call names another `source`.

    The function builds its own clients, which call moto and the HealthImaging emulator.
    """
    environment = {
        "FRAMEGATE_DATASTORE_IDS": SERVED,
        "FRAMEGATE_FRAME_BUCKET": BUCKET,
        "FRAMEGATE_EVENT_BUS": "default",
        "FRAMEGATE_EXPORT_RATE": "10000",
        "FRAMEGATE_VERIFY": "false",
        "FRAMEGATE_EXPORT_EVENTS": "Created,Updated,Copied",
        "FRAMEGATE_EXPORT_OUTPUT": "frames",
        "FRAMEGATE_EXPORT_QUEUE_URL": queue.url,
        "FRAMEGATE_DEFERRED_STORE_QUEUE_URL": deferred_store_queue.url,
        "FRAMEGATE_REMOVAL_RECHECK_SECONDS": str(RECHECK_SECONDS),
        "FRAMEGATE_UID_HASH_SECRET": "secret",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(export_parts, "WORKERS", 4)
    forget_clients()
    export._worker.cache_clear()

    def invoke(*bodies, remaining_ms=60_000, receives=1, source=queue):
        records = [
            {
                "messageId": f"message-{number}",
                "receiptHandle": receipt_handle(source),
                "body": body if isinstance(body, str) else json.dumps(body),
                "attributes": {"ApproximateReceiveCount": str(receives)},
                "eventSource": "aws:sqs",
                "eventSourceARN": source.arn,
            }
            for number, body in enumerate(bodies)
        ]
        context = SimpleNamespace(get_remaining_time_in_millis=lambda: remaining_ms)
        answer = export.lambda_handler({"Records": records}, context)
        return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]

    yield invoke
    export._worker.cache_clear()


def receipt_handle(queue):
    """The receipt handle of a message that the queue hides while it is processed."""
    queue.client.send_message(QueueUrl=queue.url, MessageBody="a message in process")
    (message,) = queue.client.receive_message(QueueUrl=queue.url, VisibilityTimeout=600)["Messages"]
    return message["ReceiptHandle"]


def event(detail_type, image_set, spelling="imagesetId", **detail):
    """The sample event of HealthImaging's developer guide for this image set; its ARN still names another one."""
    sample = image_set_event(detail_type)
    sample["detail"].pop("imagesetId")
    sample["detail"] |= {spelling: image_set.image_set_id, "datastoreId": image_set.datastore_id, **detail}
    return sample


def visibility_changes(operation="ChangeMessageVisibility"):
    """A list that collects the parameters of later calls that change the visibility of messages."""
    found = []
    clients.sqs().meta.events.register(
        f"provide-client-params.sqs.{operation}", lambda params, **_: found.append(params)
    )
    return found
