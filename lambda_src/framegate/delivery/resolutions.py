"""Cuts stored resolutions out of a frame. Reads only as much of the frame as they need."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from framegate.delivery.portions import Portion
from framegate.jpeg2000.codestream import EOC, NotDivisibleError, read_codestream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from framegate.delivery.portions import Selection
    from framegate.healthimaging.client import FrameStream
    from framegate.jpeg2000.codestream import Codestream

MIN_READ_BYTES = 16 * 1024
"""Minimum bytes of a read. The first read includes the header, which has a few hundred bytes."""


class TooLargeError(Exception):
    """The requested bytes do not fit into a response."""


class StreamPrefix:
    """The start of a frame, read from its stream only as far as needed.

    Parameters
    ----------
    stream : FrameStream
        The frame.
    max_bytes : int
        Maximum number of bytes to keep in memory.
    """

    def __init__(self, stream: FrameStream, max_bytes: int) -> None:
        self._stream = stream
        self.max_bytes = max_bytes
        self._ended = False
        self._content = bytearray()

    def at_least(self, size: int) -> bytearray:
        """Read at least `size` bytes, unless the frame is shorter, and return all bytes that were read.

        Raises
        ------
        TooLargeError
            If `size` and the frame both exceed the maximum. A damaged frame can declare a length far beyond its end.
        """
        if size > self.max_bytes and (self._stream.content_length or 0) > self.max_bytes:
            raise TooLargeError
        wanted = min(size, self.max_bytes + 1)
        while len(self._content) < wanted and not self._ended:
            piece = self._stream.read(max(MIN_READ_BYTES, wanted - len(self._content)))
            self._ended = not piece
            self._content += piece
        if size > self.max_bytes and len(self._content) > self.max_bytes:
            raise TooLargeError
        return self._content

    def to_the_end(self) -> bytearray:
        """Read and return the whole frame.

        Raises
        ------
        TooLargeError
            If the frame exceeds the maximum.
        """
        return self.at_least(self.max_bytes + 1)

    def all(self) -> Iterator[bytes]:
        """The whole frame in pieces: the bytes that were read, then the rest of the stream."""
        rest: Iterator[bytes] = iter(()) if self._ended else iter(self._stream)
        return chain([bytes(self._content)], rest)


@dataclass(frozen=True, slots=True)
class Cut:
    """The bytes that a selection takes from a frame; `content` is None for the whole frame."""

    content: bytes | None
    portion: Portion


def cut(prefix: StreamPrefix, selection: Selection) -> Cut:
    """Cut a selection out of a frame.

    An image is a codestream that decodes on its own: everything up to the end of its level, followed by the marker that
    ends a codestream. If the image cannot be verified, the cut is the whole frame.

    Levels split the frame: joined in order, they are the frame, even if it is damaged. A level ends with its tile-part
    if all tile-parts up to there are verified. The first level that cannot be verified is the whole rest of the frame,
    and the levels above it are empty. Each boundary depends only on the frame's bytes before it, so all requests for a
    frame find the same boundaries.

    Parameters
    ----------
    prefix : StreamPrefix
        The frame. It is read up to the end of the last requested level.
    selection : Selection
        The requested levels.

    Raises
    ------
    TooLargeError
        If the requested levels exceed the maximum of `prefix`.
    Problem
        As `FrameStream` raises it.

    References
    ----------
    DICOM PS3.5, section A.4.9: frames in HTJ2K with RPCL progression are stored resolution by resolution, each a
    tile-part. ITU-T T.800, section A.4.4: EOC.
    """
    try:
        codestream = read_codestream(prefix)
    except TooLargeError:
        if selection.is_image:
            return Cut(None, Portion(True))
        raise
    except NotDivisibleError:
        is_from_the_start = selection.levels(())[0] == 0
        return Cut(None if is_from_the_start else b"", Portion(is_from_the_start))
    levels = _Levels.of(codestream, selection)
    return _image(codestream, levels, prefix) if selection.is_image else _bytes_of_levels(codestream, levels, prefix)


@dataclass(frozen=True, slots=True)
class _Levels:
    """Levels `first` to `last` of a frame, both included; `top` is the frame's highest level."""

    first: int
    last: int
    top: int

    @classmethod
    def of(cls, codestream: Codestream, selection: Selection) -> _Levels:
        top = len(codestream.resolutions) - 1
        first, last = selection.levels(codestream.resolutions)
        return cls(first, top if last is None else min(last, top), top)


def _image(codestream: Codestream, levels: _Levels, prefix: StreamPrefix) -> Cut:
    """The image of level `last`, or the whole frame if that image is unverified or too large."""
    if levels.last == levels.top:
        return _whole(codestream)
    try:
        end = codestream.end_of(levels.last, prefix)
    except (NotDivisibleError, TooLargeError):
        return _whole(codestream)
    content = bytes(prefix.at_least(end)[codestream.start : end]) + EOC
    return _part(content, codestream, levels.last) if len(content) <= prefix.max_bytes else _whole(codestream)


def _bytes_of_levels(codestream: Codestream, levels: _Levels, prefix: StreamPrefix) -> Cut:
    """The bytes of levels `first` to `last`."""
    start = _end_of_level(codestream, levels.first - 1, levels.top, prefix)
    if start is None:
        return _part(b"", codestream, None)
    end = _end_of_level(codestream, levels.last, levels.top, prefix)
    if end is not None:
        return _part(bytes(prefix.at_least(end)[start:end]), codestream, levels.last)
    if start == 0:
        return _whole(codestream)
    rest = bytes(prefix.to_the_end()[start:])
    return _part(rest, codestream, levels.top if rest else None)


def _end_of_level(codestream: Codestream, number: int, top: int, prefix: StreamPrefix) -> int | None:
    """The end of a level, in bytes from the frame's start; None is the frame's end."""
    if number < 0:
        return 0
    if number >= top:
        return None
    try:
        return codestream.end_of(number, prefix)
    except NotDivisibleError:
        return None


def _whole(codestream: Codestream) -> Cut:
    return Cut(None, Portion(True, codestream.resolutions[-1], len(codestream.resolutions)))


def _part(content: bytes, codestream: Codestream, level: int | None) -> Cut:
    """A part of a frame that completes a level or is empty."""
    resolution = None if level is None else codestream.resolutions[level]
    return Cut(content, Portion(False, resolution, len(codestream.resolutions)))
