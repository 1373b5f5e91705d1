"""Resolutions of frames in HTJ2K, whose filtering overshoots at edges below the least and above the greatest value."""

from __future__ import annotations

from types import SimpleNamespace

import imagecodecs
import numpy as np
import pytest

from framegate.rendering.decoding import decode
from tests.unit.rendering.wavelets import resolution

LOSSLESS, LOSSY = "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203"


def edges(dtype, low, high, channels=1):
    """An image of the two extremes with squares, stripes and noise: its resolutions overshoot on both sides."""
    pixels = np.full((251, 254, channels), low, dtype)
    for start in range(20, 230, 60):
        pixels[start : start + 31, start : start + 31] = high
    noise = np.random.default_rng(7).integers(low, high, (30, 254, channels), dtype=dtype, endpoint=True)
    pixels[100:130] = noise
    pixels[:, 200:230:3, channels // 2] = high
    return pixels if channels > 1 else pixels[..., 0]


def presentation(pixels, bits_stored, *, value_range=None, high_bit=None):
    return SimpleNamespace(
        rows=pixels.shape[0],
        columns=pixels.shape[1],
        samples_per_pixel=3 if pixels.ndim == 3 else 1,
        photometric_interpretation="RGB" if pixels.ndim == 3 else "MONOCHROME2",
        bits_allocated=8 * pixels.itemsize,
        bits_stored=bits_stored,
        high_bit=bits_stored - 1 if high_bit is None else high_bit,
        is_signed=pixels.dtype.kind == "i",
        value_range=value_range,
    )


@pytest.mark.parametrize("skipped", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("dtype", "low", "high", "bits_stored", "channels"),
    [
        (np.uint8, 0, 255, 8, 1),
        (np.uint8, 0, 127, 7, 1),
        (np.uint8, 0, 255, 8, 3),
        (np.int8, -128, 127, 8, 1),
        (np.uint16, 0, 4095, 12, 1),
        (np.uint16, 0, 65_535, 16, 1),
        (np.int16, -2048, 2047, 12, 1),
        (np.int16, -32_768, 32_767, 16, 1),
        (np.uint32, 0, 2**20 - 1, 20, 1),
        (np.int32, -(2**20), 2**20 - 1, 21, 1),
    ],
)
def test_resolution_is_that_of_the_standard_within_the_possible_values(
    dtype, low, high, bits_stored, channels, skipped
):
    frame = edges(dtype, low, high, channels)
    content = imagecodecs.htj2k_encode(frame, reversible=True, resolutions=4)
    expected = resolution(frame, skipped)
    if skipped:
        # The image can show errors on both sides.
        assert expected.min() < low
        assert expected.max() > high

    found = decode(content, LOSSLESS, presentation(frame, bits_stored), skip_decompositions=skipped)

    assert (found == expected.clip(low, high)).all()


@pytest.mark.parametrize("skipped", [1, 2, 3])
def test_listed_values_tell_overshoot_from_large_samples_of_32_bits(skipped):
    frame = edges(np.uint32, 0, 2**28)
    content = imagecodecs.htj2k_encode(frame, reversible=True, resolutions=4)
    shown = presentation(frame, 32, value_range=(0, 2**28))

    found = decode(content, LOSSLESS, shown, skip_decompositions=skipped)

    assert (found == resolution(frame, skipped).clip(0)).all()


def test_samples_in_the_highest_bits_use_all_of_them():
    frame = edges(np.uint16, 0, 65_520)
    content = imagecodecs.htj2k_encode(frame, reversible=True, resolutions=4)

    found = decode(content, LOSSLESS, presentation(frame, 12, high_bit=15), skip_decompositions=1)

    assert (found == resolution(frame, 1).clip(0, 65_535) >> 4).all()


@pytest.mark.parametrize("skipped", [0, 1, 2])
@pytest.mark.parametrize(
    ("dtype", "low", "high", "bits_stored", "channels"),
    [
        (np.uint8, 0, 255, 8, 1),
        (np.uint8, 0, 255, 8, 3),
        (np.uint16, 0, 4095, 12, 1),
        (np.uint16, 0, 65_535, 16, 1),
        (np.int16, -32_768, 32_767, 16, 1),
    ],
)
def test_extremes_of_a_lossy_frame_stay_extremes(dtype, low, high, bits_stored, channels, skipped):
    frame = np.full((256, 256, channels) if channels > 1 else (256, 256), low, dtype)
    frame[64:192, 64:192] = high
    content = imagecodecs.htj2k_encode(frame, reversible=False, resolutions=4, level=0.02)
    # The decoder alone returns the opposite extreme somewhere, so that this test can fail.
    decoded_alone = imagecodecs.htj2k_decode(content).astype(np.int64)
    assert bits_stored == 12 or np.abs(decoded_alone - frame).max() == high - low

    found = decode(content, LOSSY, presentation(frame, bits_stored), skip_decompositions=skipped).astype(np.int64)

    size = 256 >> skipped
    assert np.abs(found[: size // 8, : size // 8] - low).max() <= (high - low) / 20
    middle = found[3 * size // 8 : 5 * size // 8, 3 * size // 8 : 5 * size // 8]
    assert np.abs(middle - high).max() <= (high - low) / 20
    assert low <= found.min()
    assert found.max() <= high


def test_lossy_frame_is_close_to_its_original():
    y, x = np.mgrid[:256, :256]
    frame = (2_000 + 1_500 * np.sin(x / 37) * np.cos(y / 53)).astype(np.uint16)
    content = imagecodecs.htj2k_encode(frame, reversible=False, level=1e-5)

    found = decode(content, LOSSY, presentation(frame, 12))

    assert np.abs(found.astype(int) - frame).max() <= 2
