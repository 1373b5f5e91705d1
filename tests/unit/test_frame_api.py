"""The frame routes: from API Gateway's event to the response."""

from __future__ import annotations

import json
import os
from base64 import b64decode
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import requests

from framegate.bucket_layout import frame_key
from framegate.delivery.executor import FrameDelivery
from framegate.identifiers import FrameRef
from framegate.rest.http import INLINE_LIMIT, LAMBDA_RESPONSE_LIMIT
from framegate.rest.routes import GET_IMAGE_FRAME_ROUTE, ROUTES
from local.health_imaging import GeneratedBody
from tests.unit.conftest import BUCKET, SERVED, Client

MEDIA_TYPES = [
    "application/octet-stream",
    "image/jpeg",
    "image/j2c",
    "video/mpeg",
    "video/mp4",
    "video/H256",
    "image/jph",
    "image/jphc",
    "image/never-heard-of; version=2",
]
SMALL, LARGE = os.urandom(20_000), os.urandom(INLINE_LIMIT + 1)


@pytest.fixture(scope="module")
def small(emulator):
    return emulator.add_frame(SERVED, SMALL, "image/jph")


@pytest.fixture(scope="module")
def large(emulator):
    return emulator.add_frame(SERVED, LARGE, "image/jph")


def image_set_path(frame):
    return {"datastoreId": frame.datastore_id, "imageSetId": frame.image_set_id}


def frame_calls(health_imaging):
    return [call for call in health_imaging.calls if call.operation == "GetImageFrame"]


# Responses


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
def test_small_frame_is_delivered_unchanged(health_imaging, client, media_type):
    content = os.urandom(10_000)
    answer = client.get(health_imaging.add_frame(SERVED, content, media_type))
    assert (answer.status, answer.body) == (200, content)
    syntax = {"image/jph": "202", "image/jphc": "203", "image/jpeg": "50", "image/j2c": "91"}.get(media_type)
    parameter = f"; transfer-syntax=1.2.840.10008.1.2.4.{syntax}" if syntax else ""
    assert answer.headers["Content-Type"] == f"{media_type}{parameter}"


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
def test_large_frame_is_stored_unchanged(health_imaging, client, s3, media_type):
    frame = health_imaging.add_frame(SERVED, LARGE, media_type)
    assert client.get(frame).status == 303
    stored = s3.get_object(Bucket=BUCKET, Key=frame_key(FrameRef(SERVED, frame.image_set_id, frame.image_frame_id)))
    assert (stored["Body"].read(), stored["ContentType"]) == (LARGE, media_type)


def test_frame_without_content_length_is_delivered_whole(health_imaging, client):
    frame = health_imaging.add_frame(SERVED, SMALL, "image/jph", announce_length=False)
    assert client.get(frame).body == SMALL


def test_large_frame_without_content_length_is_stored_whole(health_imaging, client):
    frame = health_imaging.add_frame(SERVED, LARGE, "image/jph", announce_length=False)
    assert requests.get(client.get(frame).headers["Location"], timeout=5).content == LARGE


def test_empty_frame_is_delivered_empty(health_imaging, client):
    answer = client.get(health_imaging.add_frame(SERVED, b"", "application/octet-stream"))
    assert (answer.status, answer.body) == (200, b"")


def test_caches_revalidate_a_frame_by_default(client, small):
    headers = client.get(small).headers
    assert headers["ETag"] == f'"{small.image_frame_id}.image/jph"'
    assert headers["Cache-Control"] == "private, no-cache"
    assert headers["Vary"] == "Accept"


def test_json_response_has_the_frame_in_base64(client, small):
    answer = client.get(small, headers={"Accept": "application/json"})
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    document = answer.json()
    assert b64decode(document.pop("imageFrameBlob")) == SMALL
    assert document == {
        "datastoreId": SERVED,
        "imageSetId": small.image_set_id,
        "imageFrameId": small.image_frame_id,
        "contentType": "image/jph",
        "contentLength": len(SMALL),
    }
    assert answer.headers["ETag"] == f'"{small.image_frame_id}.json"'


def test_frame_above_inline_limit_redirects_to_presigned_url(client, large):
    answer = client.get(large)
    assert (answer.status, answer.body, answer.headers["Cache-Control"]) == (303, b"", "no-store")
    assert "ETag" not in answer.headers
    fetched = requests.get(answer.headers["Location"], timeout=5)
    assert (fetched.content, fetched.headers["Content-Type"]) == (
        LARGE,
        "image/jph; transfer-syntax=1.2.840.10008.1.2.4.202",
    )


def test_frame_above_inline_limit_as_json_has_url_and_expiry(client, large):
    answer = client.get(large, headers={"Accept": "application/json"})
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")
    document = answer.json()
    assert requests.get(document["url"], timeout=5).content == LARGE
    expires_in = datetime.fromisoformat(document["expiresAt"]) - datetime.now(UTC)
    assert timedelta(seconds=295) < expires_in <= timedelta(seconds=300)
    assert (document["contentType"], document["contentLength"]) == ("image/jph", len(LARGE))


