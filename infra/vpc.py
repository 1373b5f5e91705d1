"""Functions in subnets of the deployer: their network interfaces, and the VPC endpoints that they call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_

from infra.permissions import allow

if TYPE_CHECKING:
    from infra.config import Config


@dataclass(frozen=True)
class VpcEndpoint:
    """A VPC endpoint that functions in private subnets need.

    Parameters
    ----------
    service : str
        The service's prefix in IAM actions, which is also its name in botocore.
    name : str
        The last part of the endpoint's service name, after ``com.amazonaws.<region>.``.
    kind : {"gateway", "interface"}
        The endpoint's type.
    handlers : tuple of str
        Handler modules of the functions that call the service.
    purpose : str
        What the functions call it for.
    """

    service: str
    name: str
    kind: Literal["gateway", "interface"]
    handlers: tuple[str, ...]
    purpose: str


# AWS PrivateLink guide, "AWS services that integrate with AWS PrivateLink"; AWS HealthImaging developer guide,
# "AWS HealthImaging and interface VPC endpoints".
VPC_ENDPOINTS = (
    VpcEndpoint(
        "medical-imaging",
        "runtime-medical-imaging",
        "interface",
        ("api", "rendering", "export", "export_requests", "tables"),
        "frames and metadata of image sets; turn its private DNS on",
    ),
    VpcEndpoint("s3", "s3", "gateway", ("api", "rendering", "export", "export_requests", "tables"), "the frame bucket"),
    VpcEndpoint("sqs", "sqs", "interface", ("api", "export", "tables"), "deferred stores, and exports that continue"),
    VpcEndpoint("events", "events", "interface", ("export", "export_requests"), "results of exports"),
    VpcEndpoint("lambda", "lambda", "interface", ("api", "rendering"), "decisions, with `authorization_function_arn`"),
)
"""The endpoints of the services that the functions' code calls."""

SERVICES_WITHOUT_ENDPOINT = frozenset({"logs", "xray", "kms", "ec2"})
"""Services in the functions' permissions that their code does not call.

Lambda itself delivers logs and traces and manages network interfaces, and S3 and SQS call KMS.
"""

_HANDLERS = {
    "api": "API function",
    "rendering": "render function",
    "export": "export function",
    "export_requests": "request function",
    "tables": "table function",
}


def endpoints_table() -> str:
    """Return the table of VPC endpoints for the documentation, in Markdown."""
    rows = [
        f"| `com.amazonaws.<region>.{each.name}` | {each.kind} | "
        f"{', '.join(_HANDLERS[handler] for handler in each.handlers)} | {each.purpose} |"
        for each in VPC_ENDPOINTS
    ]
    return "\n".join(["| service name | type | called by | for |", "| --- | --- | --- | --- |", *rows])


def vpc_config(config: Config) -> lambda_.CfnFunction.VpcConfigProperty | None:
    """Return the subnets and security groups of the functions, if they are in a VPC."""
    if not config.vpc_subnet_ids:
        return None
    return lambda_.CfnFunction.VpcConfigProperty(
        subnet_ids=list(config.vpc_subnet_ids), security_group_ids=list(config.vpc_security_group_ids)
    )


def network_interface_statements(config: Config) -> list[iam.PolicyStatement]:
    """Return the statements that let Lambda manage a function's network interfaces, but not the function's code.

    References
    ----------
    AWS Lambda developer guide, "Giving Lambda functions access to resources in an Amazon VPC": the actions of
    AWSLambdaVPCAccessExecutionRole, and "Using source function ARN to control function access behavior" for the
    condition key, which only calls of the function's code have.
    """
    if not config.vpc_subnet_ids:
        return []
    actions = [
        "ec2:CreateNetworkInterface",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSubnets",
        "ec2:DeleteNetworkInterface",
        "ec2:AssignPrivateIpAddresses",
        "ec2:UnassignPrivateIpAddresses",
    ]
    return [
        allow("ManageNetworkInterfaces", actions, "*"),
        iam.PolicyStatement(
            sid="KeepNetworkInterfacesFromCode",
            effect=iam.Effect.DENY,
            actions=actions,
            resources=["*"],
            conditions={"Null": {"lambda:SourceFunctionArn": "false"}},
        ),
    ]
