"""Decisions of delivery as tables: what is requested and known, and the step that follows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from framegate.delivery.plan import (
    LAMBDA_BYTES_PER_SECOND,
    STORE_UNCHECKED_MAX_BYTES,
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
from framegate.delivery.portions import ByLevels, ByResolution, BySize, ByteRange, Portion, Span
from framegate.delivery.request import DeliveryMode, FrameRequest
from framegate.problems import FrameTooLarge, NotAcceptable, RangeNotSatisfiable
from framegate.rest.negotiation import Accept, FrameNegotiation

LIMIT = 1_000
HUGE = STORE_UNCHECKED_MAX_BYTES + 1
TYPE = "image/jph"

AUTO, INLINE, URL = DeliveryMode.AUTO, DeliveryMode.INLINE, DeliveryMode.URL
BYTES, JSON = "*/*", "application/json"
HEAD = True

WHOLE = Portion(is_whole=True)


def wants(mode=AUTO, accept=BYTES, selection=None, byte_range=None, headers_only=False):
    return FrameRequest(mode, FrameNegotiation(Accept.parse(accept)), selection, byte_range, headers_only)


def opened(size, **known):
    return FrameState(TYPE, size, **known)


def copy(size=5_000):
    return StoredCopy(TYPE, size)


def without_copy(size, **known):
    """A frame that HealthImaging has opened and that S3 has no copy of."""
    return opened(size, is_copy_known=True, **known)


def step(request, state, seconds_left=20.0):
    return next_step(request, state, inline_limit=LIMIT, seconds_left=seconds_left)


BEFORE_THE_CALL = [
    (wants(AUTO), FrameState(), OpenFrame()),
    (wants(INLINE), FrameState(), OpenFrame()),
    (wants(AUTO, selection=BySize(64)), FrameState(), OpenFrame()),
    (wants(URL), FrameState(), FindCopy()),
    (wants(URL), FrameState(is_copy_known=True), OpenFrame()),
    (wants(URL), FrameState(is_copy_known=True, copy=copy(10)), LinkCopy(copy(10))),
    (wants(URL, JSON), FrameState(is_copy_known=True, copy=copy()), LinkCopy(copy())),
    (wants(URL, byte_range=ByteRange(0, 9)), FrameState(is_copy_known=True, copy=copy()), LinkCopy(copy())),
    (wants(URL, selection=BySize(64)), FrameState(is_copy_known=True, copy=copy()), LinkCopy(copy())),
]

WHOLE_FRAME = [
    (wants(AUTO), opened(LIMIT), SendInline(None)),
    (wants(INLINE), opened(LIMIT), SendInline(None)),
    (wants(AUTO, JSON), opened(LIMIT), SendInline(None)),
    (wants(AUTO), opened(0), SendInline(None)),
    (wants(AUTO), opened(LIMIT + 1), FindCopy()),
    (wants(URL), opened(10, is_copy_known=True), StoreCopy()),
    # Without a Content-Length, only reading tells whether the frame fits.
    (wants(AUTO), opened(None), SendInline(None)),
    (wants(INLINE), opened(None), SendInline(None)),
    (wants(AUTO), opened(None, exceeds_limit=True), FindCopy()),
    # HealthImaging may announce fewer bytes than it sends.
    (wants(AUTO), opened(LIMIT, exceeds_limit=True), FindCopy()),
]

HEADERS = [
    (wants(AUTO, headers_only=HEAD), opened(LIMIT), SendHeaders(LIMIT)),
    (wants(INLINE, headers_only=HEAD), opened(10), SendHeaders(10)),
    (wants(AUTO, JSON, headers_only=HEAD), opened(10), SendHeaders(10)),
    (wants(AUTO, headers_only=HEAD), opened(LIMIT + 1), FindCopy()),
    (wants(AUTO, headers_only=HEAD), opened(None), SendInline(None)),
    (wants(AUTO, selection=BySize(64), headers_only=HEAD), opened(10), CutLevels(BySize(64), None)),
    (wants(AUTO, selection=BySize(64), headers_only=HEAD), opened(10, whole=WHOLE), SendInline(None)),
    (wants(URL, headers_only=HEAD), FrameState(is_copy_known=True, copy=copy()), LinkCopy(copy())),
]

RANGES = [
    (wants(AUTO, byte_range=ByteRange(0, 9)), opened(10), SendRange(Span(0, 9, 10))),
    (wants(AUTO, byte_range=ByteRange(5, None)), opened(10), SendRange(Span(5, 9, 10))),
    (wants(AUTO, byte_range=ByteRange(None, 3)), opened(10), SendRange(Span(7, 9, 10))),
    # The range counts, not the frame: it ends within the bytes that a response can hold.
    (wants(AUTO, byte_range=ByteRange(0, LIMIT - 1)), opened(HUGE), SendRange(Span(0, LIMIT - 1, HUGE))),
    (wants(INLINE, byte_range=ByteRange(0, 9)), opened(HUGE), SendRange(Span(0, 9, HUGE))),
    # HealthImaging would send everything before the range: a range deep in the frame comes from the copy.
    (wants(AUTO, byte_range=ByteRange(0, LIMIT)), opened(HUGE), FindCopy()),
    (wants(AUTO, byte_range=ByteRange(LIMIT, LIMIT)), opened(5_000), FindCopy()),
    (wants(INLINE, byte_range=ByteRange(None, 5)), opened(HUGE), FindCopy()),
    # JSON has no ranges, and neither has a URL.
    (wants(AUTO, JSON, byte_range=ByteRange(0, 9)), opened(10), SendInline(None)),
    (wants(AUTO, JSON, byte_range=ByteRange(0, 9)), opened(HUGE), FindCopy()),
    (wants(URL, byte_range=ByteRange(0, 9)), without_copy(10), StoreCopy()),
    # Without a Content-Length, the range is cut out of the whole frame.
    (wants(AUTO, byte_range=ByteRange(0, 9)), opened(None), SendInline(ByteRange(0, 9))),
    (wants(AUTO, byte_range=ByteRange(0, 9)), opened(None, exceeds_limit=True), FindCopy()),
]

LEVELS = [
    (wants(AUTO, selection=BySize(64)), opened(HUGE), CutLevels(BySize(64), None)),
    (wants(INLINE, selection=ByResolution(0)), opened(None), CutLevels(ByResolution(0), None)),
    (wants(AUTO, JSON, ByLevels(1, 2)), opened(10), CutLevels(ByLevels(1, 2), None)),
    (wants(AUTO, BYTES, BySize(64), ByteRange(0, 9)), opened(10), CutLevels(BySize(64), ByteRange(0, 9))),
    # The levels turned out to be the whole frame.
    (wants(AUTO, selection=BySize(64)), opened(10, whole=WHOLE), SendInline(None)),
    (wants(AUTO, BYTES, BySize(64), ByteRange(0, 9)), opened(10, whole=WHOLE), SendInline(ByteRange(0, 9))),
    (wants(AUTO, selection=BySize(64)), opened(HUGE, whole=WHOLE), FindCopy()),
    # A URL always leads to the whole frame.
    (wants(URL, selection=BySize(64)), without_copy(10), StoreCopy()),
]

COPIES = [
    (wants(AUTO), opened(5_000, copy=copy()), LinkCopy(copy())),
    (wants(AUTO, JSON), opened(5_000, copy=copy()), LinkCopy(copy())),
    (wants(AUTO, selection=BySize(64)), opened(5_000, whole=WHOLE, copy=copy()), LinkCopy(copy())),
    (
        wants(AUTO, byte_range=ByteRange(4_000, LIMIT + 3_999)),
        opened(5_000, copy=copy()),
        SendCopyRange(copy(), Span(4_000, 4_999, 5_000)),
    ),
    (
        wants(INLINE, byte_range=ByteRange(None, 5)),
        opened(5_000, copy=copy()),
        SendCopyRange(copy(), Span(4995, 4999, 5000)),
    ),
    # A response cannot hold the range, and S3 takes ranges itself.
    (wants(AUTO, byte_range=ByteRange(0, LIMIT)), opened(5_000, copy=copy()), LinkCopy(copy())),
    (wants(AUTO, JSON, byte_range=ByteRange(0, 9)), opened(5_000, copy=copy()), LinkCopy(copy())),
    # Only the copy tells the size.
    (
        wants(AUTO, byte_range=ByteRange(None, 5)),
        opened(None, copy=copy()),
        SendCopyRange(copy(), Span(4995, 4999, 5000)),
    ),
]

STORES = [
    (wants(AUTO), without_copy(LIMIT + 1), StoreCopy()),
    (wants(AUTO), without_copy(STORE_UNCHECKED_MAX_BYTES), StoreCopy()),
    (wants(AUTO), without_copy(HUGE), FindMarker()),
    (wants(URL), without_copy(HUGE), FindMarker()),
    (wants(AUTO), without_copy(None, exceeds_limit=True), FindMarker()),
    (wants(URL), without_copy(None), FindMarker()),
    (wants(AUTO), without_copy(HUGE, is_deferred=True), AwaitDeferredStore()),
    (wants(AUTO), without_copy(HUGE, is_deferred=False), StoreCopy()),
    (wants(AUTO), without_copy(None, exceeds_limit=True, is_deferred=False), StoreCopy()),
    (wants(INLINE, byte_range=ByteRange(None, 5)), without_copy(HUGE, is_deferred=False), StoreCopy()),
]


@pytest.mark.parametrize(
    ("request_", "state", "expected"),
    [*BEFORE_THE_CALL, *WHOLE_FRAME, *HEADERS, *RANGES, *LEVELS, *COPIES, *STORES],
)
def test_request_and_known_facts_decide_the_next_step(request_, state, expected):
    assert step(request_, state) == expected


@pytest.mark.parametrize(
    ("size", "seconds_left", "expected"),
    [
        (HUGE, HUGE / LAMBDA_BYTES_PER_SECOND + 0.01, StoreCopy()),
        (HUGE, HUGE / LAMBDA_BYTES_PER_SECOND - 0.01, Defer()),
        (LIMIT + 1, 0.0, Defer()),
        # A frame of unknown size may be small enough.
        (None, 0.0, StoreCopy()),
    ],
)
def test_frame_that_needs_more_time_than_is_left_is_deferred(size, seconds_left, expected):
    state = without_copy(size, exceeds_limit=True, is_deferred=False)
    assert step(wants(AUTO), state, seconds_left) == expected


@pytest.mark.parametrize(
    ("request_", "state"),
    [
        (wants(INLINE), opened(LIMIT + 1)),
        (wants(INLINE, JSON), opened(LIMIT + 1)),
        (wants(INLINE, headers_only=HEAD), opened(LIMIT + 1)),
        (wants(INLINE), opened(None, exceeds_limit=True)),
        (wants(INLINE, selection=BySize(64)), opened(HUGE, whole=WHOLE)),
        (wants(INLINE, byte_range=ByteRange(0, LIMIT)), opened(HUGE)),
        (wants(INLINE, JSON, byte_range=ByteRange(0, 9)), opened(HUGE)),
        # The size is unknown, so the range may be as large as the frame.
        (wants(INLINE, byte_range=ByteRange(0, 9)), opened(None, exceeds_limit=True)),
    ],
)
def test_inline_delivery_refuses_content_above_the_limit(request_, state):
    with pytest.raises(FrameTooLarge):
        step(request_, state)


@pytest.mark.parametrize(
    "state",
    [opened(10), opened(HUGE), opened(10, copy=copy(10)), FrameState(is_copy_known=True, copy=copy(HUGE))],
    ids=["small", "large", "small copy", "large copy"],
)
@pytest.mark.parametrize("byte_range", [ByteRange(HUGE, None), ByteRange(None, 0)], ids=["beyond the end", "empty"])
def test_range_without_a_byte_of_the_frame_is_not_satisfiable(state, byte_range):
    with pytest.raises(RangeNotSatisfiable):
        step(wants(AUTO, byte_range=byte_range), state)


@pytest.mark.parametrize("mode", DeliveryMode)
@pytest.mark.parametrize(
    "state",
    [opened(10, is_copy_known=True), opened(HUGE, is_copy_known=True), opened(10, copy=copy())],
    ids=["small", "large", "copy"],
)
def test_unacceptable_media_type_is_refused_before_anything_is_read_or_stored(mode, state):
    with pytest.raises(NotAcceptable):
        step(wants(mode, "text/html"), state)


@dataclass
class World:
    """What HealthImaging and S3 would say, to play whole plans through."""

    size: int
    announced: int | None
    has_copy: bool = False
    is_deferred: bool = False
    are_levels_whole: bool = True


def play(request, world, seconds_left=20.0):
    """The steps of a delivery, up to the one that answers."""
    state, steps = FrameState(), []
    while len(steps) < 12:
        steps.append(step(request, state, seconds_left))
        match steps[-1]:
            case FindCopy():
                assert not state.is_copy_known
                known = StoredCopy(TYPE, world.size) if world.has_copy else None
                state = replace(state, is_copy_known=True, copy=known)
            case OpenFrame():
                assert state.content_type is None
                state = replace(state, content_type=TYPE, size=world.announced)
            case CutLevels() if world.are_levels_whole:
                state = replace(state, whole=WHOLE)
            case SendInline() if world.size > LIMIT:
                state = replace(state, exceeds_limit=True)
            case FindMarker():
                state = replace(state, is_deferred=world.is_deferred)
            case StoreCopy():
                state = replace(state, copy=StoredCopy(TYPE, world.size))
            case _:
                return [type(each).__name__ for each in steps]
    raise AssertionError(f"The plan does not end: {steps}")


@pytest.mark.parametrize(
    ("request_", "world", "expected"),
    [
        (wants(), World(10, 10), "OpenFrame SendInline"),
        (wants(), World(5_000, 5_000), "OpenFrame FindCopy StoreCopy LinkCopy"),
        (wants(), World(5_000, 5_000, has_copy=True), "OpenFrame FindCopy LinkCopy"),
        (wants(), World(5_000, None), "OpenFrame SendInline FindCopy FindMarker StoreCopy LinkCopy"),
        (wants(), World(5_000, None, is_deferred=True), "OpenFrame SendInline FindCopy FindMarker AwaitDeferredStore"),
        (wants(URL), World(10, 10), "FindCopy OpenFrame StoreCopy LinkCopy"),
        (wants(URL), World(10, 10, has_copy=True), "FindCopy LinkCopy"),
        (wants(URL), World(HUGE, HUGE), "FindCopy OpenFrame FindMarker StoreCopy LinkCopy"),
        (wants(selection=BySize(64)), World(HUGE, HUGE, are_levels_whole=False), "OpenFrame CutLevels"),
        (wants(selection=BySize(64)), World(10, 10), "OpenFrame CutLevels SendInline"),
        (wants(selection=BySize(64)), World(5_000, 5_000), "OpenFrame CutLevels FindCopy StoreCopy LinkCopy"),
        (wants(byte_range=ByteRange(0, 9)), World(HUGE, HUGE), "OpenFrame SendRange"),
        (wants(byte_range=ByteRange(None, 9)), World(5_000, 5_000), "OpenFrame FindCopy StoreCopy SendCopyRange"),
        (wants(byte_range=ByteRange(None, 9)), World(HUGE, HUGE, has_copy=True), "OpenFrame FindCopy SendCopyRange"),
        (wants(headers_only=HEAD), World(10, 10), "OpenFrame SendHeaders"),
    ],
)
def test_plan_asks_for_no_fact_that_it_does_not_need(request_, world, expected):
    assert " ".join(play(request_, world)) == expected


@pytest.mark.parametrize("mode", [AUTO, URL])
@pytest.mark.parametrize("accept", [BYTES, JSON])
@pytest.mark.parametrize("selection", [None, BySize(64), ByLevels(0, 1)])
@pytest.mark.parametrize("byte_range", [None, ByteRange(0, 0), ByteRange(1, None), ByteRange(None, 2_000)])
@pytest.mark.parametrize("size", [10, LIMIT, LIMIT + 1, HUGE])
def test_every_plan_ends(mode, accept, selection, byte_range, size):
    for announced in (size, None):
        for has_copy in (False, True):
            for is_deferred in (False, True):
                request = wants(mode, accept, selection, byte_range)
                assert play(request, World(size, announced, has_copy, is_deferred))
