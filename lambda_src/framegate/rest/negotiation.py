"""Chooses the representation of a frame from the request's Accept header."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, lru_cache

from framegate.healthimaging.media_types import essence
from framegate.problems import NotAcceptable

JSON = "application/json"

_WEIGHT = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+", re.ASCII)


class Representation(StrEnum):
    """The forms in which Framegate sends a frame: its bytes, or a JSON document."""

    RAW = "raw"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class MediaRange:
    """One element of an Accept header.

    Attributes
    ----------
    type : str
        The range without its parameters, in lower case: ``image/jph``, ``image/*`` or ``*/*``.
    parameters : mapping
        The parameters other than ``q``, names in lower case, values unquoted.
    weight : float
        ``q``, from 0 to 1.

    References
    ----------
    RFC 9110, sections 12.4.2 and 12.5.1.
    """

    type: str
    parameters: dict[str, str]
    weight: float

    def specificity(self, media_type: str, parameters: dict[str, str]) -> tuple[int, int] | None:
        """How specifically the range matches a media type; None if it does not match.

        DICOM clients name parameters that HealthImaging omits, such as ``transfer-syntax``. A parameter that the media
        type lacks is therefore ignored. A parameter with a different value excludes the range, unless it is ``*``.
        """
        precision = _precision(self.type, media_type)
        if precision is None:
            return None
        matched = 0
        for name, value in self.parameters.items():
            if name in parameters and value not in ("*", parameters[name]):
                return None
            matched += name in parameters
        return precision, matched


@dataclass(frozen=True)
class Accept:
    """An Accept header.

    Parameters
    ----------
    ranges : tuple of MediaRange
        The header's elements, in their order.

    Examples
    --------
    >>> Accept.parse("image/*, application/json;q=0.5").choose("image/jph")
    <Representation.RAW: 'raw'>
    >>> Accept.parse("text/html").choose("image/jph") is None
    True
    """

    ranges: tuple[MediaRange, ...]

    # Cached, because clients send the same header with every request.
    @classmethod
    @lru_cache(maxsize=64)
    def parse(cls, header: str | None) -> Accept:
        """Parse a header. Without one, everything is acceptable. Elements that are not media ranges are ignored."""
        if header is None or not header.strip():
            return cls((MediaRange("*/*", {}, 1.0),))
        return cls(tuple(filter(None, map(_media_range, _split(header, ",")))))

    def choose(self, content_type: str) -> Representation | None:
        """Choose the representation of a frame with this media type; None if the client accepts neither.

        The header must name JSON: ``*/*`` asks for the frame's own bytes. If both have the same weight, JSON wins,
        because the client has named it.
        """
        raw, json = self._weight_of(content_type), self.json_weight
        if json > 0 and json >= raw:
            return Representation.JSON
        return Representation.RAW if raw > 0 else None

    @cached_property
    def json_weight(self) -> float:
        """The weight of ``application/json`` if the header names it; otherwise 0."""
        return max((each.weight for each in self.ranges if each.type == JSON), default=0.0)

    def _weight_of(self, content_type: str) -> float:
        """The weight of the most specific range that matches the media type; 0 if none does."""
        media_type, parameters = essence(content_type), _parameters(_split(content_type, ";")[1:])
        best: tuple[tuple[int, int], float] = ((0, 0), 0.0)
        for each in self.ranges:
            specificity = each.specificity(media_type, parameters)
            if specificity is not None:
                best = max(best, (specificity, each.weight))
        return best[1]


@dataclass(frozen=True, slots=True)
class FrameNegotiation:
    """Negotiates the representation of a frame once its media type is known.

    Parameters
    ----------
    accept : Accept
        The request's Accept header.
    """

    accept: Accept

    def representation(self, content_type: str) -> Representation:
        """Choose the representation of a frame with this media type.

        Raises
        ------
        NotAcceptable
            If the client accepts neither.
        """
        chosen = self.accept.choose(content_type)
        if chosen is None:
            raise NotAcceptable(content_type)
        return chosen

    def require_acceptable(self, content_type: str) -> None:
        """Check that the client accepts a representation of a frame with this media type.

        Raises
        ------
        NotAcceptable
            If it accepts none.
        """
        self.representation(content_type)

    def may_send(self, representation: Representation, content_type: str) -> bool:
        """Whether the client accepts a representation that it holds.

        A JSON document only has to be acceptable: whether the client would prefer the bytes depends on the frame's
        media type, which is not known yet.

        Parameters
        ----------
        representation : Representation
            What the client holds.
        content_type : str
            The representation's media type.
        """
        if representation is Representation.JSON:
            return self.accept.json_weight > 0
        return self.accept.choose(content_type) is Representation.RAW

    def sends_bytes(self, content_type: str) -> bool:
        """Whether the client gets the frame's own bytes, to which a byte range applies."""
        return self.accept.choose(content_type) is Representation.RAW


def _precision(media_range: str, media_type: str) -> int | None:
    if media_range == media_type:
        return 3
    if media_range == f"{media_type.partition('/')[0]}/*":
        return 2
    return 1 if media_range == "*/*" else None


def _media_range(element: str) -> MediaRange | None:
    media_range, *parameters = _split(element, ";")
    if "/" not in media_range:
        return None
    named = _parameters(parameters)
    return MediaRange(media_range.strip().lower(), named, _weight(named.pop("q", "1")))


def _parameters(elements: list[str]) -> dict[str, str]:
    named = {}
    for element in elements:
        name, _, value = element.partition("=")
        if name := name.strip().lower():
            named[name] = _unquoted(value.strip())
    return named


def _weight(value: str) -> float:
    return min(1.0, float(value)) if _WEIGHT.fullmatch(value) else 0.0


def _unquoted(value: str) -> str:
    """The content of a quoted string (RFC 9110, section 5.6.4), or the value itself if it is not quoted."""
    if len(value) > 1 and value[0] == value[-1] == '"':
        return re.sub(r"\\(.)", r"\1", value[1:-1], flags=re.DOTALL)
    return value


def _split(text: str, separator: str) -> list[str]:
    """Split a header's value at a separator, except within quoted strings."""
    if '"' not in text:
        return text.split(separator)
    parts, start, is_quoted, is_escaped = [], 0, False, False
    for position, character in enumerate(text):
        if is_escaped:
            is_escaped = False
        elif is_quoted and character == "\\":
            is_escaped = True
        elif character == '"':
            is_quoted = not is_quoted
        elif character == separator and not is_quoted:
            parts.append(text[start:position])
            start = position + 1
    return [*parts, text[start:]]
