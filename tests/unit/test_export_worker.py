"""Messages of the export queue, as Lambda hands them to the function."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from framegate.aws import clients
from framegate.aws.event_bus import EventBus
from framegate.aws.export_queue import ExportQueue
from framegate.entrypoints import export, export_parts
from framegate.export.copying import FrameCopier
from framegate.export.report import UnforeseenError
from framegate.export.worker import KILLED_RETRY_SECONDS
from framegate.healthimaging.client import HealthImaging
from framegate.identifiers import FrameRef
from framegate.messages import UnknownMessageError, decode
from framegate.settings import ExportSettings
from framegate.storage.object_store import ObjectStore
from framegate.time_budget import TimeBudget
from local.health_imaging import Fault
from tests.documented_events import image_set_event
from tests.unit.conftest import BUCKET, SERVED, forget_clients
from tests.unit.exporting import add_image_set, content, is_exported, keys, manifest_lines, outcomes

RECHECK = 33


@pytest.fixture
def queue_url(queue):
    return queue.url


@pytest.fixture
def invoke(health_imaging, s3, queue, monkeypatch):
    """Hands messages to the handler as Lambda does; returns the ids of those that failed.

    The clients are the product's own, made with moto in the place of AWS.
    """
    monkeypatch.setenv("FRAMEGATE_DATASTORE_IDS", SERVED)
    monkeypatch.setenv("FRAMEGATE_FRAME_BUCKET", BUCKET)
    monkeypatch.setenv("FRAMEGATE_EVENT_BUS", "default")
    monkeypatch.setenv("FRAMEGATE_EXPORT_RATE", "10000")
    monkeypatch.setenv("FRAMEGATE_VERIFY", "false")
    monkeypatch.setenv("FRAMEGATE_EXPORT_EVENTS", "Created,Updated,Copied")
    monkeypatch.setenv("FRAMEGATE_EXPORT_QUEUE_URL", queue.url)
    monkeypatch.setenv("FRAMEGATE_REMOVAL_RECHECK_SECONDS", str(RECHECK))
    monkeypatch.setattr(export_parts, "WORKERS", 4)
    forget_clients()
    export._worker.cache_clear()

    def call(*bodies, remaining_ms=60_000, receives=1):
        records = [
            {
                "messageId": f"message-{number}",
                "receiptHandle": receipt(queue),
                "body": body if isinstance(body, str) else json.dumps(body),
                "attributes": {"ApproximateReceiveCount": str(receives)},
                "eventSource": "aws:sqs",
            }
            for number, body in enumerate(bodies)
        ]
        context = SimpleNamespace(get_remaining_time_in_millis=lambda: remaining_ms)
        answer = export.lambda_handler({"Records": records}, context)
        return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]

    yield call
    export._worker.cache_clear()


def receipt(queue):
    """The receipt handle of a message that is being worked off."""
    queue.client.send_message(QueueUrl=queue.url, MessageBody="being worked off")
    (message,) = queue.client.receive_message(QueueUrl=queue.url, VisibilityTimeout=600)["Messages"]
    return message["ReceiptHandle"]


def event(detail_type, image_set, spelling="imagesetId", **detail):
    """The sample of HealthImaging's developer guide, for this image set: its ARN still names another."""
    sample = image_set_event(detail_type)
    sample["detail"].pop("imagesetId")
    sample["detail"] |= {spelling: image_set.image_set_id, "datastoreId": image_set.datastore_id, **detail}
    return sample


# Events


@pytest.mark.parametrize("detail_type", ["Image Set Created", "Image Set Updated", "Image Set Copied"])
@pytest.mark.parametrize("spelling", ["imagesetId", "imageSetId"])
def test_event_exports_the_image_set_of_its_detail(s3, health_imaging, invoke, queue, detail_type, spelling):
    image_set, frames = add_image_set(health_imaging, 3)
    assert invoke(event(detail_type, image_set, spelling)) == []
    assert is_exported(s3, health_imaging, image_set, frames)
    assert queue.received() == []


