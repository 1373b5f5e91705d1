"""The routes of the REST API, each declared once.

The dispatcher, the parameter checks, the CDK API, ``docs/openapi.json``, the table of routes in ``docs/api.md`` and
the text of ``unknown-route`` all read these declarations. The module holds data only, so that `infra` imports it fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from framegate import problems
from framegate.delivery.request import NAMED_MODES
from framegate.jpeg2000.codestream import MAX_DECOMPOSITIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_PIXELS = 2**32 - 1
"""Maximum width and height of an image in pixels (ITU-T T.800, table A.9)."""

MAX_LEVEL = 65_535
"""The highest level that a request may name. A codestream has at most 33 levels, one for each resolution."""

MAX_RESULTS = 1000
"""Maximum number of frames on a page of the index, about 300 kB."""

MAX_NUMBER = 2**31 - 1
"""The highest frame number and version number that a request may name."""

MAX_UID_LENGTH = 256
"""Maximum characters of a UID. DICOM allows 64 (PS3.5, section 9.1); HealthImaging accepts 256."""

UID_PATTERN = rf"[0-9.]{{1,{MAX_UID_LENGTH}}}"

MAX_HEADER_LENGTH = 10_240
"""Maximum bytes of all header lines of a request (API Gateway developer guide, "Quotas")."""

PAGE_POSITION_PATTERN = r"([1-9][0-9]{0,9})-([1-9][0-9]{0,11})"
"""The format of `nextToken`: the version of the image set, and the offset of the page in its index, in bytes."""

MAX_PAGE_POSITION_LENGTH = 23


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number from `minimum` to `maximum`, both inclusive."""

    minimum: int
    maximum: int


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several fixed words."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Text:
    """Text of at most `max_length` characters. If there is a `pattern`, it matches the whole text."""

    max_length: int
    pattern: str | None = None


@dataclass(frozen=True, slots=True)
class Identifier:
    """A HealthImaging identifier: 32 characters, each ``0-9`` or ``a-z``."""


ParameterType = Integer | Choice | Text | Identifier
Type = TypeVar("Type", bound=ParameterType, covariant=True)


@dataclass(frozen=True, slots=True)
class Parameter(Generic[Type]):
    """A parameter of a request.

    Attributes
    ----------
    name : str
        Its name in the path, in the query, or as a header.
    location : str
        ``path``, ``query`` or ``header``.
    type : Integer, Choice, Text or Identifier
        The values that it accepts.
    description : str
        What it does, for the OpenAPI document.
    example : str or int
        A valid value.
    required : bool
        Whether every request must have it.
    """

    name: str
    location: Literal["path", "query", "header"]
    type: Type
    description: str
    example: str | int
    required: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """A method of a route.

    Attributes
    ----------
    method : str
        ``GET`` or ``POST``. A route with GET also accepts HEAD.
    operation_id : str
        The operation's name for client generators and for the dispatcher.
    summary, description : str
        What it does, for the OpenAPI document.
    parameters : tuple of Parameter
        Its parameters, except those in the path.
    returns : str
        What it returns: ``Frame`` or ``Index``.
    media_types : tuple of str
        The media types that a client can request; ``*/*`` stands for the frame's own.
    problems : tuple of type
        The problems that the function can answer with.
    example : str
        A request or a body, for the table of routes.
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
    """A path and its operations.

    Attributes
    ----------
    template : str
        The path, in API Gateway's notation.
    parameters : tuple of Parameter
        The parameters in the path.
    operations : tuple of Operation
        One for each method except HEAD.
    """

    template: str
    parameters: tuple[Parameter[ParameterType], ...]
    operations: tuple[Operation, ...]

    @property
    def operation_by_method(self) -> Mapping[str, Operation]:
        """The operation of each method that the route accepts. HEAD runs the operation of GET."""
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
    Choice(NAMED_MODES),
    "Sends the frame in the response (`inline`) or as a pre-signed URL (`url`). Without it, the frame's size decides.",
    "url",
)
SIZE = Parameter(
    "size",
    "query",
    Integer(1, MAX_PIXELS),
    "Selects the smallest stored resolution whose longer side has at least this many pixels.",
    128,
)
RESOLUTION = Parameter(
    "resolution",
    "query",
    Integer(0, MAX_DECOMPOSITIONS),
    "Selects the stored resolution with this number; 0 is the base. Excludes `size`.",
    0,
)
ACCEPT = Parameter(
    "accept",
    "query",
    Text(MAX_HEADER_LENGTH),
    "Accepted media types, in place of the Accept header.",
    "image/jphc",
)
START_LEVEL = Parameter(
    "startLevel",
    "query",
    Integer(0, MAX_LEVEL),
    "Selects the bytes from this level on. Excludes `size` and `resolution`.",
    0,
)
END_LEVEL = Parameter(
    "endLevel",
    "query",
    Integer(0, MAX_LEVEL),
    "Selects the bytes up to this level, which must not be below `startLevel`.",
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
    "maxResults", "query", Integer(1, MAX_RESULTS), "Maximum number of frames on a page.", MAX_RESULTS
)
NEXT_TOKEN = Parameter(
    "nextToken",
    "query",
    Text(MAX_PAGE_POSITION_LENGTH, PAGE_POSITION_PATTERN),
    "The token from the previous page of the same image set and version.",
    "1-28400",
)

IF_MATCH = Parameter(
    "If-Match",
    "header",
    Text(MAX_HEADER_LENGTH),
    "Entity tags, or `*`. If none of them is current, the response is 412.",
    '"f1"',
)
IF_NONE_MATCH = Parameter(
    "If-None-Match",
    "header",
    Text(MAX_HEADER_LENGTH),
    "Entity tags that the client holds, or `*`. If one of them is current, the response is 304 (412 for POST).",
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
    "Applies the range only if this is the current entity tag.",
    '"f1"',
)

_FRAME_DESCRIPTION = (
    "Returns the frame's bytes, or JSON if the Accept header names it. A frame that is too large for a response is "
    "delivered as a pre-signed URL. With `size`, `resolution` or levels, returns part of a frame in HTJ2K."
)
_FRAME_MEDIA_TYPES = ("*/*", "application/json")
_PORTION = (DELIVERY, ACCEPT, SIZE, RESOLUTION, START_LEVEL, END_LEVEL)
_CONDITIONS = (IF_MATCH, IF_NONE_MATCH)

FRAME_BY_PATH = Operation(
    method="GET",
    operation_id="getImageFrameByPath",
    summary="Get a frame by its path",
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
    summary="Get a frame by its id in the query",
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
    summary="Get a frame by its id in the body, as in HealthImaging's API",
    description=_FRAME_DESCRIPTION,
    parameters=(*_PORTION, *_CONDITIONS),
    returns="Frame",
    media_types=_FRAME_MEDIA_TYPES,
    problems=_FRAME_PROBLEMS,
    example='`{"imageFrameId": "…"}` or, as in the SDKs, `{"imageFrameInformation": {"imageFrameId": "…"}}`',
    takes_body=True,
)
FRAME_INDEX = Operation(
    method="GET",
    operation_id="listImageFrames",
    summary="List the frames of an image set",
    description="Returns the list page by page. It says nothing about the patient, study or series.",
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
    example="[the frame index](#the-frame-index)",
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
"""Every method that at least one route accepts."""
