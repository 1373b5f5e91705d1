"""Notifies operators of every call that disables the key, schedules its deletion, or changes its policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sns as sns
from constructs import Construct

from infra.acknowledge import acknowledge
from infra.operations.alarms import RUNBOOK

if TYPE_CHECKING:
    from aws_cdk import aws_kms as kms

    from infra.config import Config

WATCHED_CALLS = ("DisableKey", "ScheduleKeyDeletion", "PutKeyPolicy")
"""Operations of KMS after which the key may be unusable, or usable by others."""


class KeyWatch(Construct):
    """A rule for CloudTrail's records of these calls, and a topic of its own.

    A disabled key cannot encrypt the notification that it is disabled, so the key does not encrypt this topic. Its
    messages contain the name of the call, the caller's ARN and the time.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        The construct's id in `scope`.
    config : Config
        Gives the stack name and the e-mail address, if any.
    key : kms.IKey
        The key to watch.

    Attributes
    ----------
    topic : sns.Topic
        The topic.

    References
    ----------
    Amazon EventBridge events reference, "AWS Key Management Service events": CloudTrail must have a trail.
    """

    def __init__(self, scope: Construct, construct_id: str, *, config: Config, key: kms.IKey) -> None:
        super().__init__(scope, construct_id)
        self.topic = sns.Topic(
            self, "Topic", display_name=f"Changes of the key of {config.stack_name}"[:100], enforce_ssl=True
        )
        acknowledge(
            self.topic,
            "The topic says that the key is disabled, and the disabled key could not encrypt that message. Messages "
            "contain no data of patients.",
            "HIPAA.Security-SNSEncryptedKMS",
        )
        rule = events.CfnRule(
            self,
            "OnKeyChange",
            description=f"Calls that disable, delete or open the key of {config.stack_name}",
            event_pattern={
                "source": ["aws.kms"],
                "detail-type": ["AWS API Call via CloudTrail"],
                "detail": {
                    "eventSource": ["kms.amazonaws.com"],
                    "eventName": list(WATCHED_CALLS),
                    "resources": {"ARN": [key.key_arn]},
                },
            },
            targets=[
                events.CfnRule.TargetProperty(
                    id="Topic",
                    arn=self.topic.topic_arn,
                    input_transformer=events.CfnRule.InputTransformerProperty(
                        input_paths_map={
                            "call": "$.detail.eventName",
                            "caller": "$.detail.userIdentity.arn",
                            "time": "$.time",
                        },
                        input_template=f'"<caller> called <call> for the key of {config.stack_name} at <time>. '
                        f'({RUNBOOK}, Changes of the key)"',
                    ),
                )
            ],
        )
        self.topic.add_to_resource_policy(
            iam.PolicyStatement(
                sid="TakeKeyChanges",
                principals=[iam.ServicePrincipal("events.amazonaws.com")],
                actions=["sns:Publish"],
                resources=[self.topic.topic_arn],
                conditions={"ArnEquals": {"aws:SourceArn": rule.attr_arn}},
            )
        )
        if config.alarm_email is not None:
            sns.Subscription(
                self,
                "Email",
                topic=self.topic,
                protocol=sns.SubscriptionProtocol.EMAIL,
                endpoint=config.alarm_email,
            )
