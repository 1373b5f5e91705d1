"""Sizes a drawn frame and encodes it as a picture."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from PIL import Image, WebPImagePlugin  # noqa: F401 - registers WebP, without which Pillow would load every format

from framegate.rendering.request import GIF, JPEG, PNG, WEBP

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from framegate.rendering.request import PictureRequest, Viewport

_FORMATS = {JPEG: "JPEG", PNG: "PNG", GIF: "GIF", WEBP: "WEBP"}


def picture(
    drawn: NDArray[np.uint8], request: PictureRequest, columns: int, rows: int, aspect_ratio: float = 1.0
) -> bytes:
    """Encode a drawn frame.

    Parameters
    ----------
    drawn : array of uint8, of shape (rows, columns) or (rows, columns, 3)
        The frame, or one of its resolutions.
    request : PictureRequest
        The format, the region and the size.
    columns, rows : int
        Size of the whole frame in pixels.
    aspect_ratio : float
        Height of a pixel over its width.

    Returns
    -------
    bytes
        The encoded picture.
    """
    image = Image.fromarray(drawn)
    if request.viewport and request.viewport.has_region:
        image = _region(image, request.viewport, columns, rows)
    size = request.size(columns, rows, aspect_ratio)
    if size != image.size:
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    output = io.BytesIO()
    options = {"quality": request.quality} if request.media_type in (JPEG, WEBP) else {}
    image.save(output, _FORMATS[request.media_type], **options)
    return output.getvalue()


def _region(image: Image.Image, viewport: Viewport, columns: int, rows: int) -> Image.Image:
    """Cut a region out, and flip it if its width or height is negative (DICOM PS3.18, section 8.3.5.1.3)."""
    left, top, right, bottom = viewport.region(columns, rows)
    across, down = image.width / columns, image.height / rows
    x, y = min(round(left * across), image.width - 1), min(round(top * down), image.height - 1)
    image = image.crop((x, y, max(round(right * across), x + 1), max(round(bottom * down), y + 1)))
    if (viewport.region_width or 0) < 0:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if (viewport.region_height or 0) < 0:
        image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    return image
