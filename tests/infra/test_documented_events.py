"""The event patterns of the stack against the sample events of AWS's service guides.

moto matches patterns like EventBridge's `TestEventPattern`.
"""

from __future__ import annotations

import json

import pytest
from moto.events.models import EventPattern

from tests.documented_events import DATASTORE, documented, health_imaging_events, image_set_event
from tests.infra.cloudformation import properties, state_machine

BUCKET = "amzn-s3-demo-bucket1"


@pytest.fixture(scope="module")
def stack(synthesize):
    """The template of a deployment for the data store of the sample events."""
    return synthesize(datastore_ids=DATASTORE, export_events="Created")


@pytest.fixture(scope="module")
def matching(stack):
    """Return a function that finds the rules whose pattern matches an event."""
    rules = properties(stack, "AWS::Events::Rule")
    # The bucket's name is unknown before the deployment, so the pattern gets the name in the sample event.
    patterns = {name: json.dumps(_with_bucket(rule["EventPattern"])) for name, rule in rules.items()}
    return lambda event: [name for name, each in patterns.items() if EventPattern.load(each).matches_event(event)]


def _with_bucket(pattern):
    if pattern["source"] == ["aws.s3"]:
        return {**pattern, "detail": {**pattern["detail"], "bucket": {"name": [BUCKET]}}}
    return pattern


def matched_types(stack):
    """Return the detail types of HealthImaging's events that a rule matches."""
    return {
        detail_type
        for rule in properties(stack, "AWS::Events::Rule").values()
        for detail_type in rule["EventPattern"]["detail-type"]
        if rule["EventPattern"]["source"] == ["aws.medical-imaging"]
    }


def test_rules_match_four_documented_events_of_healthimaging(stack):
    assert matched_types(stack) == {
        "Image Set Created",
        "Image Set Updated",
        "Image Set Copied",
        "Image Set Deleted",
    }
    assert matched_types(stack) <= {each["detail-type"] for each in health_imaging_events()}


@pytest.mark.parametrize("event", health_imaging_events(), ids=lambda each: each["detail-type"])
def test_each_documented_event_matches_at_most_one_rule(stack, matching, event):
    assert len(matching(event)) == (event["detail-type"] in matched_types(stack))


@pytest.mark.parametrize(
    "change", [{"source": "aws.healthimaging"}, {"detail": {"datastoreId": "f" * 32}}, {"detail": {}}], ids=str
)
def test_event_of_another_source_or_data_store_matches_no_rule(matching, change):
    assert matching({**image_set_event("Image Set Created"), **change}) == []


def put(key, size=5, **changes):
    """Return the sample event for a new object, with another key and size."""
    event = documented("s3-object-created")
    event["detail"]["object"] |= {"key": key, "size": size}
    return {**event, **changes}


@pytest.mark.parametrize(
    ("key", "size"),
    [
        ("export-requests/monday.jsonl", 5),
        ("export-requests/monday", 5),
        ("export-requests/study 7/monday.jsonl", 5),
        ("export-requests/über/日本 (1).txt", 1),
        ("export-requests/empty.jsonl", 0),
        ("export-requests/study 7/empty.jsonl", 0),
    ],
)
def test_manifest_anywhere_under_the_prefix_starts_an_execution(matching, key, size):
    (rule,) = matching(put(key, size))
    assert "OnRequestManifest" in rule


@pytest.mark.parametrize(
    ("key", "size"),
    [
        ("export-requests/", 0),
        ("export-requests/monday/", 0),
        ("export-requests/monday.jsonl/", 0),
        ("export-requests/study 7/deeper/", 0),
        ("export-requests/.keep", 0),
        ("exports/requests/monday.jsonl/execution-1/failed.jsonl", 5),
        ("exports/requests/monday.jsonl/execution-1/accepted.jsonl", 5),
        ("frames/a/b/c", 5),
        ("EXPORT-REQUESTS/monday.jsonl", 5),
        ("example-key", 5),
    ],
)
def test_console_folders_and_other_objects_start_no_execution(matching, key, size):
    assert matching(put(key, size)) == []


@pytest.mark.parametrize("detail_type", ["Object Deleted", "Object Tags Added", "Object Access Tier Changed"])
def test_other_events_of_the_bucket_start_no_execution(matching, detail_type):
    assert matching(put("export-requests/monday.jsonl", **{"detail-type": detail_type})) == []


def test_manifest_in_another_bucket_starts_no_execution(matching):
    event = put("export-requests/monday.jsonl")
    event["detail"]["bucket"]["name"] = "another"
    assert matching(event) == []


def test_state_machine_reads_the_object_key_from_the_event(stack):
    _, definition = state_machine(stack)
    path = definition["States"]["Validate"]["Parameters"]["Payload"]["key.$"]
    value = documented("s3-object-created")
    for name in path.removeprefix("$.").split("."):
        value = value[name]
    assert value == "example-key"


def test_state_machine_passes_on_the_location_of_the_results(stack):
    _, definition = state_machine(stack)
    assert definition["States"]["ExportImageSets"]["ResultPath"] == "$.results"
    assert definition["States"]["ExportImageSets"]["ResultWriter"]["WriterConfig"] == {
        "Transformation": "NONE",
        "OutputType": "JSONL",
    }
