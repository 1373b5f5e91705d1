"""The base of all Lambda functions of the stack."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from aws_cdk import Duration
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from framegate.settings import LoggingSettings
from infra.acknowledge import acknowledge
from infra.build.bundling import lambda_code
from infra.permissions import (
    acknowledge_traces,
    service_role,
    write_logs,
    write_traces,
)
from infra.retention import log_group
from infra.vpc import network_interface_statements, vpc_config

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aws_cdk import aws_kms as kms

    from framegate.settings import (
        AuthorizerSettings,
        ExportQueueSettings,
        ExportSettings,
        Settings,
        TableSettings,
    )
    from infra.config import Config

    FunctionSettings = AuthorizerSettings | ExportQueueSettings | ExportSettings | Settings | TableSettings

ARCHITECTURES = {"arm64": lambda_.Architecture.ARM_64, "x86_64": lambda_.Architecture.X86_64}


class LambdaFunction(Construct):
    """A Lambda function with its own role and log group. All functions share one bundle.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        The construct's id in `scope`.
    config : Config
        The configuration of the deployment.
    key : kms.IKey
        Encrypts the log, the environment variables and the snapshots.
    handler : str
        Module of :mod:`framegate.entrypoints` whose ``lambda_handler`` runs.
    description : str
        What the function does; the console shows it.
    memory_mb, timeout_seconds : int
        Memory, and time limit of an invocation.
    settings : sequence
        The function's settings, objects from `framegate.settings`.
    statements : sequence of iam.PolicyStatement
        Permissions of the role, in addition to logging and tracing.
    snap_start : lambda_.SnapStartConf, optional
        Whether versions start from a snapshot.
    reserved_concurrency : int, optional
        The reserved concurrency; without it, the function shares that of the account.
    recursive_loop : lambda_.RecursiveLoop, optional
        Whether Lambda stops the function when it seems to invoke itself.
    layers : sequence of lambda_.ILayerVersion
        Packages in addition to the bundle.
    has_audit_records : bool
        Whether the function writes audit records.
    environment : mapping of str to str, optional
        Further environment variables.

    Attributes
    ----------
    role : iam.Role
        The function's role.
    function : lambda_.Function
        The function.
    log_group : logs.LogGroup
        Its log.
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
        has_audit_records: bool = True,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(scope, construct_id)
        self.log_group = log_group(self, "Logs", config, key, has_audit_records=has_audit_records)
        self.role = service_role(
            self,
            "Role",
            service="lambda.amazonaws.com",
            description=f"Role of the function that {description[0].lower()}{description[1:]}",
            statements=[
                *statements,
                write_logs(self.log_group),
                write_traces(),
                *network_interface_statements(config),
            ],
        )
        if config.vpc_subnet_ids:
            acknowledge(
                self.role,
                "X-Ray has no resource-level permissions. Lambda needs those for network interfaces on all resources "
                "(AWSLambdaVPCAccessExecutionRole); a second statement denies them to the function's code.",
                "AwsSolutions-IAM5[Resource::*]",
            )
        else:
            acknowledge_traces(self.role)
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
            # The role already has the permissions for tracing. Otherwise the CDK would attach a second policy.
            role=self.role.without_policy_updates(),
            tracing=lambda_.Tracing.ACTIVE,
            snap_start=snap_start,
            reserved_concurrent_executions=reserved_concurrency,
            recursive_loop=recursive_loop,
            layers=list(layers),
            # The log format stays text. Lambda's JSON format would filter and rewrite the JSON lines of the code.
            log_group=self.log_group,
            environment_encryption=key,
            environment={
                # The metrics of all deployments in an account share a namespace, so the service tells them apart.
                **LoggingSettings(service=config.stack_name, level=config.log_level).to_environment(),
                **({"AWS_USE_FIPS_ENDPOINT": "true"} if config.fips_endpoints else {}),
                **{name: value for each in settings for name, value in each.to_environment().items()},
                **(environment or {}),
            },
        )
        acknowledge(
            self.function,
            "Python 3.13 is fully supported. The hash-pinned dependencies are bundled for it, so both change together.",
            "AwsSolutions-L1",
        )
        acknowledge(
            self.function,
            "Lambda uses a dead-letter queue only for asynchronous invocations, and there are none: the API and the "
            "state machine wait for the response, and the export queue has its own dead-letter queue.",
            "HIPAA.Security-LambdaDLQ",
        )
        cfn_function = cast("lambda_.CfnFunction", self.function.node.default_child)
        # The CDK's own construct would look up the VPC. The subnets and security groups are all that Lambda needs.
        cfn_function.vpc_config = vpc_config(config)
        if not config.vpc_subnet_ids:
            acknowledge(
                self.function,
                "The function calls only public endpoints of AWS, signed and over TLS, and accepts no connections. "
                "The configuration key `vpc_subnet_ids` puts it into subnets of the deployer.",
                "HIPAA.Security-LambdaInsideVPC",
            )
        # The CDK adds a dependency on the role, which the function references anyway.
        cfn_function.add_metadata("cfn-lint", {"config": {"ignore_checks": ["W3005"]}})

    def published(self) -> lambda_.Alias:
        """Publish a version, and return its alias ``live``. Only published versions start from a snapshot."""
        acknowledge(
            self.function,
            "The alias `live` points to a published version, and callers use only the alias.",
            "@aws-cdk/aws-lambda:snapStartRequirePublish",
        )
        return lambda_.Alias(self, "Live", alias_name="live", version=self.function.current_version)