def test_same_event_five_times_is_one_export(s3, health_imaging, invoke):
    image_set, frames = add_image_set(health_imaging, 3)
    assert invoke(*[event("Image Set Created", image_set)] * 5) == []
    assert is_exported(s3, health_imaging, image_set, frames)
    copied = [call for call in health_imaging.calls if call.operation == "GetImageFrame"]
    # Three frames, and for each event the smallest once more.
    assert len(copied) == 3 + 5


def test_each_version_has_its_manifest(s3, health_imaging, invoke):
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
    """What the index has noted of the latest version: which, and whether that needs no check."""
    key = f"indexes/{image_set.datastore_id}/{image_set.image_set_id}/latest.json"
    if key not in keys(s3):
        return None
    noted = json.loads(content(s3, key))
    return noted["versionId"], time.time() - noted["checkedAt"] < 60


@pytest.mark.parametrize("kind", ["Updated", "Copied"])
@pytest.mark.parametrize("known", [None, "1"])
def test_version_of_an_event_that_is_not_exported_has_to_be_checked(
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
def test_index_needs_no_look_at_an_image_set_whose_version_was_exported(s3, health_imaging, invoke, frame_index, kind):
    image_set, _ = add_image_set(health_imaging, 3)
    assert invoke(event(f"Image Set {kind}", image_set)) == []
    assert latest(s3, image_set) == ("1", True)

    assert frame_index.version(image_set, None, TimeBudget(60)) == "1"
    assert "GetImageSet" not in {call.operation for call in health_imaging.calls}


def add_versions(health_imaging, image_set, count):
    """Further versions of an image set, with the same frames."""
    versions = health_imaging.stores.image_set(SERVED, image_set.image_set_id).versions
    versions.extend(json.loads(json.dumps(versions[-1])) for _ in range(count))


def test_versions_that_are_exported_out_of_order_leave_the_newest_noted(s3, health_imaging, invoke):
    image_set, _ = add_image_set(health_imaging, 1)
    add_versions(health_imaging, image_set, 10)
    for version in ("9", "11", "10", "1"):
        assert invoke(event("Image Set Updated", image_set, imageSetVersion=version)) == []
    assert latest(s3, image_set) == ("11", True)


def test_export_that_is_late_does_not_hide_a_newer_version_that_is_not_exported(
    s3, health_imaging, invoke, monkeypatch, frame_index
):
    monkeypatch.setenv("FRAMEGATE_EXPORT_EVENTS", "Created")
    image_set, _ = add_image_set(health_imaging, 1)
    add_versions(health_imaging, image_set, 1)
    invoke(event("Image Set Updated", image_set, imageSetVersion="2"), event("Image Set Created", image_set))
    assert frame_index.version(image_set, None, TimeBudget(60)) == "2"


def test_version_that_healthimaging_does_not_have_is_not_confirmed(s3, health_imaging, invoke, frame_index):
    image_set, _ = add_image_set(health_imaging, 1)
    assert invoke(event("Image Set Updated", image_set, imageSetVersion="7")) == []
    assert latest(s3, image_set) == ("7", False)
    assert frame_index.version(image_set, None, TimeBudget(60)) == "1"


def test_event_without_a_version_leaves_nothing_noted(s3, health_imaging, invoke, frame_index):
    image_set, _ = add_image_set(health_imaging, 1)
    frame_index.note_version(image_set, "1", TimeBudget(60), confirmed=True)
    assert invoke(event("Image Set Updated", image_set, imageSetVersion=None)) == []
    assert latest(s3, image_set) is None


def test_deleted_image_set_is_removed_now_and_once_more_later(s3, health_imaging, invoke, queue, log_lines):
    image_set, _ = add_image_set(health_imaging, 3)
    invoke(event("Image Set Created", image_set))
    health_imaging.delete_image_set(SERVED, image_set.image_set_id)
    sent = []
    queue_client = clients.sqs()
    queue_client.meta.events.register("provide-client-params.sqs.SendMessage", lambda params, **_: sent.append(params))
    assert invoke(event("Image Set Deleted", image_set)) == []
    assert keys(s3) == []
    ((body, delay),) = ((json.loads(each["MessageBody"]), each["DelaySeconds"]) for each in sent)
    assert delay == RECHECK

    s3.put_object(Bucket=BUCKET, Key=f"frames/{SERVED}/{image_set.image_set_id}/{'f' * 32}", Body=b"late")
    sent.clear()
    assert invoke(body) == []
    assert (keys(s3), sent) == ([], [])
    assert [line["objects"] for line in log_lines() if line["message"] == "image set removed"] == [5, 1]


@pytest.mark.parametrize("kind", ["Created", "Updated"])
def test_deleted_before_a_change_is_done_leaves_nothing(s3, health_imaging, invoke, kind):
    image_set, _ = add_image_set(health_imaging, 3)
    health_imaging.delete_image_set(SERVED, image_set.image_set_id)
    assert invoke(event("Image Set Deleted", image_set), event(f"Image Set {kind}", image_set)) == []
    assert keys(s3) == []


def test_data_store_that_is_not_served_is_recorded_and_acknowledged(s3, health_imaging, invoke, log_lines):
    other = health_imaging.create_datastore("other")
    image_set, _ = add_image_set(health_imaging, 1, datastore_id=other)
    assert invoke(event("Image Set Created", image_set)) == []
    assert keys(s3) == []
    assert [line["problem"] for line in log_lines() if "problem" in line] == ["datastore-not-served"]
    assert list(health_imaging.calls) == []


# More than one invocation


def test_large_image_set_goes_on_by_messages(s3, health_imaging, invoke, queue):
    image_set, frames = add_image_set(health_imaging, 60)
    health_imaging.faults.arm(Fault(latency=0.4))
    bodies, invocations = [event("Image Set Created", image_set)], 0
    while bodies:
        assert invoke(*bodies, remaining_ms=8_500) == []
        bodies, invocations = queue.received(), invocations + 1
    assert invocations > 1
    health_imaging.faults.clear()
    assert is_exported(s3, health_imaging, image_set, frames)


@pytest.mark.parametrize("remaining_ms", [4_000, 60_000])
@pytest.mark.parametrize("body", ["not JSON", "[]", "[" * 100_000, '"text"', "null", "", "NaN", "1" * 5000])
def test_message_without_a_json_object_is_not_understood(invoke, log_lines, capsys, body, remaining_ms):
    assert invoke(body, remaining_ms=remaining_ms) == ["message-0"]
    assert [line["message"] for line in log_lines()] == ["message not understood"]
    assert '"ExportRetries":[1.0]' in capsys.readouterr().out


def test_message_for_which_no_time_is_left_goes_back_as_it_is(s3, health_imaging, invoke, queue):
    image_set, _ = add_image_set(health_imaging, 1)
    message = event("Image Set Created", image_set)
    assert invoke(message, remaining_ms=4_000) == []
    assert queue.received() == [message]
    assert keys(s3) == []


# What fails


def test_one_message_that_fails_does_not_take_the_others_along(s3, health_imaging, invoke):
    (good, frames), (bad, _), (other, other_frames) = (add_image_set(health_imaging, 2) for _ in range(3))
    fault = Fault(operation="GetImageSetMetadata", error="InternalServerException", image_set_id=bad.image_set_id)
    health_imaging.faults.arm(fault)
    assert invoke(*(event("Image Set Created", each) for each in (good, bad, other))) == ["message-1"]
    assert is_exported(s3, health_imaging, good, frames)
    assert is_exported(s3, health_imaging, other, other_frames)


def test_batch_that_fails_as_a_whole_is_answered_and_not_raised(health_imaging, invoke):
    image_set, _ = add_image_set(health_imaging, 1)
    health_imaging.faults.arm(Fault(operation="GetImageSetMetadata", error="InternalServerException"))
    assert invoke(*[event("Image Set Created", image_set)] * 2) == ["message-0", "message-1"]


def test_failure_is_logged_with_its_cause_and_the_message(health_imaging, invoke, log_lines):
    image_set, _ = add_image_set(health_imaging, 1)
    health_imaging.faults.arm(Fault(operation="GetImageSetMetadata", error="AccessDeniedException"))
    invoke(event("Image Set Created", image_set), receives=3)
    (line,) = [line for line in log_lines() if line["level"] == "ERROR"]
    assert line["correlation_id"] == "message-0"
    assert (line["problem"], line["upstream_error"], line["receives"]) == ("access-denied", "AccessDeniedException", 3)


@pytest.mark.parametrize(("receives", "seconds"), [(1, 20), (2, 40), (5, 320), (9, 900)])
def test_message_that_failed_comes_again_later_each_time(health_imaging, invoke, receives, seconds):
    image_set, _ = add_image_set(health_imaging, 1)
    health_imaging.faults.arm(Fault(operation="GetImageSetMetadata", error="InternalServerException"))
    put_off = []
    clients.sqs().meta.events.register(
        "provide-client-params.sqs.ChangeMessageVisibility", lambda params, **_: put_off.append(params)
    )
    invoke(event("Image Set Created", image_set), receives=receives)
    assert [each["VisibilityTimeout"] for each in put_off] == [seconds]


@pytest.mark.parametrize("name", ["version-1/manifest.jsonl", "progress", "../x/progress/1.jsonl"])
@pytest.mark.parametrize("own", [False, True])
def test_message_cannot_name_anything_but_progress_of_its_image_set(s3, health_imaging, invoke, name, own):
    mine, theirs = (add_image_set(health_imaging, 1)[0] for _ in range(2))
    assert invoke(event("Image Set Created", mine), event("Image Set Created", theirs)) == []
    before = keys(s3)
    named = mine if own else theirs
    message = {
        "framegate": "export",
        "datastoreId": mine.datastore_id,
        "imageSetId": mine.image_set_id,
        "exportId": "version-1",
        "versionId": "1",
        "imageFrameIds": None,
        "verify": False,
        "progress": f"exports/{named.datastore_id}/{named.image_set_id}/{name}",
    }
    assert invoke(message) == ["message-0"]
    assert keys(s3) == before


# What nobody foresaw


def visibility_changes(operation="ChangeMessageVisibility"):
    """The calls that change how long a message is hidden, from now on."""
    found = []
    clients.sqs().meta.events.register(
        f"provide-client-params.sqs.{operation}", lambda params, **_: found.append(params)
    )
    return found


FAULTS = {
    "reading metadata": (HealthImaging, "fetch_metadata"),
    "copying a frame": (FrameCopier, "copy"),
    "listing frames": (ObjectStore, "names"),
    "noting the version": (ObjectStore, "put_if_unchanged"),
    "writing a manifest": (ObjectStore, "put"),
    "announcing the result": (EventBus, "announce"),
    "setting up the function": (ExportSettings, "from_environment"),
    "looking for the deletion": (HealthImaging, "fetch"),
}


@pytest.mark.parametrize("error", [RuntimeError("Mueller^Hans"), MemoryError("Mueller^Hans")], ids=type)
@pytest.mark.parametrize(("owner", "name"), FAULTS.values(), ids=FAULTS)
def test_unforeseen_error_is_logged_counted_and_put_off(
    health_imaging, invoke, monkeypatch, log_lines, capsys, owner, name, error
):
    image_set, _ = add_image_set(health_imaging, 2)
    put_off = visibility_changes()

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(owner, name, fail)
    assert invoke(event("Image Set Created", image_set), receives=2) == ["message-0"]

    line = log_lines()[-1]
    assert (line["level"], line["problem"], line["error"]) == ("ERROR", "internal-error", type(error).__name__)
    assert line["stack"].startswith("test_export_worker.py:")
    assert (line["correlation_id"], line["receives"]) == ("message-0", 2)
    assert [each["VisibilityTimeout"] for each in put_off] == [40]
    output = capsys.readouterr().out
    assert '"ExportRetries":[1.0]' in output
    assert "Mueller" not in output + json.dumps(log_lines())


@pytest.mark.parametrize(
    ("detail_type", "owner", "name"),
    [("Image Set Deleted", ObjectStore, "remove_all"), ("Image Set Deleted", ExportQueue, "send")],
)
def test_unforeseen_error_of_a_removal_is_logged_too(
    health_imaging, invoke, monkeypatch, log_lines, detail_type, owner, name
):
    image_set, _ = add_image_set(health_imaging, 1)
    monkeypatch.setattr(owner, name, lambda *_, **__: 1 / 0)
    assert invoke(event(detail_type, image_set)) == ["message-0"]
    assert log_lines()[-1]["error"] == "ZeroDivisionError"


def test_unforeseen_error_of_one_message_leaves_the_others_alone(s3, health_imaging, invoke, monkeypatch):
    (good, frames), (bad, _) = (add_image_set(health_imaging, 2) for _ in range(2))
    fetch = HealthImaging.fetch_metadata

    def fail(self, image_set, *arguments):
        return 1 / 0 if image_set == bad else fetch(self, image_set, *arguments)

    monkeypatch.setattr(HealthImaging, "fetch_metadata", fail)
    assert invoke(event("Image Set Created", bad), event("Image Set Created", good)) == ["message-0"]
    assert is_exported(s3, health_imaging, good, frames)


@pytest.mark.parametrize("name", ["put_off", "hide"])
def test_error_in_putting_off_hides_neither_the_message_nor_the_cause(
    health_imaging, invoke, monkeypatch, log_lines, name
):
    image_set, _ = add_image_set(health_imaging, 1)
    monkeypatch.setattr(ExportQueue, name, lambda *_: 1 / 0)
    monkeypatch.setattr(HealthImaging, "fetch_metadata", lambda *_: [][0])
    assert invoke(event("Image Set Created", image_set)) == ["message-0"]
    errors = {line["message"]: line["error"] for line in log_lines()}
    assert errors == {"to be tried again": "IndexError", "visibility timeout not changed": "ZeroDivisionError"}


def test_messages_of_a_function_that_is_killed_come_again_soon_after_its_time(health_imaging, invoke):
    image_set, _ = add_image_set(health_imaging, 1)
    hidden = visibility_changes("ChangeMessageVisibilityBatch")
    assert invoke(*[event("Image Set Created", image_set)] * 3, remaining_ms=60_999) == []
    ((entries),) = (each["Entries"] for each in hidden)
    assert [each["VisibilityTimeout"] for each in entries] == [60 + KILLED_RETRY_SECONDS] * 3


@pytest.mark.parametrize("received", [{}, [], None, "text", {"Records": []}, {"Records": [{"eventSource": "aws:s3"}]}])
def test_event_that_is_no_batch_gets_one_clear_line(invoke, log_lines, received):
    context = SimpleNamespace(get_remaining_time_in_millis=lambda: 60_000)
    with pytest.raises(UnknownMessageError):
        export.lambda_handler(received, context)
    (line,) = log_lines()
    assert (line["message"], line["reason"]) == ("event not understood", "The event is not a batch of SQS messages.")


def test_function_without_a_queue_says_so(invoke, monkeypatch, log_lines):
    monkeypatch.delenv("FRAMEGATE_EXPORT_QUEUE_URL")
    with pytest.raises(UnforeseenError, match="KeyError"):
        invoke({})
    assert log_lines()[-1]["error"] == "KeyError"


UNKNOWN = [
    "not JSON",
    "[]",
    "{}",
    {"detail-type": "Image Set Created"},
    {"detail-type": "Image Set Created", "detail": {}},
    {"detail-type": "Image Set Created", "detail": {"datastoreId": SERVED, "imagesetId": "Mueller^Hans"}},
    {"detail-type": "Image Set Created", "detail": ["datastoreId"]},
    {"detail-type": "Import Job Completed", "detail": {"datastoreId": SERVED}},
    {"framegate": "dance"},
    {"framegate": "export", "datastoreId": SERVED},
    {"framegate": "store-frame", "datastoreId": SERVED, "imageSetId": "5" * 32, "imageFrameId": 7},
]


@pytest.mark.parametrize("body", UNKNOWN, ids=str)
def test_message_that_is_not_understood_is_left_for_the_dead_letter_queue(invoke, log_lines, body):
    assert invoke(body) == ["message-0"]
    (line,) = [line for line in log_lines() if line["level"] == "ERROR"]
    assert line["message"] == "message not understood"
    assert "Mueller" not in json.dumps(line)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(
            st.sampled_from(["framegate", "detail-type", "detail", "datastoreId", "imageSetId", "versionId"]), children
        )
    ),
)


