"""The two Lambda functions that export: one processes the export queue, the other runs tasks of the state machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Stack
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_lambda_event_sources as event_sources

from framegate.bucket_layout import (
    EXPORT_PREFIX,
    FRAME_PREFIX,
    IMAGE_SET_PREFIXES,
    INDEX_PREFIX,
    MISMATCHED_PREFIX,
    QUEUED_PREFIX,
    REQUEST_PREFIX,
    RESULT_PREFIX,
)
from framegate.messages import EVENT_SOURCE
from framegate.settings import ExportQueueSettings, ExportSettings
from infra.lambda_function import LambdaFunction
from infra.permissions import (
    acknowledge_image_sets,
    acknowledge_objects,
    acknowledge_prefixes,
    allow,
    image_sets,
    objects_of,
    use_key,
)

if TYPE_CHECKING:
    from aws_cdk import aws_iam as iam
    from aws_cdk import aws_sqs as sqs
    from constructs import Construct

    from infra.config import Config
    from infra.frame_store import FrameStore

BATCH_SIZE = 5
"""Messages per invocation. A batch helps because imports send hundreds of events for image sets of a single frame."""

LATE_STORE_SECONDS = 5
"""Seconds after the end of a request during which S3 may still store an object of it."""

_OBJECT_ACTIONS = ("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload")


class ExportFunction(LambdaFunction):
    """The function that exports and removes image sets on events, and runs deferred stores.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        The construct's id in `scope`.
    config : Config
        Gives the concurrency, the call rate and the data stores.
    frame_store : FrameStore
        The bucket of frames and manifests.
    queue : sqs.Queue
        The export queue.
    decoder : lambda_.ILayerVersion
        The layer with the decoders.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: Config,
        frame_store: FrameStore,
        queue: sqs.Queue,
        decoder: lambda_.ILayerVersion,
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            config=config,
            key=frame_store.key,
            handler="export",
            description="Exports the frames of image sets on events",
            memory_mb=config.export_memory_mb,
            timeout_seconds=config.export_timeout_seconds,
            reserved_concurrency=config.export_concurrency,
            # An export that outlasts an invocation continues with a message to the function's own queue. After about 16
            # of them, Lambda would assume an endless loop and stop invoking the function.
            recursive_loop=lambda_.RecursiveLoop.ALLOW,
            layers=[decoder],
            settings=[
                _export_settings(config, frame_store),
                ExportQueueSettings(
                    queue_url=queue.queue_url,
                    removal_recheck_seconds=config.timeout_seconds + LATE_STORE_SECONDS,
                ),
            ],
            statements=[
                *_export_statements(Stack.of(scope), config, frame_store),
                use_key(frame_store, "s3", "sqs"),
                allow(
                    "WorkQueueOff",
                    [
                        "sqs:ReceiveMessage",
                        "sqs:DeleteMessage",
                        "sqs:GetQueueAttributes",
                        "sqs:ChangeMessageVisibility",
                        "sqs:SendMessage",
                    ],
                    queue.queue_arn,
                ),
            ],
        )
        acknowledge_image_sets(self.role, config)
        acknowledge_objects(self.role, frame_store, config, *IMAGE_SET_PREFIXES)
        self.function.add_event_source(
            event_sources.SqsEventSource(
                queue,
                batch_size=BATCH_SIZE,
                report_batch_item_failures=True,
                # Otherwise the poller would receive messages without a free worker, which counts as a receive.
                max_concurrency=config.export_concurrency,
            )
        )


class RequestFunction(LambdaFunction):
    """The function that runs the tasks of the state machine for request manifests.

    It has its own reserved concurrency, so that a manifest of a million lines does not delay exports on events.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        The construct's id in `scope`.
    config : Config
        Gives the concurrency, the call rate and the data stores.
    frame_store : FrameStore
        The bucket of request manifests, frames and export manifests.
    decoder : lambda_.ILayerVersion
        The layer with the decoders.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: Config,
        frame_store: FrameStore,
        decoder: lambda_.ILayerVersion,
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            config=config,
            key=frame_store.key,
            handler="export_requests",
            description="Exports the frames of image sets on request",
            memory_mb=config.export_memory_mb,
            timeout_seconds=config.export_timeout_seconds,
            reserved_concurrency=config.export_concurrency,
            layers=[decoder],
            settings=[_export_settings(config, frame_store)],
            statements=[
                *_export_statements(Stack.of(scope), config, frame_store),
                allow("ReadRequests", ["s3:GetObject"], frame_store.bucket.arn_for_objects(f"{REQUEST_PREFIX}*")),
                allow("KeepResults", _OBJECT_ACTIONS, frame_store.bucket.arn_for_objects(f"{RESULT_PREFIX}*")),
                use_key(frame_store, "s3"),
            ],
        )
        acknowledge_image_sets(self.role, config)
        acknowledge_objects(self.role, frame_store, config, *IMAGE_SET_PREFIXES)
        acknowledge_prefixes(self.role, frame_store, REQUEST_PREFIX, RESULT_PREFIX)


def _export_settings(config: Config, frame_store: FrameStore) -> ExportSettings:
    return ExportSettings(
        datastore_ids=config.datastore_ids,
        frame_bucket=frame_store.bucket.bucket_name,
        event_bus="default",
        # Six digits are exact enough, and can be read in the console.
        calls_per_second=float(f"{config.export_rate_per_worker:.6g}"),
        verify=config.verify,
        events=config.export_events,
    )


def _export_statements(stack: Stack, config: Config, frame_store: FrameStore) -> list[iam.PolicyStatement]:
    bucket = frame_store.bucket
    return [
        allow(
            "ReadFrames",
            ["medical-imaging:GetImageFrame", "medical-imaging:GetImageSetMetadata"],
            *image_sets(stack, config),
        ),
        allow(
            "StoreFrames",
            [*_OBJECT_ACTIONS, "s3:GetObjectTagging", "s3:PutObjectTagging", "s3:DeleteObjectTagging"],
            *objects_of(frame_store, config, FRAME_PREFIX, MISMATCHED_PREFIX),
        ),
        allow(
            "KeepRecords",
            _OBJECT_ACTIONS,
            *objects_of(frame_store, config, EXPORT_PREFIX, QUEUED_PREFIX),
        ),
        allow(
            "NoteVersions",
            ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"],
            *objects_of(frame_store, config, INDEX_PREFIX),
        ),
        allow("ListFrames", ["s3:ListBucket"], bucket.bucket_arn),
        allow(
            "AnnounceResults",
            ["events:PutEvents"],
            stack.format_arn(service="events", resource="event-bus", resource_name="default"),
            events__source=EVENT_SOURCE,
        ),
    ]
