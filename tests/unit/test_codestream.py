"""Where the resolutions of a codestream end: on real codestreams, on broken ones, and on ones made to do harm."""

from __future__ import annotations

import io
import random
import tracemalloc
from contextlib import suppress
from itertools import accumulate, pairwise

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from framegate.jpeg2000 import codestream as codestream_module
from framegate.jpeg2000.codestream import EOC, MOST_HEADER_BYTES, NotDivisibleError, read_codestream
from framegate.jpeg2000.packets import CodingStyle, ImageArea, check_packets

SIZ, COD, COC, QCD = b"\xff\x51", b"\xff\x52", b"\xff\x53", b"\xff\x5c"
TLM, PLT, POC, PPM, PPT, COM = b"\xff\x55", b"\xff\x58", b"\xff\x5f", b"\xff\x60", b"\xff\x61", b"\xff\x64"
SOC, SOT, SOD = b"\xff\x4f", b"\xff\x90", b"\xff\x93"
MIB = 1024 * 1024


class Prefix:
    """A frame in memory of which no more is given than was asked for."""

    def __init__(self, content, given=None):
        self.content = content
        self.given = bytearray() if given is None else given
        self.asks = []

    def at_least(self, size):
        self.asks.append(size)
        if size > len(self.given):
            self.given += self.content[len(self.given) : size]
        return self.given


