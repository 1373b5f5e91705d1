"""The frame bucket: CORS, its policy, lifecycle rules, events, and access logs."""

from __future__ import annotations

import pytest

from tests.infra import cloudformation
from tests.infra.cloudformation import frame_bucket, properties, text
from tests.infra.project import AUTH, REACH

S3_ENDPOINTS = ["vpce-0fedcba9876543210", "vpce-22222222222222222"]


@pytest.fixture(scope="module")
def bucket(template):
    return frame_bucket(template)[1]


def test_frame_bucket_uses_a_bucket_key(bucket):
    (encryption,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]

    assert encryption["BucketKeyEnabled"] is True
    assert encryption["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"


def test_frame_bucket_has_no_versioning(bucket):
    assert "VersioningConfiguration" not in bucket


def test_bucket_cors_allows_pre_signed_urls_from_any_origin(bucket):
    (rule,) = bucket["CorsConfiguration"]["CorsRules"]

    assert rule["AllowedMethods"] == ["GET", "HEAD"]
    assert rule["AllowedOrigins"] == ["*"]
    assert rule["AllowedHeaders"] == ["*"]
    assert {"ETag", "Content-Length", "Content-Range", "Accept-Ranges"} <= set(rule["ExposedHeaders"])
    assert "x-amz-checksum-crc64nvme" in rule["ExposedHeaders"]
    assert not [header for header in rule["ExposedHeaders"] if "*" in header]


def denials(template):
    """The bucket's id, and the statements that deny access, by ``Sid``, without those that require TLS."""
    name, _ = frame_bucket(template)
    policies = properties(template, "AWS::S3::BucketPolicy").values()
    (policy,) = (each for each in policies if text(each["Bucket"]) == f"${{{name}}}")
    return name, {each["Sid"]: each for each in policy["PolicyDocument"]["Statement"] if "Sid" in each}


@pytest.fixture(scope="module")
def denied(template):
    return denials(template)[1]


def test_bucket_policy_denies_mismatched_frames_to_pre_signed_urls_and_the_api(template, denied):
    name, _ = frame_bucket(template)
    api_role = text(cloudformation.function(template, "api")["Role"])

    assert {
        sid: (text(each["Resource"]), {key: text(value) for key, value in each["Condition"]["StringEquals"].items()})
        for sid, each in denied.items()
        if each["Action"] == "s3:GetObject"
    } == {
        "SignNoUrlsForMismatchedFrames": (f"${{{name}.Arn}}/mismatched/*", {"s3:authType": "REST-QUERY-STRING"}),
        "EndUrlsOfMismatchedFrames": (
            f"${{{name}.Arn}}/frames/*",
            {"s3:authType": "REST-QUERY-STRING", "s3:ExistingObjectTag/framegate-pixels": "mismatch"},
        ),
        "KeepMismatchedFramesFromApi": (f"${{{name}.Arn}}/mismatched/*", {"aws:PrincipalArn": api_role}),
    }
    for each in denied.values():
        assert (each["Effect"], each["Principal"]) == ("Deny", {"AWS": "*"})


@pytest.mark.parametrize(("lifetime", "milliseconds"), [(None, 300_000), ("900", 900_000)])
@pytest.mark.parametrize("name", AUTH)
def test_bucket_policy_denies_pre_signed_urls_older_than_their_lifetime(synthesize, name, lifetime, milliseconds):
    keys = AUTH[name] | ({"presigned_url_lifetime_seconds": lifetime} if lifetime else {})
    if lifetime and name != "iam":
        pytest.skip("the lifetime does not depend on the authorization")
    template = synthesize(**keys)
    bucket, denied = denials(template)

    assert denied["EndOldUrls"]["Condition"] == {
        "StringEquals": {"s3:authType": "REST-QUERY-STRING"},
        "NumericGreaterThan": {"s3:signatureAge": milliseconds},
    }
    assert covers_the_bucket(denied["EndOldUrls"], bucket)
    assert "KeepUrlsInsideVpcEndpoints" not in denied


def test_bucket_policy_denies_pre_signed_urls_outside_the_vpc_endpoints(synthesize):
    template = synthesize(**REACH["private"], s3_vpc_endpoint_ids=",".join(S3_ENDPOINTS))
    bucket, denied = denials(template)

    # An explicit deny with a negated operator also applies where the request has no such key.
    assert denied["KeepUrlsInsideVpcEndpoints"]["Condition"] == {
        "StringEquals": {"s3:authType": "REST-QUERY-STRING"},
        "StringNotEquals": {"aws:SourceVpce": S3_ENDPOINTS},
    }
    assert covers_the_bucket(denied["KeepUrlsInsideVpcEndpoints"], bucket)


def covers_the_bucket(statement, bucket):
    arn = f"${{{bucket}.Arn}}"
    return statement["Action"] == "s3:*" and list(map(text, statement["Resource"])) == [arn, f"{arn}/*"]


ABORT_UPLOADS = {
    "Id": "AbortIncompleteUploads",
    "Status": "Enabled",
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
}
EXPIRE_MARKERS = {"Id": "ExpireMarkers", "Status": "Enabled", "Prefix": "queued/", "ExpirationInDays": 1}
EXPIRE_DICOMWEB = [
    {"Id": f"Expire{what}", "Status": "Enabled", "Prefix": f"{what.lower()}/", "ExpirationInDays": days}
    for what, days in (("Bodies", 2), ("Studies", 7), ("Claims", 1))
]
EXPIRE_TEMPORARY_COPIES = {
    "Id": "ExpireTemporaryCopies",
    "Status": "Enabled",
    "Prefix": "frames/",
    "TagFilters": [{"Key": "framegate-copy", "Value": "temporary"}],
    "ExpirationInDays": 7,
}


DEFAULT_RULES = [ABORT_UPLOADS, EXPIRE_MARKERS, EXPIRE_TEMPORARY_COPIES, *EXPIRE_DICOMWEB]


def test_default_lifecycle_removes_only_what_is_temporary(bucket):
    assert bucket["LifecycleConfiguration"]["Rules"] == DEFAULT_RULES


def test_configured_retention_expires_frames_dicom_files_and_what_belongs_to_them(synthesize):
    _, bucket = frame_bucket(synthesize(frame_retention_days="30"))

    assert bucket["LifecycleConfiguration"]["Rules"] == [
        *DEFAULT_RULES,
        {"Id": "ExpireFrames", "Status": "Enabled", "Prefix": "frames/", "ExpirationInDays": 30},
        {"Id": "ExpireIndexes", "Status": "Enabled", "Prefix": "indexes/", "ExpirationInDays": 30},
        {"Id": "ExpireMetadata", "Status": "Enabled", "Prefix": "metadata/", "ExpirationInDays": 30},
        {"Id": "ExpireManifests", "Status": "Enabled", "Prefix": "exports/", "ExpirationInDays": 30},
        {"Id": "ExpireDicomFiles", "Status": "Enabled", "Prefix": "instances/", "ExpirationInDays": 30},
    ]


def test_only_the_frame_bucket_sends_events_to_event_bridge(bucket, resources):
    assert bucket["NotificationConfiguration"] == {"EventBridgeConfiguration": {"EventBridgeEnabled": True}}
    assert sum("NotificationConfiguration" in each for each in resources("AWS::S3::Bucket").values()) == 1


def test_frame_bucket_logs_access_to_another_bucket(bucket, resources):
    target = text(bucket["LoggingConfiguration"]["DestinationBucketName"])[2:-1]
    logs = resources("AWS::S3::Bucket")[target]

    # S3 cannot deliver access logs to a bucket that a customer's key encrypts.
    (encryption,) = logs["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert encryption["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    assert {"Id": "ExpireAccessLogs", "Status": "Enabled", "ExpirationInDays": 365} in (
        logs["LifecycleConfiguration"]["Rules"]
    )


def test_deleted_access_log_can_be_restored_for_30_days(bucket, resources):
    logs = resources("AWS::S3::Bucket")[text(bucket["LoggingConfiguration"]["DestinationBucketName"])[2:-1]]

    assert logs["VersioningConfiguration"] == {"Status": "Enabled"}
    assert {
        "Id": "RemoveDeletedAccessLogs",
        "Status": "Enabled",
        "NoncurrentVersionExpiration": {"NoncurrentDays": 30},
        "ExpiredObjectDeleteMarker": True,
    } in logs["LifecycleConfiguration"]["Rules"]


def test_output_names_the_bucket(template):
    name, _ = frame_bucket(template)

    assert text(template.find_outputs("FrameBucketName")["FrameBucketName"]["Value"]) == f"${{{name}}}"
