"""The table function: batches of messages as Lambda delivers them, partial failures, and refreshes."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from framegate.entrypoints import tables
from framegate.identifiers import FrameRef, ImageSetRef
from framegate.messages import RefreshTables, StoreFrame, UnknownMessageError, UpdateTables, encode
from framegate.storage.image_set_remover import ImageSetRemover
from framegate.time_budget import TimeBudget
from local.health_imaging import Fault
from tests.documented_events import documented
from tests.unit import exporting
from tests.unit.conftest import BUCKET, SERVED, forget_clients
from tests.unit.export_invocations import receipt_handle, visibility_changes
from tests.unit.exporting import add_image_set, keys, order_for
from tests.unit.tabling import assert_tables_agree, etags, tabled

pace, exporter = exporting.pace, exporting.exporter


def s3_event(key, detail_type="Object Created"):
    """The sample event of S3's user guide, for a key."""
    event = documented("s3-object-created") | {"detail-type": detail_type}
    event["detail"]["object"]["key"] = key
    return event


@pytest.fixture
def invoke(s3, health_imaging, queue, monkeypatch):
    """Invokes the function with messages; returns the ids of those that failed."""
    environment = {
        "FRAMEGATE_DATASTORE_IDS": SERVED,
        "FRAMEGATE_FRAME_BUCKET": BUCKET,
        "FRAMEGATE_TABLE_QUEUE_URL": queue.url,
        "FRAMEGATE_UID_HASH_SECRET": "secret",
        "FRAMEGATE_DATASET_COLUMNS": "",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(tables, "CALLS_PER_SECOND", 1000.0)

    def forget():
        forget_clients()
        tables._worker.cache_clear()
        tables._queue.cache_clear()

    forget()

    def call(*bodies, remaining_ms=60_000, receives=1):
        records = [
            {
                "messageId": f"message-{number}",
                "receiptHandle": receipt_handle(queue),
                "body": body if isinstance(body, str) else json.dumps(body),
                "attributes": {"ApproximateReceiveCount": str(receives)},
                "eventSource": "aws:sqs",
            }
            for number, body in enumerate(bodies)
        ]
        context = SimpleNamespace(get_remaining_time_in_millis=lambda: remaining_ms)
        answer = tables.lambda_handler({"Records": records}, context)
        return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]

    yield call
    forget()


@pytest.fixture
def exports(s3, health_imaging, exporter):
    """Three exported image sets."""
    image_sets = [add_image_set(health_imaging, frames=2)[0] for _ in range(3)]
    for image_set in image_sets:
        exporter.export(order_for(image_set), TimeBudget(60))
    return image_sets


def manifest_of(image_set):
    return f"exports/{SERVED}/{image_set.image_set_id}/version-1/manifest.jsonl"


def test_events_of_manifests_fill_the_tables(s3, exports, invoke):
    assert invoke(*(s3_event(manifest_of(each)) for each in exports)) == []
    assert len(tabled(s3)) == 3
    assert_tables_agree(s3)


def test_events_of_removed_objects_empty_the_tables(s3, exports, invoke, objects, health_imaging):
    invoke(*(s3_event(manifest_of(each)) for each in exports))
    gone = exports[0]
    removed = [key for key in keys(s3) if gone.image_set_id in key and not key.startswith("tables/")]
    health_imaging.delete_image_set(SERVED, gone.image_set_id)
    ImageSetRemover(objects).remove(gone, TimeBudget(60))
    assert invoke(*(s3_event(key, "Object Deleted") for key in removed if not key.startswith("indexes/"))) == []
    assert gone.image_set_id not in tabled(s3)
    assert_tables_agree(s3)


def test_messages_about_one_image_set_cause_one_update(exports, invoke, health_imaging):
    health_imaging.calls.clear()
    invoke(*[s3_event(manifest_of(exports[0]))] * 20)
    assert [call.operation for call in health_imaging.calls] == ["GetImageSetMetadata"]


def test_only_the_messages_of_failed_image_sets_come_again(s3, exports, invoke, health_imaging):
    changes = visibility_changes("ChangeMessageVisibilityBatch")
    health_imaging.faults.arm(
        Fault("GetImageSetMetadata", error="AccessDeniedException", image_set_id=exports[1].image_set_id)
    )
    both = encode(UpdateTables((exports[0], exports[1])))
    failed = invoke(s3_event(manifest_of(exports[1])), s3_event(manifest_of(exports[2])), both, receives=3)
    assert failed == ["message-0", "message-2"]
    assert [entry["VisibilityTimeout"] for each in changes for entry in each["Entries"]] == [80, 80]
    assert tabled(s3).keys() == {exports[0].image_set_id, exports[2].image_set_id}
    health_imaging.faults.clear()
    assert invoke(s3_event(manifest_of(exports[1])), both) == []
    assert_tables_agree(s3)


