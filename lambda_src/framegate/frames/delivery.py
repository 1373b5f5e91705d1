"""Decides how a frame reaches a client: as bytes in the answer, by the URL of its copy in the frame store, or later."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from itertools import chain
from typing import TYPE_CHECKING

from framegate.observability import logger
from framegate.problems import FrameTooLarge, Problem, UpstreamTimeout
from framegate.time_budget import TimeBudget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from framegate.aws.frame_store import FrameStore
    from framegate.aws.health_imaging import FrameStream, HealthImaging
    from framegate.dicom.identifiers import FrameRef
    from framegate.frames.handover import FrameHandover

LARGEST_IN_A_REQUEST = 2 * 1024**3
"""Bytes of the largest frame that a request tries to store: Lambda moves some 75 MB/s, for less than 29 s."""

HANDOVER_TIME = 2.0
"""Seconds that handing a frame over may take, after the time for storing it has run out."""


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


@dataclass(frozen=True, slots=True)
class QueuedFrame:
    """A frame that is being stored, and takes longer than a request: to be asked for again."""


class FrameDelivery:
    """Delivers frames.

    Parameters
    ----------
    source : HealthImaging
        Where frames come from.
    store : FrameStore
        Where frames above the inline limit are kept.
    handover : FrameHandover
        What takes frames over that cannot be stored in the time of a request.
    inline_limit : int
        Bytes of the largest frame that an answer can hold.
    url_lifetime : int
        Seconds for which a pre-signed URL is good.
    """

    def __init__(
        self, source: HealthImaging, store: FrameStore, handover: FrameHandover, inline_limit: int, url_lifetime: int
    ) -> None:
        self._source = source
        self._store = store
        self._handover = handover
        self._inline_limit = inline_limit
        self._url_lifetime = url_lifetime

    def deliver(
        self, frame: FrameRef, mode: DeliveryMode, check: Callable[[str], object], budget: TimeBudget
    ) -> InlineFrame | LinkedFrame | QueuedFrame:
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
            The time for it. Handing a frame over takes up to ``HANDOVER_TIME`` more.

        Raises
        ------
        FrameTooLarge
            If inline is asked for and the frame is above the limit.
        Problem
            As `check`, `HealthImaging.fetch`, `FrameStore` and `FrameHandover` raise it.
        """
        if mode is DeliveryMode.URL and (linked := self._linked(frame, check, budget)):
            return linked
        try:
            return self._source.fetch(frame, lambda stream: self._use(frame, mode, check, budget, stream), budget)
        except _TooLongForARequestError as too_long:
            return self._hand_over(frame, check, too_long)

    def _use(
        self,
        frame: FrameRef,
        mode: DeliveryMode,
        check: Callable[[str], object],
        budget: TimeBudget,
        stream: FrameStream,
    ) -> InlineFrame | LinkedFrame | QueuedFrame:
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
            if linked := self._linked(frame, check, budget):
                return linked
        if self._handover.is_pending(frame, budget):
            return QueuedFrame()
        if (stream.content_length or 0) > LARGEST_IN_A_REQUEST:
            raise _TooLongForARequestError(UpstreamTimeout("HealthImaging"))
        try:
            size = self._store.store(frame, stream.content_type, pieces, budget)
        except UpstreamTimeout as timeout:
            if budget.exhausted:
                raise _TooLongForARequestError(timeout) from None
            raise
        return self._link(frame, stream.content_type, size)

    def _linked(self, frame: FrameRef, check: Callable[[str], object], budget: TimeBudget) -> LinkedFrame | None:
        stored = self._store.find(frame, budget)
        if stored is None:
            return None
        check(stored.content_type)
        return self._link(frame, stored.content_type, stored.size)

    def _link(self, frame: FrameRef, content_type: str, size: int) -> LinkedFrame:
        signed = self._store.presigned_url(frame, self._url_lifetime)
        return LinkedFrame(content_type, size, signed.url, signed.expires_at)

    def _hand_over(
        self, frame: FrameRef, check: Callable[[str], object], too_long: _TooLongForARequestError
    ) -> LinkedFrame | QueuedFrame:
        budget = TimeBudget(HANDOVER_TIME)
        try:
            # Another request may have handed it over earlier, and its marker may be gone because it is stored.
            if linked := self._linked(frame, check, budget):
                return linked
            self._handover.hand_over(frame, budget)
        except Problem as problem:
            logger.warning("frame not handed over", extra={"problem": problem.slug, **problem.evidence})
            raise too_long.timeout from None
        return QueuedFrame()


class _TooLongForARequestError(Exception):
    """The frame cannot be stored in the time that a request has."""

    def __init__(self, timeout: UpstreamTimeout) -> None:
        super().__init__()
        self.timeout = timeout


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
