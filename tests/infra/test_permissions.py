"""Least privilege, read off the template: every statement of every role, and who may call the function."""

from __future__ import annotations

import pytest

from tests.infra.cloudformation import listed, only, properties, text
from tests.infra.project import DATASTORE_A, DATASTORE_B


@pytest.fixture(scope="module")
def function_role(resources):
    roles = resources("AWS::IAM::Role")
    (role,) = (each for each in roles.values() if principal(each) == "lambda.amazonaws.com")
    return role


@pytest.fixture(scope="module")
def statements(function_role):
    (policy,) = function_role["Policies"]
    return {each["Sid"]: each for each in policy["PolicyDocument"]["Statement"]}


def principal(role):
    (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Effect"] == "Allow"
    assert trust["Action"] == "sts:AssumeRole"
    return trust["Principal"]["Service"]


def test_every_statement_of_the_function_is_one_of_these(statements, resources):
    (bucket,) = (name for name in resources("AWS::S3::Bucket") if "AccessLogs" not in name)
    (key,) = resources("AWS::KMS::Key")
    (logs,) = (name for name in resources("AWS::Logs::LogGroup") if "ApiFunction" in name)
    image_sets = "arn:${AWS::Partition}:medical-imaging:${AWS::Region}:${AWS::AccountId}:datastore/%s/imageset/*"
    found = {
        sid: (sorted(listed(each["Action"])), sorted(text(resource) for resource in listed(each["Resource"])))
        for sid, each in statements.items()
    }

    assert found == {
        "ReadFrames": (["medical-imaging:GetImageFrame"], [image_sets % DATASTORE_B, image_sets % DATASTORE_A]),
        "StoreFrames": (["s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject"], [f"${{{bucket}.Arn}}/frames/*"]),
        "TellMissingFromForbidden": (["s3:ListBucket"], [f"${{{bucket}.Arn}}"]),
        "EncryptFrames": (["kms:Decrypt", "kms:GenerateDataKey"], [f"${{{key}.Arn}}"]),
        "WriteLogs": (["logs:CreateLogStream", "logs:PutLogEvents"], [f"${{{logs}.Arn}}"]),
        "WriteTraces": (["xray:PutTelemetryRecords", "xray:PutTraceSegments"], ["*"]),
    }


def test_frame_key_is_used_through_s3_only(statements):
    condition = statements["EncryptFrames"]["Condition"]["StringEquals"]["kms:ViaService"]

    assert text(condition) == "s3.${AWS::Region}.${AWS::URLSuffix}"


def test_no_statement_of_any_role_has_a_wildcard_action_or_resource_but_for_tracing(template):
    roles = properties(template, "AWS::IAM::Role").values()
    for statement in (
        statement
        for role in roles
        for policy in role.get("Policies", [])
        for statement in policy["PolicyDocument"]["Statement"]
    ):
        assert statement["Effect"] == "Allow"
        assert not {"NotAction", "NotResource"} & statement.keys()
        assert not [action for action in listed(statement["Action"]) if "*" in action]
        assert "*" not in listed(statement["Resource"]) or statement["Sid"] == "WriteTraces"


def test_permissions_are_nowhere_but_in_the_roles(template):
    template.resource_count_is("AWS::IAM::Policy", 0)
    template.resource_count_is("AWS::IAM::ManagedPolicy", 0)
    template.resource_count_is("AWS::IAM::User", 0)


def test_function_has_a_role_of_its_own_without_managed_policies(function_role, resources):
    function = only(resources("AWS::Lambda::Function"))

    assert text(function["Role"]) in {f"${{{name}.Arn}}" for name in resources("AWS::IAM::Role")}
    assert "ManagedPolicyArns" not in function_role


def test_other_role_lets_api_gateway_write_logs_and_no_more(resources):
    (role,) = (each for each in resources("AWS::IAM::Role").values() if principal(each) != "lambda.amazonaws.com")

    assert principal(role) == "apigateway.amazonaws.com"
    assert [text(arn) for arn in role["ManagedPolicyArns"]] == [
        "arn:${AWS::Partition}:iam::aws:policy/service-role/AmazonAPIGatewayPushToCloudWatchLogs"
    ]
    assert "Policies" not in role


def test_account_role_can_be_left_to_the_account(synthesize):
    template = synthesize(api_gateway_account_role="false")

    template.resource_count_is("AWS::IAM::Role", 1)
    template.resource_count_is("AWS::ApiGateway::Account", 0)


def test_only_this_api_may_call_the_function_and_only_its_alias(resources):
    permission = only(resources("AWS::Lambda::Permission"))
    (alias,) = resources("AWS::Lambda::Alias")
    (api,) = resources("AWS::ApiGateway::RestApi")

    assert permission["Principal"] == "apigateway.amazonaws.com"
    assert text(permission["FunctionName"]) == f"${{{alias}}}"
    assert text(permission["SourceArn"]) == (
        f"arn:${{AWS::Partition}}:execute-api:${{AWS::Region}}:${{AWS::AccountId}}:${{{api}}}/*/*/*"
    )
