"""Codestreams that are truncated or changed at random: they are divided correctly, or found indivisible."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framegate.jpeg2000.codestream import NotDivisibleError, read_codestream
from tests.unit.codestreams import (
    CHANGE,
    COD,
    COD_BODY,
    CONTENT,
    FILE_TYPE,
    PLAIN,
    REAL,
    SIGNATURE,
    SIZ,
    SIZ_BODY,
    SOC,
    SOD,
    SOT,
    TLM,
    Prefix,
    changed,
    find,
    number,
    resolution_ends,
    segment,
)


def count_divisible_resolutions(content):
    """Count the resolutions before the first indivisible one, and assert that each ends with a tile-part."""
    prefix = Prefix(content)
    try:
        codestream = read_codestream(prefix)
    except NotDivisibleError:
        return 0
    start = None
    for resolution in codestream.resolutions:
        try:
            end = codestream.end_of(resolution.number, prefix)
        except NotDivisibleError:
            return resolution.number
        assert codestream.start < end <= len(content)
        if start is not None:
            assert content[start : start + 2] == SOT
            assert number(content, start + 6, 4) == end - start
        start = end
    return len(codestream.resolutions)


@given(st.sampled_from(REAL), st.data())
def test_truncated_frame_has_the_resolutions_before_its_end(content, data):
    _, ends = resolution_ends(content)
    near_an_end = st.builds(lambda end, more: min(len(content), end + more), st.sampled_from(ends), st.integers(-3, 3))
    size = data.draw(st.one_of(near_an_end, st.integers(0, len(content))))
    prefix = Prefix(content[:size])
    try:
        codestream = read_codestream(prefix)
    except NotDivisibleError:
        assert size < ends[0]
        return
    for resolution, end in zip(codestream.resolutions, ends, strict=True):
        if end <= size:
            assert codestream.end_of(resolution.number, prefix) == end
        else:
            with pytest.raises(NotDivisibleError):
                codestream.end_of(resolution.number, prefix)


@given(st.sampled_from(REAL), st.lists(CHANGE, min_size=1, max_size=5))
def test_changed_frame_has_valid_ends_or_is_indivisible(content, changes):
    count_divisible_resolutions(changed(content, changes))


BEGINNINGS = [
    SOC + SIZ,
    SOC + segment(SIZ, SIZ_BODY),
    SOC + segment(SIZ, SIZ_BODY) + COD,
    SOC + segment(SIZ, SIZ_BODY) + segment(COD, COD_BODY) + TLM,
    CONTENT[: find(CONTENT, SOT)],
    PLAIN[: find(PLAIN, SOT)] + segment(SOT, b"\0\0\0\0\0\x40\0\3"),
    PLAIN[: find(PLAIN, SOT)] + segment(SOT, b"\0\0\0\0\0\x40\0\3") + SOD,
    SIGNATURE,
    SIGNATURE + FILE_TYPE + b"\0\0\0\x40jp2h",
    SIGNATURE + FILE_TYPE + b"\0\0\0\1",
    SIGNATURE + FILE_TYPE + b"\0\0\0\0jp2c",
]


@settings(max_examples=300)
@given(st.sampled_from(BEGINNINGS), st.binary(max_size=300))
def test_arbitrary_bytes_after_a_valid_start_have_valid_ends_or_are_indivisible(beginning, rest):
    count_divisible_resolutions(beginning + rest)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_have_valid_ends_or_are_indivisible(content):
    count_divisible_resolutions(content)


FUZZED = 10_000


def test_broken_frames_raise_no_other_error():
    chance = random.Random(20_240_229)
    divided = 0
    for _ in range(FUZZED):
        content = bytearray(chance.choice(REAL))
        for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
            near = chance.random() < 0.6
            position = chance.randrange(min(len(content), 300) if near else len(content))
            match chance.randrange(6):
                case 0:
                    content[position] ^= 1 << chance.randrange(8)
                case 1:
                    content[position] = chance.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF))
                case 2:
                    content[position : position + 4] = chance.randbytes(4)
                case 3:
                    del content[position : position + chance.randrange(1, 20)]
                case 4:
                    content[position:position] = chance.randbytes(chance.randrange(1, 20))
                case 5:
                    other = chance.choice(REAL)
                    source = chance.randrange(len(other))
                    content[position : position + 30] = other[source : source + 30]
        divided += count_divisible_resolutions(bytes(content)) > 0
    # The changes must neither break nor spare nearly all frames.
    assert FUZZED / 10 < divided < FUZZED * 9 / 10
