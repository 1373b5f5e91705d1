"""Converts DICOM attributes to image set metadata: JSON values at the patient, study, series and instance level."""

from __future__ import annotations

import math
import re
from collections.abc import MutableSequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydicom.charset import python_encoding
from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import RawDataElement
from pydicom.valuerep import MAX_VALUE_LEN, VR

from local.health_imaging.import_warnings import InstanceWarning, WarningReason

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydicom import Dataset
    from pydicom.tag import BaseTag

STUDY_UID, SERIES_UID = "DICOMStudyInstanceUID", "DICOMSeriesInstanceUID"

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
_SEARCHED = {
    "DICOMPatientId": "PatientID",
    "DICOMPatientName": "PatientName",
    "DICOMPatientBirthDate": "PatientBirthDate",
    "DICOMPatientSex": "PatientSex",
    STUDY_UID: "StudyInstanceUID",
    "DICOMStudyDate": "StudyDate",
    "DICOMStudyTime": "StudyTime",
    "DICOMStudyId": "StudyID",
    "DICOMStudyDescription": "StudyDescription",
    "DICOMAccessionNumber": "AccessionNumber",
    SERIES_UID: "SeriesInstanceUID",
    "DICOMSeriesModality": "Modality",
}
"""The keyword of each attribute that SearchImageSets returns, by its name there."""

_UIDS = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")

_BINARY = {VR.OB, VR.OD, VR.OF, VR.OL, VR.OV, VR.OW, VR.UN, VR.OB_OW, VR.US_OW, VR.US_SS_OW}
_BYTES_PER_VALUE = {"AT": 4, "FD": 8, "FL": 4, "SL": 4, "SS": 2, "SV": 8, "UL": 4, "US": 2, "UV": 8}
_KNOWN_VRS = {str(each) for each in VR}
_NOT_READABLE_AS = {
    "DS": "is not a decimal number",
    "IS": "is not a whole number",
    "SQ": "is not a sequence of items",
}
_NUMBERS_AS_TEXT = {VR.DS, VR.IS}
_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*")
_UNDEFINED_LENGTH = 0xFFFFFFFF
_MAX_JSON_INTEGER = (1 << 63) - 1
_MAX_SEQUENCE_DEPTH = 100
"""Deepest nesting of sequences. Real files have fewer than ten levels, and JSON parsers have limits too."""

_CHARACTER_SETS = {re.sub(r"[ _-]", "", name) for name in python_encoding}


class UnreadableAttributeError(ValueError):
    """An attribute of a file cannot be read; the message names the attribute and the problem."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"DICOM attribute {name} {problem}")


@dataclass(frozen=True, slots=True)
class Attributes:
    """The attributes of an instance by level and keyword, and warnings about their values."""

    patient: dict[str, Any] = field(default_factory=dict)
    study: dict[str, Any] = field(default_factory=dict)
    series: dict[str, Any] = field(default_factory=dict)
    instance: dict[str, Any] = field(default_factory=dict)
    warnings: list[InstanceWarning] = field(default_factory=list)

    @property
    def all_levels(self) -> dict[str, Any]:
        """The attributes of all levels, by keyword."""
        return self.patient | self.study | self.series | self.instance

    @property
    def searched(self) -> dict[str, str]:
        """The ``DICOMTags`` that SearchImageSets returns for an image set with these attributes."""
        return search_attributes(self.patient | self.study | self.series)


def read_attributes(dataset: Dataset) -> Attributes:
    """Read every public attribute of an instance, except binary ones.

    Numbers, text and sequences become their JSON types. NaN and the infinities become the strings "NaN", "Infinity"
    and "-Infinity", as in AWS's protocols (Smithy, "JSON protocols"), because DICOM's JSON model defines no form for
    them (PS3.18, section F.2.3). A tag (VR AT) becomes eight hexadecimal digits (same section).

    Raises
    ------
    UnreadableAttributeError
        If an attribute cannot be read, or one of the UIDs of instance, study and series is missing.
    """
    reader = _Reader()
    attributes = Attributes(warnings=reader.warnings)
    levels = {
        "Patient": attributes.patient,
        "Study": attributes.study,
        "Series": attributes.series,
        "Instance": attributes.instance,
    }
    for keyword, value in reader.read(dataset):
        levels[level_of(keyword)][keyword] = value
    known = attributes.study | attributes.series | attributes.instance
    for keyword in _UIDS:
        if not known.get(keyword):
            raise UnreadableAttributeError(keyword, "does not exist")
        if not isinstance(known[keyword], str):
            raise UnreadableAttributeError(keyword, "must have one value")
    return attributes


def level_of(keyword: str) -> Literal["Patient", "Study", "Series", "Instance"]:
    """The level of the metadata that holds an attribute."""
    if keyword in _PATIENT:
        return "Patient"
    if keyword in _STUDY:
        return "Study"
    return "Series" if keyword in _SERIES else "Instance"


def search_attributes(attributes: Mapping[str, Any]) -> dict[str, str]:
    """The ``DICOMTags`` of SearchImageSets, from the attributes of all levels by keyword."""
    return {name: _text(attributes[keyword]) for name, keyword in _SEARCHED.items() if attributes.get(keyword)}


def name_of(tag: BaseTag) -> str:
    """The attribute's name in messages: its keyword, if it has one, and its tag."""
    return f"{keyword_for_tag(tag)} ({tag.group:04X},{tag.element:04X})".lstrip()


