"""Checksums of wholes out of those of their parts."""

from base64 import b64decode
from zlib import crc32

from hypothesis import given
from hypothesis import strategies as st

from framegate.aws.checksums import base64_of, crc32_combine


@given(st.lists(st.binary(max_size=300), max_size=6))
def test_checksum_of_parts_is_that_of_the_whole(parts):
    checksum = 0
    for part in parts:
        checksum = crc32_combine(checksum, crc32(part), len(part))
    assert checksum == crc32(b"".join(parts))


def test_parts_may_be_large():
    part = bytes(range(256)) * 32_768
    assert crc32_combine(crc32(part), crc32(part), len(part)) == crc32(part + part)


@given(st.integers(0, 2**32 - 1))
def test_base64_is_of_four_bytes_the_highest_first(crc):
    assert b64decode(base64_of(crc)) == crc.to_bytes(4, "big")
