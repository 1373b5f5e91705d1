"""Answers to HTTP requests, before they are sent."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True)
class Body:
    """A body in pieces; ``size_bytes`` None means that its length is not announced."""

    pieces: Iterable[bytes | memoryview]
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: status, body, and headers by name."""

    status: int
    body: Body
    headers: Mapping[str, str] = field(default_factory=dict)


def json_answer(document: dict[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer with a JSON document."""
    content = json.dumps(document).encode()
    return Answer(status, Body([content], len(content)), {"Content-Type": "application/json", **(headers or {})})
