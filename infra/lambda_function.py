"""What all functions of the stack have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from aws_cdk import Duration
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from framegate.settings import LoggingSettings
from infra.acknowledge import acknowledge
from infra.bundling import lambda_code
from infra.permissions import (
    acknowledge_inline_policy,
    acknowledge_traces,
    write_logs,
    write_traces,
)
from infra.retention import log_group

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aws_cdk import aws_kms as kms

    from framegate.settings import AuthorizerSettings, ExportQueueSettings, ExportSettings, Settings
    from infra.config import Config

    FunctionSettings = AuthorizerSettings | ExportQueueSettings | ExportSettings | Settings

ARCHITECTURES = {"arm64": lambda_.Architecture.ARM_64, "x86_64": lambda_.Architecture.X86_64}


class LambdaFunction(Construct):
    """A function of the one bundle, with a role and a log group of its own.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        Its name there.
    config : Config
        What a user decides about it.
    key : kms.IKey
        Encrypts its log, its settings and its snapshots.
    handler : str
        The module of :mod:`framegate.entrypoints` that has its ``lambda_handler``.
    description : str
        What it does, for the console.
    memory_mb, timeout_seconds : int
        Its size, and how long an invocation may take.
    settings : sequence
        Its settings objects, from `framegate.settings`.
    statements : sequence of iam.PolicyStatement
        What its role may do, beside logging and tracing.
    snap_start : lambda_.SnapStartConf, optional
        Whether its versions start from a snapshot.
    reserved_concurrency : int, optional
        How many of it can run at the same time, and are kept for it.
    recursive_loop : lambda_.RecursiveLoop, optional
        Whether Lambda stops it when it seems to be its own cause.
    layers : sequence of lambda_.ILayerVersion
        What it imports beside the bundle.

    Attributes
    ----------
    role : iam.Role
        What it runs as.
    function : lambda_.Function
        The function.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: Config,
        key: kms.IKey,
        handler: str,
        description: str,
        memory_mb: int,
        timeout_seconds: int,
        settings: Sequence[FunctionSettings],
        statements: Sequence[iam.PolicyStatement],
        snap_start: lambda_.SnapStartConf | None = None,
        reserved_concurrency: int | None = None,
        recursive_loop: lambda_.RecursiveLoop | None = None,
        layers: Sequence[lambda_.ILayerVersion] = (),
    ) -> None:
        super().__init__(scope, construct_id)
        group = log_group(self, "Logs", config, key)
        self.role = iam.Role(
            self,
            "Role",
            description=f"What the function may do that {description[0].lower()}{description[1:]}",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
            inline_policies={
                "Allow": iam.PolicyDocument(statements=[*statements, write_logs(group), write_traces()]),
            },
        )
        acknowledge_traces(self.role)
        acknowledge_inline_policy(self.role)
        self.function = lambda_.Function(
            self,
            "Function",
            description=description,
            runtime=lambda_.Runtime.PYTHON_3_13,
            architecture=ARCHITECTURES[config.architecture],
            code=lambda_code(config.architecture),
            handler=f"framegate.entrypoints.{handler}.lambda_handler",
            memory_size=memory_mb,
            timeout=Duration.seconds(timeout_seconds),
            # The role has all that tracing needs; left to itself, CDK would attach a second policy for it.
            role=self.role.without_policy_updates(),
            tracing=lambda_.Tracing.ACTIVE,
            snap_start=snap_start,
            reserved_concurrent_executions=reserved_concurrency,
            recursive_loop=recursive_loop,
            layers=list(layers),
            # Text, not Lambda's JSON format: that would filter and rewrite the JSON lines that the code writes itself.
            log_group=group,
            environment_encryption=key,
            environment={
                # All deployments of an account share a namespace of metrics, so each needs a name.
                **LoggingSettings(service=config.stack_name, level=config.log_level).to_environment(),
                **({"AWS_USE_FIPS_ENDPOINT": "true"} if config.fips_endpoints else {}),
                **{name: value for each in settings for name, value in each.to_environment().items()},
            },
        )
        acknowledge(
            self.function,
            "3.13 is a runtime with full support. The hash-pinned dependencies are bundled for it; both move together.",
            "AwsSolutions-L1",
        )
        acknowledge(
            self.function,
            "Lambda keeps a dead letter of an asynchronous invocation alone, and there is none: the API and the state "
            "machine wait for the answer, and the queue has its own dead letters.",
            "HIPAA.Security-LambdaDLQ",
        )
        acknowledge(
            self.function,
            "It calls public endpoints of AWS and nothing else, signed and over TLS; nothing can connect to it. There "
            "is no private resource that a network would lead to.",
            "HIPAA.Security-LambdaInsideVPC",
        )
        # CDK makes the function wait for the role that it names anyway.
        cast("lambda_.CfnFunction", self.function.node.default_child).add_metadata(
            "cfn-lint", {"config": {"ignore_checks": ["W3005"]}}
        )

    def published(self) -> lambda_.Alias:
        """Publish the function, and return the alias ``live`` of its newest version; only versions have snapshots."""
        acknowledge(
            self.function,
            "The alias `live` points to a published version, and only the alias is called.",
            "@aws-cdk/aws-lambda:snapStartRequirePublish",
        )
        return lambda_.Alias(self, "Live", alias_name="live", version=self.function.current_version)
