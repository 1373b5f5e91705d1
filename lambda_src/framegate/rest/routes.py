"""The routes of the REST API, each declared once.

The dispatcher, the parameter checks, the CDK API, ``docs/openapi.json``, the table of routes in ``docs/api.md`` and
the text of ``unknown-route`` all read these declarations. The module holds data only, so that `infra` imports it fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from framegate import problems
from framegate.delivery.request import NAMED_MODES
from framegate.identifiers import MAX_UID_LENGTH, UID_PATTERN
from framegate.jpeg2000.bounds import MAX_DECOMPOSITIONS

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

STRICT_UID_PATTERN = r"[0-9]+(\.[0-9]+)*"
"""The form of a UID in a path, where an empty component could change the path."""

MAX_FRAME_LIST_LENGTH = 4_096
"""Maximum characters of a list of frame numbers."""

FRAME_LIST_PATTERN = r"[1-9][0-9]{0,8}(,[1-9][0-9]{0,8})*"

MAX_BULK_DATA_ID_LENGTH = 256

BULK_DATA_ID_PATTERN = r"[0-9A-Za-z_-]+"

MAX_VIEWPORT_LENGTH = MAX_WINDOW_LENGTH = 200
"""Maximum characters of a viewport and of a window."""

MAX_OFFSET = 1_000_000
"""The highest `offset` of a search (AWS HealthImaging developer guide, "Searching DICOM data")."""

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


Returns = Literal["Frame", "Index", "Datasets", "InstanceFrames", "BulkData", "Picture", "DicomFiles", "Nothing"]

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
        What it returns: ``Frame``, ``Index``, ``Picture``, or in DICOMweb ``Datasets``, ``InstanceFrames``,
        ``BulkData`` or ``DicomFiles``; ``Nothing`` if it is not supported.
    media_types : tuple of str
        The media types that a client can request; ``*/*`` stands for the frame's own.
    problems : tuple of type
        The problems that the function can answer with.
    example : str
        A request or a body, for the table of routes.
    takes_body : bool
        Whether the request has a body.
    throttle : str or None
        Name of the operation's own limit of requests per second, because it uses a small quota of HealthImaging:
        ``index``, ``search`` or ``metadata``. None applies the limit of the stage.
    """

    method: Literal["GET", "POST"]
    operation_id: str
    summary: str
    description: str
    parameters: tuple[Parameter[ParameterType], ...]
    returns: Returns
    media_types: tuple[str, ...]
    problems: tuple[type[problems.Problem], ...]
    example: str
    takes_body: bool = False
    throttle: Literal["index", "search", "metadata"] | None = None


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
    problems.ClientNotAccepted,
    problems.ImageSetNotGranted,
    problems.AuthorizationUnavailable,
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

QUALITY = Parameter("quality", "query", Integer(1, 100), "Quality of a JPEG or WebP picture. Without it, 85.", 85)
VIEWPORT = Parameter(
    "viewport",
    "query",
    Text(MAX_VIEWPORT_LENGTH),
    "Maximum width and height of the picture, which keeps the shape of the image: `width,height`. With "
    "`width,height,x,y,width,height`, a region of the frame, which is enlarged if it is smaller.",
    "512,512",
)
THUMBNAIL_VIEWPORT = Parameter(
    "viewport",
    "query",
    Text(MAX_VIEWPORT_LENGTH),
    "Maximum width and height of the picture: `width,height`. Without it, 256 pixels each.",
    "256,256",
)
WINDOW = Parameter(
    "window",
    "query",
    Text(MAX_WINDOW_LENGTH),
    "The window: `center,width,function`, where the function is `linear`, `linear-exact` or `sigmoid`. Without it, "
    "that of the image.",
    "40,400,linear",
)
ICC_PROFILE = Parameter(
    "iccprofile", "query", Choice(("no",)), "Pictures have no colour profile, so `no` is the only value.", "no"
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
_FRAME_MEDIA_TYPES = ("*/*", "multipart/related", "application/json")
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
    throttle="index",
)

