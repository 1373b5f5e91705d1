"""Lays pictures out on sheets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TILE_PIXELS, CAPTION_PIXELS, COLUMNS = 256, 34, 5
SIDE_PIXELS = 420
"""Width of each picture in `side_by_side`."""


def essence(content_type: str) -> str:
    """Return a media type without its parameters, such as ``transfer-syntax``."""
    return content_type.partition(";")[0].strip().lower()


def picture_of_pixels(pixels: np.ndarray) -> Image.Image:
    """Convert decoded pixels to an 8-bit picture."""
    return Image.fromarray(_eight_bit(pixels))


def _eight_bit(pixels: np.ndarray) -> np.ndarray:
    """Stretch grey levels from the 1st to the 99th percentile over the 8-bit range; leave 8-bit pixels unchanged."""
    if pixels.dtype == np.uint8:
        return pixels
    low, high = np.percentile(pixels, (1, 99))
    scaled = (pixels.astype(np.float32) - low) / max(1.0, float(high - low)) * 255
    return np.asarray(scaled.clip(0, 255), dtype=np.uint8)


def side_by_side(pictures: Sequence[tuple[str, Image.Image]], path: Path) -> None:
    """Write pictures of one image next to each other at the same width, with captions; enlarged pixels stay sharp."""
    width = SIDE_PIXELS
    height = max(round(SIDE_PIXELS * picture.height / picture.width) for _, picture in pictures)
    sheet = Image.new("RGB", (len(pictures) * width, height + CAPTION_PIXELS), "#101014")
    draw = ImageDraw.Draw(sheet)
    for place, (caption, picture) in enumerate(pictures):
        is_enlarged = picture.width < width
        resampling = Image.Resampling.NEAREST if is_enlarged else Image.Resampling.LANCZOS
        size = (width - 8, round((width - 8) * picture.height / picture.width))
        sheet.paste(picture.convert("RGB").resize(size, resampling), (place * width + 4, 4))
        draw.text((place * width + 8, height + 8), caption, fill="#d0d0d8")
    sheet.save(path)


def contact_sheet(pictures: Sequence[tuple[str, Image.Image]], path: Path) -> None:
    """Write all pictures with their captions on one sheet."""
    rows = -(-len(pictures) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * TILE_PIXELS, rows * (TILE_PIXELS + CAPTION_PIXELS)), "#101014")
    draw = ImageDraw.Draw(sheet)
    for place, (caption, picture) in enumerate(pictures):
        left, top = place % COLUMNS * TILE_PIXELS, place // COLUMNS * (TILE_PIXELS + CAPTION_PIXELS)
        tile = picture.convert("RGB")
        tile.thumbnail((TILE_PIXELS - 8, TILE_PIXELS - 8))
        sheet.paste(tile, (left + (TILE_PIXELS - tile.width) // 2, top + (TILE_PIXELS - tile.height) // 2))
        draw.text((left + 6, top + TILE_PIXELS + 4), caption, fill="#d0d0d8")
    sheet.save(path)
