"""What HealthImaging keeps: data stores, their image sets with versions and metadata, and the frames of these."""

from __future__ import annotations

import copy
import gzip
import json
import threading
import time
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from pydicom.uid import SecondaryCaptureImageStorage, generate_uid

from local.health_imaging.errors import ServiceError
from local.health_imaging.frames import CONTENT_TYPES, SYNTAXES, FrameContent, encode_frames
from local.health_imaging.identifiers import check_identifier, new_identifier

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from pydicom import Dataset
    from pydicom.dataelem import DataElement

_PATIENT = {"PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientAge", "PatientWeight", "PatientSize"}
_STUDY = {
    "StudyInstanceUID",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "StudyDescription",
    "AccessionNumber",
    "ReferringPhysicianName",
}
_SERIES = {
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDate",
    "SeriesTime",
    "SeriesDescription",
    "Modality",
    "BodyPartExamined",
    "Manufacturer",
    "ManufacturerModelName",
    "InstitutionName",
    "FrameOfReferenceUID",
    "Laterality",
    "PatientPosition",
    "ProtocolName",
}
_STUDY_UID, _SERIES_UID = "DICOMStudyInstanceUID", "DICOMSeriesInstanceUID"
_BINARY = {"OB", "OD", "OF", "OL", "OV", "OW", "UN"}


@dataclass(slots=True)
class Frame:
    """An image frame: its bytes, media type, and whether its length is announced."""

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
    """An image set; ``versions`` holds each version's metadata, the first one at 1, and ``history`` its properties."""

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
        return self.attributes.get(_STUDY_UID), self.attributes.get(_SERIES_UID)

    def instances(self) -> dict[str, Any]:
        """The instances of the latest version, by SOP instance UID."""
        (series,) = self.versions[-1]["Study"]["Series"].values()
        return dict(series["Instances"])

    def metadata(self, version: int | None = None) -> bytes:
        """The metadata document of a version, gzipped, as GetImageSetMetadata gives it."""
        if version is not None and not 1 <= version <= self.version:
            raise ServiceError("ResourceNotFoundException", "There is no such image set version")
        document = {
            "SchemaVersion": "1.1",
            "DatastoreID": self.datastore_id,
            "ImageSetID": self.id,
            **self.versions[(version or self.version) - 1],
        }
        return gzip.compress(json.dumps(document).encode(), mtime=0)


@dataclass(slots=True)
class DataStore:
    """A data store."""

    id: str
    name: str
    lossless_storage_format: str = "HTJ2K"
    kms_key_arn: str | None = None
    lambda_authorizer_arn: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    created_at: float = field(default_factory=time.time)
    image_sets: dict[str, ImageSet] = field(default_factory=dict)