def test_message_of_unknown_form_fails_alone(s3, exports, invoke):
    bodies = ["no JSON", s3_event("exports/short"), s3_event(manifest_of(exports[0])), {"framegate": "update-tables"}]
    assert invoke(*bodies) == ["message-0", "message-1", "message-3"]
    assert tabled(s3).keys() == {exports[0].image_set_id}


def test_message_of_another_queue_fails(exports, invoke):
    assert invoke(encode(StoreFrame(FrameRef(SERVED, "5" * 32, "f" * 32)))) == ["message-0"]


def test_other_data_stores_are_ignored(s3, invoke, log_lines):
    other = ImageSetRef("e" * 32, "5" * 32)
    assert invoke(encode(UpdateTables((other,))), encode(RefreshTables("e" * 32))) == []
    assert keys(s3) == []
    assert sum(line["message"] == "data store not served" for line in log_lines()) == 2


def test_image_sets_for_which_the_time_is_too_short_go_back_to_the_queue(
    s3, exports, invoke, queue, health_imaging, monkeypatch
):
    monkeypatch.setattr("framegate.tables.updater.MAX_IMAGE_SETS_PER_WRITE", 1)
    slow = exports[2].image_set_id
    health_imaging.faults.arm(Fault("GetImageSetMetadata", latency=30, image_set_id=slow))
    assert invoke(*(s3_event(manifest_of(each)) for each in exports), remaining_ms=12_000) == []
    health_imaging.faults.clear()
    queued = [message for message in queue.received() if message.get("framegate")]
    assert [each["imageSetId"] for message in queued for each in message["imageSets"]] == [slow]
    invoke(*queued)
    assert_tables_agree(s3)


def test_image_set_that_no_invocation_can_finish_fails(s3, exports, invoke, health_imaging):
    health_imaging.faults.arm(Fault("GetImageSetMetadata", latency=30))
    assert invoke(s3_event(manifest_of(exports[0])), remaining_ms=5_000) == ["message-0"]
    health_imaging.faults.clear()


def test_refresh_finds_exports_from_before_the_tables_and_rows_without_exports(s3, exports, invoke, queue):
    invoke(s3_event(manifest_of(exports[0])))
    for key in keys(s3, f"exports/{SERVED}/{exports[0].image_set_id}/"):
        # The event of this removal is lost.
        s3.delete_object(Bucket=BUCKET, Key=key)
    queue.receive()
    assert invoke(encode(RefreshTables(SERVED))) == []
    invoke(*(message for message in queue.received() if message.get("framegate")))
    assert tabled(s3).keys() == {exports[1].image_set_id, exports[2].image_set_id}
    assert_tables_agree(s3)


def test_long_refresh_continues_with_another_message(s3, invoke, queue, monkeypatch):
    image_sets = [f"{number:032d}" for number in range(5)]
    for each in image_sets:
        s3.put_object(Bucket=BUCKET, Key=f"exports/{SERVED}/{each}/version-1/manifest.jsonl", Body=b"")
        s3.put_object(Bucket=BUCKET, Key=f"exports/{SERVED}/{each}/version-2/manifest.jsonl", Body=b"")
    monkeypatch.setattr("framegate.tables.worker.MAX_IMAGE_SETS_PER_MESSAGE", 2)
    monkeypatch.setattr("framegate.tables.worker.REFRESH_SHARE", 0.0)
    pending, found = [encode(RefreshTables(SERVED))], []
    while pending:
        invoke(*pending)
        messages = [message for message in queue.received() if message.get("framegate")]
        found += [each["imageSetId"] for message in messages for each in message.get("imageSets", [])]
        pending = [message for message in messages if message["framegate"] == "refresh-tables"]
    assert set(found) == set(image_sets)
    assert len(found) == len(image_sets)


def test_event_without_messages_is_not_understood(invoke):
    with pytest.raises(UnknownMessageError):
        tables.lambda_handler({"detail": {}}, SimpleNamespace(get_remaining_time_in_millis=lambda: 1000))


def test_logs_have_no_attribute(s3, exports, invoke, log_lines):
    before = etags(s3)
    invoke(*(s3_event(manifest_of(each)) for each in exports))
    assert etags(s3) != before
    (line,) = [line for line in log_lines() if line["message"] == "tables updated"]
    assert {name: line[name] for name in ("written", "removed", "unchanged", "failed", "unfinished")} == {
        "written": 3,
        "removed": 0,
        "unchanged": 0,
        "failed": 0,
        "unfinished": 0,
    }


def test_unreachable_bucket_fails_the_messages(s3, exports, invoke, s3_server):
    with s3_server.refusing("GetObject", 403, "AccessDenied"):
        assert invoke(s3_event(manifest_of(exports[0]))) == ["message-0"]
