"""Content negotiation: the Accept header chooses the representation of a frame."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framegate.problems import NotAcceptable
from framegate.rest.negotiation import Accept, FrameNegotiation, MediaRange, Representation

RAW, MULTIPART, JSON = Representation


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
        # Separators within quoted strings are text.
        ('image/jpeg;x="a,b;q=0", image/jph', "image/jph", RAW),
        ('text/html;x=",image/jph"', "image/jph", None),
        ('image/jph;x="\\",image/jpeg;y=\\"";q=0.5', "image/jph", RAW),
        ('image/jph;transfer-syntax="*"', "image/jph;transfer-syntax=1.2.3", RAW),
        ('image/jph;transfer-syntax="1.2.3"', "image/jph; transfer-syntax=1.2.3", RAW),
        # HealthImaging's media type implies a transfer syntax.
        ("image/jph;transfer-syntax=1.2.3", "image/jph", None),
        ("image/jph;transfer-syntax=1.2.840.10008.1.2.4.202", "image/jph", RAW),
        ("*", "image/jph", RAW),
        ("image/jphc", "image/jph", RAW),
        ("application/octet-stream", "image/jph", RAW),
        ("application/octet-stream;transfer-syntax=*", "image/jph", RAW),
        ("application/octet-stream;transfer-syntax=1.2.840.10008.1.2.1", "image/jph", None),
        # A parameter that the frame's media type lacks excludes nothing; a different value does.
        ("video/mp4;transfer-syntax=1.2.3", "video/mp4", RAW),
        ("image/jph;transfer-syntax=1.2.3", "image/jph;transfer-syntax=1.2.4", None),
        ("image/jph;transfer-syntax=1.2.3;q=0, image/jph", "image/jph;transfer-syntax=1.2.3", None),
        ("image/jph;transfer-syntax=1.2.3;q=0, image/jph", "image/jph;transfer-syntax=1.2.4", RAW),
        ("image/*;q=0.9, image/jph;q=0, */*;q=0.1", "image/jph", None),
        # The weight may stand anywhere, in either case.
        ("image/jph;q=0;x=1", "image/jph", None),
        ("image/jph;x=1;Q=0", "image/jph", None),
        ("image/jph; q = 0.3 , application/json; q=0.2", "image/jph", RAW),
        ("image/jph;q=.5, application/json;q=.4", "image/jph", RAW),
        ("image/jph;q=nan", "image/jph", None),
        ("image/jph;q=1e0", "image/jph", None),
        ("image/jph;q=-1", "image/jph", None),
        ("application/json;q=0.1, application/json;charset=utf-8;q=0.9, image/*;q=0.5", "image/jph", JSON),
        ("multipart/related; type=image/jph", "image/jph", MULTIPART),
        ('multipart/related; type="image/jphc"; transfer-syntax=*', "image/jph", MULTIPART),
        ("multipart/related; type=application/octet-stream; transfer-syntax=*", "image/jph", MULTIPART),
        ('multipart/related; type="*/*"', "video/mp4", MULTIPART),
        ("multipart/related; type=image/jpeg", "image/jph", None),
        ("multipart/related; type=image/jph;q=0.5, */*;q=0.6", "image/jph", RAW),
        ("multipart/related; type=image/jph, */*", "image/jph", MULTIPART),
    ],
)
def test_accept_header_chooses_the_representation(header, content_type, expected):
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
def test_unacceptable_media_type_is_not_acceptable(header, content_type):
    with pytest.raises(NotAcceptable, match=f"available media types: {content_type};"):
        FrameNegotiation(Accept.parse(header)).form(content_type)
    assert Accept.parse(header).choose(content_type) is None


@given(st.text(), st.sampled_from(["image/jph", "video/mp4", "application/octet-stream", "x"]))
def test_any_accept_header_leads_to_a_choice_or_a_refusal(header, content_type):
    assert Accept.parse(header).choose(content_type) in (*Representation, None)


@pytest.mark.parametrize("header", ['"' * 10_000, '"\\' * 5_000, "\\" * 10_000, "a/b," * 2_500, ';"' * 5_000])
def test_long_accept_header_is_parsed_quickly(header):
    started = time.thread_time()
    Accept.parse(header)
    assert time.thread_time() - started < 0.1


def test_media_range_has_its_parameters_and_its_weight():
    assert Accept.parse('Image/JPH; Transfer-Syntax="1.2,3" ;q=0.25').ranges == (
        MediaRange("image/jph", {"transfer-syntax": "1.2,3"}, 0.25),
    )


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["image/jph", "image/*", "*/*", "application/json", "text/html"]),
            st.dictionaries(st.sampled_from(["a", "b", "level"]), st.text(st.characters(codec="ascii"), max_size=8)),
            st.integers(0, 1000),
        ),
        max_size=4,
    )
)
def test_any_valid_accept_header_is_parsed_back(ranges):
    def quoted(value):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    header = ", ".join(
        "; ".join([type_, *(f"{name}={quoted(value)}" for name, value in parameters.items()), f"q={weight / 1000:.3f}"])
        for type_, parameters, weight in ranges
    )
    if ranges:
        assert Accept.parse(header).ranges == tuple(
            MediaRange(type_, parameters, weight / 1000) for type_, parameters, weight in ranges
        )
