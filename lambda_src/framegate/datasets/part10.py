"""Lays out DICOM files (PS3.10): the file meta information, and the pixel data around stored frames. Pure, without I/O.

A frame becomes one fragment, as it is stored. Nothing is decoded or encoded.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING

from framegate.datasets.encoding import MAX_LONG_VALUE_BYTES, UNDEFINED_LENGTH, DatasetError, element_header
from framegate.healthimaging.media_types import EXPLICIT_LITTLE_ENDIAN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

DICOM_FILE = "application/dicom"
"""Media type of a DICOM file (PS3.18, section 8.7.3.4)."""

FORMAT = 1
"""Format of the files that this module lays out. A new one builds stored files again."""

IMPLEMENTATION_CLASS_UID = "2.25.188214143419793671155218480064292969436"
"""Names Framegate in the files that it writes. It is derived from a UUID: version 5, DNS, ``framegate.implementation``.

References
----------
DICOM PS3.5, section B.2.
"""

IMPLEMENTATION_VERSION_NAME = f"FRAMEGATE_{FORMAT}"

MAX_BASIC_OFFSET_BYTES = 0xFFFFFFFF
"""Maximum offset in the Basic Offset Table (PS3.5, section A.4)."""

_PREAMBLE = bytes(128) + b"DICM"

_PIXEL_DATA, _FLOAT_PIXEL_DATA, _DOUBLE_PIXEL_DATA = 0x7FE00010, 0x7FE00008, 0x7FE00009
_EXTENDED_OFFSETS, _EXTENDED_LENGTHS = 0x7FE00001, 0x7FE00002

_END_OF_SEQUENCE = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
_ITEM_HEADER_BYTES = 8

_VIDEO = tuple(
    f"1.2.840.10008.1.2.4.{each}" for each in ("100", "101", "102", "103", "104", "105", "106", "107", "108")
)


def is_video(transfer_syntax_uid: str) -> bool:
    """Whether a transfer syntax is that of a video, whose frames form one stream (PS3.5, section A.4.5 and later)."""
    return transfer_syntax_uid.startswith(_VIDEO)


def file_head(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Encode the preamble and the file meta information.

    References
    ----------
    DICOM PS3.10, section 7.1.
    """
    elements = b"".join(
        _padded_element(0x00020000 | number, vr, value)
        for number, vr, value in (
            (0x01, "OB", b"\0\1"),
            (0x02, "UI", sop_class_uid.encode()),
            (0x03, "UI", sop_instance_uid.encode()),
            (0x10, "UI", transfer_syntax_uid.encode()),
            (0x12, "UI", IMPLEMENTATION_CLASS_UID.encode()),
            (0x13, "SH", IMPLEMENTATION_VERSION_NAME.encode()),
        )
    )
    return _PREAMBLE + element_header(0x00020000, "UL", 4) + struct.pack("<I", len(elements)) + elements


def _padded_element(tag: int, vr: str, value: bytes) -> bytes:
    padding = b" " if vr == "SH" else b"\0"
    value += padding * (len(value) % 2)
    return element_header(tag, vr, len(value)) + value


