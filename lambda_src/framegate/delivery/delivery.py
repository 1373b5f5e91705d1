"""Decides how a frame reaches a client: as bytes in the answer, by the URL of its copy in the frame store, or later."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from itertools import chain
from typing import TYPE_CHECKING, Protocol

from framegate.delivery.portions import Portion
from framegate.delivery.resolutions import StreamPrefix, TooLargeError, cut
from framegate.observability import logger
from framegate.problems import FrameTooLarge, PortionTooLarge, Problem, UpstreamFailed, UpstreamTimeout
from framegate.time_budget import TimeBudget

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from framegate.delivery.deferred_store import FrameHandover
    from framegate.delivery.portions import ByteRange, Selection, Span
    from framegate.delivery.resolutions import Cut
    from framegate.healthimaging.client import FrameStream, HealthImaging
    from framegate.identifiers import FrameRef
    from framegate.storage.frame_store import FrameStore

BANDWIDTH = 75e6
"""Bytes a second that Lambda moves, about; a frame that takes longer than there is time is not begun."""

SOON_STORED = 64 * 1024**2
"""Bytes of the largest frame that a request stores without asking whether somebody else does: that is a second's work,
and storing it twice does no harm."""

HANDOVER_TIME = 2.0
"""Seconds that handing a frame over may take, after the time for storing it has run out."""


class DeliveryMode(Enum):
    """How a client wants a frame delivered: as its size allows, or one way or the other."""

    AUTO = auto()
    INLINE = auto()
    URL = auto()


class Negotiation(Protocol):
    """What a client accepts of a frame; asked once the frame's media type is known, before a byte is read."""

    def require_acceptable(self, content_type: str) -> None:
        """Raise a problem if the client accepts no representation of a frame with this media type."""

    def sends_bytes(self, content_type: str) -> bool:
        """Whether the client is sent the bytes as they are. Ranges do not apply to a document."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a client wants of a frame.

    Attributes
    ----------
    mode : DeliveryMode
        Inline, by URL, or what its size allows.
    negotiation : Negotiation
        What the client accepts.
    selection : Selection, optional
        Some of its levels; by URL there is the whole frame only.
    byte_range : ByteRange, optional
        Some of the bytes of that.
    headers_only : bool
        Whether the bytes themselves are not sent (HEAD): then a frame of known length is not read.
    """

    mode: DeliveryMode
    negotiation: Negotiation
    selection: Selection | None = None
    byte_range: ByteRange | None = None
    headers_only: bool = False

    @property
    def is_part(self) -> bool:
        """Whether some of the frame may be enough; by URL there is the whole frame only."""
        return self.mode is not DeliveryMode.URL and (
            self.selection is not None or self.byte_range is not None or self.headers_only
        )

    @property
    def as_whole(self) -> Portion | None:
        """What there is to say of the whole frame, where some of it was wanted."""
        return Portion(is_whole=True) if self.selection else None

    def range_for(self, content_type: str) -> ByteRange | None:
        """The range that counts for a frame of that media type."""
        self.negotiation.require_acceptable(content_type)
        if self.mode is DeliveryMode.URL or not self.negotiation.sends_bytes(content_type):
            return None
        return self.byte_range


