"""Chooses the form of a frame from the request's Accept header."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING

from framegate.healthimaging.media_types import EXPLICIT_LITTLE_ENDIAN, UNKNOWN, dicom_names, essence, implied_syntax
from framegate.problems import NotAcceptable

if TYPE_CHECKING:
    from collections.abc import Callable

JSON = "application/json"

MULTIPART = "multipart/related"

_SYNTAX = "transfer-syntax"

_WEIGHT = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+", re.ASCII)


class Representation(StrEnum):
    """How Framegate sends a frame: its bytes, its bytes as a part of a multipart body, or a JSON document."""

    RAW = "raw"
    MULTIPART = "multipart"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Form:
    """A form in which a frame is available.

    Attributes
    ----------
    representation : Representation
        The bytes, a multipart body, or a JSON document.
    media_type : str
        The media type of the bytes, or of the part, without ``transfer-syntax``.
    transfer_syntax : str or None
        The transfer syntax of the bytes, if it is known.
    accepted_names : tuple of str
        The media types by which a client can request the form.
    is_default : bool
        Whether a range with a wildcard, such as ``*/*``, requests this form.
    requires_syntax : bool
        Whether ``application/octet-stream`` requests this form only with ``transfer-syntax``. Without it, a DICOMweb
        client expects uncompressed pixels.
    is_decoded : bool
        Whether HealthImaging has to decode the frame.
    """

    representation: Representation
    media_type: str
    transfer_syntax: str | None = None
    accepted_names: tuple[str, ...] = ()
    is_default: bool = False
    requires_syntax: bool = False
    is_decoded: bool = False

    @property
    def content_type(self) -> str:
        """The Content-Type of the bytes, or of the part, with its transfer syntax."""
        if self.transfer_syntax is None or _SYNTAX in _parameters_of(self.media_type):
            return self.media_type
        return f"{self.media_type}; {_SYNTAX}={self.transfer_syntax}"

    @property
    def range(self) -> str:
        """The media range that requests the form, for a client that has requested something else."""
        if self.representation is Representation.MULTIPART:
            syntax = f"; {_SYNTAX}={self.transfer_syntax}" if self.transfer_syntax else ""
            return f'{MULTIPART}; type="{essence(self.media_type)}"{syntax}'
        return self.content_type


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

    def specificity_for(self, form: Form) -> tuple[int, int] | None:
        """How specifically the range requests a form; None if it does not."""
        parameters = _parameters_of(form.content_type)
        if form.representation is not Representation.MULTIPART:
            return self._specificity_among(form, parameters)
        if form.is_default and self.type == "*/*":
            return self._specificity_among(form, parameters)
        if self.type != MULTIPART:
            return None
        # The root type of the multipart body is the type of its parts (RFC 2387, section 3.1).
        named = {name: value for name, value in self.parameters.items() if name != "type"}
        part = MediaRange(self.parameters.get("type", "*/*").strip().lower(), named, self.weight)
        return part._specificity_among(form, parameters)

    def _specificity_among(self, form: Form, parameters: dict[str, str]) -> tuple[int, int] | None:
        has_wildcard = self.type.endswith("/*")
        is_multipart = form.representation is Representation.MULTIPART
        names_syntax = self.parameters.get(_SYNTAX)
        if form.is_decoded and names_syntax != form.transfer_syntax and (has_wildcard or names_syntax is not None):
            return None
        if form.requires_syntax and self.type == UNKNOWN and names_syntax is None:
            return None
        if has_wildcard and not (form.is_default or is_multipart or form.is_decoded):
            return None
        found = (self.specificity(each, parameters) for each in form.accepted_names)
        return max((each for each in found if each is not None), default=None)

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
        """Choose the representation of a frame with this media type; None if the client accepts none of its forms."""
        form = self.form_among(forms_of(content_type))
        return form.representation if form else None

    def form_among(self, forms: tuple[Form, ...]) -> Form | None:
        """Choose one of the forms; None if the client accepts none of them.

        The form with the highest weight wins. If weights are equal, JSON wins, because the client has named it. Then
        the most specifically requested form wins, then a multipart body, then the first form.
        """
        best: tuple[tuple[float, bool, tuple[int, int], bool], Form] | None = None
        for form in forms:
            precision, weight = self._match(form)
            key = (
                weight,
                form.representation is Representation.JSON,
                precision,
                form.representation is Representation.MULTIPART,
            )
            if weight > 0 and (best is None or key > best[0]):
                best = key, form
        return None if best is None else best[1]

    def accepts(self, form: Form) -> bool:
        """Whether the client accepts a form, even if it would prefer another one."""
        return self._match(form)[1] > 0

    def _match(self, form: Form) -> tuple[tuple[int, int], float]:
        """How specifically the header requests the form, and the weight of the most specific range that does."""
        best: tuple[tuple[int, int], float] = ((0, 0), 0.0)
        for each in self.ranges:
            if (specificity := each.specificity_for(form)) is not None:
                # The client may repeat JSON with different weights. Any of them makes it acceptable.
                best = max(best, (specificity, each.weight))
        if form.representation is Representation.JSON:
            return best[0], max((each.weight for each in self.ranges if each.type == JSON), default=0.0)
        return best


