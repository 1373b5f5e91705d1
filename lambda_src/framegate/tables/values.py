"""Converts attributes of image set metadata to values of columns. A value that does not fit its column becomes null."""

from __future__ import annotations

import math
import re
from datetime import date
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from framegate.table_schema import Column

MAX_ARRAY_VALUES = 128
"""Maximum number of values of an array column; a longer list counts as malformed. Windows and kernels have a few."""

_INTEGER_BITS = {"int": 32, "bigint": 64}
# DICOM PS3.5, section 6.2: a date, and the form that versions before 3.0 used.
_DATE = re.compile(r"(\d{4})(?:(\d{2})(\d{2})|\.(\d{2})\.(\d{2}))", re.ASCII)


def value_of(column: Column, attributes: Mapping[str, Any]) -> Any:
    """Return a column's value from attributes by keyword; None if it is missing or malformed.

    Examples
    --------
    >>> from framegate.table_schema import Column
    >>> spacing = Column("pixel_spacing_column_mm", "double", "", "PixelSpacing", 1)
    >>> value_of(spacing, {"PixelSpacing": [0.5, "0.75"]}), value_of(spacing, {"PixelSpacing": ["wide"]})
    (0.75, None)
    """
    raw = attributes.get(column.keyword or "")
    values = raw if isinstance(raw, list) else [raw]
    if not column.type.startswith("array"):
        index = column.value or 0
        return _CONVERSIONS[column.type](values[index]) if index < len(values) else None
    if len(values) > MAX_ARRAY_VALUES or (column.length is not None and len(values) != column.length):
        return None
    converted = [_CONVERSIONS[column.type[6:-1]](value) for value in values]
    return None if not converted or None in converted else converted


def _text(value: Any) -> str | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    return value.strip(" \0") or None if isinstance(value, str) else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _integer(bits: int) -> Callable[[Any], int | None]:
    def convert(value: Any) -> int | None:
        if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d{1,20}\s*", value, re.ASCII):
            value = int(value)
        number = _number(value)
        if number is None or not number.is_integer():
            return None
        whole = value if isinstance(value, int) else int(number)
        return whole if -(1 << (bits - 1)) <= whole < 1 << (bits - 1) else None

    return convert


def _flag(value: Any) -> bool | None:
    number = _number(value)
    return bool(number) if number in (0, 1) else None


def _date(value: Any) -> date | None:
    match = _DATE.fullmatch(value.strip(" \0")) if isinstance(value, str) else None
    if match is None:
        return None
    try:
        return date(*(int(part) for part in match.groups() if part is not None))
    except ValueError:
        return None


_CONVERSIONS: Mapping[str, Callable[[Any], Any]] = {
    "string": _text,
    "double": _number,
    "boolean": _flag,
    "date": _date,
    **{name: _integer(bits) for name, bits in _INTEGER_BITS.items()},
}
