"""The frame store: encryption, access, what a browser may do with it, who hears of it, and how long frames stay."""

from __future__ import annotations

import pytest

from tests.infra.cloudformation import frame_bucket, listed, only, text


@pytest.fixture(scope="module")
def bucket(template):
    return frame_bucket(template)[1]


def test_frames_are_encrypted_with_a_key_that_rotates(bucket, resources):
    (key,) = resources("AWS::KMS::Key")
    (encryption,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]

    assert resources("AWS::KMS::Key")[key]["EnableKeyRotation"] is True
    assert encryption["BucketKeyEnabled"] is True
    assert encryption["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
    assert text(encryption["ServerSideEncryptionByDefault"]["KMSMasterKeyID"]) == f"${{{key}.Arn}}"


def test_no_bucket_can_be_public_or_use_access_lists(resources):
    for bucket in resources("AWS::S3::Bucket").values():
        assert bucket["PublicAccessBlockConfiguration"] == {
            "BlockPublicAcls": True,
            "BlockPublicPolicy": True,
            "IgnorePublicAcls": True,
            "RestrictPublicBuckets": True,
        }
        assert bucket["OwnershipControls"] == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
        assert "AccessControl" not in bucket


def test_every_bucket_takes_tls_1_2_or_later_only(resources):
    policies = resources("AWS::S3::BucketPolicy").values()
    denied = {text(policy["Bucket"]): denials(policy) for policy in policies}

    assert denied.keys() == {f"${{{name}}}" for name in resources("AWS::S3::Bucket")}
    for conditions in denied.values():
        assert {"Bool": {"aws:SecureTransport": "false"}} in conditions
        assert {"NumericLessThan": {"s3:TlsVersion": 1.2}} in conditions


def denials(policy):
    bucket = text(policy["Bucket"])[2:-1]
    return [
        each["Condition"]
        for each in policy["PolicyDocument"]["Statement"]
        if each["Effect"] == "Deny"
        and each["Principal"] == {"AWS": "*"}
        and listed(each["Action"]) == ["s3:*"]
        and [text(arn) for arn in each["Resource"]] == [f"${{{bucket}.Arn}}", f"${{{bucket}.Arn}}/*"]
    ]


def test_page_of_any_origin_may_use_a_presigned_url(bucket):
    (rule,) = bucket["CorsConfiguration"]["CorsRules"]

    assert rule["AllowedMethods"] == ["GET", "HEAD"]
    assert rule["AllowedOrigins"] == ["*"]
    assert rule["AllowedHeaders"] == ["*"]
    assert {"ETag", "Content-Length", "Content-Range", "Accept-Ranges"} <= set(rule["ExposedHeaders"])
    assert "x-amz-checksum-crc64nvme" in rule["ExposedHeaders"]
    assert not [header for header in rule["ExposedHeaders"] if "*" in header]


ABORT_UPLOADS = {
    "Id": "AbortIncompleteUploads",
    "Status": "Enabled",
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
}
EXPIRE_MARKERS = {"Id": "ExpireMarkers", "Status": "Enabled", "Prefix": "queued/", "ExpirationInDays": 1}


def test_frames_and_manifests_stay_and_uploads_that_did_not_finish_and_forgotten_markers_go(bucket):
    assert bucket["LifecycleConfiguration"]["Rules"] == [ABORT_UPLOADS, EXPIRE_MARKERS]


def test_frames_and_their_manifests_expire_when_configured_and_nothing_else_does(synthesize):
    _, bucket = frame_bucket(synthesize(frame_retention_days="30"))

    assert bucket["LifecycleConfiguration"]["Rules"] == [
        ABORT_UPLOADS,
        EXPIRE_MARKERS,
        {"Id": "ExpireFrames", "Status": "Enabled", "Prefix": "frames/", "ExpirationInDays": 30},
        {"Id": "ExpireIndexes", "Status": "Enabled", "Prefix": "indexes/", "ExpirationInDays": 30},
        {"Id": "ExpireManifests", "Status": "Enabled", "Prefix": "exports/", "ExpirationInDays": 30},
    ]


def test_event_bridge_hears_of_objects_in_the_frame_bucket_and_in_no_other(bucket, resources):
    assert bucket["NotificationConfiguration"] == {"EventBridgeConfiguration": {"EventBridgeEnabled": True}}
    assert sum("NotificationConfiguration" in each for each in resources("AWS::S3::Bucket").values()) == 1


def test_key_is_the_accounts_own_and_event_bridge_may_use_it_for_this_account_only(resources):
    owner, events = only(resources("AWS::KMS::Key"))["KeyPolicy"]["Statement"]

    assert text(owner["Principal"]["AWS"]) == "arn:${AWS::Partition}:iam::${AWS::AccountId}:root"
    assert events == {
        "Sid": "EncryptEvents",
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
        "Resource": "*",
        "Condition": {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}},
    }


def test_access_to_frames_is_logged_to_a_bucket_of_its_own(bucket, resources):
    target = text(bucket["LoggingConfiguration"]["DestinationBucketName"])[2:-1]
    logs = resources("AWS::S3::Bucket")[target]

    # S3 cannot deliver its logs to a bucket encrypted with a customer's key.
    (encryption,) = logs["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert encryption["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    assert {"Id": "ExpireAccessLogs", "Status": "Enabled", "ExpirationInDays": 365} in (
        logs["LifecycleConfiguration"]["Rules"]
    )


@pytest.mark.parametrize(("removal_policy", "deletion"), [("retain", "RetainExceptOnCreate"), ("destroy", "Delete")])
@pytest.mark.parametrize("kind", ["AWS::S3::Bucket", "AWS::KMS::Key", "AWS::Logs::LogGroup"])
def test_stored_data_outlives_the_stack_unless_configured(synthesize, removal_policy, deletion, kind):
    found = synthesize(removal_policy=removal_policy).find_resources(kind)

    assert {each["DeletionPolicy"] for each in found.values()} == {deletion}


def test_output_names_the_bucket(template):
    name, _ = frame_bucket(template)

    assert text(template.find_outputs("FrameBucketName")["FrameBucketName"]["Value"]) == f"${{{name}}}"
