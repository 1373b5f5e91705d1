"""Entity tags of frames, and the preconditions of requests that name them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from framegate.delivery.multipart import Envelope
from framegate.healthimaging.media_types import STORED, implied_syntax
from framegate.problems import PreconditionFailed
from framegate.rest.negotiation import Representation, forms_of

if TYPE_CHECKING:
    from framegate.delivery.portions import Selection
    from framegate.rest.http import HttpRequest
    from framegate.rest.negotiation import Form

READ_METHODS = ("GET", "HEAD")

# RFC 9110, section 8.8.3. A tag may contain a comma, so the list cannot simply be split.
_ENTITY_TAG = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')

_KNOWN_CONTENT_TYPES = tuple(dict.fromkeys(STORED.values()))

_KNOWN_FORMS = tuple(
    dict.fromkeys((content_type, form) for content_type in _KNOWN_CONTENT_TYPES for form in forms_of(content_type))
)
"""The forms of frames with a documented media type, each with that media type."""

_KNOWN_NAMES = frozenset(name for _, form in _KNOWN_FORMS for name in (form.media_type, *form.accepted_names))


@dataclass(frozen=True, slots=True)
class FrameTag:
    """The strong entity tag of a frame in one of its forms.

    A frame never changes, and a selection of it always has the same bytes, so the identifier and the selection identify
    the content. The tag also names the media type, so that a 304 can repeat it without a call of HealthImaging.

    Attributes
    ----------
    value : str
        The tag, in quotes.
    form : Form
        The form.
    content_type : str
        The Content-Type of the response.

    References
    ----------
    RFC 9110, section 8.8.3; RFC 9111, section 4.3.4: a cache replaces the stored Content-Type with that of the 304.
    """

    value: str
    form: Form
    content_type: str

    @classmethod
    def of(cls, name: str, form: Form, selection: Selection | None = None) -> FrameTag:
        """The tag of a form.

        Only media types that AWS or DICOM document become part of the tag. No text from a client's tag can therefore
        return as a Content-Type.

        Parameters
        ----------
        name : str
            Identifies the content: a frame's identifier, or a digest of several.
        form : Form
            The form.
        selection : Selection, optional
            The levels of the frame.
        """
        parts = [name, selection.tag if selection else "", _suffix(form)]
        content_type = form.content_type
        if form.representation is Representation.MULTIPART:
            content_type = envelope(name, form, selection).content_type
        return cls(f'"{".".join(filter(None, parts))}"', form, content_type)


def _suffix(form: Form) -> str:
    """What the tag says about the form."""
    if form.representation is Representation.JSON:
        return "json"
    name = form.media_type if form.media_type in _KNOWN_NAMES else ""
    if form.transfer_syntax != implied_syntax(form.media_type) and name:
        name = f"{name};{form.transfer_syntax}"
    return ".".join(filter(None, ["multipart" if form.representation is Representation.MULTIPART else "", name]))


def envelope(name: str, form: Form, selection: Selection | None = None) -> Envelope:
    """Return the envelope of a multipart body with a frame, or with the selected levels of it."""
    return Envelope(f"{name}-{selection.tag}" if selection else name, form.content_type)


def known_frame_tags(image_frame_id: str, selection: Selection | None = None) -> list[tuple[str, FrameTag]]:
    """Every tag that the frame can have with a documented media type of HealthImaging, and that media type."""
    return [(content_type, FrameTag.of(image_frame_id, form, selection)) for content_type, form in _KNOWN_FORMS]


@dataclass(frozen=True, slots=True)
class EntityTags:
    """The value of If-Match or If-None-Match.

    Attributes
    ----------
    any : bool
        Whether the value is ``*``.
    strong, weak : frozenset of str
        The listed tags, in quotes and without ``W/``. Anything else in the list is ignored.
    """

    any: bool
    strong: frozenset[str]
    weak: frozenset[str]

    @classmethod
    def parse(cls, value: str) -> EntityTags:
        """Parse the value of a header."""
        found = _ENTITY_TAG.findall(value)
        return cls(
            value.strip() == "*",
            frozenset(tag for is_weak, tag in found if not is_weak),
            frozenset(tag for is_weak, tag in found if is_weak),
        )


@dataclass(frozen=True, slots=True)
class Preconditions:
    """The preconditions of a request.

    ``If-Modified-Since`` and ``If-Unmodified-Since`` are ignored, because no response has a ``Last-Modified``.
    `parameters.byte_range` evaluates ``If-Range``.

    References
    ----------
    RFC 9110, sections 13.1.1 to 13.1.4 and 13.2.2.
    """

    is_read: bool
    if_match: EntityTags | None
    if_none_match: EntityTags | None

    @classmethod
    def of(cls, request: HttpRequest) -> Preconditions:
        """Read the preconditions of a request."""
        return cls(request.method in READ_METHODS, *(_tags(request, name) for name in ("If-Match", "If-None-Match")))

    def is_held(self, tag: str) -> bool:
        """Whether the response is 304 if this is the current entity tag.

        A ``*`` in either header depends on whether a representation exists: `evaluate` evaluates it.
        """
        if not self.is_read or self.if_none_match is None:
            return False
        if self.if_match is not None and tag not in self.if_match.strong:
            return False
        return tag in self.if_none_match.strong or tag in self.if_none_match.weak

    def require_match(self, tag: str | None) -> None:
        """Evaluate `If-Match` for a representation that exists. The comparison is strong: a weak tag never matches.

        Parameters
        ----------
        tag : str or None
            The representation's entity tag; None if it has none.

        Raises
        ------
        PreconditionFailed
            If the header neither lists the tag nor is ``*``.
        """
        if self.if_match is not None and not self.if_match.any and tag not in self.if_match.strong:
            raise PreconditionFailed("If-Match")

    def evaluate(self, tag: str) -> bool:
        """Evaluate both headers, in RFC 9110's order, for a representation that exists and has this entity tag.

        Returns
        -------
        bool
            Whether the response is 304. The comparison with `If-None-Match` is weak.

        Raises
        ------
        PreconditionFailed
            If `If-Match` does not match, or if `If-None-Match` matches and the method is neither GET nor HEAD.
        """
        self.require_match(tag)
        listed = self.if_none_match
        if listed is None or not (listed.any or tag in listed.strong or tag in listed.weak):
            return False
        if not self.is_read:
            raise PreconditionFailed("If-None-Match")
        return True


def _tags(request: HttpRequest, name: str) -> EntityTags | None:
    value = request.header(name)
    return EntityTags.parse(value) if value and value.strip() else None
