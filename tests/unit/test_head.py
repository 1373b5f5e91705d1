"""HEAD: the headers of GET without the body, and without reading a frame unless necessary."""

from __future__ import annotations

import os

import pytest
import requests

from framegate.rest.http import INLINE_LIMIT
from framegate.rest.routes import API_ROUTES, FRAME_ROUTE, GET_IMAGE_FRAME_ROUTE
from local.health_imaging import GeneratedBody
from tests.unit.conftest import SERVED

MIB = 1 << 20


@pytest.fixture
def frame(health_imaging):
    return health_imaging.add_frame(SERVED, os.urandom(20_000), "image/jph")


def path(frame):
    return {
        "datastoreId": frame.datastore_id,
        "imageSetId": frame.image_set_id,
        "imageFrameId": frame.image_frame_id,
    }


def both(client, frame, route=FRAME_ROUTE, query="", headers=None):
    return [client.call(method, route, path(frame), query, headers) for method in ("GET", "HEAD")]


def length_of(answer):
    return str(len(answer.body))


@pytest.mark.parametrize("accept", ["*/*", "application/json"])
@pytest.mark.parametrize("query", ["", "size=64", "resolution=0", "startLevel=0", "delivery=inline"])
@pytest.mark.parametrize("announce_length", [True, False])
def test_head_has_the_headers_and_content_length_of_get(client, health_imaging, accept, query, announce_length):
    frame = health_imaging.add_frame(SERVED, os.urandom(20_001), "image/jph", announce_length=announce_length)
    get, head = both(client, frame, query=query, headers={"Accept": accept})

    assert (head.status, head.body) == (200, b"")
    assert head.headers == {**get.headers, "Content-Length": length_of(get)}


def test_head_accepts_the_id_in_the_query(client, frame):
    get, head = both(client, frame, GET_IMAGE_FRAME_ROUTE, f"imageFrameId={frame.image_frame_id}")

    assert head.headers == {**get.headers, "Content-Length": "20000"}


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [("size=0", {}, 400), ("", {"Accept": "text/html"}, 406), ("", {"If-Match": '"other"'}, 412)],
)
def test_head_of_a_problem_has_its_headers_without_the_document(client, frame, query, headers, status):
    get, head = both(client, frame, query=query, headers=headers)

    assert (get.status, head.status, head.body) == (status, status, b"")
    assert head.headers == {**get.headers, "Content-Length": length_of(get)}


def test_head_of_a_held_frame_answers_304(client, frame):
    get, head = both(client, frame, headers={"If-None-Match": client.get(frame).headers["ETag"]})

    assert (head.status, head.body, head.headers) == (304, b"", get.headers)


def test_head_ignores_a_range(client, frame):
    head = client.call("HEAD", FRAME_ROUTE, path(frame), headers={"Range": "bytes=0-9"})

    assert (head.status, head.headers["Content-Length"]) == (200, "20000")


@pytest.mark.parametrize("accept", ["*/*", "application/json"])
def test_head_of_an_inline_frame_does_not_read_it(client, health_imaging, accept):
    body = GeneratedBody(4 * MIB, lambda: (bytes(1024) for _ in range(4 * 1024)))
    frame = health_imaging.add_frame(SERVED, body, "video/mp4")
    head = client.call("HEAD", FRAME_ROUTE, path(frame), headers={"Accept": accept})

    assert head.status == 200
    (call,) = (call for call in health_imaging.calls if call.operation == "GetImageFrame")
    assert call.aborted
    get = client.get(frame, headers={"Accept": accept})
    assert head.headers == {**get.headers, "Content-Length": length_of(get)}


def test_head_follows_the_redirect_to_the_objects_headers(client, health_imaging):
    content = os.urandom(INLINE_LIMIT + 1)
    frame = health_imaging.add_frame(SERVED, content, "image/jph")
    get, head = both(client, frame)

    assert (get.status, head.status, head.body) == (303, 303, b"")
    assert set(head.headers) == {*get.headers, "Content-Length"}
    followed = requests.head(head.headers["Location"], timeout=5)
    assert (followed.status_code, followed.headers["Content-Type"]) == (200, "image/jph")
    assert followed.headers["Content-Length"] == str(len(content))
    assert requests.get(get.headers["Location"], timeout=5).content == content


def test_head_reports_zero_delivered_bytes(client, frame, log_lines):
    client.call("HEAD", FRAME_ROUTE, path(frame))
    (line,) = (line for line in log_lines() if line.get("message") == "request answered")

    assert (line["delivery"], line["bytes"]) == ("inline", 0)


@pytest.mark.parametrize("route", API_ROUTES, ids=lambda route: route.template.rpartition("/")[2])
def test_every_route_with_get_accepts_head(client, route):
    path = {parameter.name: parameter.example for parameter in route.parameters}
    methods = client.call("PUT", route.template, path).headers["Allow"].split(", ")

    assert ("HEAD" in methods) == ("GET" in methods)
    assert set(methods) == set(route.operation_by_method)
