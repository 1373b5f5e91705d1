"""Reads the parameters of a request: delivery mode, levels and byte range of a frame; filters and page of the index."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from framegate.delivery.portions import ByLevels, ByResolution, BySize, ByteRange
from framegate.delivery.request import NAMED_MODES, DeliveryMode
from framegate.identifiers import UID_PATTERN
from framegate.index.frame_index import IndexQuery
from framegate.problems import InvalidRequest
from framegate.rest import routes
from framegate.rest.negotiation import Accept

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from framegate.delivery.portions import Selection
    from framegate.rest.http import HttpRequest
    from framegate.rest.routes import Integer, Parameter

# No size has more than 20 digits, and Python refuses to parse a number with several thousand.
_RANGE = re.compile(r"bytes[ \t]*=[ \t]*(?:(\d{1,20})-(\d{0,20})|-(\d{1,20}))[ \t]*", re.IGNORECASE | re.ASCII)


def delivery_mode(request: HttpRequest) -> DeliveryMode:
    """Read how to deliver the frame.

    Raises
    ------
    InvalidRequest
        If `delivery` names no mode.
    """
    name = request.query(routes.DELIVERY.name)
    if name is None:
        return DeliveryMode.AUTO
    if name not in NAMED_MODES:
        raise InvalidRequest(f"delivery must be {' or '.join(NAMED_MODES)}; without it, the frame's size decides.")
    return DeliveryMode(name)


def selection(request: HttpRequest) -> Selection | None:
    """Read which resolution or levels to deliver; None is the whole frame.

    Raises
    ------
    InvalidRequest
        If a value is not a number within its bounds, or if the parameters contradict each other.
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
        raise InvalidRequest("Give only one of size, resolution, and startLevel with endLevel.")
    if levels and levels.last is not None and levels.first > levels.last:
        raise InvalidRequest("startLevel must not be above endLevel.")
    return given[0] if given else None


def accept_of(request: HttpRequest) -> Accept:
    """Read which media types the client accepts: from the query parameter `accept`, or else from the header.

    References
    ----------
    DICOM PS3.18, section 8.3.3.1: the parameter serves clients that cannot set the header, such as a link.
    """
    return Accept.parse(", ".join(request.query_values(routes.ACCEPT.name)) or request.header("Accept"))


def byte_range(request: HttpRequest, entity_tags: Callable[[], Collection[str]]) -> ByteRange | None:
    """Read which bytes to deliver; None is all of them.

    The header is ignored unless it has exactly one range in bytes. So is the header of any method but GET.

    Parameters
    ----------
    request : HttpRequest
        The request.
    entity_tags : callable
        Returns the entity tags that ``If-Range`` may name for the range to apply.

    References
    ----------
    RFC 9110, section 14.2; section 13.1.5 for ``If-Range``. A date in ``If-Range`` never matches, because no response
    has a ``Last-Modified``.
    """
    header = request.header("Range")
    if header is None or request.method != "GET":
        return None
    if_range = request.header("If-Range")
    if if_range is not None and if_range.strip() not in entity_tags():
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


def frame_numbers(request: HttpRequest) -> list[int]:
    """Read the frame numbers in the path.

    Raises
    ------
    InvalidRequest
        If the list is malformed, too long, or repeats a number.
    """
    value = unquote(request.path[routes.FRAME_LIST.name])
    limit = routes.FRAME_LIST.type.max_length
    if len(value) > limit or not re.fullmatch(routes.FRAME_LIST_PATTERN, value, re.ASCII):
        raise InvalidRequest("The list of frames must be frame numbers from 1, separated by commas.")
    numbers = [int(each) for each in value.split(",")]
    if len(set(numbers)) < len(numbers):
        raise InvalidRequest("The list of frames must name each frame once.")
    return numbers


def bulk_data_id(request: HttpRequest) -> str:
    """Read the identifier of bulk data in the path.

    Raises
    ------
    InvalidRequest
        If it is malformed.
    """
    value, limit = request.path[routes.BULK_DATA_ID.name], routes.BULK_DATA_ID.type.max_length
    if len(value) > limit or not re.fullmatch(routes.BULK_DATA_ID_PATTERN, value, re.ASCII):
        raise InvalidRequest("bulkDataId must be letters, digits, hyphens and underscores.")
    return value


def index_query(request: HttpRequest) -> IndexQuery:
    """Read which frames of an image set to list.

    Raises
    ------
    InvalidRequest
        If a value is malformed, or if `nextToken` and `versionId` name different versions.
    """
    version = _number(request, routes.VERSION_ID)
    uid, token = request.query(routes.SOP_INSTANCE_UID.name), request.query(routes.NEXT_TOKEN.name)
    if uid is not None and not re.fullmatch(UID_PATTERN, uid):
        raise InvalidRequest("sopInstanceUID must be a DICOM UID: digits and dots.")
    version_id, position = None if version is None else str(version), 0
    if token is not None:
        match = re.fullmatch(routes.PAGE_POSITION_PATTERN, token, re.ASCII)
        if match is None or version_id not in (None, match[1]):
            raise InvalidRequest("nextToken must come from a response for the same image set and version.")
        # All pages show the version that the first page showed.
        version_id, position = match[1], int(match[2])
    return IndexQuery(
        version_id=version_id,
        sop_instance_uid=uid,
        frame_number=_number(request, routes.FRAME_NUMBER),
        max_frames=_number(request, routes.MAX_RESULTS_PARAMETER) or routes.MAX_RESULTS,
        position=position,
    )


def next_token(version_id: str, position: int) -> str:
    """The `nextToken` that leads from a page to the next one."""
    return f"{version_id}-{position}"


def _number(request: HttpRequest, parameter: Parameter[Integer]) -> int | None:
    value, bounds = request.query(parameter.name), parameter.type
    if value is None:
        return None
    # No bound has more than ten digits, and Python refuses to parse a number with several thousand.
    is_number = re.fullmatch(r"[0-9]{1,10}", value, re.ASCII) is not None
    if not is_number or not bounds.minimum <= int(value) <= bounds.maximum:
        raise InvalidRequest(f"{parameter.name} must be a whole number from {bounds.minimum} to {bounds.maximum}.")
    return int(value)
