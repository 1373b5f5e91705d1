"""The SNS topic that alarms are published to, and its subscription."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import ArnFormat, Aws, Stack
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sns as sns
from constructs import Construct

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aws_cdk import aws_cloudwatch as cloudwatch
    from aws_cdk import aws_kms as kms

    from infra.config import Config
    from infra.operations.unusual_reads import UnusualReads


class AlarmTopic(Construct):
    """Publishes the start and the end of each alarm.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        The construct's id in `scope`.
    config : Config
        Gives the e-mail address, if any.
    key : kms.Key
        Encrypts the messages.
    alarms : sequence of cloudwatch.Alarm
        The alarms that publish to the topic.
    unusual_reads : UnusualReads
        The log alarm, which publishes to it, too.

    Attributes
    ----------
    topic : sns.Topic
        The topic.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: Config,
        key: kms.Key,
        alarms: Sequence[cloudwatch.Alarm],
        unusual_reads: UnusualReads,
    ) -> None:
        super().__init__(scope, construct_id)
        self.topic = sns.Topic(
            self, "Topic", display_name=f"Alarms of {config.stack_name}"[:100], master_key=key, enforce_ssl=True
        )
        action = actions.SnsAction(self.topic)
        for alarm in alarms:
            alarm.add_alarm_action(action)
            alarm.add_ok_action(action)
        unusual_reads.alarm.alarm_actions = unusual_reads.alarm.ok_actions = [self.topic.topic_arn]
        self._allow_alarms(config, key, [*(alarm.alarm_arn for alarm in alarms), unusual_reads.alarm_arn])
        if config.alarm_email is not None:
            sns.Subscription(
                self,
                "Email",
                topic=self.topic,
                protocol=sns.SubscriptionProtocol.EMAIL,
                endpoint=config.alarm_email,
            )

    def _allow_alarms(self, config: Config, key: kms.Key, alarm_arns: Sequence[str]) -> None:
        cloudwatch_service = iam.ServicePrincipal("cloudwatch.amazonaws.com")
        same_account = {"aws:SourceAccount": Aws.ACCOUNT_ID}
        self.topic.add_to_resource_policy(
            iam.PolicyStatement(
                sid="TakeAlarms",
                principals=[cloudwatch_service],
                actions=["sns:Publish"],
                resources=[self.topic.topic_arn],
                conditions={
                    "StringEquals": same_account,
                    "ArnEquals": {"aws:SourceArn": list(alarm_arns)},
                },
            )
        )
        # Amazon SNS developer guide, "Managing Amazon SNS encryption keys and costs". The key's policy cannot name the
        # alarms: they depend on the topic, which depends on the key.
        own_alarms = Stack.of(self).format_arn(
            service="cloudwatch",
            resource="alarm",
            resource_name=f"{config.stack_name}-*",
            arn_format=ArnFormat.COLON_RESOURCE_NAME,
        )
        key.add_to_resource_policy(
            iam.PolicyStatement(
                sid="EncryptAlarms",
                principals=[cloudwatch_service],
                actions=["kms:GenerateDataKey*", "kms:Decrypt"],
                resources=["*"],
                conditions={"StringEquals": same_account, "ArnLike": {"aws:SourceArn": own_alarms}},
            )
        )
