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


@dataclass(frozen=True, slots=True)
class VersionProperties:
    """What ListImageSetVersions tells of a version beside its number.

    Parameters
    ----------
    workflow_status : str
        How the change that made the version ended, such as ``UPDATED``.
    updated_at : float
        When, in seconds since the epoch; now if not given.
    message : str, optional
        Why the change failed; a failed change makes a version, too.
    forced : bool, optional
        Whether the change was made with ``force``.
    """

    workflow_status: str
    updated_at: float = field(default_factory=time.time)
    message: str | None = None
    forced: bool | None = None


@dataclass(slots=True)
class ImageSet:
    """An image set; ``versions`` holds each version's metadata, the first one at 1, and ``history`` its properties.

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
    history: dict[int, VersionProperties] = field(default_factory=dict)
    frames: dict[str, Frame] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def add_version(self, metadata: dict[str, Any], properties: VersionProperties) -> None:
        """Add a version and its properties."""
        self.updated_at, self.workflow_status = properties.updated_at, properties.workflow_status
        # Readers do not lock: a version that they can count must have its properties.
        self.history[self.version + 1] = properties
        self.versions.append(metadata)

    def properties(self, version: int) -> VersionProperties:
        """The properties of a version; one that was added without them counts as imported."""
        imported = VersionProperties("CREATED" if version == 1 else "UPDATED", self.updated_at)
        return self.history.get(version, imported)

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