class DataStores:
    """All data stores of the account."""

    def __init__(self) -> None:
        self._stores: dict[str, DataStore] = {}
        self._lock = threading.RLock()

    @property
    def lock(self) -> AbstractContextManager[bool]:
        """Held while image sets change; a thread can take it again."""
        return self._lock

    def create(
        self, name: str, datastore_id: str | None = None, *, lossless_storage_format: str = "HTJ2K"
    ) -> DataStore:
        """Create a data store, active at once."""
        store = DataStore(datastore_id or new_identifier(), name, lossless_storage_format)
        with self._lock:
            self._stores[store.id] = store
        return store

    def all(self) -> Sequence[DataStore]:
        """Every data store."""
        with self._lock:
            return list(self._stores.values())

    def remove(self, datastore_id: str) -> DataStore:
        """Delete a data store that is empty; return what it was."""
        with self._lock:
            if any(each.state != "DELETED" for each in self.get(datastore_id).image_sets.values()):
                raise ServiceError("ConflictException", "The data store still has image sets")
            return self._stores.pop(datastore_id)

    def get(self, datastore_id: str) -> DataStore:
        """The data store of that id, or the service's refusal."""
        check_identifier("datastoreId", datastore_id)
        with self._lock:
            if datastore_id not in self._stores:
                raise ServiceError("ResourceNotFoundException", "There is no such data store")
            return self._stores[datastore_id]

    def image_set(self, datastore_id: str, image_set_id: str) -> ImageSet:
        """The image set of that id, or the service's refusal."""
        store = self.get(datastore_id)
        check_identifier("imageSetId", image_set_id)
        image_set = store.image_sets.get(image_set_id)
        if image_set is None or image_set.state == "DELETED":
            raise ServiceError("ResourceNotFoundException", "There is no such image set")
        return image_set

    def frame(self, address: FrameAddress) -> Frame:
        """The frame at that address, or the service's refusal."""
        image_set = self.image_set(address.datastore_id, address.image_set_id)
        check_identifier("imageFrameId", address.image_frame_id)
        if address.image_frame_id not in image_set.frames:
            raise ServiceError("ResourceNotFoundException", "There is no such image frame")
        return image_set.frames[address.image_frame_id]

    def add_instances(self, datastore_id: str, datasets: Sequence[Dataset]) -> tuple[ImageSet, bool]:
        """Add the instances of one series: to an image set of it that has none of them, else to a new one.

        The first image set of a series is its primary one, as the service has it.

        Returns
        -------
        image_set, created
            Where they went, and whether it is new.
        """
        store = self.get(datastore_id)
        encoded = [(dataset, *encode_frames(dataset)) for dataset in datasets]
        with self._lock:
            attributes = search_attributes(datasets[0])
            of_series = [
                each
                for each in store.image_sets.values()
                if each.state == "ACTIVE" and each.series() == (attributes[_STUDY_UID], attributes[_SERIES_UID])
            ]
            uids = {str(dataset.SOPInstanceUID) for dataset in datasets}
            # Instances whose patient or study attributes conflict with what is there go to an image set of their own.
            alike = [each for each in of_series if each.attributes == attributes]
            image_set = next((each for each in alike if uids.isdisjoint(each.instances())), None)
            created = image_set is None
            if image_set is None:
                image_set = ImageSet(new_identifier(), datastore_id, attributes, is_primary=not of_series)
                store.image_sets[image_set.id] = image_set
            metadata = copy.deepcopy(image_set.versions[-1]) if image_set.versions else _study(datasets[0])
            (series,) = metadata["Study"]["Series"].values()
            for dataset, syntax, frames in encoded:
                instance = self._instance(image_set, dataset, syntax, frames)
                series["Instances"][str(dataset.SOPInstanceUID)] = instance
            image_set.add_version(metadata, VersionProperties("CREATED" if created else "UPDATED"))
        return image_set, created

    def add_frames(
        self, datastore_id: str, frames: Iterable[Frame], image_set_id: str | None = None, per_instance: int = 1
    ) -> list[FrameAddress]:
        """Add frames without a DICOM file, in instances of their own; in a new image set if none is named."""
        store = self.get(datastore_id)
        addresses = []
        with self._lock:
            if image_set_id is None:
                image_set = ImageSet(new_identifier(), datastore_id, {})
                image_set.add_version(_study_without_a_file(), VersionProperties("CREATED"))
                store.image_sets[image_set.id] = image_set
            else:
                image_set = self.image_set(datastore_id, image_set_id)
            (series,) = image_set.versions[-1]["Study"]["Series"].values()
            instances, members = series["Instances"], iter(frames)
            while group := list(islice(members, per_instance)):
                entries = []
                for frame in group:
                    frame_id = new_identifier()
                    image_set.frames[frame_id] = frame
                    entries.append({"ID": frame_id, "FrameSizeInBytes": frame.content.size})
                    addresses.append(FrameAddress(datastore_id, image_set.id, frame_id))
                uid, instance = _instance_without_a_file(group[0].content_type, len(instances) + 1, entries)
                instances[uid] = instance
        return addresses

    def spoil_checksum(self, address: FrameAddress) -> None:
        """Make the checksums wrong that the metadata has of a frame's pixels.

        Raises
        ------
        ValueError
            If it has none.
        """
        image_set = self.image_set(address.datastore_id, address.image_set_id)
        with self._lock:
            checksums = [
                resolution
                for version in image_set.versions
                for series in version["Study"]["Series"].values()
                for instance in series["Instances"].values()
                for entry in instance["ImageFrames"]
                if entry["ID"] == address.image_frame_id
                for resolution in entry.get("PixelDataChecksumFromBaseToFullResolution", [])
            ]
            for resolution in checksums:
                resolution["Checksum"] ^= 1
        if not checksums:
            raise ValueError("The metadata has no checksum of this frame; one of an imported DICOM file has them")

    def _instance(self, image_set: ImageSet, dataset: Dataset, syntax: str, frames: Sequence[Any]) -> dict[str, Any]:
        entries = []
        for frame in frames:
            frame_id = new_identifier()
            image_set.frames[frame_id] = Frame(FrameContent(frame.content), CONTENT_TYPES[syntax])
            entry: dict[str, Any] = {"ID": frame_id, "FrameSizeInBytes": len(frame.content)}
            if frame.lowest is not None:
                entry |= {"MinPixelValue": frame.lowest, "MaxPixelValue": frame.highest}
            if frame.checksums:
                entry["PixelDataChecksumFromBaseToFullResolution"] = frame.checksums
            entries.append(entry)
        others = _PATIENT | _STUDY | _SERIES
        return {
            "DICOM": _attributes(dataset, lambda keyword: keyword not in others),
            "DICOMVRs": {},
            "StoredTransferSyntaxUID": syntax,
            "ImageFrames": entries,
        }


