"""The endpoint of the REST API: public, or private to VPC endpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam

if TYPE_CHECKING:
    from constructs import Construct

    from infra.config import Config


def endpoint_configuration(scope: Construct, config: Config) -> apigateway.EndpointConfiguration:
    """Return the endpoint type, with the VPC endpoints of a private API."""
    if not config.vpc_endpoint_ids:
        return apigateway.EndpointConfiguration(
            types=[apigateway.EndpointType.REGIONAL], ip_address_type=apigateway.IpAddressType.DUAL_STACK
        )
    return apigateway.EndpointConfiguration(
        types=[apigateway.EndpointType.PRIVATE],
        vpc_endpoints=[
            ec2.InterfaceVpcEndpoint.from_interface_vpc_endpoint_attributes(
                scope, f"Endpoint-{endpoint_id}", vpc_endpoint_id=endpoint_id, port=443
            )
            for endpoint_id in config.vpc_endpoint_ids
        ],
    )


def resource_policy(config: Config, stage: str) -> iam.PolicyDocument | None:
    """Return the resource policy of a private API, which denies requests outside its VPC endpoints.

    Parameters
    ----------
    config : Config
        Gives the VPC endpoints and the authorization.
    stage : str
        Name of the stage. The policy allows nothing on any other stage, such as the console's test invocations.

    Notes
    -----
    API Gateway developer guide, "How API Gateway resource policies affect authorization workflow": with IAM or a Lambda
    authorizer, an allow statement here would replace the one in the caller's IAM policy or in the authorizer's answer.
    So the policy allows only what API Gateway requires: preflights, which are not authorized, and with Cognito every
    request, because there the policy and the authorizer must both allow it.
    """
    if not config.vpc_endpoint_ids:
        return None
    allowed = f"execute-api:/{stage}/*" if config.auth == "cognito" else f"execute-api:/{stage}/OPTIONS/*"
    return iam.PolicyDocument(
        statements=[
            iam.PolicyStatement(
                sid="ThroughTheEndpointsOnly",
                effect=iam.Effect.DENY,
                principals=[iam.AnyPrincipal()],
                actions=["execute-api:Invoke"],
                resources=["execute-api:/*"],
                conditions={"StringNotEquals": {"aws:SourceVpce": list(config.vpc_endpoint_ids)}},
            ),
            iam.PolicyStatement(
                sid="WhatNeedsAnAllowanceHere",
                principals=[iam.AnyPrincipal()],
                actions=["execute-api:Invoke"],
                resources=[allowed],
            ),
        ]
    )
