"""The routes of the REST API, each declared once.

The dispatcher, the parameter checks, the CDK API, ``docs/openapi.json``, the README's table of routes and the text of
``unknown-route`` all read these declarations. The module holds data only, so that `infra` can import it cheaply.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from framegate import problems
from framegate.jpeg2000.codestream import MAX_DECOMPOSITIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_PIXELS = 2**32 - 1
"""Pixels of the longest side that an image can have (ITU-T T.800, table A.9)."""

MAX_LEVEL = 65_535
"""The highest level that a request may name. No codestream has so many tile-parts that complete a resolution."""

MAX_RESULTS = 1000
"""Frames on a page of the index: about 300 kB."""

MAX_NUMBER = 2**31 - 1
"""The highest frame number and version number that a request may name."""

MAX_UID_LENGTH = 256
"""Characters of a UID. DICOM allows 64 (PS3.5, section 9.1); HealthImaging accepts up to 256."""

UID_PATTERN = rf"[0-9.]{{1,{MAX_UID_LENGTH}}}"

MAX_HEADER_LENGTH = 10_240
"""Bytes that API Gateway takes for all header lines of a request (API Gateway developer guide, "Quotas")."""

PAGE_POSITION_PATTERN = r"([1-9][0-9]{0,9})-([1-9][0-9]{0,11})"
"""`nextToken`: the version of the index, and the bytes of it that earlier pages have used."""

MAX_PAGE_POSITION_LENGTH = 23


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number from `minimum` to `maximum`, both included."""

    minimum: int
    maximum: int


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Text:
    """Text of at most `max_length` characters; the whole of it matches `pattern`, where there is one."""

    max_length: int
    pattern: str | None = None


@dataclass(frozen=True, slots=True)
class Identifier:
    """An identifier of HealthImaging: 32 characters, each ``0-9`` or ``a-z``."""


ParameterType = Integer | Choice | Text | Identifier
Type = TypeVar("Type", bound=ParameterType, covariant=True)


@dataclass(frozen=True, slots=True)
class Parameter(Generic[Type]):
    """A parameter of a request.

    Attributes
    ----------
    name : str
        Its name in the path's template, in the query, or as a header field.
    location : str
        ``path``, ``query`` or ``header``.
    type : Integer, Choice, Text or Identifier
        The values that it takes.
    description : str
        What it does, for the OpenAPI document.
    example : str or int
        A valid value.
    required : bool
        Whether every request has it.
    """

    name: str
    location: Literal["path", "query", "header"]
    type: Type
    description: str
    example: str | int
    required: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """What a method of a route does.

    Attributes
    ----------
    method : str
        ``GET`` or ``POST``. A route that takes GET takes HEAD as well.
    operation_id : str
        Names the operation for client generators and in the dispatcher.
    summary, description : str
        What it does, for the OpenAPI document.
    parameters : tuple of Parameter
        Its parameters, without those in the path.
    returns : str
        What it answers with: ``Frame`` or ``Index``.
    media_types : tuple of str
        The representations that a client can ask for; ``*/*`` is the frame's own media type.
    problems : tuple of type
        The problems that the function can answer with.
    example : str
        A call, or a body, for the README.
    takes_body : bool
        Whether the request has a body.
    """

    method: Literal["GET", "POST"]
    operation_id: str
    summary: str
    description: str
    parameters: tuple[Parameter[ParameterType], ...]
    returns: Literal["Frame", "Index"]
    media_types: tuple[str, ...]
    problems: tuple[type[problems.Problem], ...]
    example: str
    takes_body: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """A path and what its methods do.

    Attributes
    ----------
    template : str
        The path, as the REST API and its events have it.
    parameters : tuple of Parameter
        The parameters in the path.
    operations : tuple of Operation
        One for each method, without HEAD.
    """

    template: str
    parameters: tuple[Parameter[ParameterType], ...]
    operations: tuple[Operation, ...]

    @property
    def operation_by_method(self) -> Mapping[str, Operation]:
        """The operation behind each method that the route takes; HEAD runs the operation of GET."""
        by_method: dict[str, Operation] = {}
        for operation in self.operations:
            by_method[operation.method] = operation
            if operation.method == "GET":
                by_method["HEAD"] = operation
        return by_method


