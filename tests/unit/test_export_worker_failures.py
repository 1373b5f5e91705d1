"""Messages and events that the export function cannot process: what it logs, counts and retries."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from framegate.aws.event_bus import EventBus
from framegate.aws.export_queue import ExportQueue
from framegate.entrypoints import export
from framegate.export.copying import FrameCopier
from framegate.export.report import UnforeseenError
from framegate.export.worker import KILLED_RETRY_SECONDS
from framegate.healthimaging.client import HealthImaging
from framegate.messages import UnknownMessageError, decode
from framegate.settings import ExportSettings
from framegate.storage.object_store import ObjectStore
from local.health_imaging import Fault
from tests.unit.conftest import SERVED
from tests.unit.export_invocations import event, export_function, visibility_changes
from tests.unit.exporting import add_image_set, is_exported, keys


@pytest.fixture
def invoke(health_imaging, s3, queue, deferred_store_queue, monkeypatch):
    with export_function(queue, deferred_store_queue, monkeypatch) as call:
        yield call


UUID = "01234567-89ab-4cde-8f01-23456789abcd"
HOSTILE_NAMES = [
    "version-1/manifest.jsonl",
    "progress",
    "../x/progress/1.jsonl",
    "progress/../version-1/manifest.jsonl",
    f"progress/{UUID}/../../version-1/manifest.jsonl",
    f"progress/{UUID}.jsonl\n",
    f"progress/{UUID}",
    f"progress/x{UUID}.jsonl",
    f"progress//{UUID}.jsonl",
]


# Problems


def test_failed_message_does_not_affect_the_others(s3, health_imaging, invoke):
    (good, frames), (bad, _), (other, other_frames) = (add_image_set(health_imaging, 2) for _ in range(3))
    fault = Fault(operation="GetImageSetMetadata", error="InternalServerException", image_set_id=bad.image_set_id)
    health_imaging.faults.arm(fault)
    assert invoke(*(event("Image Set Created", each) for each in (good, bad, other))) == ["message-1"]
    assert is_exported(s3, health_imaging, good, frames)
    assert is_exported(s3, health_imaging, other, other_frames)


def test_failed_batch_is_reported_without_an_exception(health_imaging, invoke):
    image_set, _ = add_image_set(health_imaging, 1)
    health_imaging.faults.arm(Fault(operation="GetImageSetMetadata", error="InternalServerException"))
    assert invoke(*[event("Image Set Created", image_set)] * 2) == ["message-0", "message-1"]


def test_failure_is_logged_with_cause_and_message_id(health_imaging, invoke, log_lines):
    image_set, _ = add_image_set(health_imaging, 1)
    health_imaging.faults.arm(Fault(operation="GetImageSetMetadata", error="AccessDeniedException"))
    invoke(event("Image Set Created", image_set), receives=3)
    (line,) = [line for line in log_lines() if line["level"] == "ERROR"]
    assert line["correlation_id"] == "message-0"
    assert (line["problem"], line["upstream_error"], line["receives"]) == ("access-denied", "AccessDeniedException", 3)


@pytest.mark.parametrize(("receives", "seconds"), [(1, 20), (2, 40), (5, 320), (9, 900)])
def test_retry_delay_grows_with_each_failure(health_imaging, invoke, receives, seconds):
    image_set, _ = add_image_set(health_imaging, 1)
    health_imaging.faults.arm(Fault(operation="GetImageSetMetadata", error="InternalServerException"))
    put_off = visibility_changes()
    invoke(event("Image Set Created", image_set), receives=receives)
    assert [each["VisibilityTimeout"] for each in put_off] == [seconds]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
@pytest.mark.parametrize("own", [False, True])
def test_message_can_name_only_progress_of_its_image_set(s3, health_imaging, invoke, name, own):
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


# Unexpected errors


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
def test_unexpected_error_is_logged_counted_and_retried(
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
    assert line["stack"].startswith("test_export_worker_failures.py:")
    assert (line["correlation_id"], line["receives"]) == ("message-0", 2)
    assert [each["VisibilityTimeout"] for each in put_off] == [40]
    output = capsys.readouterr().out
    assert '"ExportRetries":[1.0]' in output
    assert "Mueller" not in output + json.dumps(log_lines())


@pytest.mark.parametrize(
    ("detail_type", "owner", "name"),
    [("Image Set Deleted", ObjectStore, "remove_all"), ("Image Set Deleted", ExportQueue, "send")],
)
def test_unexpected_error_of_a_removal_is_logged(
    health_imaging, invoke, monkeypatch, log_lines, detail_type, owner, name
):
    image_set, _ = add_image_set(health_imaging, 1)
    health_imaging.delete_image_set(SERVED, image_set.image_set_id)
    monkeypatch.setattr(owner, name, lambda *_, **__: 1 / 0)
    assert invoke(event(detail_type, image_set)) == ["message-0"]
    assert log_lines()[-1]["error"] == "ZeroDivisionError"


def test_unexpected_error_of_one_message_does_not_affect_the_others(s3, health_imaging, invoke, monkeypatch):
    (good, frames), (bad, _) = (add_image_set(health_imaging, 2) for _ in range(2))
    fetch = HealthImaging.fetch_metadata

    def fail(self, image_set, *arguments):
        return 1 / 0 if image_set == bad else fetch(self, image_set, *arguments)

    monkeypatch.setattr(HealthImaging, "fetch_metadata", fail)
    assert invoke(event("Image Set Created", bad), event("Image Set Created", good)) == ["message-0"]
    assert is_exported(s3, health_imaging, good, frames)


@pytest.mark.parametrize("name", ["put_off", "hide"])
def test_failed_visibility_change_does_not_hide_the_original_error(
    health_imaging, invoke, monkeypatch, log_lines, name
):
    image_set, _ = add_image_set(health_imaging, 1)
    monkeypatch.setattr(ExportQueue, name, lambda *_: 1 / 0)
    monkeypatch.setattr(HealthImaging, "fetch_metadata", lambda *_: [][0])
    assert invoke(event("Image Set Created", image_set)) == ["message-0"]
    errors = {line["message"]: line["error"] for line in log_lines()}
    assert errors == {
        "work failed, will be retried": "IndexError",
        "visibility timeout not changed": "ZeroDivisionError",
    }


def test_messages_of_a_killed_function_become_visible_soon_after_its_timeout(health_imaging, invoke):
    image_set, _ = add_image_set(health_imaging, 1)
    hidden = visibility_changes("ChangeMessageVisibilityBatch")
    assert invoke(*[event("Image Set Created", image_set)] * 3, remaining_ms=60_999) == []
    ((entries),) = (each["Entries"] for each in hidden)
    assert [each["VisibilityTimeout"] for each in entries] == [60 + KILLED_RETRY_SECONDS] * 3


@pytest.mark.parametrize("received", [{}, [], None, "text", {"Records": []}, {"Records": [{"eventSource": "aws:s3"}]}])
def test_event_that_is_not_a_batch_is_logged_in_one_line(invoke, log_lines, received):
    context = SimpleNamespace(get_remaining_time_in_millis=lambda: 60_000)
    with pytest.raises(UnknownMessageError):
        export.lambda_handler(received, context)
    (line,) = log_lines()
    assert (line["message"], line["reason"]) == ("event not understood", "The event is not a batch of SQS messages.")


def test_missing_queue_setting_is_logged(invoke, monkeypatch, log_lines):
    monkeypatch.delenv("FRAMEGATE_EXPORT_QUEUE_URL")
    with pytest.raises(UnforeseenError, match="KeyError"):
        invoke({})
    assert log_lines()[-1]["error"] == "KeyError"


# Unknown messages


@pytest.mark.parametrize("remaining_ms", [4_000, 60_000])
@pytest.mark.parametrize("body", ["not JSON", "[]", "[" * 100_000, '"text"', "null", "", "NaN", "1" * 5000])
def test_message_that_is_not_a_json_object_is_rejected(invoke, log_lines, capsys, body, remaining_ms):
    assert invoke(body, remaining_ms=remaining_ms) == ["message-0"]
    assert [line["message"] for line in log_lines()] == ["message not understood"]
    assert '"ExportRetries":[1.0]' in capsys.readouterr().out


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
def test_unknown_message_fails_and_is_logged(invoke, log_lines, body):
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
def test_arbitrary_message_raises_no_other_error(message):
    with pytest.raises(UnknownMessageError):
        decode(json.dumps(message))
