"""Messages of the export queue that the export function processes."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest

from framegate.aws import clients
from framegate.identifiers import FrameRef
from framegate.messages import ExportOrder, StoreFrame, UnknownMessageError, encode
from framegate.time_budget import TimeBudget
from local.health_imaging import Fault
from tests.unit.conftest import BUCKET, SERVED, TestQueue
from tests.unit.export_invocations import RECHECK_SECONDS, event, export_function
from tests.unit.exporting import add_image_set, content, is_exported, keys, manifest_lines, outcomes


@pytest.fixture
def invoke(health_imaging, s3, queue, deferred_store_queue, monkeypatch):
    with export_function(queue, deferred_store_queue, monkeypatch) as call:
        yield call


# Events of HealthImaging


@pytest.mark.parametrize("detail_type", ["Image Set Created", "Image Set Updated", "Image Set Copied"])
@pytest.mark.parametrize("spelling", ["imagesetId", "imageSetId"])
def test_event_exports_the_image_set_in_its_detail(s3, health_imaging, invoke, queue, detail_type, spelling):
    image_set, frames = add_image_set(health_imaging, 3)
    assert invoke(event(detail_type, image_set, spelling)) == []
    assert is_exported(s3, health_imaging, image_set, frames)
    assert queue.received() == []


def test_repeated_event_copies_each_frame_once(s3, health_imaging, invoke):
    image_set, frames = add_image_set(health_imaging, 3)
    assert invoke(*[event("Image Set Created", image_set)] * 5) == []
    assert is_exported(s3, health_imaging, image_set, frames)
    copied = [call for call in health_imaging.calls if call.operation == "GetImageFrame"]
    # Each frame is copied once, and each of the five exports fetches the smallest frame to check for a deletion.
    assert len(copied) == 3 + 5


def test_each_version_has_its_own_manifest(s3, health_imaging, invoke):
    image_set, frames = add_image_set(health_imaging, 1)
    metadata = health_imaging.stores.image_set(SERVED, image_set.image_set_id)
    metadata.versions.append(json.loads(json.dumps(metadata.versions[-1])))
    added = health_imaging.add_frame(SERVED, b"added", "image/jph", image_set_id=image_set.image_set_id)
    invoke(event("Image Set Created", image_set), event("Image Set Updated", image_set, imageSetVersion="2"))
    assert len(manifest_lines(s3, image_set, "version-1")) == 1
    assert outcomes(manifest_lines(s3, image_set, "version-2")) == ["present", "copied"]
    assert is_exported(s3, health_imaging, image_set, [*frames, added], "version-2")


@pytest.mark.parametrize("version", [None, "", "../../frames", "1/2", "²", "1" * 11, True, 1.0, ["1"], {"1": 1}])
def test_event_without_a_version_exports_the_latest(s3, health_imaging, invoke, version):
    image_set, frames = add_image_set(health_imaging, 1)
    assert invoke(event("Image Set Created", image_set, imageSetVersion=version)) == []
    assert is_exported(s3, health_imaging, image_set, frames, "version-latest")


def latest(s3, image_set):
    """The version that the index has noted as the latest, and whether it needs no check."""
    key = f"indexes/{image_set.datastore_id}/{image_set.image_set_id}/latest.json"
    if key not in keys(s3):
        return None
    noted = json.loads(content(s3, key))
    return noted["versionId"], time.time() - noted["checkedAt"] < 60


@pytest.mark.parametrize("kind", ["Updated", "Copied"])
@pytest.mark.parametrize("known", [None, "1"])
def test_version_from_an_event_without_an_export_is_noted_unconfirmed(
    s3, health_imaging, invoke, monkeypatch, log_lines, frame_index, kind, known
):
    monkeypatch.setenv("FRAMEGATE_EXPORT_EVENTS", "Created")
    image_set, _ = add_image_set(health_imaging, 3)
    if known:
        frame_index.note_version(image_set, known, TimeBudget(60), confirmed=True)

    assert invoke(event(f"Image Set {kind}", image_set, imageSetVersion="2")) == []
    assert latest(s3, image_set) == ("2", False)
    assert list(health_imaging.calls) == []
    assert [line["message"] for line in log_lines()] == ["image set changed"]


@pytest.mark.parametrize("kind", ["Created", "Updated", "Copied"])
def test_exported_version_is_noted_confirmed(s3, health_imaging, invoke, frame_index, kind):
    image_set, _ = add_image_set(health_imaging, 3)
    assert invoke(event(f"Image Set {kind}", image_set)) == []
    assert latest(s3, image_set) == ("1", True)

    assert frame_index.version(image_set, None, TimeBudget(60)) == "1"
    assert "GetImageSet" not in {call.operation for call in health_imaging.calls}


def add_versions(health_imaging, image_set, count):
    """Add versions with the same frames to an image set."""
    versions = health_imaging.stores.image_set(SERVED, image_set.image_set_id).versions
    versions.extend(json.loads(json.dumps(versions[-1])) for _ in range(count))


def test_newest_version_stays_noted_after_exports_out_of_order(s3, health_imaging, invoke):
    image_set, _ = add_image_set(health_imaging, 1)
    add_versions(health_imaging, image_set, 10)
    for version in ("9", "11", "10", "1"):
        assert invoke(event("Image Set Updated", image_set, imageSetVersion=version)) == []
    assert latest(s3, image_set) == ("11", True)


def test_late_export_does_not_hide_a_newer_version(s3, health_imaging, invoke, monkeypatch, frame_index):
    monkeypatch.setenv("FRAMEGATE_EXPORT_EVENTS", "Created")
    image_set, _ = add_image_set(health_imaging, 1)
    add_versions(health_imaging, image_set, 1)
    invoke(event("Image Set Updated", image_set, imageSetVersion="2"), event("Image Set Created", image_set))
    assert frame_index.version(image_set, None, TimeBudget(60)) == "2"


def test_version_unknown_to_healthimaging_is_not_confirmed(s3, health_imaging, invoke, frame_index):
    image_set, _ = add_image_set(health_imaging, 1)
    assert invoke(event("Image Set Updated", image_set, imageSetVersion="7")) == []
    assert latest(s3, image_set) == ("7", False)
    assert frame_index.version(image_set, None, TimeBudget(60)) == "1"


def test_event_without_a_version_clears_the_noted_version(s3, health_imaging, invoke, frame_index):
    image_set, _ = add_image_set(health_imaging, 1)
    frame_index.note_version(image_set, "1", TimeBudget(60), confirmed=True)
    assert invoke(event("Image Set Updated", image_set, imageSetVersion=None)) == []
    assert latest(s3, image_set) is None


def test_deleted_image_set_is_removed_at_once_and_again_after_a_delay(s3, health_imaging, invoke, queue, log_lines):
    image_set, _ = add_image_set(health_imaging, 3)
    invoke(event("Image Set Created", image_set))
    health_imaging.delete_image_set(SERVED, image_set.image_set_id)
    sent = []
    queue_client = clients.sqs()
    queue_client.meta.events.register("provide-client-params.sqs.SendMessage", lambda params, **_: sent.append(params))
    assert invoke(event("Image Set Deleted", image_set)) == []
    assert keys(s3) == []
    ((body, delay),) = ((json.loads(each["MessageBody"]), each["DelaySeconds"]) for each in sent)
    assert delay == RECHECK_SECONDS

    s3.put_object(Bucket=BUCKET, Key=f"frames/{SERVED}/{image_set.image_set_id}/{'f' * 32}", Body=b"late")
    sent.clear()
    assert invoke(body) == []
    assert (keys(s3), sent) == ([], [])
    # Three frames, the manifest, the frame index and the latest version; then the late frame.
    assert [line["objects"] for line in log_lines() if line["message"] == "image set removed"] == [6, 1]


@pytest.mark.parametrize("kind", ["Created", "Updated"])
def test_change_event_after_a_deletion_leaves_nothing(s3, health_imaging, invoke, kind):
    image_set, _ = add_image_set(health_imaging, 3)
    health_imaging.delete_image_set(SERVED, image_set.image_set_id)
    assert invoke(event("Image Set Deleted", image_set), event(f"Image Set {kind}", image_set)) == []
    assert keys(s3) == []


def test_event_of_another_data_store_is_logged_and_acknowledged(s3, health_imaging, invoke, log_lines):
    other = health_imaging.create_datastore("other")
    image_set, _ = add_image_set(health_imaging, 1, datastore_id=other)
    assert invoke(event("Image Set Created", image_set)) == []
    assert keys(s3) == []
    assert [line["problem"] for line in log_lines() if "problem" in line] == ["datastore-not-served"]
    assert list(health_imaging.calls) == []


# Removals that HealthImaging does not confirm


def remove(image_set, *, again):
    return {
        "framegate": "remove",
        "datastoreId": image_set.datastore_id,
        "imageSetId": image_set.image_set_id,
        "again": again,
    }


@pytest.mark.parametrize("again", [False, True])
def test_removal_of_an_existing_image_set_removes_nothing(s3, health_imaging, invoke, queue, log_lines, again):
    image_set, frames = add_image_set(health_imaging, 3)
    invoke(event("Image Set Created", image_set))
    assert invoke(remove(image_set, again=again)) == []
    assert is_exported(s3, health_imaging, image_set, frames)
    assert [line["level"] for line in log_lines() if line["message"] == "image set exists, nothing removed"] == [
        "WARNING"
    ]


def test_deletion_event_that_healthimaging_confirms_late_is_checked_again(s3, health_imaging, invoke, queue):
    image_set, _ = add_image_set(health_imaging, 3)
    invoke(event("Image Set Created", image_set))
    sent = []
    clients.sqs().meta.events.register("provide-client-params.sqs.SendMessage", lambda params, **_: sent.append(params))
    assert invoke(event("Image Set Deleted", image_set)) == []
    health_imaging.delete_image_set(SERVED, image_set.image_set_id)

    (recheck,) = (json.loads(each["MessageBody"]) for each in sent)
    assert recheck == remove(image_set, again=True)
    assert invoke(recheck) == []
    assert keys(s3) == []


@pytest.mark.parametrize("exists", [False, True])
def test_removal_from_another_data_store_asks_and_removes_nothing(s3, health_imaging, invoke, log_lines, exists):
    other = health_imaging.create_datastore("other")
    image_set, _ = add_image_set(health_imaging, 1, datastore_id=other)
    if not exists:
        health_imaging.delete_image_set(other, image_set.image_set_id)
    key = f"frames/{other}/{image_set.image_set_id}/{'f' * 32}"
    s3.put_object(Bucket=BUCKET, Key=key, Body=b"stored earlier")
    health_imaging.calls.clear()

    assert invoke(event("Image Set Deleted", image_set), remove(image_set, again=True)) == []
    assert (keys(s3), list(health_imaging.calls)) == ([key], [])
    assert [line["problem"] for line in log_lines() if "problem" in line] == ["datastore-not-served"] * 2


@pytest.mark.parametrize("error", ["ThrottlingException", "AccessDeniedException", "InternalServerException"])
def test_removal_that_healthimaging_does_not_answer_is_retried(s3, health_imaging, invoke, error):
    image_set, _ = add_image_set(health_imaging, 3)
    invoke(event("Image Set Created", image_set))
    health_imaging.delete_image_set(SERVED, image_set.image_set_id)
    health_imaging.faults.arm(Fault(operation="GetImageSet", error=error))
    assert invoke(event("Image Set Deleted", image_set)) == ["message-0"]
    assert len(keys(s3, "frames/")) == 3

    health_imaging.faults.clear()
    assert invoke(event("Image Set Deleted", image_set), receives=2) == []
    assert keys(s3) == []


@pytest.mark.parametrize(("state", "status"), [("LOCKED", "CREATED"), ("LOCKED", "DELETING"), ("ACTIVE", "DELETING")])
def test_removal_waits_until_healthimaging_has_deleted_the_image_set(
    s3, health_imaging, invoke, log_lines, state, status
):
    image_set, _ = add_image_set(health_imaging, 3)
    invoke(event("Image Set Created", image_set))
    stored = health_imaging.stores.image_set(SERVED, image_set.image_set_id)
    stored.state, stored.history[1] = state, replace(stored.properties(1), workflow_status=status)
    assert invoke(event("Image Set Deleted", image_set)) == ["message-0"]
    assert (len(keys(s3, "frames/")), log_lines()[-1]["problem"]) == (3, "conflict")

    stored.state = "DELETED"
    assert invoke(event("Image Set Deleted", image_set), receives=2) == []
    assert keys(s3) == []


def test_removal_is_retried_if_the_state_of_the_image_set_is_unknown(s3, health_imaging, invoke, log_lines):
    image_set, _ = add_image_set(health_imaging, 3)
    invoke(event("Image Set Created", image_set))
    health_imaging.stores.image_set(SERVED, image_set.image_set_id).state = "SOMETHING"
    assert invoke(event("Image Set Deleted", image_set)) == ["message-0"]
    assert (len(keys(s3, "frames/")), log_lines()[-1]["problem"]) == (3, "upstream-failed")


def test_bulk_deletion_makes_one_call_for_each_removal(s3, health_imaging, invoke):
    image_sets = [add_image_set(health_imaging, 1)[0] for _ in range(20)]
    for each in image_sets:
        health_imaging.delete_image_set(SERVED, each.image_set_id)
    health_imaging.calls.clear()
    for first in range(0, 20, 5):
        assert invoke(*(event("Image Set Deleted", each) for each in image_sets[first : first + 5])) == []
    assert [call.operation for call in health_imaging.calls] == ["GetImageSet"] * 20


# Queues


def test_queue_accepts_only_its_own_messages(s3, health_imaging, invoke, deferred_store_queue, log_lines):
    image_set, (frame,) = add_image_set(health_imaging, 1)
    store = json.loads(encode(StoreFrame(FrameRef(SERVED, image_set.image_set_id, frame.image_frame_id))))
    order = json.loads(encode(ExportOrder.of_version(image_set, "1", verify=False)))
    exports = [event("Image Set Created", image_set), event("Image Set Deleted", image_set), order]
    exports.append(remove(image_set, again=True))

    assert invoke(store) == ["message-0"]
    failed = invoke(*exports, source=deferred_store_queue)
    assert failed == [f"message-{number}" for number in range(4)]
    assert {line["reason"] for line in log_lines()} == {"The message belongs to another queue."}
    assert (keys(s3), list(health_imaging.calls)) == ([], [])


def test_batch_from_an_unknown_queue_is_rejected(invoke, sqs_client):
    url = sqs_client.create_queue(QueueName="another")["QueueUrl"]
    with pytest.raises(UnknownMessageError, match="a queue that the function does not know"):
        invoke("{}", source=TestQueue(sqs_client, url))


def test_deferred_store_returns_to_its_own_queue_when_time_is_short(
    health_imaging, invoke, deferred_stores, deferred_store_queue, queue
):
    image_set, (frame,) = add_image_set(health_imaging, 1)
    deferred_stores.enqueue(FrameRef(SERVED, image_set.image_set_id, frame.image_frame_id), TimeBudget(60))
    messages = deferred_store_queue.received()
    assert invoke(*messages, source=deferred_store_queue, remaining_ms=4_000) == []
    assert (deferred_store_queue.received(), queue.received()) == (messages, [])


# Several invocations


def test_large_image_set_continues_with_queue_messages(s3, health_imaging, invoke, queue):
    image_set, frames = add_image_set(health_imaging, 60)
    health_imaging.faults.arm(Fault(latency=0.4))
    bodies, invocations = [event("Image Set Created", image_set)], 0
    while bodies:
        assert invoke(*bodies, remaining_ms=8_500) == []
        bodies, invocations = queue.received(), invocations + 1
    assert invocations > 1
    health_imaging.faults.clear()
    assert is_exported(s3, health_imaging, image_set, frames)


def test_message_returns_to_the_queue_unchanged_when_time_is_short(s3, health_imaging, invoke, queue):
    image_set, _ = add_image_set(health_imaging, 1)
    message = event("Image Set Created", image_set)
    assert invoke(message, remaining_ms=4_000) == []
    assert queue.received() == [message]
    assert keys(s3) == []


# Deferred frames


def test_deferred_frame_is_stored(s3, health_imaging, invoke, deferred_stores, deferred_store_queue):
    image_set, (frame,) = add_image_set(health_imaging, 1)
    deferred_stores.enqueue(FrameRef(SERVED, image_set.image_set_id, frame.image_frame_id), TimeBudget(60))
    assert invoke(*deferred_store_queue.received(), source=deferred_store_queue) == []
    assert keys(s3) == [f"frames/{SERVED}/{image_set.image_set_id}/{frame.image_frame_id}"]


def test_deferred_frame_that_does_not_exist_is_logged_and_acknowledged(
    s3, health_imaging, invoke, deferred_stores, deferred_store_queue, log_lines
):
    image_set, _ = add_image_set(health_imaging, 1)
    deferred_stores.enqueue(FrameRef(SERVED, image_set.image_set_id, "0" * 32), TimeBudget(60))
    assert invoke(*deferred_store_queue.received(), source=deferred_store_queue) == []
    assert keys(s3) == []
    assert "frame-not-found" in [line.get("problem") for line in log_lines()]


def test_deferred_frame_with_a_transient_problem_is_retried(
    health_imaging, invoke, deferred_stores, deferred_store_queue
):
    image_set, (frame,) = add_image_set(health_imaging, 1)
    deferred_stores.enqueue(FrameRef(SERVED, image_set.image_set_id, frame.image_frame_id), TimeBudget(60))
    health_imaging.faults.arm(Fault(then="reset"))
    assert invoke(*deferred_store_queue.received(), source=deferred_store_queue) == ["message-0"]


# Logs and metrics


def test_export_writes_one_log_line_and_one_set_of_metrics(health_imaging, invoke, log_lines, capsys):
    image_set, frames = add_image_set(health_imaging, 3)
    invoke(event("Image Set Created", image_set))
    (line,) = log_lines()
    assert line["message"] == "export completed"
    assert (line["datastore_id"], line["image_set_id"]) == (SERVED, image_set.image_set_id)
    assert line["frames"] == {"copied": 3, "present": 0, "failed": 0}
    written = [json.loads(each) for each in capsys.readouterr().out.splitlines()]
    (emf,) = [each for each in written if "_aws" in each and "ColdStarts" not in each]
    assert (emf["ExportsCompleted"], emf["FramesCopied"], emf["FramesFailed"]) == ([1.0], [3.0], [0.0])
    assert emf["ExportedBytes"] == [float(sum(len(health_imaging.content(frame)) for frame in frames))]


def test_log_contains_no_sop_instance_uids(health_imaging, invoke, log_lines, s3):
    image_set, _ = add_image_set(health_imaging, 2)
    invoke(event("Image Set Created", image_set))
    for line in manifest_lines(s3, image_set):
        assert line["sopInstanceUID"] not in json.dumps(log_lines())


# Audit records


def audit_records(capsys):
    return [line for line in map(json.loads, capsys.readouterr().out.splitlines()) if "audit" in line]


def test_export_leaves_audit_records_of_what_it_read(health_imaging, invoke, capsys):
    image_set, frames = add_image_set(health_imaging, 3)
    invoke(event("Image Set Created", image_set))
    first, last = audit_records(capsys)

    assert (first["audit"], first["principal"], last["requestId"]) == (
        "request",
        "framegate:export",
        first["requestId"],
    )
    assert (last["datastoreId"], last["imageSetId"]) == (SERVED, image_set.image_set_id)
    assert (last["audit"], last["delivery"], last["status"], last["frames"]) == ("answer", "export", "completed", 3)
    assert last["bytes"] == sum(len(health_imaging.content(frame)) for frame in frames)


def test_export_that_stops_leaves_audit_records(health_imaging, invoke, capsys, monkeypatch):
    image_set, _ = add_image_set(health_imaging, 2)

    def crash(*_arguments, **_options):
        raise RuntimeError

    monkeypatch.setattr("framegate.export.exporter.CopyRun.run", crash)
    invoke(event("Image Set Created", image_set))
    first, last = audit_records(capsys)

    assert (first["audit"], first["imageSetId"]) == ("request", image_set.image_set_id)
    assert (last["status"], last["frames"], last["bytes"]) == ("failed", 0, 0)
