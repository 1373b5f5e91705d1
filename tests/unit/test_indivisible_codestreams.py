"""Codestreams that are indivisible because of a header or a tile-part."""

from __future__ import annotations

import pytest

from framegate.jpeg2000.codestream import NotDivisibleError, read_codestream
from tests.unit.codestreams import (
    COC,
    COD,
    COD_BODY,
    COLOURS,
    COM,
    CONTENT,
    PIXELS,
    PLAIN,
    POC,
    PPM,
    PPT,
    QCD,
    SIZ,
    SIZ_BODY,
    SOC,
    SOT,
    TLM,
    Prefix,
    body_of,
    data_of,
    encoded,
    exchanged,
    find,
    image,
    joined,
    replaced,
    resolution_ends,
    segment,
    tile_part,
    tile_parts,
    with_segment,
    within,
    without,
)

# Headers


def tlm_of(*lengths):
    return b"\0\x40" + b"".join(length.to_bytes(4, "big") for length in lengths)


LENGTHS = [len(part) for part in tile_parts(PLAIN)]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "not a JPEG 2000 codestream|truncated", id="empty"),
        pytest.param(SOC, "truncated", id="only SOC"),
        pytest.param(b"\xff\xd8\xff\xe0" + bytes(100), "not a JPEG 2000 codestream", id="JPEG"),
        pytest.param(CONTENT[:60], "truncated", id="cut off in a segment"),
        pytest.param(CONTENT[: find(CONTENT, SOT)], "truncated", id="cut off at the header's end"),
        pytest.param(without(CONTENT, COD), "lacks SIZ or COD", id="no COD"),
        pytest.param(SOC + segment(SIZ, SIZ_BODY) + SOT + bytes(10), "lacks SIZ or COD", id="only SIZ"),
        pytest.param(within(CONTENT, QCD, 2, b"\0\0"), "no length", id="segment of 0 bytes"),
        pytest.param(within(CONTENT, QCD, 2, b"\0\1"), "no length", id="segment of 1 byte"),
        pytest.param(within(CONTENT, QCD, 2, b"\xff\xff"), "truncated", id="segment of 65,535 bytes"),
        pytest.param(with_segment(CONTENT, POC, bytes(7)), "where packets are", id="POC"),
        pytest.param(with_segment(CONTENT, PPM, bytes(7)), "where packets are", id="PPM"),
        pytest.param(with_segment(CONTENT, COC, bytes(7)), "where packets are", id="COC"),
        pytest.param(with_segment(CONTENT, b"\xff\x74", bytes(7)), "where packets are", id="Part 2's transform"),
        pytest.param(with_segment(CONTENT, SIZ, SIZ_BODY), "where packets are", id="two SIZ"),
        pytest.param(with_segment(CONTENT, COD, COD_BODY), "where packets are", id="two COD"),
        pytest.param(replaced(CONTENT, find(CONTENT, QCD), b"\0\0"), "where packets are", id="no marker"),
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
        pytest.param(within(CONTENT, SIZ, 30, (1).to_bytes(4, "big")), "not one tile", id="tile outside the image"),
        pytest.param(encoded(image(80, 80), tile=(32, 32)), "not one tile", id="several tiles"),
        pytest.param(within(COLOURS, SIZ, 44, b"\2"), "subsampled", id="component subsampled across"),
        pytest.param(within(COLOURS, SIZ, 45, b"\2"), "subsampled", id="component subsampled down"),
        pytest.param(within(COLOURS, SIZ, 41, b"\2\2"), "subsampled", id="first component subsampled"),
        # COD
        pytest.param(exchanged(CONTENT, COD, COD_BODY[:9]), "COD has a wrong length", id="short COD"),
        pytest.param(exchanged(CONTENT, COD, COD_BODY + b"\0"), "COD has a wrong length", id="long COD"),
        pytest.param(within(CONTENT, COD, 4, b"\1"), "COD has a wrong length", id="missing precincts"),
        pytest.param(within(CONTENT, COD, 9, b"\x21"), "COD has a wrong length", id="33 decompositions"),
        pytest.param(within(CONTENT, COD, 5, b"\0"), "not by resolution", id="LRCP"),
        pytest.param(within(CONTENT, COD, 5, b"\3"), "not by resolution", id="PCRL"),
        pytest.param(within(CONTENT, COD, 5, b"\4"), "not by resolution", id="CPRL"),
        pytest.param(within(CONTENT, COD, 5, b"\xff"), "not by resolution", id="no progression"),
        pytest.param(within(CONTENT, COD, 6, b"\0\2"), "several layers", id="two layers"),
        pytest.param(within(CONTENT, COD, 6, b"\0\0"), "several layers", id="no layer"),
        pytest.param(within(CONTENT, COD, 9, b"\1"), "number of tile-parts differs", id="fewer decompositions"),
        pytest.param(
            within(PLAIN, COD, 9, b"\1"), "number of tile-parts differs", id="fewer decompositions without TLM"
        ),
        pytest.param(within(PLAIN, COD, 9, b"\3"), "number of tile-parts differs", id="more decompositions"),
        pytest.param(within(CONTENT, COD, 12, b"\xc0"), "codes lengths", id="HT and other code-blocks"),
        pytest.param(within(CONTENT, COD, 12, b"\x41"), "codes lengths", id="HT with a bypass"),
        pytest.param(within(CONTENT, COD, 12, b"\x44"), "codes lengths", id="HT with terminations"),
        pytest.param(within(CONTENT, COD, 12, b"\1"), "codes lengths", id="bypass"),
        pytest.param(within(CONTENT, COD, 12, b"\4"), "codes lengths", id="terminations"),
        pytest.param(within(CONTENT, COD, 10, b"\x09"), "codes lengths", id="code-blocks of 2048 columns"),
        pytest.param(within(CONTENT, COD, 11, b"\xff"), "codes lengths", id="code-blocks of 2**257 rows"),
        # TLM
        pytest.param(exchanged(CONTENT, TLM, tlm_of(*LENGTHS[:2])), "number of tile-parts differs", id="short TLM"),
        pytest.param(exchanged(CONTENT, TLM, tlm_of(*LENGTHS, 20)), "number of tile-parts differs", id="long TLM"),
        pytest.param(exchanged(CONTENT, TLM, tlm_of()), "number of tile-parts differs", id="empty TLM"),
        pytest.param(exchanged(CONTENT, TLM, b"\0"), "TLM has a wrong length", id="TLM without its parameters"),
        pytest.param(exchanged(CONTENT, TLM, tlm_of(*LENGTHS) + b"\0"), "TLM has a wrong length", id="odd TLM"),
        pytest.param(exchanged(CONTENT, TLM, tlm_of(*[14] * 34)), "too many tile-parts", id="TLM of 34"),
        pytest.param(exchanged(CONTENT, TLM, b"\0\0" + b"\0\x0e" * 30_000), "too many", id="TLM of 30,000"),
        pytest.param(within(CONTENT, TLM, 5, b"\x70"), "TLM has a wrong length", id="TLM of another kind"),
        pytest.param(
            with_segment(CONTENT, TLM, body_of(CONTENT, TLM)), "occurs twice", id="two TLM with the same number"
        ),
        pytest.param(within(CONTENT, TLM, 4, b"\1"), "TLM marker segment is missing", id="second TLM without a first"),
        pytest.param(
            exchanged(CONTENT, TLM, b"\0\x50" + b"".join(b"\1" + n.to_bytes(4, "big") for n in LENGTHS)),
            "not one tile",
            id="TLM of another tile",
        ),
        pytest.param(
            exchanged(CONTENT, TLM, tlm_of(LENGTHS[0] + 1, *LENGTHS[1:])),
            "out of place",
            id="TLM with a wrong length",
        ),
        pytest.param(
            exchanged(CONTENT, TLM, tlm_of(LENGTHS[0], LENGTHS[2], LENGTHS[1])),
            "out of place",
            id="TLM in another order",
        ),
        pytest.param(exchanged(CONTENT, TLM, tlm_of(0, 0, 0)), "out of place", id="TLM of nothing"),
        pytest.param(exchanged(CONTENT, TLM, tlm_of(*[2**32 - 1] * 3)), "out of place", id="TLM of 12 gigabytes"),
    ],
)
def test_unsupported_or_damaged_header_makes_a_frame_indivisible(content, reason):
    with pytest.raises(NotDivisibleError, match=reason):
        resolution_ends(content)


