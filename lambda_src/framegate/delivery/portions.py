"""Which portion of a frame a client wants: one of its stored resolutions, some of its levels, a range of its bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from framegate.problems import RangeNotSatisfiable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from framegate.jpeg2000.codestream import Resolution


class Selection(Protocol):
    """Some of a frame's levels: the tile-parts that each complete a resolution, numbered from 0, the base."""

    @property
    def tag(self) -> str:
        """Names it in an entity tag: of one frame, the same selection is the same bytes, always."""

    @property
    def is_image(self) -> bool:
        """Whether it is to decode on its own; else it is bytes to be added to those of lower levels."""

    def levels(self, resolutions: Sequence[Resolution]) -> tuple[int, int | None]:
        """The first and the last level that is wanted of a frame with these resolutions; None is the frame's end."""


@dataclass(frozen=True, slots=True)
class BySize:
    """The smallest resolution whose longer side has so many pixels; the full one, if none has."""

    pixels: int
    is_image = True

    @property
    def tag(self) -> str:
        return f"s{self.pixels}"

    def levels(self, resolutions: Sequence[Resolution]) -> tuple[int, int | None]:
        large = (each.number for each in resolutions if max(each.columns, each.rows) >= self.pixels)
        return 0, next(large, None)


@dataclass(frozen=True, slots=True)
class ByResolution:
    """The resolution with that number, 0 the base; the full one, if there are not so many."""

    number: int
    is_image = True

    @property
    def tag(self) -> str:
        return f"r{self.number}"

    def levels(self, resolutions: Sequence[Resolution]) -> tuple[int, int | None]:
        return 0, self.number


@dataclass(frozen=True, slots=True)
class ByLevels:
    """The bytes of some levels, as AWS's sample ``tile-level-marker-proxy`` has them: joined, they are the frame."""

    first: int
    last: int | None
    is_image = False

    @property
    def tag(self) -> str:
        return f"l{self.first}-{'' if self.last is None else self.last}"

    def levels(self, resolutions: Sequence[Resolution]) -> tuple[int, int | None]:
        return self.first, self.last


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A range of bytes as a request has it: from `first` to `last`, both included and counted from 0.

    Without `last`, to the end; without `first`, the `last` bytes.

    References
    ----------
    RFC 9110, section 14.1.2.
    """

    first: int | None
    last: int | None

    def within(self, size: int) -> Span:
        """The range in something of that size in bytes.

        Raises
        ------
        RangeNotSatisfiable
            If nothing of it is there.
        """
        if self.first is None:
            first, last = max(0, size - (self.last or 0)), size - 1
        else:
            first, last = self.first, size - 1 if self.last is None else min(self.last, size - 1)
        if first > last:
            raise RangeNotSatisfiable(size)
        return Span(first, last, size)


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `first` to `last`, both included, of something that has `total`."""

    first: int
    last: int
    total: int

    @property
    def size(self) -> int:
        """How many they are."""
        return self.last - self.first + 1

    def of(self, content: bytes) -> bytes:
        """Cut them out of the whole."""
        return content[self.first : self.last + 1]


@dataclass(frozen=True, slots=True)
class Portion:
    """What a delivered content is of its frame.

    Attributes
    ----------
    is_whole : bool
        Whether it is the whole frame.
    resolution : Resolution or None
        The resolution that is complete with it; None where there is none, or nobody can tell.
    resolutions : int or None
        How many the frame has stored.
    """

    is_whole: bool
    resolution: Resolution | None = None
    resolutions: int | None = None
