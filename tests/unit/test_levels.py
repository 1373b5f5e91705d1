"""Levels join to the frame, however damaged it is, and all requests find the same boundaries."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from framegate.delivery.portions import ByLevels, ByResolution, BySize
from framegate.delivery.resolutions import MIN_READ_BYTES, StreamPrefix, TooLargeError, cut
from framegate.jpeg2000.codestream import EOC
from tests.unit.codestreams import (
    CHANGE,
    COD,
    COLOURS,
    CONTENT,
    GREY_8,
    PLAIN,
    REAL,
    SOT,
    TLM,
    by_resolution,
    changed,
    encoded,
    file_of,
    find,
    header,
    image,
    joined,
    replaced,
    resolution_ends,
    tile_part,
    tile_parts,
    with_segment,
    within,
)

NO_LIMIT = 1 << 30
LEVELS = 6
"""One more level than any frame in these tests has."""


class Stream:
    """A frame in memory with the interface of `FrameStream`.

    Parameters
    ----------
    content : bytes
        The frame.
    is_announced : bool
        Whether its length is known before reading.
    max_piece_bytes : int
        Maximum bytes that one read returns.
    """

    def __init__(self, content, *, is_announced=True, max_piece_bytes=NO_LIMIT):
        self.content = content
        self.content_length = len(content) if is_announced else None
        self.max_piece_bytes = max_piece_bytes
        self.bytes_read = 0

    def read(self, max_bytes):
        start = self.bytes_read
        piece = self.content[start : start + min(max_bytes, self.max_piece_bytes)]
        self.bytes_read += len(piece)
        return piece

    def __iter__(self):
        while piece := self.read(MIN_READ_BYTES):
            yield piece


def answer(content, selection, max_bytes=NO_LIMIT, **stream):
    """The bytes for one request and their portion of the frame; None if they do not fit."""
    prefix = StreamPrefix(Stream(content, **stream), max_bytes)
    try:
        taken = cut(prefix, selection)
    except TooLargeError:
        return None
    return (b"".join(prefix.all()) if taken.content is None else taken.content), taken.portion


def boundaries(content, levels=LEVELS):
    """Where the levels of a frame end, found by requesting each of them alone."""
    ends = [0]
    for level in range(levels):
        ends.append(ends[-1] + len(answer(content, ByLevels(level, level))[0]))
    return ends


def assert_levels_join(content, levels=LEVELS):
    """Check that every range of levels has the frame's bytes between the same boundaries, from its start to its end."""
    ends = boundaries(content, levels)
    assert ends[-1] == len(content)
    told = set()
    for first in range(levels):
        for last in [*range(first, levels), None]:
            end = len(content) if last is None else ends[last + 1]
            taken, portion = answer(content, ByLevels(first, last))
            assert taken == content[ends[first] : end]
            told.add(portion.resolutions)
            if portion.is_whole:
                assert (first, end) == (0, len(content))
            if portion.resolution is not None:
                assert taken
                assert portion.resolution.number == last or end == len(content)
        assert portion.is_whole == (first == 0)
    # All responses have the same number of resolutions, or none has one.
    assert len(told) == 1
    return ends


def assert_images_are_proved_or_the_frame(content):
    """Check that an image consists of all levels up to its own, or is the whole frame."""
    ends = boundaries(content)
    for selection in [*(ByResolution(level) for level in range(LEVELS)), BySize(1), BySize(30), BySize(9999)]:
        taken, portion = answer(content, selection)
        if portion.is_whole:
            assert taken == content
        else:
            assert taken.endswith(EOC)
            assert content[: ends[portion.resolution.number + 1]].endswith(taken[: -len(EOC)])


SMALL = encoded(image(6, 9), resolutions=2)
SMALL_PLAIN = encoded(image(6, 9), resolutions=2, tlm=False)


@pytest.mark.parametrize("content", REAL)
def test_levels_of_a_valid_frame_are_its_tile_parts(content):
    codestream, ends = resolution_ends(content)

    assert assert_levels_join(content)[1 : len(ends)] == ends[:-1]
    assert len(codestream.resolutions) == len(ends)


