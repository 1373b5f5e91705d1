"""Changes image sets: metadata updates, reverts and copies. Each change makes a version and sends events.

The service locks an image set and changes it in the background. The emulator changes it before it responds. Its
responses and events still report the start of the change, so that clients can wait for the end as they do in AWS.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from local.health_imaging import strict_json
from local.health_imaging.attributes import Attributes
from local.health_imaging.errors import ServiceError
from local.health_imaging.identifiers import new_identifier
from local.health_imaging.image_sets import ImageSet, VersionProperties
from local.health_imaging.metadata_updates import MetadataUpdate, UpdateRejectedError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from local.health_imaging.datastores import DataStores
    from local.health_imaging.events import Events


@dataclass(frozen=True, slots=True)
class Copied:
    """The source and the destination after a copy."""

    source: ImageSet
    destination: ImageSet


class ImageSetChanges:
    """Updates, reverts and copies image sets.

    Parameters
    ----------
    stores : DataStores
        Holds the image sets.
    events : Events
        Sends the events of each change.
    """

    def __init__(self, stores: DataStores, events: Events) -> None:
        self._stores = stores
        self._events = events

    def update(
        self,
        datastore_id: str,
        image_set_id: str,
        latest_version: str,
        update: MetadataUpdate,
        *,
        force: bool = False,
        whole_study: bool = False,
    ) -> ImageSet:
        """Update the metadata of an image set.

        An update that does not fit the image set also makes a version: unchanged metadata, the workflow status
        ``UPDATE_FAILED`` and a message.

        Parameters
        ----------
        datastore_id, image_set_id : str
            The image set.
        latest_version : str
            Its latest version, according to the request.
        update : MetadataUpdate
            The changes to its metadata.
        force : bool
            Whether the request says ``force``; the version's properties report it.
        whole_study : bool
            Whether the patient and study attributes of the study's other primary image sets change too: all or none.

        Raises
        ------
        ServiceError
            ConflictException if `latest_version` is not the latest one or the image set is locked.
        """
        with self._stores.lock:
            image_set = self._unchanged(datastore_id, image_set_id, latest_version)
            others = self._other_primary_image_sets(image_set) if whole_study else []
            try:
                metadata = update.applied(image_set.versions[-1], is_primary=image_set.is_primary)
                shared = [update.applied(each.versions[-1], is_primary=True, shared_only=True) for each in others]
            except UpdateRejectedError as error:
                _fail(image_set, "UPDATE_FAILED", str(error), forced=force)
                others = []
            else:
                _commit(image_set, metadata, "UPDATED", forced=force)
                for other, document in zip(others, shared, strict=True):
                    _commit(other, document, "UPDATED", forced=force)
            changed = [replace(each) for each in (image_set, *others)]
        for number, each in enumerate(changed):
            self._announce(each, "UPDATING_FOR_STUDY_CONSISTENCY" if number else "UPDATING", "Image Set Updating")
        return changed[0]

    def revert(self, datastore_id: str, image_set_id: str, latest_version: str, version: str) -> ImageSet:
        """Make a new version of an image set from an earlier one.

        Raises
        ------
        ServiceError
            ConflictException as in `update`; ResourceNotFoundException if there is no such version.
        """
        with self._stores.lock:
            image_set = self._unchanged(datastore_id, image_set_id, latest_version)
            _commit(image_set, copy.deepcopy(image_set.versions[version_number(image_set, version) - 1]), "UPDATED")
            changed = replace(image_set)
        self._announce(changed, "UPDATING", "Image Set Updating")
        return changed

    def copy(
        self,
        datastore_id: str,
        source_id: str,
        source_version: str,
        instances: Collection[str] | None,
        destination: tuple[str, str] | None,
        *,
        force: bool = False,
        promote: bool = False,
    ) -> Copied:
        """Copy an image set, or some of its instances, to a new or an existing image set.

        Frames keep their ids. A copy that does not fit its destination makes a version there: unchanged metadata, the
        workflow status ``COPY_FAILED`` and a message.

        Parameters
        ----------
        datastore_id, source_id : str
            The image set to copy from.
        source_version : str
            Its latest version, according to the request.
        instances : collection of str, optional
            The SOP Instance UIDs to copy; all if None.
        destination : tuple of str, optional
            Id and latest version of the image set to copy into; None for a new image set.
        force : bool
            Whether patient, study and series may differ. The destination keeps its own.
        promote : bool
            Whether the new image set becomes the primary one of its series.

        Raises
        ------
        ServiceError
            ConflictException if a version is not the latest one, an image set is locked, or the promoted image set
            would conflict with a primary one; ValidationException if the source lacks an instance.
        """
        with self._stores.lock:
            source = self._unchanged(datastore_id, source_id, source_version)
            part = _with_instances(source.versions[-1], instances)
            if destination is None:
                target = self._copy_to_new(source, part, promote=promote)
            elif promote or destination[0] == source_id:
                raise ServiceError(
                    "ValidationException", "The destination must be another image set, and must not be promoted"
                )
            else:
                target = self._unchanged(datastore_id, *destination)
                self._copy_into(target, source, part, force=force)
            copied = Copied(replace(source), replace(target))
        self._events.image_set(
            "Image Set Copying With Read Only Access",
            replace(copied.source, state="LOCKED", workflow_status="COPYING_WITH_READ_ONLY_ACCESS"),
        )
        self._announce(copied.destination, "COPYING", "Image Set Copying", copied.source)
        return copied

    def _unchanged(self, datastore_id: str, image_set_id: str, latest_version: str) -> ImageSet:
        image_set = self._stores.image_set(datastore_id, image_set_id)
        if image_set.state == "LOCKED":
            raise ServiceError("ConflictException", "The image set is locked by another change")
        if latest_version != str(image_set.version):
            raise ServiceError("ConflictException", "latestVersionId is not the latest version of the image set")
        return image_set

    def _other_primary_image_sets(self, image_set: ImageSet) -> list[ImageSet]:
        study_uid = _study_uid(image_set)
        return [
            each
            for each in self._stores.get(image_set.datastore_id).image_sets.values()
            if each.is_primary and each.state == "ACTIVE" and each is not image_set and _study_uid(each) == study_uid
        ]

    def _copy_to_new(self, source: ImageSet, part: dict[str, Any], *, promote: bool) -> ImageSet:
        if promote:
            self._check_promotion(source)
        target = ImageSet(new_identifier(), source.datastore_id, dict(source.attributes), is_primary=promote)
        _share_content(target, source, part)
        _commit(target, part, "COPIED")
        self._stores.get(source.datastore_id).image_sets[target.id] = target
        return target

    def _check_promotion(self, source: ImageSet) -> None:
        if source.is_primary:
            raise ServiceError("ValidationException", "The image set is already primary")
        for other in self._other_primary_image_sets(source):
            if _series_uid(other.versions[-1]) == _series_uid(source.versions[-1]):
                raise ServiceError("ConflictException", "The series already has a primary image set")
            if problem := _difference(source.versions[-1], other.versions[-1], levels=("Patient", "Study")):
                raise ServiceError("ConflictException", f"{problem}: the study has other primary image sets")

    def _copy_into(self, target: ImageSet, source: ImageSet, part: dict[str, Any], *, force: bool) -> None:
        metadata = copy.deepcopy(target.versions[-1])
        (series,), (added,) = metadata["Study"]["Series"].values(), part["Study"]["Series"].values()
        difference = _difference(part, metadata)
        if difference and not force:
            _fail(target, "COPY_FAILED", f"INVALID_REQUEST: {difference}", forced=force)
        elif series["Instances"].keys() & added["Instances"].keys():
            problem = "INVALID_REQUEST: SOP Instance UIDs must be unique within an image set"
            _fail(target, "COPY_FAILED", problem, forced=force)
        else:
            series["Instances"] |= added["Instances"]
            _share_content(target, source, part)
            _commit(target, metadata, "COPIED", forced=force)

    def _announce(self, image_set: ImageSet, status: str, detail_type: str, source: ImageSet | None = None) -> None:
        """Send the event for the start of a change, with this status and detail type, and the event for its end."""
        self._events.image_set(detail_type, replace(image_set, state="LOCKED", workflow_status=status), source=source)
        ended = image_set.workflow_status.replace("_", " ").title()
        self._events.image_set(f"Image Set {ended}", image_set)


def version_number(image_set: ImageSet, version: str | None) -> int:
    """Convert a version id to its number; None means the latest version.

    Raises
    ------
    ServiceError
        ResourceNotFoundException if the image set has no such version.
    """
    if version is None:
        return image_set.version
    number = int(version) if len(version) < 10 else 0
    if not 1 <= number <= image_set.version:
        raise ServiceError("ResourceNotFoundException", "There is no such image set version")
    return number


def instances_to_copy(copiable_attributes: str) -> list[str]:
    """Read the SOP Instance UIDs from ``copiableAttributes``.

    AWS's samples put them under the series' UID, the image set's id, or the word "imageSetId". An image set has only
    one series, so the emulator ignores that name.

    Raises
    ------
    ServiceError
        ValidationException if the text has another form or names no instance.
    """
    try:
        all_series = strict_json.loads(copiable_attributes)["Study"]["Series"]
        uids = [uid for series in all_series.values() for uid, _ in series["Instances"].items()]
    except (AttributeError, KeyError, TypeError, ValueError):
        uids = []
    if not uids:
        form = '{"SchemaVersion": "1.1", "Study": {"Series": {uid: {"Instances": {uid: {}}}}}}'
        raise ServiceError("ValidationException", f"copiableAttributes must name instances, in the form {form}")
    return uids


def _commit(image_set: ImageSet, metadata: dict[str, Any], status: str, *, forced: bool = False) -> None:
    (series,) = metadata["Study"]["Series"].values()
    levels = Attributes(metadata["Patient"]["DICOM"], metadata["Study"]["DICOM"], series["DICOM"])
    image_set.attributes = levels.searched
    image_set.add_version(metadata, VersionProperties(status, forced=forced or None))


def _fail(image_set: ImageSet, status: str, message: str, *, forced: bool) -> None:
    properties = VersionProperties(status, message=message, forced=forced or None)
    image_set.add_version(copy.deepcopy(image_set.versions[-1]), properties)


def _study_uid(image_set: ImageSet) -> Any:
    return image_set.versions[-1]["Study"]["DICOM"].get("StudyInstanceUID")


def _series_uid(metadata: Mapping[str, Any]) -> str:
    (uid,) = metadata["Study"]["Series"]
    return str(uid)


def _difference(
    one: Mapping[str, Any], other: Mapping[str, Any], levels: Collection[str] = ("Patient", "Study", "Series")
) -> str | None:
    """The service's message for the first level whose attributes differ; None if there is none."""
    (series,), (other_series,) = one["Study"]["Series"].values(), other["Study"]["Series"].values()
    pairs = {
        "Patient": (one["Patient"]["DICOM"], other["Patient"]["DICOM"]),
        "Study": (one["Study"]["DICOM"], other["Study"]["DICOM"]),
        "Series": (series["DICOM"], other_series["DICOM"]),
    }
    for level in levels:
        if pairs[level][0] != pairs[level][1]:
            return f"{level} of SourceImageSet and DestinationImageSet don't match."
    return None


def _with_instances(metadata: Mapping[str, Any], uids: Collection[str] | None) -> dict[str, Any]:
    part: dict[str, Any] = copy.deepcopy(dict(metadata))
    (series,) = part["Study"]["Series"].values()
    if uids is not None:
        if not set(uids) <= series["Instances"].keys():
            raise ServiceError(
                "ValidationException", "copiableAttributes names instances that the source does not have"
            )
        series["Instances"] = {uid: instance for uid, instance in series["Instances"].items() if uid in set(uids)}
    return part


def _share_content(target: ImageSet, source: ImageSet, part: Mapping[str, Any]) -> None:
    (series,) = part["Study"]["Series"].values()
    for uid, instance in series["Instances"].items():
        if uid in source.files:
            target.files[uid] = source.files[uid]
        for entry in instance["ImageFrames"]:
            target.frames[entry["ID"]] = source.frames[entry["ID"]]
