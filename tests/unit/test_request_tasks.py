"""Tasks of the state machine, run by the function's own handler as Step Functions does."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from framegate.aws.event_bus import EventBus
from framegate.entrypoints import export_parts, export_requests
from framegate.export import request_manifest
from framegate.export.copying import FrameCopier
from framegate.export.report import UnforeseenError
from framegate.healthimaging.client import HealthImaging
from framegate.messages import UnknownTaskError
from framegate.problems import ExportIncomplete, InvalidRequestManifest, UpstreamFailed
from framegate.settings import ExportSettings
from framegate.storage.object_store import ObjectStore
from local.health_imaging import Fault
from tests.unit.conftest import BUCKET, SERVED, forget_clients
from tests.unit.exporting import add_image_set, content, is_exported, keys, manifest_lines, outcomes

KEY = "export-requests/monday.jsonl"
PREFIX = "exports/requests/monday.jsonl/execution-1"


@pytest.fixture
def do(health_imaging, s3, monkeypatch):
    """A function that runs a task."""
    monkeypatch.setenv("FRAMEGATE_DATASTORE_IDS", SERVED)
    monkeypatch.setenv("FRAMEGATE_FRAME_BUCKET", BUCKET)
    monkeypatch.setenv("FRAMEGATE_EVENT_BUS", "default")
    monkeypatch.setenv("FRAMEGATE_EXPORT_RATE", "10000")
    monkeypatch.setenv("FRAMEGATE_VERIFY", "false")
    monkeypatch.setenv("FRAMEGATE_EXPORT_EVENTS", "")
    monkeypatch.setenv("FRAMEGATE_EXPORT_OUTPUT", "frames")
    monkeypatch.setenv("FRAMEGATE_UID_HASH_SECRET", "")
    monkeypatch.setattr(export_parts, "WORKERS", 4)
    forget_clients()
    export_requests._tasks.cache_clear()

    def call(task, remaining_ms=60_000):
        context = SimpleNamespace(get_remaining_time_in_millis=lambda: remaining_ms)
        # States pass JSON to one another.
        return json.loads(json.dumps(export_requests.lambda_handler(json.loads(json.dumps(task)), context)))

    yield call
    export_requests._tasks.cache_clear()


def validate(do, s3, *lines):
    s3.put_object(Bucket=BUCKET, Key=KEY, Body="\n".join(map(json.dumps, lines)).encode())
    return do({"task": "validate", "bucket": BUCKET, "key": KEY, "execution": "execution-1"})


def export_task(image_set, final=False, **members):
    request = {"line": 1, "datastoreId": image_set.datastore_id, "imageSetId": image_set.image_set_id, **members}
    return {"task": "export", "execution": "execution-1", "request": request, "progress": "", "final": final}


def document(s3, name):
    return json.loads(content(s3, f"{PREFIX}/{name}"))


def test_validation_returns_the_keys_and_counts_of_lines(do, s3, health_imaging):
    image_set, _ = add_image_set(health_imaging, 1)
    good = {"datastoreId": SERVED, "imageSetId": image_set.image_set_id}
    other = {**good, "verify": True}
    assert validate(do, s3, good, {"no": "request"}, other) == {
        "prefix": PREFIX,
        "accepted": {"bucket": BUCKET, "key": f"{PREFIX}/accepted.jsonl", "count": 2},
        "rejected": {"bucket": BUCKET, "key": f"{PREFIX}/rejected.jsonl", "count": 1, "listed": 1},
        "request": {"bucket": BUCKET, "key": KEY},
    }


def test_missing_manifest_raises_the_error_that_step_functions_matches_by_name(do):
    with pytest.raises(InvalidRequestManifest):
        do({"task": "validate", "bucket": BUCKET, "key": KEY, "execution": "execution-1"})
    assert InvalidRequestManifest.__name__ == "InvalidRequestManifest"


def test_rejected_manifest_has_a_summary_with_the_reason(do, s3, monkeypatch, log_lines):
    monkeypatch.setattr(request_manifest, "MAX_LINES", 2)
    with pytest.raises(InvalidRequestManifest):
        validate(do, s3, {}, {}, {})
    assert document(s3, "summary.json") == {
        "request": {"bucket": BUCKET, "key": KEY},
        "problem": "invalid-request-manifest",
        "detail": "The request manifest has more than 2 lines, the maximum: split it into several files.",
    }
    assert [line["message"] for line in log_lines()] == ["request manifest rejected"]


def test_folder_is_rejected_without_a_summary(do, s3):
    with pytest.raises(InvalidRequestManifest):
        do({"task": "validate", "bucket": BUCKET, "key": "export-requests/monday/", "execution": "execution-1"})
    assert keys(s3) == []


def test_execution_started_by_an_earlier_release_is_summarized(do, s3):
    validated = validate(do, s3, {"no": "request"})
    del validated["rejected"]["listed"]
    do({"task": "summarize", "input": validated})
    assert document(s3, "summary.json")["lines"] == {"accepted": 0, "rejected": 1, "rejectedListed": 1}


def test_line_is_exported_with_its_result(do, s3, health_imaging):
    image_set, frames = add_image_set(health_imaging, 3)
    answer = do(export_task(image_set))
    assert is_exported(s3, health_imaging, image_set, frames, "execution-1-1")
    assert answer["done"]
    assert answer["result"]["line"] == 1
    assert answer["result"]["outcome"] == "completed"
    assert answer["result"]["frames"] == {"copied": 3, "present": 0, "failed": 0}
    assert answer["result"]["manifest"]["key"] in keys(s3)


def test_line_can_request_frames_version_and_verification(do, s3, health_imaging, monkeypatch):
    image_set, frames = add_image_set(health_imaging, 3)
    answer = do(export_task(image_set, imageFrameIds=[frames[1].image_frame_id], versionId="1", verify=True))
    assert answer["result"]["versionId"] == "1"
    assert [line["imageFrameId"] for line in manifest_lines(s3, image_set, "execution-1-1")] == [
        frames[1].image_frame_id
    ]


def test_export_longer_than_an_invocation_returns_the_next_task(do, s3, health_imaging):
    image_set, frames = add_image_set(health_imaging, 30)
    # Four workers need eight rounds of 0.3 s for 30 frames. One invocation has time for some of the rounds.
    health_imaging.faults.arm(Fault(latency=0.3))
    answer, invocations = do(export_task(image_set), remaining_ms=5_500), 1
    while not answer["done"]:
        assert answer["task"] == "export"
        answer, invocations = do(answer, remaining_ms=5_500), invocations + 1
    assert invocations > 1
    health_imaging.faults.clear()
    assert is_exported(s3, health_imaging, image_set, frames, "execution-1-1")
    # A frame may reach S3 just after the time runs out. The next invocation then finds it present.
    frames = answer["result"]["frames"]
    assert (frames["copied"] + frames["present"], frames["failed"]) == (30, 0)


def test_transient_problem_is_raised_for_step_functions_to_retry(do, health_imaging, log_lines):
    image_set, frames = add_image_set(health_imaging, 2)
    health_imaging.faults.arm(Fault(error="InternalServerException", image_frame_id=frames[0].image_frame_id))
    with pytest.raises(ExportIncomplete):
        do(export_task(image_set))
    assert log_lines()[-1]["problem"] == "export-incomplete"
    health_imaging.faults.arm(Fault(operation="GetImageSetMetadata", error="InternalServerException"))
    with pytest.raises(UpstreamFailed):
        do(export_task(image_set))


def test_last_attempt_always_returns_a_result(do, s3, health_imaging):
    image_set, frames = add_image_set(health_imaging, 2)
    health_imaging.faults.arm(Fault(error="InternalServerException", image_frame_id=frames[0].image_frame_id))
    answer = do(export_task(image_set, final=True))
    assert (answer["done"], answer["result"]["outcome"]) == (True, "failed")
    assert sorted(outcomes(manifest_lines(s3, image_set, "execution-1-1"))) == ["copied", "upstream-failed"]
    health_imaging.faults.clear()
    health_imaging.faults.arm(Fault(operation="GetImageSetMetadata", error="InternalServerException"))
    answer = do(export_task(image_set, final=True))
    assert (answer["done"], answer["result"]["problem"]) == (True, "upstream-failed")


def record(name, request, output=None, status="SUCCEEDED"):
    """A record that Step Functions stores for the execution of a line."""
    return {
        "ExecutionArn": f"arn:aws:states:us-east-1:000000000000:execution:m/ExportImageSets:{name}",
        "Input": json.dumps({"task": "export", "request": request}),
        "Status": status,
        **({"Output": json.dumps(output)} if output else {"Error": "Sandbox.Timedout", "Cause": "…"}),
    }


def write_results(s3, **files):
    """Write the files that the ResultWriter of a Map state writes, including their manifest."""
    listed = {"FAILED": [], "PENDING": [], "SUCCEEDED": []}
    for kind, records in files.items():
        key = f"{PREFIX}/results/run/{kind}_0.jsonl"
        s3.put_object(Bucket=BUCKET, Key=key, Body="\n".join(map(json.dumps, records)).encode())
        listed[kind].append({"Key": key, "Size": 1})
    key = f"{PREFIX}/results/run/manifest.json"
    s3.put_object(
        Bucket=BUCKET, Key=key, Body=json.dumps({"DestinationBucket": BUCKET, "ResultFiles": listed}).encode()
    )
    return {"MapRunArn": "arn", "ResultWriterDetails": {"Bucket": BUCKET, "Key": key}}


def result(outcome, copied=0, failed=0, size=0):
    return {"outcome": outcome, "frames": {"copied": copied, "present": 1, "failed": failed}, "bytes": size}


def test_summary_counts_lines_exports_frames_and_bytes(do, s3):
    good, bad, dead = ({"line": number, "datastoreId": SERVED, "imageSetId": str(number) * 32} for number in (1, 2, 3))
    results = write_results(
        s3,
        SUCCEEDED=[record("a", good, result("completed", 5, 0, 100)), record("b", bad, result("failed", 2, 1, 30))],
        FAILED=[record("c", dead, status="FAILED")],
    )
    validated = validate(do, s3, {"no": "request"})
    do({"task": "summarize", "input": {**validated, "results": results}})
    summary = document(s3, "summary.json")
    assert summary["request"] == {"bucket": BUCKET, "key": KEY}
    assert summary["lines"] == {"accepted": 0, "rejected": 1, "rejectedListed": 1}
    assert summary["exports"] == {"completed": 1, "failed": 2}
    assert summary["frames"] == {"copied": 7, "present": 2, "failed": 1}
    assert summary["bytes"] == 130
    assert summary["rejected"] == {"bucket": BUCKET, "key": f"{PREFIX}/rejected.jsonl"}
    assert summary["failed"] == {"bucket": BUCKET, "key": f"{PREFIX}/failed.jsonl"}


def test_failed_lines_can_be_submitted_again(do, s3):
    bad = {"line": 7, "datastoreId": SERVED, "imageSetId": "5" * 32, "verify": True}
    results = write_results(s3, FAILED=[record("c", bad, status="FAILED")])
    validated = validate(do, s3)
    do({"task": "summarize", "input": {**validated, "results": results}})
    again = content(s3, f"{PREFIX}/failed.jsonl")
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=again)
    answer = do({"task": "validate", "bucket": BUCKET, "key": KEY, "execution": "execution-2"})
    assert (answer["accepted"]["count"], answer["rejected"]["count"]) == (1, 0)


def test_manifest_without_a_valid_line_is_summarized(do, s3):
    validated = validate(do, s3, {"no": "request"})
    answer = do({"task": "summarize", "input": validated})
    assert document(s3, "summary.json")["exports"] == {"completed": 0, "failed": 0}
    assert answer["summary"] == {"bucket": BUCKET, "key": f"{PREFIX}/summary.json"}


# Unknown tasks and unexpected errors


def retries(capsys):
    """The value of the metric for retried work."""
    written = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return sum(line["ExportRetries"][0] for line in written if "ExportRetries" in line)


@pytest.mark.parametrize("task", [{"task": "dance"}, {}, {"task": None}, [], "validate", None], ids=str)
def test_unknown_task_is_logged_and_raised(do, log_lines, capsys, task):
    with pytest.raises(UnknownTaskError, match="of different releases"):
        do(task)
    assert [line["message"] for line in log_lines()] == ["task not understood"]
    assert retries(capsys) == 1


FAULTS = {
    "reading the manifest": ("validate", ObjectStore, "read"),
    "looking for the manifest": ("validate", ObjectStore, "head"),
    "writing lists of lines": ("validate", ObjectStore, "writer"),
    "reading metadata": ("export", HealthImaging, "fetch_metadata"),
    "copying a frame": ("export", FrameCopier, "copy"),
    "listing frames": ("export", ObjectStore, "names"),
    "writing a manifest": ("export", ObjectStore, "put"),
    "announcing the result": ("export", EventBus, "announce"),
    "writing the summary": ("summarize", ObjectStore, "put"),
    "setting up the function": ("export", ExportSettings, "from_environment"),
}


@pytest.mark.parametrize("error", [RuntimeError("Mueller^Hans"), MemoryError("Mueller^Hans")], ids=type)
@pytest.mark.parametrize(("task", "owner", "name"), FAULTS.values(), ids=FAULTS)
def test_unexpected_error_is_logged_counted_and_raised_without_its_message(
    do, s3, health_imaging, monkeypatch, log_lines, capsys, task, owner, name, error
):
    image_set, _ = add_image_set(health_imaging, 2)
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"{}")
    tasks = {
        "validate": {"task": "validate", "bucket": BUCKET, "key": KEY, "execution": "execution-1"},
        "export": export_task(image_set),
        "summarize": {"task": "summarize", "input": validate(do, s3)},
    }
    capsys.readouterr()
    export_requests._tasks.cache_clear()

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(owner, name, fail)
    with pytest.raises(UnforeseenError, match=f"^{type(error).__name__}$") as raised:
        do(tasks[task])

    # Lambda also logs the exceptions in the chain.
    assert raised.value.__suppress_context__
    line = log_lines()[-1]
    assert (line["level"], line["problem"], line["error"]) == ("ERROR", "internal-error", type(error).__name__)
    assert line["stack"].startswith("test_request_tasks.py:")
    assert line.get("correlation_id") == tasks[task].get("execution")
    output = capsys.readouterr().out
    assert "Mueller" not in output + json.dumps(log_lines())
    assert '"ExportRetries":[1.0]' in output
