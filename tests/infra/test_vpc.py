"""Functions in subnets of the deployer: where they are, their network interfaces, and the endpoints that they need."""

from __future__ import annotations

import re

import pytest

from framegate.access import decision
from framegate.healthimaging.client import API, HOST_PREFIX
from infra.config import Config, ConfigError
from infra.vpc import SERVICES_WITHOUT_ENDPOINT, VPC_ENDPOINTS, endpoints_table
from tests.infra.cloudformation import listed, properties, role, statements
from tests.infra.project import AUTH, DATASTORE_A, DECISION_FUNCTION, PROJECT, VPC


@pytest.fixture(scope="module")
def in_vpc(synthesize):
    """The template with every function in a VPC."""
    return synthesize(**AUTH["jwt"], **VPC, authorization_function_arn=DECISION_FUNCTION)


def functions(template):
    """Return the properties of each function by the name of its handler module."""
    found = properties(template, "AWS::Lambda::Function").values()
    return {each["Handler"].removeprefix("framegate.entrypoints.").partition(".")[0]: each for each in found}


def test_every_function_is_in_the_configured_subnets_and_security_groups(in_vpc):
    found = functions(in_vpc)

    assert len(found) == 5
    for each in found.values():
        assert each["VpcConfig"] == {
            "SubnetIds": VPC["vpc_subnet_ids"].split(","),
            "SecurityGroupIds": [VPC["vpc_security_group_ids"]],
        }


def test_functions_are_in_no_vpc_by_default(template):
    for handler, each in functions(template).items():
        assert "VpcConfig" not in each
        assert not statements(role(template, each["Role"])).keys() & {
            "ManageNetworkInterfaces",
            "KeepNetworkInterfacesFromCode",
        }, handler


def test_functions_with_snapshots_keep_them_in_a_vpc(in_vpc):
    found = functions(in_vpc)

    assert {name for name, each in found.items() if "SnapStart" in each} == {"api", "authorizer"}


def test_lambda_manages_network_interfaces_and_the_code_may_not(in_vpc):
    for each in functions(in_vpc).values():
        found = statements(role(in_vpc, each["Role"]))
        allowed, denied = found["ManageNetworkInterfaces"], found["KeepNetworkInterfacesFromCode"]

        assert sorted(allowed["Action"]) == [
            "ec2:AssignPrivateIpAddresses",
            "ec2:CreateNetworkInterface",
            "ec2:DeleteNetworkInterface",
            "ec2:DescribeNetworkInterfaces",
            "ec2:DescribeSubnets",
            "ec2:UnassignPrivateIpAddresses",
        ]
        assert (allowed["Effect"], denied["Effect"]) == ("Allow", "Deny")
        assert denied["Action"] == allowed["Action"]
        assert denied["Condition"] == {"Null": {"lambda:SourceFunctionArn": "false"}}


def test_functions_in_a_vpc_need_no_acknowledgment_of_the_hipaa_rule(in_vpc, template):
    def acknowledged(found):
        metadata = [each.get("Metadata", {}) for each in found.find_resources("AWS::Lambda::Function").values()]
        return ["HIPAA.Security-LambdaInsideVPC" in str(each) for each in metadata]

    assert not any(acknowledged(in_vpc))


def called_services(found_role):
    """Return the services of the actions that a role allows."""
    return {
        action.partition(":")[0]
        for statement in statements(found_role).values()
        if statement["Effect"] == "Allow"
        for action in listed(statement["Action"])
    }


def test_endpoints_cover_the_services_that_each_function_may_call(in_vpc):
    for handler, each in functions(in_vpc).items():
        needed = called_services(role(in_vpc, each["Role"])) - SERVICES_WITHOUT_ENDPOINT

        assert needed == {endpoint.service for endpoint in VPC_ENDPOINTS if handler in endpoint.handlers}, handler


def test_endpoints_cover_every_client_in_the_code():
    code = "\n".join(path.read_text() for path in (PROJECT / "lambda_src").rglob("*.py"))
    signed = re.findall(r'^API, API_VERSION = "([a-z0-9-]+)"', code, re.MULTILINE)
    clients = re.findall(r'[ ._]client\(\s*"([a-z0-9-]+)"', code)

    # Both modules sign their requests themselves.
    assert {*clients, API, decision.API} == {each.service for each in VPC_ENDPOINTS}
    assert {*signed} == {API, decision.API}


def test_endpoint_of_health_imaging_is_that_of_its_host_prefix():
    (endpoint,) = (each for each in VPC_ENDPOINTS if each.service == API)

    assert endpoint.name == f"{HOST_PREFIX}{API}"


def test_access_page_lists_the_endpoints():
    assert endpoints_table() in (PROJECT / "docs" / "access.md").read_text()


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ({"vpc_subnet_ids": "subnet-0123456789abcdef0"}, "vpc_security_group_ids: is missing"),
        ({"vpc_security_group_ids": "sg-0123456789abcdef0"}, "vpc_security_group_ids: has no effect without"),
        ({**VPC, "vpc_subnet_ids": "vpc-0123456789abcdef0"}, "is not the id of a subnet"),
        ({**VPC, "vpc_security_group_ids": "sg-x"}, "is not the id of a security group"),
        ({**VPC, "vpc_subnet_ids": ",".join(["subnet-01234567"] * 2)}, "is given more than once"),
        ({**VPC, "vpc_security_group_ids": ",".join(f"sg-0123456{n}" for n in range(6))}, "vpc_security_group_ids"),
    ],
)
def test_incomplete_or_invalid_vpc_is_refused(keys, fault):
    with pytest.raises(ConfigError, match=fault):
        Config.from_context({"datastore_ids": DATASTORE_A, **keys})
