"""The functions that export: how many at a time, how fast, and where their work comes from."""

from __future__ import annotations

import pytest

from tests.infra.cloudformation import frame_bucket, function, logical_id, only, properties, text
from tests.infra.project import DATASTORE_A, DATASTORE_B

HANDLERS = ["export", "export_requests"]


def environment(template, handler):
    return {name: text(value) for name, value in function(template, handler)["Environment"]["Variables"].items()}


@pytest.mark.parametrize("handler", HANDLERS)
def test_size_and_time_come_from_configuration(synthesize, handler):
    found = function(synthesize(export_memory_mb="3008", export_timeout_seconds="900"), handler)

    assert found["MemorySize"] == 3008
    assert found["Timeout"] == 900


@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("workers", [2, 5])
def test_workers_are_as_many_as_configured_and_kept_for_it(synthesize, handler, workers):
    found = function(synthesize(export_concurrency=str(workers)), handler)

    assert found["ReservedConcurrentExecutions"] == workers


@pytest.mark.parametrize(
    ("keys", "calls_per_second"),
    [
        ({}, "100"),
        ({"export_rate": "100", "export_concurrency": "3"}, "16.6667"),
        ({"export_rate": "100000", "export_concurrency": "2"}, "25000"),
        ({"export_rate": "1", "export_concurrency": "500"}, "0.001"),
    ],
)
def test_all_workers_together_make_as_many_calls_as_configured(synthesize, keys, calls_per_second):
    template = synthesize(**keys)

    assert [environment(template, each)["FRAMEGATE_EXPORT_RATE"] for each in HANDLERS] == [calls_per_second] * 2


def test_settings_reach_the_function_that_works_requests_off(template):
    bucket, _ = frame_bucket(template)

    assert environment(template, "export_requests") == {
        "FRAMEGATE_DATASTORE_IDS": f"{DATASTORE_A},{DATASTORE_B}",
        "FRAMEGATE_FRAME_BUCKET": f"${{{bucket}}}",
        "FRAMEGATE_EVENT_BUS": "default",
        "FRAMEGATE_EXPORT_RATE": "100",
        "FRAMEGATE_VERIFY": "false",
        "FRAMEGATE_EXPORT_EVENTS": "Created,Updated,Copied",
        "POWERTOOLS_LOG_LEVEL": "INFO",
        "POWERTOOLS_SERVICE_NAME": "Framegate",
    }


def test_settings_reach_the_function_that_works_the_queue_off(template, resources):
    (queue,) = (name for name, each in resources("AWS::SQS::Queue").items() if "RedrivePolicy" in each)

    assert environment(template, "export") == {
        **environment(template, "export_requests"),
        "FRAMEGATE_EXPORT_QUEUE_URL": f"${{{queue}}}",
        "FRAMEGATE_REMOVAL_RECHECK_SECONDS": "33",
    }


def test_image_set_is_removed_again_when_no_request_can_still_store_a_frame_of_it(synthesize):
    template = synthesize(timeout_seconds="10")

    assert environment(template, "export")["FRAMEGATE_REMOVAL_RECHECK_SECONDS"] == "15"


def test_events_that_are_exported_on_are_a_setting(synthesize):
    assert environment(synthesize(export_events="none"), "export")["FRAMEGATE_EXPORT_EVENTS"] == ""


@pytest.mark.parametrize("handler", HANDLERS)
def test_verification_is_a_setting_of_both(synthesize, handler):
    assert environment(synthesize(verify="true"), handler)["FRAMEGATE_VERIFY"] == "true"


@pytest.mark.parametrize("handler", HANDLERS)
def test_decoder_is_a_layer_for_the_functions_own_runtime_and_processor(template, resources, handler):
    found = function(template, handler)
    (name,) = resources("AWS::Lambda::LayerVersion")
    layer = only(resources("AWS::Lambda::LayerVersion"))

    assert [text(each) for each in found["Layers"]] == [f"${{{name}}}"]
    assert layer["CompatibleRuntimes"] == [found["Runtime"]]
    assert layer["CompatibleArchitectures"] == found["Architectures"]


def test_messages_come_a_few_at_a_time_and_those_that_fail_come_again_alone(template, resources):
    mapping = only(resources("AWS::Lambda::EventSourceMapping"))
    name = logical_id(mapping["FunctionName"])

    assert resources("AWS::Lambda::Function")[name] == function(template, "export")
    assert mapping["BatchSize"] == 5
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    # A window for batches would hold back a frame that somebody waits for.
    assert "MaximumBatchingWindowInSeconds" not in mapping


def test_no_more_messages_are_taken_than_there_are_workers(synthesize):
    mapping = only(properties(synthesize(export_concurrency="5"), "AWS::Lambda::EventSourceMapping"))

    assert mapping["ScalingConfig"] == {"MaximumConcurrency": 5}


def test_lambda_does_not_take_a_long_export_for_an_endless_loop(template):
    assert function(template, "export")["RecursiveLoop"] == "Allow"
