"""Turns image frames into pictures to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import imagecodecs
import numpy as np
from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_DECODERS: dict[str, Callable[[bytes], np.ndarray]] = {
    "image/jph": imagecodecs.htj2k_decode,
    "image/jphc": imagecodecs.htj2k_decode,
    "image/j2c": imagecodecs.jpeg2k_decode,
    "image/jpeg": imagecodecs.jpeg8_decode,
}

TILE, CAPTION, COLUMNS = 256, 34, 5
SIDE = 420


def picture_of(content: bytes, media_type: str) -> Image.Image | None:
    """A frame as an 8-bit picture, or None if its media type is not one of an image."""
    decode = _DECODERS.get(media_type)
    return None if decode is None else picture_of_pixels(decode(content))


def picture_of_pixels(pixels: np.ndarray) -> Image.Image:
    """Decoded pixels as an 8-bit picture."""
    return Image.fromarray(_eight_bit(pixels))


def _eight_bit(pixels: np.ndarray) -> np.ndarray:
    """Grey levels between the 1st and the 99th percentile over the whole range; colours as they are."""
    if pixels.dtype == np.uint8:
        return pixels
    low, high = np.percentile(pixels, (1, 99))
    scaled = (pixels.astype(np.float32) - low) / max(1.0, float(high - low)) * 255
    return np.asarray(scaled.clip(0, 255), dtype=np.uint8)


def side_by_side(pictures: Sequence[tuple[str, Image.Image]], path: Path) -> None:
    """Write pictures of the same thing beside each other, all as large, each pixel as it is, with their captions."""
    width = SIDE
    height = max(round(SIDE * picture.height / picture.width) for _, picture in pictures)
    sheet = Image.new("RGB", (len(pictures) * width, height + CAPTION), "#101014")
    draw = ImageDraw.Draw(sheet)
    for place, (caption, picture) in enumerate(pictures):
        grown = picture.width < width
        resampling = Image.Resampling.NEAREST if grown else Image.Resampling.LANCZOS
        size = (width - 8, round((width - 8) * picture.height / picture.width))
        sheet.paste(picture.convert("RGB").resize(size, resampling), (place * width + 4, 4))
        draw.text((place * width + 8, height + 8), caption, fill="#d0d0d8")
    sheet.save(path)


def contact_sheet(pictures: Sequence[tuple[str, Image.Image]], path: Path) -> None:
    """Write all pictures, each with its caption, on one sheet."""
    rows = -(-len(pictures) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * TILE, rows * (TILE + CAPTION)), "#101014")
    draw = ImageDraw.Draw(sheet)
    for place, (caption, picture) in enumerate(pictures):
        left, top = place % COLUMNS * TILE, place // COLUMNS * (TILE + CAPTION)
        tile = picture.convert("RGB")
        tile.thumbnail((TILE - 8, TILE - 8))
        sheet.paste(tile, (left + (TILE - tile.width) // 2, top + (TILE - tile.height) // 2))
        draw.text((left + 6, top + TILE + 4), caption, fill="#d0d0d8")
    sheet.save(path)
