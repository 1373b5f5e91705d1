"""Decompressing gzip streams of one or several members, broken streams and bombs."""

from __future__ import annotations

import gzip
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framegate.healthimaging import gzip_stream
from framegate.healthimaging.gzip_stream import MAX_PIECE_BYTES, GzipError, decompressed

MIB = 1024 * 1024
MEMBER = gzip.compress(b'{"Study": 1}')


def in_pieces(content, size):
    return [content[start : start + size] for start in range(0, len(content), size)]


def joined(content, size=7, max_bytes=MIB):
    return b"".join(decompressed(in_pieces(content, size), max_bytes))


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5), st.integers(1, 400), st.integers(0, 20))
def test_members_are_concatenated_for_any_piece_size(contents, size, padding):
    """RFC 1952, section 2.2; zeros after a member are what tape drives and `dd` leave."""
    content = b"".join(gzip.compress(each) + bytes(padding) for each in contents)

    assert joined(content, size) == b"".join(contents)
    assert joined(content, size) == gzip.decompress(content)


@given(st.binary(min_size=1, max_size=30), st.integers(1, 60))
def test_bytes_after_the_last_member_are_an_error_unless_they_are_zeros(rest, size):
    content = MEMBER + rest
    if rest.strip(b"\0"):
        with pytest.raises(GzipError):
            joined(content, size)
    else:
        assert joined(content, size) == b'{"Study": 1}'


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_truncated_gzip_is_an_error_at_every_position(size):
    content = MEMBER + MEMBER
    for end in range(len(content)):
        if end == len(MEMBER):
            continue
        with pytest.raises(GzipError, match="is truncated"):
            joined(content[:end], size)


@pytest.mark.parametrize(
    "content", [b"{}", b"\0" + MEMBER, b"\x1f\x8b\x07" + bytes(20)], ids=["JSON", "zero", "method"]
)
def test_bytes_that_are_not_gzip_are_an_error(content):
    with pytest.raises(GzipError, match="is not gzip"):
        joined(content)


@pytest.mark.parametrize("position", [-1, -5], ids=["length", "checksum"])
@pytest.mark.parametrize("member", [0, 1])
def test_wrong_checksum_or_length_of_a_member_is_an_error(member, position):
    members = [bytearray(MEMBER), bytearray(MEMBER)]
    members[member][position] ^= 1
    with pytest.raises(GzipError):
        joined(b"".join(members))


def test_no_piece_is_empty_or_large():
    pieces = list(decompressed(in_pieces(gzip.compress(bytes(5 * MIB)), 10), 5 * MIB))

    assert {0 < len(piece) <= MAX_PIECE_BYTES for piece in pieces} == {True}
    assert sum(map(len, pieces)) == 5 * MIB


def test_bomb_is_an_error_and_takes_little_memory():
    bomb = gzip.compress(bytes(64 * MIB)) * 4
    tracemalloc.start()
    try:
        with pytest.raises(GzipError, match="decompresses to more than 209,715,200 bytes"):
            for _ in decompressed([bomb], 200 * MIB):
                pass
        assert tracemalloc.get_traced_memory()[1] < 8 * MIB
    finally:
        tracemalloc.stop()


def test_document_of_exactly_the_maximum_is_read():
    assert joined(gzip.compress(bytes(1000)), max_bytes=1000) == bytes(1000)
    with pytest.raises(GzipError):
        joined(gzip.compress(bytes(1001)), max_bytes=1000)


def test_endless_members_are_an_error(monkeypatch):
    monkeypatch.setattr(gzip_stream, "MAX_MEMBERS", 10)

    assert joined(gzip.compress(b"a") * 10) == b"a" * 10
    with pytest.raises(GzipError, match="more than 10 gzip members"):
        joined(gzip.compress(b"a") * 11)
