"""Frames too large for a request: marked, queued once, and stored by the export function."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from framegate.bucket_layout import queued_key
from framegate.messages import StoreFrame, encode
from framegate.problems import FrameNotAvailable, FrameNotFound, Problem, UpstreamRefused, UpstreamRejected

if TYPE_CHECKING:
    from framegate.aws.export_queue import ExportQueue
    from framegate.healthimaging.client import HealthImaging
    from framegate.identifiers import FrameRef
    from framegate.storage.frame_store import FrameStore
    from framegate.storage.image_set_remover import ImageSetRemover
    from framegate.storage.object_store import ObjectStore
    from framegate.time_budget import TimeBudget

FORGOTTEN_AFTER = timedelta(hours=1)
"""Age of a marker with which its message counts as lost, or as dead: the frame is queued again."""


class FrameHandover:
    """Hands frames over to the export function.

    Parameters
    ----------
    objects : ObjectStore
        Where markers are kept: one for each frame that is queued.
    queue : ExportQueue
        The export function's queue.
    """

    def __init__(self, objects: ObjectStore, queue: ExportQueue) -> None:
        self._objects = objects
        self._queue = queue

    def is_pending(self, frame: FrameRef, budget: TimeBudget) -> bool:
        """Whether the frame was handed over and is on its way."""
        marker = self._objects.head(queued_key(frame), budget)
        return marker is not None and not _is_forgotten(marker.modified_at)

    def hand_over(self, frame: FrameRef, budget: TimeBudget) -> None:
        """Queue a frame, unless it is queued already: of many requests at once, one succeeds in writing the marker.

        Raises
        ------
        Problem
            If S3 or SQS fails. The frame can be handed over again then.
        """
        marker = self._objects.head(queued_key(frame), budget)
        if marker is not None and not _is_forgotten(marker.modified_at):
            return
        try:
            if self._objects.put_if_unchanged(queued_key(frame), b"{}", marker.etag if marker else None, budget):
                self._queue.send(encode(StoreFrame(frame)))
        except Problem:
            # S3 may have the marker, even if it did not say so.
            self.finish(frame, budget)
            raise

    def finish(self, frame: FrameRef, budget: TimeBudget) -> None:
        """Take the marker away: the frame is stored, or it never will be."""
        self._objects.remove(queued_key(frame), budget)


class HandedOverFrames:
    """Stores the frames that requests have handed over.

    Parameters
    ----------
    source : HealthImaging
        Where frames come from.
    store : FrameStore
        Where they go.
    handover : FrameHandover
        Where they are marked.
    remover : ImageSetRemover
        What takes an image set away again that turns out to be deleted.
    """

    def __init__(
        self, source: HealthImaging, store: FrameStore, handover: FrameHandover, remover: ImageSetRemover
    ) -> None:
        self._source = source
        self._store = store
        self._handover = handover
        self._remover = remover

    def store(self, frame: FrameRef, budget: TimeBudget) -> None:
        """Store a frame, if it is not there yet, and take its marker away.

        Raises
        ------
        FrameNotFound, UpstreamRejected, FrameNotAvailable, UpstreamRefused
            HealthImaging does not give such a frame, and its marker is gone.
        Problem
            It could not be stored this time; its marker is still there.
        """
        if not self._store.find(frame, budget):
            try:
                self._source.fetch(
                    frame,
                    lambda stream: self._store.store(frame, stream.content_type, stream, budget, stream.content_length),
                    budget,
                )
            except (FrameNotFound, UpstreamRejected, FrameNotAvailable, UpstreamRefused):
                self._handover.finish(frame, budget)
                raise
        self._handover.finish(frame, budget)
        if not self._source.has_image_set(frame, budget):
            # Deleted while it was stored.
            self._remover.remove(frame, budget)
            raise FrameNotFound


def _is_forgotten(since: datetime) -> bool:
    return datetime.now(UTC) - since > FORGOTTEN_AFTER
