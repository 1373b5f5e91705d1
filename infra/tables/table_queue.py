"""The queue of the table function, and the rules that send S3's events to it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from aws_cdk import Duration
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from framegate.bucket_layout import FRAME_PREFIX, INSTANCE_PREFIX, manifest_wildcard
from framegate.messages import ObjectChanged
from infra.export.queue import MAX_RECEIVES, RETENTION

if TYPE_CHECKING:
    from infra.config import Config
    from infra.frame_store import FrameStore

TIMEOUT_SECONDS = 300
"""Time limit of an invocation of the table function. A batch of a thousand new image sets takes 100 seconds."""


class TableQueue(Construct):
    """The table queue and its dead-letter queue.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        The construct's id in `scope`.
    config : Config
        Gives the data stores.
    frame_store : FrameStore
        The bucket whose events the queue gets. Its key encrypts the messages.

    Attributes
    ----------
    queue : sqs.Queue
        The table queue. It holds events of manifests and of removed objects, and messages of the table function.
    dead_letters : sqs.Queue
        Its dead-letter queue.
    """

    def __init__(self, scope: Construct, construct_id: str, *, config: Config, frame_store: FrameStore) -> None:
        super().__init__(scope, construct_id)
        encrypted_queue = partial(
            sqs.Queue,
            self,
            encryption=sqs.QueueEncryption.KMS,
            encryption_master_key=frame_store.key,
            enforce_ssl=True,
            retention_period=RETENTION,
        )
        self.dead_letters = encrypted_queue("DeadLetters")
        self.queue = encrypted_queue(
            "Queue",
            # AWS Lambda developer guide, "Using Lambda with Amazon SQS": six times the function's timeout.
            visibility_timeout=Duration.seconds(6 * TIMEOUT_SECONDS),
            dead_letter_queue=sqs.DeadLetterQueue(max_receive_count=MAX_RECEIVES, queue=self.dead_letters),
        )
        manifests = [{"wildcard": manifest_wildcard(each)} for each in config.datastore_ids]
        # Files also go when they expire, or when somebody removes them.
        files = [
            {"prefix": f"{prefix}{each}/"}
            for prefix in (FRAME_PREFIX, INSTANCE_PREFIX)
            for each in config.datastore_ids
        ]
        rules = [
            self._rule("OnManifest", "Manifests", ObjectChanged.STORED, manifests, config, frame_store),
            self._rule(
                "OnRemoval",
                "Removed manifests and files",
                ObjectChanged.REMOVED,
                [*manifests, *files],
                config,
                frame_store,
            ),
        ]
        # The policy of the key lets EventBridge encrypt messages; see `ExportQueues`.
        for queue in (self.queue, self.dead_letters):
            queue.add_to_resource_policy(
                iam.PolicyStatement(
                    sid="TakeEvents",
                    principals=[iam.ServicePrincipal("events.amazonaws.com")],
                    actions=["sqs:SendMessage"],
                    resources=[queue.queue_arn],
                    conditions={"ArnEquals": {"aws:SourceArn": [rule.attr_arn for rule in rules]}},
                )
            )

    def _rule(
        self,
        construct_id: str,
        what: str,
        detail_type: str,
        keys: list[dict[str, str]],
        config: Config,
        frame_store: FrameStore,
    ) -> events.CfnRule:
        return events.CfnRule(
            self,
            construct_id,
            description=f"{what} in the bucket of {config.stack_name}",
            event_pattern={
                "source": ["aws.s3"],
                "detail-type": [detail_type],
                "detail": {"bucket": {"name": [frame_store.bucket.bucket_name]}, "object": {"key": keys}},
            },
            targets=[
                events.CfnRule.TargetProperty(
                    id="TableQueue",
                    arn=self.queue.queue_arn,
                    dead_letter_config=events.CfnRule.DeadLetterConfigProperty(arn=self.dead_letters.queue_arn),
                    retry_policy=events.CfnRule.RetryPolicyProperty(
                        maximum_event_age_in_seconds=24 * 60 * 60, maximum_retry_attempts=185
                    ),
                )
            ],
        )
