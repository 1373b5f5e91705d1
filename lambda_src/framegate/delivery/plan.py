"""Decides how to deliver a frame. Every function here is pure; `executor` carries the decisions out.

The plan is made step by step, because each fact costs a call: the frame's media type and length a call of
HealthImaging, its copy and its marker a call of S3 each. `next_step` asks for a fact only where the decision needs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from framegate.delivery.request import DeliveryMode
from framegate.problems import FrameTooLarge

if TYPE_CHECKING:
    from framegate.delivery.portions import ByteRange, Portion, Selection, Span
    from framegate.delivery.request import FrameRequest

LAMBDA_BYTES_PER_SECOND = 75_000_000
"""Approximate network bandwidth of a function. A frame that needs more time than is left is deferred at once."""

STORE_UNCHECKED_MAX_BYTES = 64 * 1024**2
"""Size up to which a request stores a frame without checking for a deferred store of it. Storing takes a second, and
storing twice does no harm."""


@dataclass(frozen=True, slots=True)
class StoredCopy:
    """A frame's copy in S3; `size` is in bytes."""

    content_type: str
    size: int


@dataclass(frozen=True, slots=True)
class FrameState:
    """What is known about a frame so far.

    Attributes
    ----------
    content_type : str or None
        Its media type; None until HealthImaging has answered.
    size : int or None
        Its bytes; None until HealthImaging has answered, and if the answer has no Content-Length.
    exceeds_limit : bool
        Whether more bytes than an inline response holds have been read.
    whole : Portion or None
        Set once the requested levels turned out to be the whole frame.
    copy : StoredCopy or None
        Its copy in S3.
    is_copy_known : bool
        Whether S3 has said if there is a copy.
    mismatched_etag : str or None
        Entity tag of the copy whose pixels are wrong, if there is one. A new copy replaces it.
    is_deferred : bool or None
        Whether a deferred store of the frame is pending; None until S3 has said so.
    """

    content_type: str | None = None
    size: int | None = None
    exceeds_limit: bool = False
    whole: Portion | None = None
    copy: StoredCopy | None = None
    is_copy_known: bool = False
    mismatched_etag: str | None = None
    is_deferred: bool | None = None


class _StepWithoutParameters:
    """A step of which all instances are equal. Dataclasses would take milliseconds of each cold start."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class FindCopy(_StepWithoutParameters):
    """Look for the frame's copy in S3."""


class OpenFrame(_StepWithoutParameters):
    """Request the frame from HealthImaging."""


@dataclass(frozen=True, slots=True)
class CutLevels:
    """Read the selected levels and send them, or the range of them; go on if they are the whole frame."""

    selection: Selection
    byte_range: ByteRange | None


@dataclass(frozen=True, slots=True)
class SendRange:
    """Read the frame up to the end of the span, and send the span."""

    span: Span


@dataclass(frozen=True, slots=True)
class SendHeaders:
    """Send the headers of a frame with this many bytes, without reading it."""

    size: int


@dataclass(frozen=True, slots=True)
class SendInline:
    """Read the whole frame and send it, or the range of it; go on if it exceeds the limit."""

    byte_range: ByteRange | None


class FindMarker(_StepWithoutParameters):
    """Look for the marker of a deferred store in S3."""


class StoreCopy(_StepWithoutParameters):
    """Store the frame in S3."""


@dataclass(frozen=True, slots=True)
class SendCopyRange:
    """Read the span from the copy in S3, and send it."""

    copy: StoredCopy
    span: Span


@dataclass(frozen=True, slots=True)
class LinkCopy:
    """Send a pre-signed URL of the copy."""

    copy: StoredCopy


class Defer(_StepWithoutParameters):
    """Queue a deferred store: the time that is left does not suffice."""


class AwaitDeferredStore(_StepWithoutParameters):
    """Tell the client to come back: a deferred store is pending."""


Step = (
    FindCopy
    | OpenFrame
    | CutLevels
    | SendRange
    | SendHeaders
    | SendInline
    | FindMarker
    | StoreCopy
    | SendCopyRange
    | LinkCopy
    | Defer
    | AwaitDeferredStore
)


def next_step(request: FrameRequest, frame: FrameState, *, inline_limit: int, seconds_left: float) -> Step:
    """Decide what to do next.

    Parameters
    ----------
    request : FrameRequest
        What the client requests.
    frame : FrameState
        What is known about the frame.
    inline_limit : int
        Bytes that an inline response can hold.
    seconds_left : float
        Seconds until the request must be answered.

    Raises
    ------
    FrameTooLarge
        If the client requests an inline response that cannot hold the content.
    RangeNotSatisfiable
        If the content has no byte in the requested range.
    Problem
        As `Negotiation.require_acceptable` raises it.
    """
    if frame.copy is not None:
        return _send_copy(request, frame.copy, inline_limit)
    if request.mode is DeliveryMode.URL and not frame.is_copy_known:
        return FindCopy()
    if frame.content_type is None:
        return OpenFrame()
    byte_range = request.range_for(frame.content_type)
    if request.mode is not DeliveryMode.URL:
        if (step := _send_inline(request, frame, byte_range, inline_limit)) is not None:
            return step
        if request.mode is DeliveryMode.INLINE and not _fits(byte_range, frame.size, inline_limit):
            raise FrameTooLarge(frame.size, inline_limit)
        if not frame.is_copy_known:
            return FindCopy()
    return _store(frame, seconds_left)


def _send_copy(request: FrameRequest, copy: StoredCopy, inline_limit: int) -> SendCopyRange | LinkCopy:
    """A range that fits is sent. For any other, the client gets the URL; S3 takes ranges itself."""
    byte_range = request.range_for(copy.content_type)
    if byte_range is not None and (span := byte_range.within(copy.size)).size <= inline_limit:
        return SendCopyRange(copy, span)
    return LinkCopy(copy)


def _send_inline(
    request: FrameRequest, frame: FrameState, byte_range: ByteRange | None, inline_limit: int
) -> CutLevels | SendRange | SendHeaders | SendInline | None:
    """How to answer from HealthImaging's stream; None if the response cannot hold the frame."""
    if request.selection is not None:
        if frame.whole is None:
            return CutLevels(request.selection, byte_range)
    elif frame.size is not None:
        # HealthImaging sends everything before the range too. A range far from the start comes from the copy.
        if byte_range is not None and (span := byte_range.within(frame.size)).last < inline_limit:
            return SendRange(span)
        if request.headers_only and frame.size <= inline_limit:
            return SendHeaders(frame.size)
    if frame.exceeds_limit or (frame.size is not None and frame.size > inline_limit):
        return None
    return SendInline(byte_range)


def _fits(byte_range: ByteRange | None, size: int | None, inline_limit: int) -> bool:
    return byte_range is not None and size is not None and byte_range.within(size).size <= inline_limit


def _store(frame: FrameState, seconds_left: float) -> FindMarker | AwaitDeferredStore | Defer | StoreCopy:
    if frame.is_deferred:
        return AwaitDeferredStore()
    if frame.is_deferred is None and (frame.size is None or frame.size > STORE_UNCHECKED_MAX_BYTES):
        return FindMarker()
    if frame.size is not None and frame.size > LAMBDA_BYTES_PER_SECOND * seconds_left:
        return Defer()
    return StoreCopy()
