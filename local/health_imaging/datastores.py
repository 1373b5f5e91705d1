"""Stores data stores, their image sets with all versions of the metadata, and their frames."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from pydicom.uid import SecondaryCaptureImageStorage, generate_uid

from local.health_imaging.attributes import SERIES_UID, STUDY_UID, search_attributes
from local.health_imaging.errors import ServiceError
from local.health_imaging.frames import CONTENT_TYPES, SYNTAXES, FrameContent
from local.health_imaging.identifiers import check_identifier, new_identifier
from local.health_imaging.image_sets import Frame, FrameAddress, ImageSet, SourceFile, VersionProperties

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from local.health_imaging.instances import Instance


@dataclass(slots=True)
class DataStore:
    """A data store. It stores lossless frames in ``lossless_storage_format``: HTJ2K or JPEG_2000_LOSSLESS."""

    id: str
    name: str
    created_at: float = field(default_factory=time.time)
    lossless_storage_format: str = "HTJ2K"
    kms_key_arn: str | None = None
    lambda_authorizer_arn: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    image_sets: dict[str, ImageSet] = field(default_factory=dict)


class DataStores:
    """The data stores of the account."""

    def __init__(self) -> None:
        self._stores: dict[str, DataStore] = {}
        self._lock = threading.RLock()

    @property
    def lock(self) -> AbstractContextManager[bool]:
        """The reentrant lock to hold while image sets change."""
        return self._lock

    def create(self, name: str, datastore_id: str | None = None, lossless_storage_format: str = "HTJ2K") -> DataStore:
        """Create a data store. It is active at once."""
        store = DataStore(datastore_id or new_identifier(), name, lossless_storage_format=lossless_storage_format)
        with self._lock:
            self._stores[store.id] = store
        return store

    def all(self) -> Sequence[DataStore]:
        """Every data store."""
        with self._lock:
            return list(self._stores.values())

    def remove(self, datastore_id: str) -> DataStore:
        """Delete an empty data store, and return it.

        Raises
        ------
        ServiceError
            ConflictException if the data store has image sets; otherwise as in `get`.
        """
        with self._lock:
            if any(each.state != "DELETED" for each in self.get(datastore_id).image_sets.values()):
                raise ServiceError("ConflictException", "The data store still has image sets")
            return self._stores.pop(datastore_id)

    def get(self, datastore_id: str) -> DataStore:
        """Find a data store.

        Raises
        ------
        ServiceError
            ValidationException for a malformed id, ResourceNotFoundException for an unknown one.
        """
        check_identifier("datastoreId", datastore_id)
        with self._lock:
            if datastore_id not in self._stores:
                raise ServiceError("ResourceNotFoundException", "There is no such data store")
            return self._stores[datastore_id]

    def image_set(self, datastore_id: str, image_set_id: str) -> ImageSet:
        """Find an image set that is not deleted; errors as in `get`."""
        store = self.get(datastore_id)
        check_identifier("imageSetId", image_set_id)
        image_set = store.image_sets.get(image_set_id)
        if image_set is None or image_set.state == "DELETED":
            raise ServiceError("ResourceNotFoundException", "There is no such image set")
        return image_set

    def frame(self, address: FrameAddress) -> Frame:
        """Find a frame; errors as in `get`."""
        image_set = self.image_set(address.datastore_id, address.image_set_id)
        check_identifier("imageFrameId", address.image_frame_id)
        if address.image_frame_id not in image_set.frames:
            raise ServiceError("ResourceNotFoundException", "There is no such image frame")
        return image_set.frames[address.image_frame_id]

    def add_instances(self, datastore_id: str, instances: Sequence[Instance]) -> tuple[ImageSet, bool]:
        """Add instances of one series to an existing image set of the series if possible, else to a new one.

        An existing image set fits if it has the same patient and study attributes and none of the instances. As in the
        service, the first image set of a series is the primary one.

        Returns
        -------
        image_set, created
            The image set of the instances, and whether it is new.
        """
        store = self.get(datastore_id)
        first = instances[0].attributes
        uids = {each.sop_instance_uid for each in instances}
        with self._lock:
            searched = first.searched
            of_series = [
                each
                for each in store.image_sets.values()
                if each.state == "ACTIVE" and each.series() == (searched[STUDY_UID], searched[SERIES_UID])
            ]
            # Instances with conflicting patient or study attributes go to a separate image set.
            alike = [each for each in of_series if each.attributes == searched]
            image_set = next((each for each in alike if uids.isdisjoint(each.instances())), None)
            created = image_set is None
            if image_set is None:
                image_set = ImageSet(new_identifier(), datastore_id, searched, is_primary=not of_series)
            for each in instances:
                codes = tuple(int(warning.reason) for warning in each.warnings)
                file = SourceFile(each.dataset, each.attributes, each.transfer_syntax_uid, codes)
                image_set.files[each.sop_instance_uid] = file
            added = {each.sop_instance_uid: _metadata_of(each, image_set) for each in instances}
            old = {} if created else image_set.instances()
            patient, study, series = first.patient, first.study, first.series
            if not created:
                latest = image_set.versions[-1]
                patient, study = latest["Patient"]["DICOM"], latest["Study"]["DICOM"]
                (series,) = (each["DICOM"] for each in latest["Study"]["Series"].values())
            properties = VersionProperties("CREATED" if created else "UPDATED")
            image_set.add_version(_document(patient, study, series, old | added), properties)
            store.image_sets[image_set.id] = image_set
        return image_set, created

    def add_frames(
        self, datastore_id: str, frames: Iterable[Frame], image_set_id: str | None = None, per_instance: int = 1
    ) -> list[FrameAddress]:
        """Add frames without a DICOM file as new instances, to an existing image set or to a new one."""
        store = self.get(datastore_id)
        addresses = []
        with self._lock:
            if image_set_id is None:
                patient, study, series = _levels_without_a_file()
                image_set = ImageSet(new_identifier(), datastore_id, search_attributes(patient | study | series))
                image_set.add_version(_document(patient, study, series, {}), VersionProperties("CREATED"))
                store.image_sets[image_set.id] = image_set
            else:
                image_set = self.image_set(datastore_id, image_set_id)
            (of_series,) = image_set.versions[-1]["Study"]["Series"].values()
            instances, members = of_series["Instances"], iter(frames)
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
        """Corrupt the pixel checksums of a frame in the metadata; a second call restores them.

        Raises
        ------
        ValueError
            If the metadata has no checksum of the frame.
        """
        image_set = self.image_set(address.datastore_id, address.image_set_id)
        with self._lock:
            # Versions share unchanged parts, so each checksum must be changed only once.
            checksums = {
                id(resolution): resolution
                for instance in _instances_of_all_versions(image_set)
                for entry in instance["ImageFrames"]
                if entry["ID"] == address.image_frame_id
                for resolution in entry.get("PixelDataChecksumFromBaseToFullResolution", [])
            }
            for resolution in checksums.values():
                resolution["Checksum"] ^= 1
        if not checksums:
            raise ValueError("The metadata has no checksum of this frame; only frames of imported DICOM files have one")

    def omit_stored_transfer_syntax(self, datastore_id: str, image_set_id: str) -> None:
        """Remove StoredTransferSyntaxUID from the metadata of every version of an image set.

        Frames without it are in the data store's lossless storage format (developer guide, "Supported transfer
        syntaxes").
        """
        image_set = self.image_set(datastore_id, image_set_id)
        with self._lock:
            for instance in _instances_of_all_versions(image_set):
                instance.pop("StoredTransferSyntaxUID", None)


def _instances_of_all_versions(image_set: ImageSet) -> Iterator[dict[str, Any]]:
    for version in image_set.versions:
        for series in version["Study"]["Series"].values():
            yield from series["Instances"].values()


def _document(
    patient: dict[str, Any], study: dict[str, Any], series: dict[str, Any], instances: dict[str, Any]
) -> dict[str, Any]:
    """Make the metadata document of a version."""
    return {
        "Patient": {"DICOM": patient},
        "Study": {"DICOM": study, "Series": {series["SeriesInstanceUID"]: {"DICOM": series, "Instances": instances}}},
    }


def _metadata_of(instance: Instance, image_set: ImageSet) -> dict[str, Any]:
    """Add the frames of an instance to an image set, and make the instance's metadata."""
    syntax = instance.transfer_syntax_uid
    entries = []
    for frame in instance.frames:
        frame_id = new_identifier()
        image_set.frames[frame_id] = Frame(FrameContent(frame.content), CONTENT_TYPES[syntax])
        entry: dict[str, Any] = {"ID": frame_id, "FrameSizeInBytes": len(frame.content)}
        if frame.min_pixel_value is not None:
            entry |= {"MinPixelValue": frame.min_pixel_value, "MaxPixelValue": frame.max_pixel_value}
        if frame.checksums:
            entry["PixelDataChecksumFromBaseToFullResolution"] = frame.checksums
        entries.append(entry)
    return {
        "DICOM": instance.attributes.instance,
        "DICOMVRs": {},
        "StoredTransferSyntaxUID": syntax,
        "ImageFrames": entries,
    }


def _levels_without_a_file() -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Make the attributes of a patient, a new study and a new series."""
    return (
        {"PatientID": "no-file", "PatientName": "NO^FILE"},
        {"StudyInstanceUID": str(generate_uid())},
        {"SeriesInstanceUID": str(generate_uid()), "Modality": "OT"},
    )


def _instance_without_a_file(content_type: str, number: int, entries: list[Any]) -> tuple[str, dict[str, Any]]:
    """Make a new instance; return its UID and its metadata."""
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
