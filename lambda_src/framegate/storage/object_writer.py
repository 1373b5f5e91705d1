"""An object as it is written to S3: in one request or in parts, there with the last byte or not at all."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from framegate.aws.checksums import base64_of, crc32_combine
from framegate.aws.errors import botocore_problems
from framegate.observability import logger
from framegate.problems import UpstreamTimeout
from framegate.storage.bucket import result_of
from framegate.storage.s3_put import SERVICE
from framegate.time_budget import TimeBudget

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mypy_boto3_s3.type_defs import CompletedPartTypeDef, CreateMultipartUploadOutputTypeDef

    from framegate.storage.bucket import Bucket
    from framegate.storage.s3_put import SentPart

UPLOAD_CONCURRENCY = 3
"""Parts of one object that are on their way to S3 at the same time."""

PART_BYTES = 8 * 1024 * 1024
"""Bytes of an upload's part: 10,000 of them, S3's maximum, are 80 GiB."""

MAX_PUT_BYTES = 16 * 1024 * 1024
"""Bytes of an object that goes in one request, where it is known to have no more: three requests less, hardly later."""

CLEANUP_SECONDS = 2.0
"""Seconds that taking a failed upload away may need, after its time has run out."""


class ObjectWriter:
    """An object being written: small ones in one request, others in parts that are sent while the next one is filled.

    Parameters
    ----------
    bucket : Bucket
        Where to.
    key : str
        And under which key.
    headers : mapping of str to str
        ``Content-Type``, and whatever else the object is to have.
    budget : TimeBudget
        The time for it.
    expected_size : int or None
        How many bytes there are, where that is known.

    Attributes
    ----------
    size : int
        Bytes written.
    checksum : int
        Their CRC32; known when the object is complete.

    References
    ----------
    Amazon S3 user guide, "Checking object integrity for data uploads": S3 checks each part against the CRC32 that the
    client made of it, and the whole object against that of all, which a reader can verify.
    """

    def __init__(
        self,
        bucket: Bucket,
        key: str,
        headers: Mapping[str, str],
        budget: TimeBudget,
        expected_size: int | None,
    ) -> None:
        self._bucket = bucket
        self._key = key
        self._headers = headers
        self._budget = budget
        self._part_size = PART_BYTES if expected_size is None or expected_size > MAX_PUT_BYTES else MAX_PUT_BYTES + 1
        self._upload_id = ""
        self._part = bytearray()
        self._parts_begun = 0
        self._sent: dict[int, SentPart] = {}
        self._pending: set[Future[None]] = set()
        self.size = self.checksum = 0

    def write(self, content: bytes) -> None:
        """Add bytes; a part that is full is sent as soon as a thread is free for it."""
        self.size += len(content)
        while len(content) >= (missing := self._part_size - len(self._part)):
            self._part += content[:missing]
            content = content[missing:]
            self._send()
        self._part += content

    @contextmanager
    def commit_or_abort(self) -> Iterator[None]:
        """Complete the object at the end of the block; leave no trace of it if the block raises."""
        try:
            yield
            if self._parts_begun:
                self._complete()
            else:
                self._put_whole()
        except BaseException:
            if self._upload_id:
                self._abort()
            raise

    def _put_whole(self) -> None:
        put = self._bucket.put.put_object
        call = self._bucket.threads.submit(put, self._key, self._part, self._headers, self._budget)
        self.checksum = result_of(call, self._budget)

    def _send(self) -> None:
        with botocore_problems(SERVICE):
            if not self._parts_begun:
                self._begin()
            if len(self._pending) == UPLOAD_CONCURRENCY:
                self._wait_for_one()
            self._parts_begun += 1
            self._pending.add(self._bucket.threads.submit(self._send_part, self._parts_begun, self._part))
            self._part = bytearray()

    def _begin(self) -> None:
        if self._budget.exhausted:
            raise UpstreamTimeout(SERVICE)
        # The SDK has the headers' names without hyphens.
        properties: dict[str, Any] = {name.replace("-", ""): value for name, value in self._headers.items()}
        creation = self._bucket.begin(
            self._bucket.client().create_multipart_upload,
            Key=self._key,
            **properties,
            ChecksumAlgorithm="CRC32",
            ChecksumType="FULL_OBJECT",
        )
        try:
            self._upload_id = result_of(creation, self._budget)["UploadId"]
        except UpstreamTimeout:
            creation.add_done_callback(self._abort_belated)
            raise

    def _send_part(self, number: int, content: bytearray) -> None:
        upload_part = self._bucket.put.upload_part
        self._sent[number] = upload_part(self._key, self._upload_id, number, content, self._budget)

    def _wait_for_one(self) -> None:
        done, self._pending = wait(self._pending, self._budget.remaining(), FIRST_COMPLETED)
        for future in done:
            future.result()
        if not done or self._budget.exhausted:
            raise UpstreamTimeout(SERVICE)

    def _complete(self) -> None:
        with botocore_problems(SERVICE):
            if self._part:
                self._send()
            while self._pending:
                self._wait_for_one()
            parts: list[CompletedPartTypeDef] = []
            for number, part in sorted(self._sent.items()):
                self.checksum = crc32_combine(self.checksum, part.checksum, part.size)
                parts.append({"PartNumber": number, "ETag": part.etag, "ChecksumCRC32": base64_of(part.checksum)})
            self._bucket.call(
                self._bucket.client().complete_multipart_upload,
                self._budget,
                Key=self._key,
                UploadId=self._upload_id,
                MultipartUpload={"Parts": parts},
                ChecksumType="FULL_OBJECT",
                ChecksumCRC32=base64_of(self.checksum),
                MpuObjectSize=self.size,
            )

    def _abort_belated(self, creation: Future[CreateMultipartUploadOutputTypeDef]) -> None:
        """Abort an upload that began after nobody waited for it any more."""
        if creation.exception() is None:
            self._upload_id = creation.result()["UploadId"]
            self._abort()

    def _abort(self) -> None:
        cleanup = TimeBudget(CLEANUP_SECONDS)
        # A part that arrives after the abort would be kept, and paid for, so those under way come first.
        for future in self._pending:
            future.cancel()
        wait(self._pending, cleanup.remaining())
        abort = self._bucket.client().abort_multipart_upload
        abortion = self._bucket.begin(abort, Key=self._key, UploadId=self._upload_id)
        done, _ = wait([abortion], cleanup.remaining())
        if not done or abortion.exception() is not None:
            # The bucket's lifecycle rule removes what is left; what counts is why the upload failed.
            logger.warning("multipart upload not aborted")
