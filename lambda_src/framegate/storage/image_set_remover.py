"""Removes everything that Framegate stores for a deleted image set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from framegate.bucket_layout import IMAGE_SET_PREFIXES, image_set_prefix

if TYPE_CHECKING:
    from framegate.identifiers import ImageSetRef
    from framegate.storage.object_store import ObjectStore
    from framegate.time_budget import TimeBudget


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
        return sum(self._objects.remove_all(image_set_prefix(each, image_set), budget) for each in IMAGE_SET_PREFIXES)
