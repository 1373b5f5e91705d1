"""What wakes an operator: each alarm says what happened and what to do, and the runbook says more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from framegate.observability import Metric
from infra.metrics import FIVE_MINUTES, Metrics
from infra.rest_api import THROTTLED_REQUESTS

if TYPE_CHECKING:
    from aws_cdk import aws_lambda as lambda_
    from aws_cdk import aws_sqs as sqs
    from aws_cdk import aws_stepfunctions as sfn

    from infra.config import Config

RUNBOOK = "docs/operations.md"

FAILED_PERCENT = 5
LEAST_FAILED = 5
"""Share of requests that may fail in five minutes, and how few are never a reason to wake anyone."""

SLOW_SECONDS = 10
LEAST_MEASURED = 20
"""How slow one request in a hundred may be, and of how many in a minute at least."""

REFUSED = 10
"""Requests in five minutes that may be refused for being too many."""

OLD_DAYS = 7
"""Days for which an export on an event may wait: half of those for which SQS keeps it."""

ONE_MINUTE = Duration.minutes(1)


class Alarms(Construct):
    """The alarms of the stack.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        Its name there.
    config : Config
        Has the name that the alarms' own begin with.
    function : lambda_.Alias
        Answers the API's requests.
    queue : sqs.Queue
        What exports on events wait in.
    dead_letters : sqs.Queue
        Where what could not be exported ends.
    state_machine : sfn.StateMachine
        Works request manifests off.

    Attributes
    ----------
    of_deployments : list of cloudwatch.Alarm
        Those that a bad version of the API's function sets off.
    all : list of cloudwatch.Alarm
        Each of them.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: Config,
        function: lambda_.Alias,
        queue: sqs.Queue,
        dead_letters: sqs.Queue,
        state_machine: sfn.StateMachine,
    ) -> None:
        super().__init__(scope, construct_id)
        self._config = config
        metrics = Metrics(config)
        self.of_deployments = [self._server_errors(metrics), self._slow_answers(metrics)]
        self.all = [
            *self.of_deployments,
            self._throttling(metrics, function),
            self._old_messages(queue),
            self._dead_letters(dead_letters),
            self._failed_exports(metrics),
            self._failed_requests(state_machine),
        ]

    def _server_errors(self, metrics: Metrics) -> cloudwatch.Alarm:
        return self._alarm(
            "ServerErrors",
            cloudwatch.MathExpression(
                expression=f"IF(failed >= {LEAST_FAILED}, 100 * failed / requests, 0)",
                using_metrics={"failed": metrics.of_api("5XXError"), "requests": metrics.of_api("Count")},
                label="Requests that failed, in percent",
                period=FIVE_MINUTES,
            ),
            f"Of the requests in five minutes, {FAILED_PERCENT} % and at least {LEAST_FAILED} failed with a status of "
            "5xx. Look up their problem in the API function's log; if it came with a deployment, deploy what was there "
            "before.",
            section="Server errors",
            threshold=FAILED_PERCENT,
        )

    def _slow_answers(self, metrics: Metrics) -> cloudwatch.Alarm:
        return self._alarm(
            "SlowAnswers",
            cloudwatch.MathExpression(
                expression=f"IF(requests >= {LEAST_MEASURED}, latency, 0)",
                using_metrics={
                    "requests": metrics.of_api("Count", period=ONE_MINUTE),
                    "latency": metrics.of_api("Latency", cloudwatch.Stats.percentile(99), period=ONE_MINUTE),
                },
                label="Time to answer, 99th percentile, in milliseconds",
                period=ONE_MINUTE,
            ),
            f"In three minutes of five, one request in a hundred took longer than {SLOW_SECONDS} seconds. See on the "
            "dashboard whether HealthImaging takes the time; have large frames exported before viewers ask for them.",
            section="Slow answers",
            threshold=1000 * SLOW_SECONDS,
            evaluation_periods=5,
            datapoints_to_alarm=3,
        )

    def _throttling(self, metrics: Metrics, function: lambda_.Alias) -> cloudwatch.Alarm:
        return self._alarm(
            "Throttling",
            cloudwatch.MathExpression(
                expression="FILL(refused, 0) + FILL(throttled, 0)",
                using_metrics={
                    "refused": metrics.counted(THROTTLED_REQUESTS),
                    "throttled": function.metric_throttles(period=FIVE_MINUTES),
                },
                label="Requests refused for being too many",
                period=FIVE_MINUTES,
            ),
            "For 15 minutes, requests have been refused for being too many: by throttle_rate, HealthImaging's quota or "
            "Lambda's concurrency. See on the dashboard by which, and raise it.",
            section="Throttling",
            threshold=REFUSED,
            evaluation_periods=3,
        )

    def _old_messages(self, queue: sqs.Queue) -> cloudwatch.Alarm:
        return self._alarm(
            "OldMessages",
            queue.metric_approximate_age_of_oldest_message(period=FIVE_MINUTES, statistic=cloudwatch.Stats.MAXIMUM),
            f"Exports on events have been waiting for {OLD_DAYS} days, and what waits for 14 is lost. See on the "
            "dashboard whether any are done; raise export_concurrency and export_rate, or export what waits by request "
            "manifests.",
            section="Old messages",
            threshold=OLD_DAYS * 24 * 60 * 60,
        )

    def _dead_letters(self, dead_letters: sqs.Queue) -> cloudwatch.Alarm:
        return self._alarm(
            "DeadLetters",
            dead_letters.metric_approximate_number_of_messages_visible(
                period=ONE_MINUTE, statistic=cloudwatch.Stats.MAXIMUM
            ),
            "Exports on events have failed for good. Look up the cause in the export function's log by the message's "
            "id, mend it, and send the messages back: aws sqs start-message-move-task --source-arn "
            f"{dead_letters.queue_arn}",
            section="Dead letters",
            threshold=1,
        )

    def _failed_exports(self, metrics: Metrics) -> cloudwatch.Alarm:
        return self._alarm(
            "FailedExports",
            metrics.counted(Metric.EXPORTS_FAILED),
            "An export left out frames that it could not get, or found other pixels than were imported. Read which in "
            "its manifest, mend the cause, and export the image set again.",
            section="Failed exports",
            threshold=1,
        )

    def _failed_requests(self, state_machine: sfn.StateMachine) -> cloudwatch.Alarm:
        return self._alarm(
            "FailedRequests",
            state_machine.metric_failed(period=ONE_MINUTE, statistic=cloudwatch.Stats.SUM),
            "A request manifest could not be worked off. Read why in the execution, mend it, and go on where it "
            "stopped: aws stepfunctions redrive-execution --execution-arn <the execution's>.",
            section="Failed requests",
            threshold=1,
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
