"""Reads chosen attributes from DICOM JSON, as a stream and within bounds."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from framegate.healthimaging.image_set_metadata import MetadataError, check_depth, events_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

MAX_VALUES = 2_000_000
"""Maximum number of values that are kept of an instance. 50,000 frames with a window each have 100,000."""


@dataclass(slots=True)
class _Open:
    """An object or array that is kept: a dataset, an element, or the values of an element."""

    content: dict[str, Any] | list[Any]
    is_element: bool = False
    member: str = ""


def instances_of(document: Iterable[bytes], tags: Collection[str]) -> Iterator[dict[str, Any]]:
    """Yield the instances of a series, with some of their attributes.

    Memory is bounded by what is kept of one instance.

    Parameters
    ----------
    document : iterable of bytes
        An array of datasets in the DICOM JSON model, in pieces of any size.
    tags : collection of str
        The attributes to keep, at every level, with sequences that contain them.

    Raises
    ------
    MetadataError
        If the document is not JSON or is truncated, is not an array, or exceeds a bound.

    References
    ----------
    DICOM PS3.18, section F.2.

    Examples
    --------
    >>> document = b'[{"00100010": {"vr": "PN", "Value": ["A"]}, "00280010": {"vr": "US", "Value": [512]}}]'
    >>> list(instances_of([document], {"00280010"}))
    [{'00280010': {'Value': [512]}}]
    """
    reader = _Reader(tags)
    for events in events_of(document):
        for event, value in events:
            instance = reader.take(event, value)
            if instance is not None:
                yield instance


class _Reader:
    def __init__(self, tags: Collection[str]) -> None:
        self._tags = tags
        self._path: list[_Open] = []
        self._is_open = False
        self._skipped_depth = 0
        self._values = 0

    def take(self, event: str, value: Any) -> dict[str, Any] | None:
        """Take an event of the parser; return an instance at its end."""
        if event in ("start_map", "start_array"):
            self._start(is_object=event == "start_map")
        elif event in ("end_map", "end_array"):
            return self._end()
        elif self._skipped_depth or not self._path:
            if not self._is_open:
                raise MetadataError("is not an array")
        elif event == "map_key":
            self._path[-1].member = value
        else:
            self._take_value(value)
        return None

    def _start(self, *, is_object: bool) -> None:
        if self._skipped_depth:
            self._skipped_depth += 1
            check_depth(self._skipped_depth + len(self._path))
            return
        if not self._is_open:
            if is_object:
                raise MetadataError("is not an array")
            self._is_open = True
            return
        check_depth(len(self._path))
        started = self._started(is_object=is_object)
        if started is None:
            self._skipped_depth = 1
        else:
            self._path.append(started)

    def _started(self, *, is_object: bool) -> _Open | None:
        """Return what an object or array is, in its parent; None if it is not kept."""
        parent = self._path[-1] if self._path else None
        if parent is None:
            return _Open({}) if is_object else None
        content = parent.content
        if isinstance(content, list):
            if not is_object:
                return None
            self._count()
            content.append({})
            return _Open(content[-1])
        if parent.is_element:
            if is_object or parent.member != "Value":
                return None
            values: list[Any] = []
            content["Value"] = values
            return _Open(values)
        if not is_object or parent.member not in self._tags:
            return None
        element: dict[str, Any] = {}
        content[parent.member] = element
        return _Open(element, is_element=True)

    def _end(self) -> dict[str, Any] | None:
        if self._skipped_depth:
            self._skipped_depth -= 1
            return None
        if not self._path:
            return None
        ended = self._path.pop()
        if self._path or not isinstance(ended.content, dict):
            return None
        self._values = 0
        return ended.content

    def _take_value(self, value: Any) -> None:
        parent = self._path[-1]
        if isinstance(parent.content, list):
            self._count()
            parent.content.append(float(value) if isinstance(value, Decimal) else value)
        elif parent.is_element and parent.member == "InlineBinary" and isinstance(value, str):
            parent.content["InlineBinary"] = value

    def _count(self) -> None:
        self._values += 1
        if self._values > MAX_VALUES:
            raise MetadataError(f"has an instance with more than {MAX_VALUES:,} values")
