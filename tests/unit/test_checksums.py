"""Combined CRC32 checksums."""

from base64 import b64decode
from zlib import crc32

from hypothesis import given
from hypothesis import strategies as st

from framegate.aws.checksums import base64_of, crc32_combine


@given(st.lists(st.binary(max_size=300), max_size=6))
def test_combined_checksum_of_parts_equals_that_of_the_whole(parts):
    checksum = 0
    for part in parts:
        checksum = crc32_combine(checksum, crc32(part), len(part))
    assert checksum == crc32(b"".join(parts))


def test_checksums_of_large_parts_combine():
    part = bytes(range(256)) * 32_768
    assert crc32_combine(crc32(part), crc32(part), len(part)) == crc32(part + part)


@given(st.integers(0, 2**32 - 1))
def test_base64_encodes_four_bytes_in_big_endian_order(crc):
    assert b64decode(base64_of(crc)) == crc.to_bytes(4, "big")
