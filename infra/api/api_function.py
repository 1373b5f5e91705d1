"""The Lambda function behind the REST API, and its permissions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Stack
from aws_cdk import aws_lambda as lambda_

from framegate.bucket_layout import FRAME_PREFIX, INDEX_PREFIX, QUEUED_PREFIX
from framegate.settings import Settings
from infra.acknowledge import acknowledge
from infra.lambda_function import LambdaFunction
from infra.permissions import acknowledge_image_sets, acknowledge_prefixes, allow, image_sets, use_key

if TYPE_CHECKING:
    from aws_cdk import aws_sqs as sqs
    from constructs import Construct

    from infra.config import Config
    from infra.frame_store import FrameStore


class ApiFunction(LambdaFunction):
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
        The export queue, which takes deferred stores.

    Attributes
    ----------
    alias : lambda_.Alias
        The alias ``live`` of the newest version. Only published versions start from a snapshot.
    """

    def __init__(
        self, scope: Construct, construct_id: str, *, config: Config, frame_store: FrameStore, queue: sqs.Queue
    ) -> None:
        bucket = frame_store.bucket
        super().__init__(
            scope,
            construct_id,
            config=config,
            key=frame_store.key,
            handler="api",
            description="Answers the requests of the REST API",
            memory_mb=config.memory_mb,
            timeout_seconds=config.timeout_seconds,
            snap_start=lambda_.SnapStartConf.ON_PUBLISHED_VERSIONS,
            settings=[
                Settings(
                    datastore_ids=config.datastore_ids,
                    frame_bucket=bucket.bucket_name,
                    presigned_url_lifetime_seconds=config.presigned_url_lifetime_seconds,
                    export_queue_url=queue.queue_url,
                    cors_origins=config.cors_origins,
                    auth=config.auth,
                    cognito_client_ids=config.cognito_client_ids,
                    cognito_groups_are_datastores=config.cognito_groups_are_datastores,
                    authorization_function_arn=config.authorization_function_arn,
                    authorization_cache_seconds=config.authorization_cache_seconds,
                )
            ],
            statements=[
                allow("ReadFrames", ["medical-imaging:GetImageFrame"], *image_sets(Stack.of(scope), config)),
                allow(
                    "ReadImageSets",
                    ["medical-imaging:GetImageSet", "medical-imaging:GetImageSetMetadata"],
                    *image_sets(Stack.of(scope), config),
                ),
                allow(
                    "StoreFramesAndIndexes",
                    ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"],
                    *(bucket.arn_for_objects(f"{each}*") for each in (FRAME_PREFIX, INDEX_PREFIX)),
                ),
                allow("SeeMismatches", ["s3:GetObjectTagging"], bucket.arn_for_objects(f"{FRAME_PREFIX}*")),
                allow(
                    "MarkQueuedFrames",
                    ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"],
                    bucket.arn_for_objects(f"{QUEUED_PREFIX}*"),
                ),
                # Without this permission, S3 answers 403 instead of 404 for a frame that is not stored yet.
                allow("TellMissingFromForbidden", ["s3:ListBucket"], bucket.bucket_arn),
                allow("HandOverFrames", ["sqs:SendMessage"], queue.queue_arn),
                use_key(frame_store, "s3", "sqs"),
                *(
                    [allow("AskDecisionFunction", ["lambda:InvokeFunction"], config.authorization_function_arn)]
                    if config.authorization_function_arn
                    else []
                ),
            ],
        )
        frame_store.deny_mismatched_frames_to(self.role)
        acknowledge_image_sets(self.role, config)
        acknowledge_prefixes(self.role, frame_store, FRAME_PREFIX, INDEX_PREFIX, QUEUED_PREFIX)
        acknowledge(
            self.function,
            "The stage's throttling limits the function. Reserved concurrency would take its share of the account's "
            "quota from all other functions, used or not.",
            "HIPAA.Security-LambdaConcurrency",
        )
        self.alias = self.published()
