"""The functions that export: concurrency, call rate, settings and event source."""

from __future__ import annotations

import pytest

from tests.infra.cloudformation import frame_bucket, function, logical_id, properties, queue_id, text
from tests.infra.project import DATASTORE_A, DATASTORE_B

HANDLERS = ["export", "export_requests"]


def environment(template, handler):
    return {name: text(value) for name, value in function(template, handler)["Environment"]["Variables"].items()}


@pytest.mark.parametrize("handler", HANDLERS)
def test_export_functions_have_the_configured_memory_and_timeout(synthesize, handler):
    found = function(synthesize(export_memory_mb="3008", export_timeout_seconds="900"), handler)

    assert found["MemorySize"] == 3008
    assert found["Timeout"] == 900


@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("workers", [2, 5])
def test_export_functions_reserve_the_configured_concurrency(synthesize, handler, workers):
    found = function(synthesize(export_concurrency=str(workers)), handler)

    # Two more workers of the export function run deferred stores, which would otherwise wait behind exports.
    assert found["ReservedConcurrentExecutions"] == workers + (2 if handler == "export" else 0)


@pytest.mark.parametrize(
    ("keys", "calls_per_second"),
    [
        ({}, "100"),
        ({"export_rate": "100", "export_concurrency": "3"}, "16.6667"),
        ({"export_rate": "100000", "export_concurrency": "2"}, "25000"),
        ({"export_rate": "1", "export_concurrency": "500"}, "0.001"),
    ],
)
def test_workers_share_the_configured_call_rate(synthesize, keys, calls_per_second):
    template = synthesize(**keys)

    assert [environment(template, each)["FRAMEGATE_EXPORT_RATE"] for each in HANDLERS] == [calls_per_second] * 2


def test_request_function_gets_its_settings(template):
    bucket, _ = frame_bucket(template)

    assert environment(template, "export_requests") == {
        "FRAMEGATE_DATASTORE_IDS": f"{DATASTORE_A},{DATASTORE_B}",
        "FRAMEGATE_FRAME_BUCKET": f"${{{bucket}}}",
        "FRAMEGATE_EVENT_BUS": "default",
        "FRAMEGATE_EXPORT_RATE": "100",
        "FRAMEGATE_VERIFY": "false",
        "FRAMEGATE_EXPORT_EVENTS": "Created,Updated,Copied",
        "FRAMEGATE_EXPORT_OUTPUT": "frames",
        "FRAMEGATE_UID_HASH_SECRET": "${${AWS::StackId} / 2}",
        "POWERTOOLS_LOG_LEVEL": "INFO",
        "POWERTOOLS_SERVICE_NAME": "Framegate",
    }


def test_export_function_gets_its_settings(template, resources):
    queues = resources("AWS::SQS::Queue")

    assert environment(template, "export") == {
        **environment(template, "export_requests"),
        "FRAMEGATE_EXPORT_QUEUE_URL": f"${{{queue_id(queues)}}}",
        "FRAMEGATE_DEFERRED_STORE_QUEUE_URL": f"${{{queue_id(queues, 'DeferredStores')}}}",
        "FRAMEGATE_REMOVAL_RECHECK_SECONDS": "33",
    }


def test_removal_recheck_waits_until_no_request_can_still_store_a_frame(synthesize):
    template = synthesize(timeout_seconds="10")

    assert environment(template, "export")["FRAMEGATE_REMOVAL_RECHECK_SECONDS"] == "15"


def test_export_events_reach_the_export_function(synthesize):
    assert environment(synthesize(export_events="none"), "export")["FRAMEGATE_EXPORT_EVENTS"] == ""


@pytest.mark.parametrize("handler", HANDLERS)
def test_verify_reaches_both_export_functions(synthesize, handler):
    assert environment(synthesize(verify="true"), handler)["FRAMEGATE_VERIFY"] == "true"


@pytest.mark.parametrize("handler", HANDLERS)
def test_decoder_layer_matches_the_runtime_and_architecture_of_the_functions(template, resources, handler):
    found = function(template, handler)
    ((name, layer),) = (
        each for each in resources("AWS::Lambda::LayerVersion").items() if each[0].startswith("Decoder")
    )

    assert [text(each) for each in found["Layers"]] == [f"${{{name}}}"]
    assert layer["CompatibleRuntimes"] == [found["Runtime"]]
    assert layer["CompatibleArchitectures"] == found["Architectures"]


def mappings(template):
    """Return the event source of each of the two queues: the export queue and the deferred store queue."""
    queues = properties(template, "AWS::SQS::Queue")
    names = {queue_id(queues): "exports", queue_id(queues, "DeferredStores"): "deferred stores"}
    found = properties(template, "AWS::Lambda::EventSourceMapping").values()
    return {names[logical_id(each["EventSourceArn"])]: each for each in found}


@pytest.mark.parametrize(("source", "batch_size"), [("exports", 5), ("deferred stores", 1)])
def test_export_function_takes_batches_and_reports_failed_messages(template, resources, source, batch_size):
    mapping = mappings(template)[source]
    name = logical_id(mapping["FunctionName"])

    assert resources("AWS::Lambda::Function")[name] == function(template, "export")
    assert mapping["BatchSize"] == batch_size
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    # A batching window would delay a frame that a client waits for.
    assert "MaximumBatchingWindowInSeconds" not in mapping


@pytest.mark.parametrize("workers", [2, 5])
def test_event_sources_never_need_more_workers_than_are_reserved(synthesize, workers):
    template = synthesize(export_concurrency=str(workers))
    found = {name: each["ScalingConfig"]["MaximumConcurrency"] for name, each in mappings(template).items()}

    assert found == {"exports": workers, "deferred stores": 2}
    assert sum(found.values()) == function(template, "export")["ReservedConcurrentExecutions"]


def test_export_function_may_send_messages_to_its_own_queue(template):
    assert function(template, "export")["RecursiveLoop"] == "Allow"