@pytest.mark.parametrize("content", [SMALL, SMALL_PLAIN, file_of(SMALL)], ids=["TLM", "no TLM", "file"])
@pytest.mark.parametrize("change", [0x01, 0x80], ids=hex)
def test_levels_join_whichever_byte_is_changed(content, change):
    for position in range(len(content)):
        assert_levels_join(replaced(content, position, bytes([content[position] ^ change])), levels=4)


@pytest.mark.parametrize("content", [SMALL, SMALL_PLAIN, file_of(SMALL)], ids=["TLM", "no TLM", "file"])
def test_levels_join_wherever_the_frame_is_truncated(content):
    for size in range(len(content)):
        assert_levels_join(content[:size], levels=4)


def part_lengths(content, *wrong):
    """The codestream with different lengths in its TLM."""
    lengths = b"".join(length.to_bytes(4, "big") for length in wrong)
    return with_segment(content, TLM, b"\0\x40" + lengths)


PARTS = tile_parts(PLAIN)
LENGTHS = [len(part) for part in PARTS]


def with_sot(part, offset, new):
    """The codestream with some bytes of a tile-part's header replaced."""
    return joined(PLAIN, [replaced(each, offset, new) if n == part else each for n, each in enumerate(PARTS)])


BROKEN = {
    "wrong index of the last tile-part": with_sot(2, 10, b"\xa0"),
    "wrong index of the second tile-part": with_sot(1, 10, b"\xa0"),
    "last length of 0, which is: to the end": with_sot(2, 6, bytes(4)),
    "second length of 0": with_sot(1, 6, bytes(4)),
    "second length of 4 gigabytes": with_sot(1, 6, b"\xff" * 4),
    "second tile-part a byte short": with_sot(1, 6, (LENGTHS[1] - 1).to_bytes(4, "big")),
    "second tile-part a byte long": with_sot(1, 6, (LENGTHS[1] + 1).to_bytes(4, "big")),
    "second tile-part of another tile": with_sot(1, 4, b"\0\1"),
    "second tile-part of nine": with_sot(1, 11, b"\x09"),
    "tile-parts swapped": joined(PLAIN, [PARTS[0], PARTS[2], PARTS[1]]),
    "first tile-part swapped": joined(PLAIN, [PARTS[1], PARTS[0], PARTS[2]]),
    "second tile-part twice": joined(PLAIN, [PARTS[0], PARTS[1], PARTS[1], PARTS[2]]),
    "last tile-part twice": joined(PLAIN, [*PARTS, PARTS[2]]),
    "last tile-part missing": joined(PLAIN, PARTS[:2]),
    "second tile-part missing": joined(PLAIN, [PARTS[0], PARTS[2]]),
    "no EOC": PLAIN[:-2],
    "bytes behind the EOC": PLAIN + b"\xff\x90 more" * 9,
    "two codestreams": PLAIN + CONTENT,
    "TLM with a wrong second length": part_lengths(PLAIN, LENGTHS[0], LENGTHS[1] + 1, LENGTHS[2]),
    "TLM with a second length of 4 gigabytes": part_lengths(PLAIN, LENGTHS[0], 2**32 - 1, LENGTHS[2]),
    "TLM with a second length of 0": part_lengths(PLAIN, LENGTHS[0], 0, LENGTHS[2]),
    "TLM with a wrong last length": part_lengths(PLAIN, *LENGTHS[:2], 2**32 - 1),
    "file whose box ends within the second tile-part": file_of(PLAIN[: find(PLAIN, SOT) + LENGTHS[0] + 20]) + PLAIN,
    "file with garbage behind it": file_of(CONTENT) + bytes(99),
    "one tile-part": encoded(image(40, 60), tilepart=None),
    "nothing": b"",
    "no codestream": bytes(1000),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_levels_of_a_damaged_frame_join_and_its_images_are_verified(content):
    assert_levels_join(content)
    assert_images_are_proved_or_the_frame(content)


def test_levels_below_the_damage_are_cut():
    content = BROKEN["wrong index of the last tile-part"]
    start = find(content, SOT)

    assert boundaries(content)[1:3] == [start + LENGTHS[0], start + LENGTHS[0] + LENGTHS[1]]
    assert not answer(content, ByResolution(1))[1].is_whole


def test_first_unverified_level_is_the_rest_and_higher_levels_are_empty():
    content = BROKEN["second length of 0"]
    end_of_first = find(content, SOT) + LENGTHS[0]

    assert boundaries(content) == [0, end_of_first, *[len(content)] * (LEVELS - 1)]


def test_bytes_after_a_tile_part_do_not_change_its_level():
    """A request that reads further must not find a marker (SOP) that starts in one tile-part and ends in the next."""
    # The only packet of a resolution without code-blocks: a header of eight ones and the byte after them.
    packet = b"\xff\x91"
    frame = header(1, 1, decompositions=2) + tile_part(0, 3, b"\0") + tile_part(1, 3, packet)
    frame = within(frame, COD, 4, b"\2")
    broken = frame + b"\0\4" + bytes(100)
    proved_end = len(frame)

    assert boundaries(broken)[2] == proved_end
    assert_levels_join(broken)


@settings(max_examples=300)
@given(st.sampled_from(REAL), st.lists(CHANGE, min_size=1, max_size=5))
def test_levels_of_any_damaged_frame_join(content, changes):
    broken = changed(content, changes)
    assert_levels_join(broken)
    assert_images_are_proved_or_the_frame(broken)


@st.composite
def damaged_tile_parts(draw):
    """The tile-parts of a valid frame, each possibly damaged, missing, repeated or moved."""
    content = draw(st.sampled_from([PLAIN, CONTENT, COLOURS]))
    parts = [
        changed(part, draw(st.lists(CHANGE, max_size=1)))
        for part in draw(st.lists(st.sampled_from(tile_parts(content)), min_size=1, max_size=6))
    ]
    parts = draw(st.sampled_from([parts, tile_parts(content)[:2] + parts, tile_parts(content)[:1] + parts]))
    return joined(content, parts) + draw(st.binary(max_size=20))


@settings(max_examples=300)
@given(damaged_tile_parts())
def test_levels_join_for_any_tile_parts(content):
    assert_levels_join(content)
    assert_images_are_proved_or_the_frame(content)


@settings(max_examples=300)
@given(
    st.sampled_from([*REAL, *BROKEN.values()]),
    st.lists(CHANGE, max_size=2),
    st.integers(0, 20_000),
    st.booleans(),
    st.integers(1, 5000),
)
@example(CONTENT, [], len(CONTENT), True, 5000)
@example(CONTENT, [], len(CONTENT) - 1, True, 5000)
@example(CONTENT, [], len(CONTENT), False, 5000)
@example(BROKEN["TLM with a second length of 4 gigabytes"], [], 20_000, False, 5000)
def test_size_limit_refuses_levels_but_never_changes_them(content, changes, max_bytes, is_announced, max_piece_bytes):
    """A response depends neither on how the bytes arrive nor on whether other responses were too large."""
    content = changed(content, changes)
    how = {"is_announced": is_announced, "max_piece_bytes": max_piece_bytes}
    for first in range(4):
        for last in (first, first + 1, None):
            unlimited = answer(content, ByLevels(first, last))
            limited = answer(content, ByLevels(first, last), max_bytes, **how)
            assert limited == unlimited or (limited is None and len(content) > max_bytes)
    for level in range(4):
        unlimited = answer(content, ByResolution(level))
        taken, portion = answer(content, ByResolution(level), max_bytes, **how)
        if portion.is_whole:
            assert taken == content
        else:
            assert (taken, portion) == unlimited
            assert len(taken) <= max_bytes


@pytest.mark.parametrize("content", [CONTENT, PLAIN, COLOURS, by_resolution(GREY_8, 3)])
def test_level_is_read_no_further_than_its_end(content):
    for level, end in enumerate(resolution_ends(content)[1]):
        stream = Stream(content, max_piece_bytes=64)
        cut(StreamPrefix(stream, NO_LIMIT), ByLevels(level, level))
        assert stream.bytes_read <= end + 64


def test_image_that_exceeds_the_limit_by_its_end_marker_is_the_whole_frame():
    end = resolution_ends(CONTENT)[1][1]

    assert answer(CONTENT, ByResolution(1), end + 1)[1].is_whole
    assert len(answer(CONTENT, ByResolution(1), end + 2)[0]) == end + 2
