"""The OpenAPI document is current, complete, and valid."""

from __future__ import annotations

import json
import re

import pytest
from jsonschema_rs import validator_for

from framegate.rest.problem_documents import STATUS
from framegate.rest.routes import ROUTES, UNSUPPORTED_ROUTES
from infra.api.gateway_problems import GATEWAY_PROBLEMS
from infra.openapi import PROBLEM_PREFIX, document, routes_table
from tests.infra.cloudformation import listed
from tests.infra.project import PROJECT
from tests.infra.test_rest_api import methods as methods_of_stack

COMMITTED = (PROJECT / "docs" / "openapi.json").read_text()
METHODS = ("get", "head", "post")


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


def test_committed_document_is_current():
    assert json.loads(COMMITTED) == document()


def test_document_conforms_to_openapi(described):
    # The import takes seconds, which each process of the tests would spend if it stood at the top.
    from openapi_spec_validator import validate

    validate(described)


def test_every_method_of_every_route_is_described(operations):
    found = {(path, method.upper()) for path, method, _ in operations}

    assert found == {
        (route.template, method)
        for route in ROUTES
        if route not in UNSUPPORTED_ROUTES
        for method in route.operation_by_method
    }


def test_every_route_is_a_method_of_the_deployed_api(template, operations):
    deployed = methods_of_stack(template).keys()

    assert {(path, method.upper()) for path, method, _ in operations} <= deployed


def test_operation_ids_are_unique(operations):
    ids = [operation["operationId"] for _, _, operation in operations]

    assert len(set(ids)) == len(ids)


def test_head_is_described_like_get_without_content(described, operations):
    by_method = {(path, method): operation for path, method, operation in operations}
    heads = [(path, operation) for (path, method), operation in by_method.items() if method == "head"]
    assert heads
    for path, head in heads:
        get = by_method[path, "get"]
        assert {each["name"] for each in get["parameters"]} - {each["name"] for each in head["parameters"]} <= {
            "Range",
            "If-Range",
        }
        of_get, of_head = dict(responses(described, get)), dict(responses(described, head))
        for status in {"200", "202", "303", "304"} & of_get.keys():
            assert of_head[status].get("headers") == of_get[status].get("headers")
        assert not any("content" in response for response in of_head.values())


def test_head_documents_every_status_of_get_except_those_of_ranges(described):
    for item in described["paths"].values():
        if "head" in item:
            assert set(item["head"]["responses"]) == set(item["get"]["responses"]) - {"206", "416"}
            assert {"401", "403", "429", "500"} <= item["head"]["responses"].keys()


def test_every_integer_has_the_format_that_its_bounds_fit(described):
    for path, schema in schemas_in(described):
        if "integer" in listed(schema["type"]) and "const" not in schema:
            fits = schema["minimum"] >= -(2**31) and schema["maximum"] < 2**31
            assert schema["format"] == ("int32" if fits else "int64"), path


def test_bearer_scheme_names_the_rfc_for_safe_tokens(described):
    assert "RFC8725" in described["components"]["securitySchemes"]["bearer"]["description"]


def schemas_in(node, path=""):
    """Yield every schema of a document with its path."""
    if isinstance(node, dict):
        if "type" in node and isinstance(node["type"], str | list) and not path.endswith(("/properties", "/example")):
            yield path, node
        for name, value in node.items():
            if name not in ("example", "examples", "securitySchemes"):
                yield from schemas_in(value, f"{path}/{name}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from schemas_in(value, f"{path}/{index}")


def test_every_string_number_and_array_is_bounded(described):
    found = dict(schemas_in(described))
    assert len(found) > 100
    for path, schema in found.items():
        if "enum" in schema or "const" in schema:
            continue
        types = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
        if "string" in types:
            assert "maxLength" in schema, path
        if "integer" in types or "number" in types:
            assert {"minimum", "maximum"} <= set(schema), path
        if "array" in types:
            assert "maxItems" in schema, path


def test_every_object_has_a_named_schema(described):
    for path, schema in schemas_in(described):
        if schema["type"] == "object":
            assert re.fullmatch(r"/components/schemas/\w+", path), path
    request = described["components"]["schemas"]["FrameRequestByInformation"]
    assert request["properties"]["imageFrameInformation"] == {"$ref": "#/components/schemas/ImageFrameInformation"}


def test_operator_is_named_as_the_contact(described):
    assert described["info"]["contact"]["name"]


def test_every_parameter_of_a_path_is_described(operations):
    for path, _, operation in operations:
        given = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
        assert given == set(re.findall(r"\{(\w+)\}", path))


def test_every_operation_and_parameter_has_a_description_and_a_valid_example(described, operations):
    for _, _, operation in operations:
        assert operation["operationId"]
        assert operation["summary"]
        assert operation["description"]
        for parameter in operation["parameters"]:
            assert parameter["description"]
            schema = {"components": described["components"], **parameter["schema"]}
            assert validator_for(schema).is_valid(parameter["example"]), parameter["name"]


def test_every_response_with_a_body_has_a_schema(described, operations):
    for _, method, operation in operations:
        for status, response in responses(described, operation):
            assert response["description"]
            assert all(content["schema"] for content in response.get("content", {}).values())
            has_content = status not in ("303", "304") and method != "head"
            assert ("content" in response) == has_content


def test_every_problem_is_described_under_its_status(described):
    found = {
        (int(name[-3:]), slug.removeprefix(PROBLEM_PREFIX))
        for name, response in described["components"]["responses"].items()
        for content in [response.get("content", {}).get("application/problem+json")]
        if content
        for slug in content["schema"]["properties"]["type"]["enum"]
    }
    # These answer paths and methods that are not described, or have no status of their own.
    elsewhere = {"unknown-route", "method-not-allowed"}
    ours = {(int(status), problem.slug) for problem, status in STATUS.items()}
    of_the_gateway = {(each.status, each.slug) for each in GATEWAY_PROBLEMS if each.status}

    assert found == {(status, slug) for status, slug in ours | of_the_gateway if slug not in elsewhere}


def test_every_reference_resolves(described):
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', COMMITTED):
        found = described
        for part in reference.split("/"):
            found = found[part]
        assert found


def test_table_of_routes_is_in_the_documents():
    texts = [path.read_text() for path in (PROJECT / "README.md", *(PROJECT / "docs").glob("*.md"))]

    assert any(routes_table() in text for text in texts)
