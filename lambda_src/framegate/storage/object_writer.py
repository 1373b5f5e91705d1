"""Writes an object to S3, in one request or in parts; it appears complete or never."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

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
"""Maximum number of parts of an object that are being sent at the same time."""

PART_BYTES = 8 * 1024 * 1024
"""Size of a part. S3's maximum of 10,000 parts makes 80 GiB."""

MAX_PUT_BYTES = 16 * 1024 * 1024
"""Maximum size of an object that is sent in one request if its size is known. This saves three requests."""

CLEANUP_SECONDS = 2.0
"""Maximum time for aborting a failed upload after its time budget has run out."""


class ObjectWriter:
    """Writes an object. Small objects take one request; for others, parts are sent while the next one is filled.

    Parameters
    ----------
    bucket : Bucket
        The bucket.
    key : str
        The object's key.
    headers : mapping of str to str
        ``Content-Type`` and other headers of the object.
    budget : TimeBudget
        The time for the whole object.
    expected_size : int or None
        Expected number of bytes, if known.
    tags : mapping of str to str, optional
        The object's tags.
    condition : mapping of str to str, optional
        ``If-Match`` or ``If-None-Match``. S3 evaluates it when the object is complete.
    metadata : mapping of str to str, optional
        The object's user-defined metadata.

    Attributes
    ----------
    size : int
        Number of bytes written.
    checksum : int
        Their CRC32, once the object is complete.

    References
    ----------
    Amazon S3 user guide, "Checking object integrity for data uploads": S3 verifies the CRC32 of each part, and the
    CRC32 of the whole object, which readers can verify, too.
    """

    def __init__(
        self,
        bucket: Bucket,
        key: str,
        headers: Mapping[str, str],
        budget: TimeBudget,
        expected_size: int | None,
        tags: Mapping[str, str] | None = None,
        condition: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self._bucket = bucket
        self._key = key
        self._headers = headers
        self._budget = budget
        self._tagging = urlencode(tags or {})
        self._condition = condition or {}
        self._metadata = metadata or {}
        self._part_size = PART_BYTES if expected_size is None or expected_size > MAX_PUT_BYTES else MAX_PUT_BYTES + 1
        self._upload_id = ""
        self._part = bytearray()
        self._parts_begun = 0
        self._sent: dict[int, SentPart] = {}
        self._pending: set[Future[None]] = set()
        self.size = self.checksum = 0

    def write(self, content: bytes) -> None:
        """Add bytes. A full part is sent as soon as fewer than `UPLOAD_CONCURRENCY` parts are being sent."""
        self.size += len(content)
        while len(content) >= (missing := self._part_size - len(self._part)):
            self._part += content[:missing]
            content = content[missing:]
            self._send()
        self._part += content

    @contextmanager
    def commit_or_abort(self) -> Iterator[None]:
        """Complete the object at the end of the block; abort the upload if the block raises."""
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
        tagging = {"x-amz-tagging": self._tagging} if self._tagging else {}
        metadata = {f"x-amz-meta-{name}": value for name, value in self._metadata.items()}
        headers = {**self._headers, **self._condition, **tagging, **metadata}
        call = self._bucket.threads.submit(put, self._key, self._part, headers, self._budget)
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
        properties = _sdk_parameters(self._headers) | ({"Tagging": self._tagging} if self._tagging else {})
        creation = self._bucket.begin(
            self._bucket.client().create_multipart_upload,
            Key=self._key,
            **properties,
            Metadata=self._metadata,
            ChecksumAlgorithm="CRC32",
            ChecksumType="FULL_OBJECT",
        )
        try:
            self._upload_id = result_of(creation, self._budget)["UploadId"]
        except UpstreamTimeout:
            creation.add_done_callback(self._abort_late)
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
                **_sdk_parameters(self._condition),
            )

    def _abort_late(self, creation: Future[CreateMultipartUploadOutputTypeDef]) -> None:
        """Abort an upload that S3 created after the time had run out."""
        if creation.exception() is None:
            self._upload_id = creation.result()["UploadId"]
            self._abort()

    def _abort(self) -> None:
        cleanup = TimeBudget(CLEANUP_SECONDS)
        # S3 would keep, and bill, a part that arrives after the abort, so wait for the parts that are being sent.
        for future in self._pending:
            future.cancel()
        wait(self._pending, cleanup.remaining())
        abort = self._bucket.client().abort_multipart_upload
        call = self._bucket.begin(abort, Key=self._key, UploadId=self._upload_id)
        done, _ = wait([call], cleanup.remaining())
        if not done or call.exception() is not None:
            # The bucket's lifecycle rule removes the rest. The caller needs the reason for which the upload failed.
            logger.warning("multipart upload not aborted")


def _sdk_parameters(headers: Mapping[str, str]) -> dict[str, Any]:
    """Return headers as parameters of the SDK, whose names have no hyphens."""
    return {name.replace("-", ""): value for name, value in headers.items()}
