"""A domain name of one's own for the REST API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_certificatemanager as acm
from aws_cdk import aws_route53 as route53
from constructs import Construct

if TYPE_CHECKING:
    from infra.config import Config


class Domain(Construct):
    """Leads the configured domain name to the API's stage.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        Its name there.
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
            security_policy=apigateway.SecurityPolicy.TLS_1_2,
            mapping=api,
        )
        if config.domain_hosted_zone_id is not None:
            # Not CDK's ARecord, which wants to know the zone's name, too.
            route53.CfnRecordSet(
                self,
                "Alias",
                name=f"{config.domain_name}.",
                type="A",
                hosted_zone_id=config.domain_hosted_zone_id,
                alias_target=route53.CfnRecordSet.AliasTargetProperty(
                    dns_name=name.domain_name_alias_domain_name,
                    hosted_zone_id=name.domain_name_alias_hosted_zone_id,
                ),
            )
