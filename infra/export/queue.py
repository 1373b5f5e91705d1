"""The queues of the export function, and the rules that send HealthImaging's events to one of them."""

from __future__ import annotations

from functools import partial
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
"""Attempts per message. The first retry follows after 20 seconds, each later one after twice as long: 36 minutes."""

RETENTION = Duration.days(14)


class ExportQueues(Construct):
    """The export queue and the deferred store queue, each with its dead-letter queue.

    The API function may send to the deferred store queue only, so it cannot start exports and removals, and its frames
    do not wait behind them.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        The construct's id in `scope`.
    config : Config
        Gives the events that start an export, the data stores, and the timeout of the export function.
    frame_store : FrameStore
        Its key encrypts the messages.

    Attributes
    ----------
    queue : sqs.Queue
        The export queue. It holds events of image sets and messages of the export function.
    dead_letters : sqs.Queue
        Its dead-letter queue. It holds messages that failed for good, and events that EventBridge could not deliver.
    deferred_stores : sqs.Queue
        The deferred store queue. It holds messages of the API function.
    deferred_store_dead_letters : sqs.Queue
        Its dead-letter queue.
    """

    def __init__(self, scope: Construct, construct_id: str, *, config: Config, frame_store: FrameStore) -> None:
        super().__init__(scope, construct_id)
        # CloudFormation deletes the queues with the stack: HealthImaging holds the data that the messages refer to.
        encrypted_queue = partial(
            sqs.Queue,
            self,
            encryption=sqs.QueueEncryption.KMS,
            encryption_master_key=frame_store.key,
            enforce_ssl=True,
            retention_period=RETENTION,
        )
        # AWS Lambda developer guide, "Using Lambda with Amazon SQS": six times the function's timeout.
        visibility_timeout = Duration.seconds(6 * config.export_timeout_seconds)
        self.dead_letters = encrypted_queue("DeadLetters")
        self.queue = encrypted_queue(
            "Queue",
            visibility_timeout=visibility_timeout,
            dead_letter_queue=sqs.DeadLetterQueue(max_receive_count=MAX_RECEIVES, queue=self.dead_letters),
        )
        self.deferred_store_dead_letters = encrypted_queue("DeferredStoreDeadLetters")
        self.deferred_stores = encrypted_queue(
            "DeferredStores",
            visibility_timeout=visibility_timeout,
            dead_letter_queue=sqs.DeadLetterQueue(
                max_receive_count=MAX_RECEIVES, queue=self.deferred_store_dead_letters
            ),
        )
        self._allow_events(self._rules(config), frame_store)

    def _rules(self, config: Config) -> list[events.CfnRule]:
        # The frame index must learn about new versions, exported or not. It does not know image sets just created.
        changes = dict.fromkeys([*config.export_events, UPDATED, COPIED])
        detail_types_by_rule = {
            "OnImageSetChange": [ImageSetChanged.detail_type(each) for each in changes],
            "OnImageSetDeletion": [ImageSetDeleted.DETAIL_TYPE],
        }
        return [
            # The CDK's Rule would let every rule of the account send to an encrypted queue.
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
            for construct_id, detail_types in detail_types_by_rule.items()
        ]

    def _allow_events(self, rules: list[events.CfnRule], frame_store: FrameStore) -> None:
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
        # The key's policy cannot name the rules: they depend on the queues, which depend on the key. The policies of
        # the queues name them.
        frame_store.key.add_to_resource_policy(
            iam.PolicyStatement(
                sid="EncryptEvents",
                principals=[event_bridge],
                actions=["kms:GenerateDataKey", "kms:Decrypt"],
                resources=["*"],
                conditions={"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}},
            )
        )
