"""Packets of a resolution, written by encoders and made by hand."""

from __future__ import annotations

from contextlib import suppress

import imagecodecs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framegate.jpeg2000.codestream import EOC, NotDivisibleError, read_codestream
from framegate.jpeg2000.packets import CodingStyle, ImageArea, check_packets
from tests.unit.codestreams import (
    COD,
    COLOUR,
    GREY_8,
    GREY_16,
    SIZ,
    SOT,
    Prefix,
    assert_resolutions_are_those_of_the_whole,
    by_pillow,
    by_resolution,
    coding_style,
    data_of,
    encoded,
    find,
    image,
    joined,
    number,
    packets_of,
    resolution_ends,
    start_of_packet,
    tile_part,
    tile_parts,
    within,
)

CODINGS = [
    pytest.param({}, id="default"),
    pytest.param({"progression": "RLCP"}, id="RLCP"),
    pytest.param({"codeblock_size": (4, 4)}, id="smallest code-blocks"),
    pytest.param({"codeblock_size": (64, 16)}, id="wide code-blocks"),
    pytest.param({"precinct_size": (32, 32), "codeblock_size": (16, 16)}, id="precincts"),
    pytest.param({"precinct_size": (16, 64), "codeblock_size": (4, 8)}, id="tall precincts"),
    pytest.param({"precinct_size": (16, 32), "codeblock_size": (8, 8), "progression": "RLCP"}, id="precincts in RLCP"),
    pytest.param({"offset": (3, 5), "tile_size": (200, 200)}, id="offset"),
    pytest.param(
        {"offset": (33, 17), "tile_size": (200, 200), "precinct_size": (16, 16), "codeblock_size": (8, 8)},
        id="offset and precincts",
    ),
    pytest.param({"irreversible": True, "quality_mode": "rates", "quality_layers": [20]}, id="lossy"),
]


@pytest.mark.parametrize("pixels", [GREY_8, GREY_16, COLOUR], ids=["8 bits", "16 bits", "colours"])
@pytest.mark.parametrize("options", CODINGS)
def test_packets_written_by_openjpeg_are_read(options, pixels):
    assert_is_divided_as_openjpeg_wrote_it(by_resolution(pixels, 3, **options))


def assert_is_divided_as_openjpeg_wrote_it(content):
    _, ends = resolution_ends(content)

    assert content[ends[-1] :] == EOC
    if number(content, find(content, SIZ) + 14, 8) == 0:
        assert_resolutions_are_those_of_the_whole(content, by_openjph=False)
    else:
        # Pillow cannot reduce an image with an offset, so this only checks that the part decodes at full size.
        for end in ends:
            assert imagecodecs.jpeg2k_decode(content[:end] + EOC).size


@pytest.mark.parametrize("options", CODINGS)
def test_only_the_end_of_the_last_packet_ends_a_resolution(options):
    content, lengths, data = by_pillow(COLOUR, 3, **options)
    count = packets_of(content, 3)[0]
    head = content[: find(content, SOT)]
    for packets in range(count + 3):
        end = sum(lengths[:packets])
        for size in {max(0, end - 1), end, end + 1}:
            prefix = Prefix(head + tile_part(0, 4, data[:size]))
            codestream = read_codestream(prefix)
            if size == sum(lengths[:count]):
                assert codestream.end_of(0, prefix) == len(prefix.content)
            else:
                with pytest.raises(NotDivisibleError):
                    codestream.end_of(0, prefix)


def test_packets_may_start_with_a_marker():
    content = by_resolution(COLOUR, 3, before_packet=start_of_packet)
    content = within(content, COD, 4, b"\2")
    assert_resolutions_are_those_of_the_whole(content, by_openjph=False)


