"""Where the resolutions of a codestream end, and how many bytes Framegate reads to find out."""

from __future__ import annotations

from itertools import accumulate

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framegate.jpeg2000 import codestream as codestream_module
from framegate.jpeg2000.codestream import EOC, NotDivisibleError, read_codestream
from framegate.jpeg2000.packets import check_packets
from tests.unit.codestreams import (
    COD,
    COLOURS,
    COM,
    CONTENT,
    GREY_8,
    PIXELS,
    PLAIN,
    PLT,
    SIZ,
    SOT,
    TLM,
    Prefix,
    assert_resolutions_are_those_of_the_whole,
    by_openjpeg,
    by_resolution,
    data_of,
    encoded,
    find,
    header,
    image,
    joined,
    numbers,
    replaced,
    resolution_ends,
    segment,
    tile_part,
    tile_parts,
    with_segment,
    within,
)

# Sizes and ends


SIZES = [(1, 1), (1, 9), (9, 1), (2, 2), (33, 65), (64, 64), (127, 50), (200, 3)]


@pytest.mark.parametrize("components", [1, 3])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
@pytest.mark.parametrize(("rows", "columns"), SIZES)
def test_resolutions_have_the_sizes_of_their_decoded_images(rows, columns, dtype, components):
    content = encoded(image(rows, columns, components=components, dtype=dtype), resolutions=4)
    codestream = read_codestream(Prefix(content))
    assert [(each.number, each.rows, each.columns) for each in codestream.resolutions] == [
        (4 - skip, *imagecodecs.htj2k_decode(content, skipres=skip).shape[:2]) for skip in range(4, -1, -1)
    ]


@pytest.mark.parametrize("tlm", [True, False], ids=["TLM", "no TLM"])
@pytest.mark.parametrize("decompositions", [1, 2, 5, 8, 32])
@pytest.mark.parametrize(("rows", "columns"), SIZES)
def test_each_resolution_ends_with_its_tile_part(rows, columns, decompositions, tlm):
    content = encoded(image(rows, columns), resolutions=decompositions, tlm=tlm)
    lengths = [len(part) for part in tile_parts(content)]
    _, ends = resolution_ends(content)

    assert len(lengths) == decompositions + 1
    assert ends == list(accumulate(lengths, initial=find(content, SOT)))[1:]
    assert content[ends[-1] :] == EOC


def test_tlm_does_not_change_the_lengths_of_tile_parts():
    (_, with_tlm), (_, without_tlm) = resolution_ends(CONTENT), resolution_ends(PLAIN)

    assert {a - b for a, b in zip(with_tlm, without_tlm, strict=True)} == {len(CONTENT) - len(PLAIN)}


@pytest.mark.parametrize("content", [CONTENT, COLOURS, PLAIN], ids=["grey", "colours", "no TLM"])
def test_both_decoders_decode_a_resolution_to_the_same_image(content):
    codestream, ends = resolution_ends(content)
    for resolution, end in zip(codestream.resolutions, ends, strict=True):
        skip = len(ends) - 1 - resolution.number
        part = content[:end] + EOC
        whole = imagecodecs.htj2k_decode(content, skipres=skip)
        assert np.array_equal(imagecodecs.htj2k_decode(part, skipres=skip), whole)
        assert np.array_equal(by_openjpeg(part, skip, resolution), whole)


def test_resolution_ends_can_be_read_in_any_order():
    prefix = Prefix(CONTENT)
    codestream = read_codestream(prefix)
    ends = [codestream.end_of(number, prefix) for number in (1, 0, 2, 1)]

    _, (base, middle, full) = resolution_ends(CONTENT)
    assert ends == [middle, base, full, middle]


def test_codestream_with_one_resolution_is_divisible():
    content = imagecodecs.jpeg2k_encode(PIXELS, level=0, reversible=True, resolutions=1, codecformat="j2k")
    content = within(bytes(content), COD, 5, b"\1")
    codestream, (end,) = resolution_ends(content)

    assert [(each.rows, each.columns) for each in codestream.resolutions] == [PIXELS.shape]
    assert content[end:] == EOC


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_openjpeg_codestream_with_one_tile_part_is_indivisible(bits, colour):
    dtype = "uint8" if bits == 8 else "uint16"
    pixels = image(40, 60, components=3 if colour else 1, dtype=dtype) >> (16 - bits if bits > 8 else 0)
    content = bytes(imagecodecs.jpeg2k_encode(pixels, level=0, reversible=True, resolutions=3, bitspersample=bits))
    with pytest.raises(NotDivisibleError, match="not by resolution"):
        resolution_ends(content)
    at = content.index(COD)
    with pytest.raises(NotDivisibleError, match="number of tile-parts differs"):
        resolution_ends(replaced(content, at + 5, b"\1"))


# Bytes read


@pytest.mark.parametrize("content", [CONTENT, PLAIN, COLOURS], ids=["TLM", "no TLM", "colours"])
def test_main_header_is_read_no_further_than_the_next_marker(content):
    prefix = Prefix(content)
    read_codestream(prefix)

    assert len(prefix.given) == find(content, SOT) + len(SOT)


