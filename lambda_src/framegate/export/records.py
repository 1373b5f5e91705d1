"""What exports keep in the bucket beside frames: manifests, and how far an export has come."""

from __future__ import annotations

import uuid
from dataclasses import asdict
from typing import TYPE_CHECKING

from framegate.bucket_layout import JSON_LINES, manifest_key, progress_key
from framegate.export.manifest import ExportedFrame, decode_lines, encode_lines
from framegate.healthimaging.image_set_metadata import FrameEntry

if TYPE_CHECKING:
    from collections.abc import Iterable

    from framegate.identifiers import ImageSetRef
    from framegate.storage.object_store import ObjectStore
    from framegate.time_budget import TimeBudget


class ExportRecords:
    """The records of exports.

    Parameters
    ----------
    objects : ObjectStore
        Where they are.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self._objects.bucket

    def write_manifest(
        self, image_set: ImageSetRef, export_id: str, frames: Iterable[ExportedFrame], budget: TimeBudget
    ) -> str:
        """Write the manifest of an export in the place of the one that it may have had; return its key."""
        key = manifest_key(image_set, export_id)
        self._objects.put(key, JSON_LINES, encode_lines(frame.to_line() for frame in frames), budget)
        return key

    def save_progress(self, image_set: ImageSetRef, frames: Iterable[ExportedFrame], budget: TimeBudget) -> str:
        """Write down how far an export has come, under a key of its own; return the key.

        The key is new each time. An invocation that is repeated, because its end was not noticed, then cannot change
        what the other one left, and each chain of invocations accounts for every frame once.
        """
        key = progress_key(image_set, str(uuid.uuid4()))
        self._objects.put(key, JSON_LINES, encode_lines(map(asdict, frames)), budget)
        return key

    def load_progress(self, key: str, budget: TimeBudget) -> list[ExportedFrame]:
        """The frames of an export as they were when its progress was saved.

        Raises
        ------
        KeyError
            If there is no such progress any more.
        """
        documents = decode_lines(self._objects.read(key, budget))
        return [ExportedFrame(FrameEntry(**document.pop("entry")), **document) for document in documents]

    def remove_progress(self, key: str, budget: TimeBudget) -> None:
        """Forget how far an export had come."""
        self._objects.remove(key, budget)
