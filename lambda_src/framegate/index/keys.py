"""The keys of the frame index in the bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from framegate.identifiers import ImageSetRef

FORMAT = 1
"""Format of an index's lines. The key and the entity tag contain it, so old lines are never read as new ones."""


def index_prefix(image_set: ImageSetRef) -> str:
    """The key prefix of an image set's indexes."""
    return f"indexes/{image_set.datastore_id}/{image_set.image_set_id}/"


def index_key(image_set: ImageSetRef, version_id: str) -> str:
    """The key of the index of one version."""
    return f"{index_prefix(image_set)}version-{version_id}.{FORMAT}.jsonl"


def latest_key(image_set: ImageSetRef) -> str:
    """The key of the note of the latest version."""
    return f"{index_prefix(image_set)}latest.json"