def image(rows, columns, *, components=1, dtype="uint16", kind="structure", seed=7):
    """Something with structure at every scale, noise from the lowest to the highest value, or nothing."""
    shape = (rows, columns) if components == 1 else (rows, columns, components)
    noise = np.random.default_rng(seed)
    lowest, highest = np.iinfo(dtype).min, np.iinfo(dtype).max
    if kind == "nothing":
        return np.full(shape, (lowest + highest + 1) // 2, dtype)
    if kind == "noise":
        return noise.integers(lowest, highest, shape, dtype, endpoint=True)
    y, x = np.mgrid[:rows, :columns]
    smooth = np.sin(x / 7) * np.cos(y / 5) / 4 + 0.5
    smooth = smooth if components == 1 else np.stack([smooth * (1 - 0.1 * n) for n in range(components)], axis=-1)
    return ((smooth + noise.normal(0, 0.01, shape)) * (highest - lowest) + lowest).astype(dtype)


def encoded(pixels, **options):
    """A frame as the service has it."""
    as_the_service_does = {
        "reversible": True,
        "resolutions": 2,
        "tlm": True,
        "tilepart": imagecodecs.HTJ2K.TILEPART.RESOLUTIONS,
    }
    return bytes(imagecodecs.htj2k_encode(pixels, **{**as_the_service_does, **options}))


def resolution_ends(content, given=None):
    """The codestream, and where each of its resolutions ends."""
    prefix = Prefix(content, given)
    codestream = read_codestream(prefix)
    return codestream, [codestream.end_of(each.number, prefix) for each in codestream.resolutions]


def by_openjpeg(content, skip, resolution):
    """The pixels as OpenJPEG decodes them, as far as Pillow has room for their bits."""
    picture = Image.open(io.BytesIO(content))
    # Pillow rounds the size of a resolution, and OpenJPEG rounds it up.
    picture._size = (resolution.columns << skip, resolution.rows << skip)
    picture.reduce = skip
    return np.asarray(picture)


def assert_resolutions_are_those_of_the_whole(content, *, by_openjph=True):
    codestream, ends = resolution_ends(content)
    whole = content[codestream.start :]
    for resolution, end in zip(codestream.resolutions, ends, strict=True):
        skip = len(ends) - 1 - resolution.number
        part = content[codestream.start : end] + EOC
        if by_openjph:
            pixels = imagecodecs.htj2k_decode(part, skipres=skip)
            assert pixels.shape[:2] == (resolution.rows, resolution.columns)
            assert np.array_equal(pixels, imagecodecs.htj2k_decode(whole, skipres=skip))
        assert np.array_equal(by_openjpeg(part, skip, resolution), by_openjpeg(whole, skip, resolution))


# What a codestream is made of, found and changed without the code under test


def number(content, position, size):
    return int.from_bytes(content[position : position + size], "big")


def segment(marker, body):
    return marker + (len(body) + 2).to_bytes(2, "big") + body


def find(content, marker):
    """Where a marker segment of the main header begins; that of SOT is where the header ends."""
    position = 2
    while content[position : position + 2] not in (marker, SOT):
        position += 2 + number(content, position + 2, 2)
    return position


def replaced(content, position, new, size=None):
    return content[:position] + new + content[position + (len(new) if size is None else size) :]


def within(content, marker, offset, new):
    """The content with some bytes of a marker segment replaced; offsets count from the marker."""
    return replaced(content, find(content, marker) + offset, new)


def with_segment(content, marker, body):
    """The content with one more marker segment at the end of its main header."""
    return replaced(content, find(content, SOT), segment(marker, body), 0)


def without(content, marker):
    position = find(content, marker)
    return replaced(content, position, b"", 2 + number(content, position + 2, 2))


def exchanged(content, marker, body):
    """The content with a marker segment of the main header made anew."""
    return replaced(without(content, marker), find(content, marker), segment(marker, body), 0)


def body_of(content, marker):
    position = find(content, marker)
    return content[position + 4 : position + 2 + number(content, position + 2, 2)]


def tile_parts(content):
    """All tile-parts, one after the other."""
    position, parts = find(content, SOT), []
    while content[position : position + 2] == SOT:
        parts.append(content[position : position + number(content, position + 6, 4)])
        position += len(parts[-1])
    return parts


def tile_part(part, parts, data, header=b""):
    """A tile-part made anew."""
    length = 12 + len(header) + 2 + len(data)
    return segment(SOT, b"\0\0" + length.to_bytes(4, "big") + bytes([part, parts])) + header + SOD + data


def joined(content, parts):
    """A codestream of the main header of one and of tile-parts."""
    return content[: find(content, SOT)] + b"".join(parts) + EOC


def data_of(part):
    """The packets of a tile-part that has nothing in its header."""
    assert part[12:14] == SOD
    return part[14:]


def box(kind, content, *, form="length"):
    if form == "to the end":
        return bytes(4) + kind + content
    if form == "XLBox":
        return b"\0\0\0\1" + kind + (16 + len(content)).to_bytes(8, "big") + content
    return (8 + len(content)).to_bytes(4, "big") + kind + content


SIGNATURE = box(b"jP  ", b"\r\n\x87\n")
FILE_TYPE = box(b"ftyp", b"jph \0\0\0\0jph ")
IMAGE_HEADER = box(b"ihdr", (40).to_bytes(4, "big") + (60).to_bytes(4, "big") + b"\0\1\x0f\7\0\0")
GREY, RGB, YCC = (box(b"colr", b"\1\0\0" + space.to_bytes(4, "big")) for space in (17, 16, 18))


def file_of(codestream, *, form="length", header=IMAGE_HEADER + GREY, more=b""):
    """A JPH file."""
    return SIGNATURE + FILE_TYPE + box(b"jp2h", header) + more + box(b"jp2c", codestream, form=form)


PIXELS = image(40, 60)
CONTENT = encoded(PIXELS)
PLAIN = encoded(PIXELS, tlm=False)
COLOURS = encoded(image(33, 47, components=3, dtype="uint8"), resolutions=3)


def coding_style(decompositions, block_style=0x40, block_size=(6, 6)):
    """What the service uses: HT code-blocks of 64 by 64 samples."""
    return CodingStyle(
        components=1,
        decompositions=decompositions,
        by_position=True,
        block_width=block_size[0],
        block_height=block_size[1],
        block_style=block_style,
        precincts=((15, 15),) * (decompositions + 1),
        may_have_sop=False,
    )


# Sizes and ends


SIZES = [(1, 1), (1, 9), (9, 1), (2, 2), (33, 65), (64, 64), (127, 50), (200, 3)]


@pytest.mark.parametrize("components", [1, 3])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
@pytest.mark.parametrize(("rows", "columns"), SIZES)
def test_resolutions_have_the_sizes_that_they_decode_to(rows, columns, dtype, components):
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


def test_tile_parts_are_as_long_with_a_tlm_as_without():
    (_, with_tlm), (_, without_tlm) = resolution_ends(CONTENT), resolution_ends(PLAIN)

    assert {a - b for a, b in zip(with_tlm, without_tlm, strict=True)} == {len(CONTENT) - len(PLAIN)}


@pytest.mark.parametrize("content", [CONTENT, COLOURS, PLAIN], ids=["grey", "colours", "no TLM"])
def test_resolution_is_the_same_image_to_both_decoders(content):
    codestream, ends = resolution_ends(content)
    for resolution, end in zip(codestream.resolutions, ends, strict=True):
        skip = len(ends) - 1 - resolution.number
        part = content[:end] + EOC
        whole = imagecodecs.htj2k_decode(content, skipres=skip)
        assert np.array_equal(imagecodecs.htj2k_decode(part, skipres=skip), whole)
        assert np.array_equal(by_openjpeg(part, skip, resolution), whole)


def test_resolutions_can_be_asked_for_in_any_order():
    prefix = Prefix(CONTENT)
    codestream = read_codestream(prefix)
    ends = [codestream.end_of(number, prefix) for number in (1, 0, 2, 1)]

    _, (base, middle, full) = resolution_ends(CONTENT)
    assert ends == [middle, base, full, middle]


def test_one_resolution_is_a_resolution():
    content = imagecodecs.jpeg2k_encode(PIXELS, level=0, reversible=True, resolutions=1, codecformat="j2k")
    content = within(bytes(content), COD, 5, b"\1")
    codestream, (end,) = resolution_ends(content)

    assert [(each.rows, each.columns) for each in codestream.resolutions] == [PIXELS.shape]
    assert content[end:] == EOC


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_openjpegs_codestreams_have_one_tile_part_and_are_not_divided(bits, colour):
    dtype = "uint8" if bits == 8 else "uint16"
    pixels = image(40, 60, components=3 if colour else 1, dtype=dtype) >> (16 - bits if bits > 8 else 0)
    content = bytes(imagecodecs.jpeg2k_encode(pixels, level=0, reversible=True, resolutions=3, bitspersample=bits))
    with pytest.raises(NotDivisibleError, match="not by resolution"):
        resolution_ends(content)
    at = content.index(COD)
    with pytest.raises(NotDivisibleError, match="not as many tile-parts"):
        resolution_ends(replaced(content, at + 5, b"\1"))


# How much is read


@pytest.mark.parametrize("content", [CONTENT, PLAIN, COLOURS], ids=["TLM", "no TLM", "colours"])
def test_main_header_takes_no_more_than_itself_and_the_marker_behind_it(content):
    prefix = Prefix(content)
    read_codestream(prefix)

    assert len(prefix.given) == find(content, SOT) + len(SOT)


@pytest.mark.parametrize("content", [CONTENT, PLAIN, COLOURS], ids=["TLM", "no TLM", "colours"])
def test_resolution_takes_no_byte_more_than_up_to_its_end(content):
    _, ends = resolution_ends(content)
    for number, end in enumerate(ends):
        prefix = Prefix(content)
        assert read_codestream(prefix).end_of(number, prefix) == end
        assert len(prefix.given) == end


def test_with_a_tlm_all_that_a_resolution_takes_is_asked_for_at_once():
    prefix = Prefix(CONTENT)
    codestream = read_codestream(prefix)
    prefix.asks.clear()
    end = codestream.end_of(2, prefix)

    assert prefix.asks[0] == end


# Files


FORMS = ["length", "to the end", "XLBox"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("codestream", [CONTENT, PLAIN], ids=["TLM", "no TLM"])
def test_codestream_in_a_file_ends_where_it_does_on_its_own(codestream, form):
    content = file_of(codestream, form=form)
    found, ends = resolution_ends(content)
    alone, ends_alone = resolution_ends(codestream)

    assert content[found.start :] == codestream
    assert found.resolutions == alone.resolutions
    assert ends == [found.start + end for end in ends_alone]


@pytest.mark.parametrize(
    "more",
    [
        pytest.param(box(b"xml ", b"<a/>"), id="XML"),
        pytest.param(box(b"uuid", bytes(3000)), id="UUID"),
        pytest.param(box(b"uuid", bytes(30), form="XLBox"), id="XLBox"),
        pytest.param(box(b"free", b""), id="empty"),
    ],
)
def test_boxes_that_say_nothing_of_pixels_are_passed_over(more):
    content = file_of(CONTENT, more=more)
    codestream, _ = resolution_ends(content)

    assert content[codestream.start :] == CONTENT


def test_boxes_behind_the_codestream_are_none_of_it():
    content = file_of(CONTENT) + box(b"xml ", b"<a/>")
    codestream, ends = resolution_ends(content)

    assert content[ends[-1] :] == EOC + box(b"xml ", b"<a/>")
    assert_resolutions_are_those_of_the_whole(content[: -len(box(b"xml ", b"<a/>"))])
    assert codestream.start == len(content) - len(box(b"xml ", b"<a/>")) - len(CONTENT)


@pytest.mark.parametrize("colour", [GREY, RGB, box(b"colr", b"\2\0\0" + bytes(400))], ids=["grey", "RGB", "ICC"])
def test_colour_that_is_that_of_the_codestream_is_no_obstacle(colour):
    resolution_ends(file_of(CONTENT, header=IMAGE_HEADER + colour + box(b"res ", bytes(20))))


def test_files_header_takes_no_more_than_itself():
    content = file_of(CONTENT)
    prefix = Prefix(content)
    codestream = read_codestream(prefix)

    assert len(prefix.given) == codestream.start + find(CONTENT, SOT) + 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(SIGNATURE, "break off", id="nothing but the signature"),
        pytest.param(SIGNATURE + FILE_TYPE, "break off", id="no codestream"),
        pytest.param(
            SIGNATURE + box(b"free", b"", form="to the end"), "no codestream in the file", id="box up to the end"
        ),
        pytest.param(SIGNATURE + b"\0\0\0\7free", "shorter than its header", id="box of 7 bytes"),
        pytest.param(SIGNATURE + b"\0\0\0\2free", "shorter than its header", id="box of 2 bytes"),
        pytest.param(
            SIGNATURE + b"\0\0\0\1free" + (15).to_bytes(8, "big"), "shorter than its header", id="XLBox of 15 bytes"
        ),
        pytest.param(SIGNATURE + b"\0\0\0\1free" + b"\xff" * 8, "break off", id="XLBox of 2**64 - 1 bytes"),
        pytest.param(SIGNATURE + b"\0\0\0\1jp2c" + b"\xff" * 8, "break off", id="codestream of 2**64 - 1 bytes"),
        pytest.param(SIGNATURE + b"\xff\xff\xff\xffjp2h", "break off", id="header of 2**32 - 1 bytes"),
        pytest.param(SIGNATURE + box(b"jp2c", b""), "break off", id="empty codestream"),
        pytest.param(file_of(bytes(100)), "not a JPEG 2000 codestream", id="another codestream"),
        pytest.param(file_of(CONTENT, more=box(b"uuid", bytes(MOST_HEADER_BYTES))), "too long", id="long boxes"),
        pytest.param(file_of(CONTENT, header=b"\0\0\0\7ihdr"), "shorter than its header", id="short box in the header"),
        pytest.param(file_of(CONTENT, header=b"\0\0\5"), "shorter than its header", id="piece of a box in the header"),
        pytest.param(file_of(CONTENT, header=IMAGE_HEADER + YCC), "makes pixels", id="sYCC"),
        pytest.param(file_of(CONTENT, header=IMAGE_HEADER + box(b"colr", b"\1\0\0")), "makes pixels", id="no colour"),
        pytest.param(file_of(CONTENT, header=GREY + box(b"pclr", bytes(9))), "makes pixels", id="palette"),
        pytest.param(file_of(CONTENT, header=GREY + box(b"cmap", bytes(4))), "makes pixels", id="component mapping"),
        pytest.param(file_of(CONTENT, header=GREY + box(b"cdef", bytes(8))), "makes pixels", id="channel definition"),
        pytest.param(
            file_of(CONTENT, header=GREY + box(b"pclr", bytes(9), form="to the end")), "makes pixels", id="to the end"
        ),
        pytest.param(
            file_of(CONTENT, header=GREY + box(b"pclr", bytes(9), form="XLBox")), "makes pixels", id="XLBox palette"
        ),
        pytest.param(
            file_of(CONTENT, more=box(b"jp2h", box(b"pclr", bytes(9)))), "makes pixels", id="second header's palette"
        ),
        pytest.param(file_of(CONTENT[:-3]), "more than there is", id="last tile-part beyond its box"),
        pytest.param(
            file_of(CONTENT, more=box(b"jpch", box(b"pclr", bytes(9)))), "decide what", id="palette elsewhere"
        ),
    ],
)
def test_file_that_is_not_clear_is_not_divided(content, reason):
    with pytest.raises(NotDivisibleError, match=reason):
        resolution_ends(content)


