"""Which representation of a frame a client wants, and whether it has it already."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from framegate.healthimaging.media_types import essence
from framegate.problems import NotAcceptable

if TYPE_CHECKING:
    from framegate.delivery.portions import Selection

JSON = "application/json"


class Representation(StrEnum):
    """The forms in which a frame can be answered."""

    RAW = "raw"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Accept:
    """An Accept header.

    Parameters
    ----------
    qualities : dict
        Media range in lower case, such as ``image/*``, to its weight from 0 to 1.

    References
    ----------
    RFC 9110, section 12.5.1. Parameters other than ``q`` are ignored.

    Examples
    --------
    >>> Accept.parse("image/*, application/json;q=0.5").choose("image/jph")
    <Representation.RAW: 'raw'>
    """

    qualities: dict[str, float]

    @classmethod
    def parse(cls, header: str | None) -> Accept:
        """Read a header. Without one everything is acceptable; an element that makes no sense counts for nothing."""
        if header is None or not header.strip():
            return cls({"*/*": 1.0})
        qualities = {}
        for element in header.split(","):
            media_range, *parameters = element.split(";")
            if "/" in media_range:
                qualities[media_range.strip().lower()] = _weight(parameters)
        return cls(qualities)

    def choose(self, content_type: str) -> Representation:
        """The representation to send of a frame of that media type.

        JSON has to be named: ``*/*`` asks for the frame as it is. Where both are as welcome, the named one wins.

        Raises
        ------
        NotAcceptable
            If the client takes neither.
        """
        raw, json = self._weight_of(essence(content_type)), self.qualities.get(JSON, 0.0)
        if json > 0 and json >= raw:
            return Representation.JSON
        if raw > 0:
            return Representation.RAW
        raise NotAcceptable(content_type)

    def _weight_of(self, media_type: str) -> float:
        """The weight that the most specific range gives to a type."""
        kind = media_type.partition("/")[0]
        for media_range in (media_type, f"{kind}/*", "*/*"):
            if media_range in self.qualities:
                return self.qualities[media_range]
        return 0.0


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                return min(1.0, max(0.0, float(value)))
            except ValueError:
                return 0.0
    return 1.0


def entity_tag(image_frame_id: str, representation: Representation, selection: Selection | None = None) -> str:
    """The strong entity tag of a frame's representation.

    A frame never changes, so its identifier is enough; and what was selected of it, which is always the same bytes.
    """
    parts = [image_frame_id, selection.tag if selection else "", "" if representation is Representation.RAW else "json"]
    return f'"{".".join(filter(None, parts))}"'


def matching_tag(
    if_none_match: str | None, image_frame_id: str, accept: Accept, selection: Selection | None = None
) -> str | None:
    """The entity tag with which a client shows that it holds what it would be sent, or None.

    Raw or JSON may depend on the frame's media type, which only HealthImaging knows; a representation that the
    client holds and still accepts is as good as new.

    References
    ----------
    RFC 9110, section 13.1.2: the comparison is weak. ``*``, which any existing frame matches, is not answered here:
    whether the frame exists, only HealthImaging knows.
    """
    for representation in Representation:
        tag = entity_tag(image_frame_id, representation, selection)
        if is_held(if_none_match, tag) and _may_choose(accept, representation):
            return tag
    return None


def is_held(if_none_match: str | None, tag: str) -> bool:
    """Whether ``If-None-Match`` lists an entity tag; ``*`` is not looked at."""
    return tag in {each.strip().removeprefix("W/") for each in (if_none_match or "").split(",")}


def _may_choose(accept: Accept, representation: Representation) -> bool:
    if representation is Representation.JSON:
        return accept.qualities.get(JSON, 0.0) > 0
    return any(weight > 0 for media_range, weight in accept.qualities.items() if media_range != JSON)