_ANY_REQUEST = (
    problems.InvalidRequest,
    problems.InvalidIdentifier,
    problems.UpstreamRejected,
    problems.TokenExpired,
    problems.DatastoreNotServed,
    problems.DatastoreNotGranted,
    problems.AccessDenied,
    problems.FrameConflict,
    problems.PreconditionFailed,
    problems.Throttled,
    problems.InternalError,
    problems.UpstreamFailed,
    problems.UpstreamRefused,
    problems.UpstreamTimeout,
)
_FRAME_PROBLEMS = (*_ANY_REQUEST, problems.FrameNotFound, problems.NotAcceptable, problems.FrameTooLarge)
_INDEX_PROBLEMS = (*_ANY_REQUEST, problems.ImageSetNotFound, problems.VersionNotFound)

_EXAMPLE_ID = "0123456789abcdef0123456789abcdef"


def _identifier(name: str, location: Literal["path", "query"]) -> Parameter[Identifier]:
    return Parameter(name, location, Identifier(), "HealthImaging's identifier.", _EXAMPLE_ID, required=True)


DATASTORE_ID = _identifier("datastoreId", "path")
IMAGE_SET_ID = _identifier("imageSetId", "path")
IMAGE_FRAME_ID = _identifier("imageFrameId", "path")
IMAGE_FRAME_ID_IN_QUERY = _identifier("imageFrameId", "query")

DELIVERY = Parameter(
    "delivery",
    "query",
    Choice(("inline", "url")),
    "Sends the frame in the answer (`inline`) or by pre-signed URL (`url`). Without it, the frame's size decides.",
    "url",
)
SIZE = Parameter(
    "size",
    "query",
    Integer(1, MAX_PIXELS),
    "The smallest stored resolution whose longer side has at least this many pixels.",
    128,
)
RESOLUTION = Parameter(
    "resolution",
    "query",
    Integer(0, MAX_DECOMPOSITIONS),
    "The stored resolution with this number; 0 is the base. Excludes `size`.",
    0,
)
START_LEVEL = Parameter(
    "startLevel",
    "query",
    Integer(0, MAX_LEVEL),
    "The bytes from this level on. Excludes `size` and `resolution`.",
    0,
)
END_LEVEL = Parameter(
    "endLevel",
    "query",
    Integer(0, MAX_LEVEL),
    "The bytes up to this level, which must not be below `startLevel`.",
    1,
)
VERSION_ID = Parameter(
    "versionId", "query", Integer(1, MAX_NUMBER), "The version of the image set. Without it, the latest.", 1
)
SOP_INSTANCE_UID = Parameter(
    "sopInstanceUID",
    "query",
    Text(MAX_UID_LENGTH, UID_PATTERN),
    "Only frames of this DICOM instance.",
    "1.2.826.0.1.3680043.2.1143",
)
FRAME_NUMBER = Parameter(
    "frameNumber", "query", Integer(1, MAX_NUMBER), "Only frames with this number, counted from 1.", 1
)
MAX_RESULTS_PARAMETER = Parameter(
    "maxResults", "query", Integer(1, MAX_RESULTS), "The most frames that a page may have.", MAX_RESULTS
)
NEXT_TOKEN = Parameter(
    "nextToken",
    "query",
    Text(MAX_PAGE_POSITION_LENGTH, PAGE_POSITION_PATTERN),
    "The token from the page before, for the same image set and version.",
    "1-28400",
)

IF_MATCH = Parameter(
    "If-Match",
    "header",
    Text(MAX_HEADER_LENGTH),
    "Entity tags, or `*`. If none of them is the current one, the answer is 412.",
    '"f1"',
)
IF_NONE_MATCH = Parameter(
    "If-None-Match",
    "header",
    Text(MAX_HEADER_LENGTH),
    "Entity tags that the client holds, or `*`. If one of them is the current one, the answer is 304 (412 for POST).",
    '"f1"',
)
RANGE = Parameter(
    "Range",
    "header",
    Text(MAX_HEADER_LENGTH),
    "One range of bytes (RFC 9110, section 14). Anything else is ignored.",
    "bytes=0-99",
)
IF_RANGE = Parameter(
    "If-Range",
    "header",
    Text(MAX_HEADER_LENGTH),
    "The range counts only if this is still the entity tag.",
    '"f1"',
)

