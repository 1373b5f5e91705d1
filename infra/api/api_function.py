"""The Lambda function behind the REST API, and its permissions."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from aws_cdk import Stack
from aws_cdk import aws_lambda as lambda_

from framegate.bucket_layout import (
    BODY_PREFIX,
    CLAIM_PREFIX,
    FRAME_PREFIX,
    INDEX_PREFIX,
    METADATA_PREFIX,
    QUEUED_PREFIX,
    STUDY_PREFIX,
    TEMPORARY_TAG,
)
from framegate.settings import Settings
from infra.acknowledge import acknowledge
from infra.lambda_function import LambdaFunction
from infra.permissions import (
    acknowledge_image_sets,
    acknowledge_objects,
    allow,
    data_stores,
    image_sets,
    objects_of,
    uid_hash_secret,
    use_key,
)

if TYPE_CHECKING:
    from aws_cdk import aws_iam as iam
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
"""The actions of HealthImaging's DICOMweb that the function uses. Each applies to a data store.

References
----------
Service Authorization Reference, "Actions, resources, and condition keys for AWS HealthImaging".
"""

_PREFIXES = (FRAME_PREFIX, INDEX_PREFIX, QUEUED_PREFIX, METADATA_PREFIX, BODY_PREFIX, STUDY_PREFIX, CLAIM_PREFIX)

USUAL_REQUEST_SECONDS = 0.2
"""Duration of a request that fetches a frame from HealthImaging, as in docs/operations.md, Quotas."""


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
        The deferred store queue.

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
            reserved_concurrency=config.api_concurrency,
            settings=[api_settings(config, frame_store, deferred_store_queue_url=queue.queue_url)],
            statements=[
                allow("ReadFrames", ["medical-imaging:GetImageFrame"], *image_sets(Stack.of(scope), config)),
                allow(
                    "ReadImageSets",
                    ["medical-imaging:GetImageSet", "medical-imaging:GetImageSetMetadata"],
                    *image_sets(Stack.of(scope), config),
                ),
                allow(
                    "ReadDicomWeb",
                    [f"medical-imaging:{each}" for each in ("SearchImageSets", *DICOMWEB_ACTIONS)],
                    *data_stores(Stack.of(scope), config),
                ),
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
                    "NoteStudies",
                    ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"],
                    *objects_of(frame_store, config, STUDY_PREFIX, CLAIM_PREFIX),
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
                # Without this permission, S3 answers 403 instead of 404 for a frame that is not stored yet.
                allow("TellMissingFromForbidden", ["s3:ListBucket"], bucket.bucket_arn),
                allow("HandOverFrames", ["sqs:SendMessage"], queue.queue_arn),
                use_key(frame_store, "s3", "sqs"),
                *ask_decision_function(config),
            ],
        )
        frame_store.deny_mismatched_frames_to(self.role)
        acknowledge_image_sets(self.role, config)
        acknowledge_objects(self.role, frame_store, config, *_PREFIXES)
        if config.api_concurrency is None:
            acknowledge(self.function, unreserved_concurrency_reason(config), "HIPAA.Security-LambdaConcurrency")
        self.alias = self.published()


def api_settings(config: Config, frame_store: FrameStore, *, deferred_store_queue_url: str) -> Settings:
    """Return the settings of a function behind the REST API."""
    return Settings(
        datastore_ids=config.datastore_ids,
        frame_bucket=frame_store.bucket.bucket_name,
        presigned_url_lifetime_seconds=config.presigned_url_lifetime_seconds,
        deferred_store_queue_url=deferred_store_queue_url,
        cors_origins=config.cors_origins,
        auth=config.auth,
        frame_caching=config.frame_caching,
        audit_claim=config.audit_claim,
        uid_hash_secret=uid_hash_secret(),
        cognito_client_ids=config.cognito_client_ids,
        cognito_groups_are_datastores=config.cognito_groups_are_datastores,
        authorization_function_arn=config.authorization_function_arn,
        authorization_cache_seconds=config.authorization_cache_seconds,
        dicom_files=config.writes_dicom_files,
    )


def ask_decision_function(config: Config) -> list[iam.PolicyStatement]:
    """Return the statement that allows asking the decision function, if there is one."""
    arn = config.authorization_function_arn
    return [allow("AskDecisionFunction", ["lambda:InvokeFunction"], arn)] if arn else []


def unreserved_concurrency_reason(config: Config) -> str:
    """Return why the function may have no reserved concurrency, with the figures of the configuration.

    Notes
    -----
    Little's law: requests at a time = requests per second × seconds per request.
    """
    usual = ceil(config.throttle_rate * USUAL_REQUEST_SECONDS)
    highest = config.throttle_rate * config.timeout_seconds
    return (
        f"{config.throttle_rate:,} requests per second (throttle_rate) need a concurrency of {usual:,} if each takes "
        f"{USUAL_REQUEST_SECONDS} s, and of {highest:,} if each takes {config.timeout_seconds} s (timeout_seconds), "
        "while an account has 1,000 by default. So throttling alone does not limit the function. The configuration key "
        "api_concurrency does, but it takes its share of the account's concurrency from all other functions, used or "
        "not."
    )
