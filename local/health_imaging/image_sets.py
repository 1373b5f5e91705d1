"""Models an image set: the metadata of its versions, and its image frames."""

from __future__ import annotations

import gzip
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from local.health_imaging.attributes import SERIES_UID, STUDY_UID
from local.health_imaging.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydicom import Dataset

    from local.health_imaging.attributes import Attributes
    from local.health_imaging.frames import FrameContent


@dataclass(slots=True)
class Frame:
    """An image frame: its bytes, its media type, and whether responses carry Content-Length."""

    content: FrameContent
    content_type: str
    announce_length: bool = True


@dataclass(frozen=True, slots=True)
class FrameAddress:
    """The three identifiers of a frame."""

    datastore_id: str
    image_set_id: str
    image_frame_id: str


@dataclass(frozen=True, slots=True)
class SourceFile:
    """The DICOM file of an instance: what DICOMweb returns, but the metadata of the image set does not hold.

    Parameters
    ----------
    dataset : Dataset
        The data set of the file. Its pixel data is empty if the instance has frames.
    attributes : Attributes
        The attributes at the import. The metadata of later versions may differ.
    transfer_syntax_uid : str
        The stored transfer syntax.
    warning_codes : tuple of int
        The codes of the warnings of the import.
    """

    dataset: Dataset
    attributes: Attributes
    transfer_syntax_uid: str
    warning_codes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class VersionProperties:
    """The properties of a version in ListImageSetVersions, without its number.

    Parameters
    ----------
    workflow_status : str
        The outcome of the change that made the version, such as ``UPDATED``.
    updated_at : float
        The time of the change, in seconds since the epoch; now by default.
    message : str, optional
        Why the change failed. A failed change makes a version too.
    forced : bool, optional
        Whether the request had ``force``.
    """

    workflow_status: str
    updated_at: float = field(default_factory=time.time)
    message: str | None = None
    forced: bool | None = None


@dataclass(slots=True)
class ImageSet:
    """An image set.

    Attributes
    ----------
    attributes : dict
        The ``DICOMTags`` of SearchImageSets.
    versions : list of dict
        The metadata of each version, in order.
    history : dict of int to VersionProperties
        The properties of versions, by version number, which counts from 1.
    files : dict of str to SourceFile
        The DICOM files of its instances, by SOP Instance UID; frames that were added without a file have none.
    documents : dict of str to tuple
        The DICOM JSON of instances, by SOP Instance UID, with the metadata that it was made from.
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
    files: dict[str, SourceFile] = field(default_factory=dict)
    documents: dict[str, tuple[Mapping[str, Any], dict[str, Any]]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def add_version(self, metadata: dict[str, Any], properties: VersionProperties) -> None:
        """Add a version and its properties."""
        self.updated_at, self.workflow_status = properties.updated_at, properties.workflow_status
        # Readers do not lock, so the properties must exist before the version does.
        self.history[self.version + 1] = properties
        self.versions.append(metadata)

    def properties(self, version: int) -> VersionProperties:
        """The properties of a version. A version without its own counts as the result of an import."""
        imported = VersionProperties("CREATED" if version == 1 else "UPDATED", self.updated_at)
        return self.history.get(version, imported)

    @property
    def version(self) -> int:
        """The number of the latest version."""
        return len(self.versions)

    def series(self) -> tuple[str | None, str | None]:
        """The UIDs of its study and series; None for frames that were added without a DICOM file."""
        return self.attributes.get(STUDY_UID), self.attributes.get(SERIES_UID)

    def instances(self) -> dict[str, Any]:
        """The instances of the latest version, by SOP Instance UID."""
        (series,) = self.versions[-1]["Study"]["Series"].values()
        return dict(series["Instances"])

    def metadata(self, version: int | None = None) -> bytes:
        """The gzipped metadata document of a version, as GetImageSetMetadata returns it.

        Raises
        ------
        ServiceError
            ResourceNotFoundException if the image set has no such version.
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