# Tile-parts


PARTS = tile_parts(PLAIN)
BASE, MIDDLE, FULL = map(data_of, PARTS)
EMPTY = tile_part(1, 3, b"")


def with_parts(*data):
    """The codestream with its packets distributed over other tile-parts."""
    return joined(PLAIN, [tile_part(part, len(data), each) for part, each in enumerate(data)])


def sot(part, offset, new):
    """The codestream with some bytes of a tile-part's SOT replaced; offsets count from the marker."""
    return joined(PLAIN, [replaced(each, offset, new) if n == part else each for n, each in enumerate(PARTS)])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(sot(0, 6, bytes(4)), "has no length", id="length of 0, which means up to the end"),
        pytest.param(sot(2, 6, bytes(4)), "has no length", id="last length of 0"),
        pytest.param(sot(1, 6, (13).to_bytes(4, "big")), "has no length", id="length without SOD"),
        pytest.param(sot(1, 6, (14).to_bytes(4, "big")), "more packets than bytes", id="length without packets"),
        pytest.param(sot(2, 6, (len(PARTS[2]) + 3).to_bytes(4, "big")), "ends within a tile-part", id="beyond the end"),
        pytest.param(sot(2, 6, b"\xff\xff\xff\xff"), "ends within a tile-part", id="length of 4 gigabytes"),
        pytest.param(sot(1, 4, b"\0\1"), "out of place", id="another tile"),
        pytest.param(sot(1, 10, b"\2"), "out of place", id="another tile-part"),
        pytest.param(sot(1, 0, COM), "out of place", id="another marker"),
        pytest.param(sot(1, 2, b"\0\x0b"), "out of place", id="longer SOT"),
        pytest.param(sot(0, 11, b"\xff"), "number of tile-parts differs", id="255 tile-parts"),
        pytest.param(sot(2, 11, b"\2"), "number of tile-parts differs", id="2 tile-parts"),
        pytest.param(PLAIN[: find(PLAIN, SOT) + 11], "before a tile-part", id="cut off in SOT"),
        pytest.param(joined(PLAIN, PARTS[:2]), "before a tile-part", id="last tile-part missing"),
        pytest.param(joined(PLAIN, PARTS[:2])[:-2] + bytes(30), "out of place", id="no third tile-part"),
        pytest.param(joined(PLAIN, [PARTS[1], PARTS[0], PARTS[2]]), "out of place", id="another order"),
        pytest.param(encoded(PIXELS, tilepart=None), "number of tile-parts differs", id="one tile-part"),
        pytest.param(
            encoded(PIXELS, tilepart=None, tlm=False), "number of tile-parts differs", id="one tile-part without TLM"
        ),
        pytest.param(with_parts(BASE + MIDDLE, FULL), "number of tile-parts differs", id="two resolutions in one"),
        pytest.param(
            with_parts(BASE + MIDDLE, b"", FULL), "exactly one resolution", id="two in one, then an empty one"
        ),
        pytest.param(
            with_parts(b"", BASE + MIDDLE, FULL), "more packets than bytes", id="an empty one, then two in one"
        ),
        pytest.param(with_parts(BASE, b"\xff", FULL), "header is truncated", id="packet header without a body"),
        pytest.param(with_parts(BASE, MIDDLE + FULL, b""), "exactly one resolution", id="last two in one"),
        pytest.param(with_parts(BASE, MIDDLE, FULL + b"\0"), "exactly one resolution", id="extra packet"),
        pytest.param(
            with_parts(BASE[:-1], BASE[-1:] + MIDDLE, FULL), "longer than its tile-part", id="boundary one byte early"
        ),
        pytest.param(
            with_parts(BASE + MIDDLE[:1], MIDDLE[1:], FULL), "exactly one resolution", id="boundary one byte late"
        ),
        pytest.param(with_parts(BASE, MIDDLE, FULL[:-1]), "longer than its tile-part", id="last byte missing"),
        pytest.param(
            joined(PLAIN, [tile_part(0, 3, BASE, segment(PPT, b"\0\0")), *PARTS[1:]]), "own coding parameters", id="PPT"
        ),
        pytest.param(
            joined(PLAIN, [tile_part(0, 3, BASE, segment(POC, bytes(7))), *PARTS[1:]]),
            "own coding parameters",
            id="POC",
        ),
        pytest.param(
            joined(PLAIN, [tile_part(0, 3, BASE, segment(COD, COD_BODY)), *PARTS[1:]]),
            "own coding parameters",
            id="COD",
        ),
        pytest.param(
            joined(PLAIN, [tile_part(0, 3, BASE, segment(b"\xff\x5e", b"\0\0\7")), *PARTS[1:]]),
            "own coding parameters",
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
            "own coding parameters",
            id="piece of a comment",
        ),
        pytest.param(
            joined(PLAIN, [segment(SOT, b"\0\0\0\0\0\x0e\0\3") + b"\0\0", *PARTS[1:]]),
            "own coding parameters",
            id="no SOD",
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
            "more code-blocks than the maximum",
            id="a quarter of a million code-blocks",
        ),
    ],
)
def test_tile_part_that_is_not_one_resolution_makes_a_frame_indivisible(content, reason):
    with pytest.raises(NotDivisibleError, match=reason):
        resolution_ends(content)


def test_resolutions_below_a_broken_tile_part_are_still_found():
    prefix = Prefix(with_parts(BASE, MIDDLE, FULL[:-1]))
    codestream = read_codestream(prefix)
    end = codestream.end_of(1, prefix)

    assert prefix.content[:end] == PLAIN[:end]
    with pytest.raises(NotDivisibleError):
        codestream.end_of(2, prefix)
