"""Frames in HTJ2K with the structure of HealthImaging's own."""

from __future__ import annotations

from functools import cache

import imagecodecs
import numpy as np

from framegate.rest.http import INLINE_LIMIT

DECOMPOSITIONS = 5
ROWS, COLUMNS = 700, 1000


def image(rows, columns, seed=7):
    """Pixels with structure at every scale, so that each resolution adds bytes."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :columns]
    smooth = 800 * np.sin(x / 37) * np.cos(y / 53) + (x + y) % 97 * 5
    return (smooth + random.normal(0, 60, (rows, columns)) + 2000).clip(0, 4095).astype(np.uint16)


def encoded(pixels, **options):
    as_the_service_does = {
        "reversible": True,
        "resolutions": DECOMPOSITIONS,
        "tlm": True,
        "tilepart": imagecodecs.HTJ2K.TILEPART.RESOLUTIONS,
    }
    return imagecodecs.htj2k_encode(pixels, **{**as_the_service_does, **options})


@cache
def large_content():
    """A frame above the inline limit."""
    content = encoded(image(4_000, 3_000))
    assert len(content) > INLINE_LIMIT
    return content


PIXELS = image(ROWS, COLUMNS)
CONTENT = encoded(PIXELS)
