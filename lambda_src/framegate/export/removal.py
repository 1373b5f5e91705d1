"""Removes everything that Framegate stores for a deleted image set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from framegate.delivery.deferred_store import queued_prefix
from framegate.export.manifest import export_prefix
from framegate.index.keys import index_prefix
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
        """Remove the frames, indexes, manifests and markers of an image set; return the number of objects removed.

        Raises
        ------
        Throttled, UpstreamFailed, UpstreamTimeout
            If S3 does not remove all objects in time. Another call removes the rest.
        """
        return sum(self._objects.remove_all(prefix(image_set), budget) for prefix in PREFIXES)
