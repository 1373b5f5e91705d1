"""The alarms: each description says what happened, what to do, and which section of the runbook says more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from framegate.observability import Metric
from infra.api.rest_api import DENIED_REQUESTS, FORBIDDEN_REQUESTS, THROTTLED_REQUESTS, UNAUTHORIZED_REQUESTS
from infra.operations.metrics import FIVE_MINUTES, SUM, Metrics

if TYPE_CHECKING:
    from aws_cdk import aws_lambda as lambda_
    from aws_cdk import aws_sqs as sqs
    from aws_cdk import aws_stepfunctions as sfn

    from infra.config import Config
    from infra.operations.watched import WatchedResources
RUNBOOK = "docs/operations.md"

FAILED_PERCENT = 5
MIN_FAILED_REQUESTS = 5
"""The share of the requests in five minutes that must fail to raise the alarm, and the least number of failures."""

SLOW_SECONDS = 10
MIN_MEASURED_REQUESTS = 20
"""The 99th percentile of the latency that raises the alarm, and the least number of requests a minute to judge it."""

REFUSED_REQUESTS = 10
"""Throttled requests in five minutes that raise the alarm."""

OLD_MESSAGE_DAYS = 7
"""Age of the oldest export message that raises the alarm: half of the time for which SQS keeps a message."""

REFUSED_CREDENTIALS = 100
"""Requests in five minutes that raise the alarm if they are answered with 401, or with 403.

