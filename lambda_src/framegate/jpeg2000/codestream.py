"""Finds where the resolutions of a JPEG 2000 or HTJ2K frame end, by reading its headers while the frame arrives.

A frame is divisible if each of its tile-parts holds exactly one resolution. The frame up to the end of a tile-part,
followed by the EOC marker, then decodes to the pixels that the whole frame has at that resolution. This module verifies
each tile-part up to the requested resolution. If it cannot verify one, the frame is indivisible.

References
----------
ITU-T T.800 (JPEG 2000), annex A for marker segments, annex B for the content of a tile-part, annex I for the boxes of a
JP2 file. ITU-T T.814 (HTJ2K), annex A for the extensions, annex D for the boxes of a JPH file.
DICOM PS3.5, section A.4.9: HTJ2K with RPCL options (1.2.840.10008.1.2.4.202), which HealthImaging transcodes to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from framegate.jpeg2000.bounds import MAX_DECOMPOSITIONS
from framegate.jpeg2000.packets import MAX_BLOCKS, CodingStyle, ImageArea, NotDivisibleError, check_packets

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["EOC", "Codestream", "FramePrefix", "NotDivisibleError", "Resolution", "read_codestream"]

EOC = b"\xff\xd9"
"""The marker that ends a codestream (ITU-T T.800, A.4.4)."""

MAX_HEADER_BYTES = 128 * 1024
"""Maximum size of the boxes and the main header. HealthImaging's frames have a few hundred bytes."""

_SOC_SIZ = b"\xff\x4f\xff\x51"
_SIGNATURE_BOX = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
_SIZ, _COD, _TLM, _SOT, _SOD = 0xFF51, 0xFF52, 0xFF55, 0xFF90, 0xFF93

# CAP, PRF, PLM, CPF, QCD, QCC, RGN, CRG, COM: they do not affect where packets are.
_HARMLESS = frozenset({0xFF50, 0xFF56, 0xFF57, 0xFF59, 0xFF5C, 0xFF5D, 0xFF5E, 0xFF63, 0xFF64})
# PLT, COM.
_HARMLESS_IN_TILE_PART = frozenset({0xFF58, 0xFF64})

_RESOLUTION_FIRST = frozenset({1, 2})
"""The progression orders RLCP and RPCL (ITU-T T.800, table A.16)."""

# Boxes that do not affect the pixels: file type, XML, UUIDs, intellectual property, free space.
_PLAIN_BOXES = frozenset({b"ftyp", b"xml ", b"uuid", b"uinf", b"jp2i", b"free"})
# Palette, component mapping, channel definition: with them, a decoder makes other pixels than from the codestream
# alone.
_PIXEL_BOXES = frozenset({b"pclr", b"cmap", b"cdef"})
_GREY_OR_RGB = frozenset({16, 17})