@dataclass(frozen=True, slots=True)
class InlineFrame:
    """A frame, or some of it, to be sent in the answer itself.

    Attributes
    ----------
    content_type : str
        The media type of the frame.
    content : bytes or None
        What is to be sent; None if headers are enough, and it was not read.
    size : int
        Its bytes.
    bytes_read : int
        Bytes of the frame that HealthImaging was asked for.
    portion : Portion or None
        What the content is of the frame, where a selection was wanted.
    span : Span or None
        What the content is of what was wanted, where a range of that was.
    """

    content_type: str
    content: bytes | None
    size: int
    bytes_read: int
    portion: Portion | None = None
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class LinkedFrame:
    """A whole frame for the client to fetch from a pre-signed URL; ``size`` is in bytes."""

    content_type: str
    size: int
    url: str
    expires_at: datetime
    portion: Portion | None = None


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

    def deliver(self, frame: FrameRef, wanted: Wanted, budget: TimeBudget) -> InlineFrame | LinkedFrame | QueuedFrame:
        """Get a frame on its way.

        Parameters
        ----------
        frame : FrameRef
            Which frame.
        wanted : Wanted
            What of it, and how.
        budget : TimeBudget
            The time for it. Handing a frame over takes up to ``HANDOVER_TIME`` more.

        Raises
        ------
        FrameTooLarge
            If inline is asked for, or there is no other way, and it is above the limit.
        RangeNotSatisfiable
            If nothing of the range is there.
        Problem
            As `Wanted.negotiation`, `HealthImaging.fetch`, `FrameStore` and `FrameHandover` raise it.
        """
        if wanted.mode is DeliveryMode.URL and (linked := self._linked(frame, wanted, budget)):
            return linked
        try:
            return self._source.fetch(
                frame, lambda stream: self._use(frame, wanted, budget, stream), budget, in_part=wanted.is_part
            )
        except _TooLongForARequestError as too_long:
            return self._hand_over(frame, wanted, too_long)

    def _use(
        self, frame: FrameRef, wanted: Wanted, budget: TimeBudget, stream: FrameStream
    ) -> InlineFrame | LinkedFrame | QueuedFrame:
        byte_range = wanted.range_for(stream.content_type)
        pieces, portion = iter(stream), wanted.as_whole
        if wanted.mode is not DeliveryMode.URL:
            if wanted.selection:
                prefix, taken = self._cut(stream, wanted.selection)
                if taken.content is not None:
                    return _inline(stream, taken.content, byte_range, taken.portion)
                pieces, portion = prefix.all(), taken.portion
            elif byte_range and (span := self._near(byte_range, stream.content_length)):
                content = _bytes_of(stream, span)
                return InlineFrame(stream.content_type, content, span.size, stream.bytes_read, span=span)
            elif wanted.headers_only and (size := stream.content_length) is not None and size <= self._inline_limit:
                return InlineFrame(stream.content_type, None, size, stream.bytes_read)
            if stream.content_length is None or stream.content_length <= self._inline_limit:
                head = _take(pieces, self._inline_limit)
                if len(head) <= self._inline_limit:
                    return _inline(stream, head, byte_range, portion)
                pieces = chain([head], pieces)
            self._check_size(stream.content_length, wanted.mode, byte_range)
            if linked := self._linked(frame, wanted, budget, portion):
                return self._range_of(frame, linked, byte_range, budget)
        size = self._store_whole(frame, stream, pieces, budget)
        if size is None:
            return QueuedFrame()
        return self._range_of(frame, self._link(frame, wanted, stream.content_type, size, portion), byte_range, budget)

    def _cut(self, stream: FrameStream, selection: Selection) -> tuple[StreamPrefix, Cut]:
        prefix = StreamPrefix(stream, self._inline_limit)
        try:
            return prefix, cut(prefix, selection)
        except TooLargeError:
            raise PortionTooLarge(self._inline_limit) from None

    def _near(self, byte_range: ByteRange, total: int | None) -> Span | None:
        """The range, if it is read from HealthImaging, which has to send all that comes before it."""
        if total is None:
            return None
        span = byte_range.within(total)
        return span if span.last < self._inline_limit else None

    def _check_size(self, size: int | None, mode: DeliveryMode, byte_range: ByteRange | None) -> None:
        if mode is DeliveryMode.INLINE and not (
            byte_range and size is not None and byte_range.within(size).size <= self._inline_limit
        ):
            raise FrameTooLarge(size, self._inline_limit)

    def _store_whole(
        self, frame: FrameRef, stream: FrameStream, pieces: Iterator[bytes], budget: TimeBudget
    ) -> int | None:
        """Store a frame and return its size, or None if it is on its way already."""
        size = stream.content_length
        if (size is None or size > SOON_STORED) and self._handover.is_pending(frame, budget):
            return None
        if (size or 0) > BANDWIDTH * budget.remaining():
            raise _TooLongForARequestError(UpstreamTimeout("HealthImaging"))
        try:
            return self._store.store(frame, stream.content_type, pieces, budget, size).size
        except UpstreamTimeout as timeout:
            if budget.exhausted:
                raise _TooLongForARequestError(timeout) from None
            raise

    def _range_of(
        self,
        frame: FrameRef,
        linked: LinkedFrame,
        byte_range: ByteRange | None,
        budget: TimeBudget,
    ) -> InlineFrame | LinkedFrame:
        """A range of a stored frame, if an answer holds it; else S3, which takes ranges itself."""
        if byte_range is None or (span := byte_range.within(linked.size)).size > self._inline_limit:
            return linked
        content = b"".join(self._store.read(frame, budget, span.first, span.last))
        return InlineFrame(linked.content_type, content, span.size, 0, linked.portion, span)

    def _linked(
        self, frame: FrameRef, wanted: Wanted, budget: TimeBudget, portion: Portion | None = None
    ) -> LinkedFrame | None:
        stored = self._store.find(frame, budget)
        if stored is None:
            return None
        wanted.negotiation.require_acceptable(stored.content_type)
        return self._link(frame, wanted, stored.content_type, stored.size, portion or wanted.as_whole)

    def _link(
        self, frame: FrameRef, wanted: Wanted, content_type: str, size: int, portion: Portion | None
    ) -> LinkedFrame:
        signed = self._store.presigned_url(frame, self._url_lifetime, for_head=wanted.headers_only)
        return LinkedFrame(content_type, size, signed.url, signed.expires_at, portion)

    def _hand_over(
        self, frame: FrameRef, wanted: Wanted, too_long: _TooLongForARequestError
    ) -> LinkedFrame | QueuedFrame:
        budget = TimeBudget(HANDOVER_TIME)
        try:
            # Another request may have handed it over earlier, and its marker may be gone because it is stored.
            if linked := self._linked(frame, wanted, budget):
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


def _inline(stream: FrameStream, content: bytes, byte_range: ByteRange | None, portion: Portion | None) -> InlineFrame:
    span = byte_range.within(len(content)) if byte_range else None
    sent = span.of(content) if span else content
    return InlineFrame(stream.content_type, sent, len(sent), stream.bytes_read, portion, span)


def _bytes_of(stream: FrameStream, span: Span) -> bytes:
    """A range of a frame that is on its way: what comes before it is read, and what comes after it is not.

    Raises
    ------
    UpstreamFailed
        If the frame ends before the range does.
    """
    content = bytearray()
    position = 0
    while position <= span.last:
        piece = stream.read(span.last + 1 - position)
        if not piece:
            raise UpstreamFailed("HealthImaging", "ended before the range did")
        content += piece[max(0, span.first - position) :]
        position += len(piece)
    return bytes(content)


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
