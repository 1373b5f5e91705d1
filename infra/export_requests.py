"""The state machine that works request manifests off, and the event that starts it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from aws_cdk import ArnFormat, Aws, Duration, Fn, Stack
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from framegate.bucket_layout import EXPORT_PREFIX, REQUEST_PREFIX, map_results_prefix
from framegate.messages import ExportTask, SummarizeTask, ValidateTask
from framegate.problems import InvalidRequestManifest
from infra.acknowledge import acknowledge
from infra.permissions import (
    acknowledge_inline_policy,
    acknowledge_prefixes,
    allow,
    use_key,
    use_key_for,
)
from infra.retention import VENDED_LOGS, log_group

if TYPE_CHECKING:
    from aws_cdk import aws_lambda as lambda_

    from infra.config import Config
    from infra.frame_store import FrameStore

TOLERATED_FAILURES = 5
"""Percentage of lines whose workflow may fail before the whole execution does, to go on with when that is mended."""

MAP_LABEL = "ExportImageSets"
"""Part of the name of each line's workflow."""

# The function's workers may be taken by another manifest for hours: waiting is right.
_BUSY = {
    "ErrorEquals": [
        "Lambda.TooManyRequestsException",
        "Lambda.ServiceException",
        "Lambda.AWSLambdaException",
        "Lambda.SdkClientException",
        "Lambda.ClientExecutionTimeoutException",
    ],
    "IntervalSeconds": 2,
    "BackoffRate": 2,
    "MaxDelaySeconds": 60,
    "JitterStrategy": "FULL",
    "MaxAttempts": 1000,
}
_HOPELESS = {"ErrorEquals": [InvalidRequestManifest.__name__], "MaxAttempts": 0}
_FAILED = {
    "ErrorEquals": ["States.ALL"],
    "IntervalSeconds": 15,
    "BackoffRate": 2,
    "MaxDelaySeconds": 900,
    "JitterStrategy": "FULL",
    "MaxAttempts": 8,
}


