"""An independent implementation of resolutions: the low-pass of the reversible wavelet transformation.

References
----------
ITU-T T.800, sections F.4.2 (columns before rows), F.4.8.1 (the 5-3 filter) and G.2 (RCT).
"""

from __future__ import annotations

import numpy as np


def resolution(pixels, skip):
    """The resolution of lossless pixels that lacks `skip` decompositions, as integers that nothing limits."""
    values = pixels.astype(np.int64)
    if values.ndim == 3:
        red, green, blue = (values[..., channel] for channel in range(3))
        # RCT. The transformation is not linear, so luminance and differences are filtered, not the colours.
        planes = [(red + 2 * green + blue) >> 2, blue - green, red - green]
        luminance, blue_less, red_less = (resolution(plane, skip) for plane in planes)
        green = luminance - ((blue_less + red_less) >> 2)
        return np.stack([red_less + green, green, blue_less + green], axis=-1)
    for _ in range(skip):
        values = _low_pass(_low_pass(values).T).T
    return values


def _low_pass(values):
    if len(values) == 1:
        return values
    even, odd = values[0::2], values[1::2]
    following = even[1:] if len(even) > len(odd) else np.concatenate([even[1:], even[-1:]])
    high = odd - ((even[: len(odd)] + following) >> 1)
    before = np.concatenate([high[:1], high])[: len(even)]
    after = high if len(high) == len(even) else np.concatenate([high, high[-1:]])
    return even + ((before + after + 2) >> 2)
