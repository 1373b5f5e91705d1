"""Verifies that a tile-part holds all packets of one resolution and nothing else, by reading the packet headers.

A tile-part may end after any packet. If a progression by resolution has as many tile-parts as resolutions, each
tile-part is likely to be a resolution. Only the packet headers prove it.

References
----------
ITU-T T.800, annex B: B.5 (resolutions), B.6 (precincts), B.7 (code-blocks), B.9 and B.10 (packets and their headers),
B.12 (progression). ITU-T T.814, annex B: lengths of the segments of HT code-blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

HT_ONLY = 0x40
"""The code-block style of HTJ2K where all code-blocks are HT code-blocks (ITU-T T.814, table A.3)."""

# Reset of contexts, vertically causal contexts, segmentation symbols: they do not affect how lengths are coded.
_HARMLESS_STYLE, _HARMLESS_HT_STYLE = 0x2A, 0x08

MAX_BLOCKS = 16_384
"""Maximum number of code-blocks in the tile-parts that are verified: 64 million pixels at the usual block size."""

MAX_BIT_PLANES = 80
"""Maximum number of missing bit-planes of a code-block: 38 bits a sample, and some for the transform."""

MAX_LENGTH_BITS = 32
"""Maximum size of a code-block's length in bits: a tile-part's own length has 32 (ITU-T T.800, A.4.2)."""

_SOP = b"\xff\x91\x00\x04"


class NotDivisibleError(Exception):
    """The frame cannot be divided into its resolutions. The message says why in one line."""


@dataclass(frozen=True, slots=True)
class ImageArea:
    """The area of an image on the reference grid: from `x0`, `y0` up to, but not including, `x1`, `y1`."""

    x0: int
    y0: int
    x1: int
    y1: int

    def size_at(self, skipped: int) -> tuple[int, int]:
        """Return columns and rows of the resolution `skipped` decompositions below the full one (ITU-T T.800, B-15)."""
        x0, y0, x1, y1 = self.at(skipped)
        return x1 - x0, y1 - y0

    def at(self, skipped: int, right: int = 0, down: int = 0) -> tuple[int, int, int, int]:
        """Return `x0`, `y0`, `x1`, `y1` of a resolution or a subband (ITU-T T.800, B-15).

        Parameters
        ----------
        skipped : int
            Decompositions below the full resolution.
        right, down : int
            1 if the subband has the high frequencies in that direction.
        """
        half = 1 << (skipped - 1) if skipped else 0
        return (
            _ceiling(self.x0 - half * right, skipped),
            _ceiling(self.y0 - half * down, skipped),
            _ceiling(self.x1 - half * right, skipped),
            _ceiling(self.y1 - half * down, skipped),
        )


@dataclass(frozen=True, slots=True)
class CodingStyle:
    """The parameters that determine the packets and the coding of their headers (ITU-T T.800, A.6.1).

    Attributes
    ----------
    components, decompositions : int
        Number of components, and of decompositions.
    by_position : bool
        Whether packets are ordered by position (RPCL) or by component (RLCP).
    block_width, block_height : int
        Size of a code-block, as exponents of two.
    block_style : int
        Flags of the code-block style.
    precincts : tuple of (int, int)
        Width and height of the precincts of each resolution, as exponents of two.
    may_have_sop : bool
        Whether packets may begin with an SOP marker segment.
    """

    components: int
    decompositions: int
    by_position: bool
    block_width: int
    block_height: int
    block_style: int
    precincts: tuple[tuple[int, int], ...]
    may_have_sop: bool


def check_packets(
    content: bytes | bytearray, start: int, end: int, resolution: int, area: ImageArea, style: CodingStyle
) -> int:
    """Check that bytes `start` to `end` are exactly the packets of one resolution.

    Parameters
    ----------
    content : bytes or bytearray
        The bytes of the frame read so far. Bytes from `end` on do not affect the result.
    start, end : int
        Offsets of a tile-part's packets in the frame, in bytes.
    resolution : int
        The number of the expected resolution; 0 is the base.
    area : ImageArea
        The image's area.
    style : CodingStyle
        The coding style. The codestream has one quality layer.

    Returns
    -------
    int
        Number of code-blocks in the packets.

    Raises
    ------
    NotDivisibleError
        If they are not, or if this module does not support the coding style.
    """
    is_ht = style.block_style & 0xC0 == HT_ONLY
    harmless = _HARMLESS_HT_STYLE | HT_ONLY if is_ht else _HARMLESS_STYLE
    if style.block_style & ~harmless or not 2 <= style.block_width <= 10 or not 2 <= style.block_height <= 10:
        raise NotDivisibleError("The code-block style codes lengths in a way that Framegate does not read.")
    precincts = list(_precincts(resolution, area, style, end - start))
    once, times = (1, style.components) if style.by_position else (style.components, 1)
    position = start
    for _ in range(once):
        for precinct in precincts:
            for _ in range(times):
                position = _end_of_packet(content, position, end, precinct, style, is_ht=is_ht)
    if position != end:
        raise NotDivisibleError("A tile-part does not hold exactly one resolution.")
    return style.components * sum(across * down for precinct in precincts for across, down in precinct)


_Blocks = tuple[int, int]
"""Number of code-blocks of a subband in a precinct: columns and rows."""


def _precincts(resolution: int, area: ImageArea, style: CodingStyle, size: int) -> Iterator[list[_Blocks]]:
    """Yield the code-blocks of each precinct of a resolution, by subband (ITU-T T.800, B.6 and B.7)."""
    skipped = style.decompositions - resolution
    wide, high = style.precincts[resolution]
    x0, y0, x1, y1 = area.at(skipped)
    left, top, right, bottom = x0 >> wide, y0 >> high, _ceiling(x1, wide), _ceiling(y1, high)
    if x0 == x1 or y0 == y1:
        return
    # Each packet has at least one byte.
    if (right - left) * (bottom - top) * style.components > size:
        raise NotDivisibleError("There are more packets than bytes.")
    if resolution == 0:
        bands = [area.at(skipped)]
    else:
        if not wide or not high:
            raise NotDivisibleError("Precincts of one sample have no subbands.")
        wide, high = wide - 1, high - 1
        bands = [area.at(skipped + 1, 1, 0), area.at(skipped + 1, 0, 1), area.at(skipped + 1, 1, 1)]
    block_width, block_height = min(style.block_width, wide), min(style.block_height, high)
    blocks = 0
    for row in range(top, bottom):
        for column in range(left, right):
            precinct = []
            for band_x0, band_y0, band_x1, band_y1 in bands:
                first_x, last_x = max(band_x0, column << wide), min(band_x1, (column + 1) << wide)
                first_y, last_y = max(band_y0, row << high), min(band_y1, (row + 1) << high)
                if first_x < last_x and first_y < last_y:
                    across = _ceiling(last_x, block_width) - (first_x >> block_width)
                    down = _ceiling(last_y, block_height) - (first_y >> block_height)
                    precinct.append((across, down))
                    blocks += across * down
            if blocks * style.components > MAX_BLOCKS:
                raise NotDivisibleError("There are more code-blocks than the maximum.")
            yield precinct


def _end_of_packet(
    content: bytes | bytearray, position: int, end: int, precinct: list[_Blocks], style: CodingStyle, *, is_ht: bool
) -> int:
    """Read a packet's header, and return the offset of its body's end (ITU-T T.800, B.10)."""
    # Bytes after the tile-part must not count: whether they have arrived depends on the request.
    if style.may_have_sop and content[position : min(position + 4, end)] == _SOP:
        position += 6
    bits = _Bits(content, position, end)
    body = 0
    if bits.read(1):
        for across, down in precinct:
            body += _size_of_blocks(bits, across, down, is_ht=is_ht)
    position = bits.end() + body
    if position > end:
        raise NotDivisibleError("A packet is longer than its tile-part.")
    return position


def _size_of_blocks(bits: _Bits, across: int, down: int, *, is_ht: bool) -> int:
    """Read the total size in bytes of a subband's code-blocks in a packet."""
    included, missing_planes = _TagTree(across, down), _TagTree(across, down)
    size = 0
    for y in range(down):
        for x in range(across):
            if included.is_zero(x, y, bits):
                missing_planes.value(x, y, bits)
                size += _size_of_block(bits, _passes(bits), is_ht=is_ht)
    return size