class _Reader:
    """Reads attributes, and collects warnings about readable values that do not conform to DICOM."""

    def __init__(self) -> None:
        self.warnings: list[InstanceWarning] = []

    def read(self, dataset: Dataset, path: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
        for tag in sorted(dataset.keys()):
            # Private attributes have no keyword and are not part of the metadata.
            if keyword := keyword_for_tag(tag):
                name = path + name_of(tag)
                if (value := self._value(dataset, tag, name, depth)) is not _OMITTED:
                    yield keyword, value

    def _value(self, dataset: Dataset, tag: BaseTag, name: str, depth: int) -> Any:
        vr: str | None = None
        try:
            raw = dataset.get_item(tag)
            if isinstance(raw, RawDataElement):
                vr = raw.VR
                _check_length(raw, name)
            element = dataset[tag]
            vr, value = element.VR, element.value
            if vr in _BINARY:
                return _OMITTED
            if vr == VR.SQ:
                return self._items(value, name, depth)
            several = isinstance(value, MutableSequence)
            plain: Any = [_plain(each, vr) for each in value] if several else _plain(value, vr)
            if vr in _NUMBERS_AS_TEXT and any(
                isinstance(each, str) and each for each in (value if several else [value])
            ):
                raise ValueError("pydicom returned text that is not a number")
        except UnreadableAttributeError:
            raise
        except Exception as error:
            raise UnreadableAttributeError(name, _problem(vr)) from error
        self._check(name, vr, plain)
        return plain

    def _items(self, items: Any, name: str, depth: int) -> list[dict[str, Any]]:
        if depth == _MAX_SEQUENCE_DEPTH:
            raise UnreadableAttributeError(name, f"is nested in more than {_MAX_SEQUENCE_DEPTH} sequences")
        return [dict(self.read(item, f"{name}[{index}].", depth + 1)) for index, item in enumerate(items)]

    def _check(self, name: str, vr: str, plain: Any) -> None:
        texts = [each for each in (plain if isinstance(plain, list) else [plain]) if isinstance(each, str)]
        for text in texts:
            if not text.isascii():
                _check_unicode(name, text)
                if "\N{REPLACEMENT CHARACTER}" in text:
                    self._warn(WarningReason.COERCION_OF_DATA_ELEMENTS, name, "has bytes outside its character set")
            if vr == VR.UI and text and not _UID.fullmatch(text):
                self._warn(WarningReason.INVALID_UID_FORMAT, name, "is not a valid UID")
            if len(text) > MAX_VALUE_LEN.get(vr, len(text)):
                problem = f"has {len(text)} characters; VR {vr} allows {MAX_VALUE_LEN[vr]}"
                self._warn(WarningReason.INVALID_DICOM_VALUE_LENGTH, name, problem)
        if name.endswith("SpecificCharacterSet (0008,0005)"):
            for text in texts:
                if re.sub(r"[ _-]", "", text) not in _CHARACTER_SETS:
                    raise UnreadableAttributeError(name, "is not a character set that DICOM defines")

    def _warn(self, reason: WarningReason, name: str, problem: str) -> None:
        self.warnings.append(InstanceWarning(reason, f"DICOM attribute {name} {problem}"))


_OMITTED = object()


def _check_length(raw: RawDataElement, name: str) -> None:
    """Check that a value is complete, and that its length is a multiple of its VR's size."""
    if raw.length == _UNDEFINED_LENGTH or raw.value is None:
        return
    if len(raw.value) != raw.length:
        raise UnreadableAttributeError(name, f"is cut off: it should have {raw.length} bytes, and has {len(raw.value)}")
    size = _BYTES_PER_VALUE.get(raw.VR or "", 1)
    if raw.length % size:
        raise UnreadableAttributeError(name, f"has {raw.length} bytes; a value of VR {raw.VR} takes {size}")


def _check_unicode(name: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UnreadableAttributeError(name, "has text that is not valid in its character set") from error


def _problem(vr: str | None) -> str:
    if vr is not None and vr not in _KNOWN_VRS:
        return f"has the value representation {vr!r}, which DICOM does not define"
    return _NOT_READABLE_AS.get(vr or "", f"cannot be read as VR {vr}" if vr else "cannot be read")


def _plain(value: Any, vr: str) -> Any:
    """Convert a single value to its JSON type."""
    if value is None:
        return None
    if isinstance(value, bytes):
        raise TypeError("The value is binary")
    if vr == VR.AT:
        return f"{int(value):08X}"
    if isinstance(value, int):
        # PS3.18, section F.2.3: a string may hold what a JSON number would lose.
        return int(value) if abs(value) <= _MAX_JSON_INTEGER else str(value)
    if isinstance(value, float):
        is_too_large = vr == VR.IS and abs(value) > _MAX_JSON_INTEGER
        return float(value) if math.isfinite(value) and not is_too_large else _number_as_text(value)
    return str(value)


def _number_as_text(value: float) -> str:
    # Text such as "1E400" may exceed the precision or the range of a float.
    original = str(getattr(value, "original_string", "")).strip()
    if any(character.isdecimal() for character in original):
        return original
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _text(value: Any) -> str:
    return "\\".join(map(str, value)) if isinstance(value, list) else str(value)
