"""Reads the media ranges of an Accept header, as DICOMweb uses them (RFC 9110, section 12.5.1; PS3.18, section 8.7)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MULTIPART = "multipart/related"

_PARAMETER = re.compile(r"""\s*([^=\s]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s"]*))\s*""")
_WEIGHT = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?")


@dataclass(frozen=True, slots=True)
class MediaRange:
    """A media range: its type in lower case, its parameters without quotes, and its weight ``q``."""

    media_type: str
    parameters: Mapping[str, str]
    weight: float = 1.0

    @property
    def is_multipart(self) -> bool:
        """Whether it asks for a multipart response."""
        return self.media_type == MULTIPART

    @property
    def content_type(self) -> str:
        """The type of the content: that of the parts for a multipart response."""
        if self.is_multipart:
            return self.parameters.get("type", "application/octet-stream").lower()
        return self.media_type

    @property
    def transfer_syntax(self) -> str | None:
        """The transfer syntax UID or ``*``; None if there is none."""
        return self.parameters.get("transfer-syntax")

    def includes(self, media_type: str) -> bool:
        """Whether the type of the content is this type, or a wildcard for it."""
        return self.content_type in (media_type, f"{media_type.partition('/')[0]}/*", "*/*")


def parse_accept(accept: str | None) -> list[MediaRange]:
    """The acceptable media ranges of a header, the preferred ones first. A missing header means ``*/*``.

    Elements that are not a media range, and those with the weight 0, are left out.
    """
    if not (accept or "").strip():
        return [MediaRange("*/*", {})]
    ranges = [each for text in _split(accept or "", ",") if (each := _media_range(text)) is not None]
    return sorted((each for each in ranges if each.weight > 0), key=lambda each: -each.weight)


def _media_range(text: str) -> MediaRange | None:
    media_type, *rest = _split(text, ";")
    media_type = media_type.strip().lower()
    if not re.fullmatch(r"[^\s/]+/[^\s/]+", media_type):
        return None
    parameters: dict[str, str] = {}
    for each in rest:
        if match := _PARAMETER.fullmatch(each):
            name, quoted, plain = match.groups()
            parameters.setdefault(name.lower(), plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted))
    weight = parameters.pop("q", "1")
    return MediaRange(media_type, parameters, float(weight) if _WEIGHT.fullmatch(weight) else 1.0)


def _split(text: str, separator: str) -> list[str]:
    """Split at a separator outside quotes. A quote that does not end reaches to the end of the text."""
    parts, start, is_quoted, is_escaped = [], 0, False, False
    for at, character in enumerate(text):
        if is_escaped:
            is_escaped = False
        elif character == "\\" and is_quoted:
            is_escaped = True
        elif character == '"':
            is_quoted = not is_quoted
        elif character == separator and not is_quoted:
            parts.append(text[start:at])
            start = at + 1
    return [*parts, text[start:]]
