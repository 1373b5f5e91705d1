"""Where the REST API is reached: from everywhere, or through VPC endpoints alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam

if TYPE_CHECKING:
    from constructs import Construct

    from infra.config import Config


def endpoint_configuration(scope: Construct, config: Config) -> apigateway.EndpointConfiguration:
    """Return the kind of endpoint, with the VPC endpoints that lead to a private one."""
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


def resource_policy(config: Config) -> iam.PolicyDocument | None:
    """Return the policy of a private API: nobody comes in but through its VPC endpoints.

    Notes
    -----
    API Gateway developer guide, "How API Gateway resource policies affect authorization workflow": an allowance here
    would do instead of one in a caller's IAM policy, or in the authorizer's. So there is none, except where API Gateway
    asks for one: for a preflight, which nobody authorizes, and with Cognito, whose authorizer has to agree as well.
    """
    if not config.vpc_endpoint_ids:
        return None
    allowed = "execute-api:/*" if config.auth == "cognito" else "execute-api:/*/OPTIONS/*"
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
