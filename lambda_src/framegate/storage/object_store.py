"""Stores and reads objects in S3 as streams, within a time budget. An object appears complete or never."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from botocore.exceptions import ClientError

from framegate.aws import presigning
from framegate.aws.checksums import base64_of
from framegate.aws.errors import botocore_problems, code_of, status_of
from framegate.observability import subsegment
from framegate.problems import UpstreamFailed
from framegate.storage.bucket import Bucket, result_of
from framegate.storage.object_writer import ObjectWriter
from framegate.storage.s3_put import SERVICE, S3Put

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
    from concurrent.futures import Executor
    from datetime import datetime

    from botocore.session import Session
    from mypy_boto3_s3 import S3Client

    from framegate.time_budget import TimeBudget

READ_BYTES = 256 * 1024
"""Maximum size of a piece of an object that is read."""

MAX_REMOVALS_PER_CALL = 1000
"""Maximum number of objects that S3 removes in one call."""

# The statuses with which S3 says that a condition does not hold.
_CHANGED = frozenset({HTTPStatus.PRECONDITION_FAILED, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT})


@dataclass(frozen=True, slots=True)
class StoredObject:
    """The properties of a stored object.

    Attributes
    ----------
    content_type : str
        Its media type.
    size : int
        Its size in bytes.
    checksum : str or None
        CRC32 of the whole object in base64; None if S3 does not have one.
    etag : str
        Its entity tag, which changes when the object is replaced.
    modified_at : datetime
        When it was stored.
    tag_count : int
        Number of its tags; 0 if the caller may not read them.
    metadata : mapping of str to str
        Its user-defined metadata.
    """

    content_type: str
    size: int
    checksum: str | None
    etag: str
    modified_at: datetime
    tag_count: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object as the bucket lists it.

    Attributes
    ----------
    name : str
        Its key without the prefix of the listing.
    size : int
        Its size in bytes.
    etag : str
        Its entity tag, which changes when the object is replaced.
    modified_at : datetime
        When it was stored.
    """

    name: str
    size: int
    etag: str
    modified_at: datetime

    def renamed(self, name: str) -> ListedObject:
        """Return the same object with another name."""
        return replace(self, name=name)


class ObjectChangedError(Exception):
    """The object with the given entity tag was removed or replaced."""


@dataclass(frozen=True, slots=True)
class Written:
    """The size in bytes of a written object, and its CRC32 in base64, which S3 has verified."""

    size: int
    checksum: str


