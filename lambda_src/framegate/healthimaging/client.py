"""Reads image frames and metadata from AWS HealthImaging: streamed, whole or not at all, in the time there is."""

from __future__ import annotations

import json
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar, cast

from botocore.auth import SigV4Auth

from framegate import upstream_time
from framegate.aws.endpoints import endpoint_url
from framegate.aws.errors import is_final, is_throttling, is_transient
from framegate.aws.retries import RetryQuota, retry
from framegate.aws.signed_http import SILENCE_TIMEOUT, SignedHttp, transport_problems
from framegate.healthimaging.gzip_stream import GzipError, decompressed
from framegate.healthimaging.media_types import pass_through
from framegate.healthimaging.regions import REGIONS
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
    from collections.abc import Callable, Iterator

    from botocore.session import Session
    from urllib3.connection import HTTPConnection
    from urllib3.response import BaseHTTPResponse

    from framegate.identifiers import FrameRef, ImageSetRef
    from framegate.time_budget import TimeBudget

SERVICE = "HealthImaging"

API, API_VERSION = "medical-imaging", "2023-07-19"
"""The service and its model, as botocore names them."""

HOST_PREFIX = "runtime-"
"""Frames, metadata and image set properties have a host of their own: the ``endpoint`` trait of these operations."""

MAX_ATTEMPTS = 3
"""Attempts at one frame; more would add to the load of a service that is in trouble."""

MOST_RETRIES = 10
"""Calls that one execution environment makes again while none succeeds."""

READ_SIZE = 256 * 1024

READ_ON = 128 * 1024
"""Bytes of a body that nobody wants which are still read, for the connection to be used again.

``bench/reading_on.py``: over 600 Mbit/s, that is 2 to 5 ms less than a new connection takes, with round trips of 0.5 to
2 ms; 256 KiB are about as much, and 512 KiB are more.
"""

KEEP_TIME = 0.02
"""Seconds that this may take at most; a new connection takes less."""

MAX_METADATA_BYTES = 512 * 1024 * 1024
"""Size of an image set's metadata, decompressed. HealthImaging documents a maximum of 50 MB."""

MAX_SHORT_BODY = 64 * 1024
"""Bytes that are read of an error, or of an image set's properties; the service's own are a few hundred."""

Result = TypeVar("Result")


class FrameStream:
    """A frame on its way from HealthImaging: media type and length are known, the bytes are not here yet.

    Attributes
    ----------
    content_type : str
        The media type as HealthImaging gave it.
    content_length : int or None
        Bytes of the frame; None if HealthImaging did not announce it.
    bytes_read : int
        Bytes of it that were read.
    """

    def __init__(self, response: BaseHTTPResponse, budget: TimeBudget) -> None:
        self._response = response
        self._budget = budget
        self.content_type = pass_through(response.headers.get("Content-Type"))
        self.content_length: int | None = response.length_remaining
        self.bytes_read = 0

    def __iter__(self) -> Iterator[bytes]:
        """The frame's bytes, in pieces of 256 KiB; the last one is what is left.

        Raises
        ------
        UpstreamFailed
            If the connection breaks, or ends before the announced length.
        UpstreamTimeout
            If HealthImaging falls silent, or the time runs out.
        """
        while piece := self._receive(READ_SIZE, READ_SIZE):
            yield piece

    def read(self, most: int = READ_SIZE) -> bytes:
        """The next bytes, at least one and at most so many; none at the frame's end.

        Raises
        ------
        Problem
            As iteration does.
        """
        return self._receive(1, min(most, READ_SIZE))

    def _receive(self, least: int, most: int) -> bytes:
        """From `least` to `most` bytes, less only at the frame's end."""
        pieces, size = [], 0
        with upstream_time.waiting(), transport_problems(SERVICE, "broke off in the middle of the frame"):
            # read1, unlike read, comes back with what is there, of TLS 16 KiB at most. A body that drips would keep
            # a read going, byte by byte, long after the time has run out.
            while size < least and (piece := self._read_in_time(most - size)):
                if self._budget.exhausted:
                    raise UpstreamTimeout(SERVICE)
                pieces.append(piece)
                size += len(piece)
        self.bytes_read += size
        return b"".join(pieces)

    def _read_in_time(self, most: int) -> bytes:
        left, connection = self._budget.remaining(), cast("HTTPConnection | None", self._response.connection)
        if left < SILENCE_TIMEOUT and connection is not None and connection.sock:
            # The read timeout is that of the moment when the request was sent.
            connection.sock.settimeout(max(left, 0.001))
        return self._response.read1(most)

    def check_time(self) -> None:
        """Raise UpstreamTimeout if the time has run out."""
        if self._budget.exhausted:
            raise UpstreamTimeout(SERVICE)

    def keep_connection(self) -> None:
        """Read a short rest of the body, where that is cheaper than the next request's new connection."""
        rest = self._response.length_remaining
        if rest is not None and rest <= READ_ON:
            # Whoever asked has all that was wanted, and is not to wait for a body that drips or stalls.
            self._budget = self._budget.share(KEEP_TIME)
            with suppress(UpstreamFailed, UpstreamTimeout):
                while self.read():
                    pass

    def close(self) -> None:
        """Drop the connection if the body was not read to its end; if it was, the pool has it back already.

        A connection with an unread body can serve no other request, so it does not return to the pool: there, it would
        be taken before one that is open.
        """
        self._response.close()


