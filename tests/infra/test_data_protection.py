"""Data protection of every resource: encryption, TLS, no public access, retention of logs and data."""

from __future__ import annotations

import json
import re

import pytest
from botocore.session import get_session

from tests.infra.cloudformation import listed, logical_id, only, properties, text
from tests.infra.project import REACH

ENCRYPTED = {
    "AWS::Lambda::Function": lambda function: function["KmsKeyArn"],
    "AWS::Logs::LogGroup": lambda group: group["KmsKeyId"],
    "AWS::S3::Bucket": lambda bucket: default_encryption(bucket)["KMSMasterKeyID"],
    "AWS::SNS::Topic": lambda topic: topic["KmsMasterKeyId"],
    "AWS::SQS::Queue": lambda queue: queue["KmsMasterKeyId"],
    "AWS::StepFunctions::StateMachine": lambda machine: machine["EncryptionConfiguration"]["KmsKeyId"],
}
"""The resource types that store data, and the property that names the key."""

WITHOUT_DATA = {
    "AWS::ApiGateway::Account",
    "AWS::ApiGateway::Deployment",
    "AWS::ApiGateway::GatewayResponse",
    "AWS::ApiGateway::Method",
    "AWS::ApiGateway::Resource",
    "AWS::ApiGateway::RestApi",
    "AWS::ApiGateway::Stage",  # without a cache
    "AWS::CloudWatch::Alarm",
    "AWS::CloudWatch::Dashboard",
    "AWS::CloudWatch::LogAlarm",
    "AWS::CodeDeploy::Application",
    "AWS::CodeDeploy::DeploymentGroup",
    "AWS::Events::Rule",
    "AWS::IAM::Role",
    "AWS::KMS::Key",
    "AWS::Lambda::Alias",
    "AWS::Lambda::EventSourceMapping",
    "AWS::Lambda::LayerVersion",
    "AWS::Lambda::Permission",
    "AWS::Lambda::Version",
    "AWS::Logs::MetricFilter",
    "AWS::Logs::QueryDefinition",
    "AWS::S3::BucketPolicy",
    "AWS::SNS::Subscription",
    "AWS::SNS::TopicPolicy",
    "AWS::SQS::QueuePolicy",
}

EVERYTHING = {"environment": "production", "alarm_email": "operations@example.org"}


