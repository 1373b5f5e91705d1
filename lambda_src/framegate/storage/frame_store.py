"""Keeps frames in S3 under one key scheme, whole or not at all, and hands out pre-signed URLs for them."""

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
"""A frame never changes: its identifier names its content."""


@dataclass(frozen=True, slots=True)
class PresignedUrl:
    """A URL that gives one frame to whoever holds it, until it expires."""

    url: str
    expires_at: datetime


class FrameStore:
    """The stored frames, and apart from them those whose pixels were found wrong.

    A wrong frame is under ``mismatched/``. No URL is signed for that prefix, and only a verifying export takes a frame
    out of it again. Each step of the way there is safe to be the last one: the tag alone hides the frame.

    Parameters
    ----------
    objects : ObjectStore
        The bucket.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def find(self, frame: FrameRef, budget: TimeBudget) -> StoredObject | None:
        """The stored frame, or None if it is not there or was found wrong.

        Raises
        ------
        Throttled, UpstreamFailed, UpstreamTimeout
            If S3 does not say, or not in time.
        """
        stored, is_wrong = self.look_up(frame, budget)
        return None if is_wrong else stored

    def look_up(self, frame: FrameRef, budget: TimeBudget) -> tuple[StoredObject | None, bool]:
        """The object under the frame's key, if there is one, and whether it is tagged as wrong.

        Raises
        ------
        Throttled, UpstreamFailed, UpstreamTimeout
            As `find` does.
        """
        key = frame_key(frame)
        stored = self._objects.head(key, budget)
        # Others, such as malware scanners, tag objects too.
        is_wrong = stored is not None and stored.tag_count > 0 and _is_wrong(self._objects.tags(key, budget))
        return stored, is_wrong

    def presigned_url(self, frame: FrameRef, lifetime: int, *, for_head: bool = False) -> PresignedUrl:
        """A URL to GET the frame from S3 for `lifetime` seconds, signed with SigV4; it takes byte ranges too.

        With `for_head`, a URL for HEAD: a client that follows a redirect keeps HEAD, and the method is signed.
        """
        expires_at = datetime.now(UTC) + timedelta(seconds=lifetime)
        return PresignedUrl(self._objects.presigned_url(frame_key(frame), lifetime, for_head=for_head), expires_at)

    def store(
        self,
        frame: FrameRef,
        content_type: str,
        content: Iterable[bytes],
        budget: TimeBudget,
        expected_size: int | None = None,
    ) -> Written:
        """Store a frame as it streams by: its object appears when the last byte is in, or never.

        Parameters
        ----------
        frame : FrameRef
            Which frame.
        content_type : str
            Its media type.
        content : iterable of bytes
            Its bytes; what this raises is passed on.
        budget : TimeBudget
            The time for it.
        expected_size : int, optional
            How many bytes there are, where that is known.

        Raises
        ------
        Throttled, UpstreamFailed, UpstreamTimeout
            If S3 does not take it, or not in time.
        """
        return self._objects.put(frame_key(frame), content_type, content, budget, CACHE_CONTROL, expected_size)

    def names(self, image_set: ImageSetRef, budget: TimeBudget) -> Iterator[str]:
        """The identifiers of an image set's stored frames."""
        return self._objects.names(image_set_prefix(FRAME_PREFIX, image_set), budget)

    def read(
        self, frame: FrameRef, budget: TimeBudget, first: int | None = None, last: int | None = None
    ) -> Iterator[bytes]:
        """The bytes of a stored frame, or those from `first` to `last`, both included and counted from 0.

        Raises
        ------
        UpstreamFailed
            If it is not there: whoever reads a frame has found it before.
        """
        try:
            yield from self._objects.read(frame_key(frame), budget, first, last)
        except KeyError:
            raise UpstreamFailed(SERVICE, "does not have the frame any more") from None

    def read_unchanged(
        self, frame: FrameRef, etag: str, budget: TimeBudget, *, is_mismatched: bool = False
    ) -> Iterator[bytes]:
        """The bytes of the stored frame with this entity tag, or of the one that was set apart.

        Raises
        ------
        ObjectChangedError
            If it is not there any more.
        """
        key = mismatched_key(frame) if is_mismatched else frame_key(frame)
        try:
            yield from self._objects.read(key, budget, etag=etag)
        except KeyError:
            raise ObjectChangedError from None

    def mismatched_names(self, image_set: ImageSetRef, budget: TimeBudget) -> Iterator[str]:
        """The identifiers of an image set's frames that were found wrong."""
        return self._objects.names(image_set_prefix(MISMATCHED_PREFIX, image_set), budget)

    def condemn(self, frame: FrameRef, etag: str, budget: TimeBudget) -> None:
        """Put the frame with this entity tag, whose pixels are wrong, out of reach.

        The tag comes first: it hides the object at once. If the time runs out after it, or the function ends, requests
        and exports still find no good frame, and the next verifying export starts again.

        Raises
        ------
        ObjectChangedError
            If the frame was replaced meanwhile. The new one may have the tag, and has to be verified.
        """
        key = frame_key(frame)
        self._objects.tag(key, MISMATCH_TAG, budget)
        self._objects.copy(key, mismatched_key(frame), etag, MISMATCH_TAG, budget)
        self._objects.remove_if_unchanged(key, etag, budget)

    def store_apart(
        self,
        frame: FrameRef,
        content_type: str,
        content: Iterable[bytes],
        budget: TimeBudget,
        expected_size: int | None = None,
    ) -> Written:
        """Store a new copy of a frame that was found wrong in the place of the wrong one, out of reach; see `store`."""
        return self._objects.put(mismatched_key(frame), content_type, content, budget, CACHE_CONTROL, expected_size)

    def find_apart(self, frame: FrameRef, budget: TimeBudget) -> StoredObject | None:
        """The copy of a frame that is out of reach, or None if there is none."""
        return self._objects.head(mismatched_key(frame), budget)

    def release(self, frame: FrameRef, etag: str, budget: TimeBudget) -> None:
        """Put the copy with this entity tag, which was verified, in the frame's place.

        Raises
        ------
        ObjectChangedError
            If that copy is not there any more.
        """
        self._objects.copy(mismatched_key(frame), frame_key(frame), etag, {}, budget)
        self._objects.remove_if_unchanged(mismatched_key(frame), etag, budget)

    def withdraw(self, frame: FrameRef, budget: TimeBudget) -> None:
        """Remove a frame: HealthImaging, which it came from, sends wrong pixels."""
        self._objects.remove(frame_key(frame), budget)


def _is_wrong(tags: Mapping[str, str]) -> bool:
    return MISMATCH_TAG.items() <= tags.items()