_FRAME_DESCRIPTION = (
    "The frame's bytes, or JSON if the request's Accept header names it. A frame that is too large for the answer "
    "comes by pre-signed URL. With `size`, `resolution` or levels, part of a frame in HTJ2K."
)
_FRAME_MEDIA_TYPES = ("*/*", "application/json")
_PORTION = (DELIVERY, SIZE, RESOLUTION, START_LEVEL, END_LEVEL)
_CONDITIONS = (IF_MATCH, IF_NONE_MATCH)

FRAME_BY_PATH = Operation(
    method="GET",
    operation_id="getImageFrameByPath",
    summary="A frame, by its path",
    description=_FRAME_DESCRIPTION,
    parameters=(*_PORTION, *_CONDITIONS, RANGE, IF_RANGE),
    returns="Frame",
    media_types=_FRAME_MEDIA_TYPES,
    problems=(*_FRAME_PROBLEMS, problems.RangeNotSatisfiable),
    example="`GET $API/datastore/$DATASTORE/imageSet/$IMAGE_SET/imageFrame/$FRAME`",
)
FRAME_BY_QUERY = Operation(
    method="GET",
    operation_id="getImageFrameByQuery",
    summary="A frame, by its id in the query",
    description=_FRAME_DESCRIPTION,
    parameters=(IMAGE_FRAME_ID_IN_QUERY, *_PORTION, *_CONDITIONS, RANGE, IF_RANGE),
    returns="Frame",
    media_types=_FRAME_MEDIA_TYPES,
    problems=(*_FRAME_PROBLEMS, problems.RangeNotSatisfiable),
    example="`GET …/getImageFrame?imageFrameId=$FRAME`",
)
FRAME_BY_BODY = Operation(
    method="POST",
    operation_id="getImageFrame",
    summary="A frame, by its id in the body, as in HealthImaging's own API",
    description=_FRAME_DESCRIPTION,
    parameters=(*_PORTION, *_CONDITIONS),
    returns="Frame",
    media_types=_FRAME_MEDIA_TYPES,
    problems=_FRAME_PROBLEMS,
    example='`{"imageFrameId": "…"}` or, as the SDKs have it, `{"imageFrameInformation": {"imageFrameId": "…"}}`',
    takes_body=True,
)
FRAME_INDEX = Operation(
    method="GET",
    operation_id="listImageFrames",
    summary="The frames of an image set",
    description="Page by page, with nothing about the patient, study or series.",
    parameters=(
        VERSION_ID,
        SOP_INSTANCE_UID,
        FRAME_NUMBER,
        MAX_RESULTS_PARAMETER,
        NEXT_TOKEN,
        *_CONDITIONS,
    ),
    returns="Index",
    media_types=("application/json",),
    problems=_INDEX_PROBLEMS,
    example="[what there is to fetch](#the-frame-index)",
)

_IMAGE_SET = "/datastore/{datastoreId}/imageSet/{imageSetId}"

FRAME_ROUTE = f"{_IMAGE_SET}/imageFrame/{{imageFrameId}}"
GET_IMAGE_FRAME_ROUTE = f"{_IMAGE_SET}/getImageFrame"
INDEX_ROUTE = f"{_IMAGE_SET}/imageFrames"

ROUTES = (
    Route(FRAME_ROUTE, (DATASTORE_ID, IMAGE_SET_ID, IMAGE_FRAME_ID), (FRAME_BY_PATH,)),
    Route(GET_IMAGE_FRAME_ROUTE, (DATASTORE_ID, IMAGE_SET_ID), (FRAME_BY_QUERY, FRAME_BY_BODY)),
    Route(INDEX_ROUTE, (DATASTORE_ID, IMAGE_SET_ID), (FRAME_INDEX,)),
)
"""Every route of the API."""

METHODS = tuple(dict.fromkeys(method for route in ROUTES for method in route.operation_by_method))
"""Every method that some route takes."""
