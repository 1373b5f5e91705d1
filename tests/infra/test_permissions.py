"""Least privilege in the template: every statement of every role, and who may invoke, start and send."""

from __future__ import annotations

import json
import re

import pytest

from framegate.bucket_layout import CLAIM_PREFIX, IMAGE_SET_PREFIXES, STUDY_PREFIX
from infra.config import MAX_DATASTORES
from tests.infra import cloudformation
from tests.infra.cloudformation import (
    frame_bucket,
    listed,
    logical_id,
    properties,
    queue_id,
    role,
    statements,
    text,
)
from tests.infra.project import DATASTORE_A, DATASTORE_B

LOCAL = "${AWS::Region}:${AWS::AccountId}"
IMAGE_SETS = [
    f"arn:${{AWS::Partition}}:medical-imaging:{LOCAL}:datastore/{datastore_id}/imageset/*"
    for datastore_id in (DATASTORE_B, DATASTORE_A)
]
MACHINE = "Framegate-ExportRequests"
WITHOUT_RESOURCES = {"WriteTraces", "WriteLogs"}


def objects_of_datastores(arns, *prefixes):
    """The objects of both data stores under these prefixes, in the order of the statements' sorted resources."""
    return sorted(f"{arns['bucket']}/{prefix}/{each}/*" for prefix in prefixes for each in (DATASTORE_A, DATASTORE_B))


@pytest.fixture(scope="module")
def role_of(template):
    """Return a function that finds the role of a Lambda function."""
    return lambda handler: role(template, cloudformation.function(template, handler)["Role"])


@pytest.fixture(scope="module")
def machine_role(template):
    machine, _ = cloudformation.state_machine(template)
    return role(template, machine["RoleArn"])


@pytest.fixture(scope="module")
def arns(template, resources):
    """The ARNs of the bucket, the two queues of the export function, and the key."""
    bucket, _ = frame_bucket(template)
    queues = resources("AWS::SQS::Queue")
    queue, deferred_stores = queue_id(queues), queue_id(queues, "DeferredStores")
    (key,) = resources("AWS::KMS::Key")
    return {
        "bucket": f"${{{bucket}.Arn}}",
        "queue": f"${{{queue}.Arn}}",
        "deferred_stores": f"${{{deferred_stores}.Arn}}",
        "key": f"${{{key}.Arn}}",
    }


def allowed(found_role):
    """Return the actions and resources of each statement of a role."""
    return {
        sid: (sorted(listed(each["Action"])), sorted(text(resource) for resource in listed(each["Resource"])))
        for sid, each in statements(found_role).items()
    }


def principal(found_role):
    (trust,) = found_role["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Effect"] == "Allow"
    assert trust["Action"] == "sts:AssumeRole"
    return trust["Principal"]["Service"]


def logging_and_tracing(template, handler):
    group = logical_id(cloudformation.function(template, handler)["LoggingConfig"]["LogGroup"])
    return {
        "WriteLogs": (["logs:CreateLogStream", "logs:PutLogEvents"], [f"${{{group}.Arn}}"]),
        "WriteTraces": (["xray:PutTelemetryRecords", "xray:PutTraceSegments"], ["*"]),
    }


def exporting(arns):
    """Return the permissions that both functions that export have."""
    keep = ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
    return {
        "ReadFrames": (["medical-imaging:GetImageFrame", "medical-imaging:GetImageSetMetadata"], IMAGE_SETS),
        "StoreFrames": (
            sorted([*keep, "s3:DeleteObjectTagging", "s3:GetObjectTagging", "s3:PutObjectTagging"]),
            objects_of_datastores(arns, "frames", "mismatched"),
        ),
        "KeepRecords": (keep, objects_of_datastores(arns, "exports", "queued")),
        "NoteVersions": (
            ["s3:DeleteObject", "s3:GetObject", "s3:PutObject"],
            objects_of_datastores(arns, "indexes"),
        ),
        "RemoveMetadata": (["s3:DeleteObject"], objects_of_datastores(arns, "metadata", "bodies", "instances")),
        "ListFrames": (["s3:ListBucket"], [arns["bucket"]]),
        "AnnounceResults": (["events:PutEvents"], [f"arn:${{AWS::Partition}}:events:{LOCAL}:event-bus/default"]),
        "EncryptFrames": (["kms:Decrypt", "kms:GenerateDataKey"], [arns["key"]]),
    }


