"""Which representation a client is given."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framegate.problems import NotAcceptable
from framegate.rest.negotiation import Accept, Representation, entity_tag, matching_tag

RAW, JSON = Representation.RAW, Representation.JSON
FRAME = "f" * 32


@pytest.mark.parametrize(
    ("header", "content_type", "expected"),
    [
        (None, "image/jph", RAW),
        ("", "image/jph", RAW),
        ("*/*", "image/jph", RAW),
        ("image/*", "image/jph", RAW),
        ("image/jph", "image/jph", RAW),
        ("IMAGE/JPH", "image/jph", RAW),
        ("image/jph;transfer-syntax=*", "image/jph", RAW),
        ("image/jph", "image/jph;transfer-syntax=1.2.840.10008.1.2.4.202", RAW),
        ("video/*, image/jpeg;q=0.1", "image/jpeg", RAW),
        ("application/*", "application/octet-stream", RAW),
        ("image/avif,image/webp,image/apng,*/*;q=0.8", "image/jph", RAW),
        ("application/json", "image/jph", JSON),
        ("Application/JSON; charset=utf-8", "image/jph", JSON),
        ("application/json, text/plain, */*", "image/jph", JSON),
        ("application/json, image/jph", "image/jph", JSON),
        ("application/json;q=0.5, image/jph", "image/jph", RAW),
        ("application/json;q=0.5, image/jph", "image/jpeg", JSON),
        ("*/*, application/json;q=0", "image/jph", RAW),
        ("image/jph;q=0, */*", "image/jpeg", RAW),
        ("application/json;q=7", "image/jph", JSON),
    ],
)
def test_accept_header_chooses(header, content_type, expected):
    assert Accept.parse(header).choose(content_type) is expected


@pytest.mark.parametrize(
    ("header", "content_type"),
    [
        ("text/html", "image/jph"),
        ("image/jpeg", "image/jph"),
        ("image/jph;q=0, */*", "image/jph"),
        ("image/*;q=0", "image/jph"),
        ("image/jph;q=nonsense", "image/jph"),
        ("application/json;q=0", "image/jph"),
        ("nonsense", "image/jph"),
        (",;,", "image/jph"),
    ],
)
def test_neither_acceptable_is_said(header, content_type):
    with pytest.raises(NotAcceptable, match=f"The frame is {content_type}"):
        Accept.parse(header).choose(content_type)


@given(st.text(), st.sampled_from(["image/jph", "video/mp4", "application/octet-stream", "x"]))
def test_any_header_ends_in_a_choice_or_a_refusal(header, content_type):
    with suppress(NotAcceptable):
        assert Accept.parse(header).choose(content_type) in Representation


def test_representations_have_tags_of_their_own():
    assert entity_tag(FRAME, RAW) == f'"{FRAME}"'
    assert entity_tag(FRAME, JSON) == f'"{FRAME}.json"'


@pytest.mark.parametrize(
    ("if_none_match", "accept", "expected"),
    [
        (f'"{FRAME}"', None, f'"{FRAME}"'),
        (f'W/"{FRAME}"', "*/*", f'"{FRAME}"'),
        (f'"other" ,  "{FRAME}"', "image/jph", f'"{FRAME}"'),
        (f'"{FRAME}.json"', "application/json", f'"{FRAME}.json"'),
        (f'"{FRAME}.json"', "*/*", None),
        (f'"{FRAME}"', "application/json", None),
        (f'"{FRAME}"', "image/jph;q=0", None),
        (FRAME, "*/*", None),
        ('"other"', "*/*", None),
        ("*", "*/*", None),
        ("", "*/*", None),
        (None, "*/*", None),
    ],
)
def test_a_held_and_acceptable_representation_matches(if_none_match, accept, expected):
    assert matching_tag(if_none_match, FRAME, Accept.parse(accept)) == expected


@given(st.text(), st.text())
def test_any_conditional_header_is_survived(if_none_match, accept):
    matching_tag(if_none_match, FRAME, Accept.parse(accept))
