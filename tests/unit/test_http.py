"""Requests and responses of API Gateway's Lambda proxy integration."""

import json
from base64 import b64encode
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framegate.problems import InvalidRequest
from framegate.rest.http import HttpRequest, HttpResponse, NotAnHttpRequestError


def event(**changes):
    return {
        "httpMethod": "GET",
        "resource": "/",
        "path": "/",
        "pathParameters": None,
        "multiValueHeaders": None,
        "multiValueQueryStringParameters": None,
        "requestContext": {"requestId": "r"},
        "body": None,
        "isBase64Encoded": False,
        **changes,
    }


def test_header_names_ignore_case_and_repeated_lines_are_joined():
    request = HttpRequest.from_event(event(multiValueHeaders={"accept": ["image/jph", "image/*"]}))
    assert request.header("Accept") == "image/jph, image/*"
    assert request.header("Origin") is None


def test_repeated_query_parameter_is_refused_by_name():
    request = HttpRequest.from_event(event(multiValueQueryStringParameters={"delivery": ["url", "inline"]}))
    with pytest.raises(InvalidRequest, match="gives delivery 2 times"):
        request.query("delivery")


@pytest.mark.parametrize("encoded", [False, True])
def test_json_body_is_parsed_as_text_and_as_base64(encoded):
    body = json.dumps({"imageFrameId": "f" * 32})
    body = b64encode(body.encode()).decode() if encoded else body
    request = HttpRequest.from_event(event(body=body, isBase64Encoded=encoded))
    assert request.json_object() == {"imageFrameId": "f" * 32}


@pytest.mark.parametrize("body", ["", "null", "[]", '"x"', "{", "7", "[" * 100_000, "1" * 10_000, "\ufeff{}"])
def test_body_that_is_not_a_json_object_is_refused(body):
    with pytest.raises(InvalidRequest, match="must be a JSON object"):
        HttpRequest.from_event(event(body=body)).json_object()


@given(st.text(), st.booleans())
def test_any_body_leads_to_an_object_or_a_refusal(body, encoded):
    request = HttpRequest.from_event(event(body=body, isBase64Encoded=encoded))
    with suppress(InvalidRequest):
        assert isinstance(request.json_object(), dict)


# Foreign events: the console's test event, a warm-up, a schedule, another kind of API, a load balancer.
OTHER_EVENTS = {
    "nothing": {},
    "null": None,
    "list": [],
    "text": "ping",
    "console": {"key1": "value1", "key2": "value2", "key3": "value3"},
    "schedule": {"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}},
    "HTTP API, format 2.0": {
        "version": "2.0",
        "routeKey": "GET /",
        "rawPath": "/",
        "headers": {},
        "requestContext": {"requestId": "r", "http": {"method": "GET", "path": "/"}},
    },
    "load balancer": {"requestContext": {"elb": {}}, "httpMethod": "GET", "path": "/", "headers": {}},
    "no request id": event(requestContext={}),
    "no context": event(requestContext=None),
    "headers of one value": event(multiValueHeaders={"accept": "image/jph"}),
    "query of one value": event(multiValueQueryStringParameters={"delivery": "url"}),
    "path of another kind": event(pathParameters=[]),
    "body of another kind": event(body={}),
    "path without its parameters": event(resource="/datastore/{datastoreId}/imageSet/{imageSetId}/imageFrames"),
}


@pytest.mark.parametrize("other", OTHER_EVENTS.values(), ids=OTHER_EVENTS)
def test_event_that_is_not_an_http_request_names_the_fault(other):
    with pytest.raises(NotAnHttpRequestError, match=r"missing|another form|not an object|lacks a parameter"):
        HttpRequest.from_event(other)


@pytest.mark.parametrize("other", OTHER_EVENTS.values(), ids=OTHER_EVENTS)
def test_event_that_is_not_an_http_request_answers_400_with_one_log_line(client, log_lines, other):
    answer = client.api.answer(other, 28_000)
    document = json.loads(answer["body"])
    assert (answer["statusCode"], document["type"]) == (400, "urn:framegate:problem:invalid-request")
    assert document["detail"].startswith("This function answers requests of API Gateway")
    (line,) = log_lines()
    assert (line["level"], line["message"]) == ("WARNING", "event is not an HTTP request of API Gateway")
    assert line["reason"] in document["detail"]
    assert "stack" not in line


def test_log_line_of_a_foreign_event_repeats_nothing_of_it(client, log_lines):
    client.api.answer({"PatientName": "Mueller^Hans", "httpMethod": {"Mueller": "Hans"}}, 28_000)
    assert "Mueller" not in json.dumps(log_lines())


def test_bytes_are_sent_in_base64_and_text_unchanged():
    assert HttpResponse(200, {"A": "b"}, b"\x00\xff").to_event() == {
        "statusCode": 200,
        "headers": {"A": "b"},
        "body": "AP8=",
        "isBase64Encoded": True,
    }
    assert HttpResponse(200, {}, "text").to_event()["isBase64Encoded"] is False


@pytest.mark.parametrize(("body", "length"), [(b"\x00\xff", "2"), ("ä", "2"), ("", "0")])
def test_response_without_body_keeps_the_content_length(body, length):
    assert HttpResponse(200, {"A": "b"}, body).without_body() == HttpResponse(
        200, {"A": "b", "Content-Length": length}, ""
    )


def test_response_without_body_keeps_a_declared_content_length():
    response = HttpResponse(200, {"Content-Length": "7"})
    assert response.without_body() == response