# Addresses


@pytest.mark.parametrize("body", [{"imageFrameId": None}, {"imageFrameInformation": {"imageFrameId": None}}])
def test_post_accepts_the_id_in_both_json_forms(client, small, body):
    holder = body.get("imageFrameInformation", body)
    holder["imageFrameId"] = small.image_frame_id
    answer = client.call("POST", GET_IMAGE_FRAME_ROUTE, image_set_path(small), body=json.dumps(body).encode())
    assert (answer.status, answer.body) == (200, SMALL)


def test_get_accepts_the_id_in_the_query(client, small):
    query = f"imageFrameId={small.image_frame_id}"
    answer = client.call("GET", GET_IMAGE_FRAME_ROUTE, image_set_path(small), query)
    assert (answer.status, answer.body) == (200, SMALL)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"{",
        b'{"imageFrameId": 7}',
        b'{"imageFrameId": ["' + b"f" * 32 + b'"]}',
        b'{"imageFrameInformation": "' + b"f" * 32 + b'"}',
        b'{"imageFrameId": "' + b"f" * 32 + b'", "imageFrameInformation": {"imageFrameId": "' + b"e" * 32 + b'"}}',
        b"\xff\xfe",
    ],
)
def test_post_without_exactly_one_id_answers_400(client, small, body):
    answer = client.call("POST", GET_IMAGE_FRAME_ROUTE, image_set_path(small), body=body)
    assert (answer.status, answer.json()["type"]) == (400, "urn:framegate:problem:invalid-request")


def test_get_without_id_answers_400(client, small):
    answer = client.call("GET", GET_IMAGE_FRAME_ROUTE, image_set_path(small))
    assert (answer.status, answer.json()["detail"]) == (400, "The query must have the frame's id: ?imageFrameId=…")


def test_unknown_path_answers_404_with_every_path(client):
    answer = client.call("GET", "/{proxy+}")
    assert (answer.status, answer.json()["type"]) == (404, "urn:framegate:problem:unknown-route")
    assert all(route.template in answer.json()["detail"] for route in ROUTES)


def test_unsupported_method_answers_405_with_the_allowed_ones(client, small):
    answer = client.call("DELETE", GET_IMAGE_FRAME_ROUTE, image_set_path(small))
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD, POST")


# Delivery modes and Accept


def test_delivery_url_redirects_to_a_small_frame(client, small):
    answer = client.get(small, "delivery=url")
    assert requests.get(answer.headers["Location"], timeout=5).content == SMALL


def test_delivery_inline_above_the_limit_answers_413_with_advice(client, large):
    answer = client.get(large, "delivery=inline")
    assert answer.status == 413
    assert answer.json()["detail"] == (
        f"An inline answer holds at most {INLINE_LIMIT:,} bytes and the frame has {len(LARGE):,}. "
        "Use delivery=url, or leave delivery out."
    )


@pytest.mark.parametrize("value", ["pigeon", "INLINE", "url,inline", "auto", "%00", ""])
def test_unknown_delivery_answers_400(client, small, value):
    answer = client.get(small, f"delivery={value}")
    assert (answer.status, answer.json()["detail"]) == (
        400,
        "delivery must be inline or url; without it, the frame's size decides.",
    )


def test_repeated_parameter_answers_400(client, small):
    assert client.get(small, "delivery=url&delivery=inline").status == 400


@pytest.mark.parametrize("query", ["", "delivery=url", "delivery=inline"])
def test_unacceptable_frame_answers_406_before_it_is_read(client, health_imaging, small, s3, query):
    answer = client.get(small, query, {"Accept": "text/html"})
    assert (answer.status, answer.json()["type"]) == (406, "urn:framegate:problem:not-acceptable")
    assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET)


# Entity tags


@pytest.mark.parametrize(("accept", "suffix"), [("*/*", ".image/jph"), ("application/json", ".json")])
def test_held_frame_answers_304_without_an_upstream_call(client, health_imaging, small, accept, suffix):
    tag = f'"{small.image_frame_id}{suffix}"'
    answer = client.get(small, headers={"Accept": accept, "If-None-Match": tag})
    assert (answer.status, answer.body, answer.headers["ETag"]) == (304, b"", tag)
    assert answer.headers["Cache-Control"] == "private, no-cache"
    assert frame_calls(health_imaging) == []


def test_if_none_match_star_answers_304_if_the_frame_exists(client, small):
    answer = client.get(small, headers={"If-None-Match": "*"})
    assert (answer.status, answer.body, answer.headers["ETag"]) == (304, b"", f'"{small.image_frame_id}.image/jph"')
    assert client.get(replace(small, image_frame_id="0" * 32), headers={"If-None-Match": "*"}).status == 404


def test_other_entity_tag_gets_the_frame(client, small):
    assert client.get(small, headers={"If-None-Match": '"another"'}).body == SMALL