# Headers that a codestream may have


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(with_segment(CONTENT, COM, b"\0\1of a writer"), id="comment"),
        pytest.param(with_segment(CONTENT, b"\xff\x63", bytes(4)), id="CRG"),
        pytest.param(with_segment(CONTENT, b"\xff\x57", bytes(4)), id="PLM"),
        pytest.param(
            joined(PLAIN, [tile_part(n, 0, data_of(part)) for n, part in enumerate(tile_parts(PLAIN))]),
            id="number of tile-parts that is not told",
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
def test_what_says_nothing_of_places_changes_no_end(content):
    _, ends = resolution_ends(content)

    assert ends == list(accumulate(map(len, tile_parts(content)), initial=find(content, SOT)))[1:]
    assert_resolutions_are_those_of_the_whole(content)


@pytest.mark.parametrize("length_size", [2, 4])
@pytest.mark.parametrize("tile_size", [0, 1, 2])
def test_tlm_may_have_numbers_of_any_size(tile_size, length_size):
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


# Headers that make it unclear what is where


def tlm_of(*lengths):
    return b"\0\x40" + b"".join(length.to_bytes(4, "big") for length in lengths)


LENGTHS = [len(part) for part in tile_parts(PLAIN)]
SIZ_BODY, COD_BODY = body_of(CONTENT, SIZ), body_of(CONTENT, COD)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "not a JPEG 2000 codestream|break off", id="nothing"),
        pytest.param(SOC, "break off", id="a beginning"),
        pytest.param(b"\xff\xd8\xff\xe0" + bytes(100), "not a JPEG 2000 codestream", id="JPEG"),
        pytest.param(CONTENT[:60], "break off", id="broken off in a segment"),
        pytest.param(CONTENT[: find(CONTENT, SOT)], "break off", id="broken off at the header's end"),
        pytest.param(without(CONTENT, COD), "no SIZ or no COD", id="no COD"),
        pytest.param(SOC + segment(SIZ, SIZ_BODY) + SOT + bytes(10), "no SIZ or no COD", id="only SIZ"),
        pytest.param(within(CONTENT, QCD, 2, b"\0\0"), "no length", id="segment of 0 bytes"),
        pytest.param(within(CONTENT, QCD, 2, b"\0\1"), "no length", id="segment of 1 byte"),
        pytest.param(within(CONTENT, QCD, 2, b"\xff\xff"), "break off", id="segment of 65,535 bytes"),
        pytest.param(with_segment(CONTENT, POC, bytes(7)), "decides what is where", id="POC"),
        pytest.param(with_segment(CONTENT, PPM, bytes(7)), "decides what is where", id="PPM"),
        pytest.param(with_segment(CONTENT, COC, bytes(7)), "decides what is where", id="COC"),
        pytest.param(with_segment(CONTENT, b"\xff\x74", bytes(7)), "decides what is where", id="Part 2's transform"),
        pytest.param(with_segment(CONTENT, SIZ, SIZ_BODY), "decides what is where", id="two SIZ"),
        pytest.param(with_segment(CONTENT, COD, COD_BODY), "decides what is where", id="two COD"),
        pytest.param(replaced(CONTENT, find(CONTENT, QCD), b"\0\0"), "decides what is where", id="no marker"),
        pytest.param(
            CONTENT[: find(CONTENT, SOT)] + 3 * segment(COM, bytes(65_000)) + CONTENT[find(CONTENT, SOT) :],
            "too long",
            id="header above the limit",
        ),
        # SIZ
        pytest.param(exchanged(CONTENT, SIZ, SIZ_BODY + b"\0"), "SIZ has a wrong length", id="long SIZ"),
        pytest.param(exchanged(CONTENT, SIZ, SIZ_BODY[:-1]), "SIZ has a wrong length", id="short SIZ"),
        pytest.param(exchanged(CONTENT, SIZ, b""), "SIZ has a wrong length", id="empty SIZ"),
        pytest.param(
            exchanged(CONTENT, SIZ, SIZ_BODY[:34] + b"\0\0"), "SIZ has a wrong length", id="image of no components"
        ),
        pytest.param(within(CONTENT, SIZ, 6, bytes(4)), "not one tile", id="image of no columns"),
        pytest.param(within(CONTENT, SIZ, 10, bytes(4)), "not one tile", id="image of no rows"),
        pytest.param(within(CONTENT, SIZ, 14, (60).to_bytes(4, "big")), "not one tile", id="offset beyond the image"),
        pytest.param(within(CONTENT, SIZ, 22, (59).to_bytes(4, "big")), "not one tile", id="tile less wide"),
        pytest.param(within(CONTENT, SIZ, 26, (39).to_bytes(4, "big")), "not one tile", id="tile less high"),
        pytest.param(within(CONTENT, SIZ, 22, bytes(8)), "not one tile", id="tile of no size"),
        pytest.param(within(CONTENT, SIZ, 30, (1).to_bytes(4, "big")), "not one tile", id="tile beside the image"),
        pytest.param(encoded(image(80, 80), tile=(32, 32)), "not one tile", id="several tiles"),
        pytest.param(within(COLOURS, SIZ, 44, b"\2"), "subsampled", id="component subsampled across"),
        pytest.param(within(COLOURS, SIZ, 45, b"\2"), "subsampled", id="component subsampled down"),
        pytest.param(within(COLOURS, SIZ, 41, b"\2\2"), "subsampled", id="first component subsampled"),
        # COD
        pytest.param(exchanged(CONTENT, COD, COD_BODY[:9]), "COD has a wrong length", id="short COD"),
        pytest.param(exchanged(CONTENT, COD, COD_BODY + b"\0"), "COD has a wrong length", id="long COD"),
        pytest.param(within(CONTENT, COD, 4, b"\1"), "COD has a wrong length", id="precincts that are not there"),
        pytest.param(within(CONTENT, COD, 9, b"\x21"), "COD has a wrong length", id="33 decompositions"),
        pytest.param(within(CONTENT, COD, 5, b"\0"), "not by resolution", id="LRCP"),
        pytest.param(within(CONTENT, COD, 5, b"\3"), "not by resolution", id="PCRL"),
        pytest.param(within(CONTENT, COD, 5, b"\4"), "not by resolution", id="CPRL"),
        pytest.param(within(CONTENT, COD, 5, b"\xff"), "not by resolution", id="no progression"),
        pytest.param(within(CONTENT, COD, 6, b"\0\2"), "several layers", id="two layers"),
        pytest.param(within(CONTENT, COD, 6, b"\0\0"), "several layers", id="no layer"),
        pytest.param(within(CONTENT, COD, 9, b"\1"), "not as many tile-parts", id="fewer decompositions"),
        pytest.param(within(PLAIN, COD, 9, b"\1"), "not as many tile-parts", id="fewer decompositions without TLM"),
        pytest.param(within(PLAIN, COD, 9, b"\3"), "not as many tile-parts", id="more decompositions"),
        pytest.param(within(CONTENT, COD, 12, b"\xc0"), "lengths are not read", id="HT and other code-blocks"),
        pytest.param(within(CONTENT, COD, 12, b"\x41"), "lengths are not read", id="HT with a bypass"),
        pytest.param(within(CONTENT, COD, 12, b"\x44"), "lengths are not read", id="HT with terminations"),
        pytest.param(within(CONTENT, COD, 12, b"\1"), "lengths are not read", id="bypass"),
        pytest.param(within(CONTENT, COD, 12, b"\4"), "lengths are not read", id="terminations"),
        pytest.param(within(CONTENT, COD, 10, b"\x09"), "lengths are not read", id="code-blocks of 2048 columns"),
        pytest.param(within(CONTENT, COD, 11, b"\xff"), "lengths are not read", id="code-blocks of 2**257 rows"),
        # TLM
        pytest.param(exchanged(CONTENT, TLM, tlm_of(*LENGTHS[:2])), "not as many tile-parts", id="short TLM"),
        pytest.param(exchanged(CONTENT, TLM, tlm_of(*LENGTHS, 20)), "not as many tile-parts", id="long TLM"),
        pytest.param(exchanged(CONTENT, TLM, tlm_of()), "not as many tile-parts", id="empty TLM"),
        pytest.param(exchanged(CONTENT, TLM, b"\0"), "TLM has a wrong length", id="TLM without its parameters"),
        pytest.param(exchanged(CONTENT, TLM, tlm_of(*LENGTHS) + b"\0"), "TLM has a wrong length", id="odd TLM"),
        pytest.param(exchanged(CONTENT, TLM, tlm_of(*[14] * 34)), "too many tile-parts", id="TLM of 34"),
        pytest.param(exchanged(CONTENT, TLM, b"\0\0" + b"\0\x0e" * 30_000), "too many", id="TLM of 30,000"),
        pytest.param(within(CONTENT, TLM, 5, b"\x70"), "TLM has a wrong length", id="TLM of another kind"),
        pytest.param(
            with_segment(CONTENT, TLM, body_of(CONTENT, TLM)), "comes twice", id="two TLM with the same number"
        ),
        pytest.param(within(CONTENT, TLM, 4, b"\1"), "TLM marker segment is missing", id="second TLM without a first"),
        pytest.param(
            exchanged(CONTENT, TLM, b"\0\x50" + b"".join(b"\1" + n.to_bytes(4, "big") for n in LENGTHS)),
            "not one tile",
            id="TLM of another tile",
        ),
        pytest.param(
            exchanged(CONTENT, TLM, tlm_of(LENGTHS[0] + 1, *LENGTHS[1:])), "not where it should be", id="TLM that lies"
        ),
        pytest.param(
            exchanged(CONTENT, TLM, tlm_of(LENGTHS[0], LENGTHS[2], LENGTHS[1])),
            "not where it should be",
            id="TLM in another order",
        ),
        pytest.param(exchanged(CONTENT, TLM, tlm_of(0, 0, 0)), "not where it should be", id="TLM of nothing"),
        pytest.param(
            exchanged(CONTENT, TLM, tlm_of(*[2**32 - 1] * 3)), "not where it should be", id="TLM of 12 gigabytes"
        ),
    ],
)
def test_unclear_header_makes_a_frame_indivisible(content, reason):
    with pytest.raises(NotDivisibleError, match=reason):
        resolution_ends(content)


