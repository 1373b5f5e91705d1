"""Bounds of JPEG 2000 codestreams."""

MAX_DECOMPOSITIONS = 32
"""Maximum number of decompositions of an image (ITU-T T.800, table A.15)."""
