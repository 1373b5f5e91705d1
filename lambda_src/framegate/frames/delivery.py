"""Decides how a frame reaches a client: as bytes in the answer, or as the URL of its copy in the frame store."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from itertools import chain
from typing import TYPE_CHECKING

from framegate.problems import FrameTooLarge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from framegate.aws.frame_store import FrameStore, StoredFrame
    from framegate.aws.health_imaging import FrameStream, HealthImaging
    from framegate.dicom.identifiers import FrameRef
    from framegate.time_budget import TimeBudget


class DeliveryMode(Enum):
    """How a client wants a frame delivered: as its size allows, or one way or the other."""

    AUTO = auto()
    INLINE = auto()
    URL = auto()


@dataclass(frozen=True, slots=True)
class InlineFrame:
    """A frame to be sent in the answer itself."""

    content_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class LinkedFrame:
    """A frame for the client to fetch from a pre-signed URL; ``size`` is in bytes."""

    content_type: str
    size: int
    url: str
    expires_at: datetime


class FrameDelivery:
    """Delivers frames.

    Parameters
    ----------
    source : HealthImaging
        Where frames come from.
    store : FrameStore
        Where frames above the inline limit are kept.
    inline_limit : int
        Bytes of the largest frame that an answer can hold.
    """

    def __init__(self, source: HealthImaging, store: FrameStore, inline_limit: int) -> None:
        self._source = source
        self._store = store
        self._inline_limit = inline_limit

    def deliver(
        self, frame: FrameRef, mode: DeliveryMode, check: Callable[[str], object], budget: TimeBudget
    ) -> InlineFrame | LinkedFrame:
        """Get a frame on its way.

        Parameters
        ----------
        frame : FrameRef
            Which frame.
        mode : DeliveryMode
            Inline, by URL, or what its size allows.
        check : callable
            Called with the frame's media type before a byte is read; raises if the client cannot be given it.
        budget : TimeBudget
            The time for it.

        Raises
        ------
        FrameTooLarge
            If inline is asked for and the frame is above the limit.
        Problem
            As `check`, `HealthImaging.fetch` and `FrameStore` raise it.
        """
        if mode is DeliveryMode.URL and (stored := self._store.find(frame, budget)):
            check(stored.content_type)
            return self._link(frame, stored)
        return self._source.fetch(frame, lambda stream: self._use(frame, mode, check, budget, stream), budget)

    def _use(
        self,
        frame: FrameRef,
        mode: DeliveryMode,
        check: Callable[[str], object],
        budget: TimeBudget,
        stream: FrameStream,
    ) -> InlineFrame | LinkedFrame:
        check(stream.content_type)
        pieces = iter(stream)
        if mode is not DeliveryMode.URL:
            if stream.content_length is None or stream.content_length <= self._inline_limit:
                head = _take(pieces, self._inline_limit)
                if len(head) <= self._inline_limit:
                    return InlineFrame(stream.content_type, head)
                pieces = chain([head], pieces)
            if mode is DeliveryMode.INLINE:
                raise FrameTooLarge(stream.content_length, self._inline_limit)
        stored = self._store.find(frame, budget) if mode is DeliveryMode.AUTO else None
        stored = stored or self._store.store(frame, stream.content_type, pieces, budget)
        return self._link(frame, stored)

    def _link(self, frame: FrameRef, stored: StoredFrame) -> LinkedFrame:
        signed = self._store.presigned_url(frame)
        return LinkedFrame(stored.content_type, stored.size, signed.url, signed.expires_at)


def _take(pieces: Iterator[bytes], limit: int) -> bytes:
    """All bytes, or as many as it takes to see that there are more than `limit`."""
    taken = []
    size = 0
    for piece in pieces:
        taken.append(piece)
        size += len(piece)
        if size > limit:
            break
    return b"".join(taken)