_IMAGE_SET = "/datastore/{datastoreId}/imageSet/{imageSetId}"

FRAME_ROUTE = f"{_IMAGE_SET}/imageFrame/{{imageFrameId}}"
GET_IMAGE_FRAME_ROUTE = f"{_IMAGE_SET}/getImageFrame"
INDEX_ROUTE = f"{_IMAGE_SET}/imageFrames"

_UID_LIST_EXAMPLE = "1.2.826.0.1.3680043.2.1143"


def _uid(name: str, what: str) -> Parameter[Text]:
    return Parameter(
        name, "path", Text(MAX_UID_LENGTH, STRICT_UID_PATTERN), f"UID of the {what}.", _UID_LIST_EXAMPLE, required=True
    )


STUDY_UID = _uid("studyInstanceUID", "study")
SERIES_UID = _uid("seriesInstanceUID", "series")
INSTANCE_UID = _uid("instanceUID", "SOP instance")
FRAME_LIST = Parameter(
    "frameList",
    "path",
    Text(MAX_FRAME_LIST_LENGTH, FRAME_LIST_PATTERN),
    "Frame numbers, counted from 1, each at most once, separated by commas.",
    "1,2",
    required=True,
)
PICTURE_FRAME = Parameter(
    FRAME_LIST.name, "path", Text(9, r"[1-9][0-9]{0,8}"), "A frame number, counted from 1.", "1", required=True
)
BULK_DATA_ID = Parameter(
    "bulkDataId",
    "path",
    Text(MAX_BULK_DATA_ID_LENGTH, BULK_DATA_ID_PATTERN),
    "HealthImaging's identifier of the bulk data, from a `BulkDataURI`.",
    "d16bd7a5d7a1f1a2",
    required=True,
)
IMAGE_SET_ID_IN_QUERY = Parameter(
    "imageSetId",
    "query",
    Identifier(),
    "Selects an image set of the series. Without it, the primary one.",
    _EXAMPLE_ID,
)
LIMIT = Parameter("limit", "query", Integer(1, MAX_RESULTS), "Maximum number of results.", 100)
OFFSET = Parameter("offset", "query", Integer(0, MAX_OFFSET), "Number of results to skip.", 0)
INCLUDE_FIELD = Parameter(
    "includefield",
    "query",
    Text(MAX_HEADER_LENGTH),
    "Further attributes in the result: keywords or tags, separated by commas or in several parameters; or `all`.",
    "00081030,00080060",
)
FUZZY_MATCHING = Parameter(
    "fuzzymatching",
    "query",
    Choice(("true", "false")),
    "Matches names by the beginnings of their words.",
    "false",
)

_DICOM_JSON_TYPES = ("application/dicom+json", "application/json")
_STUDIES = "/datastore/{datastoreId}/studies"
_STUDY = f"{_STUDIES}/{{studyInstanceUID}}"
_SERIES = f"{_STUDY}/series/{{seriesInstanceUID}}"
_INSTANCE = f"{_SERIES}/instances/{{instanceUID}}"
_FRAMES = f"{_INSTANCE}/frames/{{frameList}}"

_DICOMWEB_PROBLEMS = (*_ANY_REQUEST, problems.InstanceNotFound, problems.NotAcceptable)


def _search(operation_id: str, template: str, what: str) -> Route:
    """Declare a search. HealthImaging documents the attributes that it matches, so they are not declared here."""
    within = [each for each in (STUDY_UID, SERIES_UID) if each.name in template]
    return Route(
        template,
        (DATASTORE_ID, *within),
        (
            Operation(
                method="GET",
                operation_id=operation_id,
                summary=f"Search for {what}",
                description="Passes the search on to HealthImaging (QIDO-RS), and returns what it finds. Attributes to "
                "match are further query parameters, by keyword or tag. Nothing found is an empty array.",
                parameters=(ACCEPT, LIMIT, OFFSET, INCLUDE_FIELD, FUZZY_MATCHING),
                returns="Datasets",
                media_types=_DICOM_JSON_TYPES,
                problems=(*_DICOMWEB_PROBLEMS, problems.ResultTooLarge),
                example="[searches](viewers.md#searches)",
                throttle="search",
            ),
        ),
    )


