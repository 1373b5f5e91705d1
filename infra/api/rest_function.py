"""What the Lambda functions behind the REST API have in common: settings, permissions, and the limits of requests."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any

from aws_cdk import Stack

from framegate.bucket_layout import CLAIM_PREFIX, STUDY_PREFIX
from framegate.settings import ALLOCATOR, Settings
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
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aws_cdk import aws_iam as iam
    from constructs import Construct

    from infra.config import Config
    from infra.frame_store import FrameStore

USUAL_REQUEST_SECONDS = 0.2
"""Duration of a request that fetches a frame from HealthImaging, as in docs/operations.md, Quotas."""


class RestFunction(LambdaFunction):
    """A function that answers requests of the REST API.

    It may read frames, image sets and metadata, find the image sets of a study, and note them in the bucket.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        The construct's id in `scope`.
    config : Config
        Gives the function's settings and the data stores.
    frame_store : FrameStore
        The bucket that the function uses.
    dicomweb_actions : sequence of str
        The actions of HealthImaging's DICOMweb that the function uses. Each applies to a data store.
    prefixes : sequence of str
        The prefixes of the bucket for which `statements` give permissions.
    statements : sequence of iam.PolicyStatement
        Permissions besides those above.
    deferred_store_queue_url : str
        URL of the deferred store queue; empty if the function queues no frames.
    **properties
        Further properties of `LambdaFunction`.

    References
    ----------
    Service Authorization Reference, "Actions, resources, and condition keys for AWS HealthImaging".
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: Config,
        frame_store: FrameStore,
        dicomweb_actions: Sequence[str],
        prefixes: Sequence[str],
        statements: Sequence[iam.PolicyStatement],
        deferred_store_queue_url: str = "",
        **properties: Any,
    ) -> None:
        stack = Stack.of(scope)
        super().__init__(
            scope,
            construct_id,
            config=config,
            key=frame_store.key,
            timeout_seconds=config.timeout_seconds,
            reserved_concurrency=config.api_concurrency,
            settings=[_settings(config, frame_store, deferred_store_queue_url)],
            environment=ALLOCATOR,
            statements=[
                allow("ReadFrames", ["medical-imaging:GetImageFrame"], *image_sets(stack, config)),
                allow(
                    "ReadImageSets",
                    ["medical-imaging:GetImageSet", "medical-imaging:GetImageSetMetadata"],
                    *image_sets(stack, config),
                ),
                allow(
                    "ReadDicomWeb",
                    [f"medical-imaging:{each}" for each in ("SearchImageSets", *dicomweb_actions)],
                    *data_stores(stack, config),
                ),
                allow(
                    "NoteStudies",
                    ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"],
                    *objects_of(frame_store, config, STUDY_PREFIX, CLAIM_PREFIX),
                ),
                # Without this permission, S3 answers 403 instead of 404 for an object that is not stored yet.
                allow("TellMissingFromForbidden", ["s3:ListBucket"], frame_store.bucket.bucket_arn),
                *statements,
                *_ask_decision_function(config),
            ],
            **properties,
        )
        acknowledge_image_sets(self.role, config)
        acknowledge_objects(self.role, frame_store, config, *prefixes, STUDY_PREFIX, CLAIM_PREFIX)
        if config.api_concurrency is None:
            acknowledge(self.function, unreserved_concurrency_reason(config), "HIPAA.Security-LambdaConcurrency")


def _settings(config: Config, frame_store: FrameStore, deferred_store_queue_url: str) -> Settings:
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


def _ask_decision_function(config: Config) -> list[iam.PolicyStatement]:
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
