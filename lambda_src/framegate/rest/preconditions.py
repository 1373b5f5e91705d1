"""Entity tags of frames, and the preconditions of requests that name them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from framegate.healthimaging.media_types import STORED
from framegate.problems import PreconditionFailed
from framegate.rest.negotiation import JSON, Representation

if TYPE_CHECKING:
    from framegate.delivery.portions import Selection
    from framegate.rest.http import HttpRequest

READ_METHODS = ("GET", "HEAD")

# RFC 9110, section 8.8.3. A tag may contain a comma, so the list cannot simply be split.
_ENTITY_TAG = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')

_KNOWN_CONTENT_TYPES = tuple(dict.fromkeys(STORED.values()))


@dataclass(frozen=True, slots=True)
class FrameTag:
    """The strong entity tag of a frame's representation.

    A frame never changes, and a selection of it always has the same bytes, so the identifier and the selection identify
    the content. The tag also names the media type, so that a 304 can repeat it without a call of HealthImaging.

    Attributes
    ----------
    value : str
        The tag, in quotes.
    representation : Representation
        Whether the tag is that of the bytes or of the JSON document.
    content_type : str
        The representation's media type.

    References
    ----------
    RFC 9110, section 8.8.3; RFC 9111, section 4.3.4: a cache replaces the stored Content-Type with that of the 304.
    """

    value: str
    representation: Representation
    content_type: str

    @classmethod
    def of(
        cls,
        image_frame_id: str,
        representation: Representation,
        content_type: str,
        selection: Selection | None = None,
    ) -> FrameTag:
        """The tag of a frame with this media type.

        Only media types that HealthImaging documents become part of the tag. No text from a client's tag can therefore
        return as a Content-Type.
        """
        if representation is Representation.JSON:
            suffix, content_type = "json", JSON
        else:
            suffix = content_type if content_type in _KNOWN_CONTENT_TYPES else ""
        parts = [image_frame_id, selection.tag if selection else "", suffix]
        return cls(f'"{".".join(filter(None, parts))}"', representation, content_type)

    @property
    def names_content_type(self) -> bool:
        """Whether the tag alone tells the media type of a 304."""
        return self.representation is Representation.JSON or self.content_type in _KNOWN_CONTENT_TYPES


def known_frame_tags(image_frame_id: str, selection: Selection | None = None) -> list[FrameTag]:
    """Every tag that the frame can have with a known media type."""
    return [
        *(FrameTag.of(image_frame_id, Representation.RAW, each, selection) for each in _KNOWN_CONTENT_TYPES),
        FrameTag.of(image_frame_id, Representation.JSON, JSON, selection),
    ]


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

        A ``*`` in either header depends on whether a representation exists: `is_not_modified` evaluates it.
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

    def is_not_modified(self, tag: str) -> bool:
        """Whether the response is 304 for a representation that exists and has this tag. The comparison is weak.

        Raises
        ------
        PreconditionFailed
            If `If-None-Match` matches and the method is neither GET nor HEAD.
        """
        listed = self.if_none_match
        if listed is None or not (listed.any or tag in listed.strong or tag in listed.weak):
            return False
        if not self.is_read:
            raise PreconditionFailed("If-None-Match")
        return True


def _tags(request: HttpRequest, name: str) -> EntityTags | None:
    value = request.header(name)
    return EntityTags.parse(value) if value and value.strip() else None
