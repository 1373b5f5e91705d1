"""What the stack passes to the functions is what they read, and what the functions answer is what the stack reads."""

from __future__ import annotations

import json
import re

import pytest

from framegate.messages import (
    ExportTask,
    ImageSetChanged,
    ImageSetDeleted,
    SummarizeTask,
    ValidatedManifest,
    ValidateTask,
    decode,
    decode_task,
)
from tests.documented_events import image_set_event
from tests.infra.cloudformation import properties, state_machine

VALIDATED = ValidatedManifest("bucket", "export-requests/x", "exports/requests/x/run", "a", 2, "r", 1, 1)
LINE = {"line": 3, "datastoreId": "d" * 32, "imageSetId": "5" * 32}
VALUES = {"key": "export-requests/x", "execution": "run", "request": LINE, "progress": "", "input": VALIDATED.to_json()}


@pytest.fixture(scope="module")
def states(template):
    return state_machine(template)[1]["States"]


def filled_in(payload):
    """A payload as Step Functions passes it: the members that end in `.$` have a value."""
    return {
        name.removesuffix(".$"): VALUES[name.removesuffix(".$")] if name.endswith(".$") else value
        for name, value in payload.items()
    }


def payloads(states):
    child = states["ExportImageSets"]["ItemProcessor"]["States"]
    return {
        "Validate": states["Validate"]["Parameters"]["Payload"],
        "ExportImageSets": states["ExportImageSets"]["ItemSelector"],
        "ExportFinally": child["ExportFinally"]["Parameters"]["Payload"],
        "Summarize": states["Summarize"]["Parameters"]["Payload"],
    }


def test_state_machine_passes_tasks_that_the_function_reads(states):
    request = {name: value for name, value in LINE.items() if name != "line"}
    assert {name: decode_task(filled_in(payload)) for name, payload in payloads(states).items()} == {
        "Validate": ValidateTask("export-requests/x", "run"),
        "ExportImageSets": ExportTask("run", 3, request, None, final=False),
        "ExportFinally": ExportTask("run", 3, request, None, final=True),
        "Summarize": SummarizeTask(VALIDATED, None),
    }


def test_tasks_have_no_member_that_the_function_ignores(states):
    for payload in payloads(states).values():
        document = filled_in(payload)
        assert decode_task(document).to_json() == document


def test_next_task_of_a_line_is_an_input_of_the_same_state(states):
    task = decode_task(filled_in(states["ExportImageSets"]["ItemSelector"]))
    assert decode_task({**task.to_json(), "done": False}) == task


def test_state_machine_reads_members_that_the_validation_answers(states):
    export = states["ExportImageSets"]
    readers = [states["AnythingToExport"], export["ItemReader"], export["ResultWriter"]]
    paths = {path for each in readers for path in re.findall(r"\$\.([\w.]+)", str(each))}

    assert paths == {"accepted.count", "accepted.bucket", "accepted.key", "prefix"}
    for path in paths:
        value = VALIDATED.to_json()
        for name in path.split("."):
            value = value[name]


def test_rules_deliver_events_that_the_function_reads(template):
    rules = properties(template, "AWS::Events::Rule").values()
    patterns = [each["EventPattern"] for each in rules if each["EventPattern"]["source"] == ["aws.medical-imaging"]]
    delivered = {detail_type for each in patterns for detail_type in each["detail-type"]}

    read = {each: decode(json.dumps(image_set_event(each))) for each in delivered}
    assert {type(message) for message in read.values()} == {ImageSetChanged, ImageSetDeleted}
    assert delivered == {f"Image Set {each}" for each in ("Created", "Updated", "Copied", "Deleted")}
