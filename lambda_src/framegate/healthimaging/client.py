"""The HealthImaging client: streams image frames and metadata within a time budget."""

from __future__ import annotations

import json
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import quote, urlencode

from botocore.auth import SigV4Auth

from framegate import upstream_time
from framegate.aws.endpoints import endpoint_url
from framegate.aws.errors import is_final, is_throttling, is_transient
from framegate.aws.retries import RetryQuota, retry
from framegate.aws.signed_http import SILENCE_TIMEOUT_SECONDS, SignedHttp, transport_problems
from framegate.healthimaging.gzip_stream import GzipError, decompressed
from framegate.healthimaging.media_types import pass_through
from framegate.healthimaging.regions import REGIONS
from framegate.identifiers import is_identifier
from framegate.observability import logger, subsegment
from framegate.problems import (
    AccessDenied,
    FrameConflict,
    FrameNotAvailable,
    FrameNotFound,
    Problem,
    ServiceProblem,
    Throttled,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamRejected,
    UpstreamTimeout,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from botocore.session import Session
    from urllib3.connection import HTTPConnection
    from urllib3.response import BaseHTTPResponse

    from framegate.identifiers import FrameRef, ImageSetRef
    from framegate.time_budget import TimeBudget

SERVICE = "HealthImaging"

API, API_VERSION = "medical-imaging", "2023-07-19"
"""Service name and API version in botocore."""

HOST_PREFIX = "runtime-"
"""Host prefix of the operations for frames, metadata and image sets: their ``endpoint`` trait in botocore's model."""

MAX_ATTEMPTS = 3
"""Maximum number of attempts at a call. More would add load to a service in trouble."""

MAX_RETRIES = 10
"""Maximum number of retries in an execution environment while no call succeeds."""

READ_BYTES = 256 * 1024

MAX_DRAIN_BYTES = 128 * 1024
"""Maximum number of unread bytes that we drain so that the connection can be reused.

At 600 Mbit/s and round trips of 0.5 to 2 ms, draining this many bytes is 2 to 5 ms faster than a new connection.
Draining 256 KiB takes about as long as a new connection, and 512 KiB takes longer (``bench/reading_on.py``).
"""

MAX_DRAIN_SECONDS = 0.02
"""Maximum time for draining. A new connection takes less."""

MAX_METADATA_BYTES = 512 * 1024 * 1024
"""Maximum size of an image set's metadata after decompression. HealthImaging documents a maximum of 50 MB."""

DICOMWEB_HOST_PREFIX = "dicom-"
"""Host prefix of DICOMweb, which botocore's model does not have (developer guide, "Retrieving DICOM data")."""

SEARCH_PAGE_IMAGE_SETS = 50
"""Maximum number of image sets on a page of ``SearchImageSets``."""

MAX_SEARCH_BODY_BYTES = 4 * 1024 * 1024
"""Maximum size of a page of ``SearchImageSets``: 50 image sets with some twenty attributes each."""

MAX_SHORT_BODY_BYTES = 64 * 1024
"""Maximum size of an error document or of an image set's properties. HealthImaging sends a few hundred bytes."""

_PROBLEM_BY_CODE: dict[str, type[Problem]] = {
    "ConflictException": FrameConflict,
    "AccessDeniedException": AccessDenied,
    "ValidationException": UpstreamRejected,
    "BadRequestException": UpstreamRejected,
    "NotAcceptableException": FrameNotAvailable,
    "ResourceNotFoundException": FrameNotFound,
}
"""Problems by error code (HealthImaging API reference, "Errors" of each operation)."""

Result = TypeVar("Result")


class FrameStream:
    """The body of a HealthImaging response, such as a frame. The headers have arrived; the bytes are read on demand.

    Attributes
    ----------
    content_type : str
        The media type that HealthImaging sent.
    content_length : int or None
        Size of the body in bytes; None if HealthImaging did not announce it.
    bytes_read : int
        Number of bytes that were read so far.
    """

    def __init__(self, response: BaseHTTPResponse, budget: TimeBudget) -> None:
        self._response = response
        self._budget = budget
        self.content_type = pass_through(response.headers.get("Content-Type"))
        self.content_length: int | None = response.length_remaining
        self.bytes_read = 0

    def __iter__(self) -> Iterator[bytes]:
        """Yield the frame in pieces of 256 KiB; the last piece can be shorter.

        Raises
        ------
        UpstreamFailed
            If the connection breaks or ends before the announced length.
        UpstreamTimeout
            If HealthImaging stops sending or the time runs out.
        """
        while piece := self._receive(READ_BYTES, READ_BYTES):
            yield piece

    def read(self, max_bytes: int = READ_BYTES) -> bytes:
        """Read from 1 to `max_bytes` bytes; at the end of the frame, return none.

        Raises
        ------
        UpstreamFailed, UpstreamTimeout
            See `__iter__`.
        """
        return self._receive(1, min(max_bytes, READ_BYTES))

    def _receive(self, min_bytes: int, max_bytes: int) -> bytes:
        """Read from `min_bytes` to `max_bytes` bytes, fewer only at the end of the frame."""
        pieces, size = [], 0
        with upstream_time.waiting(), transport_problems(SERVICE, "broke the connection in the middle of the frame"):
            # read1 returns what has arrived, at most 16 KiB over TLS. When a body arrives byte by byte, read would
            # keep waiting long after the time has run out.
            while size < min_bytes and self._response.length_remaining != 0:
                piece = self._read_in_time(max_bytes - size)
                if not piece:
                    break
                if self._budget.exhausted:
                    raise UpstreamTimeout(SERVICE)
                pieces.append(piece)
                size += len(piece)
        self.bytes_read += size
        return b"".join(pieces)

    def _read_in_time(self, max_bytes: int) -> bytes:
        seconds, connection = self._budget.remaining(), cast("HTTPConnection | None", self._response.connection)
        if seconds < SILENCE_TIMEOUT_SECONDS and connection is not None and connection.sock:
            # The socket still has the timeout from when the request was sent.
            connection.sock.settimeout(max(seconds, 0.001))
        return self._response.read1(max_bytes)

    def check_time(self) -> None:
        """Raise UpstreamTimeout if the time has run out."""
        if self._budget.exhausted:
            raise UpstreamTimeout(SERVICE)

    def drain_if_short(self) -> None:
        """Read the rest of the body if that is cheaper than a new connection for the next request."""
        rest_bytes = self._response.length_remaining
        if rest_bytes is not None and rest_bytes <= MAX_DRAIN_BYTES:
            # The caller has all the bytes that it needs, and must not wait long for a slow or stalled body.
            self._budget = self._budget.share(MAX_DRAIN_SECONDS)
            with suppress(UpstreamFailed, UpstreamTimeout):
                while self.read():
                    pass

    def close(self) -> None:
        """Close the connection if the body was not read to its end; otherwise it is back in the pool already.

        A connection with an unread body cannot serve another request. In the pool, it would be taken before an open
        one.
        """
        self._response.close()


@dataclass(frozen=True, slots=True)
class FoundImageSet:
    """An image set that a search found.

    Attributes
    ----------
    image_set_id : str
        Its identifier.
    version_id : str
        Its latest version, a decimal number.
    is_primary : bool
        Whether DICOMweb uses it without being asked for it. An image set from before May 2025 says nothing about it,
        and is primary.
    study_instance_uid, series_instance_uid : str
        The study and the series that it belongs to.
    """

    image_set_id: str
    version_id: str
    is_primary: bool
    study_instance_uid: str
    series_instance_uid: str

    @classmethod
    def of(cls, summary: Mapping[str, Any]) -> FoundImageSet:
        """Read a summary of ``SearchImageSets``.

        Raises
        ------
        KeyError, TypeError, ValueError
            If it is not the summary that AWS documents.
        """
        tags = summary["DICOMTags"]
        if not is_identifier(summary["imageSetId"]):
            raise ValueError
        return cls(
            summary["imageSetId"],
            str(int(summary["version"])),
            summary.get("isPrimary", True) is True,
            str(tags["DICOMStudyInstanceUID"]),
            str(tags["DICOMSeriesInstanceUID"]),
        )


class HealthImaging:
    """A thread-safe client of HealthImaging for frames, metadata and versions of image sets.

    Parameters
    ----------
    session : botocore.session.Session
        Provides credentials and Region. ``AWS_ENDPOINT_URL_MEDICAL_IMAGING`` overrides the endpoint, as with the SDK.
    max_connections : int
        Number of connections to keep open: the number of threads that use this object.
    """

    def __init__(self, session: Session, max_connections: int = 1) -> None:
        region = session.get_config_variable("region")
        self._session = session
        self._url = endpoint_url(session, API, API_VERSION, HOST_PREFIX)
        if region not in REGIONS and f".{region}." in self._url:
            # Not an error: AWS may have added the Region.
            logger.warning("HealthImaging is not known in this Region", extra={"region": region})
        self._retries = RetryQuota(MAX_RETRIES)
        self._http = SignedHttp(session, SERVICE, lambda each: SigV4Auth(each, API, region), max_connections)

    def fetch(
        self,
        frame: FrameRef,
        use: Callable[[FrameStream], Result],
        budget: TimeBudget,
        attempts: int = MAX_ATTEMPTS,
        *,
        in_part: bool = False,
    ) -> Result:
        """Open a frame and pass it to `use`. Retry if HealthImaging or the connection fails and there is time.

        Parameters
        ----------
        frame : FrameRef
            The frame.
        use : callable
            Takes the open stream and returns the result. Every attempt calls it, so it must clean up when it raises.
            The stream is closed when it returns.
        budget : TimeBudget
            The time for all attempts together.
        attempts : int
            Maximum number of attempts.
        in_part : bool
            Whether `use` is likely to stop before the end of the frame. That closes the connection, so the client opens
            one for the next call while it waits.

        Returns
        -------
        Result
            What ``use`` returned.

        Raises
        ------
        FrameNotFound, FrameConflict, AccessDenied, UpstreamRejected, FrameNotAvailable, UpstreamRefused
            HealthImaging's answer, without a retry.
        Throttled, UpstreamFailed, UpstreamTimeout
            After the last attempt.
        """
        return self._fetch(_Request.of_frame(frame), use, budget, attempts, in_part=in_part)

    def fetch_metadata(
        self,
        image_set: ImageSetRef,
        version_id: str | None,
        use: Callable[[Iterator[bytes]], Result],
        budget: TimeBudget,
    ) -> Result:
        """Open the metadata of an image set and pass it to `use`. Retry as `fetch` does.

        Parameters
        ----------
        image_set : ImageSetRef
            The image set.
        version_id : str or None
            Its version, a decimal number; None for the latest.
        use : callable
            Takes the decompressed JSON document, in pieces of at most 1 MiB, and returns the result.
        budget : TimeBudget
            The time for all attempts together.

        Raises
        ------
        FrameNotFound
            If there is no such image set, or no such version of it.
        Problem
            See `fetch`.
        """
        request = _Request.of_metadata(image_set, version_id)
        return self._fetch(request, lambda stream: use(_gunzipped(stream)), budget, MAX_ATTEMPTS)

    def image_set_version(self, image_set: ImageSetRef, budget: TimeBudget, attempts: int = MAX_ATTEMPTS) -> str:
        """Return the latest version of an image set, a decimal number.

        Raises
        ------
        FrameNotFound
            If there is no such image set, or if it is deleted.
        Problem
            See `fetch`.
        """
        return self._fetch(_Request.of_image_set(image_set), _version_of, budget, attempts)

    def is_deleted(self, image_set: ImageSetRef, budget: TimeBudget) -> bool:
        """Whether HealthImaging no longer has the image set, at the price of one call of GetImageSet.

        Raises
        ------
        FrameConflict
            If HealthImaging is changing or deleting the image set. Ask again later.
        Problem
            See `fetch`; never FrameNotFound.

        References
        ----------
        AWS HealthImaging API reference, ``GetImageSet``: ``imageSetState`` and ``imageSetWorkflowStatus``.
        """
        try:
            return self._fetch(_Request.of_image_set(image_set), _is_deleted, budget, MAX_ATTEMPTS)
        except FrameNotFound:
            return True

    def has_image_set(self, image_set: ImageSetRef, budget: TimeBudget) -> bool:
        """Whether the image set exists and is not deleted.

        Raises
        ------
        Problem
            See `fetch`; never FrameNotFound.
        """
        try:
            self.fetch_metadata(image_set, None, lambda _: None, budget)
        except FrameNotFound:
            return False
        return True

    def search_study(self, datastore_id: str, study_instance_uid: str, budget: TimeBudget) -> list[FoundImageSet]:
        """Return all image sets of a study. Each page of `SEARCH_PAGE_IMAGE_SETS` image sets is one call.

        Raises
        ------
        Problem
            See `fetch`.

        References
        ----------
        AWS HealthImaging API reference, ``SearchImageSets``: 25 calls a second for an account.
        """
        found: list[FoundImageSet] = []
        token: str | None = None
        while True:
            request = _Request.of_search(datastore_id, study_instance_uid, token)
            page, token = self._fetch(request, _page_of, budget, MAX_ATTEMPTS)
            found += page
            if token is None:
                return found

    def fetch_dicomweb(
        self,
        datastore_id: str,
        path: Sequence[str],
        query: Sequence[tuple[str, str]],
        accept: str,
        use: Callable[[FrameStream], Result],
        budget: TimeBudget,
    ) -> Result:
        """Send a GET request to HealthImaging's DICOMweb, and pass the response to `use`. Retry as `fetch` does.

        Parameters
        ----------
        datastore_id : str
            The data store.
        path : sequence of str
            The segments of the path below the data store, not encoded.
        query : sequence of pairs of str
            Names and values of the query parameters, not encoded.
        accept : str
            The Accept header.
        use : callable
            Takes the open stream and returns the result. A response without content (204) is an empty stream.
        budget : TimeBudget
            The time for all attempts together.

        Raises
        ------
        Problem
            See `fetch`.
        """
        request = _Request.of_dicomweb(datastore_id, path, query, accept)
        return self._fetch(request, use, budget, MAX_ATTEMPTS)

    @cached_property
    def dicomweb_url(self) -> str:
        """URL of HealthImaging's DICOMweb, without a trailing slash."""
        return endpoint_url(self._session, API, API_VERSION, DICOMWEB_HOST_PREFIX)

    def _fetch(
        self,
        request: _Request,
        use: Callable[[FrameStream], Result],
        budget: TimeBudget,
        attempts: int,
        *,
        in_part: bool = False,
    ) -> Result:
        def attempt() -> Result:
            with self._open(request, budget, in_part=in_part) as stream:
                return use(stream)

        return retry(
            attempt,
            budget,
            attempts=attempts,
            is_transient=_is_transient,
            refresh_credentials=self._http.refresh_credentials,
            quota=self._retries,
        )

    @contextmanager
    def _open(self, request: _Request, budget: TimeBudget, *, in_part: bool = False) -> Iterator[FrameStream]:
        with subsegment(SERVICE, **request.annotations):
            url = (self.dicomweb_url if request.is_dicomweb else self._url) + request.target
            with upstream_time.waiting():
                response = self._http.send(
                    request.method, url, request.headers, request.body, budget, connect_ahead=in_part
                )
            stream = FrameStream(response, budget)
            try:
                if response.status not in (HTTPStatus.OK, HTTPStatus.NO_CONTENT):
                    raise _problem_of(response, stream)
                yield stream
                stream.drain_if_short()
            finally:
                stream.close()


@dataclass(frozen=True, slots=True)
class _Request:
    """A call: path with query, body, the annotations of its trace, and the Accept header of a call of DICOMweb."""

    target: str
    body: bytes
    annotations: dict[str, str]
    accept: str | None = None

    @property
    def is_dicomweb(self) -> bool:
        return self.accept is not None

    @property
    def method(self) -> str:
        return "GET" if self.is_dicomweb else "POST"

    @property
    def headers(self) -> dict[str, str]:
        """The SDK's headers. A strict server rejects a Content-Type without a body with 415.

        References
        ----------
        Smithy 2.0, AWS restJson1 protocol, "Content-Type".
        """
        if self.accept is not None:
            return {"Accept": self.accept}
        return {"Content-Type": "application/json"} if self.body else {}

    @classmethod
    def of_search(cls, datastore_id: str, study_instance_uid: str, token: str | None) -> _Request:
        values = [{"DICOMStudyInstanceUID": study_instance_uid}]
        query: dict[str, str | int] = {"maxResults": SEARCH_PAGE_IMAGE_SETS, **({"nextToken": token} if token else {})}
        return cls(
            f"/datastore/{datastore_id}/searchImageSets?{urlencode(query, quote_via=quote)}",
            json.dumps({"filters": [{"operator": "EQUAL", "values": values}]}).encode(),
            {},
        )

    @classmethod
    def of_dicomweb(
        cls, datastore_id: str, path: Sequence[str], query: Sequence[tuple[str, str]], accept: str
    ) -> _Request:
        # Traces contain no UID, so the call has no annotations.
        target = "/".join(["/datastore", datastore_id, *(quote(each, safe=",") for each in path)])
        return cls(f"{target}?{urlencode(query, quote_via=quote)}" if query else target, b"", {}, accept)

    @classmethod
    def of_frame(cls, frame: FrameRef) -> _Request:
        return cls(
            f"/datastore/{frame.datastore_id}/imageSet/{frame.image_set_id}/getImageFrame",
            json.dumps({"imageFrameId": frame.image_frame_id}).encode(),
            {"image_set_id": frame.image_set_id, "image_frame_id": frame.image_frame_id},
        )

    @classmethod
    def of_image_set(cls, image_set: ImageSetRef) -> _Request:
        return cls(
            f"/datastore/{image_set.datastore_id}/imageSet/{image_set.image_set_id}/getImageSet",
            b"",
            {"image_set_id": image_set.image_set_id},
        )

    @classmethod
    def of_metadata(cls, image_set: ImageSetRef, version_id: str | None) -> _Request:
        return cls(
            f"/datastore/{image_set.datastore_id}/imageSet/{image_set.image_set_id}/getImageSetMetadata"
            + (f"?version={version_id}" if version_id else ""),
            b"",
            {"image_set_id": image_set.image_set_id},
        )


def _is_transient(problem: ServiceProblem) -> bool:
    # Reading the frame again does not help when `use` failed at another service.
    return problem.service == SERVICE and is_transient(problem)


def _version_of(stream: FrameStream) -> str:
    """Return the version in a response of ``GetImageSet``."""
    properties = _properties_of(stream)
    version, state = properties.get("versionId"), properties.get("imageSetState")
    if state == "DELETED":
        raise FrameNotFound
    # The API reference promises a number. Anything else must not get into a URL or a key.
    if state is None or not isinstance(version, str) or not (version.isascii() and version.isdecimal()):
        raise UpstreamFailed(SERVICE, "sent an image set without a valid version")
    return version


def _page_of(stream: FrameStream) -> tuple[list[FoundImageSet], str | None]:
    """Return the image sets on a page of ``SearchImageSets``, and the token of the next page."""
    try:
        page = json.loads(_short_body(stream, MAX_SEARCH_BODY_BYTES))
        found = [FoundImageSet.of(summary) for summary in page["imageSetsMetadataSummaries"]]
        token = page.get("nextToken")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UpstreamFailed(SERVICE, "sent a search result that it does not document") from None
    return found, token if isinstance(token, str) and token else None


def _is_deleted(stream: FrameStream) -> bool:
    """Return whether a response of ``GetImageSet`` describes a deleted image set."""
    properties = _properties_of(stream)
    state = properties.get("imageSetState")
    if state not in ("ACTIVE", "LOCKED", "DELETED"):
        raise UpstreamFailed(SERVICE, "sent an image set without a valid state")
    if state == "LOCKED" or (state == "ACTIVE" and properties.get("imageSetWorkflowStatus") == "DELETING"):
        raise FrameConflict
    return bool(state == "DELETED")


def _properties_of(stream: FrameStream) -> dict[str, Any]:
    """Return the properties in a response of ``GetImageSet``; none if it is not a JSON object."""
    try:
        properties = json.loads(_short_body(stream, MAX_SHORT_BODY_BYTES))
    except ValueError:
        properties = {}
    return properties if isinstance(properties, dict) else {}


def _short_body(stream: FrameStream, max_bytes: int) -> bytes:
    """Read a body; stop soon after `max_bytes`."""
    content = b""
    for piece in stream:
        content += piece
        if len(content) > max_bytes:
            break
    return content


def _gunzipped(stream: FrameStream) -> Iterator[bytes]:
    """Decompress a response piece by piece."""
    try:
        for piece in decompressed(stream, MAX_METADATA_BYTES):
            # A few compressed bytes can hold a lot of JSON, which takes time to parse without any network read.
            stream.check_time()
            yield piece
    except GzipError as error:
        raise UpstreamFailed(SERVICE, f"sent metadata that {error}") from None


def _problem_of(response: BaseHTTPResponse, body: FrameStream) -> Problem:
    """Return the problem for an error response.

    References
    ----------
    AWS HealthImaging API reference, ``GetImageFrame`` and ``GetImageSetMetadata``, Errors.
    Smithy, AWS restJson1 protocol, "Operation error serialization".
    """
    status, code = response.status, _error_code(response, body)
    evidence: dict[str, str | int] = {
        "upstream_status": status,
        "upstream_error": code,
        "upstream_request_id": response.headers.get("x-amzn-RequestId", ""),
    }
    if code in _PROBLEM_BY_CODE:
        return _PROBLEM_BY_CODE[code](evidence=evidence)
    if code == "InternalServerException":
        return UpstreamFailed(SERVICE, "answered with an internal error", evidence=evidence)
    # Other responses come from somewhere else, such as a load balancer or the authentication of AWS.
    if is_throttling(code, status):
        return Throttled(SERVICE, evidence=evidence)
    if is_final(status, code):
        return UpstreamRefused(SERVICE, evidence=evidence)
    return UpstreamFailed(SERVICE, f"answered with status {status}", evidence=evidence)


def _error_code(response: BaseHTTPResponse, body: FrameStream) -> str:
    """Return the error code from the header or else the body, without its namespace and URL."""
    content = _short_body(body, MAX_SHORT_BODY_BYTES)
    name = response.headers.get("x-amzn-ErrorType")
    if not name:
        try:
            answer = json.loads(content)
            name = str(answer.get("code") or answer.get("__type") or "")
        except (ValueError, AttributeError):
            name = ""
    return name.partition(":")[0].rpartition("#")[2]
