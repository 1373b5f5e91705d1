"""The queue of the export, the dead-letter queue behind it, and the events of HealthImaging that go there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Aws, Duration
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from framegate.messages import COPIED, UPDATED, ImageSetChanged, ImageSetDeleted

if TYPE_CHECKING:
    from infra.config import Config
    from infra.frame_store import FrameStore

MAX_RECEIVES = 8
"""Times that a message is tried: 20 seconds after the first, then twice as long each time, 36 minutes in all."""

RETENTION = Duration.days(14)


class ExportQueue(Construct):
    """Holds what is to be exported, removed or stored, until it is done.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        Its name there.
    config : Config
        Decides the events that are listened to, and how long a message is worked on.
    frame_store : FrameStore
        Has the key that encrypts messages.

    Attributes
    ----------
    queue : sqs.Queue
        Events of image sets and messages of our own.
    dead_letters : sqs.Queue
        What could not be done, and what EventBridge could not deliver.
    """

    def __init__(self, scope: Construct, construct_id: str, *, config: Config, frame_store: FrameStore) -> None:
        super().__init__(scope, construct_id)
        # Nothing is kept in a queue that is not in HealthImaging: queues go with the stack.
        self.dead_letters = sqs.Queue(
            self,
            "DeadLetters",
            encryption=sqs.QueueEncryption.KMS,
            encryption_master_key=frame_store.key,
            enforce_ssl=True,
            retention_period=RETENTION,
        )
        self.queue = sqs.Queue(
            self,
            "Queue",
            encryption=sqs.QueueEncryption.KMS,
            encryption_master_key=frame_store.key,
            enforce_ssl=True,
            retention_period=RETENTION,
            # AWS Lambda developer guide, "Using Lambda with Amazon SQS": six times the function's timeout.
            visibility_timeout=Duration.seconds(6 * config.export_timeout_seconds),
            dead_letter_queue=sqs.DeadLetterQueue(max_receive_count=MAX_RECEIVES, queue=self.dead_letters),
        )
        self._let_events_in(self._rules(config), frame_store)

    def _rules(self, config: Config) -> list[events.CfnRule]:
        # The frame index must learn about new versions, exported or not. It has nothing of an image set just created.
        changes = dict.fromkeys([*config.export_events, UPDATED, COPIED])
        wanted = {"OnImageSetChange": [ImageSetChanged.detail_type(each) for each in changes]}
        wanted["OnImageSetDeletion"] = [ImageSetDeleted.DETAIL_TYPE]
        return [
            # Not CDK's Rule: with an encrypted queue for a target, it lets every rule of the account send there.
            events.CfnRule(
                self,
                construct_id,
                description=f"{' / '.join(detail_types)}, in the data stores of {config.stack_name}",
                event_pattern={
                    "source": [config.event_source],
                    "detail-type": detail_types,
                    "detail": {"datastoreId": list(config.datastore_ids)},
                },
                targets=[
                    events.CfnRule.TargetProperty(
                        id="ExportQueue",
                        arn=self.queue.queue_arn,
                        dead_letter_config=events.CfnRule.DeadLetterConfigProperty(arn=self.dead_letters.queue_arn),
                        retry_policy=events.CfnRule.RetryPolicyProperty(
                            maximum_event_age_in_seconds=24 * 60 * 60, maximum_retry_attempts=185
                        ),
                    )
                ],
            )
            for construct_id, detail_types in wanted.items()
        ]

    def _let_events_in(self, rules: list[events.CfnRule], frame_store: FrameStore) -> None:
        event_bridge = iam.ServicePrincipal("events.amazonaws.com")
        for queue in (self.queue, self.dead_letters):
            queue.add_to_resource_policy(
                iam.PolicyStatement(
                    sid="TakeEvents",
                    principals=[event_bridge],
                    actions=["sqs:SendMessage"],
                    resources=[queue.queue_arn],
                    conditions={"ArnEquals": {"aws:SourceArn": [rule.attr_arn for rule in rules]}},
                )
            )
        # The key cannot name the rules, which name the queues, which name the key. The queues' policies do.
        frame_store.key.add_to_resource_policy(
            iam.PolicyStatement(
                sid="EncryptEvents",
                principals=[event_bridge],
                actions=["kms:GenerateDataKey", "kms:Decrypt"],
                resources=["*"],
                conditions={"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}},
            )
        )