# Tile-parts that are not the resolutions


PARTS = tile_parts(PLAIN)
BASE, MIDDLE, FULL = map(data_of, PARTS)
EMPTY = tile_part(1, 3, b"")


def with_parts(*data):
    """The codestream with its packets in other tile-parts."""
    return joined(PLAIN, [tile_part(part, len(data), each) for part, each in enumerate(data)])


def sot(part, offset, new):
    """The codestream with some bytes of a tile-part's SOT replaced; offsets count from the marker."""
    return joined(PLAIN, [replaced(each, offset, new) if n == part else each for n, each in enumerate(PARTS)])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(sot(0, 6, bytes(4)), "has no length", id="length of 0, which is: to the end"),
        pytest.param(sot(2, 6, bytes(4)), "has no length", id="last length of 0"),
        pytest.param(sot(1, 6, (13).to_bytes(4, "big")), "has no length", id="length without SOD"),
        pytest.param(sot(1, 6, (14).to_bytes(4, "big")), "more packets than bytes", id="length without packets"),
        pytest.param(sot(2, 6, (len(PARTS[2]) + 3).to_bytes(4, "big")), "ends within a tile-part", id="beyond the end"),
        pytest.param(sot(2, 6, b"\xff\xff\xff\xff"), "ends within a tile-part", id="length of 4 gigabytes"),
        pytest.param(sot(1, 4, b"\0\1"), "not where it should be", id="another tile"),
        pytest.param(sot(1, 10, b"\2"), "not where it should be", id="another tile-part"),
        pytest.param(sot(1, 0, COM), "not where it should be", id="another marker"),
        pytest.param(sot(1, 2, b"\0\x0b"), "not where it should be", id="longer SOT"),
        pytest.param(sot(0, 11, b"\xff"), "not as many tile-parts", id="255 tile-parts"),
        pytest.param(sot(2, 11, b"\2"), "not as many tile-parts", id="2 tile-parts"),
        pytest.param(PLAIN[: find(PLAIN, SOT) + 11], "before a tile-part", id="broken off in SOT"),
        pytest.param(joined(PLAIN, PARTS[:2]), "before a tile-part", id="last tile-part missing"),
        pytest.param(
            joined(PLAIN, PARTS[:2])[:-2] + bytes(30), "not where it should be", id="nothing behind the second"
        ),
        pytest.param(joined(PLAIN, [PARTS[1], PARTS[0], PARTS[2]]), "not where it should be", id="another order"),
        pytest.param(encoded(PIXELS, tilepart=None), "not as many tile-parts", id="one tile-part"),
        pytest.param(encoded(PIXELS, tilepart=None, tlm=False), "not as many tile-parts", id="one, and no TLM"),
        pytest.param(with_parts(BASE + MIDDLE, FULL), "not as many tile-parts", id="two resolutions in one"),
        pytest.param(with_parts(BASE + MIDDLE, b"", FULL), "more than one resolution", id="and one empty behind"),
        pytest.param(with_parts(b"", BASE + MIDDLE, FULL), "more packets than bytes", id="and one empty before"),
        pytest.param(with_parts(BASE, b"\xff", FULL), "header breaks off", id="header and nothing behind it"),
        pytest.param(with_parts(BASE, MIDDLE + FULL, b""), "more than one resolution", id="last two in one"),
        pytest.param(with_parts(BASE, MIDDLE, FULL + b"\0"), "more than one resolution", id="one packet more"),
        pytest.param(with_parts(BASE[:-1], BASE[-1:] + MIDDLE, FULL), "longer than its tile-part", id="a byte later"),
        pytest.param(with_parts(BASE + MIDDLE[:1], MIDDLE[1:], FULL), "more than one resolution", id="a byte earlier"),
        pytest.param(with_parts(BASE, MIDDLE, FULL[:-1]), "longer than its tile-part", id="last byte missing"),
        pytest.param(
            joined(PLAIN, [tile_part(0, 3, BASE, segment(PPT, b"\0\0")), *PARTS[1:]]), "coding of its own", id="PPT"
        ),
        pytest.param(
            joined(PLAIN, [tile_part(0, 3, BASE, segment(POC, bytes(7))), *PARTS[1:]]), "coding of its own", id="POC"
        ),
        pytest.param(
            joined(PLAIN, [tile_part(0, 3, BASE, segment(COD, COD_BODY)), *PARTS[1:]]), "coding of its own", id="COD"
        ),
        pytest.param(
            joined(PLAIN, [tile_part(0, 3, BASE, segment(b"\xff\x5e", b"\0\0\7")), *PARTS[1:]]),
            "coding of its own",
            id="RGN",
        ),
        pytest.param(
            joined(PLAIN, [replaced(PARTS[0], 12, COM + (len(PARTS[0]) - 14).to_bytes(2, "big")), *PARTS[1:]]),
            "has no data",
            id="comment up to the end",
        ),
        pytest.param(
            joined(PLAIN, [replaced(PARTS[0], 12, COM + b"\xff\xff"), *PARTS[1:]]),
            "has no data",
            id="comment beyond the end",
        ),
        pytest.param(
            joined(PLAIN, [segment(SOT, b"\0\0\0\0\0\x0f\0\3") + COM + b"\0", *PARTS[1:]]),
            "coding of its own",
            id="piece of a comment",
        ),
        pytest.param(
            joined(PLAIN, [segment(SOT, b"\0\0\0\0\0\x0e\0\3") + b"\0\0", *PARTS[1:]]), "coding of its own", id="no SOD"
        ),
        pytest.param(
            joined(PLAIN, [replaced(PARTS[0], 14, b"\xc0" + bytes(20)), *PARTS[1:]]),
            "lacks more bit-planes",
            id="code-block of no bit-planes",
        ),
        pytest.param(
            exchanged(PLAIN, COD, b"\1" + COD_BODY[1:] + b"\xff\x0f\xff"),
            "have no subbands",
            id="precincts of one row",
        ),
        pytest.param(
            exchanged(PLAIN, COD, b"\1" + COD_BODY[1:] + b"\xff\xf0\xff"),
            "have no subbands",
            id="precincts of one column",
        ),
        pytest.param(
            exchanged(with_parts(BASE[:40], MIDDLE, FULL), COD, b"\1" + COD_BODY[1:] + b"\x00\xff\xff"),
            "more packets than bytes",
            id="precincts of one sample",
        ),
        pytest.param(
            within(
                within(PLAIN, SIZ, 6, (4000).to_bytes(4, "big") * 2), SIZ, 22, (4000).to_bytes(4, "big") * 2
            ).replace(segment(COD, COD_BODY), segment(COD, COD_BODY[:6] + b"\0\0" + COD_BODY[8:])),
            "more code-blocks than are looked at",
            id="a quarter of a million code-blocks",
        ),
    ],
)
def test_tile_part_that_is_no_resolution_makes_a_frame_indivisible(content, reason):
    with pytest.raises(NotDivisibleError, match=reason):
        resolution_ends(content)


