"""Builds the frame index of a version from HealthImaging's metadata."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from framegate.healthimaging import media_types
from framegate.identifiers import FrameRef
from framegate.problems import FrameNotAvailable, FrameNotFound, InvalidIdentifier, UpstreamRefused, UpstreamRejected

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from framegate.healthimaging.client import HealthImaging
    from framegate.healthimaging.image_set_metadata import FrameEntry
    from framegate.identifiers import ImageSetRef
    from framegate.time_budget import TimeBudget

FORMAT = 1
"""Format of an index's lines. The key and the entity tag contain it, so old lines are never read as new ones."""


def index_lines(
    frames: Iterable[FrameEntry], source: HealthImaging, image_set: ImageSetRef, budget: TimeBudget
) -> Iterator[bytes]:
    """Yield the index's line for each frame, as JSON with a line feed.

    Parameters
    ----------
    frames : iterable of FrameEntry
        The frames of the image set, as the metadata lists them.
    source : HealthImaging
        Provides the media type of a frame whose metadata does not determine it.
    image_set : ImageSetRef
        The image set.
    budget : TimeBudget
        The time for it.
    """
    content_types = _ContentTypes(source, image_set, budget)
    for frame in frames:
        yield _line(frame, content_types.of(frame))


def _line(frame: FrameEntry, content_type: str) -> bytes:
    # Nothing in a line identifies the patient, the study or the series.
    document = {
        "sopInstanceUID": frame.sop_instance_uid,
        "frameNumber": frame.frame_number,
        "imageFrameId": frame.image_frame_id,
        "storedTransferSyntaxUID": frame.transfer_syntax_uid,
        "contentType": content_type,
        "contentLength": frame.size,
        "rows": frame.rows,
        "columns": frame.columns,
        "resolutions": frame.resolutions,
    }
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


class _ContentTypes:
    """The media types with which HealthImaging delivers the frames of an image set."""

    def __init__(self, source: HealthImaging, image_set: ImageSetRef, budget: TimeBudget) -> None:
        self._source = source
        self._image_set = image_set
        self._budget = budget
        self._without_syntax: str | None = None

    def of(self, frame: FrameEntry) -> str:
        """Return the media type of a frame. At most one frame is fetched to find it out."""
        if frame.transfer_syntax_uid is not None:
            return media_types.of_stored(frame.transfer_syntax_uid)
        if self._without_syntax is None:
            # All frames without a transfer syntax have the data store's default format.
            self._without_syntax = self._fetch(frame.image_frame_id)
        return self._without_syntax

    def _fetch(self, image_frame_id: str) -> str:
        try:
            ref = FrameRef(self._image_set.datastore_id, self._image_set.image_set_id, image_frame_id)
            # One attempt: if it fails, the whole build is retried, beginning with the metadata.
            return self._source.fetch(ref, lambda stream: stream.content_type, self._budget, attempts=1)
        except (FrameNotFound, FrameNotAvailable, UpstreamRejected, UpstreamRefused, InvalidIdentifier):
            return media_types.WITHOUT_SYNTAX
