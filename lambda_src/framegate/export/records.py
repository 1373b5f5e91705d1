"""Stores the records of exports in the bucket: manifests, and the progress of unfinished exports."""

from __future__ import annotations

import uuid
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

from framegate.bucket_layout import JSON_LINES, manifest_key, progress_key
from framegate.export.manifest import ExportedFrame, ExportedInstance, decode_lines, encode_lines
from framegate.healthimaging.image_set_metadata import FrameEntry

if TYPE_CHECKING:
    from collections.abc import Iterable

    from framegate.export.manifest import Exported
    from framegate.identifiers import ImageSetRef
    from framegate.storage.object_store import ObjectStore
    from framegate.time_budget import TimeBudget


class ExportRecords:
    """The manifests and the progress of exports.

    Parameters
    ----------
    objects : ObjectStore
        The bucket.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self._objects.bucket

    def write_manifest(
        self, image_set: ImageSetRef, export_id: str, exported: Iterable[Exported], budget: TimeBudget
    ) -> str:
        """Write the manifest of an export and return its key. It replaces the manifest of an earlier attempt."""
        key = manifest_key(image_set, export_id)
        self._objects.put(key, JSON_LINES, encode_lines(each.to_line() for each in exported), budget)
        return key

    def save_progress(self, image_set: ImageSetRef, exported: Iterable[Exported], budget: TimeBudget) -> str:
        """Save the progress of an export under a new key, and return the key.

        SQS may deliver a message again after its invocation has succeeded. As each invocation saves under its own key,
        the repeated one cannot change the progress of the first.
        """
        key = progress_key(image_set, str(uuid.uuid4()))
        self._objects.put(key, JSON_LINES, encode_lines(asdict(cast("Any", each)) for each in exported), budget)
        return key

    def load_progress(self, key: str, budget: TimeBudget) -> list[Exported]:
        """Load the frames or DICOM files of an export as its progress was saved.

        Raises
        ------
        KeyError
            If the progress no longer exists.
        """
        return [_of_progress(each) for each in decode_lines(self._objects.read(key, budget))]

    def remove_progress(self, key: str, budget: TimeBudget) -> None:
        """Remove the progress of an export."""
        self._objects.remove(key, budget)


def _of_progress(document: dict[str, Any]) -> Exported:
    if "entry" in document:
        return ExportedFrame(FrameEntry(**document.pop("entry")), **document)
    return ExportedInstance(**document)
