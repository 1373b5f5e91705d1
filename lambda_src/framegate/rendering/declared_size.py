"""Reads the size that a JPEG, JPEG-LS or JPEG XL frame declares, before a decoder allocates memory for it.

References
----------
ITU-T T.81, annex B (JPEG); ITU-T T.87, annex C (JPEG-LS); ISO/IEC 18181-1, section 9.2, and 18181-2 (JPEG XL).
"""

from __future__ import annotations

_MAX_HEADER_BYTES = 1024 * 1024
"""Maximum bytes before the declared size: applications can insert segments and boxes, such as colour profiles."""

_START_OF_FRAME = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
"""Markers of segments that declare the size: all of SOF0 to SOF15, and JPEG-LS's SOF55."""

_START_OF_SCAN = 0xDA
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xDA)})  # TEM, RST0 to RST7, SOI and EOI

_JPEG_XL_CONTAINER = b"\x00\x00\x00\x0cJXL \r\n\x87\n"
_JPEG_XL_CODESTREAM = b"\xff\x0a"
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
"""Width over height, for the values 1 to 7 of ``ratio``."""


class NoSizeError(ValueError):
    """The frame does not declare a size where it should."""


def size_of_jpeg(content: bytes) -> tuple[int, int]:
    """Return the columns and rows that a JPEG or JPEG-LS frame declares.

    Bytes between segments are skipped, as decoders do.

    Raises
    ------
    NoSizeError
        If no segment declares a size before the first scan.
    """
    head, position = content[:_MAX_HEADER_BYTES], 0
    while (position := head.find(b"\xff", position)) >= 0 and position + 4 <= len(head):
        marker = head[position + 1]
        if marker == _START_OF_SCAN:
            break
        if marker in (0x00, 0xFF):
            position += 1
        elif marker in _WITHOUT_LENGTH:
            position += 2
        elif marker in _START_OF_FRAME:
            segment = head[position + 2 : position + 9]
            if len(segment) < 7:
                break
            return int.from_bytes(segment[5:7], "big"), int.from_bytes(segment[3:5], "big")
        else:
            position += 2 + int.from_bytes(head[position + 2 : position + 4], "big")
    raise NoSizeError


def size_of_jpeg_xl(content: bytes) -> tuple[int, int]:
    """Return the columns and rows that a JPEG XL frame declares, before its orientation is applied.

    Raises
    ------
    NoSizeError
        If the frame does not begin with the headers of JPEG XL.
    """
    codestream = _codestream(content[:_MAX_HEADER_BYTES])
    if not codestream.startswith(_JPEG_XL_CODESTREAM):
        raise NoSizeError
    bits = _Bits(codestream[len(_JPEG_XL_CODESTREAM) :][:16])
    is_small = bits.take(1)

    def side() -> int:
        if is_small:
            return (bits.take(5) + 1) * 8
        return bits.take((9, 13, 18, 30)[bits.take(2)]) + 1

    rows = side()
    ratio = bits.take(3)
    if not ratio:
        return side(), rows
    across, down = _RATIOS[ratio - 1]
    return rows * across // down, rows


def _codestream(head: bytes) -> bytes:
    """Return the start of the codestream: the frame itself, or the first box of its container that holds some of it."""
    if not head.startswith(_JPEG_XL_CONTAINER):
        return head
    position = 0
    while position + 8 <= len(head):
        size, kind = int.from_bytes(head[position : position + 4], "big"), head[position + 4 : position + 8]
        start = position + (16 if size == 1 else 8)
        if kind == b"jxlc":
            return head[start:]
        if kind == b"jxlp":
            return head[start + 4 :]
        if size == 1:
            size = int.from_bytes(head[position + 8 : position + 16], "big")
        if size < 8:
            break
        position += size
    raise NoSizeError


class _Bits:
    """Bits of a JPEG XL codestream, the least significant of each byte first."""

    def __init__(self, content: bytes) -> None:
        self._rest = int.from_bytes(content, "little")
        self._left = 8 * len(content)

    def take(self, count: int) -> int:
        if count > self._left:
            raise NoSizeError
        taken = self._rest & ((1 << count) - 1)
        self._rest >>= count
        self._left -= count
        return taken
