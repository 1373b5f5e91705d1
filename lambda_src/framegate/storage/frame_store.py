"""Stores frames in S3 and pre-signs URLs for them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from framegate.bucket_layout import (
    FRAME_PREFIX,
    MISMATCH_TAG,
    MISMATCHED_PREFIX,
    frame_key,
    image_set_prefix,
    mismatched_key,
)
from framegate.problems import UpstreamFailed
from framegate.storage.object_store import ObjectChangedError
from framegate.storage.s3_put import SERVICE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from framegate.identifiers import FrameRef, ImageSetRef
    from framegate.storage.object_store import ObjectStore, StoredObject, Written
    from framegate.time_budget import TimeBudget

CACHE_CONTROL = "private, max-age=31536000, immutable"
"""A frame never changes: its identifier stands for its content."""


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
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def find(self, frame: FrameRef, budget: TimeBudget) -> StoredObject | None:
        """Return the stored frame, or None if there is none or its pixels are wrong.

        Raises
        ------
        Throttled, UpstreamFailed, UpstreamTimeout
            If S3 rejects a call, cannot be reached, or takes too long.
        """
        stored, is_wrong = self.look_up(frame, budget)
        return None if is_wrong else stored

    def look_up(self, frame: FrameRef, budget: TimeBudget) -> tuple[StoredObject | None, bool]:
        """Return the object under the frame's key, or None, and whether its tag marks it as wrong.

        Raises
        ------
        Throttled, UpstreamFailed, UpstreamTimeout
            See `find`.
        """
        key = frame_key(frame)
        stored = self._objects.head(key, budget)
        # Other tools, such as malware scanners, tag objects, too.
        is_wrong = stored is not None and stored.tag_count > 0 and _is_wrong(self._objects.tags(key, budget))
        return stored, is_wrong

    def presigned_url(
        self, frame: FrameRef, lifetime_seconds: int, *, for_head: bool = False, content_type: str | None = None
    ) -> PresignedUrl:
        """Return a URL (SigV4) to GET a frame from S3; it takes byte ranges, too.

        The signature covers the method. With `for_head`, the URL is for HEAD, which clients keep when they follow a
        redirect. With `content_type`, S3 sends this Content-Type in place of HealthImaging's.
        """
        key = frame_key(frame)
        url = self._objects.presigned_url(key, lifetime_seconds, for_head=for_head, content_type=content_type)
        return PresignedUrl(url, datetime.now(UTC) + timedelta(seconds=lifetime_seconds))

    def store(
        self,
        frame: FrameRef,
        content_type: str,
        content: Iterable[bytes],
        budget: TimeBudget,
        expected_size: int | None = None,
    ) -> Written:
        """Store a frame from a stream. The object appears after the last byte, or never.

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
        return self._objects.put(frame_key(frame), content_type, content, budget, CACHE_CONTROL, expected_size)

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
        return self._objects.put(mismatched_key(frame), content_type, content, budget, CACHE_CONTROL, expected_size)

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


def _is_wrong(tags: Mapping[str, str]) -> bool:
    return MISMATCH_TAG.items() <= tags.items()