def test_api_function_has_exactly_these_permissions(template, role_of, arns):
    assert allowed(role_of("api")) == {
        "ReadFrames": (["medical-imaging:GetImageFrame"], IMAGE_SETS),
        "ReadImageSets": (["medical-imaging:GetImageSet", "medical-imaging:GetImageSetMetadata"], IMAGE_SETS),
        "StoreFrames": (
            ["s3:AbortMultipartUpload", "s3:GetObject", "s3:GetObjectTagging", "s3:PutObject"],
            objects_of_datastores(arns, "frames"),
        ),
        "ReadDicomWeb": (
            [
                "medical-imaging:GetDICOMBulkdata",
                "medical-imaging:GetDICOMInstanceFrames",
                "medical-imaging:GetDICOMSeriesMetadata",
                "medical-imaging:SearchDICOMInstances",
                "medical-imaging:SearchDICOMSeries",
                "medical-imaging:SearchDICOMStudies",
                "medical-imaging:SearchImageSets",
            ],
            [each.removesuffix("/imageset/*") for each in IMAGE_SETS],
        ),
        "StoreIndexes": (
            ["s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject"],
            objects_of_datastores(arns, "indexes", "metadata", "bodies"),
        ),
        "NoteStudies": (
            ["s3:DeleteObject", "s3:GetObject", "s3:PutObject"],
            objects_of_datastores(arns, "studies", "claims"),
        ),
        "MarkTemporaryCopies": (["s3:PutObjectTagging"], objects_of_datastores(arns, "frames")),
        "MarkQueuedFrames": (
            ["s3:DeleteObject", "s3:GetObject", "s3:PutObject"],
            objects_of_datastores(arns, "queued"),
        ),
        "TellMissingFromForbidden": (["s3:ListBucket"], [arns["bucket"]]),
        "HandOverFrames": (["sqs:SendMessage"], [arns["deferred_stores"]]),
        "EncryptFrames": (["kms:Decrypt", "kms:GenerateDataKey"], [arns["key"]]),
        **logging_and_tracing(template, "api"),
    }


def test_render_function_has_exactly_these_permissions(template, role_of, arns):
    assert allowed(role_of("rendering")) == {
        "ReadFrames": (["medical-imaging:GetImageFrame"], IMAGE_SETS),
        "ReadImageSets": (["medical-imaging:GetImageSet", "medical-imaging:GetImageSetMetadata"], IMAGE_SETS),
        "ReadDicomWeb": (
            ["medical-imaging:GetDICOMSeriesMetadata", "medical-imaging:SearchImageSets"],
            [each.removesuffix("/imageset/*") for each in IMAGE_SETS],
        ),
        "StoreIndexes": (
            ["s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject"],
            objects_of_datastores(arns, "indexes", "bodies"),
        ),
        "NoteStudies": (
            ["s3:DeleteObject", "s3:GetObject", "s3:PutObject"],
            objects_of_datastores(arns, "studies", "claims"),
        ),
        "TellMissingFromForbidden": (["s3:ListBucket"], [arns["bucket"]]),
        "EncryptFrames": (["kms:Decrypt", "kms:GenerateDataKey"], [arns["key"]]),
        **logging_and_tracing(template, "rendering"),
    }


def test_export_function_has_exactly_these_permissions(template, role_of, arns):
    assert allowed(role_of("export")) == {
        **exporting(arns),
        "NoteStudies": (
            ["s3:DeleteObject", "s3:GetObject", "s3:PutObject"],
            objects_of_datastores(arns, "studies"),
        ),
        "ConfirmDeletions": (["medical-imaging:GetImageSet"], IMAGE_SETS),
        "WorkQueueOff": (
            [
                "sqs:ChangeMessageVisibility",
                "sqs:DeleteMessage",
                "sqs:GetQueueAttributes",
                "sqs:ReceiveMessage",
                "sqs:SendMessage",
            ],
            sorted([arns["queue"], arns["deferred_stores"]]),
        ),
        **logging_and_tracing(template, "export"),
    }


def test_request_function_has_exactly_these_permissions(template, role_of, arns):
    assert allowed(role_of("export_requests")) == {
        **exporting(arns),
        "ReadRequests": (["s3:GetObject"], [f"{arns['bucket']}/export-requests/*"]),
        "KeepResults": (
            ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:PutObject"],
            [f"{arns['bucket']}/exports/requests/*"],
        ),
        **logging_and_tracing(template, "export_requests"),
    }