class FramePrefix(Protocol):
    """A frame that is still arriving."""

    def at_least(self, size: int) -> bytes | bytearray:
        """Return all bytes read so far: at least `size`, unless the frame is shorter."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """A resolution of a frame: its number (0 is the base) and its size in pixels."""

    number: int
    columns: int
    rows: int


class Codestream:
    """A codestream after its main header was read.

    Attributes
    ----------
    start : int
        The offset of the codestream in the frame, in bytes: 0, or the end of the boxes before it.
    resolutions : tuple of Resolution
        All resolutions, from the base to the full one.
    """

    def __init__(self, start: int, end: int | None, header_end: int, area: ImageArea, style: CodingStyle) -> None:
        self.start = start
        top = style.decompositions
        self.resolutions = tuple(Resolution(n, *area.size_at(top - n)) for n in range(top + 1))
        self._end = end
        self._area = area
        self._style = style
        self._tile_part_lengths: list[int] | None = None
        self._ends = [header_end]
        self._blocks_checked = 0

    def expect(self, tile_part_lengths: list[int]) -> None:
        """Set the tile-part lengths that the TLM marker segments announce.

        Raises
        ------
        NotDivisibleError
            If their number differs from the number of resolutions.
        """
        if len(tile_part_lengths) != len(self.resolutions):
            raise NotDivisibleError("The number of tile-parts differs from the number of resolutions.")
        self._tile_part_lengths = tile_part_lengths

    def end_of(self, number: int, prefix: FramePrefix) -> int:
        """Return the offset in the frame, in bytes, at which the tile-part of a resolution ends.

        The result depends only on the bytes before that offset, not on how many more were read.

        Parameters
        ----------
        number : int
            The resolution's number; 0 is the base.
        prefix : FramePrefix
            The frame. This method reads it up to the end of the resolution.

        Raises
        ------
        NotDivisibleError
            If a tile-part before that offset does not hold exactly one resolution.
        """
        if self._tile_part_lengths and len(self._ends) <= number + 1:
            # One read covers all tile-parts. Each tile-part's own length is compared with the announced one.
            prefix.at_least(self._ends[0] + sum(self._tile_part_lengths[: number + 1]))
        while len(self._ends) <= number + 1:
            self._ends.append(self._end_of_tile_part(len(self._ends) - 1, self._ends[-1], prefix))
        return self._ends[number + 1]

    def _end_of_tile_part(self, number: int, position: int, prefix: FramePrefix) -> int:
        """Check a tile-part, and return the offset of its end (ITU-T T.800, A.4.2)."""
        head = prefix.at_least(position + 12)[position : position + 12]
        if len(head) < 12:
            raise NotDivisibleError("The frame ends before a tile-part.")
        tile, length, part, parts = _number(head, 4, 2), _number(head, 6, 4), head[10], head[11]
        expected = self._tile_part_lengths[number] if self._tile_part_lengths else length
        if (_number(head, 0, 4), tile, part, length) != (_SOT << 16 | 10, 0, number, expected):
            raise NotDivisibleError("A tile-part is missing or out of place.")
        if parts not in (0, len(self.resolutions)):
            raise NotDivisibleError("The number of tile-parts differs from the number of resolutions.")
        end = position + length
        if length < 14 or (self._end is not None and end > self._end):
            raise NotDivisibleError("A tile-part has no length, or extends beyond its box.")
        content = prefix.at_least(end)
        if len(content) < end:
            raise NotDivisibleError("The frame ends within a tile-part.")
        data = _start_of_data(content, position + 12, end)
        self._blocks_checked += check_packets(content, data, end, number, self._area, self._style)
        if self._blocks_checked > MAX_BLOCKS:
            raise NotDivisibleError("There are more code-blocks than the maximum.")
        return end


def read_codestream(prefix: FramePrefix) -> Codestream:
    """Read a frame's main header, and the boxes around it if it is a file.

    Parameters
    ----------
    prefix : FramePrefix
        The frame. This function reads it up to the end of the main header.

    Raises
    ------
    NotDivisibleError
        If the frame is not a codestream, or its tile-parts cannot be resolutions.
    """
    start, end = _codestream_in(prefix)
    if bytes(_bytes_at(prefix, start, 4)) != _SOC_SIZ:
        raise NotDivisibleError("The frame is not a JPEG 2000 codestream.")
    area = style = None
    components = 0
    lengths: dict[int, list[int]] = {}
    position = start + 2
    while (marker := _number(_bytes_at(prefix, position, 2), 0, 2)) != _SOT:
        segment = _segment(prefix, position)
        if marker == _SIZ and area is None:
            area, components = _read_siz(segment)
        elif marker == _COD and style is None and area is not None:
            style = _read_cod(segment, components)
        elif marker == _TLM:
            _read_tlm(segment, lengths)
        elif marker not in _HARMLESS:
            raise NotDivisibleError("The main header has a marker segment that can change where packets are.")
        position += 2 + len(segment)
    if area is None or style is None:
        raise NotDivisibleError("The main header lacks SIZ or COD.")
    codestream = Codestream(start, end, position, area, style)
    if not all(each.columns and each.rows for each in codestream.resolutions):
        raise NotDivisibleError("One of the resolutions has no pixels.")
    if lengths:
        if sorted(lengths) != list(range(len(lengths))):
            raise NotDivisibleError("A TLM marker segment is missing.")
        codestream.expect([length for _, part in sorted(lengths.items()) for length in part])
    return codestream


def _codestream_in(prefix: FramePrefix) -> tuple[int, int | None]:
    """Return the offsets at which the codestream begins and, if known, ends (ITU-T T.800, I.4 and I.5)."""
    if bytes(prefix.at_least(len(_SIGNATURE_BOX))[: len(_SIGNATURE_BOX)]) != _SIGNATURE_BOX:
        return 0, None
    position = len(_SIGNATURE_BOX)
    while True:
        kind, content, end = _box(lambda at, size: _bytes_at(prefix, at, size), position)
        if kind == b"jp2c":
            return content, end
        if end is None:
            raise NotDivisibleError("There is no codestream in the file.")
        if kind == b"jp2h":
            _check_header_boxes(bytes(_bytes_at(prefix, content, end - content)))
        elif kind not in _PLAIN_BOXES:
            raise NotDivisibleError("The file has a box that can change its pixels.")
        position = end


def _check_header_boxes(header: bytes) -> None:
    position = 0
    while position < len(header):
        kind, content, end = _box(lambda at, size: header[at : at + size], position)
        position = len(header) if end is None else end
        is_colour = kind == b"colr" and header[content : content + 1] == b"\x01"
        if kind in _PIXEL_BOXES or (is_colour and _number(header, content + 3, 4) not in _GREY_OR_RGB):
            raise NotDivisibleError("The file changes the pixels of the codestream.")


def _box(read: Callable[[int, int], bytes | bytearray], position: int) -> tuple[bytes, int, int | None]:
    """Return a box's type, the offset of its content, and the offset of its end; None is the end of the file."""
    head = read(position, 8)
    length, kind, content = _number(head, 0, 4), bytes(head[4:8]), position + 8
    if length == 0:
        return kind, content, None
    if length == 1:
        length, content = _number(read(content, 8), 0, 8), content + 8
    if position + length < content:
        raise NotDivisibleError("A box is shorter than its header.")
    return kind, content, position + length


