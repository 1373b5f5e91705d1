"""Requests and responses of API Gateway's Lambda proxy integration."""

import json
from base64 import b64encode
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framegate.problems import InvalidRequest
from framegate.rest.http import HttpRequest, HttpResponse


def event(**changes):
    return {
        "httpMethod": "GET",
        "resource": "/",
        "pathParameters": None,
        "multiValueHeaders": None,
        "multiValueQueryStringParameters": None,
        "requestContext": {"requestId": "r"},
        "body": None,
        "isBase64Encoded": False,
        **changes,
    }


def test_header_names_ignore_case_and_several_lines_are_one_list():
    request = HttpRequest.from_event(event(multiValueHeaders={"accept": ["image/jph", "image/*"]}))
    assert request.header("Accept") == "image/jph, image/*"
    assert request.header("Origin") is None


def test_repeated_query_parameter_is_refused_by_name():
    request = HttpRequest.from_event(event(multiValueQueryStringParameters={"delivery": ["url", "inline"]}))
    with pytest.raises(InvalidRequest, match="delivery is given 2 times"):
        request.query("delivery")


@pytest.mark.parametrize("encoded", [False, True])
def test_json_object_is_read_as_text_and_as_base64(encoded):
    body = json.dumps({"imageFrameId": "f" * 32})
    body = b64encode(body.encode()).decode() if encoded else body
    request = HttpRequest.from_event(event(body=body, isBase64Encoded=encoded))
    assert request.json_object() == {"imageFrameId": "f" * 32}


@pytest.mark.parametrize("body", ["", "null", "[]", '"x"', "{", "7", "[" * 100_000, "1" * 10_000, "\ufeff{}"])
def test_other_body_is_refused(body):
    with pytest.raises(InvalidRequest, match="must be a JSON object"):
        HttpRequest.from_event(event(body=body)).json_object()


@given(st.text(), st.booleans())
def test_any_body_ends_in_an_object_or_a_refusal(body, encoded):
    request = HttpRequest.from_event(event(body=body, isBase64Encoded=encoded))
    with suppress(InvalidRequest):
        assert isinstance(request.json_object(), dict)


def test_bytes_travel_in_base64_and_text_as_it_is():
    assert HttpResponse(200, {"A": "b"}, b"\x00\xff").to_event() == {
        "statusCode": 200,
        "headers": {"A": "b"},
        "body": "AP8=",
        "isBase64Encoded": True,
    }
    assert HttpResponse(200, {}, "text").to_event()["isBase64Encoded"] is False
