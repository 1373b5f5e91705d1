"""What a client asks of a picture: its format, quality, size and window."""

from __future__ import annotations

import math
from dataclasses import dataclass

from framegate.rendering.presentation import VOI_FUNCTIONS, Window

JPEG, PNG, GIF, WEBP = "image/jpeg", "image/png", "image/gif", "image/webp"
MEDIA_TYPES = (JPEG, PNG, GIF, WEBP)
"""The media types of a picture, the default first (DICOM PS3.18, section 8.7.4)."""

MAX_VIEWPORT_PIXELS = 16_384
"""Maximum width and height of a viewport."""

MAX_ENLARGED_PIXELS = 2**25
"""Maximum pixels of a viewport that shows a region, because a region is enlarged to fill it. An 8K screen has fewer."""

MAX_SIDE_PIXELS = {JPEG: 65_500, PNG: 65_535, GIF: 65_535, WEBP: 16_383}
"""Maximum width and height of a picture by media type: libjpeg's maximum, those of GIF and WebP (RFC 9649,
section 2.7.1), and as many for PNG."""

MAX_PICTURE_PIXELS = 200_000_000
"""Maximum pixels of a picture. Without a viewport, a frame is drawn at its own size, and its pixels are stretched."""

DEFAULT_QUALITY = 85
"""Quality of a JPEG or WebP picture, from 1 to 100, if the client names none."""


_MAX_PIXEL_BYTES, _MAX_HEADER_BYTES = 4, 4096
"""Bytes that a pixel takes at most in any format, and the rest of a picture."""


class PictureParameterError(ValueError):
    """A parameter has no valid value.

    Parameters
    ----------
    name : str
        The parameter.
    expected : str
        What a value is like; it completes "must be".
    """

    def __init__(self, name: str, expected: str) -> None:
        super().__init__(f"{name} must be {expected}")
        self.name = name
        self.expected = expected


@dataclass(frozen=True, slots=True)
class Viewport:
    """The size of a picture, and the region of the frame that it shows.

    Attributes
    ----------
    width, height : int
        Maximum size in pixels.
    x, y : float
        The region's left and top edge, in pixels of the frame.
    region_width, region_height : float or None
        The region's size in pixels of the frame. None extends it to the frame's edge. A negative size flips the region.
    """

    width: int
    height: int
    x: float = 0.0
    y: float = 0.0
    region_width: float | None = None
    region_height: float | None = None

    @property
    def has_region(self) -> bool:
        """Whether the client selects a region of the frame."""
        return (self.x, self.y, self.region_width, self.region_height) != (0.0, 0.0, None, None)

    def region(self, columns: int, rows: int) -> tuple[float, float, float, float]:
        """Return left, top, right and bottom of the region within a frame of this size: at least a pixel."""
        width = columns - self.x if self.region_width is None else abs(self.region_width)
        height = rows - self.y if self.region_height is None else abs(self.region_height)
        left, top = min(self.x, columns - 1), min(self.y, rows - 1)
        right, bottom = min(max(self.x + width, left + 1), columns), min(max(self.y + height, top + 1), rows)
        return left, top, right, bottom


@dataclass(frozen=True, slots=True)
class PictureRequest:
    """What a client asks of a picture.

    Attributes
    ----------
    media_type : str
        One of `MEDIA_TYPES`.
    quality : int
        1 to 100, for JPEG and WebP.
    viewport : Viewport or None
        None draws the frame at its own size.
    window : Window or None
        None draws with the instance's window.
    """

    media_type: str = JPEG
    quality: int = DEFAULT_QUALITY
    viewport: Viewport | None = None
    window: Window | None = None

    def size(self, columns: int, rows: int, aspect_ratio: float) -> tuple[int, int]:
        """Return width and height of the picture of a frame. Without a region, a frame is never enlarged.

        Parameters
        ----------
        columns, rows : int
            Size of the frame in pixels.
        aspect_ratio : float
            Height of a pixel over its width. The longer side of a pixel is stretched, so that no detail is lost.

        References
        ----------
        DICOM PS3.18, section 8.3.5.1.3.

        Examples
        --------
        >>> PictureRequest(viewport=Viewport(256, 256)).size(2048, 1024, 1.0)
        (256, 128)
        """
        width, height, factor = self._scaling(columns, rows, aspect_ratio)
        return max(1, round(width * factor)), max(1, round(height * factor))

    def can_encode(self, columns: int, rows: int, aspect_ratio: float) -> bool:
        """Return whether the picture is within `MAX_SIDE_PIXELS` and `MAX_PICTURE_PIXELS`.

        Examples
        --------
        >>> PictureRequest("image/webp").can_encode(20_000, 100, 1.0)
        False
        """
        width, height = self.size(columns, rows, aspect_ratio)
        return max(width, height) <= MAX_SIDE_PIXELS[self.media_type] and width * height <= MAX_PICTURE_PIXELS

    def min_pixels(self, columns: int, rows: int, aspect_ratio: float) -> int:
        """Return how many pixels the longer side of the frame must have for the picture to lose no detail.

        Examples
        --------
        >>> PictureRequest(viewport=Viewport(256, 256)).min_pixels(2048, 1024, 1.0)
        256
        """
        _, _, factor = self._scaling(columns, rows, aspect_ratio)
        longer = max(columns, rows)
        pixels = longer * factor * max(aspect_ratio, 1 / aspect_ratio)
        # A rounding error must not take the next larger resolution.
        return min(longer, math.ceil(pixels - 1e-6))

    def _scaling(self, columns: int, rows: int, aspect_ratio: float) -> tuple[float, float, float]:
        """Width and height of the region in square pixels, and the factor to the picture's size."""
        left, top, right, bottom = self.viewport.region(columns, rows) if self.viewport else (0, 0, columns, rows)
        width, height = right - left, bottom - top
        if aspect_ratio > 1:
            height *= aspect_ratio
        else:
            width /= aspect_ratio
        if self.viewport is None:
            return width, height, 1.0
        factor = min(self.viewport.width / width, self.viewport.height / height)
        return width, height, factor if self.viewport.has_region else min(factor, 1.0)

    def may_exceed(self, max_bytes: int) -> bool:
        """Return whether the picture may have more bytes than this."""
        view = self.viewport
        return view is None or view.width * view.height * _MAX_PIXEL_BYTES + _MAX_HEADER_BYTES > max_bytes

    @property
    def name(self) -> str:
        """A short text that distinguishes pictures of the same frame."""
        view, window = self.viewport, self.window
        parts = [self.media_type.partition("/")[2]]
        if self.media_type in (JPEG, WEBP):
            parts.append(f"q{self.quality}")
        if view:
            region = f",{view.x:g},{view.y:g},{view.region_width or 0:g},{view.region_height or 0:g}"
            parts.append(f"v{view.width},{view.height}{region if view.has_region else ''}")
        if window:
            parts.append(f"w{window.center:g},{window.width:g},{window.function.lower()}")
        return "-".join(parts)


