"""Stores frames in S3 and pre-signs URLs for them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from framegate.bucket_layout import (
    FRAME_PREFIX,
    MISMATCH_TAG,
    MISMATCHED_PREFIX,
    TEMPORARY_DAYS,
    TEMPORARY_TAG,
    frame_key,
    image_set_prefix,
    mismatched_key,
)
from framegate.problems import UpstreamFailed
from framegate.settings import CACHE_CONTROL
from framegate.storage.object_store import ObjectChangedError, Written, unless_changed
from framegate.storage.s3_put import SERVICE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from framegate.identifiers import FrameRef, ImageSetRef
    from framegate.storage.object_store import ObjectStore, StoredObject
    from framegate.time_budget import TimeBudget

_OBJECT_CACHE_CONTROL = CACHE_CONTROL["revalidate"]
"""The Cache-Control of the objects. Framegate's URLs override it; other readers get the safe default."""


@dataclass(frozen=True, slots=True)
class FoundFrame:
    """The object under a frame's key.

    Attributes
    ----------
    stored : StoredObject
        Its properties.
    tags : mapping of str to str
        Its tags.
    """

    stored: StoredObject
    tags: Mapping[str, str]

    @property
    def is_mismatched(self) -> bool:
        """Whether its pixels are wrong."""
        return MISMATCH_TAG.items() <= self.tags.items()

    @property
    def is_temporary(self) -> bool:
        """Whether a request stored it, so that it expires."""
        return TEMPORARY_TAG.items() <= self.tags.items()


@dataclass(frozen=True, slots=True)
class PresignedUrl:
    """A URL that gives anyone who holds it access to one frame until it expires."""

    url: str
    expires_at: datetime


