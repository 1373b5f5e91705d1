"""Keeps frames in S3 under one key scheme, whole or not at all, and hands out pre-signed URLs for them."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from framegate.aws.clients import UPLOAD_CONCURRENCY
from framegate.observability import logger, subsegment
from framegate.problems import Problem, Throttled, UpstreamFailed, UpstreamTimeout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

    from framegate.dicom.identifiers import FrameRef
    from framegate.time_budget import TimeBudget

SERVICE = "S3"

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
    """

    def __init__(self, client: Callable[[], S3Client], bucket: str, url_lifetime: int) -> None:
        self._client = client
        self._bucket = bucket
        self._url_lifetime = url_lifetime

    def find(self, frame: FrameRef) -> StoredFrame | None:
        """The stored frame, or None if it is not there.

        Raises
        ------
        Throttled, UpstreamFailed, UpstreamTimeout
            If S3 does not say.
        """
        with subsegment(SERVICE), _problems():
            try:
                head = self._client().head_object(Bucket=self._bucket, Key=frame_key(frame))
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
        first = next(parts, bytearray())
        with subsegment(SERVICE), _problems():
            if len(first) < PART_SIZE:
                self._client().put_object(
                    Bucket=self._bucket,
                    Key=frame_key(frame),
                    Body=first,  # type: ignore[arg-type]  # botocore takes a bytearray, its stubs do not know
                    ContentType=content_type,
                    CacheControl=CACHE_CONTROL,
                    ChecksumAlgorithm="CRC32",
                )
                return StoredFrame(content_type, len(first))
            upload = _MultipartUpload(self._client(), self._bucket, frame_key(frame), content_type, budget)
            with upload.finished_or_gone():
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

    def __init__(self, client: S3Client, bucket: str, key: str, content_type: str, budget: TimeBudget) -> None:
        self._client = client
        self._target: dict[str, Any] = {"Bucket": bucket, "Key": key}
        self._content_type = content_type
        self._budget = budget
        self._parts_begun = 0
        self._sent: dict[int, CompletedPartTypeDef] = {}
        self._pending: set[Future[None]] = set()
        self.size = 0

    @contextmanager
    def finished_or_gone(self) -> Iterator[None]:
        """Begin the upload; complete it at the end of the block, abort it if the block raises."""
        created = self._client.create_multipart_upload(
            **self._target,
            ContentType=self._content_type,
            CacheControl=CACHE_CONTROL,
            ChecksumAlgorithm="CRC32",
            ChecksumType="FULL_OBJECT",
        )
        self._target["UploadId"] = created["UploadId"]
        self._threads = ThreadPoolExecutor(UPLOAD_CONCURRENCY, thread_name_prefix="upload-part")
        try:
            yield
            while self._pending:
                self._wait_for_one()
            self._complete()
        except BaseException:
            self._abort()
            raise
        finally:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def send(self, part: bytearray) -> None:
        """Send a part as soon as a thread is free for it."""
        if len(self._pending) == UPLOAD_CONCURRENCY:
            self._wait_for_one()
        self.size += len(part)
        self._parts_begun += 1
        self._pending.add(self._threads.submit(self._send_part, self._parts_begun, part))

    def _send_part(self, number: int, part: bytearray) -> None:
        sent = self._client.upload_part(
            **self._target,
            PartNumber=number,
            Body=part,  # type: ignore[arg-type]  # botocore takes a bytearray, its stubs do not know
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
        self._client.complete_multipart_upload(
            **self._target,
            MultipartUpload={"Parts": [self._sent[number] for number in sorted(self._sent)]},
            ChecksumType="FULL_OBJECT",
            MpuObjectSize=self.size,
        )

    def _abort(self) -> None:
        # A part that arrives after the abort would be kept, and paid for, so those under way come first.
        for future in self._pending:
            future.cancel()
        wait(self._pending, CLEANUP_TIME)
        try:
            self._client.abort_multipart_upload(**self._target)
        except (BotoCoreError, ClientError) as error:
            # The bucket's lifecycle rule removes what is left; the cause of the failure is what matters now.
            logger.warning("multipart upload not aborted", extra={"cause": type(error).__name__})


def _parts(content: Iterable[bytes]) -> Iterator[bytearray]:
    """Pieces of any size as parts of ``PART_SIZE``, the last one shorter."""
    part = bytearray()
    for piece in content:
        part += piece
        while len(part) >= PART_SIZE:
            rest = part[PART_SIZE:]
            del part[PART_SIZE:]
            yield part
            part = rest
    if part:
        yield part


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