def test_dicom_files_have_a_policy_of_their_own_only_where_they_are_on(synthesize, template):
    on = synthesize(export_output="dicom")
    bucket, _ = frame_bucket(on)
    (key,) = properties(on, "AWS::KMS::Key")
    datastores = [each.removesuffix("/imageset/*") for each in IMAGE_SETS]
    read = ["GetDICOMBulkdata", "GetDICOMInstance", "GetDICOMSeriesMetadata"]
    (policy,) = properties(on, "AWS::IAM::ManagedPolicy").values()

    assert properties(template, "AWS::IAM::ManagedPolicy") == {}
    assert allowed({"Policies": [policy]}) == {
        "ReadDatasets": ([f"medical-imaging:{each}" for each in read], datastores),
        "StoreDicomFiles": (
            ["s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject"],
            objects_of_datastores({"bucket": f"${{{bucket}.Arn}}"}, "instances"),
        ),
        "EncryptDicomFiles": (["kms:Decrypt", "kms:GenerateDataKey"], [f"${{{key}.Arn}}"]),
    }
    assert {logical_id(each) for each in policy["Roles"]} == {
        logical_id(cloudformation.function(on, handler)["Role"]) for handler in ("api", "export", "export_requests")
    }
    for handler in ("api", "export", "export_requests"):
        before, after = (allowed(role(each, cloudformation.function(each, handler)["Role"])) for each in (template, on))
        assert before == after


def test_state_machine_has_exactly_these_permissions(template, machine_role, arns, resources):
    states = f"arn:${{AWS::Partition}}:states:{LOCAL}"
    lines = f"{states}:execution:{MACHINE}/ExportImageSets:*"
    (function,) = (name for name in resources("AWS::Lambda::Function") if name.startswith("RequestFunction"))

    assert allowed(machine_role) == {
        "DoTasks": (["lambda:InvokeFunction"], [f"${{{function}.Arn}}"]),
        "RunLines": (["states:StartExecution"], [f"{states}:stateMachine:{MACHINE}"]),
        "FollowLines": (
            ["states:DescribeExecution", "states:StopExecution"],
            [lines, f"{states}:execution:{MACHINE}:*"],
        ),
        "RedriveLines": (["states:RedriveExecution"], [lines]),
        "ReadLinesAndWriteResults": (
            ["s3:AbortMultipartUpload", "s3:GetObject", "s3:ListMultipartUploadParts", "s3:PutObject"],
            [f"{arns['bucket']}/exports/requests/*"],
        ),
        "EncryptFrames": (["kms:Decrypt", "kms:GenerateDataKey"], [arns["key"]]),
        "EncryptExecutions": (["kms:Decrypt", "kms:GenerateDataKey"], [arns["key"]]),
        "EncryptLogDelivery": (["kms:GenerateDataKey"], [arns["key"]]),
        "WriteLogs": (
            [
                "logs:CreateLogDelivery",
                "logs:DeleteLogDelivery",
                "logs:DescribeLogGroups",
                "logs:DescribeResourcePolicies",
                "logs:GetLogDelivery",
                "logs:ListLogDeliveries",
                "logs:PutResourcePolicy",
                "logs:UpdateLogDelivery",
            ],
            ["*"],
        ),
        "WriteTraces": (
            [
                "xray:GetSamplingRules",
                "xray:GetSamplingTargets",
                "xray:PutTelemetryRecords",
                "xray:PutTraceSegments",
            ],
            ["*"],
        ),
    }


def test_state_machine_name_matches_its_role(template):
    machine, definition = cloudformation.state_machine(template)

    assert machine["StateMachineName"] == MACHINE
    assert definition["States"]["ExportImageSets"]["Label"] == "ExportImageSets"


