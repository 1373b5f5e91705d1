"""An image set: the metadata of its versions, and its image frames."""

from __future__ import annotations

import gzip
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from local.health_imaging.attributes import SERIES_UID, STUDY_UID
from local.health_imaging.errors import ServiceError

if TYPE_CHECKING:
    from local.health_imaging.frames import FrameContent


@dataclass(slots=True)
class Frame:
    """An image frame: its bytes, media type, and whether answers announce its length."""

    content: FrameContent
    content_type: str
    announce_length: bool = True


@dataclass(frozen=True, slots=True)
class FrameAddress:
    """Where a frame is."""

    datastore_id: str
    image_set_id: str
    image_frame_id: str


@dataclass(slots=True)
class ImageSet:
    """An image set; ``versions`` holds the metadata of each version, the first one at 1.

    ``attributes`` are the ``DICOMTags`` that SearchImageSets finds it by.
    """

    id: str
    datastore_id: str
    attributes: dict[str, str]
    created_at: float = field(default_factory=time.time)
    updated_at: float = field(default_factory=time.time)
    state: str = "ACTIVE"
    workflow_status: str = "CREATED"
    is_primary: bool = True
    versions: list[dict[str, Any]] = field(default_factory=list)
    frames: dict[str, Frame] = field(default_factory=dict)

    @property
    def version(self) -> int:
        """The latest version's number."""
        return len(self.versions)

    def series(self) -> tuple[str | None, str | None]:
        """The UIDs of its study and series; None for a frame that came without a DICOM file."""
        return self.attributes.get(STUDY_UID), self.attributes.get(SERIES_UID)

    def instances(self) -> dict[str, Any]:
        """The instances of the latest version, by SOP instance UID."""
        (series,) = self.versions[-1]["Study"]["Series"].values()
        return dict(series["Instances"])

    def metadata(self, version: int | None = None) -> bytes:
        """The metadata document of a version, gzipped, as GetImageSetMetadata gives it.

        Raises
        ------
        ServiceError
            If the image set has no such version.
        """
        if version is not None and not 1 <= version <= self.version:
            raise ServiceError("ResourceNotFoundException", "There is no such image set version")
        document = {
            "SchemaVersion": "1.1",
            "DatastoreID": self.datastore_id,
            "ImageSetID": self.id,
            **self.versions[(version or self.version) - 1],
        }
        return gzip.compress(json.dumps(document, allow_nan=False).encode(), mtime=0)