def test_resolutions_below_a_broken_tile_part_are_there():
    prefix = Prefix(with_parts(BASE, MIDDLE, FULL[:-1]))
    codestream = read_codestream(prefix)
    end = codestream.end_of(1, prefix)

    assert prefix.content[:end] == PLAIN[:end]
    with pytest.raises(NotDivisibleError):
        codestream.end_of(2, prefix)


# Codestreams of another encoder, with precincts, offsets and every order that is by resolution


def by_pillow(pixels, decompositions, **options):
    """A codestream by OpenJPEG, and the lengths of its packets, which it wrote into it."""
    written = io.BytesIO()
    options = {"no_jp2": True, "num_resolutions": decompositions + 1, "progression": "RPCL", **options}
    Image.fromarray(pixels).save(written, "JPEG2000", plt=True, **options)
    content = written.getvalue()
    (part,) = tile_parts(content)
    lengths, position, value = [], 12, 0
    while part[position : position + 2] == PLT:
        size = number(part, position + 2, 2)
        for byte in part[position + 5 : position + 2 + size]:
            value = value << 7 | byte & 0x7F
            if byte < 0x80:
                lengths.append(value)
                value = 0
        position += 2 + size
    assert part[position : position + 2] == SOD
    assert sum(lengths) == len(part) - position - 2
    return content, lengths, part[position + 2 :]