def level_of(keyword: str) -> Literal["Patient", "Study", "Series", "Instance"]:
    """The level of the metadata that holds an attribute."""
    if keyword in _PATIENT:
        return "Patient"
    if keyword in _STUDY:
        return "Study"
    return "Series" if keyword in _SERIES else "Instance"


def search_attributes(attributes: Dataset | Mapping[str, Any]) -> dict[str, str]:
    """What SearchImageSets tells of an image set, by its names for it."""
    keywords = {
        "DICOMPatientId": "PatientID",
        "DICOMPatientName": "PatientName",
        "DICOMPatientBirthDate": "PatientBirthDate",
        "DICOMPatientSex": "PatientSex",
        _STUDY_UID: "StudyInstanceUID",
        "DICOMStudyDate": "StudyDate",
        "DICOMStudyTime": "StudyTime",
        "DICOMStudyId": "StudyID",
        "DICOMStudyDescription": "StudyDescription",
        "DICOMAccessionNumber": "AccessionNumber",
        _SERIES_UID: "SeriesInstanceUID",
        "DICOMSeriesModality": "Modality",
    }
    return {name: str(attributes.get(keyword)) for name, keyword in keywords.items() if attributes.get(keyword)}


def _study(dataset: Dataset) -> dict[str, Any]:
    return {
        "Patient": {"DICOM": _attributes(dataset, _PATIENT.__contains__)},
        "Study": {
            "DICOM": _attributes(dataset, _STUDY.__contains__),
            "Series": {
                str(dataset.SeriesInstanceUID): {
                    "DICOM": _attributes(dataset, _SERIES.__contains__),
                    "Instances": {},
                }
            },
        },
    }


def _study_without_a_file() -> dict[str, Any]:
    study_uid, series_uid = str(generate_uid()), str(generate_uid())
    series = {"DICOM": {"SeriesInstanceUID": series_uid, "Modality": "OT"}, "Instances": {}}
    return {
        "Patient": {"DICOM": {"PatientID": "no-file", "PatientName": "NO^FILE"}},
        "Study": {"DICOM": {"StudyInstanceUID": study_uid}, "Series": {series_uid: series}},
    }


def _instance_without_a_file(content_type: str, number: int, entries: list[Any]) -> tuple[str, dict[str, Any]]:
    """The UID of a new instance, and the instance as the metadata has it."""
    uid = str(generate_uid())
    instance: dict[str, Any] = {
        "DICOM": {
            "SOPClassUID": str(SecondaryCaptureImageStorage),
            "SOPInstanceUID": uid,
            "InstanceNumber": number,
            "NumberOfFrames": len(entries),
        },
        "DICOMVRs": {},
        "ImageFrames": entries,
    }
    if content_type in SYNTAXES:
        instance["StoredTransferSyntaxUID"] = SYNTAXES[content_type]
    return uid, instance


def _attributes(dataset: Dataset, wanted: Any) -> dict[str, Any]:
    return {
        element.keyword: _plain(element)
        for element in dataset
        if element.keyword and element.VR not in _BINARY and wanted(element.keyword)
    }


def _plain(element: DataElement) -> Any:
    if element.VR == "SQ":
        return [_attributes(item, lambda _: True) for item in element.value]
    if element.value is None or isinstance(element.value, int | float):
        return element.value
    if element.VM > 1:
        return [each if isinstance(each, int | float) else str(each) for each in element.value]
    return str(element.value)