@pytest.mark.parametrize("encoder", ["OpenJPEG", "OpenJPH"])
def test_resolution_with_markers_after_packet_headers_decodes_or_is_indivisible(encoder):
    """With EPH markers (ITU-T T.800, A.8.2), OpenJPEG expects the markers of packets that were cut off."""
    # In a constant image, each packet is a header of one byte.
    constant = image(50, 50, dtype="uint8", kind="constant")
    if encoder == "OpenJPEG":
        content, lengths, data = by_pillow(constant, 2)
        assert lengths == [1, 1, 1]
    else:
        content = encoded(constant, tlm=False)
        data = b"".join(map(data_of, tile_parts(content)))
    content = joined(content, [tile_part(n, 3, data[n : n + 1] + b"\xff\x92") for n in range(3)])
    with suppress(NotDivisibleError):
        assert_resolutions_are_those_of_the_whole(within(content, COD, 4, b"\4"), by_openjph=encoder == "OpenJPH")


def test_unannounced_marker_is_read_as_a_packet():
    content = by_resolution(COLOUR, 3, before_packet=start_of_packet)
    with pytest.raises(NotDivisibleError):
        resolution_ends(content)


def test_resolution_without_pixels_has_no_packets():
    style = coding_style(decompositions=2)
    # A single pixel, column or row at an odd coordinate has only high frequencies.
    for area in (ImageArea(1, 1, 2, 2), ImageArea(1, 0, 2, 60), ImageArea(0, 1, 60, 2)):
        check_packets(b"", 0, 0, 0, area, style)
        check_packets(b"", 0, 0, 1, area, style)
        check_packets(b"\0", 0, 1, 2, area, style)
        with pytest.raises(NotDivisibleError, match="exactly one resolution"):
            check_packets(b"\0", 0, 1, 1, area, style)


@pytest.mark.parametrize("size", [(2, 2), (2, 10), (10, 2), (10, 10)])
def test_code_blocks_have_4_to_1024_samples_on_a_side(size):
    check_packets(b"\0", 0, 1, 0, ImageArea(0, 0, 64, 64), coding_style(0, block_size=size))


@pytest.mark.parametrize("size", [(1, 2), (2, 1), (10, 11), (11, 10)])
def test_code_blocks_of_other_sizes_are_indivisible(size):
    with pytest.raises(NotDivisibleError, match="codes lengths"):
        check_packets(b"\0", 0, 1, 0, ImageArea(0, 0, 64, 64), coding_style(0, block_size=size))


# Packet headers made by hand

HT, MQ = 0x40, 0


@pytest.mark.parametrize(
    ("block_style", "passes", "lengths", "size"),
    [
        pytest.param(MQ, "0", "0 101", 5, id="1 pass"),
        pytest.param(MQ, "10", "0 1011", 11, id="2 passes"),
        pytest.param(MQ, "1100", "0 1011", 11, id="3 passes"),
        pytest.param(MQ, "1110", "0 10110", 22, id="5 passes"),
        pytest.param(MQ, "1111 00000", "0 10110", 22, id="6 passes"),
        pytest.param(MQ, "1111 11110", "0 10110111", 183, id="36 passes"),
        pytest.param(MQ, "1111 11111 0000000", "0 10110111", 183, id="37 passes"),
        pytest.param(MQ, "1111 11111 1111111", "0 1011011101", 733, id="164 passes"),
        pytest.param(MQ, "0", "110 10110", 22, id="length of 5 bits"),
        pytest.param(MQ, "0", "11111110 1111111111", 1023, id="header that ends in ones"),
        pytest.param(HT, "0", "0 101", 5, id="HT, cleanup"),
        pytest.param(HT, "10", "0 101 011", 5 + 3, id="HT, cleanup and one refinement"),
        pytest.param(HT, "1100", "0 101 0110", 5 + 6, id="HT, cleanup and two refinements"),
        pytest.param(HT, "1100", "10 1011 01101", 11 + 13, id="HT, lengths of a bit more"),
        pytest.param(HT, "1101", "0 10110", 22, id="HT, a set of placeholders"),
        pytest.param(HT, "1110", "0 10110 011", 22 + 3, id="HT, placeholders and one refinement"),
        pytest.param(HT, "1111 00000", "0 10110 0110", 22 + 6, id="HT, placeholders and two refinements"),
        pytest.param(HT, "1111 00001", "0 10110", 22, id="HT, two sets of placeholders"),
        pytest.param(HT, "1111 11111 1111111", "0 1011011101 101", 733 + 5, id="HT, 54 sets of placeholders"),
    ],
)
def test_code_block_length_is_read_from_its_header(block_style, passes, lengths, size):
    """ITU-T T.800, table B.4 and B.10.7.1; ITU-T T.814, B.3."""
    # The packet is not empty, and includes a code-block with two missing bit-planes.
    head = packet_header("1 1 001" + passes + lengths)
    style, area = coding_style(0, block_style), ImageArea(0, 0, 64, 64)
    content = b"before" + head + bytes(size)
    check_packets(content, 6, len(content), 0, area, style)
    for wrong in (content[:-1], content + b"\0"):
        with pytest.raises(NotDivisibleError):
            check_packets(wrong, 6, len(wrong), 0, area, style)


