"""The parameters of a picture: quality, viewport and window."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framegate.rendering.presentation import Window
from framegate.rendering.request import (
    PictureParameterError,
    PictureRequest,
    Viewport,
    parse_quality,
    parse_viewport,
    parse_window,
)


@pytest.mark.parametrize(("text", "quality"), [("1", 1), ("85", 85), ("100", 100)])
def test_quality_is_read(text, quality):
    assert parse_quality(text) == quality


@pytest.mark.parametrize("text", ["", "0", "101", "-1", "8.5", "+5", "٥", "0001", " 5"])
def test_other_quality_is_refused(text):
    with pytest.raises(PictureParameterError, match="quality must be a whole number from 1 to 100"):
        parse_quality(text)


@pytest.mark.parametrize(
    ("text", "viewport"),
    [
        ("256,128", Viewport(256, 128)),
        ("256,128,,,,", Viewport(256, 128)),
        ("256,128,10,20,30,40", Viewport(256, 128, 10, 20, 30, 40)),
        ("256,128,10.5,,-30,", Viewport(256, 128, 10.5, 0, -30, None)),
    ],
)
def test_viewport_is_read(text, viewport):
    assert parse_viewport(text) == viewport


@pytest.mark.parametrize(
    "text", ["", "256", "256,", "0,1", "16385,1", "1,1,1", "1,1,-1,0,1,1", "1,1,0,0,0,1", "1,1,nan,0,1,1", "a,b"]
)
def test_other_viewport_is_refused(text):
    with pytest.raises(PictureParameterError, match="viewport must be"):
        parse_viewport(text)


def test_thumbnail_has_no_region():
    with pytest.raises(PictureParameterError):
        parse_viewport("1,1,0,0,1,1", with_region=False)


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("40,400", Window(40, 400)),
        ("-600.5,1.5e3,linear", Window(-600.5, 1500)),
        ("0,0.5,linear-exact", Window(0, 0.5, "LINEAR_EXACT")),
        ("0,0.5,SIGMOID", Window(0, 0.5, "SIGMOID")),
    ],
)
def test_window_is_read(text, window):
    assert parse_window(text) == window


@pytest.mark.parametrize(
    "text", ["", "1", "1,0", "1,0.5,linear", "1,-1,sigmoid", "inf,1", "1,1,square", "1,1,linear,2"]
)
def test_other_window_is_refused(text):
    with pytest.raises(PictureParameterError, match="window must be"):
        parse_window(text)


@given(st.text(alphabet="0123456789.,-+einfax_ ", max_size=40))
def test_any_text_is_read_or_refused(text):
    for parse in (parse_quality, parse_viewport, parse_window):
        with suppress(PictureParameterError):
            parse(text)


def test_pictures_that_differ_have_different_names():
    requests = [
        PictureRequest(),
        PictureRequest(quality=50),
        PictureRequest("image/png"),
        PictureRequest(viewport=Viewport(64, 64)),
        PictureRequest(viewport=Viewport(64, 64, 1)),
        PictureRequest(window=Window(40, 400)),
        PictureRequest(window=Window(40, 400, "SIGMOID")),
    ]
    assert len({request.name for request in requests}) == len(requests)
