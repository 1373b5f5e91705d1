"""The Lambda function that draws pictures of frames, and its permissions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Stack

from framegate.bucket_layout import BODY_PREFIX, CLAIM_PREFIX, INDEX_PREFIX, STUDY_PREFIX
from infra.acknowledge import acknowledge
from infra.api.api_function import api_settings, ask_decision_function, unreserved_concurrency_reason
from infra.build.bundling import RENDERING_REQUIREMENTS
from infra.build.package_layer import PackageLayer
from infra.lambda_function import LambdaFunction
from infra.permissions import (
    acknowledge_image_sets,
    acknowledge_objects,
    allow,
    data_stores,
    image_sets,
    objects_of,
    use_key,
)

if TYPE_CHECKING:
    from constructs import Construct

    from infra.config import Config
    from infra.frame_store import FrameStore

RENDER_MEMORY_MB = 1769
"""Memory of the function, which gives one vCPU. The process that draws may use 1 GiB of it."""


class RenderFunction(LambdaFunction):
    """The function that answers requests for pictures.

    It starts without a snapshot: the process that draws loads most of its libraries, and it starts after a snapshot
    anyway. A second snapshot would cost as much each month as drawing a million thumbnails.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        The construct's id in `scope`.
    config : Config
        Gives the function's settings and the data stores.
    frame_store : FrameStore
        The bucket that it stores indexes and large pictures in, and signs URLs for.
    """

    def __init__(self, scope: Construct, construct_id: str, *, config: Config, frame_store: FrameStore) -> None:
        stack = Stack.of(scope)
        layer = PackageLayer(
            scope,
            "Rendering",
            config=config,
            requirements=RENDERING_REQUIREMENTS,
            description="Decoders of image frames and encoders of pictures",
        )
        super().__init__(
            scope,
            construct_id,
            config=config,
            key=frame_store.key,
            handler="rendering",
            description="Draws pictures of frames",
            memory_mb=RENDER_MEMORY_MB,
            timeout_seconds=config.timeout_seconds,
            reserved_concurrency=config.api_concurrency,
            layers=[layer],
            settings=[api_settings(config, frame_store, deferred_store_queue_url="")],
            statements=[
                allow("ReadFrames", ["medical-imaging:GetImageFrame"], *image_sets(stack, config)),
                allow(
                    "ReadImageSets",
                    ["medical-imaging:GetImageSet", "medical-imaging:GetImageSetMetadata"],
                    *image_sets(stack, config),
                ),
                allow(
                    "ReadDicomWeb",
                    ["medical-imaging:SearchImageSets", "medical-imaging:GetDICOMSeriesMetadata"],
                    *data_stores(stack, config),
                ),
                allow(
                    "StoreIndexes",
                    ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"],
                    *objects_of(frame_store, config, INDEX_PREFIX, BODY_PREFIX),
                ),
                allow(
                    "NoteStudies",
                    ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"],
                    *objects_of(frame_store, config, STUDY_PREFIX, CLAIM_PREFIX),
                ),
                # Without this permission, S3 answers 403 instead of 404 for an index that is not stored yet.
                allow("TellMissingFromForbidden", ["s3:ListBucket"], frame_store.bucket.bucket_arn),
                use_key(frame_store, "s3"),
                *ask_decision_function(config),
            ],
        )
        acknowledge_image_sets(self.role, config)
        acknowledge_objects(self.role, frame_store, config, INDEX_PREFIX, BODY_PREFIX, STUDY_PREFIX, CLAIM_PREFIX)
        if config.api_concurrency is None:
            acknowledge(self.function, unreserved_concurrency_reason(config), "HIPAA.Security-LambdaConcurrency")