def packet_header(bits):
    """Pack bits into bytes, with a stuffing bit after each byte of ones (ITU-T T.800, B.10.1)."""
    bits, content = bits.replace(" ", ""), bytearray()
    while bits or content[-1] == 0xFF:
        count = 7 if content and content[-1] == 0xFF else 8
        content.append(int(bits[:count].ljust(count, "0"), 2))
        bits = bits[count:]
    return bytes(content)


@st.composite
def codings(draw):
    """Options for encoding with OpenJPEG."""
    block = draw(st.sampled_from([(4, 4), (8, 4), (16, 16), (64, 64)]))
    options = {"progression": draw(st.sampled_from(["RPCL", "RLCP"])), "codeblock_size": block}
    if draw(st.booleans()):
        options["precinct_size"] = tuple(side * draw(st.sampled_from([2, 4])) for side in block)
    if draw(st.booleans()):
        options |= {"offset": (draw(st.integers(0, 40)), draw(st.integers(0, 40))), "tile_size": (200, 200)}
    return options


@given(
    st.integers(8, 80),
    st.integers(8, 80),
    st.sampled_from([1, 3]),
    st.integers(0, 3),
    st.sampled_from(["structure", "noise", "constant"]),
    codings(),
)
def test_packets_written_by_openjpeg_are_read_for_any_coding(rows, columns, components, decompositions, kind, options):
    pixels = image(rows, columns, components=components, dtype="uint8", kind=kind)
    assert_is_divided_as_openjpeg_wrote_it(by_resolution(pixels, decompositions, **options))


EDGES = st.lists(st.one_of(st.integers(0, 200), st.integers(0, 2**32 - 1)), min_size=2, max_size=2, unique=True).map(
    sorted
)
STYLES = st.builds(
    CodingStyle,
    components=st.sampled_from([1, 2, 3, 16_384]),
    decompositions=st.just(32),
    by_position=st.booleans(),
    block_width=st.integers(1, 11),
    block_height=st.integers(2, 10),
    block_style=st.sampled_from([0, 0x40, 0x48, 0x2A]),
    precincts=st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), min_size=33, max_size=33).map(tuple),
    may_have_sop=st.booleans(),
)
# Packets that are not empty begin with a set bit, so most of these bytes have many.
PACKETS = st.lists(st.sampled_from([0, 0x7F, 0x80, 0x91, 0x92, 0xC0, 0xEF, 0xFE, 0xFF, 0x55]), max_size=200).map(bytes)


@settings(max_examples=300)
@given(EDGES, EDGES, STYLES, st.integers(0, 32), PACKETS, st.integers(0, 20))
def test_arbitrary_bytes_raise_no_other_error(across, down, style, resolution, content, start):
    area = ImageArea(across[0], down[0], across[1], down[1])
    start = min(start, len(content))
    with suppress(NotDivisibleError):
        check_packets(content, start, len(content), resolution, area, style)