def _size_of_block(bits: _Bits, passes: int, *, is_ht: bool) -> int:
    """Read the size in bytes of a code-block in a packet (ITU-T T.800, B.10.7; T.814, B.3)."""
    length_bits = 3
    while bits.read(1):
        length_bits += 1
        if length_bits > MAX_LENGTH_BITS:
            raise NotDivisibleError("A code-block is longer than a tile-part can be.")
    if not is_ht:
        return bits.read(length_bits + passes.bit_length() - 1)
    # Passes come in sets of three. The sets before the last one are placeholders without bytes.
    placeholders = (passes - 1) // 3 * 3
    passes -= placeholders
    size = bits.read(length_bits + (placeholders + 1).bit_length() - 1)
    if passes > 1:
        size += bits.read(length_bits + passes - 2)
    return size


def _passes(bits: _Bits) -> int:
    """Read the number of coding passes (ITU-T T.800, table B.4)."""
    if not bits.read(1):
        return 1
    if not bits.read(1):
        return 2
    if (more := bits.read(2)) < 3:
        return 3 + more
    if (more := bits.read(5)) < 31:
        return 6 + more
    return 37 + bits.read(7)


class _Bits:
    """Reads the bits of a packet header: a stuffing bit follows each byte of ones (ITU-T T.800, B.10.1)."""

    __slots__ = ("_byte", "_content", "_end", "_left", "_position")

    def __init__(self, content: bytes | bytearray, position: int, end: int) -> None:
        self._content = content
        self._position = position
        self._end = end
        self._byte = self._left = 0

    def read(self, count: int) -> int:
        """Return the next bits as a number."""
        value = 0
        while count:
            if not self._left:
                if self._position >= self._end:
                    raise NotDivisibleError("A packet header is truncated.")
                self._left = 7 if self._byte == 0xFF else 8
                self._byte = self._content[self._position]
                self._position += 1
            taken = min(count, self._left)
            self._left -= taken
            count -= taken
            value = value << taken | self._byte >> self._left & ((1 << taken) - 1)
        return value

    def end(self) -> int:
        """Return the offset of the header's end, which follows a byte that is not all ones."""
        return self._position + (self._byte == 0xFF)


