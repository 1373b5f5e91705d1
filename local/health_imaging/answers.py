"""Holds HTTP responses before the server sends them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True)
class Body:
    """A response body in pieces. It is sent chunked if ``size_bytes`` is None."""

    pieces: Iterable[bytes | memoryview]
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class Answer:
    """A response: status, body, and headers by name."""

    status: int
    body: Body
    headers: Mapping[str, str] = field(default_factory=dict)


def json_answer(document: dict[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Make a response with a JSON document."""
    content = json.dumps(document).encode()
    return Answer(status, Body([content], len(content)), {"Content-Type": "application/json", **(headers or {})})