@dataclass(frozen=True)
class PixelLayout:
    """The bytes around the frames of an instance.

    Parameters
    ----------
    transfer_syntax_uid : str
        The transfer syntax of the frames.
    sizes : tuple of int
        The size of each frame in bytes.
    bits_allocated : int
        Bits of a sample.
    frame_bits : int
        Bits of an uncompressed frame.
    is_float : bool
        Whether the samples are floating point numbers: the instance has no Bits Stored.

    Raises
    ------
    DatasetError
        If a frame is too large for a fragment, or uncompressed pixel data for an attribute.

    References
    ----------
    DICOM PS3.5, sections 8 and A.4; PS3.3, section C.7.6.3.1.8 (Extended Offset Table).
    """

    transfer_syntax_uid: str
    sizes: tuple[int, ...]
    bits_allocated: int = 8
    frame_bits: int = 0
    is_float: bool = False

    def __post_init__(self) -> None:
        longest = max(self.sizes) if self.is_encapsulated else sum(self.sizes)
        if longest > MAX_LONG_VALUE_BYTES - 1:
            raise DatasetError("describes pixel data that is too large for a DICOM file")

    @property
    def is_encapsulated(self) -> bool:
        """Whether the frames are compressed, so that each is a fragment."""
        return self.transfer_syntax_uid != EXPLICIT_LITTLE_ENDIAN

    @property
    def repacks_bits(self) -> bool:
        """Whether frames of single bits end within a byte, so that the next one follows within the same byte.

        References
        ----------
        DICOM PS3.5, section 8.1.1.
        """
        return (
            not self.is_encapsulated and self.bits_allocated == 1 and len(self.sizes) > 1 and self.frame_bits % 8 != 0
        )

    @cached_property
    def head(self) -> bytes:
        """The bytes before the first frame, with a table of offsets if there are several.

        The table is the Extended Offset Table only if an offset does not fit the 32 bits of the Basic Offset Table.
        SimpleITK, with ITK 5.4, reads no multi-frame file that has an Extended Offset Table.
        """
        if not self.is_encapsulated:
            tag, vr = self._native_tag
            return element_header(tag, vr, self._native_bytes + self._native_bytes % 2)
        lengths = [each + each % 2 for each in self.sizes]
        offsets = [0, *accumulate(each + _ITEM_HEADER_BYTES for each in lengths[:-1])] if len(lengths) > 1 else []
        extended = basic = b""
        if offsets and offsets[-1] > MAX_BASIC_OFFSET_BYTES:
            extended = _table(_EXTENDED_OFFSETS, offsets) + _table(_EXTENDED_LENGTHS, lengths)
        else:
            basic = struct.pack(f"<{len(offsets)}I", *offsets)
        # The Basic Offset Table must be empty where there is an extended one.
        start = element_header(_PIXEL_DATA, "OB", UNDEFINED_LENGTH)
        return extended + start + fragment_header(len(basic)) + basic

    @property
    def tail(self) -> bytes:
        """The bytes after the last frame."""
        return _END_OF_SEQUENCE if self.is_encapsulated else bytes(self._native_bytes % 2)

    def before_frame(self, number: int) -> bytes:
        """Return the bytes before a frame; `number` counts from 1."""
        size = self.sizes[number - 1]
        return fragment_header(size + size % 2) if self.is_encapsulated else b""

    def after_frame(self, number: int) -> bytes:
        """Return the padding after a frame; `number` counts from 1."""
        return bytes(self.sizes[number - 1] % 2) if self.is_encapsulated else b""

    @property
    def size(self) -> int:
        """The size of the pixel data in bytes, with all that is around it."""
        if not self.is_encapsulated:
            return len(self.head) + self._native_bytes + len(self.tail)
        frames = sum(_ITEM_HEADER_BYTES + each + each % 2 for each in self.sizes)
        return len(self.head) + frames + len(self.tail)

    @property
    def _native_tag(self) -> tuple[int, str]:
        if self.is_float and self.bits_allocated in (32, 64):
            return (_FLOAT_PIXEL_DATA, "OF") if self.bits_allocated == 32 else (_DOUBLE_PIXEL_DATA, "OD")
        return _PIXEL_DATA, "OW" if self.bits_allocated > 8 else "OB"

    @property
    def _native_bytes(self) -> int:
        return -(-self.frame_bits * len(self.sizes) // 8) if self.repacks_bits else sum(self.sizes)


def fragment_header(size: int) -> bytes:
    """Encode the header of a fragment of `size` bytes (PS3.5, section A.4)."""
    return struct.pack("<HHI", 0xFFFE, 0xE000, size)


def _table(tag: int, numbers: Sequence[int]) -> bytes:
    return element_header(tag, "OV", 8 * len(numbers)) + struct.pack(f"<{len(numbers)}Q", *numbers)


def joined_bits(frames: Iterable[bytes], frame_bits: int) -> Iterator[bytes]:
    r"""Join frames of single bits, each of which begins with a byte, to one stream of bits.

    The first pixel is the least significant bit of the first byte (PS3.5, section 8.1.1).

    Examples
    --------
    >>> [byte for piece in joined_bits([b"\x07", b"\x05"], 3) for byte in piece]
    [47]
    """
    held = held_bits = 0
    for frame in frames:
        bits = int.from_bytes(frame, "little") & ((1 << frame_bits) - 1)
        held |= bits << held_bits
        held_bits += frame_bits
        whole = held_bits // 8
        yield (held & ((1 << 8 * whole) - 1)).to_bytes(whole, "little")
        held >>= 8 * whole
        held_bits -= 8 * whole
    if held_bits:
        yield held.to_bytes(1, "little")
