"""Resolutions of frames in HTJ2K, whose filtering overshoots at edges."""

from __future__ import annotations

from types import SimpleNamespace

import imagecodecs
import numpy as np
import pytest

from framegate.rendering.decoding import decode

HTJ2K_RPCL = "1.2.840.10008.1.2.4.202"


def edges(highest):
    """A black image with bright squares: its resolutions overshoot below black and above white."""
    pixels = np.zeros((256, 256), np.uint16)
    for start in range(20, 230, 60):
        pixels[start : start + 31, start : start + 31] = highest
    return pixels


def presentation(bits_stored, value_range=None):
    return SimpleNamespace(
        rows=256,
        columns=256,
        samples_per_pixel=1,
        bits_allocated=16,
        bits_stored=bits_stored,
        high_bit=bits_stored - 1,
        is_signed=False,
        value_range=value_range,
    )


@pytest.mark.parametrize("skipped", [1, 2, 3])
@pytest.mark.parametrize(("bits_stored", "value_range"), [(12, None), (15, None), (16, (0, 4095))])
def test_black_stays_black_where_a_resolution_overshoots(bits_stored, value_range, skipped):
    frame = edges(4095)
    content = imagecodecs.htj2k_encode(frame, reversible=True)
    # The decoder alone returns values near 65,535, so that this test can fail.
    assert imagecodecs.htj2k_decode(content, skipres=skipped).max() > 60_000

    found = decode(content, HTJ2K_RPCL, presentation(bits_stored, value_range), skip_decompositions=skipped)

    assert found.max() < 2 * 4095
    assert found.max() <= 2**bits_stored - 1
    assert found.min() == 0


def test_whole_frame_is_returned_as_stored():
    frame = edges(65_535)
    content = imagecodecs.htj2k_encode(frame, reversible=True)

    assert (decode(content, HTJ2K_RPCL, presentation(16, (0, 65_535))) == frame).all()
