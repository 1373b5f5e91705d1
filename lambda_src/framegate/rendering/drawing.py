"""Draws decoded samples: modality and VOI transformations, colour, and size. Pure computation with numpy.

References
----------
DICOM PS3.3, sections C.7.6.3.1.2 (colour), C.11.1 (modality LUT), C.11.2 (VOI LUT) and C.11.6 (presentation LUT).
DICOM PS3.4, section N.2: the order of the transformations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from framegate.rendering.presentation import LookupTable, Presentation, Window

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WHITE = 255.0
_BLOCK_ROWS = 256
"""Rows that are converted at a time, so that floating-point copies stay small."""

RGB_INTERPRETATIONS = frozenset({"RGB", "YBR_RCT", "YBR_ICT"})
"""Interpretations whose samples are RGB once a JPEG 2000 decoder has undone its component transformation."""


class UnsupportedPixelsError(ValueError):
    """Samples of this kind cannot be drawn; the text says which kind."""


def draw(samples: NDArray[Any], presentation: Presentation, window: Window | None = None) -> NDArray[np.uint8]:
    """Draw a frame.

    Parameters
    ----------
    samples : array of shape (rows, columns) or (rows, columns, 3)
        The stored values, sign-extended; colours by pixel.
    presentation : Presentation
        How to draw them.
    window : Window, optional
        The window to use instead of the presentation's.

    Returns
    -------
    array of uint8, of shape (rows, columns) or (rows, columns, 3)
        Grey values, or red, green and blue.

    Raises
    ------
    UnsupportedPixelsError
        If the samples do not fit the photometric interpretation.
    """
    interpretation = presentation.photometric_interpretation
    if samples.ndim == 3:
        return _draw_colour(samples, presentation)
    if interpretation == "PALETTE COLOR":
        return _draw_palette(samples, presentation.palette)
    if not interpretation.startswith("MONOCHROME"):
        raise UnsupportedPixelsError("One sample per pixel does not fit the photometric interpretation")
    # Both inversions undo each other.
    is_inverted = (interpretation == "MONOCHROME1") != presentation.is_inverted
    chosen = window or presentation.window
    if chosen is None and presentation.voi_table is None:
        chosen = _full_window(samples, presentation)
    picture = np.empty(samples.shape, np.uint8)
    for start in range(0, len(samples), _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        values = _modality_values(samples[block], presentation)
        grey = _windowed(values, chosen) if chosen else _looked_up(values, presentation.voi_table)
        picture[block] = np.rint(_WHITE - grey if is_inverted else grey)
    return picture


def _modality_values(samples: NDArray[Any], presentation: Presentation) -> NDArray[np.float64]:
    if presentation.modality_table:
        return _entries(samples, presentation.modality_table).astype(np.float64)
    return samples * np.float64(presentation.slope) + presentation.intercept


def _windowed(values: NDArray[np.float64], window: Window) -> NDArray[np.float64]:
    """Map values to 0 to 255 (DICOM PS3.3, sections C.11.2.1.2.1 and C.11.2.1.3)."""
    center, width = window.center, window.width
    if window.function == "SIGMOID":
        with np.errstate(over="ignore"):
            return _WHITE / (1 + np.exp(-4 * (values - center) / width))
    if window.function == "LINEAR":
        center, width = center - 0.5, width - 1
    if width <= 0:
        # A width of 1 is a threshold.
        return np.where(values > center, _WHITE, 0.0)
    return np.clip((values - center) / width + 0.5, 0, 1) * _WHITE


def _looked_up(values: NDArray[np.float64], table: LookupTable | None) -> NDArray[np.float64]:
    if table is None:
        raise UnsupportedPixelsError("There is neither a window nor a table")
    grey: NDArray[np.float64] = _entries(values, table) * (_WHITE / (2**table.bits - 1))
    return grey


def _entries(values: NDArray[Any], table: LookupTable) -> NDArray[Any]:
    entries = np.array(table.entries, np.uint16)
    indices = np.clip(np.rint(values).astype(np.int64) - table.first, 0, len(entries) - 1)
    found: NDArray[Any] = entries[indices]
    return found


def _full_window(samples: NDArray[Any], presentation: Presentation) -> Window:
    """Return the window from the least to the greatest stored value of the frame."""
    ends = np.array(presentation.value_range or [samples.min(), samples.max()])
    low, high = sorted(_modality_values(ends, presentation).tolist())
    return Window((low + high) / 2, max(high - low, 1e-9), "LINEAR_EXACT")


def _draw_palette(samples: NDArray[Any], palette: tuple[LookupTable, ...]) -> NDArray[np.uint8]:
    picture = np.empty((*samples.shape, 3), np.uint8)
    for channel, table in enumerate(palette):
        entries = np.array(table.entries, np.float64)
        # Some writers store 8-bit colours in 16-bit entries, and say so nowhere.
        bits = 8 if entries.max(initial=0) < 256 else table.bits
        colours = np.rint(entries * (_WHITE / (2**bits - 1))).astype(np.uint8)
        indices = np.clip(samples.astype(np.int64) - table.first, 0, len(colours) - 1)
        picture[..., channel] = colours[indices]
    return picture


def _draw_colour(samples: NDArray[Any], presentation: Presentation) -> NDArray[np.uint8]:
    if samples.shape[2] != 3:
        raise UnsupportedPixelsError(f"{samples.shape[2]} samples per pixel are not a colour")
    eight_bit = _eight_bit(samples, presentation.bits_stored)
    interpretation = presentation.photometric_interpretation
    if interpretation in RGB_INTERPRETATIONS:
        return eight_bit
    if interpretation.startswith("YBR_FULL"):
        return _rgb_of_ybr(eight_bit)
    raise UnsupportedPixelsError("Three samples per pixel do not fit the photometric interpretation")


def _eight_bit(samples: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    if bits <= 8 and samples.dtype == np.uint8:
        return samples
    scaled: NDArray[np.uint8] = np.rint(samples * (_WHITE / (2**bits - 1))).clip(0, _WHITE).astype(np.uint8)
    return scaled


def _rgb_of_ybr(ybr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert YBR_FULL to RGB (DICOM PS3.3, section C.7.6.3.1.2)."""
    rgb = np.empty_like(ybr)
    for start in range(0, len(ybr), _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        y, blue, red = (ybr[block, :, channel].astype(np.float32) for channel in range(3))
        blue -= 128
        red -= 128
        channels = (y + 1.402 * red, y - 0.344136 * blue - 0.714136 * red, y + 1.772 * blue)
        for channel, values in enumerate(channels):
            rgb[block, :, channel] = np.rint(values).clip(0, _WHITE)
    return rgb
