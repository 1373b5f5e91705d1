"""Encrypted SQS queues with dead-letter queues, the rules that send events to them, and the permission to read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from aws_cdk import Duration
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sqs as sqs

from infra.permissions import allow

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from aws_cdk import aws_kms as kms
    from constructs import Construct

MAX_RECEIVES = 8
"""Attempts per message. The first retry follows after 20 seconds, each later one after twice as long: 36 minutes."""

RETENTION = Duration.days(14)

EVENT_BRIDGE = "events.amazonaws.com"
"""The service that delivers events to queues."""


class QueuePair(NamedTuple):
    """A queue and its dead-letter queue."""

    queue: sqs.Queue
    dead_letters: sqs.Queue


def queue_pair(scope: Construct, queue_id: str, dead_letters_id: str, *, key: kms.IKey, timeout: Duration) -> QueuePair:
    """Create a queue and its dead-letter queue.

    CloudFormation deletes both with the stack: HealthImaging holds the data that the messages refer to.

    Parameters
    ----------
    scope : Construct
        The construct that the queues belong to.
    queue_id, dead_letters_id : str
        The ids of the queues in `scope`.
    key : kms.IKey
        Encrypts the messages.
    timeout : Duration
        Time limit of the function that reads the queue.
    """

    def queue(construct_id: str, **properties: Any) -> sqs.Queue:
        return sqs.Queue(
            scope,
            construct_id,
            encryption=sqs.QueueEncryption.KMS,
            encryption_master_key=key,
            enforce_ssl=True,
            retention_period=RETENTION,
            **properties,
        )

    dead_letters = queue(dead_letters_id)
    return QueuePair(
        queue(
            queue_id,
            # AWS Lambda developer guide, "Using Lambda with Amazon SQS": six times the function's timeout.
            visibility_timeout=Duration.seconds(6 * timeout.to_seconds()),
            dead_letter_queue=sqs.DeadLetterQueue(max_receive_count=MAX_RECEIVES, queue=dead_letters),
        ),
        dead_letters,
    )


def event_rule(
    scope: Construct, construct_id: str, *, target_id: str, to: QueuePair, description: str, pattern: Mapping[str, Any]
) -> events.CfnRule:
    """Create a rule that sends events to a queue, and those that it cannot deliver to the dead-letter queue.

    The CDK's Rule would let every rule of the account send to an encrypted queue.

    Parameters
    ----------
    scope : Construct
        The construct that the rule belongs to.
    construct_id : str
        The rule's id in `scope`.
    target_id : str
        The name of the queue within the rule.
    to : QueuePair
        The queues.
    description : str
        What the events tell; the console shows it.
    pattern : mapping
        The pattern of the events.
    """
    return events.CfnRule(
        scope,
        construct_id,
        description=description,
        event_pattern=pattern,
        targets=[
            events.CfnRule.TargetProperty(
                id=target_id,
                arn=to.queue.queue_arn,
                dead_letter_config=events.CfnRule.DeadLetterConfigProperty(arn=to.dead_letters.queue_arn),
                retry_policy=events.CfnRule.RetryPolicyProperty(
                    maximum_event_age_in_seconds=24 * 60 * 60, maximum_retry_attempts=185
                ),
            )
        ],
    )


def take_events(queues: Iterable[sqs.Queue], rules: Sequence[events.CfnRule]) -> None:
    """Let rules, and no others, send events to queues."""
    for queue in queues:
        queue.add_to_resource_policy(
            iam.PolicyStatement(
                sid="TakeEvents",
                principals=[iam.ServicePrincipal(EVENT_BRIDGE)],
                actions=["sqs:SendMessage"],
                resources=[queue.queue_arn],
                conditions={"ArnEquals": {"aws:SourceArn": [rule.attr_arn for rule in rules]}},
            )
        )


def work_off(*queues: sqs.Queue) -> iam.PolicyStatement:
    """Return the statement for a function that reads queues, and sends itself messages to continue its work."""
    return allow(
        "WorkQueueOff",
        [
            "sqs:ReceiveMessage",
            "sqs:DeleteMessage",
            "sqs:GetQueueAttributes",
            "sqs:ChangeMessageVisibility",
            "sqs:SendMessage",
        ],
        *(each.queue_arn for each in queues),
    )
