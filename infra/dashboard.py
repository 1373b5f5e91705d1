"""The dashboard: what viewers get, what it takes, what is exported, and what waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Aws
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from framegate.observability import Metric
from infra.metrics import FIVE_MINUTES, SUM, Metrics
from infra.rest_api import THROTTLED_REQUESTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aws_cdk import aws_lambda as lambda_
    from aws_cdk import aws_sqs as sqs
    from aws_cdk import aws_stepfunctions as sfn

    from infra.config import Config

MAXIMUM = cloudwatch.Stats.MAXIMUM
PERCENTILES = (50, 90, 99)


class Dashboard(Construct):
    """One page on a deployment.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        Its name there.
    config : Config
        Has the deployment's name.
    alarms : sequence of cloudwatch.Alarm
        Shown on top.
    function : lambda_.Alias
        Answers the API's requests.
    queue, dead_letters : sqs.Queue
        What exports on events wait in, and where they end when they fail for good.
    state_machine : sfn.StateMachine
        Works request manifests off.

    Attributes
    ----------
    name : str
        What it is called in CloudWatch.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: Config,
        alarms: Sequence[cloudwatch.Alarm],
        function: lambda_.Alias,
        queue: sqs.Queue,
        dead_letters: sqs.Queue,
        state_machine: sfn.StateMachine,
    ) -> None:
        super().__init__(scope, construct_id)
        # An account has its dashboards for all Regions together.
        self.name = f"{config.stack_name}-{Aws.REGION}"
        metrics = Metrics(config)
        cloudwatch.Dashboard(
            self,
            "Dashboard",
            dashboard_name=self.name,
            widgets=[
                [cloudwatch.AlarmStatusWidget(title="Alarms", alarms=list(alarms), width=24, height=3)],
                _requests(metrics),
                _times(metrics),
                _capacity(metrics, function),
                _exports(metrics),
                _waiting(queue, dead_letters, state_machine),
            ],
        )


def _requests(metrics: Metrics) -> list[cloudwatch.IWidget]:
    return [
        _graph(
            "Frames delivered, by delivery, and pages of the index",
            metrics.counted_by("delivery", Metric.FRAMES),
            metrics.counted(Metric.INDEX_PAGES, label="index"),
            stacked=True,
        ),
        _graph("Bytes delivered, by delivery", metrics.counted_by("delivery", Metric.FRAME_BYTES), stacked=True),
        _graph("Requests refused or failed, by status", metrics.counted_by("status", Metric.ERRORS), stacked=True),
    ]


def _times(metrics: Metrics) -> list[cloudwatch.IWidget]:
    return [
        _graph(
            "Time to answer, ms",
            *(metrics.of_api("Latency", f"p{each}", label=f"p{each}") for each in PERCENTILES),
        ),
        _graph(
            "Time that HealthImaging takes, ms",
            *(metrics.counted(Metric.UPSTREAM_LATENCY, f"p{each}", label=f"p{each}") for each in PERCENTILES),
        ),
        _graph(
            "Time that HealthImaging takes, p99 by delivery, ms",
            metrics.counted_by("delivery", Metric.UPSTREAM_LATENCY, "p99"),
        ),
    ]


def _capacity(metrics: Metrics, function: lambda_.Alias) -> list[cloudwatch.IWidget]:
    return [
        _graph("Cold starts, by function", metrics.counted_by("handler", Metric.COLD_STARTS), stacked=True),
        _graph(
            "Requests at the same time",
            function.metric("ConcurrentExecutions", statistic=MAXIMUM, period=FIVE_MINUTES, label="API function"),
        ),
        _graph(
            "Refused for being too many",
            metrics.counted(THROTTLED_REQUESTS, label="by throttle_rate or HealthImaging"),
            metrics.counted(Metric.ERRORS, status="429", label="of these, by HealthImaging or S3"),
            function.metric_throttles(period=FIVE_MINUTES, label="by Lambda"),
        ),
    ]


def _exports(metrics: Metrics) -> list[cloudwatch.IWidget]:
    return [
        _graph(
            "Frames exported a second",
            metrics.a_second(Metric.FRAMES_COPIED, label="copied"),
            metrics.a_second(Metric.FRAMES_PRESENT, label="there already"),
            metrics.a_second(Metric.FRAMES_FAILED, label="failed"),
            stacked=True,
        ),
        _graph("Bytes exported", metrics.counted(Metric.EXPORTED_BYTES, label="bytes")),
        _graph(
            "Exports",
            metrics.counted(Metric.EXPORTS_COMPLETED, label="completed"),
            metrics.counted(Metric.EXPORTS_FAILED, label="failed"),
            metrics.counted(Metric.EXPORT_RETRIES, label="tried again"),
        ),
    ]


def _waiting(queue: sqs.Queue, dead_letters: sqs.Queue, state_machine: sfn.StateMachine) -> list[cloudwatch.IWidget]:
    return [
        _graph(
            "Export queue: age of the oldest message, s",
            queue.metric_approximate_age_of_oldest_message(statistic=MAXIMUM, period=FIVE_MINUTES, label="age"),
        ),
        _graph(
            "Export queue: messages",
            queue.metric_approximate_number_of_messages_visible(
                statistic=MAXIMUM, period=FIVE_MINUTES, label="waiting"
            ),
            queue.metric_approximate_number_of_messages_not_visible(
                statistic=MAXIMUM, period=FIVE_MINUTES, label="being worked on, or tried again later"
            ),
            dead_letters.metric_approximate_number_of_messages_visible(
                statistic=MAXIMUM, period=FIVE_MINUTES, label="dead letters"
            ),
        ),
        _graph(
            "Request manifests",
            state_machine.metric_started(statistic=SUM, period=FIVE_MINUTES, label="begun"),
            state_machine.metric_succeeded(statistic=SUM, period=FIVE_MINUTES, label="worked off"),
            state_machine.metric_failed(statistic=SUM, period=FIVE_MINUTES, label="failed"),
        ),
    ]


def _graph(title: str, *metrics: cloudwatch.IMetric, stacked: bool = False) -> cloudwatch.IWidget:
    return cloudwatch.GraphWidget(
        title=title,
        left=list(metrics),
        left_y_axis=cloudwatch.YAxisProps(min=0, show_units=False),
        stacked=stacked,
        width=8,
    )
