"""Property tests: any request gets a response in the documented form."""

from __future__ import annotations

import json
from base64 import b64encode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from framegate.rest.http import LAMBDA_RESPONSE_LIMIT
from framegate.rest.routes import ROUTES
from tests.unit.conftest import SERVED, filled

anything = st.text(max_size=200) | st.sampled_from(["f" * 32, SERVED, "../../etc/passwd", "\r\nSet-Cookie: a=b", "\0"])
several = st.dictionaries(
    st.sampled_from(["delivery", "imageFrameId", "size"]) | st.text(max_size=20), st.lists(anything, max_size=3)
)
headers = st.dictionaries(
    st.sampled_from(["Accept", "If-Match", "If-None-Match", "If-Range", "Origin", "Content-Type", "Range"])
    | st.text(max_size=20),
    st.lists(anything, max_size=3),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | anything,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["imageFrameId", "imageFrameInformation"]) | st.text(max_size=5), inner)
    ),
    max_leaves=10,
)
bodies = st.none() | st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode())

PATH_PARAMETERS = sorted({each.name for route in ROUTES for each in route.parameters})


@st.composite
def events(draw):
    body = draw(bodies)
    route = draw(st.sampled_from([*(route.template for route in ROUTES), "/", "/{proxy+}"]))
    path = {name: draw(anything | st.just(SERVED if name.endswith("Id") else "1.2")) for name in PATH_PARAMETERS}
    return {
        "httpMethod": draw(st.sampled_from(["GET", "POST", "HEAD", "DELETE", "TRACE", "get", ""])),
        "resource": route,
        "path": draw(st.sampled_from([filled(route, path)] * 9 + ["/"])),
        "pathParameters": path,
        "multiValueHeaders": draw(st.none() | headers),
        "multiValueQueryStringParameters": draw(st.none() | several),
        "requestContext": {"requestId": "request-of-the-test"},
        "body": None if body is None else b64encode(body).decode(),
        "isBase64Encoded": body is not None,
    }


@pytest.fixture
def answer(client):
    return lambda event: client.api.answer(event, 28_000)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(event=events())
def test_any_request_gets_a_documented_response(answer, event):
    result = answer(event)
    assert result["statusCode"] in {200, 303, 304, 400, 403, 404, 405, 406, 412, 501}
    assert len(json.dumps(result)) < LAMBDA_RESPONSE_LIMIT
    assert not any("\r" in value or "\n" in value for value in result["headers"].values())
    # API Gateway would add application/json to a response without a Content-Type.
    assert result["headers"]["Content-Type"]
    if event["httpMethod"] == "HEAD":
        assert result["body"] == ""
    elif result["statusCode"] >= 400:
        document = json.loads(result["body"])
        assert result["headers"]["Content-Type"] == "application/problem+json"
        assert set(document) == {"type", "title", "status", "detail", "requestId"}
        assert document["status"] == result["statusCode"]


anything_of_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=20), inner, max_size=3),
    max_leaves=10,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    event=anything_of_json
    | st.builds(
        lambda event, name, value: {**event, name: value},
        events(),
        st.sampled_from(
            [
                "httpMethod",
                "resource",
                "path",
                "pathParameters",
                "multiValueHeaders",
                "multiValueQueryStringParameters",
                "requestContext",
                "body",
            ]
        ),
        anything_of_json,
    )
)
def test_any_event_gets_a_response(answer, event):
    result = answer(event)
    assert 200 <= result["statusCode"] < 500 or result["statusCode"] == 501
    json.dumps(result)
