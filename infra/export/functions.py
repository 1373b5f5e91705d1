"""The two Lambda functions that export: one processes the export queue, the other runs tasks of the state machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Stack
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_lambda_event_sources as event_sources

from framegate.bucket_layout import (
    BODY_PREFIX,
    EXPORT_PREFIX,
    FRAME_PREFIX,
    IMAGE_SET_PREFIXES,
    INDEX_PREFIX,
    INSTANCE_PREFIX,
    METADATA_PREFIX,
    MISMATCHED_PREFIX,
    QUEUED_PREFIX,
    REQUEST_PREFIX,
    RESULT_PREFIX,
    STUDY_PREFIX,
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
    uid_hash_secret,
    use_key,
)
from infra.queues import work_off

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aws_cdk import aws_iam as iam
    from constructs import Construct

    from infra.config import Config
    from infra.export.queue import ExportQueues
    from infra.frame_store import FrameStore

BATCH_SIZE = 5
"""Messages per invocation. A batch helps because imports send hundreds of events for image sets of a single frame."""

DEFERRED_STORE_CONCURRENCY = 2
"""Workers for deferred stores, in addition to those for exports: the minimum of an SQS event source. Each stores one
frame at a time, because a client waits for it."""

LATE_STORE_SECONDS = 5
"""Seconds after the end of a request during which S3 may still store an object of it."""

_OBJECT_ACTIONS = ("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload")


class _ExportingFunction(LambdaFunction):
    """The base of the functions that export: their size, layer, settings and permissions.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        The construct's id in `scope`.
    config : Config
        Gives the size, the call rate and the data stores.
    frame_store : FrameStore
        The bucket of frames and manifests.
    decoder : lambda_.ILayerVersion
        The layer with the decoders.
    handler, description : str
        See `LambdaFunction`.
    concurrency : int
        The reserved concurrency. Each function has its own, so that neither delays the other.
    prefixes : sequence of str
        Prefixes of the bucket that the function uses, in addition to those of every export.
    services : sequence of str
        Services that use the stack's key on the function's behalf.
    settings, statements : sequence
        Further settings and permissions.
    recursive_loop : lambda_.RecursiveLoop, optional
        See `LambdaFunction`.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: Config,
        frame_store: FrameStore,
        decoder: lambda_.ILayerVersion,
        handler: str,
        description: str,
        concurrency: int,
        services: Sequence[str],
        prefixes: Sequence[str] = (),
        settings: Sequence[ExportQueueSettings] = (),
        statements: Sequence[iam.PolicyStatement] = (),
        recursive_loop: lambda_.RecursiveLoop | None = None,
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            config=config,
            key=frame_store.key,
            handler=handler,
            description=description,
            memory_mb=config.export_memory_mb,
            timeout_seconds=config.export_timeout_seconds,
            reserved_concurrency=concurrency,
            recursive_loop=recursive_loop,
            layers=[decoder],
            settings=[_export_settings(config, frame_store), *settings],
            statements=[
                *_export_statements(Stack.of(scope), config, frame_store),
                *statements,
                use_key(frame_store, *services),
            ],
        )
        acknowledge_image_sets(self.role, config)
        acknowledge_objects(self.role, frame_store, config, *IMAGE_SET_PREFIXES)
        acknowledge_prefixes(self.role, frame_store, *prefixes)


class ExportFunction(_ExportingFunction):
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
    queues : ExportQueues
        The queues that invoke the function.
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
        queues: ExportQueues,
        decoder: lambda_.ILayerVersion,
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            config=config,
            frame_store=frame_store,
            decoder=decoder,
            handler="export",
            description="Exports the frames of image sets on events",
            concurrency=config.export_concurrency + DEFERRED_STORE_CONCURRENCY,
            services=["s3", "sqs"],
            prefixes=[f"{STUDY_PREFIX}{each}/" for each in config.datastore_ids],
            # An export that outlasts an invocation continues with a message to the function's own queue. After about 16
            # of them, Lambda would assume an endless loop and stop invoking the function.
            recursive_loop=lambda_.RecursiveLoop.ALLOW,
            settings=[
                ExportQueueSettings(
                    queue_url=queues.queue.queue_url,
                    deferred_store_queue_url=queues.deferred_stores.queue_url,
                    removal_recheck_seconds=config.timeout_seconds + LATE_STORE_SECONDS,
                ),
            ],
            statements=[
                allow(
                    "NoteStudies",
                    ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"],
                    *objects_of(frame_store, config, STUDY_PREFIX),
                ),
                allow("ConfirmDeletions", ["medical-imaging:GetImageSet"], *image_sets(Stack.of(scope), config)),
                work_off(queues.queue, queues.deferred_stores),
            ],
        )
        # Without a maximum, the poller would receive messages without a free worker, which counts as a receive.
        for queue, batch_size, concurrency in (
            (queues.queue, BATCH_SIZE, config.export_concurrency),
            (queues.deferred_stores, 1, DEFERRED_STORE_CONCURRENCY),
        ):
            self.function.add_event_source(
                event_sources.SqsEventSource(
                    queue, batch_size=batch_size, report_batch_item_failures=True, max_concurrency=concurrency
                )
            )


class RequestFunction(_ExportingFunction):
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
            frame_store=frame_store,
            decoder=decoder,
            handler="export_requests",
            description="Exports the frames of image sets on request",
            concurrency=config.export_concurrency,
            services=["s3"],
            prefixes=[REQUEST_PREFIX, RESULT_PREFIX],
            statements=[
                allow("ReadRequests", ["s3:GetObject"], frame_store.bucket.arn_for_objects(f"{REQUEST_PREFIX}*")),
                allow("KeepResults", _OBJECT_ACTIONS, frame_store.bucket.arn_for_objects(f"{RESULT_PREFIX}*")),
            ],
        )


def _export_settings(config: Config, frame_store: FrameStore) -> ExportSettings:
    return ExportSettings(
        datastore_ids=config.datastore_ids,
        frame_bucket=frame_store.bucket.bucket_name,
        event_bus="default",
        # Six digits are exact enough, and can be read in the console.
        calls_per_second=float(f"{config.export_rate_per_worker:.6g}"),
        verify=config.verify,
        events=config.export_events,
        output=config.export_output,
        uid_hash_secret=uid_hash_secret(),
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
        # With a deleted image set, its metadata, stored bodies and DICOM files go, too.
        allow(
            "RemoveMetadata",
            ["s3:DeleteObject"],
            *objects_of(frame_store, config, METADATA_PREFIX, BODY_PREFIX, INSTANCE_PREFIX),
        ),
        allow("ListFrames", ["s3:ListBucket"], bucket.bucket_arn),
        allow(
            "AnnounceResults",
            ["events:PutEvents"],
            stack.format_arn(service="events", resource="event-bus", resource_name="default"),
            events__source=EVENT_SOURCE,
        ),
    ]