def _metadata(operation_id: str, template: str, what: str, parameters: tuple[Parameter[ParameterType], ...]) -> Route:
    return Route(
        template,
        (DATASTORE_ID, *(each for each in (STUDY_UID, SERIES_UID, INSTANCE_UID) if f"{{{each.name}}}" in template)),
        (
            Operation(
                method="GET",
                operation_id=operation_id,
                summary=f"Get the metadata of {what}",
                description="Returns DICOM JSON (WADO-RS). Metadata that is too large for a response is delivered by "
                "a redirect.",
                parameters=(ACCEPT, *parameters, *_CONDITIONS),
                returns="Datasets",
                media_types=_DICOM_JSON_TYPES,
                problems=_DICOMWEB_PROBLEMS,
                example="[metadata](viewers.md#metadata)",
                throttle="metadata",
            ),
        ),
    )


def _files(operation_id: str, template: str, what: str, media_types: tuple[str, ...]) -> Route:
    return Route(
        template,
        (DATASTORE_ID, *(each for each in (STUDY_UID, SERIES_UID, INSTANCE_UID) if f"{{{each.name}}}" in template)),
        (
            Operation(
                method="GET",
                operation_id=operation_id,
                summary=f"Get {what}",
                description="Returns DICOM files with the pixel data as it is stored (WADO-RS). Files that are too "
                "large for a response are delivered by a redirect. Without `export_output=dicom`, always answers with "
                "the problem `not-supported`.",
                parameters=(ACCEPT, IMAGE_SET_ID_IN_QUERY, *_CONDITIONS),
                returns="DicomFiles",
                media_types=media_types,
                problems=(*_DICOMWEB_PROBLEMS, problems.NotSupported),
                example="[DICOM files](viewers.md#dicom-files)",
            ),
        ),
    )


def _unsupported(operation_id: str, template: str, what: str) -> Route:
    given = (STUDY_UID, SERIES_UID, INSTANCE_UID, FRAME_LIST)
    return Route(
        template,
        (DATASTORE_ID, *(each for each in given if f"{{{each.name}}}" in template)),
        (
            Operation(
                method="GET",
                operation_id=operation_id,
                summary=f"Not supported: get {what}",
                description="Always answers with the problem `not-supported`.",
                parameters=(),
                returns="Nothing",
                media_types=("application/problem+json",),
                problems=(*_ANY_REQUEST, problems.NotSupported),
                example="-",
            ),
        ),
    )


