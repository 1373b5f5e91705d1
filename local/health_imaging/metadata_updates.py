"""Updates image set metadata: sets attributes, removes attributes, removes instances.

The rules are in the developer guide, "DICOM metadata constraints" and "Updating image set metadata".
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydicom import config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.valuerep import validate_value

from local.health_imaging import strict_json
from local.health_imaging.attributes import level_of
from local.health_imaging.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Level = Literal["Patient", "Study", "Series", "Instance"]

_GENERATED = {
    "SchemaVersion",
    "DatastoreID",
    "ImageSetID",
    "PixelData",
    "Checksum",
    "Width",
    "Height",
    "MinPixelValue",
    "MaxPixelValue",
    "FrameSizeInBytes",
}
"""Members that HealthImaging generates, which no request can change."""

_UIDS = {"StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"}
_NEEDS_FORCE = {*_UIDS, "StudyID"}
_PRIVATE_TAG = re.compile(r"[0-9A-Fa-f]{3}[13579BDFbdf][0-9A-Fa-f]{4}")
_INTEGER_BITS = {"US": (0, 16), "SS": (1, 16), "UL": (0, 32), "SL": (1, 32), "UV": (0, 64), "SV": (1, 64)}


class UpdateRejectedError(Exception):
    """An update does not fit the image set. The message goes into the ``message`` of the failed version."""


@dataclass(frozen=True, slots=True)
class _Change:
    """A change to one element of the metadata: patient, study, series or instance."""

    level: Level
    series_uid: str | None
    instance_uid: str | None
    attributes: Mapping[str, Any]
    vrs: Mapping[str, Any]
    is_whole_element: bool = False

    def target(self, metadata: dict[str, Any]) -> dict[str, Any]:
        """Find the element to change.

        Raises
        ------
        UpdateRejectedError
            If the metadata has no such series or instance.
        """
        element: dict[str, Any] | None = metadata["Patient" if self.level == "Patient" else "Study"]
        if element is not None and self.series_uid is not None:
            element = element["Series"].get(self.series_uid)
            if element is None:
                raise UpdateRejectedError("INVALID_REQUEST: The image set has no such series")
            if self.instance_uid is not None:
                element = element["Instances"].get(self.instance_uid)
        if element is None:
            raise UpdateRejectedError("INVALID_REQUEST: The image set has no such SOP instance")
        return element


class MetadataUpdate:
    """The ``DICOMUpdates`` of a request.

    Parameters
    ----------
    updatable, removable : bytes or None
        ``updatableAttributes`` and ``removableAttributes``: JSON documents in the form of the metadata.
    force : bool
        Whether the request has ``force``, which lifts some constraints.

    Raises
    ------
    ServiceError
        ValidationException if a document is malformed or the update is never allowed.
    """

    def __init__(self, updatable: bytes | None, removable: bytes | None, *, force: bool) -> None:
        self._updates = list(_changes(updatable, "updatableAttributes"))
        self._removals = list(_changes(removable, "removableAttributes"))
        if not self._updates and not self._removals:
            raise ServiceError("ValidationException", "DICOMUpdates must name an attribute or an instance")
        for change in (*self._updates, *self._removals):
            for keyword in change.attributes:
                _check_keyword(keyword, change.level, force=force)
        for change in self._updates:
            if change.is_whole_element:
                raise ServiceError("ValidationException", "updatableAttributes must name attributes")
            for keyword, value in change.attributes.items():
                if keyword in _UIDS and not (value and _fits_vr(value, "UI")):
                    raise ServiceError("ValidationException", f"{keyword} must be a UID")
                if not force:
                    _check_value(keyword, value)
        if any(_UIDS & change.attributes.keys() for change in self._removals):
            raise ServiceError("ValidationException", "UIDs cannot be removed")

    def applied(self, metadata: Mapping[str, Any], *, is_primary: bool, shared_only: bool = False) -> dict[str, Any]:
        """Return an updated copy of the metadata.

        Parameters
        ----------
        metadata : mapping
            The metadata of a version.
        is_primary : bool
            Whether the image set is primary. Its UIDs cannot be changed, even with ``force``.
        shared_only : bool
            Whether only the patient and study levels are updated, which all image sets of a study share.

        Raises
        ------
        UpdateRejectedError
            If the update does not fit this image set.
        """
        if is_primary and any(_UIDS & change.attributes.keys() for change in self._updates):
            raise UpdateRejectedError("INVALID_REQUEST: UIDs of a primary image set cannot be updated")
        changed: dict[str, Any] = copy.deepcopy(dict(metadata))
        for change in self._removals:
            if not shared_only or change.level in ("Patient", "Study"):
                _remove(changed, change)
        for change in self._updates:
            if not shared_only or change.level in ("Patient", "Study"):
                element = change.target(changed)
                element["DICOM"].update(change.attributes)
                if change.vrs:
                    element.setdefault("DICOMVRs", {}).update(change.vrs)
        _rekey_by_uid(changed)
        return changed


def _changes(content: bytes | None, name: str) -> Iterator[_Change]:
    if content is None:
        return
    try:
        document = strict_json.loads(content)
    except ValueError:
        document = None
    document = _object(document, name)
    _check_members(document, {"SchemaVersion", "Patient", "Study"}, name)
    levels: tuple[Level, ...] = ("Patient", "Study")
    for level in levels:
        if level in document:
            element = _object(document[level], f"{name}.{level}")
            _check_members(element, {"DICOM", "DICOMVRs", *(["Series"] if level == "Study" else [])}, level)
            yield from _attributes(element, level, None, None)
    for series_uid, series in _object(document.get("Study", {}).get("Series", {}), "Series").items():
        _check_members(_object(series, "a series"), {"DICOM", "DICOMVRs", "Instances"}, "Series")
        if not series:
            yield _Change("Series", series_uid, None, {}, {}, is_whole_element=True)
        yield from _attributes(series, "Series", series_uid, None)
        for instance_uid, instance in _object(series.get("Instances", {}), "Instances").items():
            _check_members(_object(instance, "an instance"), {"DICOM", "DICOMVRs"}, "Instances")
            if not instance:
                yield _Change("Instance", series_uid, instance_uid, {}, {}, is_whole_element=True)
            yield from _attributes(instance, "Instance", series_uid, instance_uid)


def _attributes(
    element: dict[str, Any], level: Level, series_uid: str | None, instance_uid: str | None
) -> Iterator[_Change]:
    attributes, vrs = _object(element.get("DICOM", {}), "DICOM"), _object(element.get("DICOMVRs", {}), "DICOMVRs")
    if attributes:
        yield _Change(level, series_uid, instance_uid, attributes, vrs)


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ServiceError("ValidationException", f"{what} must be a JSON object")
    return value


def _check_members(element: dict[str, Any], known: set[str], what: str) -> None:
    if unknown := sorted(set(element) - known):
        raise ServiceError("ValidationException", f"{what} has members that cannot be updated: {', '.join(unknown)}")


def _check_keyword(keyword: str, level: Level, *, force: bool) -> None:
    if keyword in _GENERATED:
        raise ServiceError("ValidationException", f"{keyword} cannot be updated")
    if _PRIVATE_TAG.fullmatch(keyword):
        if level != "Instance" or not force:
            raise ServiceError("ValidationException", "Private attributes need force, and belong to instances")
        return
    if keyword in _NEEDS_FORCE and not force:
        raise ServiceError("ValidationException", f"{keyword} cannot be updated without force")
    if tag_for_keyword(keyword) is None and not force:
        raise ServiceError("ValidationException", f"{keyword} is not an attribute of the DICOM standard")
    if tag_for_keyword(keyword) is not None and level != level_of(keyword):
        raise ServiceError("ValidationException", f"{keyword} belongs to the level {level_of(keyword)}, not {level}")


def _check_value(keyword: str, value: Any) -> None:
    """Reject values that need ``force``: sequences, multiple values, and values that do not fit the VR."""
    vr = dictionary_VR(tag_for_keyword(keyword) or 0)
    if vr == "SQ" or isinstance(value, list | dict):
        raise ServiceError("ValidationException", f"{keyword} has nested or multiple values, which need force")
    if not any(_fits_vr(value, each) for each in vr.split(" or ")):
        raise ServiceError("ValidationException", f"The value of {keyword} does not fit its VR, {vr}")


def _fits_vr(value: Any, vr: str) -> bool:
    if value is None:
        return True
    if isinstance(value, bool):
        return False
    if vr in _INTEGER_BITS:
        is_signed, bits = _INTEGER_BITS[vr]
        low = -(1 << (bits - 1)) if is_signed else 0
        return isinstance(value, int) and low <= value < low + (1 << bits)
    if vr in ("FL", "FD"):
        return isinstance(value, int | float)
    if vr in ("DS", "IS") and isinstance(value, int | float):
        return vr == "DS" or isinstance(value, int)
    if not isinstance(value, str):
        return False
    try:
        validate_value(vr, value, config.RAISE)
    except ValueError:
        return False
    return True


def _remove(metadata: dict[str, Any], change: _Change) -> None:
    element = change.target(metadata)
    for keyword in change.attributes:
        element["DICOM"].pop(keyword, None)
        element.get("DICOMVRs", {}).pop(keyword, None)
    if change.is_whole_element and change.level == "Series":
        raise UpdateRejectedError("INVALID_REQUEST: The series of an image set cannot be removed")
    if change.is_whole_element:
        del metadata["Study"]["Series"][change.series_uid]["Instances"][change.instance_uid]


def _rekey_by_uid(metadata: dict[str, Any]) -> None:
    """Make the keys of series and instances equal to their current UIDs."""
    all_series = metadata["Study"]["Series"]
    for series in all_series.values():
        series["Instances"] = _rekeyed(series["Instances"], "SOPInstanceUID")
    metadata["Study"]["Series"] = _rekeyed(all_series, "SeriesInstanceUID")


def _rekeyed(elements: dict[str, Any], keyword: str) -> dict[str, Any]:
    rekeyed = {str(element["DICOM"].get(keyword, uid)): element for uid, element in elements.items()}
    if len(rekeyed) < len(elements):
        raise UpdateRejectedError(f"INVALID_REQUEST: {keyword} must be unique within the image set")
    return rekeyed
