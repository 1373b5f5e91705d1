"""The bucket that holds frames and what exports leave of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from aws_cdk import Duration
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct

from framegate.bucket_layout import (
    EXPORT_PREFIX,
    FRAME_PREFIX,
    INDEX_PREFIX,
    MISMATCH_TAG,
    MISMATCHED_PREFIX,
    QUEUED_PREFIX,
)
from infra.acknowledge import acknowledge
from infra.retention import removal_policy

if TYPE_CHECKING:
    from aws_cdk import aws_kms as kms

    from infra.config import Config

DELETED_LOG_DAYS = 30
"""Days in which an access log that was deleted can be brought back."""

IS_MISMATCHED = {f"s3:ExistingObjectTag/{name}": value for name, value in MISMATCH_TAG.items()}
"""The condition of a frame that was found wrong and not moved yet."""

# What a page may read of the answer to a pre-signed GET. S3 takes no wildcard here.
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
    """Where frames are kept, too large for an API response or exported, and fetched from by pre-signed URL.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        Its name there.
    config : Config
        Decides when frames expire and what outlives the stack.
    key : kms.Key
        Encrypts each object.

    Attributes
    ----------
    key : kms.Key
        The same; whoever reads or writes an object needs its use.
    bucket : s3.Bucket
        Holds frames under `FRAME_PREFIX`. EventBridge hears of every object.
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
                s3.LifecycleRule(id="ExpireAccessLogs", expiration=Duration.days(config.log_retention_days)),
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
            # A pre-signed URL appears in these logs whole, but they come hours later, long after it has expired.
            server_access_logs_bucket=access_logs,
            server_access_logs_prefix="frame-store/",
            cors=[_presigned_access()],
            lifecycle_rules=_lifecycle(config),
            removal_policy=removal,
        )
        # Set here, it is a property; set through the bucket's own flag, it is a custom resource with a function.
        cast(
            "s3.CfnBucket", self.bucket.node.default_child
        ).notification_configuration = s3.CfnBucket.NotificationConfigurationProperty(
            event_bridge_configuration=s3.CfnBucket.EventBridgeConfigurationProperty(event_bridge_enabled=True)
        )
        self._keep_mismatched_frames_from_urls()
        self._acknowledge_findings(access_logs)

    def keep_mismatched_frames_from(self, role: iam.Role) -> None:
        """Deny a role the frames that were found wrong, whatever its own policy allows."""
        self._deny_reading("KeepMismatchedFramesFromApi", MISMATCHED_PREFIX, aws__PrincipalArn=role.role_arn)

    def _keep_mismatched_frames_from_urls(self) -> None:
        """Deny pre-signed URLs to wrong frames, those included that were signed before the frame was found wrong."""
        presigned = {"s3__authType": "REST-QUERY-STRING"}
        self._deny_reading("SignNoUrlsForMismatchedFrames", MISMATCHED_PREFIX, **presigned)
        self._deny_reading("EndUrlsOfMismatchedFrames", FRAME_PREFIX, **presigned, **IS_MISMATCHED)

    def _deny_reading(self, sid: str, prefix: str, **equal: str) -> None:
        # A condition instead of a principal: S3 turns a role in a principal into an id, which a new role of the same
        # name does not have.
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
            "An object is written once, under its frame's id, and never changes. Older versions would keep images past "
            "the deletion of their image set.",
            "HIPAA.Security-S3BucketVersioningEnabled",
        )
        acknowledge(
            self.bucket,
            "Copies of what HealthImaging keeps: they can be exported again. A replica would have to follow every "
            "deletion of an image set.",
            "HIPAA.Security-S3BucketReplicationEnabled",
        )
        acknowledge(
            access_logs,
            "It tells of access to a bucket of this Region, and is of no use without it.",
            "HIPAA.Security-S3BucketReplicationEnabled",
        )
        acknowledge(
            access_logs,
            "S3 delivers access logs only to buckets encrypted with its own keys.",
            "HIPAA.Security-S3DefaultEncryptionKMS",
        )


def _presigned_access() -> s3.CorsRule:
    return s3.CorsRule(
        allowed_methods=[s3.HttpMethods.GET, s3.HttpMethods.HEAD],
        # A browser that follows our redirect sends `Origin: null` and all the headers of its first request but
        # Authorization. The URL is the credential: to allow any origin gives nothing away.
        allowed_origins=["*"],
        allowed_headers=["*"],
        exposed_headers=_EXPOSED_HEADERS,
        max_age=86_400,
    )


def _lifecycle(config: Config) -> list[s3.LifecycleRule]:
    rules = [
        _abort_incomplete_uploads(),
        # Nothing expires under MISMATCHED_PREFIX: an object marks its frame as wrong until a right copy replaces it.
        # The export function removes a marker when the frame is stored; one that is older is forgotten anyway.
        s3.LifecycleRule(id="ExpireMarkers", prefix=QUEUED_PREFIX, expiration=Duration.days(1)),
    ]
    if config.frame_retention_days is not None:
        expiration = Duration.days(config.frame_retention_days)
        # An index is built again when it is asked for; manifests of frames that are gone are of no use.
        expiring = {"Frames": FRAME_PREFIX, "Indexes": INDEX_PREFIX, "Manifests": EXPORT_PREFIX}
        rules += [
            s3.LifecycleRule(id=f"Expire{what}", prefix=prefix, expiration=expiration)
            for what, prefix in expiring.items()
        ]
    return rules


def _abort_incomplete_uploads() -> s3.LifecycleRule:
    # A function that is stopped in the middle of an upload cannot abort it, and its parts would be billed for good.
    return s3.LifecycleRule(id="AbortIncompleteUploads", abort_incomplete_multipart_upload_after=Duration.days(1))
