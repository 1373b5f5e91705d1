"""The Lambda function behind the REST API, and its permissions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import aws_lambda as lambda_

from framegate.bucket_layout import (
    BODY_PREFIX,
    FRAME_PREFIX,
    INDEX_PREFIX,
    METADATA_PREFIX,
    QUEUED_PREFIX,
    TEMPORARY_TAG,
)
from infra.api.rest_function import RestFunction
from infra.permissions import allow, objects_of, use_key

if TYPE_CHECKING:
    from aws_cdk import aws_sqs as sqs
    from constructs import Construct

    from infra.config import Config
    from infra.frame_store import FrameStore


DICOMWEB_ACTIONS = (
    "SearchDICOMStudies",
    "SearchDICOMSeries",
    "SearchDICOMInstances",
    "GetDICOMSeriesMetadata",
    "GetDICOMInstanceFrames",
    "GetDICOMBulkdata",
)
"""The actions of HealthImaging's DICOMweb that the function uses."""

_PREFIXES = (FRAME_PREFIX, INDEX_PREFIX, QUEUED_PREFIX, METADATA_PREFIX, BODY_PREFIX)


class ApiFunction(RestFunction):
    """The function that answers the requests of the REST API.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        The construct's id in `scope`.
    config : Config
        Gives the function's size, its settings and the data stores.
    frame_store : FrameStore
        The bucket that it stores frames in and signs URLs for.
    queue : sqs.Queue
        The deferred store queue.

    Attributes
    ----------
    alias : lambda_.Alias
        The alias ``live`` of the newest version. Only published versions start from a snapshot.
    """

    def __init__(
        self, scope: Construct, construct_id: str, *, config: Config, frame_store: FrameStore, queue: sqs.Queue
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            config=config,
            frame_store=frame_store,
            handler="api",
            description="Answers the requests of the REST API",
            memory_mb=config.memory_mb,
            snap_start=lambda_.SnapStartConf.ON_PUBLISHED_VERSIONS,
            deferred_store_queue_url=queue.queue_url,
            dicomweb_actions=DICOMWEB_ACTIONS,
            prefixes=_PREFIXES,
            statements=[
                allow(
                    "StoreFrames",
                    ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", "s3:GetObjectTagging"],
                    *objects_of(frame_store, config, FRAME_PREFIX),
                ),
                allow(
                    "StoreIndexes",
                    ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"],
                    *objects_of(frame_store, config, INDEX_PREFIX, METADATA_PREFIX, BODY_PREFIX),
                ),
                allow(
                    "MarkTemporaryCopies",
                    ["s3:PutObjectTagging"],
                    *objects_of(frame_store, config, FRAME_PREFIX),
                    **{f"s3:RequestObjectTag/{name}": value for name, value in TEMPORARY_TAG.items()},
                ),
                allow(
                    "MarkQueuedFrames",
                    ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"],
                    *objects_of(frame_store, config, QUEUED_PREFIX),
                ),
                allow("HandOverFrames", ["sqs:SendMessage"], queue.queue_arn),
                use_key(frame_store, "s3", "sqs"),
            ],
        )
        frame_store.deny_mismatched_frames_to(self.role)
        self.alias = self.published()
