"""The function behind the REST API, with the role that lets it do its work and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from aws_cdk import Aws, Duration, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.acknowledge import acknowledge
from infra.bundling import lambda_code
from infra.frame_store import FRAME_PREFIX, FrameStore
from infra.retention import log_group

if TYPE_CHECKING:
    from infra.config import Config

_ARCHITECTURES = {"arm64": lambda_.Architecture.ARM_64, "x86_64": lambda_.Architecture.X86_64}


class ApiFunction(Construct):
    """Answers every request of the REST API.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        Its name there.
    config : Config
        Decides the function's size and settings, and the data stores that it may read.
    frame_store : FrameStore
        Where it stores frames and what it signs URLs for.

    Attributes
    ----------
    role : iam.Role
        What it runs as.
    alias : lambda_.Alias
        ``live``, the version to call. Only published versions start from a snapshot.
    """

    def __init__(self, scope: Construct, construct_id: str, *, config: Config, frame_store: FrameStore) -> None:
        super().__init__(scope, construct_id)
        group = log_group(self, "Logs", config)
        self.role = self._role(config, frame_store, group)
        function = lambda_.Function(
            self,
            "Function",
            description="Answers the requests of Framegate's REST API",
            runtime=lambda_.Runtime.PYTHON_3_13,
            architecture=_ARCHITECTURES[config.architecture],
            code=lambda_code(config.architecture),
            handler="framegate.handlers.api.lambda_handler",
            memory_size=config.memory_mb,
            timeout=Duration.seconds(config.timeout_seconds),
            # The role has all that tracing needs; left to itself, CDK would attach a second policy for it.
            role=self.role.without_policy_updates(),
            tracing=lambda_.Tracing.ACTIVE,
            snap_start=lambda_.SnapStartConf.ON_PUBLISHED_VERSIONS,
            # Text, not Lambda's JSON format: that would filter and rewrite the JSON lines that the code writes itself.
            log_group=group,
            environment={
                "FRAMEGATE_DATASTORE_IDS": ",".join(config.datastore_ids),
                "FRAMEGATE_FRAME_BUCKET": frame_store.bucket.bucket_name,
                "FRAMEGATE_PRESIGNED_URL_LIFETIME_SECONDS": str(config.presigned_url_lifetime_seconds),
                "FRAMEGATE_CORS_ORIGINS": ",".join(config.cors_origins),
                "POWERTOOLS_LOG_LEVEL": config.log_level,
            },
        )
        acknowledge(
            function,
            "3.13 is a runtime with full support. The hash-pinned dependencies are bundled for it; both move together.",
            "AwsSolutions-L1",
        )
        # CDK makes the function wait for the role that it names anyway.
        cast("lambda_.CfnFunction", function.node.default_child).add_metadata(
            "cfn-lint", {"config": {"ignore_checks": ["W3005"]}}
        )
        acknowledge(
            function,
            "The alias `live` points to a published version, and only the alias is called.",
            "@aws-cdk/aws-lambda:snapStartRequirePublish",
        )
        self.alias = lambda_.Alias(self, "Live", alias_name="live", version=function.current_version)

    def _role(self, config: Config, frame_store: FrameStore, group: logs.LogGroup) -> iam.Role:
        stack = Stack.of(self)
        frames = frame_store.bucket.arn_for_objects(f"{FRAME_PREFIX}*")
        image_sets = [
            stack.format_arn(service="medical-imaging", resource="datastore", resource_name=f"{each}/imageset/*")
            for each in config.datastore_ids
        ]
        statements = [
            _allow("ReadFrames", ["medical-imaging:GetImageFrame"], image_sets),
            _allow("StoreFrames", ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"], [frames]),
            # Without it, S3 answers 403 instead of 404 when asked for a frame that is not stored yet.
            _allow("TellMissingFromForbidden", ["s3:ListBucket"], [frame_store.bucket.bucket_arn]),
            iam.PolicyStatement(
                sid="EncryptFrames",
                actions=["kms:GenerateDataKey", "kms:Decrypt"],
                resources=[frame_store.key.key_arn],
                conditions={"StringEquals": {"kms:ViaService": f"s3.{Aws.REGION}.{Aws.URL_SUFFIX}"}},
            ),
            _allow("WriteLogs", ["logs:CreateLogStream", "logs:PutLogEvents"], [group.log_group_arn]),
            # X-Ray knows no resources for these.
            _allow("WriteTraces", ["xray:PutTraceSegments", "xray:PutTelemetryRecords"], ["*"]),
        ]
        role = iam.Role(
            self,
            "Role",
            description="What the function behind the REST API may do",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
            inline_policies={"ServeFrames": iam.PolicyDocument(statements=statements)},
        )
        acknowledge(
            role,
            "The image sets of a data store on the deployment's list: they come and go, the list decides.",
            *(
                "AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:medical-imaging:<AWS::Region>:<AWS::AccountId>:"
                f"datastore/{datastore_id}/imageset/*]"
                for datastore_id in config.datastore_ids
            ),
        )
        bucket_id = stack.get_logical_id(cast("s3.CfnBucket", frame_store.bucket.node.default_child))
        acknowledge(
            role,
            "The one prefix that holds frames; their keys are identifiers of HealthImaging, unknown at deployment.",
            f"AwsSolutions-IAM5[Resource::<{bucket_id}.Arn>/{FRAME_PREFIX}*]",
        )
        acknowledge(role, "X-Ray has no resource-level permissions.", "AwsSolutions-IAM5[Resource::*]")
        return role


def _allow(sid: str, actions: list[str], resources: list[str]) -> iam.PolicyStatement:
    return iam.PolicyStatement(sid=sid, actions=actions, resources=resources)
