"""Cuts stored resolutions out of a frame, and reads no more of it than they take."""

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

LEAST_READ = 16 * 1024
"""Bytes that are asked for at least: a header is a few hundred, and comes with the first of them."""


class TooMuchError(Exception):
    """What is wanted has more bytes than an answer holds."""


class StreamPrefix:
    """The bytes of a frame as they arrive, and not sooner than they are needed.

    Parameters
    ----------
    stream : FrameStream
        Where they come from.
    limit : int
        How many it may keep.
    """

    def __init__(self, stream: FrameStream, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._ended = False
        self._content = bytearray()

    def at_least(self, size: int) -> bytearray:
        """All bytes that were read, at least `size` of them unless the frame has less.

        Raises
        ------
        TooMuchError
            If `size` is above the limit.
        """
        if size > self._limit:
            raise TooMuchError
        while len(self._content) < size and not self._ended:
            piece = self._stream.read(max(LEAST_READ, size - len(self._content)))
            self._ended = not piece
            self._content += piece
        return self._content

    def to_the_end(self) -> bytearray:
        """The whole frame.

        Raises
        ------
        TooMuchError
            If it is above the limit.
        """
        while not self._ended:
            self.at_least(len(self._content) + 1)
        return self._content

    def all(self) -> Iterator[bytes]:
        """The whole frame, in pieces: what was read, and then what there is to read."""
        rest: Iterator[bytes] = iter(()) if self._ended else iter(self._stream)
        return chain([bytes(self._content)], rest)


@dataclass(frozen=True, slots=True)
class Cut:
    """What a selection comes to: some bytes of the frame, or the whole of it where `content` is None."""

    content: bytes | None
    portion: Portion


def cut(prefix: StreamPrefix, selection: Selection) -> Cut:
    """Cut a selection out of a frame.

    A resolution is a codestream that decodes on its own: everything up to the end of its level, and the marker that
    ends a codestream. Of a frame that is not stored by resolutions, there is one level: the whole frame.

    Parameters
    ----------
    prefix : StreamPrefix
        The frame, which is read as far as the last level that is wanted.
    selection : Selection
        What is wanted.

    Raises
    ------
    TooMuchError
        If that is more than `prefix` may keep.
    Problem
        As `FrameStream` raises it.

    References
    ----------
    DICOM PS3.5, section A.4.9: frames in HTJ2K with RPCL progression are stored resolution by resolution, each a
    tile-part. ITU-T T.800, section A.4.4: EOC.
    """
    try:
        codestream = read_codestream(prefix)
        levels = _Levels.of(codestream, selection)
        if levels.are_all:
            return Cut(None, Portion(True, codestream.resolutions[-1], len(codestream.resolutions)))
        return Cut(_content(codestream, levels, selection, prefix), _portion(codestream, levels))
    except NotDivisibleError:
        return uncut(selection)


def uncut(selection: Selection) -> Cut:
    """What a selection comes to of a frame that is not stored by resolutions: the whole frame is its one level."""
    first, _ = selection.levels(())
    return Cut(None, Portion(True)) if first == 0 else Cut(b"", Portion(False))


@dataclass(frozen=True, slots=True)
class _Levels:
    """Levels of a frame: `first` to `last`, both included, of `top` + 1."""

    first: int
    last: int
    top: int

    @classmethod
    def of(cls, codestream: Codestream, selection: Selection) -> _Levels:
        top = len(codestream.resolutions) - 1
        first, last = selection.levels(codestream.resolutions)
        return cls(first, top if last is None else min(last, top), top)

    @property
    def are_all(self) -> bool:
        return self.first == 0 and self.last == self.top


def _content(codestream: Codestream, levels: _Levels, selection: Selection, prefix: StreamPrefix) -> bytes:
    if levels.first > levels.last:
        return b""
    if selection.is_image:
        end = codestream.end_of(levels.last, prefix)
        return bytes(prefix.at_least(end)[codestream.start : end]) + EOC
    start = codestream.end_of(levels.first - 1, prefix) if levels.first else 0
    if levels.last == levels.top:
        return bytes(prefix.to_the_end()[start:])
    end = codestream.end_of(levels.last, prefix)
    return bytes(prefix.at_least(end)[start:end])


def _portion(codestream: Codestream, levels: _Levels) -> Portion:
    resolution = codestream.resolutions[levels.last] if levels.first <= levels.last else None
    return Portion(False, resolution, len(codestream.resolutions))