def parse_quality(text: str) -> int:
    """Parse ``quality``, 1 to 100 (DICOM PS3.18, section 8.3.5.1.2).

    Raises
    ------
    PictureParameterError
        If it is anything else.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= 100):
        raise PictureParameterError("quality", "a whole number from 1 to 100")
    return int(text)


def parse_viewport(text: str, *, with_region: bool = True) -> Viewport:
    """Parse ``viewport=width,height[,sx,sy,sw,sh]`` (DICOM PS3.18, section 8.3.5.1.3). Empty parts have defaults.

    Parameters
    ----------
    text : str
        The value.
    with_region : bool
        Whether a region is allowed. Thumbnails have none (PS3.18, section 10.4.1.1.5).

    Raises
    ------
    PictureParameterError
        If it is not a viewport.

    Examples
    --------
    >>> parse_viewport("256,256")
    Viewport(width=256, height=256, x=0.0, y=0.0, region_width=None, region_height=None)
    """
    expected = "width,height or width,height,sx,sy,sw,sh" if with_region else "width,height"
    error = PictureParameterError("viewport", f"{expected}, with sizes from 1 to {MAX_VIEWPORT_PIXELS}")
    parts = text.split(",")
    if len(parts) not in ((2, 6) if with_region else (2,)):
        raise error
    width, height = (_size(part, error) for part in parts[:2])
    if len(parts) == 2:
        return Viewport(width, height)
    x, y, region_width, region_height = (_decimal(part, error) if part else None for part in parts[2:])
    if region_width == 0 or region_height == 0 or (x or 0) < 0 or (y or 0) < 0:
        raise error
    viewport = Viewport(width, height, x or 0.0, y or 0.0, region_width, region_height)
    if viewport.has_region and width * height > MAX_ENLARGED_PIXELS:
        raise PictureParameterError("viewport", f"at most {MAX_ENLARGED_PIXELS:,} pixels if it shows a region")
    return viewport


def parse_window(text: str) -> Window:
    """Parse ``window=center,width[,function]`` (DICOM PS3.18, section 8.3.5.1.4).

    Raises
    ------
    PictureParameterError
        If it is not a window.

    Examples
    --------
    >>> parse_window("40,400,sigmoid")
    Window(center=40.0, width=400.0, function='SIGMOID')
    """
    error = PictureParameterError("window", "center,width,function with linear, linear-exact or sigmoid")
    parts = text.split(",")
    if len(parts) not in (2, 3):
        raise error
    center, width = (_decimal(part, error) for part in parts[:2])
    named = parts[2].lower().replace("-", "_").upper() if len(parts) == 3 else "LINEAR"
    function = next((each for each in VOI_FUNCTIONS if each == named), None)
    if function is None or width <= 0 or (function == "LINEAR" and width < 1):
        raise error
    return Window(center, width, function)


def _size(text: str, error: PictureParameterError) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= MAX_VIEWPORT_PIXELS):
        raise error
    return int(text)


def _decimal(text: str, error: PictureParameterError) -> float:
    if not text.isascii() or len(text) > 32 or "_" in text:
        raise error
    try:
        number = float(text)
    except ValueError:
        raise error from None
    if not math.isfinite(number) or abs(number) > 1e12:
        raise error
    return number
