"""The CloudWatch dashboard: deliveries, latency, capacity, exports and queues."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Aws
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from framegate.observability import Metric
from infra.api.rest_api import DENIED_REQUESTS, FORBIDDEN_REQUESTS, THROTTLED_REQUESTS, UNAUTHORIZED_REQUESTS
from infra.operations.metrics import FIVE_MINUTES, SUM, Metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.config import Config
    from infra.operations.watched import WatchedResources

MAXIMUM = cloudwatch.Stats.MAXIMUM
PERCENTILES = (50, 90, 99)


class Dashboard(Construct):
    """The dashboard of a deployment.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        The construct's id in `scope`.
    config : Config
        Gives the name of the deployment.
    alarms : sequence of cloudwatch.IAlarm
        The alarms that the first row shows.
    watched : WatchedResources
        The resources whose metrics the dashboard shows.

    Attributes
    ----------
    name : str
        Name of the dashboard in CloudWatch.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: Config,
        alarms: Sequence[cloudwatch.IAlarm],
        watched: WatchedResources,
    ) -> None:
        super().__init__(scope, construct_id)
        # The names of dashboards are unique in an account, across all Regions.
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
                _capacity(metrics, watched),
                _exports(metrics, watched),
                _waiting(watched),
                _access(metrics),
            ],
        )


def _requests(metrics: Metrics) -> list[cloudwatch.IWidget]:
    return [
        _graph(
            "Frames delivered, by delivery, index pages and DICOM JSON",
            metrics.counted_by("delivery", Metric.FRAMES),
            metrics.counted(Metric.INDEX_PAGES, label="index"),
            metrics.counted(Metric.DATASETS, label="DICOM JSON"),
            stacked=True,
        ),
        _graph("Bytes delivered, by delivery", metrics.counted_by("delivery", Metric.FRAME_BYTES), stacked=True),
        _graph("Failed requests, by status", metrics.counted_by("status", Metric.ERRORS), stacked=True),
    ]


def _times(metrics: Metrics) -> list[cloudwatch.IWidget]:
    return [
        _graph(
            "Latency, ms",
            *(metrics.of_api("Latency", f"p{each}", label=f"p{each}") for each in PERCENTILES),
        ),
        _graph(
            "HealthImaging latency, ms",
            *(metrics.counted(Metric.UPSTREAM_LATENCY, f"p{each}", label=f"p{each}") for each in PERCENTILES),
        ),
        _graph(
            "HealthImaging latency, p99 by delivery, ms",
            metrics.counted_by("delivery", Metric.UPSTREAM_LATENCY, "p99"),
        ),
    ]


def _capacity(metrics: Metrics, watched: WatchedResources) -> list[cloudwatch.IWidget]:
    return [
        _graph("Cold starts, by function", metrics.counted_by("handler", Metric.COLD_STARTS), stacked=True),
        _graph(
            "Concurrent requests",
            watched.api_function.metric(
                "ConcurrentExecutions", statistic=MAXIMUM, period=FIVE_MINUTES, label="API function"
            ),
            watched.render_function.metric(
                "ConcurrentExecutions", statistic=MAXIMUM, period=FIVE_MINUTES, label="render function"
            ),
        ),
        _graph(
            "Throttled requests",
            metrics.counted(THROTTLED_REQUESTS, label="by throttle_rate or HealthImaging"),
            metrics.counted(Metric.ERRORS, status="429", label="of these, by HealthImaging or S3"),
            watched.api_function.metric_throttles(period=FIVE_MINUTES, label="by Lambda"),
            watched.render_function.metric_throttles(period=FIVE_MINUTES, label="by Lambda, of pictures"),
        ),
    ]


def _exports(metrics: Metrics, watched: WatchedResources) -> list[cloudwatch.IWidget]:
    return [
        _graph(
            "Frames exported per second",
            metrics.per_second(Metric.FRAMES_COPIED, label="copied"),
            metrics.per_second(Metric.FRAMES_PRESENT, label="already present"),
            metrics.per_second(Metric.FRAMES_FAILED, label="failed"),
            stacked=True,
        ),
        _graph("Bytes exported", metrics.counted(Metric.EXPORTED_BYTES, label="bytes")),
        _graph(
            "Exports",
            metrics.counted(Metric.EXPORTS_COMPLETED, label="completed"),
            metrics.counted(Metric.EXPORTS_FAILED, label="failed"),
            metrics.counted(Metric.EXPORT_RETRIES, label="retried"),
            watched.export_function.metric_errors(period=FIVE_MINUTES, label="errors of the export function"),
            watched.request_function.metric_errors(period=FIVE_MINUTES, label="errors of the request function"),
        ),
    ]


def _waiting(watched: WatchedResources) -> list[cloudwatch.IWidget]:
    queue, state_machine = watched.queue, watched.state_machine
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
                statistic=MAXIMUM, period=FIVE_MINUTES, label="in progress, or hidden until a retry"
            ),
            watched.dead_letters.metric_approximate_number_of_messages_visible(
                statistic=MAXIMUM, period=FIVE_MINUTES, label="dead letters"
            ),
            watched.deferred_stores.metric_approximate_number_of_messages_visible(
                statistic=MAXIMUM, period=FIVE_MINUTES, label="deferred stores waiting"
            ),
            watched.deferred_store_dead_letters.metric_approximate_number_of_messages_visible(
                statistic=MAXIMUM, period=FIVE_MINUTES, label="dead letters of deferred stores"
            ),
        ),
        _graph(
            "Request manifests",
            state_machine.metric_started(statistic=SUM, period=FIVE_MINUTES, label="started"),
            state_machine.metric_succeeded(statistic=SUM, period=FIVE_MINUTES, label="succeeded"),
            state_machine.metric_failed(statistic=SUM, period=FIVE_MINUTES, label="failed"),
        ),
    ]


def _access(metrics: Metrics) -> list[cloudwatch.IWidget]:
    return [
        _graph(
            "Refused requests",
            metrics.counted(UNAUTHORIZED_REQUESTS, label="no valid token (401)"),
            metrics.counted(FORBIDDEN_REQUESTS, label="forbidden (403)"),
            metrics.counted(DENIED_REQUESTS, label="of these, denied by a policy"),
            metrics.counted(Metric.ERRORS, status="403", label="of these, denied by the function"),
        ),
        _graph(
            "Decision function latency, ms",
            *(metrics.counted(Metric.AUTHORIZATION_LATENCY, f"p{each}", label=f"p{each}") for each in PERCENTILES),
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
