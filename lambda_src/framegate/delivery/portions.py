"""The portion of a frame that a client requests: a stored resolution, some levels, or a range of bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from framegate.problems import RangeNotSatisfiable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from framegate.jpeg2000.codestream import Resolution


class Selection(Protocol):
    """Selects levels of a frame. A level is the tile-part that completes a resolution; level 0 completes the base."""

    @property
    def tag(self) -> str:
        """The selection's name in an entity tag: the same selection of the same frame always has the same bytes."""

    @property
    def is_image(self) -> bool:
        """Whether the bytes must decode on their own. Otherwise they are appended to those of the lower levels."""

    def levels(self, resolutions: Sequence[Resolution]) -> tuple[int, int | None]:
        """The first and the last requested level of a frame with these resolutions; None is the frame's end."""


@dataclass(frozen=True, slots=True)
class BySize:
    """Selects the smallest resolution whose longer side has at least `pixels` pixels, or the full one if none has."""

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
    """Selects the resolution with this number, where 0 is the base, or the full one if no resolution has it."""

    number: int
    is_image = True

    @property
    def tag(self) -> str:
        return f"r{self.number}"

    def levels(self, resolutions: Sequence[Resolution]) -> tuple[int, int | None]:
        return 0, self.number


@dataclass(frozen=True, slots=True)
class ByLevels:
    """Selects the bytes of levels, as in AWS's sample ``tile-level-marker-proxy``. All levels joined are the frame."""

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
    """A byte range of a request: from `first` to `last`, both included and counted from 0.

    A range without `last` goes to the end. A range without `first` is the final `last` bytes.

    References
    ----------
    RFC 9110, section 14.1.2.
    """

    first: int | None
    last: int | None

    def within(self, size: int) -> Span:
        """Resolve the range for content of `size` bytes.

        Raises
        ------
        RangeNotSatisfiable
            If the content has no byte in the range.
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
    """Bytes `first` to `last`, both included, of content that has `total` bytes."""

    first: int
    last: int
    total: int

    @property
    def size(self) -> int:
        """Number of bytes."""
        return self.last - self.first + 1

    def of(self, content: bytes) -> bytes:
        """Cut the span out of the whole content."""
        return content[self.first : self.last + 1]


@dataclass(frozen=True, slots=True)
class Portion:
    """How delivered content relates to its frame.

    Attributes
    ----------
    is_whole : bool
        Whether the content is the whole frame.
    resolution : Resolution or None
        The resolution that the content completes; None if it completes none or the frame's headers do not say.
    resolutions : int or None
        Number of resolutions that the frame's main header declares.
    """

    is_whole: bool
    resolution: Resolution | None = None
    resolutions: int | None = None
