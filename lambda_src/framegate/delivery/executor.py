"""Carries out the plan for a frame: reads it, stores it, signs its URL, or queues a deferred store."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

from framegate.bucket_layout import digest
from framegate.delivery.plan import (
    LAMBDA_BYTES_PER_SECOND,
    AwaitDeferredStore,
    CutLevels,
    Defer,
    FindCopy,
    FindMarker,
    FrameState,
    LinkCopy,
    OpenFrame,
    SendCopyRange,
    SendHeaders,
    SendInline,
    SendRange,
    StoreCopy,
    StoredCopy,
    next_step,
)
from framegate.observability import logger
from framegate.problems import FramePending, FrameTooLarge, PortionTooLarge, Problem, UpstreamFailed, UpstreamTimeout
from framegate.time_budget import TimeBudget

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from framegate.delivery.deferred_store import DeferredStoreQueue
    from framegate.delivery.multipart import Envelope
    from framegate.delivery.plan import Step
    from framegate.delivery.portions import ByteRange, Portion, Selection, Span
    from framegate.delivery.request import FrameRequest
    from framegate.delivery.resolutions import Cut, StreamPrefix
    from framegate.healthimaging.client import FrameStream, HealthImaging
    from framegate.identifiers import FrameRef
    from framegate.storage.body_store import BodyStore
    from framegate.storage.frame_store import FrameStore, PresignedUrl

MAX_CONCURRENT_FRAMES = 8
"""Maximum number of frames that one request reads from HealthImaging at the same time."""

DEFER_SECONDS = 2.0
"""Seconds that deferring a store may take after the time of the request has run out."""


@dataclass(frozen=True, slots=True)
class InlineFrame:
    """A frame, or part of one, to send in the response.

    Attributes
    ----------
    content_type : str
        The frame's media type.
    content : bytes or None
        The bytes to send; None if the client needs only headers and the frame was not read.
    size : int
        Number of bytes to send.
    bytes_read : int
        Bytes of the frame that were read from HealthImaging.
    portion : Portion or None
        How the content relates to the frame; None if the request selects no levels.
    span : Span or None
        Where the content lies in the frame or selection; None if the request has no byte range.
    """

    content_type: str
    content: bytes | None
    size: int
    bytes_read: int
    portion: Portion | None = None
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class LinkedFrame:
    """A whole frame of `size` bytes that is stored, for the client to fetch from a pre-signed URL."""

    content_type: str
    size: int
    portion: Portion | None = None


@dataclass(frozen=True, slots=True)
class QueuedFrame:
    """A frame with a pending deferred store. The client requests it again later."""


class FrameDelivery:
    """Delivers frames.

    Parameters
    ----------
    source : HealthImaging
        Where frames come from.
    store : FrameStore
        Keeps the frames that exceed the inline limit.
    deferred_stores : DeferredStoreQueue
        Takes the frames that cannot be stored within a request.
    inline_limit : int
        Bytes that an inline response can hold.
    url_lifetime_seconds : int
        Seconds for which a pre-signed URL is valid.
    bodies : BodyStore
        Keeps the multipart bodies that exceed the inline limit.

    Attributes
    ----------
    inline_limit : int
        Bytes that an inline response can hold.
    """

    def __init__(
        self,
        source: HealthImaging,
        store: FrameStore,
        deferred_stores: DeferredStoreQueue,
        inline_limit: int,
        url_lifetime_seconds: int,
        bodies: BodyStore,
    ) -> None:
        self._source = source
        self._store = store
        self._deferred_stores = deferred_stores
        self._bodies = bodies
        self.inline_limit = inline_limit
        self._url_lifetime_seconds = url_lifetime_seconds

    def deliver(
        self, frame: FrameRef, request: FrameRequest, budget: TimeBudget
    ) -> InlineFrame | LinkedFrame | QueuedFrame:
        """Deliver a frame.

        Parameters
        ----------
        frame : FrameRef
            The frame.
        request : FrameRequest
            What the client requests of it.
        budget : TimeBudget
            Time until the answer. Deferring a store takes up to ``DEFER_SECONDS`` more.

        Raises
        ------
        FrameTooLarge
            If the client requests an inline response that cannot hold the content.
        RangeNotSatisfiable
            If the content has no byte in the requested range.
        Problem
            As `Negotiation`, `HealthImaging.fetch`, `FrameStore` and `DeferredStoreQueue` raise it.
        """
        state = FrameState()
        while not isinstance(step := self._next_step(request, state, budget), OpenFrame):
            match step:
                case FindCopy():
                    state = self._find_copy(frame, state, budget)
                case LinkCopy(copy):
                    return LinkedFrame(copy.content_type, copy.size, request.whole_portion)
                case _:
                    raise AssertionError(f"{step} needs an open frame")
        try:
            return self._source.fetch(
                frame,
                lambda stream: self._answer_from(stream, frame, request, state, budget),
                budget,
                in_part=request.is_partial,
            )
        except _DeferError as deferred:
            return self._defer(frame, request, deferred.timeout)

    def contents(
        self, frames: Sequence[FrameRef], request: FrameRequest, budget: TimeBudget
    ) -> Iterator[Iterable[bytes]]:
        """Yield the bytes of frames, each in pieces. Frames above the inline limit come from their copies.

        Parameters
        ----------
        frames : sequence of FrameRef
            The frames.
        request : FrameRequest
            What the client requests of each.
        budget : TimeBudget
            The time for all of them.

        Raises
        ------
        FramePending
            If a frame has to be stored in the background first.
        Problem
            See `deliver`.
        """
        with ThreadPoolExecutor(MAX_CONCURRENT_FRAMES, thread_name_prefix="frames") as threads:
            # No more frames are in memory than are read at the same time.
            pending = deque(
                threads.submit(self.deliver, each, request, budget) for each in frames[:MAX_CONCURRENT_FRAMES]
            )
            following = iter(frames[MAX_CONCURRENT_FRAMES:])
            try:
                for frame in frames:
                    delivered = pending.popleft().result()
                    if (after := next(following, None)) is not None:
                        pending.append(threads.submit(self.deliver, after, request, budget))
                    match delivered:
                        case InlineFrame(content=content) if content is not None:
                            yield [content]
                        case LinkedFrame():
                            yield self._store.read(frame, budget)
                        case _:
                            raise FramePending
            finally:
                for each in pending:
                    each.cancel()

    def frame_url(self, frame: FrameRef, request: FrameRequest, content_type: str | None = None) -> PresignedUrl:
        """Return a URL of a stored frame, which S3 then sends with this Content-Type, or with that of the copy."""
        return self._store.presigned_url(
            frame,
            self._url_lifetime_seconds,
            for_head=request.headers_only,
            request_id=request.request_id,
            content_type=content_type,
        )

    def multipart_url(
        self, frame: FrameRef, request: FrameRequest, envelope: Envelope, size: int, budget: TimeBudget
    ) -> str:
        """Return a URL of the multipart body with a stored frame. Store the body first if there is none.

        Parameters
        ----------
        frame : FrameRef
            The frame, which is stored.
        request : FrameRequest
            What the client requests of it.
        envelope : Envelope
            The body's envelope.
        size : int
            Size of the frame in bytes.
        budget : TimeBudget
            The time for it.

        Raises
        ------
        FrameTooLarge
            If the body cannot be stored within a request. The client can request the frame as a single part.
        Problem
            As `FrameStore` and `BodyStore` raise it.
        """
        name = f"{envelope.name}.{digest(envelope.part_type, envelope.content_type)}"
        if not self._bodies.has(frame, name, budget):
            # The bytes pass through this function twice.
            if size > LAMBDA_BYTES_PER_SECOND / 2 * budget.remaining():
                raise FrameTooLarge(size, self.inline_limit)
            content = envelope.wrap([self._store.read(frame, budget)])
            total = envelope.size_of([size])
            self._bodies.store(frame, name, envelope.content_type, content, budget, expected_size=total)
        return self._bodies.presigned_url(
            frame,
            name,
            self._url_lifetime_seconds,
            for_head=request.headers_only,
            request_id=request.request_id,
        )

    def _next_step(self, request: FrameRequest, state: FrameState, budget: TimeBudget) -> Step:
        return next_step(request, state, inline_limit=self.inline_limit, seconds_left=budget.remaining())

    def _answer_from(
        self, stream: FrameStream, frame: FrameRef, request: FrameRequest, state: FrameState, budget: TimeBudget
    ) -> InlineFrame | LinkedFrame | QueuedFrame:
        """Carry out the steps that follow HealthImaging's answer."""
        state = replace(state, content_type=stream.content_type, size=stream.content_length)
        pieces, portion = iter(stream), request.whole_portion
        while True:
            match self._next_step(request, state, budget):
                case CutLevels(selection, byte_range):
                    prefix, taken = self._cut(stream, selection)
                    if taken.content is not None:
                        return _inline(stream, taken.content, byte_range, taken.portion)
                    pieces, portion = prefix.all(), taken.portion
                    state = replace(state, whole=portion)
                case SendRange(span):
                    return InlineFrame(
                        stream.content_type, _read_span(stream, span), span.size, stream.bytes_read, span=span
                    )
                case SendHeaders(size):
                    return InlineFrame(stream.content_type, None, size, stream.bytes_read)
                case SendInline(byte_range):
                    head = read_beyond(pieces, self.inline_limit)
                    if len(head) <= self.inline_limit:
                        return _inline(stream, head, byte_range, portion)
                    pieces = chain([head], pieces)
                    state = replace(state, exceeds_limit=True)
                case FindCopy():
                    state = self._find_copy(frame, state, budget)
                case FindMarker():
                    state = replace(state, is_deferred=self._deferred_stores.is_pending(frame, budget))
                case StoreCopy():
                    state = replace(state, copy=self._store_copy(frame, stream, pieces, state, budget))
                case SendCopyRange(copy, span):
                    content = b"".join(self._store.read(frame, budget, span.first, span.last))
                    return InlineFrame(copy.content_type, content, span.size, 0, portion, span)
                case LinkCopy(copy):
                    return LinkedFrame(copy.content_type, copy.size, portion)
                case Defer():
                    raise _DeferError(UpstreamTimeout("HealthImaging"))
                case AwaitDeferredStore():
                    return QueuedFrame()
                case OpenFrame():
                    raise AssertionError("the frame is open already")

    def _cut(self, stream: FrameStream, selection: Selection) -> tuple[StreamPrefix, Cut]:
        # Imported here to keep cold starts for whole frames short.
        from framegate.delivery.resolutions import StreamPrefix, TooLargeError, cut

        prefix = StreamPrefix(stream, self.inline_limit)
        try:
            return prefix, cut(prefix, selection)
        except TooLargeError:
            raise PortionTooLarge(self.inline_limit) from None

    def _find_copy(self, frame: FrameRef, state: FrameState, budget: TimeBudget) -> FrameState:
        found = self._store.look_up(frame, budget)
        if found is None:
            return replace(state, is_copy_known=True)
        if found.is_mismatched:
            return replace(state, is_copy_known=True, mismatched_etag=found.stored.etag)
        return replace(state, is_copy_known=True, copy=StoredCopy(found.stored.content_type, found.stored.size))

    def _store_copy(
        self, frame: FrameRef, stream: FrameStream, pieces: Iterator[bytes], state: FrameState, budget: TimeBudget
    ) -> StoredCopy:
        try:
            written = self._store.store_temporarily(
                frame,
                stream.content_type,
                pieces,
                budget,
                stream.content_length,
                mismatched_etag=state.mismatched_etag,
            )
        except UpstreamTimeout as timeout:
            if budget.exhausted:
                raise _DeferError(timeout) from None
            raise
        return StoredCopy(stream.content_type, written.size)

    def _defer(self, frame: FrameRef, request: FrameRequest, timeout: UpstreamTimeout) -> LinkedFrame | QueuedFrame:
        budget = TimeBudget(DEFER_SECONDS)
        try:
            # The frame may have been stored meanwhile, by another request or by an earlier deferred store.
            copy = self._find_copy(frame, FrameState(), budget).copy
            if copy is not None:
                request.negotiation.require_acceptable(copy.content_type)
                return LinkedFrame(copy.content_type, copy.size, request.whole_portion)
            self._deferred_stores.enqueue(frame, budget)
        except Problem as problem:
            logger.warning("deferred store not queued", extra=problem.log_fields)
            raise timeout from None
        return QueuedFrame()


class _DeferError(Exception):
    """The frame cannot be stored within the request; `timeout` is the problem if deferring fails as well."""

    def __init__(self, timeout: UpstreamTimeout) -> None:
        super().__init__()
        self.timeout = timeout


def _inline(stream: FrameStream, content: bytes, byte_range: ByteRange | None, portion: Portion | None) -> InlineFrame:
    span = byte_range.within(len(content)) if byte_range else None
    sent = span.of(content) if span else content
    return InlineFrame(stream.content_type, sent, len(sent), stream.bytes_read, portion, span)


def _read_span(stream: FrameStream, span: Span) -> bytes:
    """Read a frame up to the end of a span and return the span.

    Raises
    ------
    UpstreamFailed
        If the frame ends before the span does.
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


def read_beyond(pieces: Iterator[bytes], limit: int) -> bytes:
    """Read to the end, or until more than `limit` bytes are read."""
    taken = []
    size = 0
    for piece in pieces:
        taken.append(piece)
        size += len(piece)
        if size > limit:
            break
    return b"".join(taken)