SEARCH_ROUTES = (
    _search("searchStudies", _STUDIES, "studies"),
    _search("searchStudySeries", f"{_STUDY}/series", "series of a study"),
    _search("searchStudyInstances", f"{_STUDY}/instances", "instances of a study"),
    _search("searchSeriesInstances", f"{_SERIES}/instances", "instances of a series"),
    _search("searchSeries", "/datastore/{datastoreId}/series", "series"),
    _search("searchInstances", "/datastore/{datastoreId}/instances", "instances"),
)
STUDY_METADATA_ROUTE = _metadata("retrieveStudyMetadata", f"{_STUDY}/metadata", "a study", ())
SERIES_METADATA_ROUTE = _metadata("retrieveSeriesMetadata", f"{_SERIES}/metadata", "a series", (IMAGE_SET_ID_IN_QUERY,))
INSTANCE_METADATA_ROUTE = _metadata(
    "retrieveInstanceMetadata", f"{_INSTANCE}/metadata", "an instance", (IMAGE_SET_ID_IN_QUERY,)
)
INSTANCE_FRAMES = Operation(
    method="GET",
    operation_id="retrieveInstanceFrames",
    summary="Get frames of an instance",
    description="Returns frames as they are stored (WADO-RS), in a multipart body if the Accept header names it. "
    "Frames that are too large for a response are delivered by a redirect. If the client requests uncompressed "
    "pixels, HealthImaging decodes the frames.",
    parameters=(ACCEPT, IMAGE_SET_ID_IN_QUERY, SIZE, RESOLUTION, *_CONDITIONS, RANGE, IF_RANGE),
    returns="InstanceFrames",
    media_types=("multipart/related", "*/*"),
    problems=(
        *_DICOMWEB_PROBLEMS,
        problems.FrameNotFound,
        problems.FramePending,
        problems.FrameTooLarge,
        problems.RangeNotSatisfiable,
    ),
    example="[frames by UID](viewers.md#frames)",
)
BULK_DATA = Operation(
    method="GET",
    operation_id="retrieveBulkData",
    summary="Get bulk data of an instance",
    description="Returns the value to which a `BulkDataURI` in metadata leads (WADO-RS).",
    parameters=(ACCEPT, IMAGE_SET_ID_IN_QUERY),
    returns="BulkData",
    media_types=("multipart/related", "application/octet-stream"),
    problems=_DICOMWEB_PROBLEMS,
    example="[metadata](viewers.md#metadata)",
)
_PICTURE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_PICTURE_PROBLEMS = (*_DICOMWEB_PROBLEMS, problems.FrameNotFound, problems.ImageSetNotFound, problems.FrameNotDrawable)


def _picture(template: str, operation_id: str, summary: str, description: str, example: str) -> Route:
    """Declare a route of pictures."""
    given = (DATASTORE_ID, IMAGE_SET_ID, IMAGE_FRAME_ID, STUDY_UID, SERIES_UID, INSTANCE_UID, PICTURE_FRAME)
    own = (THUMBNAIL_VIEWPORT,) if template.endswith("/thumbnail") else (QUALITY, VIEWPORT, WINDOW, ICC_PROFILE)
    by_series = (IMAGE_SET_ID_IN_QUERY,) if SERIES_UID.name in template else ()
    return Route(
        template,
        tuple(each for each in given if f"{{{each.name}}}" in template),
        (
            Operation(
                method="GET",
                operation_id=operation_id,
                summary=summary,
                description=f"{description} A picture that is too large for a response is delivered by a redirect.",
                parameters=(ACCEPT, *own, *by_series, *_CONDITIONS),
                returns="Picture",
                media_types=_PICTURE_TYPES,
                problems=_PICTURE_PROBLEMS,
                example=example,
            ),
        ),
    )


_AS_SHOWN = "Draws the image as a viewer shows it at first."
_PICTURES, _THUMBNAILS = "[pictures](#pictures)", "[thumbnails](#thumbnails)"

RENDERED_FRAME_BY_ID = _picture(
    f"{FRAME_ROUTE}/rendered", "getRenderedImageFrame", "Get a frame as a picture", _AS_SHOWN, _PICTURES
)
THUMBNAIL_BY_ID = _picture(
    f"{FRAME_ROUTE}/thumbnail", "getImageFrameThumbnail", "Get a thumbnail of a frame", _AS_SHOWN, _THUMBNAILS
)
RENDERED_INSTANCE = _picture(
    f"{_INSTANCE}/rendered",
    "retrieveInstanceRendered",
    "Get an instance as a picture",
    f"{_AS_SHOWN} Of several frames, the first.",
    _PICTURES,
)
RENDERED_FRAME = _picture(
    f"{_FRAMES}/rendered",
    "retrieveFramesRendered",
    "Get a frame of an instance as a picture",
    _AS_SHOWN,
    _PICTURES,
)
STUDY_THUMBNAIL = _picture(
    f"{_STUDY}/thumbnail",
    "retrieveStudyThumbnail",
    "Get a thumbnail of a study",
    "Draws the middle frame of the study's first series with images.",
    _THUMBNAILS,
)
SERIES_THUMBNAIL = _picture(
    f"{_SERIES}/thumbnail",
    "retrieveSeriesThumbnail",
    "Get a thumbnail of a series",
    "Draws the middle frame of the series.",
    _THUMBNAILS,
)
INSTANCE_THUMBNAIL = _picture(
    f"{_INSTANCE}/thumbnail",
    "retrieveInstanceThumbnail",
    "Get a thumbnail of an instance",
    "Draws the middle frame of the instance.",
    _THUMBNAILS,
)
FRAME_THUMBNAIL = _picture(
    f"{_FRAMES}/thumbnail",
    "retrieveFramesThumbnail",
    "Get a thumbnail of a frame of an instance",
    _AS_SHOWN,
    _THUMBNAILS,
)
PICTURE_ROUTES = (
    RENDERED_FRAME_BY_ID,
    THUMBNAIL_BY_ID,
    RENDERED_INSTANCE,
    RENDERED_FRAME,
    STUDY_THUMBNAIL,
    SERIES_THUMBNAIL,
    INSTANCE_THUMBNAIL,
    FRAME_THUMBNAIL,
)
"""The routes of pictures, which a function of its own answers."""

