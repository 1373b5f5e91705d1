"""Hostile codestreams that aim to exhaust memory or time."""

from __future__ import annotations

import tracemalloc

import pytest

from framegate.jpeg2000.codestream import MAX_HEADER_BYTES, NotDivisibleError, read_codestream
from framegate.jpeg2000.packets import ImageArea, check_packets
from tests.unit.codestreams import (
    COM,
    CONTENT,
    MIB,
    SIGNATURE,
    SOD,
    SOT,
    TLM,
    Prefix,
    box,
    coding_style,
    header,
    numbers,
    resolution_ends,
    segment,
    tile_part,
)


class Watched(bytearray):
    """Bytes that count their accesses, up to a maximum."""

    accesses = 0
    max_accesses = 200_000

    def __getitem__(self, key):
        self.accesses += 1
        if self.accesses > self.max_accesses:
            raise AssertionError("The content was accessed more often than the maximum.")
        return super().__getitem__(key)


HUGE = 2**32 - 1
# Each set bit makes the length of a code-block one bit longer. A byte after 0xFF has seven bits.
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
    pytest.param(header(508, 508, block=b"\0\0") + tile_part(0, 1, b"\xc0" + DATA), id="maximum number of code-blocks"),
    pytest.param(header() + tile_part(0, 1, LENGTH_HAS + MORE_BITS * 200_000), id="endless length"),
]


@pytest.mark.parametrize("content", HOSTILE)
def test_hostile_frame_takes_bounded_work_and_memory(content):
    watched = Watched()
    tracemalloc.start()
    try:
        resolution_ends(content, watched)
    except NotDivisibleError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    # The content itself takes up to 2 MiB of this.
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
def test_endless_headers_are_read_up_to_the_maximum(content):
    prefix = Prefix(content)
    with pytest.raises(NotDivisibleError):
        read_codestream(prefix)
    assert len(prefix.given) <= MAX_HEADER_BYTES


@pytest.mark.parametrize("behind", [b"", bytes(2000)], ids=["at the end", "before more bytes"])
def test_code_block_length_has_a_maximum_size(behind):
    content = Watched(LENGTH_HAS + MORE_BITS * 1000 + behind)
    style = coding_style(decompositions=0)
    with pytest.raises(NotDivisibleError):
        check_packets(content, 0, len(content), 0, ImageArea(0, 0, 64, 64), style)
    assert content.accesses < 100
