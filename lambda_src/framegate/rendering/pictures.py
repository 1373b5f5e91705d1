"""Sizes a drawn frame and encodes it as a picture."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from PIL import Image

from framegate.rendering.request import GIF, JPEG, PNG, WEBP

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from framegate.rendering.request import PictureRequest, Viewport

_FORMATS = {JPEG: "JPEG", PNG: "PNG", GIF: "GIF", WEBP: "WEBP"}


def picture(drawn: NDArray[np.uint8], request: PictureRequest, scale: float = 1.0, aspect_ratio: float = 1.0) -> bytes:
    """Encode a drawn frame.

    Parameters
    ----------
    drawn : array of uint8, of shape (rows, columns) or (rows, columns, 3)
        The frame, or one of its resolutions.
    request : PictureRequest
        The format and the size.
    scale : float
        Columns of `drawn` for each column of the frame: 1 for the whole frame, 0.5 for the next resolution.
    aspect_ratio : float
        Height of a pixel over its width.

    Returns
    -------
    bytes
        The encoded picture.
    """
    image = Image.fromarray(drawn)
    if request.viewport:
        image = _in_viewport(image, request.viewport, scale, aspect_ratio)
    elif aspect_ratio != 1:
        image = image.resize(_square_pixels(image.size, aspect_ratio), Image.Resampling.BICUBIC)
    output = io.BytesIO()
    options = {"quality": request.quality} if request.media_type in (JPEG, WEBP) else {}
    image.save(output, _FORMATS[request.media_type], **options)
    return output.getvalue()


def _in_viewport(image: Image.Image, viewport: Viewport, scale: float, aspect_ratio: float) -> Image.Image:
    """Cut out the region and fit it into the viewport, keeping its shape. A region is never enlarged.

    References
    ----------
    DICOM PS3.18, section 8.3.5.1.3.
    """
    image = _region(image, viewport, scale)
    size = _square_pixels(image.size, aspect_ratio)
    factor = min(viewport.width / size[0], viewport.height / size[1], 1.0)
    target = (max(1, round(size[0] * factor)), max(1, round(size[1] * factor)))
    return image if target == image.size else image.resize(target, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _region(image: Image.Image, viewport: Viewport, scale: float) -> Image.Image:
    if not viewport.has_region:
        return image
    width, height = (
        image.width / scale - viewport.x if viewport.region_width is None else viewport.region_width,
        image.height / scale - viewport.y if viewport.region_height is None else viewport.region_height,
    )
    left, top = min(round(viewport.x * scale), image.width - 1), min(round(viewport.y * scale), image.height - 1)
    right = min(max(round((viewport.x + abs(width)) * scale), left + 1), image.width)
    bottom = min(max(round((viewport.y + abs(height)) * scale), top + 1), image.height)
    image = image.crop((left, top, right, bottom))
    if width < 0:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if height < 0:
        image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    return image


def _square_pixels(size: tuple[int, int], aspect_ratio: float) -> tuple[int, int]:
    """Return the size with square pixels. The longer side of a pixel is stretched, so that no detail is lost."""
    width, height = size
    return (width, round(height * aspect_ratio)) if aspect_ratio > 1 else (round(width / aspect_ratio), height)