class _TagTree:
    """Reads a tag tree, in which each node has the minimum of the nodes below it (ITU-T T.800, B.10.2)."""

    __slots__ = ("_floors", "_known", "_levels")

    def __init__(self, across: int, down: int) -> None:
        sizes = [(across, down)]
        while sizes[-1] != (1, 1):
            across, down = sizes[-1]
            sizes.append((across + 1 >> 1, down + 1 >> 1))
        # For each level from the root to the leaves: the shift of coordinates, the width, and the first node.
        self._levels: list[tuple[int, int, int]] = []
        nodes = 0
        for shift in range(len(sizes) - 1, -1, -1):
            self._levels.append((shift, sizes[shift][0], nodes))
            nodes += sizes[shift][0] * sizes[shift][1]
        self._floors = [0] * nodes
        self._known = bytearray(nodes)

    def is_zero(self, x: int, y: int, bits: _Bits) -> bool:
        """Return whether a leaf's value is 0. Do not also call `value` on the same tree."""
        for shift, width, first in self._levels:
            node = first + (y >> shift) * width + (x >> shift)
            if not self._known[node]:
                self._known[node] = 1
                self._floors[node] = 1 - bits.read(1)
            if self._floors[node]:
                return False
        return True

    def value(self, x: int, y: int, bits: _Bits) -> int:
        """Return a leaf's value.

        Raises
        ------
        NotDivisibleError
            If the value exceeds ``MAX_BIT_PLANES``.
        """
        value = 0
        for shift, width, first in self._levels:
            node = first + (y >> shift) * width + (x >> shift)
            if self._known[node]:
                value = self._floors[node]
            else:
                while not bits.read(1):
                    value += 1
                    if value > MAX_BIT_PLANES:
                        raise NotDivisibleError("A code-block lacks more bit-planes than a sample has.")
                self._known[node] = 1
                self._floors[node] = value
        return value


def _ceiling(value: int, exponent: int) -> int:
    """Divide by a power of two, and round up."""
    return -(-value >> exponent)
