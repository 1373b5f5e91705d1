"""A domain name of one's own for the REST API."""

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
    """Leads the configured domain name to the API's stage, over IPv4 and IPv6.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        The construct's id in `scope`.
    config : Config
        Names the domain, its certificate and, it may be, the hosted zone.
    api : apigateway.RestApi
        Where the name leads.
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
        # CDK's own construct lists some of the policies only, and has no address type.
        cfn_name = cast("apigateway.CfnDomainName", name.node.default_child)
        cfn_name.security_policy = security_policy(config)
        cfn_name.endpoint_access_mode = endpoint_access_mode(config)
        cfn_name.add_property_override("EndpointConfiguration.IpAddressType", "dualstack")
        if config.domain_hosted_zone_id is not None:
            for construct_id, record_type in _ALIASES.items():
                # CDK's ARecord and AaaaRecord need the zone's name as well.
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