@pytest.mark.parametrize("content", [CONTENT, PLAIN, COLOURS], ids=["TLM", "no TLM", "colours"])
def test_resolution_is_read_no_further_than_its_end(content):
    _, ends = resolution_ends(content)
    for number, end in enumerate(ends):
        prefix = Prefix(content)
        assert read_codestream(prefix).end_of(number, prefix) == end
        assert len(prefix.given) == end


def test_resolution_with_tlm_is_read_in_one_request():
    prefix = Prefix(CONTENT)
    codestream = read_codestream(prefix)
    prefix.asks.clear()
    end = codestream.end_of(2, prefix)

    assert prefix.asks[0] == end


# Optional headers


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(with_segment(CONTENT, COM, b"\0\1of a writer"), id="comment"),
        pytest.param(with_segment(CONTENT, b"\xff\x63", bytes(4)), id="CRG"),
        pytest.param(with_segment(CONTENT, b"\xff\x57", bytes(4)), id="PLM"),
        pytest.param(
            joined(PLAIN, [tile_part(n, 0, data_of(part)) for n, part in enumerate(tile_parts(PLAIN))]),
            id="unknown number of tile-parts",
        ),
        pytest.param(
            joined(
                PLAIN,
                [
                    tile_part(n, 3, data_of(part), segment(PLT, b"\0\1") + segment(COM, b"\0\1a"))
                    for n, part in enumerate(tile_parts(PLAIN))
                ],
            ),
            id="packet lengths and a comment in each tile-part",
        ),
    ],
)
def test_harmless_segments_do_not_change_the_ends(content):
    _, ends = resolution_ends(content)

    assert ends == list(accumulate(map(len, tile_parts(content)), initial=find(content, SOT)))[1:]
    assert_resolutions_are_those_of_the_whole(content)


@pytest.mark.parametrize("length_size", [2, 4])
@pytest.mark.parametrize("tile_size", [0, 1, 2])
def test_tlm_entries_may_have_any_size(tile_size, length_size):
    lengths = b"".join(bytes(tile_size) + len(part).to_bytes(length_size, "big") for part in tile_parts(PLAIN))
    content = with_segment(PLAIN, TLM, bytes([0, tile_size << 4 | (length_size == 4) << 6]) + lengths)
    _, ends = resolution_ends(content)

    assert content[ends[-1] :] == EOC


def test_tlm_may_come_in_several_segments_in_any_order():
    entries = [len(part).to_bytes(2, "big") for part in tile_parts(PLAIN)]
    content = PLAIN
    for index in (2, 0, 1):
        content = with_segment(content, TLM, bytes([index, 0]) + entries[index])
    _, ends = resolution_ends(content)

    assert content[ends[-1] :] == EOC


def test_offset_image_has_the_sizes_of_its_subsampled_grid():
    content = by_resolution(GREY_8, 3, offset=(3, 6), tile_size=(200, 200))
    codestream = read_codestream(Prefix(content))
    columns, rows = np.arange(3, 3 + GREY_8.shape[1]), np.arange(6, 6 + GREY_8.shape[0])

    # A resolution consists of the grid points that its step divides (ITU-T T.800, B.5).
    assert [(each.columns, each.rows) for each in codestream.resolutions] == [
        (np.count_nonzero(columns % step == 0), np.count_nonzero(rows % step == 0)) for step in (8, 4, 2, 1)
    ]


def test_image_with_an_empty_resolution_is_indivisible():
    for place in (numbers(1, 1), numbers(1, 0), numbers(0, 1)):
        content = within(header(2, 2, decompositions=2) + tile_part(0, 3, b"\0"), SIZ, 14, place)
        with pytest.raises(NotDivisibleError, match="no pixels"):
            read_codestream(Prefix(content))


def test_code_blocks_of_all_resolutions_share_one_maximum(monkeypatch):
    lookups = []
    monkeypatch.setattr(
        codestream_module, "check_packets", lambda *arguments: lookups.append(check_packets(*arguments)) or lookups[-1]
    )
    resolution_ends(CONTENT)
    monkeypatch.setattr(codestream_module, "MAX_BLOCKS", sum(lookups) - 1)

    assert max(lookups) < sum(lookups) - 1
    with pytest.raises(NotDivisibleError, match="more code-blocks"):
        resolution_ends(CONTENT)


# Arbitrary images


@st.composite
def frames(draw):
    """Pixels, and a frame that encodes them as HealthImaging does."""
    dtype = draw(st.sampled_from(["uint8", "uint16", "int8", "int16"]))
    pixels = image(
        draw(st.integers(1, 70)),
        draw(st.integers(1, 70)),
        components=draw(st.sampled_from([1, 3, 4])),
        dtype=dtype,
        kind=draw(st.sampled_from(["structure", "noise", "constant"])),
        seed=draw(st.integers(0, 1000)),
    )
    return pixels, encoded(pixels, resolutions=draw(st.integers(1, 7)), tlm=draw(st.booleans()))


@settings(max_examples=300)
@given(frames())
def test_resolutions_of_any_image_are_those_of_the_whole_frame(frame):
    pixels, content = frame
    _, ends = resolution_ends(content)

    assert np.array_equal(imagecodecs.htj2k_decode(content[: ends[-1]] + EOC), pixels)
    assert_resolutions_are_those_of_the_whole(content)