SERIES_FILES_ROUTE = _files("retrieveSeries", _SERIES, "the DICOM files of a series", ("multipart/related",))
INSTANCE_FILE_ROUTE = _files(
    "retrieveInstance", _INSTANCE, "the DICOM file of an instance", ("application/dicom", "multipart/related")
)
UNSUPPORTED_ROUTES = tuple(
    _unsupported(f"retrieve{name}{suffix.title()}", f"{template}{'/' if suffix else ''}{suffix}", what)
    for name, template, resource in (
        ("Study", _STUDY, "a study"),
        ("Series", _SERIES, "a series"),
        ("Instance", _INSTANCE, "an instance"),
        ("Frames", _FRAMES, "frames"),
    )
    for suffix, what in (
        ("", f"{resource} as DICOM files"),
        ("rendered", f"{resource} as pictures"),
    )
    if (name, suffix)
    not in {("Series", ""), ("Instance", ""), ("Instance", "rendered"), ("Frames", ""), ("Frames", "rendered")}
)
_INSTANCE_PARAMETERS = (DATASTORE_ID, STUDY_UID, SERIES_UID, INSTANCE_UID)

API_ROUTES = (
    Route(FRAME_ROUTE, (DATASTORE_ID, IMAGE_SET_ID, IMAGE_FRAME_ID), (FRAME_BY_PATH,)),
    Route(GET_IMAGE_FRAME_ROUTE, (DATASTORE_ID, IMAGE_SET_ID), (FRAME_BY_QUERY, FRAME_BY_BODY)),
    Route(INDEX_ROUTE, (DATASTORE_ID, IMAGE_SET_ID), (FRAME_INDEX,)),
    *SEARCH_ROUTES,
    STUDY_METADATA_ROUTE,
    SERIES_METADATA_ROUTE,
    INSTANCE_METADATA_ROUTE,
    Route(_FRAMES, (*_INSTANCE_PARAMETERS, FRAME_LIST), (INSTANCE_FRAMES,)),
    Route(f"{_INSTANCE}/bulkdata/{{bulkDataId}}", (*_INSTANCE_PARAMETERS, BULK_DATA_ID), (BULK_DATA,)),
    SERIES_FILES_ROUTE,
    INSTANCE_FILE_ROUTE,
    *UNSUPPORTED_ROUTES,
)
"""The routes that the API function answers. Those below ``studies``, ``series`` and ``instances`` have the paths of
HealthImaging's DICOMweb."""

ROUTES = (*API_ROUTES, *PICTURE_ROUTES)
"""Every route of the API."""

DICOMWEB_OPERATION_IDS = tuple(
    operation.operation_id
    for route in API_ROUTES
    for operation in route.operations
    if operation.returns not in ("Frame", "Index")
)
"""The operations of DICOMweb that the API function answers."""

METHODS = tuple(dict.fromkeys(method for route in ROUTES for method in route.operation_by_method))
"""Every method that at least one route accepts."""
