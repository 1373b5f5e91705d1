"""The state machine that processes request manifests, and the rule that starts it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from aws_cdk import ArnFormat, Duration, Stack
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from framegate.bucket_layout import REQUEST_PREFIX, RESULT_PREFIX, map_results_prefix
from framegate.messages import ExportTask, SummarizeTask, ValidateTask
from framegate.problems import InvalidRequestManifest
from infra.acknowledge import acknowledge
from infra.permissions import (
    acknowledge_prefixes,
    allow,
    service_role,
    use_key,
    use_key_for,
)
from infra.retention import VENDED_LOGS, log_group, unique_name

if TYPE_CHECKING:
    from aws_cdk import aws_lambda as lambda_

    from infra.config import Config
    from infra.frame_store import FrameStore

TOLERATED_FAILURE_PERCENT = 5
"""Share of lines whose child workflow may fail before the execution fails. A redrive resumes a failed execution."""

MAP_LABEL = "ExportImageSets"
"""Label of the map state, which is part of the name of each child workflow."""

# Another manifest may occupy the function's workers for hours, so a task waits for them.
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
    """Exports what request manifests in the bucket ask for.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        The construct's id in `scope`.
    config : Config
        Gives the number of lines that are exported concurrently.
    frame_store : FrameStore
        The bucket of request manifests and results.
    function : lambda_.Function
        The function that runs the tasks.
    dead_letters : sqs.Queue
        The dead-letter queue of events that could not start the state machine.

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
        # The name is fixed so that the role's policy can contain it.
        name = f"{config.stack_name[:60]}-ExportRequests"
        group = log_group(self, "Logs", config, frame_store.key, unique_name(f"{VENDED_LOGS}{name}"))
        role = self._role(name, frame_store, function)
        definition = _definition(function.function_arn, config.export_concurrency)
        self.state_machine = sfn.StateMachine(
            self,
            "StateMachine",
            state_machine_name=name,
            comment="Exports the image sets that a request manifest lists",
            definition_body=sfn.DefinitionBody.from_string(stack.to_json_string(definition)),
            role=role.without_policy_updates(),
            tracing_enabled=True,
            # Execution data would contain the names of manifests, which users choose freely.
            logs=sfn.LogOptions(destination=group, level=sfn.LogLevel.ALL, include_execution_data=False),
        )
        cfn_machine = cast("sfn.CfnStateMachine", self.state_machine.node.default_child)
        # The CDK adds a dependency on the role, which the state machine references anyway.
        cfn_machine.add_metadata("cfn-lint", {"config": {"ignore_checks": ["W3005"]}})
        self._encrypt(cfn_machine, frame_store)
        self._start_on_manifests(config, frame_store, dead_letters)

    def _encrypt(self, machine: sfn.CfnStateMachine, frame_store: FrameStore) -> None:
        # This sets a property. The argument of `sfn.StateMachine` would also allow log delivery to use the key without
        # a condition.
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
        results = frame_store.bucket.arn_for_objects(f"{RESULT_PREFIX}*")
        role = service_role(
            self,
            "Role",
            service="states.amazonaws.com",
            description="Role of the state machine for request manifests",
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
            ],
        )
        acknowledge_prefixes(role, frame_store, RESULT_PREFIX)
        acknowledge(
            role,
            "Neither X-Ray nor log delivery has resource-level permissions.",
            "AwsSolutions-IAM5[Resource::*]",
        )

        acknowledge(
            role,
            "Step Functions chooses the names of the executions of this state machine and its child workflows.",
            *(
                "AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:states:<AWS::Region>:<AWS::AccountId>:"
                f"execution:{each}:*]"
                for each in (name, f"{name}/{MAP_LABEL}")
            ),
        )
        return role

    def _start_on_manifests(self, config: Config, frame_store: FrameStore, dead_letters: sqs.Queue) -> None:
        starter = service_role(
            self,
            "StarterRole",
            service="events.amazonaws.com",
            description="Lets EventBridge start the state machine for request manifests",
            statements=[allow("Start", ["states:StartExecution"], self.state_machine.state_machine_arn)],
            same_account=True,
        )
        events.Rule(
            self,
            "OnRequestManifest",
            description=f"Request manifests in the bucket of {config.stack_name}",
            event_pattern=events.EventPattern(
                source=["aws.s3"],
                detail_type=["Object Created"],
                detail={
                    "bucket": {"name": [frame_store.bucket.bucket_name]},
                    # The S3 console creates a "folder" as an empty object whose key ends in a slash. A pattern cannot
                    # combine a prefix with an excluded suffix, so it excludes empty objects.
                    "$or": [
                        {"object": {"key": [{"prefix": REQUEST_PREFIX}], "size": [{"numeric": [">", 0]}]}},
                        # An empty manifest still starts an execution, which reports it as invalid.
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
    """Return the encryption context of log delivery. Its asterisk is literal."""
    return stack.format_arn(service="logs", resource="*", arn_format=ArnFormat.NO_RESOURCE_NAME)


def _definition(function_arn: str, concurrency: int) -> dict[str, Any]:
    """Return the definition of the state machine in the Amazon States Language."""
    return {
        "Comment": "Validates a request manifest, exports the image sets of its lines, and writes a summary.",
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
                "ToleratedFailurePercentage": TOLERATED_FAILURE_PERCENT,
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
    """Return the child workflow. The result of a task is the input of the next one, until the line is done.

    When the retries are used up, a final attempt exports what it can and reports the rest as missing, so that one image
    set does not stop the rest of the manifest.
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


def _done_or(repeated_state: str) -> dict[str, Any]:
    return {
        "Type": "Choice",
        "Choices": [{"Variable": "$.done", "BooleanEquals": True, "Next": "Result"}],
        "Default": repeated_state,
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
