"""Holds the bytes of image frames, and maps transfer syntaxes to media types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
_PREFIX = "1.2.840.10008.1.2.4."
JPEG_BASELINE = f"{_PREFIX}50"
JPEG_2000_LOSSLESS = f"{_PREFIX}90"
JPEG_XL = f"{_PREFIX}112"
HTJ2K_RPCL = f"{_PREFIX}202"

_MPEG2 = ("100", "100.1", "101", "101.1")
_H264 = ("102", "102.1", "103", "103.1", "104", "104.1", "105", "105.1", "106", "106.1")
_HEVC = ("107", "108")

CONTENT_TYPES = {
    EXPLICIT_VR_LITTLE_ENDIAN: "application/octet-stream",
    JPEG_BASELINE: "image/jpeg",
    f"{_PREFIX}91": "image/j2c",
    JPEG_XL: "image/jxl",
    **{_PREFIX + suffix: "video/mpeg" for suffix in _MPEG2},
    **{_PREFIX + suffix: "video/mp4" for suffix in _H264},
    **{_PREFIX + suffix: "video/H256" for suffix in _HEVC},
    HTJ2K_RPCL: "image/jph",
    f"{_PREFIX}203": "image/jphc",
    # The reference does not list JPEG 2000 lossless; its default is application/octet-stream.
    JPEG_2000_LOSSLESS: "application/octet-stream",
}
"""The media type of a frame by stored transfer syntax (boto3 reference, ``get_image_frame``, ``contentType``)."""

SYNTAXES = {content_type: syntax for syntax, content_type in reversed(CONTENT_TYPES.items())}
"""The first stored transfer syntax of each media type."""

VIDEO = frozenset(_PREFIX + suffix for suffix in (*_MPEG2, *_H264, *_HEVC))


@dataclass(frozen=True, slots=True)
class GeneratedBody:
    """A body that is generated while it is sent: ``size`` bytes, in the pieces that ``pieces()`` yields."""

    size: int
    pieces: Callable[[], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class FrameContent:
    """The bytes of a frame: in memory, in a file, or generated."""

    source: bytes | Path | GeneratedBody

    @property
    def size(self) -> int:
        """The size in bytes."""
        if isinstance(self.source, bytes):
            return len(self.source)
        return self.source.size if isinstance(self.source, GeneratedBody) else self.source.stat().st_size

    def pieces(self, size: int = 1 << 20) -> Iterator[bytes | memoryview]:
        """Yield the bytes in pieces of at most ``size`` bytes; a `GeneratedBody` yields its own pieces."""
        if isinstance(self.source, bytes):
            view = memoryview(self.source)
            yield from (view[start : start + size] for start in range(0, len(view), size))
        elif isinstance(self.source, GeneratedBody):
            yield from self.source.pieces()
        else:
            with self.source.open("rb") as file:
                while piece := file.read(size):
                    yield piece