class FrameStore:
    """The stored frames, and the quarantine for those whose pixels are wrong.

    The quarantine is the prefix ``mismatched/``. No URL is signed for it, and only a verifying export releases a frame
    from it. A move to the quarantine can stop after any step, because the tag alone hides the frame.

    Parameters
    ----------
    objects : ObjectStore
        The bucket.
    url_cache_control : str
        The Cache-Control header with which S3 answers pre-signed URLs.
    """

    def __init__(self, objects: ObjectStore, url_cache_control: str = _OBJECT_CACHE_CONTROL) -> None:
        self._objects = objects
        self._url_cache_control = url_cache_control

    def find(self, frame: FrameRef, budget: TimeBudget) -> StoredObject | None:
        """Return the stored frame, or None if there is none or its pixels are wrong.

        Raises
        ------
        Throttled, UpstreamFailed, UpstreamTimeout
            If S3 rejects a call, cannot be reached, or takes too long.
        """
        found = self.look_up(frame, budget)
        return None if found is None or found.is_mismatched else found.stored

    def look_up(self, frame: FrameRef, budget: TimeBudget) -> FoundFrame | None:
        """Return the object under the frame's key with what its tags say, or None if there is no object.

        Raises
        ------
        Throttled, UpstreamFailed, UpstreamTimeout
            See `find`.
        """
        key = frame_key(frame)
        stored = self._objects.head(key, budget)
        if stored is None:
            return None
        # Other tools, such as malware scanners, tag objects, too.
        return FoundFrame(stored, self._objects.tags(key, budget) if stored.tag_count else {})

    def presigned_url(
        self,
        frame: FrameRef,
        lifetime_seconds: int,
        *,
        for_head: bool = False,
        request_id: str | None = None,
        content_type: str | None = None,
    ) -> PresignedUrl:
        """Return a URL (SigV4) to GET a frame from S3; it takes byte ranges, too.

        The signature covers the method. With `for_head`, the URL is for HEAD, which clients keep when they follow a
        redirect. `request_id` identifies the request that got the URL; see `presigning.presigned_url`. With
        `content_type`, S3 sends this Content-Type in place of HealthImaging's.
        """
        url = self._objects.presigned_url(
            frame_key(frame),
            lifetime_seconds,
            cache_control=self._url_cache_control,
            for_head=for_head,
            request_id=request_id,
            content_type=content_type,
        )
        return PresignedUrl(url, datetime.now(UTC) + timedelta(seconds=lifetime_seconds))

    def store(
        self,
        frame: FrameRef,
        content_type: str,
        content: Iterable[bytes],
        budget: TimeBudget,
        expected_size: int | None = None,
    ) -> Written:
        """Store a frame from a stream, in place of any other copy. The object appears after the last byte, or never.

        Parameters
        ----------
        frame : FrameRef
            The frame.
        content_type : str
            Its media type.
        content : iterable of bytes
            Its bytes. If it raises an exception, nothing is stored.
        budget : TimeBudget
            The time for the upload.
        expected_size : int, optional
            Expected number of bytes, if known.

        Raises
        ------
        Throttled, UpstreamFailed, UpstreamTimeout
            If S3 rejects a call, cannot be reached, or takes too long.
        """
        return self._objects.put(frame_key(frame), content_type, content, budget, _OBJECT_CACHE_CONTROL, expected_size)

    def store_temporarily(
        self,
        frame: FrameRef,
        content_type: str,
        content: Iterable[bytes],
        budget: TimeBudget,
        expected_size: int | None = None,
        *,
        mismatched_etag: str | None = None,
    ) -> Written:
        """Store a frame for a request. This copy expires, and never replaces a good one, which an export may have made.

        Parameters
        ----------
        frame, content_type, content, budget, expected_size
            See `store`.
        mismatched_etag : str, optional
            Entity tag of the copy with wrong pixels that this copy replaces.

        Raises
        ------
        Throttled, UpstreamFailed, UpstreamTimeout
            See `store`.
        """
        try:
            return self._objects.put(
                frame_key(frame),
                content_type,
                content,
                budget,
                _OBJECT_CACHE_CONTROL,
                expected_size,
                tags=TEMPORARY_TAG,
                condition=unless_changed(mismatched_etag),
            )
        except ObjectChangedError:
            stored = self.find(frame, budget)
            if stored is None:
                raise UpstreamFailed(SERVICE, "lost the copy that another request stored") from None
            return Written(stored.size, stored.checksum or "")

    def make_permanent(self, frame: FrameRef, found: FoundFrame, budget: TimeBudget) -> bool:
        """Keep a temporary copy from expiring; return False if it is so old that S3 may be removing it already.

        References
        ----------
        Amazon S3 user guide, "Expiring objects": S3 removes expired objects asynchronously.
        """
        if datetime.now(UTC) - found.stored.modified_at > timedelta(days=TEMPORARY_DAYS - 1):
            return False
        tags = {name: value for name, value in found.tags.items() if name not in TEMPORARY_TAG}
        self._objects.tag(frame_key(frame), tags, budget)
        return True

    def names(self, image_set: ImageSetRef, budget: TimeBudget) -> Iterator[str]:
        """Yield the identifiers of an image set's stored frames."""
        return self._objects.names(image_set_prefix(FRAME_PREFIX, image_set), budget)

    def read(
        self, frame: FrameRef, budget: TimeBudget, first: int | None = None, last: int | None = None
    ) -> Iterator[bytes]:
        """Yield the bytes of a stored frame, or those from `first` to `last`, both inclusive, from 0.

        Raises
        ------
        UpstreamFailed
            If the frame is gone since the caller found it.
        """
        try:
            yield from self._objects.read(frame_key(frame), budget, first, last)
        except KeyError:
            raise UpstreamFailed(SERVICE, "no longer has the frame") from None

    def read_unchanged(
        self, frame: FrameRef, etag: str, budget: TimeBudget, *, is_mismatched: bool = False
    ) -> Iterator[bytes]:
        """Yield the bytes of the frame with this entity tag, in its place or in quarantine.

        Raises
        ------
        ObjectChangedError
            If the frame was replaced or removed.
        """
        key = mismatched_key(frame) if is_mismatched else frame_key(frame)
        try:
            yield from self._objects.read(key, budget, etag=etag)
        except KeyError:
            raise ObjectChangedError from None

    def mismatched_names(self, image_set: ImageSetRef, budget: TimeBudget) -> Iterator[str]:
        """Yield the identifiers of an image set's frames in quarantine."""
        return self._objects.names(image_set_prefix(MISMATCHED_PREFIX, image_set), budget)

    def quarantine(self, frame: FrameRef, etag: str, budget: TimeBudget) -> None:
        """Move the frame with this entity tag, whose pixels are wrong, to the quarantine.

        The tag comes first, because it hides the object at once. If the time runs out after it, or the function ends,
        requests and exports still find no good frame, and the next verifying export starts again.

        Raises
        ------
        ObjectChangedError
            If the frame was replaced in the meantime. The new one may have the tag, and must be verified.
        """
        key = frame_key(frame)
        self._objects.tag(key, MISMATCH_TAG, budget)
        self._objects.copy(key, mismatched_key(frame), etag, MISMATCH_TAG, budget)
        self._objects.remove_if_unchanged(key, etag, budget)

    def store_quarantined(
        self,
        frame: FrameRef,
        content_type: str,
        content: Iterable[bytes],
        budget: TimeBudget,
        expected_size: int | None = None,
    ) -> Written:
        """Store a new copy of a wrong frame in quarantine, in place of the wrong one; see `store`."""
        return self._objects.put(
            mismatched_key(frame), content_type, content, budget, _OBJECT_CACHE_CONTROL, expected_size
        )

    def find_quarantined(self, frame: FrameRef, budget: TimeBudget) -> StoredObject | None:
        """Return the copy of a frame in quarantine, or None if there is none."""
        return self._objects.head(mismatched_key(frame), budget)

    def release(self, frame: FrameRef, etag: str, budget: TimeBudget) -> None:
        """Move the verified copy with this entity tag from the quarantine to the frame's place.

        Raises
        ------
        ObjectChangedError
            If the copy was replaced or removed.
        """
        self._objects.copy(mismatched_key(frame), frame_key(frame), etag, {}, budget)
        self._objects.remove_if_unchanged(mismatched_key(frame), etag, budget)

    def remove(self, frame: FrameRef, budget: TimeBudget) -> None:
        """Remove a frame from its place. Use this when HealthImaging sends wrong pixels."""
        self._objects.remove(frame_key(frame), budget)
