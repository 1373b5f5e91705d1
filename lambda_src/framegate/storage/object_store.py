"""S3 as a store of whole objects: streamed in and out, there with the last byte or not at all, in the time there is."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from botocore.exceptions import ClientError

from framegate.aws.checksums import base64_of
from framegate.aws.errors import botocore_problems, code_of, status_of
from framegate.observability import subsegment
from framegate.problems import UpstreamFailed
from framegate.storage.bucket import Bucket, result_of
from framegate.storage.object_writer import ObjectWriter
from framegate.storage.s3_put import SERVICE, S3Put

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from concurrent.futures import Executor
    from datetime import datetime

    from botocore.session import Session
    from mypy_boto3_s3 import S3Client

    from framegate.time_budget import TimeBudget

READ_BYTES = 256 * 1024

MAX_REMOVALS_PER_CALL = 1000
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
    tag_count : int
        How many tags it has; 0 also where the caller may not read them.
    """

    content_type: str
    size: int
    checksum: str | None
    etag: str
    modified_at: datetime
    tag_count: int = 0


class ObjectChangedError(Exception):
    """The object with the given entity tag is not there: it was removed, or replaced by another one."""


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: how many bytes, and their CRC32 in base64, which S3 has found to be that of what it has."""

    size: int
    checksum: str


class ObjectStore:
    """The objects in one bucket.

    Parameters
    ----------
    session : botocore.session.Session
        For credentials and Region.
    client : callable
        Gives the S3 client; called on first use, since most requests need none.
    bucket : str
        The bucket's name.
    threads : concurrent.futures.Executor
        Where S3 is called.
    max_connections : int
        Connections for bytes to S3 that are kept open.

    Notes
    -----
    Every method raises `Throttled`, `UpstreamFailed` or `UpstreamTimeout` if S3 does not do as it is asked, or not in
    time.
    """

    def __init__(
        self,
        session: Session,
        client: Callable[[], S3Client],
        bucket: str,
        threads: Executor,
        max_connections: int = 1,
    ) -> None:
        self.bucket = bucket
        self._bucket = Bucket(bucket, client, S3Put(session, client, bucket, max_connections), threads)

    def head(self, key: str, budget: TimeBudget) -> StoredObject | None:
        """What there is of an object to know without reading it, or None if it is not there."""
        with subsegment(SERVICE), botocore_problems(SERVICE):
            try:
                head = self._bucket.call(self._bucket.client().head_object, budget, Key=key, ChecksumMode="ENABLED")
            except ClientError as error:
                if status_of(error) == HTTPStatus.NOT_FOUND:
                    return None
                raise
        checksum = head.get("ChecksumCRC32")
        # «…-3»: of the checksums of three parts, which no reader of the whole can check.
        whole = checksum if checksum and "-" not in checksum else None
        return StoredObject(
            head["ContentType"],
            head["ContentLength"],
            whole,
            head["ETag"],
            head["LastModified"],
            int(head.get("TagCount", 0)),
        )

    def read(
        self,
        key: str,
        budget: TimeBudget,
        first: int | None = None,
        last: int | None = None,
        etag: str | None = None,
    ) -> Generator[bytes]:
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
        etag : str, optional
            The entity tag that the object must have.

        Raises
        ------
        ObjectChangedError
            If it has another entity tag.
        KeyError
            If the object is not there.
        IndexError
            If the object ends before `first`.
        """
        byte_range = {} if etag is None else {"IfMatch": etag}
        if first is not None or last is not None:
            byte_range["Range"] = f"bytes={first or 0}-{'' if last is None else last}"
        with botocore_problems(SERVICE):
            try:
                body = self._bucket.call(self._bucket.client().get_object, budget, Key=key, **byte_range)["Body"]
            except ClientError as error:
                if code_of(error) == "NoSuchKey":
                    raise KeyError(key) from None
                if status_of(error) == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    raise IndexError(first) from None
                if status_of(error) == HTTPStatus.PRECONDITION_FAILED:
                    raise ObjectChangedError from None
                raise
            try:
                while piece := result_of(self._bucket.threads.submit(body.read, READ_BYTES), budget):
                    yield piece
            finally:
                body.close()

    def put(
        self,
        key: str,
        content_type: str,
        content: Iterable[bytes],
        budget: TimeBudget,
        cache_control: str | None = None,
        expected_size: int | None = None,
    ) -> Written:
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
        cache_control : str, optional
            How long whoever reads it may keep it (RFC 9111, section 5.2).
        expected_size : int, optional
            How many bytes there are, where that is known.

        Returns
        -------
        Written
            Its size and its checksum.
        """
        with self.writer(key, content_type, budget, cache_control, expected_size) as writer:
            for piece in content:
                writer.write(piece)
        return Written(writer.size, base64_of(writer.checksum))

    @contextmanager
    def writer(
        self,
        key: str,
        content_type: str,
        budget: TimeBudget,
        cache_control: str | None = None,
        expected_size: int | None = None,
    ) -> Iterator[ObjectWriter]:
        """Write an object piece by piece: it appears at the end of the block, or never, if the block raises.

        At most four parts are in memory: one being filled, three on their way. Where the time runs out, removing every
        trace takes up to ``CLEANUP_SECONDS`` more.
        """
        headers = {"Content-Type": content_type}
        if cache_control:
            headers["Cache-Control"] = cache_control
        writer = ObjectWriter(self._bucket, key, headers, budget, expected_size)
        with subsegment(SERVICE), writer.commit_or_abort():
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
        condition = {"If-None-Match": "*"} if etag is None else {"If-Match": etag}
        meanwhile = {HTTPStatus.PRECONDITION_FAILED, HTTPStatus.CONFLICT} | ({HTTPStatus.NOT_FOUND} if etag else set())
        headers = {"Content-Type": "application/json", **condition}
        with subsegment(SERVICE):
            try:
                put = self._bucket.put.put_object
                result_of(self._bucket.threads.submit(put, key, content, headers, budget, attempts=1), budget)
            except UpstreamFailed as problem:
                if problem.evidence.get("upstream_status") in meanwhile:
                    return False
                raise
        return True

    def names(self, prefix: str, budget: TimeBudget) -> Iterator[str]:
        """The keys that begin with `prefix`, without it."""
        token: dict[str, str] = {}
        while True:
            with botocore_problems(SERVICE):
                page = self._bucket.call(self._bucket.client().list_objects_v2, budget, Prefix=prefix, **token)
            for each in page.get("Contents", []):
                yield each["Key"][len(prefix) :]
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def remove(self, key: str, budget: TimeBudget) -> None:
        """Remove an object, or nothing if it is not there."""
        with botocore_problems(SERVICE):
            self._bucket.call(self._bucket.client().delete_object, budget, Key=key)

    def remove_if_unchanged(self, key: str, etag: str, budget: TimeBudget) -> None:
        """Remove the object that has this entity tag.

        Raises
        ------
        ObjectChangedError
            If there is another one, or none.

        References
        ----------
        Amazon S3 API reference, ``DeleteObject``, ``If-Match``.
        """
        with botocore_problems(SERVICE), _conditional():
            self._bucket.call(self._bucket.client().delete_object, budget, Key=key, IfMatch=etag)

    def copy(self, source: str, target: str, etag: str, tags: dict[str, str], budget: TimeBudget) -> None:
        """Copy an object of at most 5 GB, in S3 itself, with its headers and under other tags.

        Raises
        ------
        ObjectChangedError
            If the source has another entity tag than this, or is not there.

        References
        ----------
        Amazon S3 API reference, ``CopyObject``.
        """
        with subsegment(SERVICE), botocore_problems(SERVICE), _conditional():
            self._bucket.call(
                self._bucket.client().copy_object,
                budget,
                Key=target,
                CopySource={"Bucket": self.bucket, "Key": source},
                CopySourceIfMatch=etag,
                MetadataDirective="COPY",
                TaggingDirective="REPLACE",
                Tagging=urlencode(tags),
                ChecksumAlgorithm="CRC32",
            )

    def remove_all(self, prefix: str, budget: TimeBudget) -> int:
        """Remove every object whose key begins with `prefix`; return how many there were."""
        removed = 0
        batch: list[str] = []
        for name in self.names(prefix, budget):
            batch.append(prefix + name)
            if len(batch) == MAX_REMOVALS_PER_CALL:
                removed += self._remove_batch(batch, budget)
                batch.clear()
        return removed + (self._remove_batch(batch, budget) if batch else 0)

    def _remove_batch(self, keys: list[str], budget: TimeBudget) -> int:
        with botocore_problems(SERVICE):
            answer = self._bucket.call(
                self._bucket.client().delete_objects,
                budget,
                Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True},
            )
        if errors := answer.get("Errors"):
            evidence = {"upstream_error": errors[0].get("Code", ""), "not_removed": len(errors)}
            raise UpstreamFailed(SERVICE, "did not remove every object", evidence=evidence)
        return len(keys)

    def tag(self, key: str, tags: dict[str, str], budget: TimeBudget) -> None:
        """Give an object these tags in the place of those that it has."""
        tag_set = [{"Key": name, "Value": value} for name, value in tags.items()]
        with botocore_problems(SERVICE):
            self._bucket.call(self._bucket.client().put_object_tagging, budget, Key=key, Tagging={"TagSet": tag_set})

    def tags(self, key: str, budget: TimeBudget) -> dict[str, str]:
        """The tags of an object; none if it is not there."""
        with botocore_problems(SERVICE):
            try:
                found = self._bucket.call(self._bucket.client().get_object_tagging, budget, Key=key)
            except ClientError as error:
                if status_of(error) == HTTPStatus.NOT_FOUND:
                    return {}
                raise
        return {tag["Key"]: tag["Value"] for tag in found["TagSet"]}

    def presigned_url(self, key: str, lifetime: int, *, for_head: bool = False) -> str:
        """A URL to GET (or HEAD) an object for so many seconds, signed with SigV4; it takes byte ranges too."""
        return self._bucket.client().generate_presigned_url(
            "head_object" if for_head else "get_object", Params={"Bucket": self.bucket, "Key": key}, ExpiresIn=lifetime
        )


@contextmanager
def _conditional() -> Iterator[None]:
    """Turn the answers to a condition that is not met into `ObjectChangedError`."""
    try:
        yield
    except ClientError as error:
        if status_of(error) in (HTTPStatus.PRECONDITION_FAILED, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
            raise ObjectChangedError from None
        raise