def test_event_bridge_may_only_start_the_state_machine(template, resources):
    (machine,) = resources("AWS::StepFunctions::StateMachine")
    (target,) = (
        target for rule in resources("AWS::Events::Rule").values() for target in rule["Targets"] if "RoleArn" in target
    )
    starter = role(template, target["RoleArn"])
    (trust,) = starter["AssumeRolePolicyDocument"]["Statement"]

    assert allowed(starter) == {"Start": (["states:StartExecution"], [f"${{{machine}}}"])}
    assert principal(starter) == "events.amazonaws.com"
    assert trust["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}


@pytest.mark.parametrize(
    ("handler", "services"),
    [("api", ["s3", "sqs"]), ("rendering", ["s3"]), ("export", ["s3", "sqs"]), ("export_requests", ["s3"])],
)
def test_functions_use_the_key_only_through_these_services(role_of, handler, services):
    condition = statements(role_of(handler))["EncryptFrames"]["Condition"]["StringEquals"]["kms:ViaService"]

    assert [text(each) for each in listed(condition)] == [
        f"{each}.${{AWS::Region}}.${{AWS::URLSuffix}}" for each in services
    ]


def test_state_machine_uses_the_key_only_through_s3(machine_role):
    condition = statements(machine_role)["EncryptFrames"]["Condition"]["StringEquals"]["kms:ViaService"]

    assert text(condition) == "s3.${AWS::Region}.${AWS::URLSuffix}"


def test_state_machine_uses_the_key_only_for_its_executions_and_logs(machine_role):
    machine = f"arn:${{AWS::Partition}}:states:{LOCAL}:stateMachine:{MACHINE}"
    conditions = {
        sid: {key: [text(each) for each in listed(value)] for key, value in each["Condition"]["StringEquals"].items()}
        for sid, each in statements(machine_role).items()
        if sid in ("EncryptExecutions", "EncryptLogDelivery")
    }

    assert conditions == {
        "EncryptExecutions": {
            "kms:EncryptionContext:aws:states:stateMachineArn": [machine, f"{machine}/ExportImageSets"]
        },
        # This is no pattern: the encryption context of log delivery contains the asterisk.
        "EncryptLogDelivery": {"kms:EncryptionContext:SourceArn": [f"arn:${{AWS::Partition}}:logs:{LOCAL}:*"]},
    }


@pytest.mark.parametrize("handler", ["export", "export_requests"])
def test_functions_send_events_only_with_the_source_framegate(role_of, handler):
    assert statements(role_of(handler))["AnnounceResults"]["Condition"] == {
        "StringEquals": {"events:source": "framegate"}
    }


def test_api_function_can_tag_a_frame_only_as_temporary(role_of):
    assert statements(role_of("api"))["MarkTemporaryCopies"]["Condition"] == {
        "StringEquals": {"s3:RequestObjectTag/framegate-copy": "temporary"}
    }


def test_no_statement_reaches_objects_of_other_data_stores(synthesize):
    template = synthesize(environment="production", api_gateway_account_role="true")
    bucket = f"${{{frame_bucket(template)[0]}.Arn}}/"
    found = [
        text(resource).removeprefix(bucket)
        for each in properties(template, "AWS::IAM::Role").values()
        for policy in each.get("Policies", [])
        for statement in policy["PolicyDocument"]["Statement"]
        for resource in listed(statement["Resource"])
        if text(resource).startswith(bucket)
    ]
    prefixes = (*IMAGE_SET_PREFIXES, STUDY_PREFIX, CLAIM_PREFIX)
    of_datastores = {f"{prefix}{each}/*" for prefix in prefixes for each in (DATASTORE_A, DATASTORE_B)}

    assert set(found) == {*of_datastores, "export-requests/*", "exports/requests/*"}


# IAM user guide, "IAM and AWS STS quotas". White space does not count.
MAX_INLINE_POLICY_CHARACTERS = 10_240
MAX_BUCKET_NAME = "b" * 63


def test_policies_of_the_maximum_number_of_data_stores_fit_into_a_role(synthesize):
    datastores = ",".join(f"{number:032}" for number in range(MAX_DATASTORES))
    template = synthesize(datastore_ids=datastores, environment="production", export_output="dicom")

    def resolved(value):
        if isinstance(value, list):
            return [resolved(each) for each in value]
        if not isinstance(value, dict):
            return value
        if not value.keys() & {"Ref", "Fn::GetAtt", "Fn::Join"}:
            return {name: resolved(each) for name, each in value.items()}
        plain = text(value).replace("${AWS::Region}", "ap-southeast-2").replace("${AWS::AccountId}", "1" * 12)
        plain = plain.replace("${AWS::Partition}", "aws").replace("${AWS::URLSuffix}", "amazonaws.com")
        return re.sub(r"\$\{[^}]*\}", f"arn:aws:s3:::{MAX_BUCKET_NAME}", plain)

    sizes = {
        name: sum(
            len(json.dumps(resolved(policy["PolicyDocument"]), separators=(",", ":")))
            for policy in each.get("Policies", [])
        )
        for name, each in properties(template, "AWS::IAM::Role").items()
    }

    assert max(sizes.values()) > MAX_INLINE_POLICY_CHARACTERS / 2
    assert {name: size for name, size in sizes.items() if size > MAX_INLINE_POLICY_CHARACTERS} == {}


def test_wildcard_resources_appear_only_where_the_service_needs_them(synthesize):
    template = synthesize(environment="production", api_gateway_account_role="true")
    roles = properties(template, "AWS::IAM::Role").values()
    found = [
        statement
        for each in roles
        for policy in each.get("Policies", [])
        for statement in policy["PolicyDocument"]["Statement"]
    ]

    assert len(found) > 20
    for statement in found:
        assert statement["Effect"] == "Allow"
        assert not {"NotAction", "NotResource"} & statement.keys()
        assert not [action for action in listed(statement["Action"]) if "*" in action]
        assert "*" not in listed(statement["Resource"]) or statement["Sid"] in WITHOUT_RESOURCES


def test_permissions_are_inline_policies_of_roles_only(template):
    template.resource_count_is("AWS::IAM::Policy", 0)
    template.resource_count_is("AWS::IAM::ManagedPolicy", 0)
    template.resource_count_is("AWS::IAM::User", 0)


def test_each_function_has_its_own_role_without_managed_policies(template, resources):
    roles = [logical_id(each["Role"]) for each in resources("AWS::Lambda::Function").values()]

    assert len(set(roles)) == 4
    for name in roles:
        found = resources("AWS::IAM::Role")[name]
        assert principal(found) == "lambda.amazonaws.com"
        assert "ManagedPolicyArns" not in found


def test_only_the_account_logging_role_has_a_managed_policy(synthesize):
    roles = properties(synthesize(api_gateway_account_role="true"), "AWS::IAM::Role").values()
    (found,) = (each for each in roles if "ManagedPolicyArns" in each)

    assert principal(found) == "apigateway.amazonaws.com"
    assert [text(arn) for arn in found["ManagedPolicyArns"]] == [
        "arn:${AWS::Partition}:iam::aws:policy/service-role/AmazonAPIGatewayPushToCloudWatchLogs"
    ]
    assert "Policies" not in found


def test_account_logging_role_is_created_only_if_configured(synthesize, resources):
    template = synthesize(api_gateway_account_role="true")

    template.resource_count_is("AWS::IAM::Role", len(resources("AWS::IAM::Role")) + 1)
    template.resource_count_is("AWS::ApiGateway::Account", 1)


def test_only_the_api_may_invoke_the_functions_behind_it(resources):
    permissions = resources("AWS::Lambda::Permission").values()
    (alias,) = resources("AWS::Lambda::Alias")
    (render,) = (name for name in resources("AWS::Lambda::Function") if name.startswith("RenderFunction"))
    (api,) = resources("AWS::ApiGateway::RestApi")

    assert {text(each["FunctionName"]) for each in permissions} == {f"${{{alias}}}", f"${{{render}.Arn}}"}
    for each in permissions:
        assert each["Principal"] == "apigateway.amazonaws.com"
        assert text(each["SourceArn"]) == (
            f"arn:${{AWS::Partition}}:execute-api:${{AWS::Region}}:${{AWS::AccountId}}:${{{api}}}/*/*/*"
        )


def test_only_rules_of_the_stack_may_send_to_its_queues(resources):
    rules = {
        f"${{{name}.Arn}}"
        for name, each in resources("AWS::Events::Rule").items()
        if each["EventPattern"]["source"] != ["aws.kms"]  # its target is a topic
    }
    policies = resources("AWS::SQS::QueuePolicy").values()
    senders = set()
    for policy in policies:
        insecure, *others = policy["PolicyDocument"]["Statement"]
        assert (insecure["Effect"], insecure["Action"]) == ("Deny", "sqs:*")
        assert insecure["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
        for statement in others:
            assert statement["Principal"] == {"Service": "events.amazonaws.com"}
            assert statement["Action"] == "sqs:SendMessage"
            senders |= {text(arn) for arn in listed(statement["Condition"]["ArnEquals"]["aws:SourceArn"])}

    assert len(policies) == len(resources("AWS::SQS::Queue"))
    assert senders == rules