class ObjectStore:
    """The objects in one bucket.

    Parameters
    ----------
    session : botocore.session.Session
        Provides credentials and Region.
    client : callable
        Returns the S3 client; called on first use, because most requests need none.
    bucket : str
        The bucket's name.
    threads : concurrent.futures.Executor
        Runs the S3 calls.
    max_connections : int
        Number of connections to keep open for uploads.

    Notes
    -----
    Every method raises `Throttled`, `UpstreamFailed` or `UpstreamTimeout` if S3 rejects the call, cannot be reached, or
    takes too long.
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
        """Return the properties of an object, or None if there is no such object."""
        with subsegment(SERVICE), botocore_problems(SERVICE):
            try:
                head = self._bucket.call(self._bucket.client().head_object, budget, Key=key, ChecksumMode="ENABLED")
            except ClientError as error:
                if status_of(error) == HTTPStatus.NOT_FOUND:
                    return None
                raise
        checksum = head.get("ChecksumCRC32")
        # A suffix such as -3 marks a checksum of the checksums of 3 parts, which readers cannot verify.
        whole = checksum if checksum and "-" not in checksum else None
        return StoredObject(
            head["ContentType"],
            head["ContentLength"],
            whole,
            head["ETag"],
            head["LastModified"],
            int(head.get("TagCount", 0)),
            head.get("Metadata", {}),
        )

    def read(
        self,
        key: str,
        budget: TimeBudget,
        first: int | None = None,
        last: int | None = None,
        etag: str | None = None,
    ) -> Generator[bytes]:
        """Yield the bytes of an object, or a range of them, in pieces of at most 256 KiB.

        Parameters
        ----------
        key : str
            The object's key.
        budget : TimeBudget
            The time for reading it.
        first, last : int, optional
            Positions of the first and the last byte of a range, both inclusive, from 0 (RFC 9110, section 14.1.2).
            Without `last`, or with one beyond the end, the range ends with the object.
        etag : str, optional
            The entity tag that the object must have.

        Raises
        ------
        ObjectChangedError
            If the object has another entity tag.
        KeyError
            If there is no such object.
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
        *,
        tags: Mapping[str, str] | None = None,
        condition: Mapping[str, str] | None = None,
        content_encoding: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Written:
        """Store an object from a stream; see `writer`.

        Parameters
        ----------
        key : str
            The object's key.
        content_type : str
            Its media type.
        content : iterable of bytes
            Its bytes, in pieces of any size. If it raises an exception, the upload is aborted.
        budget : TimeBudget
            The time for the upload.
        cache_control : str, optional
            Its Cache-Control header (RFC 9111, section 5.2).
        expected_size : int, optional
            Expected number of bytes, if known.
        content_encoding : str, optional
            Its Content-Encoding header, such as ``gzip``.
        tags : mapping of str to str, optional
            Its tags.
        condition : mapping of str to str, optional
            See `unless_changed`.
        metadata : mapping of str to str, optional
            Its user-defined metadata.

        Returns
        -------
        Written
            The object's size and checksum.

        Raises
        ------
        ObjectChangedError
            If the condition does not hold.
        """
        try:
            with self.writer(
                key,
                content_type,
                budget,
                cache_control,
                expected_size,
                tags=tags,
                condition=condition,
                content_encoding=content_encoding,
                metadata=metadata,
            ) as writer:
                for piece in content:
                    writer.write(piece)
        except UpstreamFailed as problem:
            if condition and problem.evidence.get("upstream_status") in _statuses_of_change(condition):
                raise ObjectChangedError from None
            raise
        return Written(writer.size, base64_of(writer.checksum))

    @contextmanager
    def writer(
        self,
        key: str,
        content_type: str,
        budget: TimeBudget,
        cache_control: str | None = None,
        expected_size: int | None = None,
        *,
        tags: Mapping[str, str] | None = None,
        condition: Mapping[str, str] | None = None,
        content_encoding: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Iterator[ObjectWriter]:
        """Write an object piece by piece. It appears at the end of the block; if the block raises, it never appears.

        At most four parts are in memory: one being filled and three being sent. If the time runs out, aborting the
        upload takes up to ``CLEANUP_SECONDS`` more.
        """
        headers = {"Content-Type": content_type}
        if cache_control:
            headers["Cache-Control"] = cache_control
        if content_encoding:
            headers["Content-Encoding"] = content_encoding
        writer = ObjectWriter(self._bucket, key, headers, budget, expected_size, tags, condition, metadata)
        with subsegment(SERVICE), writer.commit_or_abort():
            yield writer

    def put_if_unchanged(self, key: str, content: bytes, etag: str | None, budget: TimeBudget) -> bool:
        """Store a small JSON object unless it has changed in the meantime; return whether it was stored.

        Parameters
        ----------
        key : str
            The object's key.
        content : bytes
            Its bytes.
        etag : str or None
            Entity tag of the object to replace; None if there must be no object.
        budget : TimeBudget
            The time for the call.
        """
        condition = unless_changed(etag)
        headers = {"Content-Type": "application/json", **condition}
        with subsegment(SERVICE):
            try:
                put = self._bucket.put.put_object
                result_of(self._bucket.threads.submit(put, key, content, headers, budget, attempts=1), budget)
            except UpstreamFailed as problem:
                if problem.evidence.get("upstream_status") in _statuses_of_change(condition):
                    return False
                raise
        return True

    def names(self, prefix: str, budget: TimeBudget, after: str = "") -> Iterator[str]:
        """Yield the keys that start with `prefix`, without the prefix; see `entries`."""
        return (each.name for each in self.entries(prefix, budget, after))

    def entries(self, prefix: str, budget: TimeBudget, after: str = "") -> Iterator[ListedObject]:
        """Yield the objects whose keys start with `prefix`, in the order of their keys.

        Parameters
        ----------
        prefix : str
            The start of the keys.
        budget : TimeBudget
            The time for it.
        after : str, optional
            The name after which the list begins, or the start of names.
        """
        token: dict[str, str] = {"StartAfter": prefix + after} if after else {}
        while True:
            with botocore_problems(SERVICE):
                page = self._bucket.call(self._bucket.client().list_objects_v2, budget, Prefix=prefix, **token)
            for each in page.get("Contents", []):
                yield ListedObject(each["Key"][len(prefix) :], each["Size"], each["ETag"], each["LastModified"])
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def remove(self, key: str, budget: TimeBudget) -> None:
        """Remove an object if there is one."""
        with botocore_problems(SERVICE):
            self._bucket.call(self._bucket.client().delete_object, budget, Key=key)

    def remove_if_unchanged(self, key: str, etag: str, budget: TimeBudget) -> None:
        """Remove the object that has this entity tag.

        Raises
        ------
        ObjectChangedError
            If the object was replaced or removed.

        References
        ----------
        Amazon S3 API reference, ``DeleteObject``, ``If-Match``.
        """
        with botocore_problems(SERVICE), _conditional():
            self._bucket.call(self._bucket.client().delete_object, budget, Key=key, IfMatch=etag)

    def copy(self, source: str, target: str, etag: str, tags: dict[str, str], budget: TimeBudget) -> None:
        """Copy an object of at most 5 GB within S3; keep its headers and replace its tags.

        Raises
        ------
        ObjectChangedError
            If the source was replaced or removed.

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
        """Remove every object whose key starts with `prefix`; return their number."""
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
        """Replace the tags of an object."""
        tag_set = [{"Key": name, "Value": value} for name, value in tags.items()]
        with botocore_problems(SERVICE):
            if not tag_set:
                self._bucket.call(self._bucket.client().delete_object_tagging, budget, Key=key)
                return
            self._bucket.call(self._bucket.client().put_object_tagging, budget, Key=key, Tagging={"TagSet": tag_set})

    def tags(self, key: str, budget: TimeBudget) -> dict[str, str]:
        """Return the tags of an object; none if there is no such object."""
        with botocore_problems(SERVICE):
            try:
                found = self._bucket.call(self._bucket.client().get_object_tagging, budget, Key=key)
            except ClientError as error:
                if status_of(error) == HTTPStatus.NOT_FOUND:
                    return {}
                raise
        return {tag["Key"]: tag["Value"] for tag in found["TagSet"]}

    def presigned_url(
        self,
        key: str,
        lifetime_seconds: int,
        *,
        cache_control: str | None = None,
        for_head: bool = False,
        request_id: str | None = None,
        content_type: str | None = None,
    ) -> str:
        """Return a pre-signed URL (SigV4) to GET or HEAD an object; see `presigning.presigned_url`.

        The URL takes byte ranges, too.
        """
        return presigning.presigned_url(
            self._bucket.client(),
            self.bucket,
            key,
            lifetime_seconds,
            cache_control=cache_control,
            for_head=for_head,
            request_id=request_id,
            content_type=content_type,
        )


def unless_changed(etag: str | None) -> dict[str, str]:
    """Return the condition that a key still holds the object with this entity tag; with None, that it holds no object.

    References
    ----------
    Amazon S3 user guide, "How to prevent object overwrites with conditional writes".
    """
    return {"If-None-Match": "*"} if etag is None else {"If-Match": etag}


def _statuses_of_change(condition: Mapping[str, str]) -> frozenset[HTTPStatus]:
    """Return the statuses that mean that the condition does not hold. Without `If-Match`, 404 means something else."""
    return _CHANGED if "If-Match" in condition else _CHANGED - {HTTPStatus.NOT_FOUND}


@contextmanager
def _conditional() -> Iterator[None]:
    """Turn the error responses for a condition that does not hold into `ObjectChangedError`."""
    try:
        yield
    except ClientError as error:
        if status_of(error) in _CHANGED:
            raise ObjectChangedError from None
        raise
