"""The bucket of frames, frame indexes, export manifests and request manifests, and the bucket of its access logs."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from aws_cdk import Duration
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct

from framegate.bucket_layout import (
    BODY_LIFETIME_DAYS,
    BODY_PREFIX,
    CLAIM_PREFIX,
    EXPORT_PREFIX,
    FRAME_PREFIX,
    INDEX_PREFIX,
    INSTANCE_PREFIX,
    METADATA_PREFIX,
    MISMATCH_TAG,
    MISMATCHED_PREFIX,
    QUERY_RESULT_LIFETIME_DAYS,
    QUERY_RESULT_PREFIX,
    QUEUED_PREFIX,
    STUDY_LIFETIME_DAYS,
    STUDY_PREFIX,
    TEMPORARY_DAYS,
    TEMPORARY_TAG,
)
from infra.acknowledge import acknowledge
from infra.retention import removal_policy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aws_cdk import aws_kms as kms

    from infra.config import Config

DELETED_LOG_DAYS = 30
"""Days for which a deleted access log can be restored."""

IS_MISMATCHED = {f"s3:ExistingObjectTag/{name}": value for name, value in MISMATCH_TAG.items()}
"""The condition of a frame that was found wrong and not moved yet."""

IS_PRESIGNED = {"s3:authType": "REST-QUERY-STRING"}
"""The condition of a request by pre-signed URL."""

# Headers of a pre-signed GET's response that a web page may read. S3 accepts no wildcard here.
_EXPOSED_HEADERS = [
    "ETag",
    "Content-Length",
    "Content-Range",
    "Accept-Ranges",
    "x-amz-checksum-crc32",
    "x-amz-checksum-crc32c",
    "x-amz-checksum-crc64nvme",
    "x-amz-checksum-sha1",
    "x-amz-checksum-sha256",
    "x-amz-checksum-type",
]


class FrameStore(Construct):
    """Stores frames that are exported or too large for an API response. Clients read them by pre-signed URL.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        The construct's id in `scope`.
    config : Config
        Decides when frames expire and whether the buckets outlive the stack.
    key : kms.Key
        Encrypts the objects.

    Attributes
    ----------
    key : kms.Key
        The same key. Reading or writing an object requires permission to use it.
    bucket : s3.Bucket
        The bucket. It sends events of all objects to EventBridge.
    """

    def __init__(self, scope: Construct, construct_id: str, *, config: Config, key: kms.Key) -> None:
        super().__init__(scope, construct_id)
        self.key = key
        removal = removal_policy(config)
        access_logs = s3.Bucket(
            self,
            "AccessLogs",
            encryption=s3.BucketEncryption.S3_MANAGED,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            versioned=True,
            lifecycle_rules=[
                s3.LifecycleRule(id="ExpireAccessLogs", expiration=Duration.days(config.audit_log_retention_days)),
                s3.LifecycleRule(
                    id="RemoveDeletedAccessLogs",
                    noncurrent_version_expiration=Duration.days(DELETED_LOG_DAYS),
                    expired_object_delete_marker=True,
                ),
                _abort_incomplete_uploads(),
            ],
            removal_policy=removal,
        )
        self.bucket = s3.Bucket(
            self,
            "Bucket",
            encryption=s3.BucketEncryption.KMS,
            encryption_key=self.key,
            bucket_key_enabled=True,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            # These logs contain pre-signed URLs, but S3 delivers them hours later, after the URLs have expired.
            server_access_logs_bucket=access_logs,
            server_access_logs_prefix="frame-store/",
            cors=[_presigned_access()],
            lifecycle_rules=_lifecycle(config),
            removal_policy=removal,
        )
        # This sets a property. The argument of `s3.Bucket` would add a custom resource with a Lambda function.
        cast(
            "s3.CfnBucket", self.bucket.node.default_child
        ).notification_configuration = s3.CfnBucket.NotificationConfigurationProperty(
            event_bridge_configuration=s3.CfnBucket.EventBridgeConfigurationProperty(event_bridge_enabled=True)
        )
        self._deny_mismatched_frames_to_urls()
        self._deny_old_urls(config.presigned_url_lifetime_seconds)
        if config.s3_vpc_endpoint_ids:
            self._deny_urls_outside(config.s3_vpc_endpoint_ids)
        self._acknowledge_findings(access_logs)

    def deny_mismatched_frames_to(self, role: iam.Role) -> None:
        """Deny a role access to mismatched frames, whatever its own policy allows."""
        self._deny_reading("KeepMismatchedFramesFromApi", MISMATCHED_PREFIX, aws__PrincipalArn=role.role_arn)

    def _deny_mismatched_frames_to_urls(self) -> None:
        """Deny pre-signed URLs access to mismatched frames, even URLs signed before the mismatch was found."""
        self._deny_reading("SignNoUrlsForMismatchedFrames", MISMATCHED_PREFIX, **IS_PRESIGNED)
        self._deny_reading("EndUrlsOfMismatchedFrames", FRAME_PREFIX, **IS_PRESIGNED, **IS_MISMATCHED)

    def _deny_old_urls(self, lifetime_seconds: int) -> None:
        """Deny pre-signed URLs that are older than Framegate's own, whoever signed them and for how long.

        References
        ----------
        Amazon S3 API reference, "Amazon S3 Signature Version 4 Authentication Specific Policy Keys".
        """
        age_limit = {"NumericGreaterThan": {"s3:signatureAge": lifetime_seconds * 1000}}
        self._deny_urls("EndOldUrls", age_limit)

    def _deny_urls_outside(self, vpc_endpoint_ids: Sequence[str]) -> None:
        """Deny pre-signed URLs outside these VPC endpoints. Requests without any endpoint do not equal them either.

        References
        ----------
        AWS PrivateLink guide, "Control access to VPC endpoints"; IAM user guide, ``aws:SourceVpce``.
        """
        elsewhere = {"StringNotEquals": {"aws:SourceVpce": list(vpc_endpoint_ids)}}
        self._deny_urls("KeepUrlsInsideVpcEndpoints", elsewhere)

    def _deny_urls(self, sid: str, conditions: Mapping[str, Mapping[str, object]]) -> None:
        """Deny pre-signed URLs under conditions. The functions sign a header instead, so this never applies to them."""
        self.bucket.add_to_resource_policy(
            iam.PolicyStatement(
                sid=sid,
                effect=iam.Effect.DENY,
                principals=[iam.AnyPrincipal()],
                actions=["s3:*"],
                resources=[self.bucket.bucket_arn, self.bucket.arn_for_objects("*")],
                conditions={"StringEquals": IS_PRESIGNED, **conditions},
            )
        )

    def _deny_reading(self, sid: str, prefix: str, **equal: str) -> None:
        # S3 replaces a role in `Principal` by its id, which a new role of the same name does not have. The condition
        # keeps the ARN.
        self.bucket.add_to_resource_policy(
            iam.PolicyStatement(
                sid=sid,
                effect=iam.Effect.DENY,
                principals=[iam.AnyPrincipal()],
                actions=["s3:GetObject"],
                resources=[self.bucket.arn_for_objects(f"{prefix}*")],
                conditions={"StringEquals": {name.replace("__", ":"): each for name, each in equal.items()}},
            )
        )

    def _acknowledge_findings(self, access_logs: s3.Bucket) -> None:
        acknowledge(
            self.bucket,
            "An object is written once under its frame's id and never changes. Older versions would keep images after "
            "their image set is deleted.",
            "HIPAA.Security-S3BucketVersioningEnabled",
        )
        acknowledge(
            self.bucket,
            "HealthImaging holds the originals, which can be exported again. A replica would have to follow every "
            "deletion of an image set.",
            "HIPAA.Security-S3BucketReplicationEnabled",
        )
        acknowledge(
            access_logs,
            "The logs describe access to a bucket in this Region and are of no use without it.",
            "HIPAA.Security-S3BucketReplicationEnabled",
        )
        acknowledge(
            access_logs,
            "S3 delivers access logs only to buckets that S3-managed keys encrypt.",
            "HIPAA.Security-S3DefaultEncryptionKMS",
        )


def _presigned_access() -> s3.CorsRule:
    return s3.CorsRule(
        allowed_methods=[s3.HttpMethods.GET, s3.HttpMethods.HEAD],
        # A browser that follows our redirect sends `Origin: null` and all headers of its first request except
        # Authorization. The URL is the credential, so it is safe to allow any origin.
        allowed_origins=["*"],
        allowed_headers=["*"],
        exposed_headers=_EXPOSED_HEADERS,
        max_age=86_400,
    )


def _lifecycle(config: Config) -> list[s3.LifecycleRule]:
    rules = [
        _abort_incomplete_uploads(),
        # Nothing expires under MISMATCHED_PREFIX: an object there marks its frame as mismatched until a verified copy
        # replaces it. The export function removes a marker when it has stored the frame; older markers are leftovers.
        s3.LifecycleRule(id="ExpireMarkers", prefix=QUEUED_PREFIX, expiration=Duration.days(1)),
        s3.LifecycleRule(
            id="ExpireTemporaryCopies",
            prefix=FRAME_PREFIX,
            tag_filters=TEMPORARY_TAG,
            expiration=Duration.days(TEMPORARY_DAYS),
        ),
        s3.LifecycleRule(id="ExpireBodies", prefix=BODY_PREFIX, expiration=Duration.days(BODY_LIFETIME_DAYS)),
        # One search finds the image sets of a study again.
        s3.LifecycleRule(id="ExpireStudies", prefix=STUDY_PREFIX, expiration=Duration.days(STUDY_LIFETIME_DAYS)),
        s3.LifecycleRule(id="ExpireClaims", prefix=CLAIM_PREFIX, expiration=Duration.days(1)),
    ]
    if config.dataset_catalog:
        rules.append(
            s3.LifecycleRule(
                id="ExpireQueryResults",
                prefix=QUERY_RESULT_PREFIX,
                expiration=Duration.days(QUERY_RESULT_LIFETIME_DAYS),
            )
        )
    if config.frame_retention_days is not None:
        expiration = Duration.days(config.frame_retention_days)
        # An index is rebuilt on request. Manifests are useless without their frames.
        expiring = {
            "Frames": FRAME_PREFIX,
            "Indexes": INDEX_PREFIX,
            "Metadata": METADATA_PREFIX,
            "Manifests": EXPORT_PREFIX,
            "DicomFiles": INSTANCE_PREFIX,
        }
        rules += [
            s3.LifecycleRule(id=f"Expire{what}", prefix=prefix, expiration=expiration)
            for what, prefix in expiring.items()
        ]
    return rules


def _abort_incomplete_uploads() -> s3.LifecycleRule:
    # A function that Lambda stops during an upload cannot abort it, and S3 would bill its parts forever.
    return s3.LifecycleRule(id="AbortIncompleteUploads", abort_incomplete_multipart_upload_after=Duration.days(1))