def packets_of(content, decompositions):
    """How many packets each resolution has (ITU-T T.800, B-16)."""
    x1, y1, x0, y0 = (number(content, find(content, SIZ) + 6 + 4 * n, 4) for n in range(4))
    components = number(content, find(content, SIZ) + 38, 2)
    precincts = body_of(content, COD)[10:] or b"\xff" * (decompositions + 1)
    counts = []
    for resolution, size in enumerate(precincts):
        scale = 1 << (decompositions - resolution)
        left, top, right, bottom = (-(-edge // scale) for edge in (x0, y0, x1, y1))
        wide, high = 1 << (size & 15), 1 << (size >> 4)
        counts.append((-(-right // wide) - left // wide) * (-(-bottom // high) - top // high) * components)
    return counts


def by_resolution(pixels, decompositions, *, before_packet=None, **options):
    """OpenJPEG's packets in a tile-part for each resolution."""
    content, lengths, data = by_pillow(pixels, decompositions, **options)
    ends = list(accumulate(lengths, initial=0))
    packets = [data[start:end] for start, end in pairwise(ends)]
    if before_packet:
        packets = [before_packet(n) + packet for n, packet in enumerate(packets)]
    counts = packets_of(content, decompositions)
    assert sum(counts) == len(packets)
    parts = [b"".join(packets[end - count : end]) for count, end in zip(counts, accumulate(counts), strict=True)]
    return joined(content, [tile_part(n, len(parts), each) for n, each in enumerate(parts)])


def start_of_packet(index):
    """SOP (ITU-T T.800, A.8.1)."""
    return b"\xff\x91\0\4" + (index & 0xFFFF).to_bytes(2, "big")


GREY_8, GREY_16, COLOUR = image(90, 71, dtype="uint8"), image(90, 71), image(61, 90, components=3, dtype="uint8")
CODINGS = [
    pytest.param({}, id="as it likes"),
    pytest.param({"progression": "RLCP"}, id="RLCP"),
    pytest.param({"codeblock_size": (4, 4)}, id="smallest code-blocks"),
    pytest.param({"codeblock_size": (64, 16)}, id="wide code-blocks"),
    pytest.param({"precinct_size": (32, 32), "codeblock_size": (16, 16)}, id="precincts"),
    pytest.param({"precinct_size": (16, 64), "codeblock_size": (4, 8)}, id="high precincts"),
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
def test_packets_of_openjpeg_are_read_as_it_wrote_them(options, pixels):
    assert_is_divided_as_openjpeg_wrote_it(by_resolution(pixels, 3, **options))


def assert_is_divided_as_openjpeg_wrote_it(content):
    _, ends = resolution_ends(content)

    assert content[ends[-1] :] == EOC
    if number(content, find(content, SIZ) + 14, 8) == 0:
        assert_resolutions_are_those_of_the_whole(content, by_openjph=False)
    else:
        # Pillow cannot reduce an image that has an offset; it decodes, at least, with the high frequencies missing.
        for end in ends:
            assert imagecodecs.jpeg2k_decode(content[:end] + EOC).size


@pytest.mark.parametrize("options", CODINGS)
def test_no_other_end_than_that_of_the_last_packet_is_taken(options):
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


def test_packets_may_begin_with_a_marker():
    content = by_resolution(COLOUR, 3, before_packet=start_of_packet)
    content = within(content, COD, 4, b"\2")
    assert_resolutions_are_those_of_the_whole(content, by_openjph=False)


@pytest.mark.parametrize("encoder", ["OpenJPEG", "OpenJPH"])
def test_resolution_whose_packet_headers_end_with_a_marker_decodes_or_is_not_given(encoder):
    """EPH (ITU-T T.800, A.8.2): OpenJPEG looks for the markers of the packets that were cut off."""
    # Of an image of nothing, a packet is a header of one byte, and no more.
    nothing = image(50, 50, dtype="uint8", kind="nothing")
    if encoder == "OpenJPEG":
        content, lengths, data = by_pillow(nothing, 2)
        assert lengths == [1, 1, 1]
    else:
        content = encoded(nothing, tlm=False)
        data = b"".join(map(data_of, tile_parts(content)))
    content = joined(content, [tile_part(n, 3, data[n : n + 1] + b"\xff\x92") for n in range(3)])
    with suppress(NotDivisibleError):
        assert_resolutions_are_those_of_the_whole(within(content, COD, 4, b"\4"), by_openjph=encoder == "OpenJPH")


def test_marker_that_was_not_announced_is_taken_for_a_packet():
    content = by_resolution(COLOUR, 3, before_packet=start_of_packet)
    with pytest.raises(NotDivisibleError):
        resolution_ends(content)


def test_resolution_without_pixels_has_no_packets():
    style = coding_style(decompositions=2)
    # At an odd place, a single pixel is all high frequencies; so is a single column, or row.
    for area in (ImageArea(1, 1, 2, 2), ImageArea(1, 0, 2, 60), ImageArea(0, 1, 60, 2)):
        check_packets(b"", 0, 0, 0, area, style)
        check_packets(b"", 0, 0, 1, area, style)
        check_packets(b"\0", 0, 1, 2, area, style)
        with pytest.raises(NotDivisibleError, match="more than one resolution"):
            check_packets(b"\0", 0, 1, 1, area, style)


@pytest.mark.parametrize("size", [(2, 2), (2, 10), (10, 2), (10, 10)])
def test_code_blocks_have_4_to_1024_samples_on_a_side(size):
    check_packets(b"\0", 0, 1, 0, ImageArea(0, 0, 64, 64), coding_style(0, block_size=size))


@pytest.mark.parametrize("size", [(1, 2), (2, 1), (10, 11), (11, 10)])
def test_code_blocks_of_other_sizes_are_none(size):
    with pytest.raises(NotDivisibleError, match="lengths are not read"):
        check_packets(b"\0", 0, 1, 0, ImageArea(0, 0, 64, 64), coding_style(0, block_size=size))


def test_image_with_an_offset_has_the_sizes_of_its_subsampled_grid():
    content = by_resolution(GREY_8, 3, offset=(3, 6), tile_size=(200, 200))
    codestream = read_codestream(Prefix(content))
    columns, rows = np.arange(3, 3 + GREY_8.shape[1]), np.arange(6, 6 + GREY_8.shape[0])

    # A resolution has the places of the grid that its step divides (ITU-T T.800, B.5).
    assert [(each.columns, each.rows) for each in codestream.resolutions] == [
        (np.count_nonzero(columns % step == 0), np.count_nonzero(rows % step == 0)) for step in (8, 4, 2, 1)
    ]


def test_image_of_which_a_resolution_has_no_pixels_is_not_divided():
    for place in (numbers(1, 1), numbers(1, 0), numbers(0, 1)):
        content = within(header(2, 2, decompositions=2) + tile_part(0, 3, b"\0"), SIZ, 14, place)
        with pytest.raises(NotDivisibleError, match="no pixels"):
            read_codestream(Prefix(content))


def test_code_blocks_of_all_resolutions_count_together(monkeypatch):
    lookups = []
    monkeypatch.setattr(
        codestream_module, "check_packets", lambda *arguments: lookups.append(check_packets(*arguments)) or lookups[-1]
    )
    resolution_ends(CONTENT)
    monkeypatch.setattr(codestream_module, "MOST_BLOCKS", sum(lookups) - 1)

    assert max(lookups) < sum(lookups) - 1
    with pytest.raises(NotDivisibleError, match="more code-blocks"):
        resolution_ends(CONTENT)


# Headers of packets that no encoder at hand writes

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
def test_code_block_has_the_bytes_that_its_header_gives_it(block_style, passes, lengths, size):
    """ITU-T T.800, table B.4 and B.10.7.1; ITU-T T.814, B.3."""
    # A packet that is not empty, in it a code-block that lacks two bit-planes.
    head = packet_header("1 1 001" + passes + lengths)
    style, area = coding_style(0, block_style), ImageArea(0, 0, 64, 64)
    content = b"before" + head + bytes(size)
    check_packets(content, 6, len(content), 0, area, style)
    for wrong in (content[:-1], content + b"\0"):
        with pytest.raises(NotDivisibleError):
            check_packets(wrong, 6, len(wrong), 0, area, style)


def packet_header(bits):
    """Bits in bytes, with a 0 behind eight that are set (ITU-T T.800, B.10.1)."""
    bits, content = bits.replace(" ", ""), bytearray()
    while bits or content[-1] == 0xFF:
        count = 7 if content and content[-1] == 0xFF else 8
        content.append(int(bits[:count].ljust(count, "0"), 2))
        bits = bits[count:]
    return bytes(content)


# Any image


@st.composite
def frames(draw):
    """A frame as the service has it, and its pixels."""
    dtype = draw(st.sampled_from(["uint8", "uint16", "int8", "int16"]))
    pixels = image(
        draw(st.integers(1, 70)),
        draw(st.integers(1, 70)),
        components=draw(st.sampled_from([1, 3, 4])),
        dtype=dtype,
        kind=draw(st.sampled_from(["structure", "noise", "nothing"])),
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


@st.composite
def codings(draw):
    """What OpenJPEG can be told."""
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
    st.sampled_from(["structure", "noise", "nothing"]),
    codings(),
)
def test_packets_of_openjpeg_are_read_however_it_was_told_to_write(
    rows, columns, components, decompositions, kind, options
):
    pixels = image(rows, columns, components=components, dtype="uint8", kind=kind)
    assert_is_divided_as_openjpeg_wrote_it(by_resolution(pixels, decompositions, **options))


# Anything else


REAL = [
    CONTENT,
    PLAIN,
    COLOURS,
    file_of(CONTENT),
    file_of(PLAIN, form="XLBox"),
    encoded(image(9, 1), resolutions=4),
    encoded(image(70, 70, kind="noise"), resolutions=1),
    by_resolution(COLOUR, 2, precinct_size=(32, 32), codeblock_size=(8, 8)),
    within(by_resolution(GREY_8, 3, progression="RLCP", before_packet=start_of_packet), COD, 4, b"\2"),
]


def assert_ends_are_ends_of_tile_parts_or_none(content):
    """It is indivisible, or as far as it is not, its resolutions end within it and with a tile-part."""
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
def test_frame_that_breaks_off_has_the_resolutions_that_are_there(content, data):
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


CHANGE = st.tuples(
    st.sampled_from(["flip", "insert", "remove", "copy"]),
    st.one_of(st.integers(0, 1023), st.integers(0, 100_000)),
    st.binary(min_size=1, max_size=8),
    st.integers(0, 100_000),
)


def changed(content, changes):
    for how, position, new, source in changes:
        position %= len(content) + 1
        if how == "flip":
            content = replaced(content, position, bytes(a ^ b for a, b in zip(content[position:], new, strict=False)))
        elif how == "insert":
            content = replaced(content, position, new, 0)
        elif how == "remove":
            content = replaced(content, position, b"", len(new))
        else:
            source %= len(content) + 1
            content = replaced(content, position, content[source : source + 16])
    return content


@settings(max_examples=300)
@given(st.sampled_from(REAL), st.lists(CHANGE, min_size=1, max_size=5))
def test_changed_frame_has_resolutions_within_it_or_none(content, changes):
    assert_ends_are_ends_of_tile_parts_or_none(changed(content, changes))


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
def test_anything_behind_a_good_beginning_has_resolutions_within_it_or_none(beginning, rest):
    assert_ends_are_ends_of_tile_parts_or_none(beginning + rest)


@given(st.binary(max_size=300))
def test_anything_at_all_has_resolutions_within_it_or_none(content):
    assert_ends_are_ends_of_tile_parts_or_none(content)


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
# Bits that are mostly set make headers with something in them.
PACKETS = st.lists(st.sampled_from([0, 0x7F, 0x80, 0x91, 0x92, 0xC0, 0xEF, 0xFE, 0xFF, 0x55]), max_size=200).map(bytes)


@settings(max_examples=300)
@given(EDGES, EDGES, STYLES, st.integers(0, 32), PACKETS, st.integers(0, 20))
def test_any_bytes_are_the_packets_of_a_resolution_or_are_not(across, down, style, resolution, content, start):
    area = ImageArea(across[0], down[0], across[1], down[1])
    start = min(start, len(content))
    with suppress(NotDivisibleError):
        check_packets(content, start, len(content), resolution, area, style)


FUZZED = 10_000


def test_thousands_of_broken_frames_raise_nothing_else():
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
        divided += assert_ends_are_ends_of_tile_parts_or_none(bytes(content)) > 0
    # Neither are all of them refused at their beginning, nor are they all still whole.
    assert FUZZED / 10 < divided < FUZZED * 9 / 10


# Frames that were made to do harm


class Watched(bytearray):
    """Bytes that may be looked at only so often."""

    looks = 0
    most = 200_000

    def __getitem__(self, key):
        self.looks += 1
        if self.looks > self.most:
            raise AssertionError("It was looked at more often than anything that makes sense takes.")
        return super().__getitem__(key)


def numbers(*values):
    return b"".join(value.to_bytes(4, "big") for value in values)


def header(columns=60, rows=40, *, components=1, decompositions=0, block=b"\4\4", precincts=b"", more=b""):
    """A main header of HTJ2K in RPCL."""
    siz = b"\x40\0" + numbers(columns, rows, 0, 0, columns, rows, 0, 0) + components.to_bytes(2, "big")
    siz += b"\x0f\1\1" * components
    cod = bytes([bool(precincts), 2, 0, 1, 0, decompositions]) + block + b"\x40\1" + precincts
    return SOC + segment(SIZ, siz) + segment(COD, cod) + more


HUGE = 2**32 - 1
# Of a code-block, a byte that says that its length has some more bits; behind a byte of ones there are but seven.
LENGTH_HAS = b"\xef"
MORE_BITS = b"\xff\x7f"
DATA = bytes(300_000)
HOSTILE = [
    pytest.param(header(HUGE, HUGE) + tile_part(0, 1, b"\x80"), id="huge image, a byte of data"),
    pytest.param(header(HUGE, 1) + tile_part(0, 1, DATA), id="image of four billion columns"),
    pytest.param(header(1, HUGE, precincts=b"\0") + tile_part(0, 1, DATA), id="four billion precincts"),
    pytest.param(header(550, 540, precincts=b"\0") + tile_part(0, 1, DATA), id="as many precincts as bytes"),
    pytest.param(
        header(HUGE, HUGE, decompositions=32, precincts=b"\x11" * 33)
        + b"".join(tile_part(n, 33, DATA[: 4 ** max(0, n - 1)]) for n in range(9)),
        id="32 decompositions with tiny precincts",
    ),
    pytest.param(
        header(2, HUGE, decompositions=32, precincts=b"\x11" * 33)
        + b"".join(tile_part(n, 33, DATA[: 2 ** max(0, n - 1)]) for n in range(18)),
        id="the same in a thin image",
    ),
    pytest.param(header(components=16_384) + tile_part(0, 1, DATA), id="16,384 components"),
    pytest.param(
        header(1, 1, components=16_384, decompositions=5) + b"".join(tile_part(n, 6, bytes(16_384)) for n in range(6)),
        id="16,384 components of 6 resolutions each",
    ),
    pytest.param(header(HUGE, HUGE, components=16_384) + tile_part(0, 1, DATA), id="16,384 huge components"),
    pytest.param(
        header(more=b"".join(segment(TLM, bytes([n, 0x40]) + numbers(*[HUGE] * 33)) for n in range(256))) + SOT + DATA,
        id="256 TLM",
    ),
    pytest.param(
        header(more=b"".join(segment(TLM, bytes([n, 0])) for n in range(256))) + tile_part(0, 1, DATA), id="empty TLM"
    ),
    pytest.param(header(more=segment(TLM, b"\0\x40" + numbers(HUGE))) + tile_part(0, 1, DATA), id="TLM of 4 GB"),
    pytest.param(header() + segment(SOT, b"\0\0" + numbers(HUGE) + b"\0\1") + SOD + DATA, id="tile-part of 4 GB"),
    pytest.param(header() + tile_part(0, 1, b"", segment(COM, b"") * 50_000), id="50,000 comments in a tile-part"),
    pytest.param(header(more=segment(COM, b"") * 500_000), id="500,000 comments"),
    pytest.param(SIGNATURE + box(b"free", b"") * 500_000, id="500,000 boxes"),
    pytest.param(SIGNATURE + (b"\0\x20\0\0jp2h" * 500_000), id="megabytes of boxes in boxes"),
    pytest.param(SIGNATURE + box(b"jp2h", box(b"free", b"") * 16_000) + CONTENT, id="16,000 boxes in a header"),
    pytest.param(SIGNATURE + box(b"jp2h", b"") * 500_000, id="500,000 headers"),
    pytest.param(
        header(508, 508, block=b"\0\0") + tile_part(0, 1, b"\xc0" + DATA), id="as many code-blocks as are looked at"
    ),
    pytest.param(header() + tile_part(0, 1, LENGTH_HAS + MORE_BITS * 200_000), id="length without end"),
]


@pytest.mark.parametrize("content", HOSTILE)
def test_frame_made_to_do_harm_takes_bounded_work(content):
    watched = Watched()
    tracemalloc.start()
    try:
        resolution_ends(content, watched)
    except NotDivisibleError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    # Of which the bytes themselves are up to two.
    assert peak < 8 * MIB


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(SIGNATURE + box(b"free", b"") * 500_000, id="boxes"),
        pytest.param(header(more=segment(COM, bytes(1000)) * 5000), id="comments"),
        pytest.param(SIGNATURE + box(b"jp2h", bytes(5 * MIB)) + CONTENT, id="long header"),
        pytest.param(SIGNATURE + numbers(5 * MIB) + b"jp2h" + bytes(5 * MIB), id="one box"),
    ],
)
def test_of_headers_without_end_no_more_is_read_than_any_real_one_has(content):
    prefix = Prefix(content)
    with pytest.raises(NotDivisibleError):
        read_codestream(prefix)
    assert len(prefix.given) <= MOST_HEADER_BYTES


@pytest.mark.parametrize("behind", [b"", bytes(2000)], ids=["without end", "which are there"])
def test_length_of_a_code_block_does_not_have_thousands_of_bits(behind):
    content = Watched(LENGTH_HAS + MORE_BITS * 1000 + behind)
    style = coding_style(decompositions=0)
    with pytest.raises(NotDivisibleError):
        check_packets(content, 0, len(content), 0, ImageArea(0, 0, 64, 64), style)
    assert content.looks < 100
