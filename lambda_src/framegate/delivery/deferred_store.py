"""Deferred stores: a frame that takes too long for a request is marked, queued, and stored by the export function."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from framegate.bucket_layout import queued_key
from framegate.problems import FrameNotAvailable, FrameNotFound, Problem, UpstreamRefused, UpstreamRejected

if TYPE_CHECKING:
    from framegate.aws.export_queue import ExportQueue
    from framegate.healthimaging.client import HealthImaging
    from framegate.identifiers import FrameRef
    from framegate.storage.frame_store import FrameStore
    from framegate.storage.image_set_remover import ImageSetRemover
    from framegate.storage.object_store import ObjectStore, StoredObject
    from framegate.time_budget import TimeBudget

MARKER_LIFETIME = timedelta(hours=1)
"""Age from which a marker counts for nothing: its message is lost or dead, and the frame is queued again."""


class DeferredStoreQueue:
    """Queues frames for the export function to store.

    Parameters
    ----------
    objects : ObjectStore
        Holds a marker for each queued frame.
    queue : ExportQueue
        The queue of deferred stores. No other messages are in it.
    """

    def __init__(self, objects: ObjectStore, queue: ExportQueue) -> None:
        self._objects = objects
        self._queue = queue

    def is_pending(self, frame: FrameRef, budget: TimeBudget) -> bool:
        """Whether the frame is queued, and its message is not lost."""
        marker = self._objects.head(queued_key(frame), budget)
        return marker is not None and not _is_expired(marker)

    def enqueue(self, frame: FrameRef, budget: TimeBudget) -> None:
        """Queue a frame, unless it is queued already. Of several requests at the same time, only one queues it.

        Raises
        ------
        Problem
            If S3 or SQS fails. The frame can then be queued again.
        """
        marker = self._objects.head(queued_key(frame), budget)
        if marker is not None and not _is_expired(marker):
            return
        try:
            if self._objects.put_if_unchanged(queued_key(frame), b"{}", marker.etag if marker else None, budget):
                # Imported late, because few requests queue a frame, and the import takes 5 % of a cold start.
                from framegate.messages import StoreFrame, encode

                self._queue.send(encode(StoreFrame(frame)))
        except Problem:
            # S3 may hold the marker without having confirmed it.
            self.remove_marker(frame, budget)
            raise

    def remove_marker(self, frame: FrameRef, budget: TimeBudget) -> None:
        """Remove the marker, because the frame is stored or never will be."""
        self._objects.remove(queued_key(frame), budget)


class DeferredStoreWorker:
    """Stores the queued frames.

    Parameters
    ----------
    source : HealthImaging
        Where frames come from.
    store : FrameStore
        Where they go.
    queue : DeferredStoreQueue
        Holds their markers.
    remover : ImageSetRemover
        Removes the objects of an image set that was deleted meanwhile.
    """

    def __init__(
        self, source: HealthImaging, store: FrameStore, queue: DeferredStoreQueue, remover: ImageSetRemover
    ) -> None:
        self._source = source
        self._store = store
        self._queue = queue
        self._remover = remover

    def store(self, frame: FrameRef, budget: TimeBudget) -> int:
        """Store a frame, unless it is stored already, and remove its marker; return the number of bytes stored.

        Raises
        ------
        FrameNotFound, UpstreamRejected, FrameNotAvailable, UpstreamRefused
            If HealthImaging will never return the frame. The marker is removed.
        Problem
            If this attempt failed. The marker stays.
        """
        size = 0
        found = self._store.look_up(frame, budget)
        if found is None or found.is_mismatched:
            try:
                written = self._source.fetch(
                    frame,
                    lambda stream: self._store.store_temporarily(
                        frame,
                        stream.content_type,
                        stream,
                        budget,
                        stream.content_length,
                        mismatched_etag=found.stored.etag if found else None,
                    ),
                    budget,
                )
            except (FrameNotFound, UpstreamRejected, FrameNotAvailable, UpstreamRefused):
                self._queue.remove_marker(frame, budget)
                raise
            size = written.size
        self._queue.remove_marker(frame, budget)
        if not self._source.has_image_set(frame, budget):
            # The image set was deleted while the frame was being stored.
            self._remover.remove(frame, budget)
            raise FrameNotFound
        return size


def _is_expired(marker: StoredObject) -> bool:
    return datetime.now(UTC) - marker.modified_at > MARKER_LIFETIME