@given(st.dictionaries(st.sampled_from(["framegate", "detail-type", "detail", "datastoreId", "again"]), _JSON))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_message_is_work_or_not_understood(message):
    with pytest.raises(UnknownMessageError):
        decode(json.dumps(message))


# Frames handed over by requests


def test_frame_that_a_request_handed_over_is_stored(s3, health_imaging, invoke, handover, queue):
    image_set, (frame,) = add_image_set(health_imaging, 1)
    handover.hand_over(FrameRef(SERVED, image_set.image_set_id, frame.image_frame_id), TimeBudget(60))
    assert invoke(*queue.received()) == []
    assert keys(s3) == [f"frames/{SERVED}/{image_set.image_set_id}/{frame.image_frame_id}"]


def test_frame_that_does_not_exist_is_recorded_and_acknowledged(s3, health_imaging, invoke, handover, queue, log_lines):
    image_set, _ = add_image_set(health_imaging, 1)
    handover.hand_over(FrameRef(SERVED, image_set.image_set_id, "0" * 32), TimeBudget(60))
    assert invoke(*queue.received()) == []
    assert keys(s3) == []
    assert "frame-not-found" in [line.get("problem") for line in log_lines()]


def test_frame_that_fails_for_now_comes_again(health_imaging, invoke, handover, queue):
    image_set, (frame,) = add_image_set(health_imaging, 1)
    handover.hand_over(FrameRef(SERVED, image_set.image_set_id, frame.image_frame_id), TimeBudget(60))
    health_imaging.faults.arm(Fault(then="reset"))
    assert invoke(*queue.received()) == ["message-0"]


# What is measured


def test_export_is_one_line_and_one_set_of_metrics(health_imaging, invoke, log_lines, capsys):
    image_set, frames = add_image_set(health_imaging, 3)
    invoke(event("Image Set Created", image_set))
    (line,) = log_lines()
    assert line["message"] == "export completed"
    assert (line["datastore_id"], line["image_set_id"]) == (SERVED, image_set.image_set_id)
    assert line["frames"] == {"copied": 3, "present": 0, "failed": 0}
    written = [json.loads(each) for each in capsys.readouterr().out.splitlines()]
    (emf,) = [each for each in written if "ColdStarts" not in each]
    assert (emf["ExportsCompleted"], emf["FramesCopied"], emf["FramesFailed"]) == ([1.0], [3.0], [0.0])
    assert emf["ExportedBytes"] == [float(sum(len(health_imaging.content(frame)) for frame in frames))]


def test_sop_instance_uids_stay_out_of_the_log(health_imaging, invoke, log_lines, s3):
    image_set, _ = add_image_set(health_imaging, 2)
    invoke(event("Image Set Created", image_set))
    for line in manifest_lines(s3, image_set):
        assert line["sopInstanceUID"] not in json.dumps(log_lines())
