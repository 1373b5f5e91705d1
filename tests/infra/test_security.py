"""The security page matches the roles in the template and the tests."""

from __future__ import annotations

import re

import pytest

from infra.config import config_keys
from tests.infra.cloudformation import properties
from tests.infra.project import AUTH, PROJECT, VPC

DOCUMENT = (PROJECT / "docs" / "security.md").read_text()


@pytest.fixture(scope="module")
def everything(synthesize):
    """The template of a configuration that creates every role."""
    hook = config_keys()["authorization_function_arn"].example
    return synthesize(
        environment="production", api_gateway_account_role="true", authorization_function_arn=hook, **AUTH["jwt"]
    )


def section(title):
    return DOCUMENT.partition(f"### {title}")[2].partition("\n#")[0]


def named(title):
    return set(re.findall(r"`([A-Z][A-Za-z]+)`", section(title)))


def statements(template, *roles):
    """Return the ``Sid`` of every statement of the roles whose logical ids start with these prefixes."""
    found = {name: role for name, role in properties(template, "AWS::IAM::Role").items() if name.startswith(roles)}
    assert len(found) == len(roles)
    return {
        statement["Sid"]
        for role in found.values()
        for policy in role.get("Policies", [])
        for statement in policy["PolicyDocument"]["Statement"]
    }


@pytest.mark.parametrize(
    ("title", "roles"),
    [
        ("API function", ["ApiFunctionRole"]),
        ("Render function", ["RenderFunctionRole"]),
        ("Authorizer function, with `auth=jwt`", ["AuthorizerFunctionRole"]),
        ("Export function and request function", ["ExportFunctionRole", "RequestFunctionRole"]),
        ("State machine for request manifests", ["ExportRequestsRole"]),
        ("Others", ["ExportRequestsStarterRole", "GradualDeploymentRole", "UnusualReadsRole"]),
    ],
)
def test_security_page_explains_every_statement_of_a_role(everything, title, roles):
    actions = {"GetImageFrame", "GetImageSet", "GetImageSetMetadata", "SearchImageSets", "PutEvents", "Frame", "Failed"}

    assert named(title) - actions == statements(everything, *roles)


def test_security_page_explains_the_statements_of_functions_in_a_vpc(synthesize, template):
    in_vpc = synthesize(**AUTH["jwt"], **VPC)

    assert named("In your subnets") == statements(in_vpc, "ApiFunctionRole") - statements(template, "ApiFunctionRole")


def test_security_page_covers_every_role(everything):
    explained = (
        "ApiFunction",
        "RenderFunction",
        "Authorizer",
        "ExportFunction",
        "RequestFunction",
        "ExportRequests",
        "GradualDeployment",
        "UnusualReads",
    )

    others = [name for name in properties(everything, "AWS::IAM::Role") if not name.startswith(explained)]
    assert [name.startswith("RestApiCloudWatchRole") for name in others] == [True]


def test_security_page_explains_every_statement_of_the_key(everything):
    (key,) = properties(everything, "AWS::KMS::Key").values()

    assert named("The key") == {each["Sid"] for each in key["KeyPolicy"]["Statement"] if "Sid" in each}


def test_security_page_names_only_existing_tests():
    names = set(re.findall(r"`(test_\w+)`", DOCUMENT))
    code = "\n".join(path.read_text() for path in (PROJECT / "tests").rglob("test_*.py"))

    assert len(names) > 40
    assert {name for name in names if not re.search(rf"^def {name}\(", code, re.MULTILINE)} == set()


def test_security_page_names_a_test_for_every_threat():
    rows = DOCUMENT.partition("## Threats")[2].partition("\n## ")[0].splitlines()
    threats = [row for row in rows if row.startswith("| ") and not row.startswith(("| threat", "| ---"))]

    assert len(threats) > 15
    assert all("`test_" in row for row in threats)


@pytest.mark.parametrize("path", sorted((PROJECT / "lambda_src").glob("*requirements.txt")), ids=lambda path: path.name)
def test_every_requirement_is_pinned_with_its_hash(path):
    requirements = re.split(r"\n(?=[a-z])", re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE).strip())

    assert requirements
    for requirement in requirements:
        assert re.match(
            r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==[^\s;]+( ;.*)? \\\n(\s+--hash=sha256:[0-9a-f]{64}( \\\n|$))+", requirement
        )
