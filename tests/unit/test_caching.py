"""What a browser keeps for the next person: Cache-Control, Vary and nosniff of every kind of response."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import get_args
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from framegate.access.caller import caller_context
from framegate.access.principal import Principal
from framegate.access.tokens import Grant
from framegate.delivery.executor import FrameDelivery
from framegate.rest.http import INLINE_LIMIT
from framegate.rest.routes import FRAME_ROUTE
from framegate.settings import CACHE_CONTROL, FrameCaching
from framegate.storage.body_store import BodyStore
from framegate.storage.frame_store import FrameStore
from tests.unit.conftest import SERVED, Client
from tests.unit.indexing import add_indexed_image_set, ask

CACHING = {
    "revalidate": "private, no-cache",
    "immutable": "private, max-age=31536000, immutable",
    "no-store": "no-store",
}
NOT_CACHED = "no-store"


@pytest.fixture
def new_client(source, objects, deferred_stores, new_api, settings):
    """Creates a client of an API with other settings."""

    def create(**changed):
        configured = replace(settings, **changed)
        store = FrameStore(objects, CACHE_CONTROL[configured.frame_caching])
        delivery = FrameDelivery(
            source,
            store,
            deferred_stores,
            INLINE_LIMIT,
            300,
            BodyStore(objects, CACHE_CONTROL[configured.frame_caching]),
        )
        return Client(new_api(settings=configured, delivery=delivery))

    return create


@pytest.fixture
def frame(health_imaging):
    return health_imaging.add_frame(SERVED, b"a frame of forty-odd bytes, for byte ranges", "image/jph")


def cache_control(answer):
    return answer.headers["Cache-Control"]


def test_every_kind_of_caching_has_a_header():
    assert set(get_args(FrameCaching)) == set(CACHE_CONTROL)
    assert CACHE_CONTROL == CACHING


@pytest.mark.parametrize("caching", CACHING)
def test_every_form_of_a_frame_has_the_configured_caching(new_client, frame, caching):
    client = new_client(frame_caching=caching)
    bytes_of_it = client.get(frame)
    document = client.get(frame, headers={"Accept": "application/json"})
    part = client.get(frame, headers={"Range": "bytes=2-5"})
    held = client.get(frame, headers={"If-None-Match": bytes_of_it.headers["ETag"]})

    answers = [bytes_of_it, document, part, held]
    assert [answer.status for answer in answers] == [200, 200, 206, 304]
    assert {cache_control(answer) for answer in answers} == {CACHING[caching]}
    assert all("ETag" in answer.headers for answer in answers)


@pytest.mark.parametrize("caching", CACHING)
def test_s3_answers_pre_signed_urls_with_the_configured_caching(new_client, frame, caching):
    client = new_client(frame_caching=caching)
    redirect = client.get(frame, "delivery=url")
    document = client.get(frame, "delivery=url", {"Accept": "application/json"})

    assert (cache_control(redirect), cache_control(document)) == (NOT_CACHED, NOT_CACHED)
    for url in (redirect.headers["Location"], document.json()["url"]):
        assert parse_qs(urlsplit(url).query)["response-cache-control"] == [CACHING[caching]]
        assert requests.get(url, timeout=5).headers["Cache-Control"] == CACHING[caching]


def test_get_and_head_have_pre_signed_urls_with_the_same_caching(new_client, frame):
    client = new_client(frame_caching="no-store")
    signed = client.get(frame, "delivery=url").headers["Location"]
    head = client.call("HEAD", FRAME_ROUTE, vars_of(frame), "delivery=url").headers["Location"]

    for url in (signed, head):
        assert parse_qs(urlsplit(url).query)["response-cache-control"] == [NOT_CACHED]
    assert signed != head


@pytest.mark.parametrize(
    ("caching", "expected"),
    [("revalidate", "private, no-cache"), ("immutable", "private, no-cache"), ("no-store", "no-store")],
)
def test_index_pages_are_never_immutable(new_client, health_imaging, caching, expected):
    client, image_set = new_client(frame_caching=caching), add_indexed_image_set(health_imaging)
    page = ask(client, image_set)
    held = ask(client, image_set, headers={"If-None-Match": page.headers["ETag"]})

    assert (page.status, held.status) == (200, 304)
    assert (cache_control(page), cache_control(held)) == (expected, expected)


@pytest.mark.parametrize("caching", CACHING)
def test_no_cache_stores_a_problem(new_client, frame, caching):
    client = new_client(frame_caching=caching)
    answers = [
        client.get(frame, "delivery=never"),
        client.get(frame, headers={"Range": "bytes=100-"}),
        client.get(frame, headers={"If-Match": '"another"'}),
        client.get(replace(frame, datastore_id="e" * 32)),
        client.call("GET", "/{proxy+}"),
        client.call("DELETE", FRAME_ROUTE, vars_of(frame)),
    ]

    assert [answer.status for answer in answers] == [400, 416, 412, 403, 404, 405]
    assert {cache_control(answer) for answer in answers} == {NOT_CACHED}


def vars_of(frame):
    return {
        "datastoreId": frame.datastore_id,
        "imageSetId": frame.image_set_id,
        "imageFrameId": frame.image_frame_id,
    }


@pytest.mark.parametrize(
    ("auth", "origins", "vary"),
    [
        ("iam", ("*",), "Accept"),
        ("iam", ("https://viewer.example",), "Accept, Origin"),
        ("cognito", ("*",), "Accept, Authorization"),
        ("cognito", ("https://viewer.example",), "Accept, Authorization, Origin"),
        ("jwt", ("*",), "Accept, Authorization"),
    ],
)
def test_vary_names_authorization_where_tokens_are_used(new_client, frame, auth, origins, vary):
    api = new_client(auth=auth, cors_origins=origins).api
    event = {
        "httpMethod": "GET",
        "resource": FRAME_ROUTE,
        "path": FRAME_ROUTE.format(**vars_of(frame)),
        "pathParameters": vars_of(frame),
        "requestContext": {
            "requestId": "request-of-the-test",
            "authorizer": caller_context(Grant(int(time.time()) + 60, None, Principal("a-caller", None)), None),
        },
    }
    answer = api.answer(event, 28_000)
    held = api.answer({**event, "multiValueHeaders": {"If-None-Match": [answer["headers"]["ETag"]]}}, 28_000)

    assert (answer["statusCode"], held["statusCode"]) == (200, 304)
    assert (answer["headers"]["Vary"], held["headers"]["Vary"]) == (vary, vary)


def test_every_response_forbids_browsers_to_guess_the_media_type(new_client, frame, health_imaging):
    client = new_client()
    tag = client.get(frame).headers["ETag"]
    answers = [
        client.get(frame),
        client.get(frame, headers={"Accept": "application/json"}),
        client.get(frame, headers={"If-None-Match": tag}),
        client.get(frame, "delivery=url"),
        client.get(frame, headers={"Range": "bytes=0-1"}),
        client.call("HEAD", FRAME_ROUTE, vars_of(frame)),
        ask(client, add_indexed_image_set(health_imaging)),
        client.get(frame, "delivery=never"),
        client.call("GET", "/{proxy+}"),
    ]

    assert [answer.status for answer in answers] == [200, 200, 304, 303, 206, 200, 200, 400, 404]
    assert {answer.headers["X-Content-Type-Options"] for answer in answers} == {"nosniff"}


def test_response_to_an_event_that_is_no_request_forbids_guessing_too(new_client):
    assert new_client().api.answer({}, 28_000)["headers"]["X-Content-Type-Options"] == "nosniff"