def default_encryption(bucket):
    (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    return rule["ServerSideEncryptionByDefault"]


def takes_key_changes(name, template):
    """Return whether a topic receives notices about the key, which the key cannot encrypt once it is disabled."""
    rules = properties(template, "AWS::Events::Rule").values()
    return name in {
        logical_id(target["Arn"])
        for rule in rules
        if rule["EventPattern"]["source"] == ["aws.kms"]
        for target in rule["Targets"]
    }


def takes_access_logs(name, template):
    """Return whether a bucket receives access logs. S3 delivers them only to buckets that S3-managed keys encrypt."""
    buckets = properties(template, "AWS::S3::Bucket").values()
    return name in {
        logical_id(each["LoggingConfiguration"]["DestinationBucketName"])
        for each in buckets
        if "LoggingConfiguration" in each
    }


@pytest.mark.parametrize("keys", [{}, EVERYTHING], ids=["default", "everything"])
def test_every_resource_with_data_is_encrypted_with_the_stack_key(synthesize, keys):
    template = synthesize(**keys)
    (key,) = properties(template, "AWS::KMS::Key")
    used = {
        name: logical_id(key_of(each))
        for kind, key_of in ENCRYPTED.items()
        for name, each in properties(template, kind).items()
        if not takes_access_logs(name, template) and not takes_key_changes(name, template)
    }

    assert len(used) == 17
    assert set(used.values()) == {key}


@pytest.mark.parametrize("keys", [{}, EVERYTHING], ids=["default", "everything"])
def test_every_other_resource_type_stores_no_data(synthesize, keys):
    types = {each["Type"] for each in synthesize(**keys).to_json()["Resources"].values()}

    assert types - ENCRYPTED.keys() <= WITHOUT_DATA
    assert "CacheClusterEnabled" not in only(properties(synthesize(**keys), "AWS::ApiGateway::Stage"))


def test_key_rotates_and_belongs_to_the_account(resources):
    key = only(resources("AWS::KMS::Key"))
    owner = key["KeyPolicy"]["Statement"][0]

    assert key["EnableKeyRotation"] is True
    assert text(owner["Principal"]["AWS"]) == "arn:${AWS::Partition}:iam::${AWS::AccountId}:root"


LOCAL = "${AWS::Region}:${AWS::AccountId}"
ACCOUNT = {"StringEquals": {"aws:SourceAccount": "${AWS::AccountId}"}}


def test_only_services_may_use_the_key_and_only_for_this_stack(resources):
    _, *statements = only(resources("AWS::KMS::Key"))["KeyPolicy"]["Statement"]
    found = {
        each["Sid"]: (text(each["Principal"]["Service"]), listed(each["Action"]), condition(each))
        for each in statements
        if each["Effect"] == "Allow" and each["Principal"].keys() == {"Service"}
    }

    assert len(found) == len(statements)
    assert found == {
        "EncryptLogs": (
            "logs.${AWS::Region}.amazonaws.com",
            [
                "kms:Decrypt",
                "kms:Encrypt",
                "kms:GenerateDataKey",
                "kms:GenerateDataKeyWithoutPlaintext",
                "kms:ReEncryptFrom",
                "kms:ReEncryptTo",
            ],
            {
                "ArnLike": {
                    "kms:EncryptionContext:aws:logs:arn": [
                        f"arn:${{AWS::Partition}}:logs:{LOCAL}:log-group:Framegate-*",
                        f"arn:${{AWS::Partition}}:logs:{LOCAL}:log-group:/aws/vendedlogs/states/Framegate-*",
                    ]
                }
            },
        ),
        "DeliverLogs": (
            "delivery.logs.amazonaws.com",
            ["kms:Decrypt"],
            {"StringEquals": {"kms:EncryptionContext:SourceArn": f"arn:${{AWS::Partition}}:logs:{LOCAL}:*"}},
        ),
        "EncryptEvents": ("events.amazonaws.com", ["kms:Decrypt", "kms:GenerateDataKey"], ACCOUNT),
        "EncryptAlarms": (
            "cloudwatch.amazonaws.com",
            ["kms:Decrypt", "kms:GenerateDataKey*"],
            {
                **ACCOUNT,
                "ArnLike": {"aws:SourceArn": f"arn:${{AWS::Partition}}:cloudwatch:{LOCAL}:alarm:Framegate-*"},
            },
        ),
    }


def condition(statement):
    return {
        operator: {
            key: [text(each) for each in value] if isinstance(value, list) else text(value)
            for key, value in keys.items()
        }
        for operator, keys in statement["Condition"].items()
    }


def test_key_policy_matches_log_group_names_of_a_long_stack_name(synthesize):
    template = synthesize(export_events="none", stack_name="F" * 128)
    statement = only(properties(template, "AWS::KMS::Key"))["KeyPolicy"]["Statement"][1]
    _, vended = condition(statement)["ArnLike"]["kms:EncryptionContext:aws:logs:arn"]
    (name,) = (
        text(each["LogGroupName"])
        for each in properties(template, "AWS::Logs::LogGroup").values()
        if "LogGroupName" in each
    )

    assert name.startswith(vended.partition(":log-group:")[2].removesuffix("*"))


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


def test_every_bucket_accepts_only_tls_1_2_or_later(resources):
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


@pytest.mark.parametrize(
    ("kind", "members", "action"),
    [("AWS::SQS::Queue", "Queues", "sqs:*"), ("AWS::SNS::Topic", "Topics", "sns:Publish")],
)
def test_every_queue_and_topic_accepts_only_tls(resources, kind, members, action):
    refusing = {
        logical_id(member)
        for policy in resources(f"{kind}Policy").values()
        for member in policy[members]
        for statement in policy["PolicyDocument"]["Statement"]
        if (statement["Effect"], statement["Action"]) == ("Deny", action)
        and statement["Principal"] in ("*", {"AWS": "*"})
        and statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
        and logical_id(statement["Resource"]) == logical_id(member)
    }

    assert resources(kind)
    assert refusing == resources(kind).keys()


FORWARD_SECRECY = "SecurityPolicy_TLS13_1_2_PFS_PQ_2025_09"
FIPS = "SecurityPolicy_TLS13_1_2_FIPS_PFS_PQ_2025_09"


@pytest.mark.parametrize(("fips", "policy"), [("false", FORWARD_SECRECY), ("true", FIPS)])
@pytest.mark.parametrize("reach", REACH.values(), ids=REACH)
def test_api_accepts_only_tls_1_2_or_later(synthesize, reach, fips, policy):
    template = synthesize(**reach, fips_endpoints=fips)
    kinds = ("AWS::ApiGateway::RestApi", "AWS::ApiGateway::DomainName")
    reached = [each for kind in kinds for each in properties(template, kind).values()]

    assert {each["SecurityPolicy"] for each in reached} == {policy}


@pytest.mark.parametrize("policy", [FORWARD_SECRECY, FIPS])
def test_security_policies_exist_in_api_gateway(policy):
    model = get_session().get_service_model("apigateway")

    assert policy in model.shape_for("SecurityPolicy").enum


@pytest.mark.parametrize(("reach", "mode"), {**dict.fromkeys(REACH, "STRICT"), "private": "BASIC"}.items())
def test_access_mode_is_strict_except_for_private_apis(synthesize, reach, mode):
    template = synthesize(**REACH[reach])
    kinds = ("AWS::ApiGateway::RestApi", "AWS::ApiGateway::DomainName")

    assert {each["EndpointAccessMode"] for kind in kinds for each in properties(template, kind).values()} == {mode}


@pytest.mark.parametrize("days", ["90", "365"])
def test_every_log_group_has_the_configured_retention(synthesize, days):
    groups = properties(synthesize(log_retention_days=days), "AWS::Logs::LogGroup")

    assert len(groups) == 6
    assert {group["RetentionInDays"] for group in groups.values()} == {int(days)}


def test_production_keeps_audit_records_for_six_years(synthesize):
    keys = {**EVERYTHING, "log_retention_days": "400"}
    groups = properties(synthesize(**keys), "AWS::Logs::LogGroup")
    days = {name: group["RetentionInDays"] for name, group in groups.items()}
    audited = (
        "RestApiAccessLogs",
        "ApiFunctionLogs",
        "RenderFunctionLogs",
        "ExportFunctionLogs",
        "RequestFunctionLogs",
    )

    assert sorted(days.values()) == [400, *[2192] * 5]
    assert all(days[name] == 2192 for name in days if name.startswith(audited))
    (expiry,) = (
        rule["ExpirationInDays"]
        for bucket in properties(synthesize(**keys), "AWS::S3::Bucket").values()
        for rule in bucket["LifecycleConfiguration"]["Rules"]
        if rule["Id"] == "ExpireAccessLogs"
    )
    assert expiry == 2192


@pytest.mark.parametrize(("removal_policy", "deletion"), [("retain", "RetainExceptOnCreate"), ("destroy", "Delete")])
@pytest.mark.parametrize("kind", ["AWS::S3::Bucket", "AWS::KMS::Key", "AWS::Logs::LogGroup"])
def test_stored_data_outlives_the_stack_unless_configured_otherwise(synthesize, removal_policy, deletion, kind):
    found = synthesize(removal_policy=removal_policy).find_resources(kind)

    assert {each["DeletionPolicy"] for each in found.values()} == {deletion}
    if deletion != "Delete":
        assert {each["UpdateReplacePolicy"] for each in found.values()} == {"Retain"}


@pytest.mark.parametrize(("environment", "protected"), [("development", False), ("production", True)])
def test_production_stack_is_protected_from_deletion(synthesize_stack, environment, protected):
    assert bool(synthesize_stack(environment=environment).termination_protection) is protected


@pytest.mark.parametrize("keys", [{}, EVERYTHING, REACH["private"]], ids=["default", "everything", "private"])
def test_template_names_no_region(synthesize, keys):
    written = json.dumps(synthesize(**keys).to_json())

    assert "AWS::Region" in written
    assert re.findall(r"\b[a-z]{2}(?:-[a-z]+)+-\d\b", written) == []


def test_no_resource_copies_data_to_another_region(template):
    written = json.dumps(template.to_json())

    assert not re.search(r"Replica|GlobalTable|MultiRegion|CrossRegion", written)
