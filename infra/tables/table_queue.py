"""The queue of the table function, and the rules that send S3's events to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Duration
from constructs import Construct

from framegate.bucket_layout import FRAME_PREFIX, INSTANCE_PREFIX, manifest_wildcard
from framegate.messages import ObjectChanged
from infra.queues import event_rule, queue_pair, take_events

if TYPE_CHECKING:
    from aws_cdk import aws_events as events

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
        self._bucket_name = frame_store.bucket.bucket_name
        self._queues = queue_pair(
            self, "Queue", "DeadLetters", key=frame_store.key, timeout=Duration.seconds(TIMEOUT_SECONDS)
        )
        self.queue, self.dead_letters = self._queues
        manifests = [{"wildcard": manifest_wildcard(each)} for each in config.datastore_ids]
        # Files also go when they expire, or when somebody removes them.
        files = [
            {"prefix": f"{prefix}{each}/"}
            for prefix in (FRAME_PREFIX, INSTANCE_PREFIX)
            for each in config.datastore_ids
        ]
        place = f"in the bucket of {config.stack_name}"
        # The policy of the key lets EventBridge encrypt messages; see `ExportQueues`.
        take_events(
            self._queues,
            [
                self._rule("OnManifest", f"Manifests {place}", ObjectChanged.STORED, manifests),
                self._rule(
                    "OnRemoval",
                    f"Removed manifests and files {place}",
                    ObjectChanged.REMOVED,
                    [*manifests, *files],
                ),
            ],
        )

    def _rule(
        self, construct_id: str, description: str, detail_type: str, keys: list[dict[str, str]]
    ) -> events.CfnRule:
        return event_rule(
            self,
            construct_id,
            target_id="TableQueue",
            to=self._queues,
            description=description,
            pattern={
                "source": ["aws.s3"],
                "detail-type": [detail_type],
                "detail": {"bucket": {"name": [self._bucket_name]}, "object": {"key": keys}},
            },
        )
