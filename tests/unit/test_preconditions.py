"""Conditional requests (RFC 9110): If-Match, If-None-Match and dates, and how a cache applies a 304."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framegate.healthimaging.media_types import STORED
from framegate.rest.http import INLINE_LIMIT
from framegate.rest.negotiation import JSON, dicomweb_forms_of, forms_of
from framegate.rest.preconditions import EntityTags, FrameTag
from framegate.rest.routes import FRAME_ROUTE, GET_IMAGE_FRAME_ROUTE, INDEX_ROUTE
from tests.unit.conftest import SERVED

CONTENT = os.urandom(5_000)
HTJ2K = "1.2.840.10008.1.2.4.202"
FRAME = "f" * 32


@pytest.fixture
def frame(health_imaging):
    return health_imaging.add_frame(SERVED, CONTENT, "image/jph")


@pytest.fixture
def ask(client, frame):
    """Sends a request for the frame, with headers given as keywords: ``If_Match=…``."""

    def send(query="", method="GET", **headers):
        path = {
            "datastoreId": frame.datastore_id,
            "imageSetId": frame.image_set_id,
            "imageFrameId": frame.image_frame_id,
        }
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if method == "POST":
            body = json.dumps({"imageFrameId": frame.image_frame_id}).encode()
            return client.call("POST", GET_IMAGE_FRAME_ROUTE, path, query, headers, body)
        return client.call(method, FRAME_ROUTE, path, query, headers)

    return send


@pytest.fixture
def tag(ask):
    return ask().headers["ETag"]


def slug(answer):
    return answer.json()["type"].removeprefix("urn:framegate:problem:")


def frame_calls(health_imaging):
    return [call for call in health_imaging.calls if call.operation == "GetImageFrame"]


# A cache that receives a 304


def update_stored(stored, not_modified):
    """Update the headers of a stored response with those of a 304 (RFC 9111, sections 3.2 and 4.3.4)."""
    kept_out = {"content-length", "connection"}
    return {**stored, **{name: value for name, value in not_modified.items() if name.lower() not in kept_out}}


@pytest.mark.parametrize("media_type", sorted(set(STORED.values())))
def test_304_keeps_the_cached_media_type_without_an_upstream_call(client, health_imaging, media_type):
    frame = health_imaging.add_frame(SERVED, CONTENT, media_type)
    cached = client.get(frame)
    health_imaging.calls.clear()
    not_modified = client.get(frame, headers={"If-None-Match": cached.headers["ETag"]})

    assert (not_modified.status, not_modified.body) == (304, b"")
    assert update_stored(cached.headers, not_modified.headers) == cached.headers
    assert cached.headers["Content-Type"].partition(";")[0] == media_type
    assert frame_calls(health_imaging) == []


@pytest.mark.parametrize("media_type", ["image/never-heard-of; version=2", "x/y"])
def test_304_keeps_a_cached_unknown_media_type(client, health_imaging, media_type):
    frame = health_imaging.add_frame(SERVED, CONTENT, media_type)
    cached = client.get(frame)
    not_modified = client.get(frame, headers={"If-None-Match": cached.headers["ETag"]})

    assert not_modified.status == 304
    assert update_stored(cached.headers, not_modified.headers) == cached.headers


@pytest.mark.parametrize("query", ["", "size=64"])
@pytest.mark.parametrize("accept", ["*/*", "application/json"])
def test_304_has_the_headers_of_the_200(ask, query, accept):
    cached = ask(query, Accept=accept)
    not_modified = ask(query, Accept=accept, If_None_Match=cached.headers["ETag"])

    assert not_modified.status == 304
    assert not_modified.headers.items() <= cached.headers.items()
    assert {"Content-Type", "ETag", "Cache-Control", "Vary"} <= set(not_modified.headers)


def test_media_type_in_a_made_up_tag_is_not_returned(ask, frame):
    for made_up in ("text/html", "image/jpeg;<script>", "image/j2c\r\nX: y"):
        answer = ask(If_None_Match=f'"{frame.image_frame_id}.{made_up}"')
        assert (answer.status, answer.headers["Content-Type"]) == (200, f"image/jph; transfer-syntax={HTJ2K}")


def test_every_response_without_a_body_has_a_content_type(ask, tag):
    for answer in (ask("delivery=url"), ask(If_None_Match=tag), ask(method="HEAD"), ask("delivery=url", "HEAD")):
        assert answer.body == b""
        assert answer.headers["Content-Type"]


# If-Match


@pytest.mark.parametrize("form", ["{tag}", '"other", {tag}', '"x,y",{tag}', "*", " * ", "{tag} , W/{tag}"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_current_tag_satisfies_if_match(ask, tag, form, method):
    assert ask(method=method, If_Match=form.format(tag=tag)).status == 200


@pytest.mark.parametrize("form", ['"other"', "W/{tag}", "{unquoted}", '"x", "y"', '"*"', '"{unquoted},"', "nonsense"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_if_match_without_a_strong_match_answers_412(ask, tag, form, method):
    answer = ask(method=method, If_Match=form.format(tag=tag, unquoted=tag.strip('"')))

    assert (answer.status, slug(answer)) == (412, "precondition-failed")
    assert answer.headers["Cache-Control"] == "no-store"
    assert "If-Match" in answer.json()["detail"]


def test_if_match_names_one_representation(ask, tag):
    as_json = ask(Accept="application/json").headers["ETag"]

    assert ask(If_Match=as_json).status == 412
    assert ask(Accept="application/json", If_Match=as_json).status == 200
    assert ask("size=64", If_Match=tag).status == 412


def test_if_match_guards_a_range(ask, tag):
    assert ask(If_Match=tag, Range="bytes=0-9").status == 206
    assert ask(If_Match='"other"', Range="bytes=0-9").status == 412


@pytest.mark.parametrize("condition", ["*", '"other"'])
def test_precondition_hides_no_other_problem(client, frame, condition):
    for headers in ({"If-Match": condition}, {"If-None-Match": condition}):
        assert client.get(replace(frame, image_frame_id="0" * 32), headers=headers).status == 404
        assert client.get(replace(frame, datastore_id="0" * 32), headers=headers).status == 403
        assert client.get(frame, headers={"Accept": "text/html", **headers}).status == 406


def test_redirect_ignores_preconditions(ask):
    assert ask("delivery=url", If_Match='"other"').status == 303


def test_document_with_a_url_matches_no_tag(client, health_imaging):
    large = health_imaging.add_frame(SERVED, bytes(INLINE_LIMIT + 1), "image/jph")

    assert client.get(large, headers={"Accept": JSON, "If-Match": '"other"'}).status == 412
    assert client.get(large, headers={"Accept": JSON, "If-Match": "*"}).status == 200


# Precedence


def test_if_match_comes_before_if_none_match(ask, tag):
    assert ask(If_Match='"other"', If_None_Match=tag).status == 412
    assert ask(If_Match='"other"', If_None_Match="*").status == 412
    assert ask(If_Match=tag, If_None_Match=tag).status == 304
    assert ask(If_Match="*", If_None_Match=tag).status == 304
    assert ask(If_Match=tag, If_None_Match='"other"').status == 200


def test_if_none_match_comes_before_the_range(ask, tag):
    assert ask(If_None_Match=tag, Range="bytes=0-9", If_Range=tag).status == 304


def test_matching_if_none_match_of_post_answers_412(ask, tag):
    for condition in (tag, f"W/{tag}", "*"):
        answer = ask(method="POST", If_None_Match=condition)
        assert (answer.status, slug(answer)) == (412, "precondition-failed")
    assert ask(method="POST", If_None_Match='"other"').status == 200


@pytest.mark.parametrize("date", ["Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 2100 23:59:59 GMT", "yesterday"])
def test_date_conditions_are_ignored(ask, date):
    assert ask(If_Unmodified_Since=date).status == 200
    assert ask(If_Modified_Since=date).status == 200
    assert "Last-Modified" not in ask().headers


# Lists of entity tags


@pytest.mark.parametrize(
    ("value", "any_", "strong", "weak"),
    [
        ("*", True, [], []),
        ('"a"', False, ['"a"'], []),
        ('W/"a"', False, [], ['"a"']),
        ('"a,b" , W/"c"', False, ['"a,b"'], ['"c"']),
        ('""', False, ['""'], []),
        ('"a" x, "b"', False, ['"a"', '"b"'], []),
        ('w/"a"', False, ['"a"'], []),
        ("a", False, [], []),
        ("", False, [], []),
    ],
)
def test_list_of_entity_tags_is_parsed(value, any_, strong, weak):
    assert EntityTags.parse(value) == EntityTags(any_, frozenset(strong), frozenset(weak))


@given(st.text())
def test_any_list_of_entity_tags_is_parsed_without_an_error(value):
    EntityTags.parse(value)


@pytest.mark.parametrize("value", ['"' * 10_000, 'W/"' * 3_000, '"a", ' * 2_000, '"' + "a" * 10_000])
def test_long_list_of_entity_tags_is_parsed_quickly(value):
    started = time.thread_time()
    EntityTags.parse(value)
    assert time.thread_time() - started < 0.1


def test_entity_tags_differ_by_representation_and_media_type():
    forms = {form for each in [*sorted(set(STORED.values())), "x/y"] for form in forms_of(each)}
    forms |= {form for syntax, each in STORED.items() for form in dicomweb_forms_of(each, syntax)}
    by_content = {}
    for form in forms:
        by_content.setdefault((form.representation, form.content_type), set()).add(FrameTag.of(FRAME, form).value)
    assert all(len(values) == 1 for values in by_content.values())
    tags = set().union(*by_content.values())
    assert len(tags) == len(by_content) > 40
    assert all(EntityTags.parse(tag).strong == {tag} for tag in tags)


def test_if_match_of_an_unknown_image_set_answers_404(client, health_imaging):
    path = {"datastoreId": SERVED, "imageSetId": "0" * 32}
    assert client.call("GET", INDEX_ROUTE, path, headers={"If-Match": "*"}).status == 404