A viewer whose token expires can send some dozens before it gets another.
"""

REFUSED_DATA_STORES = 20
"""Requests of authenticated callers, refused in five minutes for what they ask for, that raise the alarm."""

ONE_MINUTE = Duration.minutes(1)


class Alarms(Construct):
    """The alarms of the stack.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        The construct's id in `scope`.
    config : Config
        Gives the stack name, which starts the name of each alarm.
    watched : WatchedResources
        The resources whose metrics raise the alarms.

    Attributes
    ----------
    of_deployments : list of cloudwatch.Alarm
        The alarms that a faulty version of the API function raises.
    all : list of cloudwatch.Alarm
        All alarms.
    """

    def __init__(self, scope: Construct, construct_id: str, *, config: Config, watched: WatchedResources) -> None:
        super().__init__(scope, construct_id)
        self._config = config
        metrics = Metrics(config)
        self.of_deployments = [self._server_errors(metrics), self._slow_answers(metrics)]
        self.all = [
            *self.of_deployments,
            self._throttling(metrics, watched),
            self._old_messages(watched.queue),
            self._dead_letters("DeadLetters", watched.dead_letters, "Exports on events have failed for good."),
            self._dead_letters(
                "DeferredStoreDeadLetters",
                watched.deferred_store_dead_letters,
                "Frames that took too long for a request could not be stored either.",
            ),
            self._failed_exports(metrics),
            self._failed_requests(watched.state_machine),
            self._queue_errors("ExportErrors", watched.export_function, "export function"),
            self._request_errors(watched.request_function),
            self._unauthorized(metrics),
            self._forbidden(metrics),
            self._refused_data_stores(metrics),
        ]
        if watched.table_function and watched.table_dead_letters:
            self.all += [
                self._dead_letters(
                    "TableDeadLetters",
                    watched.table_dead_letters,
                    "The rows of some image sets could not be updated.",
                    function="table function",
                ),
                self._queue_errors("TableErrors", watched.table_function, "table function"),
            ]

    def _server_errors(self, metrics: Metrics) -> cloudwatch.Alarm:
        return self._alarm(
            "ServerErrors",
            cloudwatch.MathExpression(
                expression=f"IF(failed >= {MIN_FAILED_REQUESTS}, 100 * failed / requests, 0)",
                using_metrics={"failed": metrics.of_api("5XXError"), "requests": metrics.of_api("Count")},
                label="Failed requests, percent",
                period=FIVE_MINUTES,
            ),
            f"At least {FAILED_PERCENT} % of the requests in five minutes, and at least {MIN_FAILED_REQUESTS}, failed "
            "with a 5xx status. Look up their problem in the logs of the API function and the render function. If a "
            "deployment caused it, deploy the previous version.",
            section="Server errors",
            threshold=FAILED_PERCENT,
        )

    def _slow_answers(self, metrics: Metrics) -> cloudwatch.Alarm:
        return self._alarm(
            "SlowAnswers",
            cloudwatch.MathExpression(
                expression=f"IF(requests >= {MIN_MEASURED_REQUESTS}, latency, 0)",
                using_metrics={
                    "requests": metrics.of_api("Count", period=ONE_MINUTE),
                    "latency": metrics.of_api("Latency", cloudwatch.Stats.percentile(99), period=ONE_MINUTE),
                },
                label="Latency, 99th percentile, ms",
                period=ONE_MINUTE,
            ),
            f"In three of five minutes, one request in a hundred took longer than {SLOW_SECONDS} seconds. See on the "
            "dashboard whether HealthImaging is slow. Export large frames before viewers request them.",
            section="Slow answers",
            threshold=1000 * SLOW_SECONDS,
            evaluation_periods=5,
            datapoints_to_alarm=3,
        )

    def _throttling(self, metrics: Metrics, watched: WatchedResources) -> cloudwatch.Alarm:
        return self._alarm(
            "Throttling",
            cloudwatch.MathExpression(
                expression="FILL(refused, 0) + FILL(throttled, 0) + FILL(undrawn, 0)",
                using_metrics={
                    "refused": metrics.counted(THROTTLED_REQUESTS),
                    "throttled": watched.api_function.metric_throttles(period=FIVE_MINUTES),
                    "undrawn": watched.render_function.metric_throttles(period=FIVE_MINUTES),
                },
                label="Throttled requests",
                period=FIVE_MINUTES,
            ),
            "Requests have been throttled for 15 minutes, by throttle_rate, HealthImaging's quota or Lambda's "
            "concurrency. See on the dashboard which limit applies, and raise it.",
            section="Throttling",
            threshold=REFUSED_REQUESTS,
            evaluation_periods=3,
        )

    def _old_messages(self, queue: sqs.Queue) -> cloudwatch.Alarm:
        return self._alarm(
            "OldMessages",
            queue.metric_approximate_age_of_oldest_message(period=FIVE_MINUTES, statistic=cloudwatch.Stats.MAXIMUM),
            f"Exports on events have been waiting for {OLD_MESSAGE_DAYS} days, and SQS drops messages after 14. See on "
            "the dashboard whether exports progress. Raise export_concurrency and export_rate, or export the waiting "
            "image sets with a request manifest.",
            section="Old messages",
            threshold=OLD_MESSAGE_DAYS * 24 * 60 * 60,
        )

    def _dead_letters(
        self, name: str, dead_letters: sqs.Queue, failure: str, *, function: str = "export function"
    ) -> cloudwatch.Alarm:
        return self._alarm(
            name,
            dead_letters.metric_approximate_number_of_messages_visible(
                period=ONE_MINUTE, statistic=cloudwatch.Stats.MAXIMUM
            ),
            f"{failure} Look up the cause by the message's id in the log of the {function}, correct it, and send the "
            f"messages back: aws sqs start-message-move-task --source-arn {dead_letters.queue_arn}",
            section="Dead letters",
            threshold=1,
        )

    def _failed_exports(self, metrics: Metrics) -> cloudwatch.Alarm:
        return self._alarm(
            "FailedExports",
            metrics.counted(Metric.EXPORTS_FAILED),
            "An export could not get some frames, or found pixels that differ from the imported ones. Read in its "
            "manifest which frames, correct the cause, and export the image set again.",
            section="Failed exports",
            threshold=1,
        )

    def _failed_requests(self, state_machine: sfn.StateMachine) -> cloudwatch.Alarm:
        return self._alarm(
            "FailedRequests",
            state_machine.metric_failed(period=ONE_MINUTE, statistic=SUM),
            "The execution for a request manifest failed. Read why in the execution, correct the cause, and resume it: "
            "aws stepfunctions redrive-execution --execution-arn <arn of the execution>.",
            section="Failed requests",
            threshold=1,
        )

    # Lambda dates an error to the start of its invocation, up to 15 minutes before it reports it (AWS Lambda developer
    # guide, "Monitoring functions"). Both alarms on errors look back far enough to see it.

    def _queue_errors(self, name: str, function: lambda_.Function, what: str) -> cloudwatch.Alarm:
        # The function reports messages that fail as batch item failures, which Lambda does not count as errors.
        return self._alarm(
            name,
            function.metric_errors(period=FIVE_MINUTES, statistic=SUM),
            f"Lambda stopped the {what}, or the function could not start. Look up "
            '"Task timed out" and "Runtime" in its log. Lambda receives the messages again; if this persists, they end '
            "in the dead-letter queue.",
            section="Export errors",
            threshold=1,
            evaluation_periods=4,
            datapoints_to_alarm=1,
        )

    def _request_errors(self, function: lambda_.Function) -> cloudwatch.Alarm:
        # A task that fails is an error of the function. Step Functions retries it, so a single error is no reason for
        # an alarm.
        return self._alarm(
            "RequestErrors",
            function.metric_errors(period=FIVE_MINUTES, statistic=SUM),
            "Tasks of request manifests fail again and again: invocations of the request function failed in three of "
            "six periods of five minutes. Look up the cause in its log. Step Functions retries each task eight times.",
            section="Export errors",
            threshold=1,
            evaluation_periods=6,
            datapoints_to_alarm=3,
        )

    def _unauthorized(self, metrics: Metrics) -> cloudwatch.Alarm:
        return self._alarm(
            "Unauthorized",
            metrics.counted(UNAUTHORIZED_REQUESTS),
            f"At least {REFUSED_CREDENTIALS} requests in five minutes had no valid token (401). Look up their "
            "addresses and routes in the access log. A viewer that does not renew its token looks the same as somebody "
            "who tries tokens.",
            section="Unauthorized requests",
            threshold=REFUSED_CREDENTIALS,
        )

    def _forbidden(self, metrics: Metrics) -> cloudwatch.Alarm:
        return self._alarm(
            "Forbidden",
            metrics.counted(FORBIDDEN_REQUESTS),
            f"At least {REFUSED_CREDENTIALS} requests in five minutes were forbidden (403). Look up the reasons and "
            "the callers in the access log.",
            section="Forbidden requests",
            threshold=REFUSED_CREDENTIALS,
        )

    def _refused_data_stores(self, metrics: Metrics) -> cloudwatch.Alarm:
        return self._alarm(
            "RefusedDataStores",
            cloudwatch.MathExpression(
                expression="FILL(denied, 0) + FILL(refused, 0)",
                using_metrics={
                    "denied": metrics.counted(DENIED_REQUESTS),
                    "refused": metrics.counted(Metric.ERRORS, status="403"),
                },
                label="Refused data stores",
                period=FIVE_MINUTES,
            ),
            f"In five minutes, callers with valid credentials requested data that they may not read at least "
            f"{REFUSED_DATA_STORES} times. Look up who they are, and whether their permissions or their intentions "
            "are wrong.",
            section="Refused data stores",
            threshold=REFUSED_DATA_STORES,
        )

    def _alarm(
        self,
        name: str,
        metric: cloudwatch.IMetric,
        description: str,
        *,
        section: str,
        threshold: float,
        evaluation_periods: int = 1,
        datapoints_to_alarm: int | None = None,
    ) -> cloudwatch.Alarm:
        return cloudwatch.Alarm(
            self,
            name,
            alarm_name=f"{self._config.stack_name}-{name}",
            alarm_description=f"{description} ({RUNBOOK}, {section})",
            metric=metric,
            threshold=threshold,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            evaluation_periods=evaluation_periods,
            datapoints_to_alarm=datapoints_to_alarm,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
