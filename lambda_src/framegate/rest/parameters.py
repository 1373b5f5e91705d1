"""What a request says of what it wants: delivery, resolution or levels and a range of a frame; a page of the index."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from framegate.delivery.delivery import DeliveryMode
from framegate.delivery.portions import ByLevels, ByResolution, BySize, ByteRange
from framegate.index.frame_index import IndexQuery
from framegate.problems import InvalidRequest
from framegate.rest import routes

if TYPE_CHECKING:
    from collections.abc import Collection

    from framegate.delivery.portions import Selection
    from framegate.rest.http import HttpRequest
    from framegate.rest.routes import Integer, Parameter

# No more digits than any size has: Python refuses to read a number of some thousand.
_RANGE = re.compile(r"bytes[ \t]*=[ \t]*(?:(\d{1,20})-(\d{0,20})|-(\d{1,20}))[ \t]*", re.IGNORECASE | re.ASCII)


def delivery_mode(request: HttpRequest) -> DeliveryMode:
    """How the frame is to be delivered.

    Raises
    ------
    InvalidRequest
        If `delivery` has another value.
    """
    match request.query(routes.DELIVERY.name):
        case None:
            return DeliveryMode.AUTO
        case "inline":
            return DeliveryMode.INLINE
        case "url":
            return DeliveryMode.URL
    raise InvalidRequest("delivery must be inline or url; without it, the frame's size decides.")


def selection(request: HttpRequest) -> Selection | None:
    """Which of the frame's stored resolutions or levels are wanted; None is all of it.

    Raises
    ------
    InvalidRequest
        If a value is not a number in its range, or if they contradict each other.
    """
    size = _number(request, routes.SIZE)
    resolution = _number(request, routes.RESOLUTION)
    first = _number(request, routes.START_LEVEL)
    last = _number(request, routes.END_LEVEL)
    levels = None if first is None and last is None else ByLevels(first or 0, last)
    given: list[Selection] = [
        *([] if size is None else [BySize(size)]),
        *([] if resolution is None else [ByResolution(resolution)]),
        *([] if levels is None else [levels]),
    ]
    if len(given) > 1:
        raise InvalidRequest("Give one of size, resolution, and startLevel with endLevel; they choose the same thing.")
    if levels and levels.last is not None and levels.first > levels.last:
        raise InvalidRequest("startLevel must not be above endLevel.")
    return given[0] if given else None


def byte_range(request: HttpRequest, entity_tags: Collection[str]) -> ByteRange | None:
    """The range of bytes that is wanted; None is all of them.

    Parameters
    ----------
    request : HttpRequest
        The request.
    entity_tags : collection of str
        Those that the representation can have whose bytes they are.

    References
    ----------
    RFC 9110, section 14.2: a range counts for GET alone; one in another unit, several at once, and what is no range are
    ignored. Section 13.1.5: with ``If-Range``, a range counts if the representation is still the one that is named;
    there is no ``Last-Modified`` that a date could be compared with.
    """
    header = request.header("Range")
    if header is None or request.method != "GET":
        return None
    if_range = request.header("If-Range")
    if if_range is not None and if_range.strip() not in entity_tags:
        return None
    match = _RANGE.fullmatch(header)
    if match is None:
        return None
    first, last, suffix = match.groups()
    if first is None:
        return ByteRange(None, int(suffix))
    if last and int(last) < int(first):
        return None
    return ByteRange(int(first), int(last) if last else None)


def index_query(request: HttpRequest) -> IndexQuery:
    """Which frames of an image set are asked for.

    Raises
    ------
    InvalidRequest
        If a value is not of its form, or if `nextToken` is of another version than `versionId`.
    """
    version = _number(request, routes.VERSION_ID)
    uid, token = request.query(routes.SOP_INSTANCE_UID.name), request.query(routes.NEXT_TOKEN.name)
    if uid is not None and not re.fullmatch(routes.UID_PATTERN, uid):
        raise InvalidRequest("sopInstanceUID must be a DICOM UID: digits and dots.")
    version_id, position = None if version is None else str(version), 0
    if token is not None:
        match = re.fullmatch(routes.PAGE_POSITION_PATTERN, token, re.ASCII)
        if match is None or version_id not in (None, match[1]):
            raise InvalidRequest("nextToken must be one that an answer gave, for the same image set and version.")
        # The pages that follow are of the version that the first one was of.
        version_id, position = match[1], int(match[2])
    return IndexQuery(
        version_id=version_id,
        sop_instance_uid=uid,
        frame_number=_number(request, routes.FRAME_NUMBER),
        max_frames=_number(request, routes.MAX_RESULTS_PARAMETER) or routes.MAX_RESULTS,
        position=position,
    )


def next_token(version_id: str, position: int) -> str:
    """The `nextToken` of a page that others follow."""
    return f"{version_id}-{position}"


def _number(request: HttpRequest, parameter: Parameter[Integer]) -> int | None:
    value, bounds = request.query(parameter.name), parameter.type
    if value is None:
        return None
    # No bound has more than ten digits; Python refuses to read a number of several thousand.
    is_number = re.fullmatch(r"[0-9]{1,10}", value, re.ASCII) is not None
    if not is_number or not bounds.minimum <= int(value) <= bounds.maximum:
        raise InvalidRequest(f"{parameter.name} must be a whole number from {bounds.minimum} to {bounds.maximum}.")
    return int(value)
