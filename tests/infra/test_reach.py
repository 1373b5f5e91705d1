"""The endpoint of the API: public, at a domain name, or private to VPC endpoints."""

from __future__ import annotations

import pytest

from tests.infra.cloudformation import listed, only, properties, text
from tests.infra.project import AUTH, CERTIFICATE, ENDPOINTS, REACH

PRIVATE = REACH["private"]


def api(template):
    return only(properties(template, "AWS::ApiGateway::RestApi"))


def url(template):
    return text(template.to_json()["Outputs"]["ApiUrl"]["Value"])


# Public


def test_public_api_has_no_policy_and_the_default_endpoint(template):
    assert "Policy" not in api(template)
    assert "DisableExecuteApiEndpoint" not in api(template)
    template.resource_count_is("AWS::ApiGateway::DomainName", 0)
    template.resource_count_is("AWS::Route53::RecordSet", 0)


# At a domain name
def test_domain_name_maps_to_the_stage_over_ipv4_and_ipv6(synthesize):
    template = synthesize(**REACH["at a domain"])
    domain = only(properties(template, "AWS::ApiGateway::DomainName"))
    mapping = only(properties(template, "AWS::ApiGateway::BasePathMapping"))
    (stage,) = properties(template, "AWS::ApiGateway::Stage")

    assert domain["DomainName"] == "frames.example.org"
    assert domain["RegionalCertificateArn"] == CERTIFICATE
    assert domain["EndpointConfiguration"] == {"Types": ["REGIONAL"], "IpAddressType": "dualstack"}
    assert text(mapping["Stage"]) == f"${{{stage}}}"
    assert "BasePath" not in mapping


def test_api_with_a_domain_name_has_no_default_endpoint(synthesize):
    template = synthesize(**REACH["at a domain"])

    assert api(template)["DisableExecuteApiEndpoint"] is True
    assert url(template) == "https://frames.example.org"


def test_hosted_zone_gets_alias_records(synthesize):
    template = synthesize(**REACH["at a domain in Route 53"])
    records = properties(template, "AWS::Route53::RecordSet").values()
    (domain,) = properties(template, "AWS::ApiGateway::DomainName")

    assert {record["Type"] for record in records} == {"A", "AAAA"}
    for record in records:
        assert record["Name"] == "frames.example.org."
        assert record["HostedZoneId"] == "Z0123456789ABCDEFGHIJ"
        assert text(record["AliasTarget"]["DNSName"]) == f"${{{domain}.RegionalDomainName}}"
        assert text(record["AliasTarget"]["HostedZoneId"]) == f"${{{domain}.RegionalHostedZoneId}}"
    synthesize(**REACH["at a domain"]).resource_count_is("AWS::Route53::RecordSet", 0)


# Private


def test_private_api_url_uses_the_first_vpc_endpoint(synthesize):
    template = synthesize(**PRIVATE)
    (name,) = properties(template, "AWS::ApiGateway::RestApi")

    assert api(template)["EndpointConfiguration"] == {"Types": ["PRIVATE"], "VpcEndpointIds": ENDPOINTS}
    assert url(template) == (f"https://${{{name}}}-{ENDPOINTS[0]}.execute-api.${{AWS::Region}}.${{AWS::URLSuffix}}/v1")


def test_switch_between_public_and_private_creates_another_api(synthesize):
    """API Gateway cannot change the endpoint type of an API whose access mode is STRICT."""
    public, private = (synthesize(**REACH[reach]).to_json()["Resources"] for reach in ("public", "private"))
    of_the_api = {name for name, each in private.items() if each["Type"].startswith("AWS::ApiGateway::")}

    assert of_the_api
    assert not of_the_api & public.keys()
    assert all(each["Properties"]["Name"] == "Framegate" for each in apis(public) + apis(private))


def apis(resources):
    return [each for each in resources.values() if each["Type"] == "AWS::ApiGateway::RestApi"]


def policy(template):
    return {each["Effect"]: each for each in api(template)["Policy"]["Statement"]}


@pytest.mark.parametrize("auth", AUTH.values(), ids=AUTH)
def test_private_api_denies_requests_outside_its_vpc_endpoints(synthesize, auth):
    refused = policy(synthesize(**auth, **PRIVATE))["Deny"]

    assert refused["Principal"] == {"AWS": "*"}
    assert (refused["Action"], refused["Resource"]) == ("execute-api:Invoke", "execute-api:/*")
    assert refused["Condition"] == {"StringNotEquals": {"aws:SourceVpce": ENDPOINTS}}


@pytest.mark.parametrize(
    ("auth", "allowed"),
    [
        # An allow statement here would replace the one of IAM or of the authorizer.
        ("iam", "execute-api:/v1/OPTIONS/*"),
        ("jwt", "execute-api:/v1/OPTIONS/*"),
        # With Cognito, the policy and the authorizer must both allow the request.
        ("cognito", "execute-api:/v1/*"),
        ("cognito with scopes", "execute-api:/v1/*"),
    ],
)
def test_private_api_still_requires_authorization(synthesize, auth, allowed):
    found = policy(synthesize(**AUTH[auth], **PRIVATE))["Allow"]

    assert listed(found["Resource"]) == [allowed]
    assert found["Action"] == "execute-api:Invoke"


def test_changed_vpc_endpoints_create_a_new_deployment(synthesize):
    (first,) = properties(synthesize(vpc_endpoint_ids=ENDPOINTS[0]), "AWS::ApiGateway::Deployment")
    (second,) = properties(synthesize(vpc_endpoint_ids=ENDPOINTS[1]), "AWS::ApiGateway::Deployment")

    assert first != second
