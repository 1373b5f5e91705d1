"""Keeps frames in S3 under one key scheme, whole or not at all, and hands out pre-signed URLs for them."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from framegate.observability import logger, subsegment
from framegate.problems import Problem, Throttled, UpstreamFailed, UpstreamTimeout
from framegate.time_budget import TimeBudget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef, CreateMultipartUploadOutputTypeDef

    from framegate.dicom.identifiers import FrameRef

SERVICE = "S3"

Result = TypeVar("Result")

UPLOAD_CONCURRENCY = 3
"""Parts of one frame that are on their way to S3 at the same time."""

PART_SIZE = 8 * 1024 * 1024
"""Bytes of an upload's part: 10,000 of them, S3's maximum, are 80 GiB."""

CLEANUP_TIME = 2.0
"""Seconds that taking a failed upload away may need, after its time has run out."""

CACHE_CONTROL = "private, max-age=31536000, immutable"
"""A frame never changes: its identifier names its content."""

_THROTTLING_CODES = {"SlowDown", "RequestLimitExceeded", "ThrottlingException", "KMS.ThrottlingException"}


@dataclass(frozen=True, slots=True)
class StoredFrame:
    """A frame that the store has: its media type and size in bytes."""

    content_type: str
    size: int


@dataclass(frozen=True, slots=True)
class PresignedUrl:
    """A URL that gives one frame to whoever holds it, until it expires."""

    url: str
    expires_at: datetime


def frame_key(frame: FrameRef) -> str:
    """The key of a frame, ``frames/{datastoreId}/{imageSetId}/{imageFrameId}``; identifiers only, no patient data."""
    return f"frames/{frame.datastore_id}/{frame.image_set_id}/{frame.image_frame_id}"


class FrameStore:
    """The frames in one bucket.

    Parameters
    ----------
    client : callable
        Gives the S3 client; called on first use, since most requests need none.
    bucket : str
        The bucket's name.
    url_lifetime : int
        Seconds for which a pre-signed URL is good.
    threads : concurrent.futures.Executor
        Where S3 is called, even for one call alone: a thread can be waited for just as long as there is time.
    """

    def __init__(self, client: Callable[[], S3Client], bucket: str, url_lifetime: int, threads: Executor) -> None:
        self._client = client
        self._bucket = bucket
        self._url_lifetime = url_lifetime
        self._threads = threads

    def find(self, frame: FrameRef, budget: TimeBudget) -> StoredFrame | None:
        """The stored frame, or None if it is not there.

        Raises
        ------
        Throttled, UpstreamFailed, UpstreamTimeout
            If S3 does not say, or not in time.
        """
        with subsegment(SERVICE), _problems():
            call = self._threads.submit(self._client().head_object, Bucket=self._bucket, Key=frame_key(frame))
            try:
                head = _result(call, budget)
            except ClientError as error:
                if _status(error) == HTTPStatus.NOT_FOUND:
                    return None
                raise
        return StoredFrame(head["ContentType"], head["ContentLength"])

    def presigned_url(self, frame: FrameRef) -> PresignedUrl:
        """A URL to GET the frame from S3, signed with SigV4; it takes byte ranges too."""
        expires_at = datetime.now(UTC) + timedelta(seconds=self._url_lifetime)
        url = self._client().generate_presigned_url(
            "get_object",
            Params={"Bucket": self._bucket, "Key": frame_key(frame)},
            ExpiresIn=self._url_lifetime,
        )
        return PresignedUrl(url, expires_at)

    def store(self, frame: FrameRef, content_type: str, content: Iterable[bytes], budget: TimeBudget) -> StoredFrame:
        """Store a frame as it streams by: its object appears when the last byte is in, or never.

        At most four parts are in memory: one being read, three on their way.

        Parameters
        ----------
        frame : FrameRef
            Which frame.
        content_type : str
            Its media type.
        content : iterable of bytes
            Its bytes, in pieces of any size. An exception that it raises ends the upload and is passed on.
        budget : TimeBudget
            The time for it. Where it runs out, removing every trace takes up to ``CLEANUP_TIME`` more.

        Raises
        ------
        Throttled, UpstreamFailed, UpstreamTimeout
            If S3 does not take it, or not in time.
        """
        parts = _parts(content)
        first = next(parts, b"")
        with subsegment(SERVICE), _problems():
            target: dict[str, Any] = {"Bucket": self._bucket, "Key": frame_key(frame)}
            if len(first) < PART_SIZE:
                call = self._threads.submit(
                    self._client().put_object,
                    **target,
                    Body=first,
                    ContentType=content_type,
                    CacheControl=CACHE_CONTROL,
                    ChecksumAlgorithm="CRC32",
                )
                _result(call, budget)
                return StoredFrame(content_type, len(first))
            upload = _MultipartUpload(self._client(), self._threads, target, budget)
            with upload.finished_or_gone(content_type):
                upload.send(first)
                for part in parts:
                    upload.send(part)
        return StoredFrame(content_type, upload.size)


class _MultipartUpload:
    """A multipart upload whose parts are sent by a few threads while the next one is read.

    References
    ----------
    Amazon S3 user guide, "Checking object integrity for data uploads": S3 checks each part against the CRC32 that the
    client made of it, and combines them to the checksum of the whole object, which a reader can verify.
    """

    def __init__(self, client: S3Client, threads: Executor, target: dict[str, str], budget: TimeBudget) -> None:
        self._client = client
        self._threads = threads
        self._target: dict[str, Any] = dict(target)
        self._budget = budget
        self._parts_begun = 0
        self._sent: dict[int, CompletedPartTypeDef] = {}
        self._pending: set[Future[None]] = set()
        self.size = 0

    @contextmanager
    def finished_or_gone(self, content_type: str) -> Iterator[None]:
        """Begin the upload; complete it at the end of the block, abort it if the block raises."""
        if self._budget.exhausted:
            raise UpstreamTimeout(SERVICE)
        creation = self._threads.submit(
            self._client.create_multipart_upload,
            **self._target,
            ContentType=content_type,
            CacheControl=CACHE_CONTROL,
            ChecksumAlgorithm="CRC32",
            ChecksumType="FULL_OBJECT",
        )
        try:
            self._target["UploadId"] = _result(creation, self._budget)["UploadId"]
        except UpstreamTimeout:
            creation.add_done_callback(self._abort_belated)
            raise
        try:
            yield
            while self._pending:
                self._wait_for_one()
            self._complete()
        except BaseException:
            self._abort()
            raise

    def send(self, part: bytes) -> None:
        """Send a part as soon as a thread is free for it."""
        if len(self._pending) == UPLOAD_CONCURRENCY:
            self._wait_for_one()
        self.size += len(part)
        self._parts_begun += 1
        self._pending.add(self._threads.submit(self._send_part, self._parts_begun, part))

    def _send_part(self, number: int, part: bytes) -> None:
        sent = self._client.upload_part(
            **self._target,
            PartNumber=number,
            Body=part,
            ChecksumAlgorithm="CRC32",
        )
        self._sent[number] = {"PartNumber": number, "ETag": sent["ETag"]}
        if "ChecksumCRC32" in sent:
            self._sent[number]["ChecksumCRC32"] = sent["ChecksumCRC32"]

    def _wait_for_one(self) -> None:
        done, self._pending = wait(self._pending, self._budget.remaining(), FIRST_COMPLETED)
        for future in done:
            future.result()
        if not done or self._budget.exhausted:
            raise UpstreamTimeout(SERVICE)

    def _complete(self) -> None:
        completion = self._threads.submit(
            self._client.complete_multipart_upload,
            **self._target,
            MultipartUpload={"Parts": [self._sent[number] for number in sorted(self._sent)]},
            ChecksumType="FULL_OBJECT",
            MpuObjectSize=self.size,
        )
        _result(completion, self._budget)

    def _abort_belated(self, creation: Future[CreateMultipartUploadOutputTypeDef]) -> None:
        """Abort an upload that began after nobody waited for it any more."""
        if creation.exception() is None:
            self._target["UploadId"] = creation.result()["UploadId"]
            self._abort()

    def _abort(self) -> None:
        cleanup = TimeBudget(CLEANUP_TIME)
        # A part that arrives after the abort would be kept, and paid for, so those under way come first.
        for future in self._pending:
            future.cancel()
        wait(self._pending, cleanup.remaining())
        abortion = self._threads.submit(self._client.abort_multipart_upload, **self._target)
        done, _ = wait([abortion], cleanup.remaining())
        if not done or abortion.exception() is not None:
            # The bucket's lifecycle rule removes what is left; what counts is why the upload failed.
            logger.warning("multipart upload not aborted")


def _result(call: Future[Result], budget: TimeBudget) -> Result:
    try:
        return call.result(budget.remaining())
    except TimeoutError:
        raise UpstreamTimeout(SERVICE) from None


def _parts(content: Iterable[bytes]) -> Iterator[bytes]:
    """Pieces of any size as parts of ``PART_SIZE``, the last one shorter."""
    pieces: list[bytes] = []
    missing = PART_SIZE
    for arrived in content:
        piece = arrived
        while len(piece) >= missing:
            part = b"".join([*pieces, piece[:missing]])
            piece = piece[missing:]
            pieces.clear()
            missing = PART_SIZE
            yield part
        pieces.append(piece)
        missing -= len(piece)
    if missing < PART_SIZE:
        yield b"".join(pieces)


@contextmanager
def _problems() -> Iterator[None]:
    """Errors of botocore as problems of ours."""
    try:
        yield
    except ClientError as error:
        raise _problem_of(error) from None
    except BotoCoreError as error:
        # Timeouts and broken connections, after botocore's own retries.
        problem = UpstreamFailed(SERVICE, "could not be reached")
        problem.evidence = {"upstream_error": type(error).__name__}
        raise problem from None


def _problem_of(error: ClientError) -> Problem:
    code = error.response.get("Error", {}).get("Code", "")
    status = _status(error)
    throttled = code in _THROTTLING_CODES or status == HTTPStatus.TOO_MANY_REQUESTS
    problem = Throttled(SERVICE) if throttled else UpstreamFailed(SERVICE, "did not take or give the frame")
    problem.evidence = {"upstream_status": status, "upstream_error": code, "upstream_operation": error.operation_name}
    return problem


def _status(error: ClientError) -> int:
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