@lru_cache(maxsize=256)
def forms_of(content_type: str, transfer_syntax: str | None = None) -> tuple[Form, ...]:
    """Return the forms in which the routes by frame id send a frame.

    Parameters
    ----------
    content_type : str
        HealthImaging's media type. A client without preferences gets it, with the transfer syntax that it implies.
    transfer_syntax : str, optional
        The frame's transfer syntax, if it is known.
    """
    syntax = transfer_syntax or implied_syntax(content_type)
    own = essence(content_type)
    usual, *others = names = dicom_names(syntax, content_type)
    forms = [Form(Representation.RAW, content_type, syntax, (own,), is_default=True)]
    forms += [Form(Representation.RAW, each, syntax, (each,)) for each in (usual, *others) if each != own]
    if UNKNOWN not in (own, usual):
        forms.append(Form(Representation.RAW, UNKNOWN, syntax, (UNKNOWN,)))
    accepted = tuple(dict.fromkeys([*names, own, UNKNOWN]))
    forms.append(Form(Representation.MULTIPART, usual, syntax, accepted))
    return (*forms, Form(Representation.JSON, JSON, None, (JSON,)))


@lru_cache(maxsize=256)
def dicomweb_forms_of(content_type: str, transfer_syntax: str | None) -> tuple[Form, ...]:
    """Return the forms in which the DICOMweb routes send a frame.

    Parameters
    ----------
    content_type : str
        HealthImaging's media type.
    transfer_syntax : str or None
        The transfer syntax of the stored frame, if it is known.

    References
    ----------
    DICOM PS3.18, sections 8.7.3.5.2 and 10.4.4: without ``transfer-syntax``, octet streams are uncompressed.
    """
    usual, *others = names = dicom_names(transfer_syntax, content_type)
    is_uncompressed = transfer_syntax == EXPLICIT_LITTLE_ENDIAN
    forms = [Form(Representation.RAW, usual, transfer_syntax, (usual,), is_default=True)]
    forms += [Form(Representation.RAW, each, transfer_syntax, (each,)) for each in others]
    if usual != UNKNOWN:
        forms.append(Form(Representation.RAW, UNKNOWN, transfer_syntax, (UNKNOWN,), requires_syntax=True))
    accepted = tuple(dict.fromkeys([*names, essence(content_type), UNKNOWN]))
    forms.append(
        Form(Representation.MULTIPART, usual, transfer_syntax, accepted, requires_syntax=not is_uncompressed),
    )
    if not is_uncompressed:
        for representation in (Representation.RAW, Representation.MULTIPART):
            forms.append(Form(representation, UNKNOWN, EXPLICIT_LITTLE_ENDIAN, (UNKNOWN,), is_decoded=True))
    return tuple(forms)


@dataclass(frozen=True, slots=True)
class FrameNegotiation:
    """Negotiates the form of a frame once its media type is known.

    Parameters
    ----------
    accept : Accept
        The request's Accept header.
    forms : callable
        Returns the forms of a frame with a media type.
    """

    accept: Accept
    forms: Callable[[str], tuple[Form, ...]] = forms_of
    _chosen: dict[str, Form] = field(default_factory=dict, init=False, repr=False, compare=False)

    def form(self, content_type: str) -> Form:
        """Choose the form of a frame with this media type.

        Raises
        ------
        NotAcceptable
            If the client accepts none.
        """
        # A request asks several times.
        if content_type not in self._chosen:
            forms = self.forms(content_type)
            if (chosen := self.accept.form_among(forms)) is None:
                raise NotAcceptable([each.range for each in forms])
            self._chosen[content_type] = chosen
        return self._chosen[content_type]

    def require_acceptable(self, content_type: str) -> None:
        """Check that the client accepts a form of a frame with this media type.

        Raises
        ------
        NotAcceptable
            If it accepts none.
        """
        self.form(content_type)

    def sends_bytes(self, content_type: str) -> bool:
        """Whether the client gets the frame's own bytes, to which a byte range applies."""
        return self.form(content_type).representation is Representation.RAW


def _precision(media_range: str, media_type: str) -> int | None:
    if media_range == media_type:
        return 3
    if media_range == f"{media_type.partition('/')[0]}/*":
        return 2
    return 1 if media_range == "*/*" else None


def _media_range(element: str) -> MediaRange | None:
    media_range, *parameters = _split(element, ";")
    media_range = media_range.strip().lower()
    if media_range == "*":
        # Java's HTTP client sends this for */*.
        media_range = "*/*"
    if "/" not in media_range:
        return None
    named = _parameters(parameters)
    return MediaRange(media_range, named, _weight(named.pop("q", "1")))


@lru_cache(maxsize=256)
def _parameters_of(media_type: str) -> dict[str, str]:
    return _parameters(_split(media_type, ";")[1:])


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
