"""Decodes frames in HTJ2K and their resolutions.

The filters of a wavelet transformation overshoot at edges, so a resolution, or a lossy frame, has values below and
above those of the original. The decoder keeps only as many bits as the frame has, and would return a value below zero
as a large one: black as white. So the codestream is made to declare more bits, and the values are limited afterwards.

References
----------
ITU-T T.800, sections A.5.1 (SIZ) and G.1 (DC level shift), and annex F (reversible transformation).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np

from framegate.jpeg2000.pixels import LOSSLESS, MAX_HEADER_BYTES, read_header

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from framegate.rendering.presentation import Presentation

_SIZ = b"\xff\x4f\xff\x51"
_COMPONENTS, _FIRST_SSIZ, _COMPONENT_BYTES = 40, 42, 3
"""Offsets from SOC of Csiz and of the first component, and bytes of a component."""

_IS_SIGNED = 0x80
_WIDE_BITS = {8: 14, 24: 28}
"""Bits to declare, by the maximum bits of the frame. The decoder returns them in 16 and in 32 bits."""


def decode_htj2k(
    content: bytes, transfer_syntax_uid: str, presentation: Presentation, skip_decompositions: int
) -> NDArray[Any]:
    """Decode a frame, or one of its resolutions.

    Parameters
    ----------
    content : bytes
        The stored frame, or the codestream of a resolution.
    transfer_syntax_uid : str
        Whether the frame is lossless.
    presentation : Presentation
        The values that samples can have.
    skip_decompositions : int
        Decompositions to leave undone.

    Returns
    -------
    array
        Samples with as many bits as those of the frame, all within the frame's possible values.
    """
    if transfer_syntax_uid in LOSSLESS and not skip_decompositions:
        return np.asarray(imagecodecs.htj2k_decode(content))
    header = read_header(content[:MAX_HEADER_BYTES])
    bits, is_signed = header.bits, bool(content[content.index(_SIZ) + _FIRST_SSIZ] & _IS_SIGNED)
    low, high = _possible_values(bits, presentation, is_signed=is_signed)
    wide_bits = next((wide for most, wide in _WIDE_BITS.items() if bits <= most), None)
    if wide_bits is None or not header.is_uniform:
        samples = _unwrapped(imagecodecs.htj2k_decode(content, skipres=skip_decompositions), presentation)
        np.clip(samples, low, high, out=samples)
    else:
        samples = imagecodecs.htj2k_decode(_declaring(content, wide_bits), skipres=skip_decompositions)
        if not header.is_reversible:
            # The decoder scales the result of the irreversible transformation to the declared bits.
            samples += 1 << wide_bits - bits - 1
            samples >>= wide_bits - bits
        # Signed samples have no level shift, so the decoder has left it out.
        shift = 0 if is_signed else 1 << bits - 1
        np.clip(samples, low - shift, high - shift, out=samples)
        samples += shift
    return samples.astype(f"{'i' if is_signed else 'u'}{header.sample_bytes}")


def _possible_values(bits: int, presentation: Presentation, *, is_signed: bool) -> tuple[int, int]:
    """Return the least and the greatest value that a sample of the frame can have."""
    stored = presentation.bits_stored
    if presentation.is_signed == is_signed and presentation.high_bit == stored - 1:
        bits = min(bits, stored)
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if is_signed else (0, (1 << bits) - 1)


def _declaring(content: bytes, bits: int) -> bytes:
    """Return the codestream with this many bits for the samples of each component, and with signed ones."""
    changed = bytearray(content)
    start = content.index(_SIZ)
    components = int.from_bytes(content[start + _COMPONENTS : start + _FIRST_SSIZ], "big")
    for number in range(components):
        changed[start + _FIRST_SSIZ + number * _COMPONENT_BYTES] = _IS_SIGNED | bits - 1
    return bytes(changed)


def _unwrapped(samples: NDArray[Any], presentation: Presentation) -> NDArray[Any]:
    """Return samples of up to 32 bits with the overshoot that their size has cut off.

    Of the values that have the same lowest bits, the one that is closest to the values of the frame is likely.
    """
    size = 8 * samples.dtype.itemsize
    if presentation.value_range is None:
        least, greatest = _possible_values(size, presentation, is_signed=samples.dtype.kind == "i")
    else:
        least, greatest = presentation.value_range
    start = (least + greatest + 1) // 2 - (1 << size - 1)
    return (samples.astype(np.int64) - start) % (1 << size) + start