class HealthImaging:
    """HealthImaging as a source of frames and of what image sets are made of.

    Parameters
    ----------
    session : botocore.session.Session
        For credentials and Region. ``AWS_ENDPOINT_URL_MEDICAL_IMAGING`` replaces the endpoint, as it does for the SDK.
    max_connections : int
        Connections that are kept open; as many as threads use this object.
    """

    def __init__(self, session: Session, max_connections: int = 1) -> None:
        region = session.get_config_variable("region")
        self._url = endpoint_url(session, API, API_VERSION, HOST_PREFIX)
        if region not in REGIONS and f".{region}." in self._url:
            # No error: AWS may have added the Region.
            logger.warning("HealthImaging is not known to exist in this Region", extra={"region": region})
        self._retries = RetryQuota(MOST_RETRIES)
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
        """Open a frame and use it; again, if HealthImaging or the connection fails and there is time.

        Parameters
        ----------
        frame : FrameRef
            Which frame.
        use : callable
            Takes the open stream and returns the result; called once an attempt, so it must leave nothing behind
            when it raises. The stream is closed when it returns.
        budget : TimeBudget
            The time for all attempts together.
        attempts : int
            How many there may be.
        in_part : bool
            Whether it is likely not to be read to its end. That is the end of its connection, so the next one's is
            opened meanwhile.

        Returns
        -------
        Result
            What ``use`` returned.

        Raises
        ------
        FrameNotFound, FrameConflict, AccessDenied, UpstreamRejected, FrameNotAvailable, UpstreamRefused
            HealthImaging's answer, at once.
        Throttled, UpstreamFailed, UpstreamTimeout
            After the last attempt.
        """
        if in_part:
            self._http.connect_ahead(self._url)
        return self._fetch(_Request.of_frame(frame), use, budget, attempts)

    def fetch_metadata(
        self,
        image_set: ImageSetRef,
        version_id: str | None,
        use: Callable[[Iterator[bytes]], Result],
        budget: TimeBudget,
    ) -> Result:
        """Open the metadata of an image set and use it; again, as `fetch` does.

        Parameters
        ----------
        image_set : ImageSetRef
            Which image set.
        version_id : str or None
            Which version of it; None is the latest.
        use : callable
            Takes the JSON document, decompressed, in pieces of at most 1 MiB, and returns the result.
        budget : TimeBudget
            The time for it.

        Raises
        ------
        Problem
            As `fetch`; FrameNotFound if there is no such image set, or no such version of it.
        """
        request = _Request.of_metadata(image_set, version_id)
        return self._fetch(request, lambda stream: use(_gunzipped(stream)), budget, MAX_ATTEMPTS)

    def image_set_version(self, image_set: ImageSetRef, budget: TimeBudget, attempts: int = MAX_ATTEMPTS) -> str:
        """The latest version of an image set, a decimal number.

        Raises
        ------
        Problem
            As `fetch`; FrameNotFound if there is no such image set, or if it is deleted.
        """
        return self._fetch(_Request.of_image_set(image_set), _version_of, budget, attempts)

    def has_image_set(self, image_set: ImageSetRef, budget: TimeBudget) -> bool:
        """Whether there is such an image set, and it is not deleted.

        Raises
        ------
        Problem
            As `fetch`, if HealthImaging does not say.
        """
        try:
            self.fetch_metadata(image_set, None, lambda _: None, budget)
        except FrameNotFound:
            return False
        return True

    def _fetch(
        self, request: _Request, use: Callable[[FrameStream], Result], budget: TimeBudget, attempts: int
    ) -> Result:
        def attempt() -> Result:
            with self._open(request, budget) as stream:
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
    def _open(self, request: _Request, budget: TimeBudget) -> Iterator[FrameStream]:
        with subsegment(SERVICE, **request.annotations):
            url = self._url + request.target
            with upstream_time.waiting():
                response = self._http.send("POST", url, request.headers, request.body, budget)
            stream = FrameStream(response, budget)
            try:
                if response.status != HTTPStatus.OK:
                    raise _problem_of(response, stream)
                yield stream
                stream.keep_connection()
            finally:
                stream.close()


