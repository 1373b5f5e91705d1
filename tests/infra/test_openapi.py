"""The OpenAPI document: that of the code, complete, and right by the specification."""

from __future__ import annotations

import json
import re

import pytest
from jsonschema_rs import validator_for
from openapi_spec_validator import validate

from framegate.rest.frame_api import ROUTES
from framegate.rest.problem_documents import STATUS
from infra import rest_api
from infra.gateway_problems import GATEWAY_PROBLEMS
from infra.openapi import PROBLEM_PREFIX, document
from tests.infra.project import PROJECT

COMMITTED = (PROJECT / "docs" / "openapi.json").read_text()
METHODS = ("get", "post")


@pytest.fixture(scope="module")
def described():
    return json.loads(COMMITTED)


@pytest.fixture(scope="module")
def operations(described):
    return [
        (path, method, {**item[method], "parameters": item["parameters"] + item[method]["parameters"]})
        for path, item in described["paths"].items()
        for method in METHODS
        if method in item
    ]


def responses(described, operation):
    for status, reference in operation["responses"].items():
        yield status, described["components"]["responses"][reference["$ref"].rpartition("/")[2]]


def test_committed_document_is_current_make_openapi_writes_it():
    assert json.loads(COMMITTED) == document()


def test_document_is_valid_by_the_specification(described):
    validate(described)


def test_every_route_of_the_function_and_of_the_stack_is_described(operations):
    found = {(path, method.upper()) for path, method, _ in operations}

    assert found == {(path, method) for path, methods in ROUTES.items() for method in methods}
    assert found == {(f"/{path}", method) for path, methods in rest_api.ROUTES.items() for method in methods}


def test_every_parameter_of_a_path_is_described(operations):
    for path, _, operation in operations:
        given = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
        assert given == set(re.findall(r"\{(\w+)\}", path))


def test_every_operation_and_parameter_is_explained_with_an_example_that_fits(described, operations):
    for _, _, operation in operations:
        assert operation["operationId"]
        assert operation["summary"]
        assert operation["description"]
        for parameter in operation["parameters"]:
            assert parameter["description"]
            schema = {"components": described["components"], **parameter["schema"]}
            assert validator_for(schema).is_valid(parameter["example"]), parameter["name"]


def test_every_answer_with_a_body_has_its_schema(described, operations):
    for _, _, operation in operations:
        for status, response in responses(described, operation):
            assert response["description"]
            assert all(content["schema"] for content in response.get("content", {}).values())
            assert ("content" in response) == (status not in ("303", "304"))


def test_every_problem_is_described_with_its_status_where_it_can_happen(described):
    found = {
        (int(name[5:]), slug.removeprefix(PROBLEM_PREFIX))
        for name, response in described["components"]["responses"].items()
        for content in [response.get("content", {}).get("application/problem+json")]
        if content
        for slug in content["schema"]["properties"]["type"]["enum"]
    }
    # What answers other paths and methods than those described, and what has no status of its own.
    elsewhere = {"unknown-route", "method-not-allowed"}
    ours = {(int(status), problem.slug) for problem, status in STATUS.items()}
    of_the_gateway = {(each.status, each.slug) for each in GATEWAY_PROBLEMS if each.status}

    assert found == {(status, slug) for status, slug in ours | of_the_gateway if slug not in elsewhere}


def test_no_reference_leads_nowhere(described):
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', COMMITTED):
        found = described
        for part in reference.split("/"):
            found = found[part]
        assert found
