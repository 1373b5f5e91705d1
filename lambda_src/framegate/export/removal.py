"""Removes every copy of a deleted image set: a patient's deletion reaches all that Framegate has stored of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from framegate.delivery.deferred_store import queued_prefix
from framegate.export.manifest import export_prefix
from framegate.index.frame_index import index_prefix
from framegate.storage.frame_store import frame_prefix, mismatched_prefix

if TYPE_CHECKING:
    from framegate.identifiers import ImageSetRef
    from framegate.storage.object_store import ObjectStore
    from framegate.time_budget import TimeBudget

PREFIXES = (frame_prefix, mismatched_prefix, index_prefix, export_prefix, queued_prefix)


class ImageSetRemover:
    """Removes image sets from the bucket.

    Parameters
    ----------
    objects : ObjectStore
        The bucket.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def remove(self, image_set: ImageSetRef, budget: TimeBudget) -> int:
        """Remove the frames, indexes, manifests and markers of an image set; return how many objects that were.

        Raises
        ------
        Throttled, UpstreamFailed, UpstreamTimeout
            If S3 does not remove all, or not in time. Once more removes the rest.
        """
        return sum(self._objects.remove_all(prefix(image_set), budget) for prefix in PREFIXES)
