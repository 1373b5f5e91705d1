"""The queues of the export function, and the rules that send HealthImaging's events to one of them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from aws_cdk import Aws, Duration
from aws_cdk import aws_iam as iam
from constructs import Construct

from framegate.messages import COPIED, UPDATED, ImageSetChanged, ImageSetDeleted
from infra.queues import EVENT_BRIDGE, event_rule, queue_pair, take_events

if TYPE_CHECKING:
    from aws_cdk import aws_events as events

    from infra.config import Config
    from infra.frame_store import FrameStore


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
        create = partial(queue_pair, self, key=frame_store.key, timeout=Duration.seconds(config.export_timeout_seconds))
        self._exports = create("Queue", "DeadLetters")
        self.queue, self.dead_letters = self._exports
        self.deferred_stores, self.deferred_store_dead_letters = create("DeferredStores", "DeferredStoreDeadLetters")
        take_events(self._exports, self._rules(config))
        # The key's policy cannot name the rules: they depend on the queues, which depend on the key. The policies of
        # the queues name them.
        frame_store.key.add_to_resource_policy(
            iam.PolicyStatement(
                sid="EncryptEvents",
                principals=[iam.ServicePrincipal(EVENT_BRIDGE)],
                actions=["kms:GenerateDataKey", "kms:Decrypt"],
                resources=["*"],
                conditions={"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}},
            )
        )

    def _rules(self, config: Config) -> list[events.CfnRule]:
        # The frame index must learn about new versions, exported or not. It does not know image sets just created.
        changes = dict.fromkeys([*config.export_events, UPDATED, COPIED])
        detail_types_by_rule = {
            "OnImageSetChange": [ImageSetChanged.detail_type(each) for each in changes],
            "OnImageSetDeletion": [ImageSetDeleted.DETAIL_TYPE],
        }
        return [
            event_rule(
                self,
                construct_id,
                target_id="ExportQueue",
                to=self._exports,
                description=f"{' / '.join(detail_types)}, in the data stores of {config.stack_name}",
                pattern={
                    "source": [config.event_source],
                    "detail-type": detail_types,
                    "detail": {"datastoreId": list(config.datastore_ids)},
                },
            )
            for construct_id, detail_types in detail_types_by_rule.items()
        ]
