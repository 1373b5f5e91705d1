"""Multipart bodies: written the same way every time, and read whatever they contain."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framegate.delivery.multipart import Envelope, MultipartError, MultipartReader, boundary_of

HTJ2K = "image/jphc; transfer-syntax=1.2.840.10008.1.2.4.202"
ENVELOPE = Envelope("f" * 32, HTJ2K)


def pieces_of(body, size):
    return [body[start : start + size] for start in range(0, len(body), size)] or [b""]


def read(content_type, pieces):
    return [(type_, b"".join(content)) for type_, content in MultipartReader(content_type, pieces).parts()]


def test_body_has_exactly_these_bytes():
    assert b"".join(ENVELOPE.wrap([[b"one"], [b"t", b"wo"]])) == (
        b"--framegate-ffffffffffffffffffffffffffffffff\r\n"
        b"Content-Type: image/jphc; transfer-syntax=1.2.840.10008.1.2.4.202\r\n\r\none\r\n"
        b"--framegate-ffffffffffffffffffffffffffffffff\r\n"
        b"Content-Type: image/jphc; transfer-syntax=1.2.840.10008.1.2.4.202\r\n\r\ntwo\r\n"
        b"--framegate-ffffffffffffffffffffffffffffffff--\r\n"
    )
    assert ENVELOPE.content_type == (
        'multipart/related; type="image/jphc"; boundary=framegate-ffffffffffffffffffffffffffffffff'
    )


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=4), st.integers(1, 64))
def test_written_body_is_read_back_in_pieces_of_any_size(parts, size):
    body = b"".join(ENVELOPE.wrap([part] for part in parts))
    assert len(body) == ENVELOPE.size_of(map(len, parts))
    assert read(ENVELOPE.content_type, pieces_of(body, size)) == [(HTJ2K, part) for part in parts]


@pytest.mark.parametrize("content", [b"\r\n", b"\r\n--", b"--b", b"\r\n--a", b"\r\n\r\n", b"\r\n-", b"x\r\n--B\r\n"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_content_that_resembles_a_delimiter_is_kept(content, size):
    body = b"preamble\r\n--b\r\ncontent-type:a/b \r\nX: y\r\n\r\n" + content + b"\r\n--b--\r\nepilogue"
    assert read("multipart/related; boundary=b", pieces_of(body, size)) == [("a/b", content)]


def test_part_without_headers_has_no_type():
    assert read('multipart/related; boundary="b"', [b"--b\r\n\r\nx\r\n--b--"]) == [("", b"x")]


@pytest.mark.parametrize(
    "body", [b"", b"--b", b"--b\r\n", b"--b\r\nContent-Type: a/b", b"--b\r\n\r\nx", b"--b\r\n\r\nx\r\n--b", b"x" * 1000]
)
def test_truncated_body_is_an_error(body):
    with pytest.raises(MultipartError, match="ends before"):
        read("multipart/related; boundary=b", pieces_of(body, 5))


def test_endless_headers_are_an_error():
    with pytest.raises(MultipartError, match="headers"):
        read("multipart/related; boundary=b", [b"--b\r\nX: ", *[b"y" * 1000] * 100])


@pytest.mark.parametrize("content_type", ["", "image/jph", "multipart/related", "text/plain; boundary=b"])
def test_content_type_without_a_boundary_is_an_error(content_type):
    with pytest.raises(MultipartError, match="not multipart"):
        boundary_of(content_type)


@given(st.binary(max_size=400), st.integers(1, 50))
def test_any_body_is_read_or_refused(body, size):
    try:
        read("multipart/related; boundary=b", pieces_of(body, size))
    except MultipartError:
        return
    assert b"--b--" in body
