"""Keeps frames in S3 under one key scheme, whole or not at all, and hands out pre-signed URLs for them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from framegate.problems import UpstreamFailed
from framegate.storage.s3_put import SERVICE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from framegate.healthimaging.identifiers import FrameRef, ImageSetRef
    from framegate.storage.object_store import ObjectStore, StoredObject, Written
    from framegate.time_budget import TimeBudget

MISMATCH_TAG = {"framegate-pixels": "mismatch"}
"""On a frame whose pixels are not those that HealthImaging took in."""

CACHE_CONTROL = "private, max-age=31536000, immutable"
"""A frame never changes: its identifier names its content."""


@dataclass(frozen=True, slots=True)
class PresignedUrl:
    """A URL that gives one frame to whoever holds it, until it expires."""

    url: str
    expires_at: datetime


def frame_key(frame: FrameRef) -> str:
    """The key of a frame, ``frames/{datastoreId}/{imageSetId}/{imageFrameId}``; identifiers only, no patient data."""
    return f"{frame_prefix(frame)}{frame.image_frame_id}"


def frame_prefix(image_set: ImageSetRef) -> str:
    """What the keys of an image set's frames begin with."""
    return f"frames/{image_set.datastore_id}/{image_set.image_set_id}/"


class FrameStore:
    """The stored frames.

    Parameters
    ----------
    objects : ObjectStore
        Where they are.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def find(self, frame: FrameRef, budget: TimeBudget) -> StoredObject | None:
        """The stored frame, or None if it is not there.

        Raises
        ------
        Throttled, UpstreamFailed, UpstreamTimeout
            If S3 does not say, or not in time.
        """
        return self._objects.head(frame_key(frame), budget)

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
        return self._objects.names(frame_prefix(image_set), budget)

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

    def mark_mismatch(self, frame: FrameRef, budget: TimeBudget) -> None:
        """Tag a frame as one whose pixels are not right."""
        self._objects.tag(frame_key(frame), MISMATCH_TAG, budget)
