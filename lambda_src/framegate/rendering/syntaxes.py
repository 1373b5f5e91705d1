"""The transfer syntaxes of frames that can be drawn."""

from __future__ import annotations

_PREFIX = "1.2.840.10008.1.2"
UNCOMPRESSED = frozenset({_PREFIX, f"{_PREFIX}.1"})
RLE = f"{_PREFIX}.5"
JPEG = frozenset({f"{_PREFIX}.4.50", f"{_PREFIX}.4.51", f"{_PREFIX}.4.57", f"{_PREFIX}.4.70"})
JPEG_2000 = frozenset({f"{_PREFIX}.4.90", f"{_PREFIX}.4.91"})
HTJ2K = frozenset({f"{_PREFIX}.4.201", f"{_PREFIX}.4.202", f"{_PREFIX}.4.203"})
JPEG_XL = frozenset({f"{_PREFIX}.4.110", f"{_PREFIX}.4.111", f"{_PREFIX}.4.112"})
JPEG_LS = frozenset({f"{_PREFIX}.4.80", f"{_PREFIX}.4.81"})
SYNTAXES = UNCOMPRESSED | JPEG | JPEG_2000 | HTJ2K | JPEG_XL | JPEG_LS | {RLE}
"""The transfer syntaxes that can be drawn."""

MAX_SAMPLES = 200_000_000
"""Maximum number of samples of a frame that is decoded. A mammogram has 30 million."""
