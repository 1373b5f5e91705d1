"""The dashboard: its graphs, their order, and that the code writes every metric that it shows."""

from __future__ import annotations

import json
import re

import pytest

from framegate.observability import NAMESPACE, Metric
from tests.infra.cloudformation import only, properties, text

FILTERED = {
    "ThrottledRequests": '{ $.status = "429" }',
    "UnauthorizedRequests": '{ $.status = "401" }',
    "ForbiddenRequests": '{ $.status = "403" }',
    "DeniedRequests": '{ $.errorType = "ACCESS_DENIED" }',
}
"""Metrics that filters of the access log write, not the code; and the patterns of the filters."""

DIMENSIONS = {
    Metric.FRAMES: {"delivery"},
    Metric.FRAME_BYTES: {"delivery"},
    Metric.ERRORS: {"status"},
    Metric.UPSTREAM_LATENCY: {"delivery", "status"},
    Metric.COLD_STARTS: {"handler"},
}
"""Dimensions in addition to the service; the unit tests of the logged metrics check them too."""


LATENCIES = {Metric.UPSTREAM_LATENCY, Metric.AUTHORIZATION_LATENCY}


@pytest.fixture(scope="module")
def dashboard(resources):
    return only(resources("AWS::CloudWatch::Dashboard"))


@pytest.fixture(scope="module")
def widgets(dashboard):
    return json.loads(re.sub(r"\$\{(AWS::\w+|\w+)(\.\w+)?\}", "reference", text(dashboard["DashboardBody"])))["widgets"]


@pytest.fixture(scope="module")
def own_metrics(widgets, resources):
    """Name, dimensions and statistic of each metric in our namespace that the dashboard or an alarm uses."""
    return [*shown(widgets), *watched(resources("AWS::CloudWatch::Alarm").values())]


def shown(widgets):
    for widget in widgets:
        statistic = widget["properties"].get("stat", "Average")
        for entry in widget["properties"].get("metrics", []):
            options = entry[-1] if isinstance(entry[-1], dict) else {}
            if options.get("expression", "").startswith("SEARCH"):
                yield searched(options["expression"])
            elif entry[0] == NAMESPACE:
                names = [each for each in entry[2:] if isinstance(each, str)]
                yield entry[1], dict(zip(names[::2], names[1::2], strict=True)), options.get("stat", statistic)


def searched(expression):
    form = r"""SEARCH\('\{Framegate,service,(\w+)\} MetricName="(\w+)" service="(\S+)"', '(\w+)', 300\)"""
    dimension, name, service, statistic = re.fullmatch(form, expression).groups()
    return name, {"service": service, dimension: "each"}, statistic


def watched(alarms):
    for alarm in alarms:
        for each in alarm.get("Metrics", [alarm]):
            metric = each.get("MetricStat", {}).get("Metric", each)
            if metric.get("Namespace") == NAMESPACE:
                dimensions = {dimension["Name"]: dimension["Value"] for dimension in metric["Dimensions"]}
                yield metric["MetricName"], dimensions, each.get("MetricStat", {}).get("Stat", each.get("Statistic"))


def test_dashboard_shows_deliveries_then_latency_capacity_exports_and_queues(widgets):
    ordered = sorted(widgets, key=lambda each: (each["y"], each["x"]))

    assert [each["properties"]["title"] for each in ordered] == [
        "Alarms",
        "Frames delivered, by delivery, index pages and DICOM JSON",
        "Bytes delivered, by delivery",
        "Failed requests, by status",
        "Latency, ms",
        "HealthImaging latency, ms",
        "HealthImaging latency, p99 by delivery, ms",
        "Cold starts, by function",
        "Concurrent requests",
        "Throttled requests",
        "Frames exported per second",
        "Bytes exported",
        "Exports",
        "Export queue: age of the oldest message, s",
        "Export queue: messages",
        "Request manifests",
        "Refused requests",
        "Decision function latency, ms",
    ]


def test_dashboard_shows_all_alarms(widgets, resources):
    (status,) = (each for each in widgets if each["type"] == "alarm")

    assert len(status["properties"]["alarms"]) == len(
        {**resources("AWS::CloudWatch::Alarm"), **resources("AWS::CloudWatch::LogAlarm")}
    )


def test_latencies_are_percentiles(widgets):
    titles = ("Latency, ms", "HealthImaging latency, ms", "Decision function latency, ms")
    times = [each for each in widgets if each["properties"]["title"] in titles]
    statistics = [[entry[-1]["stat"] for entry in each["properties"]["metrics"]] for each in times]

    assert statistics == [["p50", "p90", "p99"]] * 3


def test_dashboard_and_alarms_use_metric_names_and_dimensions_that_the_code_writes(own_metrics):
    assert len(own_metrics) > 15
    for name, dimensions, _ in own_metrics:
        assert name in {*Metric, *FILTERED}
        assert dimensions["service"] == "Framegate"
        assert dimensions.keys() - {"service"} <= DIMENSIONS.get(name, set())


def test_exports_are_shown_as_a_rate_per_second(widgets):
    (widget,) = (each for each in widgets if each["properties"]["title"] == "Frames exported per second")
    expressions = [entry[0]["expression"] for entry in widget["properties"]["metrics"] if len(entry) == 1]

    assert expressions == [
        "framesCopied / PERIOD(framesCopied)",
        "framesPresent / PERIOD(framesPresent)",
        "framesFailed / PERIOD(framesFailed)",
    ]


def test_counts_use_the_sum_and_latencies_a_percentile(own_metrics):
    for name, _, statistic in own_metrics:
        assert (statistic == "Sum") is (name not in LATENCIES), name


def test_dashboard_shows_every_metric_that_the_code_writes(widgets):
    assert {name for name, _, _ in shown(widgets)} == {*Metric, *FILTERED}


@pytest.mark.parametrize("name", FILTERED)
def test_metric_filter_counts_refused_requests_in_the_access_log(resources, name):
    stage = only(resources("AWS::ApiGateway::Stage"))
    filters = {each["MetricTransformations"][0]["MetricName"]: each for each in filters_of(resources)}
    found = filters[name]
    (transformation,) = found["MetricTransformations"]

    assert filters.keys() == FILTERED.keys()
    assert f":log-group:{text(found['LogGroupName'])}" in text(stage["AccessLogSetting"]["DestinationArn"])
    assert found["FilterPattern"] == FILTERED[name]
    assert transformation == {
        "MetricNamespace": NAMESPACE,
        "MetricName": name,
        "MetricValue": "1",
        "Dimensions": [{"Key": "service", "Value": "$.service"}],
    }
    (field,) = re.findall(r"\$\.(\w+)", found["FilterPattern"])
    assert field in json.loads(stage["AccessLogSetting"]["Format"])
    assert json.loads(stage["AccessLogSetting"]["Format"])["service"] == "Framegate"


def filters_of(resources):
    return resources("AWS::Logs::MetricFilter").values()


def test_dashboard_name_contains_the_region(dashboard, template):
    assert text(dashboard["DashboardName"]) == "Framegate-${AWS::Region}"
    assert template.to_json()["Outputs"]["DashboardName"]["Value"] == dashboard["DashboardName"]


def test_functions_write_metrics_under_their_stack_name(synthesize):
    template = synthesize(export_events="none", stack_name="F" * 128)
    functions = properties(template, "AWS::Lambda::Function").values()

    assert {each["Environment"]["Variables"]["POWERTOOLS_SERVICE_NAME"] for each in functions} == {"F" * 128}