class ExportRequests(Construct):
    """Works off the request manifests that are put into the bucket.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        Its name there.
    config : Config
        Decides how many lines are worked on at the same time.
    frame_store : FrameStore
        Where manifests come from, and results go.
    function : lambda_.Function
        What does the tasks.
    dead_letters : sqs.Queue
        Where an event goes that cannot start the state machine.

    Attributes
    ----------
    state_machine : sfn.StateMachine
        The state machine.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: Config,
        frame_store: FrameStore,
        function: lambda_.Function,
        dead_letters: sqs.Queue,
    ) -> None:
        super().__init__(scope, construct_id)
        stack = Stack.of(self)
        # Given, so that its role can name it.
        name = f"{config.stack_name[:60]}-ExportRequests"
        # The stack's own id ends the name, so that the group that an earlier stack left is not in the way.
        stack_uuid = Fn.select(2, Fn.split("/", Aws.STACK_ID))
        group = log_group(self, "Logs", config, frame_store.key, f"{VENDED_LOGS}{name}-{stack_uuid}")
        role = self._role(name, frame_store, function)
        definition = _definition(function.function_arn, config.export_concurrency)
        self.state_machine = sfn.StateMachine(
            self,
            "StateMachine",
            state_machine_name=name,
            comment="Exports what a request manifest asks for, line by line",
            definition_body=sfn.DefinitionBody.from_string(stack.to_json_string(definition)),
            role=role.without_policy_updates(),
            tracing_enabled=True,
            # Data would hold the names of manifests, which are whatever users make of them.
            logs=sfn.LogOptions(destination=group, level=sfn.LogLevel.ALL, include_execution_data=False),
        )
        cfn_machine = cast("sfn.CfnStateMachine", self.state_machine.node.default_child)
        # CDK makes it wait for the role that it names anyway.
        cfn_machine.add_metadata("cfn-lint", {"config": {"ignore_checks": ["W3005"]}})
        self._encrypt(cfn_machine, frame_store)
        self._start_on_manifests(config, frame_store, dead_letters)

    def _encrypt(self, machine: sfn.CfnStateMachine, frame_store: FrameStore) -> None:
        # Set here, it is a property; set through the state machine's own argument, it opens the key to log delivery
        # without a condition.
        machine.encryption_configuration = sfn.CfnStateMachine.EncryptionConfigurationProperty(
            type="CUSTOMER_MANAGED_KMS_KEY", kms_key_id=frame_store.key.key_arn
        )
        # AWS Step Functions developer guide, "Data at rest encryption in Step Functions", step 3.
        frame_store.key.add_to_resource_policy(
            iam.PolicyStatement(
                sid="DeliverLogs",
                principals=[iam.ServicePrincipal("delivery.logs.amazonaws.com")],
                actions=["kms:Decrypt"],
                resources=["*"],
                conditions={"StringEquals": {"kms:EncryptionContext:SourceArn": _log_delivery(Stack.of(self))}},
            )
        )

    def _role(self, name: str, frame_store: FrameStore, function: lambda_.Function) -> iam.Role:
        stack = Stack.of(self)
        machine = stack.format_arn(
            service="states", resource="stateMachine", resource_name=name, arn_format=ArnFormat.COLON_RESOURCE_NAME
        )
        own, of_lines = (
            stack.format_arn(
                service="states", resource="execution", resource_name=each, arn_format=ArnFormat.COLON_RESOURCE_NAME
            )
            for each in (f"{name}:*", f"{name}/{MAP_LABEL}:*")
        )
        results = frame_store.bucket.arn_for_objects(f"{EXPORT_PREFIX}*")
        role = iam.Role(
            self,
            "Role",
            description="What the state machine for request manifests may do",
            assumed_by=iam.ServicePrincipal("states.amazonaws.com"),
            inline_policies={
                "Allow": iam.PolicyDocument(
                    statements=[
                        allow("DoTasks", ["lambda:InvokeFunction"], function.function_arn),
                        # AWS Step Functions developer guide, "IAM policies for using Distributed Map states".
                        allow("RunLines", ["states:StartExecution"], machine),
                        allow("FollowLines", ["states:DescribeExecution", "states:StopExecution"], own, of_lines),
                        allow("RedriveLines", ["states:RedriveExecution"], of_lines),
                        allow(
                            "ReadLinesAndWriteResults",
                            [
                                "s3:GetObject",
                                "s3:PutObject",
                                "s3:ListMultipartUploadParts",
                                "s3:AbortMultipartUpload",
                            ],
                            results,
                        ),
                        use_key(frame_store, "s3"),
                        # AWS Step Functions developer guide, "Data at rest encryption in Step Functions".
                        use_key_for(
                            frame_store,
                            "EncryptExecutions",
                            ["kms:GenerateDataKey", "kms:Decrypt"],
                            {"aws:states:stateMachineArn": [machine, f"{machine}/{MAP_LABEL}"]},
                        ),
                        use_key_for(
                            frame_store,
                            "EncryptLogDelivery",
                            ["kms:GenerateDataKey"],
                            {"SourceArn": _log_delivery(stack)},
                        ),
                        # AWS Step Functions developer guide, "Using CloudWatch Logs to log execution history".
                        allow(
                            "WriteLogs",
                            [
                                "logs:CreateLogDelivery",
                                "logs:GetLogDelivery",
                                "logs:UpdateLogDelivery",
                                "logs:DeleteLogDelivery",
                                "logs:ListLogDeliveries",
                                "logs:PutResourcePolicy",
                                "logs:DescribeResourcePolicies",
                                "logs:DescribeLogGroups",
                            ],
                            "*",
                        ),
                        allow(
                            "WriteTraces",
                            [
                                "xray:PutTraceSegments",
                                "xray:PutTelemetryRecords",
                                "xray:GetSamplingRules",
                                "xray:GetSamplingTargets",
                            ],
                            "*",
                        ),
                    ]
                )
            },
        )
        acknowledge_prefixes(role, frame_store, EXPORT_PREFIX)
        acknowledge(
            role,
            "Neither X-Ray nor the delivery of logs has resource-level permissions.",
            "AwsSolutions-IAM5[Resource::*]",
        )
        acknowledge_inline_policy(role)
        acknowledge(
            role,
            "The executions of this state machine and its child workflows: Step Functions names them.",
            *(
                "AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:states:<AWS::Region>:<AWS::AccountId>:"
                f"execution:{each}:*]"
                for each in (name, f"{name}/{MAP_LABEL}")
            ),
        )
        return role

    def _start_on_manifests(self, config: Config, frame_store: FrameStore, dead_letters: sqs.Queue) -> None:
        starter = iam.Role(
            self,
            "StarterRole",
            description="Lets EventBridge start the state machine for request manifests",
            assumed_by=iam.ServicePrincipal(
                "events.amazonaws.com", conditions={"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}}
            ),
            inline_policies={
                "Allow": iam.PolicyDocument(
                    statements=[allow("Start", ["states:StartExecution"], self.state_machine.state_machine_arn)]
                )
            },
        )
        acknowledge_inline_policy(starter)
        events.Rule(
            self,
            "OnRequestManifest",
            description=f"Request manifests put into the bucket of {config.stack_name}",
            event_pattern=events.EventPattern(
                source=["aws.s3"],
                detail_type=["Object Created"],
                detail={
                    "bucket": {"name": [frame_store.bucket.bucket_name]},
                    # The S3 console makes a "folder" as an empty object whose key ends in a slash. A pattern cannot
                    # ask for one beginning of a key and exclude an end, so it leaves out what is empty.
                    "$or": [
                        {"object": {"key": [{"prefix": REQUEST_PREFIX}], "size": [{"numeric": [">", 0]}]}},
                        # An empty manifest gets its answer too.
                        {"object": {"key": [{"wildcard": f"{REQUEST_PREFIX}*.jsonl"}]}},
                    ],
                },
            ),
            targets=[
                targets.SfnStateMachine(
                    self.state_machine,
                    role=starter.without_policy_updates(),
                    dead_letter_queue=dead_letters,
                    max_event_age=Duration.hours(24),
                    retry_attempts=185,
                )
            ],
        )


def _log_delivery(stack: Stack) -> str:
    """What log delivery encrypts for: the asterisk is a part of the text."""
    return stack.format_arn(service="logs", resource="*", arn_format=ArnFormat.NO_RESOURCE_NAME)


def _definition(function_arn: str, concurrency: int) -> dict[str, Any]:
    """Return the state machine in the Amazon States Language."""
    return {
        "Comment": "Works a request manifest off: checks its lines, exports what they ask for, and sums up.",
        "StartAt": "Validate",
        "States": {
            "Validate": _task(
                function_arn,
                {
                    "task": ValidateTask.TASK,
                    "key.$": "$.detail.object.key",
                    "execution.$": "$$.Execution.Name",
                },
                Next="AnythingToExport",
            ),
            "AnythingToExport": {
                "Type": "Choice",
                "Choices": [{"Variable": "$.accepted.count", "NumericGreaterThan": 0, "Next": "ExportImageSets"}],
                "Default": "Summarize",
            },
            "ExportImageSets": {
                "Type": "Map",
                "Label": MAP_LABEL,
                "ItemReader": {
                    "Resource": "arn:aws:states:::s3:getObject",
                    "ReaderConfig": {"InputType": "JSONL"},
                    "Parameters": {"Bucket.$": "$.accepted.bucket", "Key.$": "$.accepted.key"},
                },
                "ItemSelector": {
                    "task": ExportTask.TASK,
                    "execution.$": "$$.Execution.Name",
                    "request.$": "$$.Map.Item.Value",
                    "progress": "",
                    "final": False,
                },
                "MaxConcurrency": concurrency,
                "ToleratedFailurePercentage": TOLERATED_FAILURES,
                "ItemProcessor": {
                    "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
                    **_export_of_a_line(function_arn),
                },
                "ResultWriter": {
                    "Resource": "arn:aws:states:::s3:putObject",
                    "Parameters": {
                        "Bucket.$": "$.accepted.bucket",
                        "Prefix.$": f"States.Format('{map_results_prefix('{}')}', $.prefix)",
                    },
                    "WriterConfig": {"Transformation": "NONE", "OutputType": "JSONL"},
                },
                "ResultPath": "$.results",
                "Next": "Summarize",
            },
            "Summarize": _task(function_arn, {"task": SummarizeTask.TASK, "input.$": "$"}, End=True),
        },
    }


def _export_of_a_line(function_arn: str) -> dict[str, Any]:
    """Return the child workflow: what a task answers is the next task, until it is done.

    When retries are used up, a last attempt makes the best of it and says what is missing, so that one image set does
    not hold up the rest of the manifest.
    """
    return {
        "StartAt": "Export",
        "States": {
            "Export": _task(
                function_arn,
                "$",
                Catch=[{"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": "ExportFinally"}],
                Next="Done",
            ),
            "Done": _done_or("Export"),
            "ExportFinally": _task(
                function_arn,
                {
                    "task": ExportTask.TASK,
                    "execution.$": "$.execution",
                    "request.$": "$.request",
                    "progress.$": "$.progress",
                    "final": True,
                },
                Next="FinallyDone",
            ),
            "FinallyDone": _done_or("ExportFinally"),
            "Result": {"Type": "Pass", "InputPath": "$.result", "End": True},
        },
    }


def _done_or(again: str) -> dict[str, Any]:
    return {
        "Type": "Choice",
        "Choices": [{"Variable": "$.done", "BooleanEquals": True, "Next": "Result"}],
        "Default": again,
    }


def _task(function_arn: str, payload: dict[str, Any] | str, **state: Any) -> dict[str, Any]:
    payload_member = {"Payload.$": payload} if isinstance(payload, str) else {"Payload": payload}
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Parameters": {"FunctionName": function_arn, **payload_member},
        "OutputPath": "$.Payload",
        "Retry": [_HOPELESS, _BUSY, _FAILED],
        **state,
    }
