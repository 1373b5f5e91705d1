"""S3 as a store of whole objects: streamed in and out, there with the last byte or not at all, in the time there is."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import ClientError

from framegate.aws.errors import botocore_problems, code_of, status_of
from framegate.observability import logger, subsegment
from framegate.problems import UpstreamFailed, UpstreamTimeout
from framegate.time_budget import TimeBudget

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from datetime import datetime

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef, CreateMultipartUploadOutputTypeDef

SERVICE = "S3"

Result = TypeVar("Result")

UPLOAD_CONCURRENCY = 3
"""Parts of one object that are on their way to S3 at the same time."""

PART_SIZE = 8 * 1024 * 1024
"""Bytes of an upload's part: 10,000 of them, S3's maximum, are 80 GiB."""

READ_SIZE = 256 * 1024

CLEANUP_TIME = 2.0
"""Seconds that taking a failed upload away may need, after its time has run out."""

REMOVAL_SIZE = 1000
"""Objects that one call removes, S3's maximum."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object that is in the store.

    Attributes
    ----------
    content_type : str
        Its media type.
    size : int
        In bytes.
    checksum : str or None
        CRC32 of all its bytes in base64, as S3 has it; None if S3 has none of the whole object.
    etag : str
        Changes when the object is replaced.
    modified_at : datetime
        When it was stored.
    """

    content_type: str
    size: int
    checksum: str | None
    etag: str
    modified_at: datetime


class ObjectStore:
    """The objects in one bucket.

    Parameters
    ----------
    client : callable
        Gives the S3 client; called on first use, since most requests need none.
    bucket : str
        The bucket's name.
    threads : concurrent.futures.Executor
        Where S3 is called, even for one call alone: a thread can be waited for just as long as there is time.

    Notes
    -----
    Every method raises `Throttled`, `UpstreamFailed` or `UpstreamTimeout` if S3 does not do as it is asked, or not in
    time.
    """

    def __init__(self, client: Callable[[], S3Client], bucket: str, threads: Executor) -> None:
        self._client = client
        self.bucket = bucket
        self._threads = threads

    def head(self, key: str, budget: TimeBudget) -> StoredObject | None:
        """What there is of an object to know without reading it, or None if it is not there."""
        with subsegment(SERVICE), botocore_problems(SERVICE):
            try:
                head = self._call(self._client().head_object, budget, Key=key, ChecksumMode="ENABLED")
            except ClientError as error:
                if status_of(error) == HTTPStatus.NOT_FOUND:
                    return None
                raise
        checksum = head.get("ChecksumCRC32")
        # «…-3»: of the checksums of three parts, which no reader of the whole can check.
        whole = checksum if checksum and "-" not in checksum else None
        return StoredObject(head["ContentType"], head["ContentLength"], whole, head["ETag"], head["LastModified"])

    def read(self, key: str, budget: TimeBudget, first: int | None = None, last: int | None = None) -> Generator[bytes]:
        """The bytes of an object, or a range of them, in pieces of at most 256 KiB.

        Parameters
        ----------
        key : str
            Which object.
        budget : TimeBudget
            The time for it.
        first, last : int, optional
            The first and the last byte of a range, both included, counted from 0 (RFC 9110, section 14.1.2); without
            `last` it goes to the end, and a `last` beyond the end is the end.

        Raises
        ------
        KeyError
            If the object is not there.
        IndexError
            If the object ends before `first`.
        """
        byte_range = {}
        if first is not None or last is not None:
            byte_range["Range"] = f"bytes={first or 0}-{'' if last is None else last}"
        with botocore_problems(SERVICE):
            try:
                body = self._call(self._client().get_object, budget, Key=key, **byte_range)["Body"]
            except ClientError as error:
                if code_of(error) == "NoSuchKey":
                    raise KeyError(key) from None
                if status_of(error) == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    raise IndexError(first) from None
                raise
            try:
                while piece := _result(self._threads.submit(body.read, READ_SIZE), budget):
                    yield piece
            finally:
                body.close()

    def put(self, key: str, content_type: str, content: Iterable[bytes], budget: TimeBudget, **headers: str) -> int:
        """Store an object as it streams by; see `writer`.

        Parameters
        ----------
        key : str
            Where to.
        content_type : str
            Its media type.
        content : iterable of bytes
            Its bytes, in pieces of any size. An exception that it raises ends the upload and is passed on.
        budget : TimeBudget
            The time for it.
        **headers : str
            Further headers of the object, such as ``CacheControl``.

        Returns
        -------
        int
            Its bytes.
        """
        with self.writer(key, content_type, budget, **headers) as writer:
            for piece in content:
                writer.write(piece)
        return writer.size

    @contextmanager
    def writer(self, key: str, content_type: str, budget: TimeBudget, **headers: str) -> Iterator[ObjectWriter]:
        """Write an object piece by piece: it appears at the end of the block, or never, if the block raises.

        At most four parts are in memory: one being filled, three on their way. Where the time runs out, removing every
        trace takes up to ``CLEANUP_TIME`` more.
        """
        target = {"Bucket": self.bucket, "Key": key}
        writer = ObjectWriter(self._client, self._threads, target, {"ContentType": content_type, **headers}, budget)
        with subsegment(SERVICE), writer.finished_or_gone():
            yield writer

    def put_if_unchanged(self, key: str, content: bytes, etag: str | None, budget: TimeBudget) -> bool:
        """Store a small JSON object, unless somebody else did meanwhile; say whether it was stored.

        Parameters
        ----------
        key : str
            Where to.
        content : bytes
            Its bytes.
        etag : str or None
            That of the object to replace; None if there must be none.
        budget : TimeBudget
            The time for it.

        References
        ----------
        Amazon S3 user guide, "How to prevent object overwrites with conditional writes".
        """
        condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        meanwhile = {HTTPStatus.PRECONDITION_FAILED, HTTPStatus.CONFLICT} | ({HTTPStatus.NOT_FOUND} if etag else set())
        with subsegment(SERVICE), botocore_problems(SERVICE):
            try:
                self._call(
                    self._client().put_object,
                    budget,
                    Key=key,
                    Body=content,
                    ContentType="application/json",
                    **condition,
                )
            except ClientError as error:
                if status_of(error) in meanwhile:
                    return False
                raise
        return True

    def names(self, prefix: str, budget: TimeBudget) -> Iterator[str]:
        """The keys that begin with `prefix`, without it."""
        token: dict[str, str] = {}
        while True:
            with botocore_problems(SERVICE):
                page = self._call(self._client().list_objects_v2, budget, Prefix=prefix, **token)
            for each in page.get("Contents", []):
                yield each["Key"][len(prefix) :]
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def remove(self, key: str, budget: TimeBudget) -> None:
        """Remove an object, or nothing if it is not there."""
        with botocore_problems(SERVICE):
            self._call(self._client().delete_object, budget, Key=key)

    def remove_all(self, prefix: str, budget: TimeBudget) -> int:
        """Remove every object whose key begins with `prefix`; return how many there were."""
        removed = 0
        batch: list[str] = []
        for name in self.names(prefix, budget):
            batch.append(prefix + name)
            if len(batch) == REMOVAL_SIZE:
                removed += self._remove_batch(batch, budget)
                batch.clear()
        return removed + (self._remove_batch(batch, budget) if batch else 0)

    def _remove_batch(self, keys: list[str], budget: TimeBudget) -> int:
        with botocore_problems(SERVICE):
            answer = self._call(
                self._client().delete_objects,
                budget,
                Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True},
            )
        if errors := answer.get("Errors"):
            problem = UpstreamFailed(SERVICE, "did not remove every object")
            problem.evidence = {"upstream_error": errors[0].get("Code", ""), "not_removed": len(errors)}
            raise problem
        return len(keys)

    def tag(self, key: str, tags: dict[str, str], budget: TimeBudget) -> None:
        """Give an object these tags in the place of those that it has."""
        tag_set = [{"Key": name, "Value": value} for name, value in tags.items()]
        with botocore_problems(SERVICE):
            self._call(self._client().put_object_tagging, budget, Key=key, Tagging={"TagSet": tag_set})

    def presigned_url(self, key: str, lifetime: int) -> str:
        """A URL to GET an object for so many seconds, signed with SigV4; it takes byte ranges too."""
        return self._client().generate_presigned_url(
            "get_object", Params={"Bucket": self.bucket, "Key": key}, ExpiresIn=lifetime
        )

    def _call(self, operation: Callable[..., Any], budget: TimeBudget, **parameters: Any) -> Any:
        return _result(self._threads.submit(operation, Bucket=self.bucket, **parameters), budget)


class ObjectWriter:
    """An object being written: small ones in one request, others in parts that are sent while the next one is filled.

    Attributes
    ----------
    size : int
        Bytes written.

    References
    ----------
    Amazon S3 user guide, "Checking object integrity for data uploads": S3 checks each part against the CRC32 that the
    client made of it, and combines them to the checksum of the whole object, which a reader can verify.
    """

    def __init__(
        self,
        client: Callable[[], S3Client],
        threads: Executor,
        target: dict[str, str],
        headers: dict[str, str],
        budget: TimeBudget,
    ) -> None:
        self._client = client
        self._threads = threads
        self._target: dict[str, Any] = dict(target)
        self._headers: dict[str, Any] = headers
        self._budget = budget
        self._pieces: list[bytes] = []
        self._missing = PART_SIZE
        self._parts_begun = 0
        self._sent: dict[int, CompletedPartTypeDef] = {}
        self._pending: set[Future[None]] = set()
        self.size = 0

    def write(self, content: bytes) -> None:
        """Add bytes; a part that is full is sent as soon as a thread is free for it."""
        self.size += len(content)
        while len(content) >= self._missing:
            part = b"".join([*self._pieces, content[: self._missing]])
            content = content[self._missing :]
            self._pieces.clear()
            self._missing = PART_SIZE
            self._send(part)
        self._pieces.append(content)
        self._missing -= len(content)

    @contextmanager
    def finished_or_gone(self) -> Iterator[None]:
        """Complete the object at the end of the block; leave no trace of it if the block raises."""
        try:
            yield
            if self._parts_begun:
                self._complete()
            else:
                self._put_whole()
        except BaseException:
            if "UploadId" in self._target:
                self._abort()
            raise

    def _put_whole(self) -> None:
        with botocore_problems(SERVICE):
            call = self._threads.submit(
                self._client().put_object,
                **self._target,
                **self._headers,
                Body=b"".join(self._pieces),
                ChecksumAlgorithm="CRC32",
            )
            _result(call, self._budget)

    def _send(self, part: bytes) -> None:
        with botocore_problems(SERVICE):
            if not self._parts_begun:
                self._begin()
            if len(self._pending) == UPLOAD_CONCURRENCY:
                self._wait_for_one()
            self._parts_begun += 1
            self._pending.add(self._threads.submit(self._send_part, self._parts_begun, part))

    def _begin(self) -> None:
        if self._budget.exhausted:
            raise UpstreamTimeout(SERVICE)
        creation = self._threads.submit(
            self._client().create_multipart_upload,
            **self._target,
            **self._headers,
            ChecksumAlgorithm="CRC32",
            ChecksumType="FULL_OBJECT",
        )
        try:
            self._target["UploadId"] = _result(creation, self._budget)["UploadId"]
        except UpstreamTimeout:
            creation.add_done_callback(self._abort_belated)
            raise

    def _send_part(self, number: int, part: bytes) -> None:
        sent = self._client().upload_part(**self._target, PartNumber=number, Body=part, ChecksumAlgorithm="CRC32")
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
        with botocore_problems(SERVICE):
            if self._missing < PART_SIZE:
                self._send(b"".join(self._pieces))
            while self._pending:
                self._wait_for_one()
            completion = self._threads.submit(
                self._client().complete_multipart_upload,
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
        abortion = self._threads.submit(self._client().abort_multipart_upload, **self._target)
        done, _ = wait([abortion], cleanup.remaining())
        if not done or abortion.exception() is not None:
            # The bucket's lifecycle rule removes what is left; what counts is why the upload failed.
            logger.warning("multipart upload not aborted")


def _result(call: Future[Result], budget: TimeBudget) -> Result:
    try:
        return call.result(budget.remaining())
    except TimeoutError:
        raise UpstreamTimeout(SERVICE) from None