@dataclass(frozen=True, slots=True)
class _Request:
    """A call as it goes over the wire: path with query, body, and what its trace is found by."""

    target: str
    body: bytes
    annotations: dict[str, str]

    @property
    def headers(self) -> dict[str, str]:
        """Those that the SDK sends: a strict server answers 415 to a media type without a body.

        Smithy 2.0, AWS restJson1 protocol, "Content-Type".
        """
        return {"Content-Type": "application/json"} if self.body else {}

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
    # What `use` met elsewhere is not mended by reading the frame again.
    return problem.service == SERVICE and is_transient(problem)


def _version_of(stream: FrameStream) -> str:
    """The version that an answer of ``GetImageSet`` names."""
    content = _at_most(stream, MAX_SHORT_BODY)
    try:
        properties = json.loads(content)
        version, state = properties["versionId"], properties["imageSetState"]
    except (ValueError, KeyError, TypeError):
        version = state = None
    if state == "DELETED":
        raise FrameNotFound
    # A number by its documentation; anything else would come into a URL and a key.
    if not isinstance(version, str) or not (version.isascii() and version.isdecimal()):
        raise UpstreamFailed(SERVICE, "sent an image set that cannot be read")
    return version


def _at_most(stream: FrameStream, size: int) -> bytes:
    """The bytes of a body that is short; what is left of one that is not stays unread."""
    content = b""
    for piece in stream:
        content += piece
        if len(content) > size:
            break
    return content


def _gunzipped(stream: FrameStream) -> Iterator[bytes]:
    """The document in a gzipped answer, never more than a little of it at a time."""
    try:
        for piece in decompressed(stream, MAX_METADATA_BYTES):
            # A little gzip can come to much JSON, and reading that takes time without a byte from the network.
            stream.check_time()
            yield piece
    except GzipError as error:
        raise UpstreamFailed(SERVICE, f"sent metadata that {error}") from None


def _problem_of(response: BaseHTTPResponse, body: FrameStream) -> Problem:
    """The problem that an error answer stands for.

    References
    ----------
    AWS HealthImaging API reference, ``GetImageFrame`` and ``GetImageSetMetadata``, Errors.
    Smithy, AWS restJson1 protocol, "Operation error serialization".
    """
    code = _error_code(response, body)
    problem = _problem_by_code(code) or _problem_by_status(response.status, code)
    problem.evidence = {
        "upstream_status": response.status,
        "upstream_error": code,
        "upstream_request_id": response.headers.get("x-amzn-RequestId", ""),
    }
    return problem


def _error_code(response: BaseHTTPResponse, body: FrameStream) -> str:
    """The error's name, from the header or else the body, without the namespace and URL that may surround it."""
    content = _at_most(body, MAX_SHORT_BODY)
    name = response.headers.get("x-amzn-ErrorType")
    if not name:
        try:
            answer = json.loads(content)
            name = str(answer.get("code") or answer.get("__type") or "")
        except (ValueError, AttributeError):
            name = ""
    return name.partition(":")[0].rpartition("#")[2]


def _problem_by_code(code: str) -> Problem | None:
    match code:
        case "ThrottlingException":
            return Throttled(SERVICE)
        case "ConflictException":
            return FrameConflict()
        case "AccessDeniedException":
            return AccessDenied()
        case "ValidationException" | "BadRequestException":
            return UpstreamRejected()
        case "NotAcceptableException":
            return FrameNotAvailable()
        case "ResourceNotFoundException":
            return FrameNotFound()
        case "InternalServerException":
            return UpstreamFailed(SERVICE, "answered with an internal error")
    return None


def _problem_by_status(status: int, code: str) -> Problem:
    """For answers that are not the service's own, such as a load balancer's or an authentication error's."""
    if is_throttling(code, status):
        return Throttled(SERVICE)
    if is_final(status, code):
        return UpstreamRefused(SERVICE)
    return UpstreamFailed(SERVICE, f"answered with status {status}")
