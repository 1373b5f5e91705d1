"""The alarm on one principal that reads unusually many image sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import ArnFormat, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from infra.operations.alarms import RUNBOOK
from infra.permissions import allow, service_role

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aws_cdk import aws_logs as logs

    from infra.config import Config

PRINCIPAL_FIELD = "principal"
IMAGE_SET_FIELD = "imageSetId"
STATUS_FIELD = "status"
"""Fields of the log that the query reads."""

QUERY = f"filter ispresent({PRINCIPAL_FIELD}) and ispresent({IMAGE_SET_FIELD}) and {STATUS_FIELD} < 400"
DISTINCT_IMAGE_SETS = f"count_distinct({IMAGE_SET_FIELD}) by {PRINCIPAL_FIELD}"

WINDOW_SECONDS = 3600
"""The time over which image sets are counted."""

LOG_DELAY_SECONDS = 300
"""The age that log lines must have before they are counted, so that late ones are not missed."""

SCHEDULE = "rate(15 minutes)"
"""How often they are counted. The windows overlap, so that a burst around the full hour is seen as a whole."""


class UnusualReads(Construct):
    """A log alarm, which counts the different image sets that each principal reads in an hour.

    A metric cannot count different values, and a dimension with the caller's name would put it into every metric.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        The construct's id in `scope`.
    config : Config
        Gives the threshold and the stack name.
    log_groups : sequence of logs.ILogGroup
        The logs with the principal and the image set of each read.

    Attributes
    ----------
    alarm : cloudwatch.CfnLogAlarm
        The alarm. It notifies its topic for each principal above the threshold.
    alarm_arn : str
        The alarm's ARN, made from its name.

    References
    ----------
    Amazon CloudWatch user guide, "Log alarms". Amazon CloudWatch Logs user guide, "Scheduled queries".
    """

    def __init__(
        self, scope: Construct, construct_id: str, *, config: Config, log_groups: Sequence[logs.ILogGroup]
    ) -> None:
        super().__init__(scope, construct_id)
        name = f"{config.stack_name}-UnusualReads"
        role = service_role(
            self,
            "Role",
            # CloudWatch Logs runs the query of a log alarm. It decrypts the log by the policy of the key.
            service="logs.amazonaws.com",
            description="Role of the query that counts the image sets that each principal reads",
            statements=[
                # StopQuery has no resource-level permissions, so it would let the role stop every query of the account.
                allow(
                    "CountReads",
                    ["logs:StartQuery", "logs:GetQueryResults"],
                    *(each.log_group_arn for each in log_groups),
                )
            ],
        )
        self.alarm = cloudwatch.CfnLogAlarm(
            self,
            "Alarm",
            alarm_name=name,
            alarm_description=f"One principal read more than {config.unusual_image_sets_per_hour} image sets in an "
            "hour. Look up who it is and what it reads. If this is usual, raise unusual_image_sets_per_hour. "
            f"({RUNBOOK}, Unusual reads)",
            scheduled_query_configuration=cloudwatch.CfnLogAlarm.ScheduledQueryConfigurationProperty(
                query_string=QUERY,
                aggregation_expression=DISTINCT_IMAGE_SETS,
                log_group_identifiers=[each.log_group_name for each in log_groups],
                schedule_configuration=cloudwatch.CfnLogAlarm.ScheduleConfigurationProperty(
                    schedule_expression=SCHEDULE,
                    start_time_offset=WINDOW_SECONDS + LOG_DELAY_SECONDS,
                    end_time_offset=LOG_DELAY_SECONDS,
                ),
                scheduled_query_role_arn=role.role_arn,
            ),
            threshold=config.unusual_image_sets_per_hour,
            comparison_operator="GreaterThanThreshold",
            query_results_to_evaluate=1,
            query_results_to_alarm=1,
            treat_missing_data="notBreaching",
        )
        self.alarm_arn = Stack.of(self).format_arn(
            service="cloudwatch", resource="alarm", resource_name=name, arn_format=ArnFormat.COLON_RESOURCE_NAME
        )
