"""Reads chosen DICOM attributes of each instance from the metadata of an image set, as a stream and within bounds."""

from __future__ import annotations

from collections import ChainMap
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

MAX_VALUES = 2_000_000
"""Maximum number of values of an instance that are kept; further values are dropped. 50,000 frames with position,
orientation and spacing have 550,000."""

MAX_TEXT_CHARS = 1024
"""Maximum length of a text that is kept; a longer one counts as absent. A name (VR PN) has up to 320."""

SHARED_GROUPS, FRAME_GROUPS = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
"""The functional groups of all frames, and those of each frame (DICOM PS3.3, section C.7.6.16)."""


@dataclass(slots=True)
class InstanceAttributes:
    """The chosen attributes of an instance.

    Attributes
    ----------
    own : mapping
        The attributes of the instance, of its series, its study and the patient, by keyword.
    groups : mapping
        The functional groups that all frames share, by keyword of their sequence.
    frame_groups : sequence of mapping
        The functional groups of each frame; empty if the instance has none.
    """

    own: Mapping[str, Any]
    groups: Mapping[str, Any] = field(default_factory=dict)
    frame_groups: Sequence[Mapping[str, Any]] = ()


class AttributeReader:
    """Collects attributes from the events of the JSON parser. Values of any form are kept as they are.

    Parameters
    ----------
    keywords : collection of str
        The attributes to keep.
    groups : collection of str
        The functional groups to keep them from.

    Examples
    --------
    >>> from framegate.healthimaging.image_set_metadata import contents_of
    >>> instance = b'{"1.2.3": {"DICOM": {"Rows": 512, "Columns": 256}, "ImageFrames": []}}'
    >>> series = b'{"1.2": {"DICOM": {"Modality": "CT"}, "Instances": ' + instance + b"}}"
    >>> reader = AttributeReader({"Rows", "Modality"}, ())
    >>> _ = contents_of([b'{"Study": {"Series": ' + series + b"}}"], reader.take)
    >>> dict(reader.attributes_of("1.2", "1.2.3").own)
    {'Modality': 'CT', 'Rows': 512}

    References
    ----------
    AWS HealthImaging developer guide, "Getting image set metadata".
    """

    def __init__(self, keywords: Collection[str], groups: Collection[str]) -> None:
        self._kept = {*keywords, *groups, SHARED_GROUPS, FRAME_GROUPS}
        self._path: list[str | None] = []
        self._open: list[dict[str, Any] | list[Any]] = []
        self._member = ""
        self._skipped_depth = 0
        self._value_count = 0
        self._levels: dict[tuple[str, ...], dict[str, Any]] = {}
        self._texts: dict[str, str] = {}

    def take(self, events: Iterable[tuple[str, Any]]) -> None:
        """Take events of the parser, in order."""
        for event, value in events:
            if event == "map_key":
                self._take_name(value)
            elif event in ("start_map", "start_array"):
                self._start(is_object=event == "start_map")
            elif event in ("end_map", "end_array"):
                self._end()
            elif self._open and not self._skipped_depth:
                self._take_value(value)

    def attributes_of(self, series_instance_uid: str, sop_instance_uid: str) -> InstanceAttributes:
        """Return the attributes of an instance; none if the metadata does not list it."""
        levels = [
            ("instance", series_instance_uid, sop_instance_uid),
            ("series", series_instance_uid),
            ("study",),
            ("patient",),
        ]
        instance, *above = [self._levels.get(level, {}) for level in levels]
        shared = _items(instance.get(SHARED_GROUPS))
        return InstanceAttributes(
            ChainMap(instance, *above), shared[0] if shared else {}, _items(instance.get(FRAME_GROUPS))
        )

    def _take_name(self, name: str) -> None:
        if self._open:
            self._member = name
        elif not self._skipped_depth:
            self._path[-1] = name

    def _start(self, *, is_object: bool) -> None:
        if self._skipped_depth:
            self._skipped_depth += 1
        elif self._open:
            self._start_value(is_object=is_object)
        elif is_object and (level := self._level()):
            self._value_count = 0
            self._open.append(self._levels.setdefault(level, {}))
        elif is_object and (not self._path or self._is_above_levels()):
            self._path.append(None)
        else:
            self._skipped_depth = 1

    def _start_value(self, *, is_object: bool) -> None:
        """Keep an object or array within the attributes, or skip it."""
        parent = self._open[-1]
        content: dict[str, Any] | list[Any] = {} if is_object else []
        if isinstance(parent, dict) and not is_object and self._member in self._kept:
            parent[self._member] = content
        elif isinstance(parent, list) and is_object and self._count():
            parent.append(content)
        else:
            self._skipped_depth = 1
            return
        self._open.append(content)

    def _end(self) -> None:
        if self._skipped_depth:
            self._skipped_depth -= 1
        elif self._open:
            self._open.pop()
        elif self._path:
            self._path.pop()

    def _take_value(self, value: Any) -> None:
        parent = self._open[-1]
        if isinstance(value, str):
            value = None if len(value) > MAX_TEXT_CHARS else self._texts.setdefault(value, value)
        elif isinstance(value, Decimal):
            value = float(value)
        if isinstance(parent, list):
            if self._count():
                parent.append(value)
        elif self._member in self._kept:
            parent[self._member] = value

    def _count(self) -> bool:
        self._value_count += 1
        return self._value_count <= MAX_VALUES

    def _level(self) -> tuple[str, ...] | None:
        """Return which level's attributes begin here; None if none do."""
        match self._path:
            case ["Patient", "DICOM"]:
                return ("patient",)
            case ["Study", "DICOM"]:
                return ("study",)
            case ["Study", "Series", str(series_uid), "DICOM"]:
                return "series", series_uid
            case ["Study", "Series", str(series_uid), "Instances", str(uid), "DICOM"]:
                return "instance", series_uid, uid
        return None

    def _is_above_levels(self) -> bool:
        """Whether attributes may be in the object that begins here."""
        match self._path:
            case ["Patient" | "Study"] | ["Study", "Series"] | ["Study", "Series", _]:
                return True
            case ["Study", "Series", _, "Instances"] | ["Study", "Series", _, "Instances", _]:
                return True
        return False


def _items(sequence: Any) -> list[Mapping[str, Any]]:
    """Return the items of a sequence; none if the value is not one."""
    if not isinstance(sequence, list) or not all(isinstance(item, dict) for item in sequence):
        return []
    return sequence