def test_url_delivery_ignores_if_none_match(client, small):
    assert client.get(small, "delivery=url", {"If-None-Match": f'"{small.image_frame_id}.image/jph"'}).status == 303


# Requests refused without an upstream call


def test_unserved_data_store_answers_403_without_an_upstream_call(client, health_imaging, small):
    answer = client.get(replace(small, datastore_id="0" * 32))
    assert (answer.status, answer.json()["type"]) == (403, "urn:framegate:problem:datastore-not-served")
    assert frame_calls(health_imaging) == []


@pytest.mark.parametrize("name", ["datastore_id", "image_set_id", "image_frame_id"])
def test_malformed_identifier_answers_400_and_is_not_repeated(client, health_imaging, small, name):
    answer = client.get(replace(small, **{name: "Mueller^Hans"}))
    assert (answer.status, answer.json()["type"]) == (400, "urn:framegate:problem:invalid-identifier")
    assert b"Mueller" not in answer.body
    assert frame_calls(health_imaging) == []


# Stored copies


@pytest.fixture(scope="module")
def huge(emulator):
    """A frame larger than any socket buffer, so that HealthImaging sends only what is read."""
    return emulator.add_frame(SERVED, GeneratedBody(40 << 20, lambda: (bytes(1 << 20) for _ in range(40))), "video/mp4")


def test_second_request_links_to_the_copy_without_reading_the_frame(client, health_imaging, huge):
    client.get(huge)
    health_imaging.calls.clear()
    assert client.get(huge).status == 303
    (call,) = frame_calls(health_imaging)
    assert call.aborted


def test_url_delivery_of_a_stored_frame_makes_no_upstream_call(client, health_imaging, large):
    client.get(large, "delivery=url")
    health_imaging.calls.clear()
    answer = client.get(large, "delivery=url")
    assert requests.get(answer.headers["Location"], timeout=5).content == LARGE
    assert frame_calls(health_imaging) == []


# The inline limit


@pytest.mark.parametrize("difference", [-1, 0, 1])
@pytest.mark.parametrize("accept", ["*/*", "application/json"])
def test_inline_limit_is_exact(health_imaging, new_api, settings, difference, accept):
    origins = ("https://" + "o" * 245,)
    client = Client(new_api(settings=replace(settings, cors_origins=origins)))
    content = os.urandom(INLINE_LIMIT + difference)
    frame = health_imaging.add_frame(SERVED, content, "image/" + "x" * 249)
    answer = client.get(frame, headers={"Accept": accept, "Origin": origins[0]})
    serialised = len(json.dumps(answer.event).encode())
    assert serialised < LAMBDA_RESPONSE_LIMIT
    if difference > 0:
        assert answer.status == 303 if accept == "*/*" else "url" in answer.json()
    else:
        assert (b64decode(answer.json()["imageFrameBlob"]) if accept != "*/*" else answer.body) == content
        assert serialised > 0.99 * LAMBDA_RESPONSE_LIMIT


# Problems and CORS


def test_problem_is_an_rfc_9457_document_with_request_id(client, small):
    answer = client.get(replace(small, image_frame_id="0" * 32))
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json() == {
        "type": "urn:framegate:problem:frame-not-found",
        "title": "There is no such image frame",
        "status": 404,
        "detail": "HealthImaging has no such data store, image set or image frame.",
        "requestId": "request-of-the-test",
    }


@pytest.mark.parametrize(
    ("allowed", "origin", "expected"),
    [
        (("*",), "https://any.example", "*"),
        (("*",), None, "*"),
        (("https://a.example", "https://b.example"), "https://b.example", "https://b.example"),
        (("https://a.example", "https://b.example"), "https://c.example", None),
        (("https://a.example", "https://b.example"), None, None),
    ],
)
@pytest.mark.parametrize("wrong", [False, True])
def test_cors_headers_allow_pages_of_the_configured_origins(new_api, settings, small, allowed, origin, expected, wrong):
    api = new_api(settings=replace(settings, cors_origins=allowed))
    frame = replace(small, image_frame_id="wrong") if wrong else small
    answer = Client(api).get(frame, headers={"Origin": origin} if origin else {})
    assert answer.headers.get("Access-Control-Allow-Origin") == expected
    assert ("Origin" in answer.headers["Vary"]) == (allowed != ("*",))
    assert "ETag" in answer.headers["Access-Control-Expose-Headers"]


def test_internal_error_answers_500_without_details(source, new_api, small, log_lines):
    class Broken(FrameDelivery):
        def deliver(self, *_):
            raise RuntimeError("Mueller^Hans")

    answer = Client(new_api(delivery=Broken(source, None, None, INLINE_LIMIT, 300, None))).get(small)
    assert (answer.status, answer.json()["type"]) == (500, "urn:framegate:problem:internal-error")
    (line,) = log_lines()
    assert (line["level"], line["error"]) == ("ERROR", "RuntimeError")
    assert " deliver < frames.py:" in line["stack"]
    assert "Mueller" not in json.dumps(line) + answer.body.decode()