def _read_siz(segment: bytes) -> tuple[ImageArea, int]:
    """Read the image's area and its number of components (ITU-T T.800, A.5.1)."""
    components = _number(segment, 36, 2)
    if len(segment) != 38 + 3 * components or not components:
        raise NotDivisibleError("SIZ has a wrong length.")
    x1, y1, x0, y0, tile_width, tile_height, tile_x0, tile_y0 = (_number(segment, 4 + 4 * n, 4) for n in range(8))
    one_tile = tile_x0 <= x0 and tile_y0 <= y0 and tile_x0 + tile_width >= x1 and tile_y0 + tile_height >= y1
    if not one_tile or x0 >= x1 or y0 >= y1:
        raise NotDivisibleError("The image is not one tile.")
    if any(segment[39 + 3 * n : 41 + 3 * n] != b"\x01\x01" for n in range(components)):
        raise NotDivisibleError("Components are subsampled.")
    return ImageArea(x0, y0, x1, y1), components


def _read_cod(segment: bytes, components: int) -> CodingStyle:
    """Read the coding style (ITU-T T.800, A.6.1)."""
    if len(segment) < 12:
        raise NotDivisibleError("COD has a wrong length.")
    style, progression, layers, decompositions = segment[2], segment[3], _number(segment, 4, 2), segment[7]
    has_precincts = bool(style & 1)
    if decompositions > MAX_DECOMPOSITIONS or len(segment) != 12 + has_precincts * (decompositions + 1):
        raise NotDivisibleError("COD has a wrong length.")
    if progression not in _RESOLUTION_FIRST or layers != 1:
        raise NotDivisibleError("The progression is not by resolution, or has several layers.")
    if style & 4:
        raise NotDivisibleError("Packet headers end with markers, and OpenJPEG fails where the last one is cut off.")
    sizes = segment[12:] if has_precincts else b"\xff" * (decompositions + 1)
    return CodingStyle(
        components=components,
        decompositions=decompositions,
        by_position=progression == 2,
        block_width=segment[8] + 2,
        block_height=segment[9] + 2,
        block_style=segment[10],
        precincts=tuple((size & 15, size >> 4) for size in sizes),
        may_have_sop=bool(style & 2),
    )


def _read_tlm(segment: bytes, lengths: dict[int, list[int]]) -> None:
    """Read the lengths of tile-parts into `lengths`, by the index of the segment (ITU-T T.800, A.7.1)."""
    if len(segment) < 4 or segment[2] in lengths:
        raise NotDivisibleError("TLM has a wrong length, or an index occurs twice.")
    tile_size = segment[3] >> 4 & 3
    length_size = 4 if segment[3] >> 6 & 1 else 2
    entry = tile_size + length_size
    if tile_size == 3 or (len(segment) - 4) % entry or (len(segment) - 4) // entry > MAX_DECOMPOSITIONS + 1:
        raise NotDivisibleError("TLM has a wrong length, or too many tile-parts.")
    lengths[segment[2]] = [_number(segment, at + tile_size, length_size) for at in range(4, len(segment), entry)]
    if any(_number(segment, at, tile_size) for at in range(4, len(segment), entry)):
        raise NotDivisibleError("The image is not one tile.")


def _start_of_data(content: bytes | bytearray, position: int, end: int) -> int:
    """Return the offset of a tile-part's packets, which follow its header."""
    while position + 2 <= end and (marker := _number(content, position, 2)) != _SOD:
        if marker not in _HARMLESS_IN_TILE_PART or position + 4 > end:
            raise NotDivisibleError("A tile-part has its own coding parameters.")
        position += 2 + max(2, _number(content, position + 2, 2))
    if position + 2 > end:
        raise NotDivisibleError("A tile-part has no data.")
    return position + 2


def _segment(prefix: FramePrefix, position: int) -> bytes:
    """Return a marker segment without its marker (ITU-T T.800, A.1.2)."""
    length = _number(_bytes_at(prefix, position + 2, 2), 0, 2)
    if length < 2:
        raise NotDivisibleError("A marker segment has no length.")
    return bytes(_bytes_at(prefix, position + 2, length))


def _bytes_at(prefix: FramePrefix, position: int, size: int) -> bytes | bytearray:
    """Return bytes of the headers.

    Raises
    ------
    NotDivisibleError
        If the frame ends before them, or the headers exceed ``MAX_HEADER_BYTES``.
    """
    end = position + size
    found = prefix.at_least(end)[position:end] if end <= MAX_HEADER_BYTES else b""
    if len(found) < size:
        raise NotDivisibleError("The headers are truncated or too long.")
    return found


def _number(content: bytes | bytearray, position: int, size: int) -> int:
    """Return an unsigned big-endian number."""
    return int.from_bytes(content[position : position + size], "big")
