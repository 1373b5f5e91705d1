"""Finds the frames of DICOM instances in the frame indexes of their image sets."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from framegate.bucket_layout import claim_key
from framegate.healthimaging.media_types import stored_syntax
from framegate.identifiers import FrameRef
from framegate.problems import InstanceNotFound
from framegate.storage.shared_work import SharedWork

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from framegate.dicomweb.study_lists import ImageSetVersion
    from framegate.identifiers import ImageSetRef
    from framegate.index.frame_index import FrameIndex
    from framegate.storage.object_store import ObjectStore
    from framegate.time_budget import TimeBudget

CACHE_MAX_FRAMES = 100_000
"""Maximum number of frames that a function remembers, about 30 MB."""


@dataclass(frozen=True, slots=True)
class InstanceFrame:
    """A frame of an instance, as the frame index lists it.

    Attributes
    ----------
    frame : FrameRef
        The frame's address.
    content_type : str
        HealthImaging's media type.
    transfer_syntax : str or None
        The transfer syntax of the stored frame, if it is known.
    size : int or None
        Size of the stored frame in bytes, if it is known.
    """

    frame: FrameRef
    content_type: str
    transfer_syntax: str | None
    size: int | None


_Lines = dict[str, list[bytes]]


class InstanceDirectory:
    """The frames of instances. The first request for a version of an image set builds its frame index.

    Parameters
    ----------
    index : FrameIndex
        The frame indexes.
    objects : ObjectStore
        The bucket, through which invocations agree on who builds an index.
    """

    def __init__(self, index: FrameIndex, objects: ObjectStore) -> None:
        self._index = index
        self._work = SharedWork(objects)
        self._recent: OrderedDict[tuple[ImageSetRef, str], _Lines] = OrderedDict()
        self._frames = 0

    def frames(
        self,
        image_sets: Iterable[ImageSetVersion],
        sop_instance_uid: str,
        numbers: Sequence[int],
        budget: TimeBudget,
    ) -> list[InstanceFrame]:
        """Return the frames of an instance that have these numbers, counted from 1, in this order.

        Raises
        ------
        InstanceNotFound
            If no image set has the instance, or if it lacks one of the frames.
        Problem
            As `FrameIndex` and `ObjectStore` raise it.
        """
        for each in image_sets:
            lines = self._lines(each, budget).get(sop_instance_uid)
            if lines and max(numbers) <= len(lines):
                return [_frame(each.image_set, lines[number - 1]) for number in numbers]
        raise InstanceNotFound

    def _lines(self, version: ImageSetVersion, budget: TimeBudget) -> _Lines:
        """The lines of a frame index by instance."""
        key = (version.image_set, version.version_id)
        if (recent := self._recent.get(key)) is not None:
            self._recent.move_to_end(key)
            return recent
        lines: _Lines = {}
        for line in self._content(version, budget).splitlines():
            uid = json.loads(line)["sopInstanceUID"]
            if uid is not None:
                lines.setdefault(uid, []).append(line)
        self._remember(key, lines)
        return lines

    def _content(self, version: ImageSetVersion, budget: TimeBudget) -> bytes:
        image_set, version_id = version.image_set, version.version_id

        def make() -> bytes:
            self._index.build(image_set, version_id, budget)
            return self._index.stored(image_set, version_id, budget) or b""

        claim = claim_key(image_set.datastore_id, f"{image_set.image_set_id}-{version_id}-index")
        return self._work.result(claim, lambda: self._index.stored(image_set, version_id, budget), make, budget)

    def _remember(self, key: tuple[ImageSetRef, str], lines: _Lines) -> None:
        self._recent[key] = lines
        self._frames += _count(lines)
        while self._frames > CACHE_MAX_FRAMES and len(self._recent) > 1:
            _, oldest = self._recent.popitem(last=False)
            self._frames -= _count(oldest)


def _count(lines: _Lines) -> int:
    return sum(map(len, lines.values()))


def _frame(image_set: ImageSetRef, line: bytes) -> InstanceFrame:
    entry = json.loads(line)
    return InstanceFrame(
        FrameRef(image_set.datastore_id, image_set.image_set_id, entry["imageFrameId"]),
        entry["contentType"],
        stored_syntax(entry["storedTransferSyntaxUID"], entry["contentType"]),
        entry["contentLength"],
    )
