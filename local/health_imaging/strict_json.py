"""Reads strict JSON (RFC 8259): no NaN, no infinities, limited nesting."""

from __future__ import annotations

import json
import math
from typing import Any

MAX_DEPTH = 100
"""Deepest nesting of objects and arrays. The service's own documents have fewer than twenty levels."""


def loads(content: bytes | str) -> Any:
    """Read a JSON document.

    Raises
    ------
    ValueError
        If it is not JSON, is nested deeper than `MAX_DEPTH`, or has a number that does not fit a double.
    """
    try:
        document = json.loads(content, parse_constant=_refuse, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("The document is nested too deeply") from error
    level = [document]
    for _ in range(MAX_DEPTH):
        level = [child for each in level for child in _children(each)]
    if level:
        raise ValueError("The document is nested too deeply")
    return document


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} does not fit a double")
    return number
