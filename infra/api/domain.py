"""The custom domain name of the REST API."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_certificatemanager as acm
from aws_cdk import aws_route53 as route53
from constructs import Construct

from infra.api.tls import endpoint_access_mode, security_policy

if TYPE_CHECKING:
    from infra.config import Config

_ALIASES = {"Alias": "A", "AliasIpv6": "AAAA"}


class Domain(Construct):
    """Maps the configured domain name to the API's stage, over IPv4 and IPv6.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        The construct's id in `scope`.
    config : Config
        Gives the domain name, its certificate and, optionally, the hosted zone.
    api : apigateway.RestApi
        The API that the name maps to.
    """

    def __init__(self, scope: Construct, construct_id: str, *, config: Config, api: apigateway.RestApi) -> None:
        super().__init__(scope, construct_id)
        name = apigateway.DomainName(
            self,
            "Name",
            domain_name=str(config.domain_name),
            certificate=acm.Certificate.from_certificate_arn(self, "Certificate", str(config.domain_certificate_arn)),
            endpoint_type=apigateway.EndpointType.REGIONAL,
            mapping=api,
        )
        # The CDK's construct knows only some security policies, and no address type.
        cfn_name = cast("apigateway.CfnDomainName", name.node.default_child)
        cfn_name.security_policy = security_policy(config)
        cfn_name.endpoint_access_mode = endpoint_access_mode(config)
        cfn_name.add_property_override("EndpointConfiguration.IpAddressType", "dualstack")
        if config.domain_hosted_zone_id is not None:
            for construct_id, record_type in _ALIASES.items():
                # The CDK's ARecord and AaaaRecord also require the name of the zone.
                route53.CfnRecordSet(
                    self,
                    construct_id,
                    name=f"{config.domain_name}.",
                    type=record_type,
                    hosted_zone_id=config.domain_hosted_zone_id,
                    alias_target=route53.CfnRecordSet.AliasTargetProperty(
                        dns_name=name.domain_name_alias_domain_name,
                        hosted_zone_id=name.domain_name_alias_hosted_zone_id,
                    ),
                )
