"""CRC32 as S3 has it, and that of a whole out of those of its parts."""

from __future__ import annotations

from base64 import b64encode

_POLYNOMIAL = 0xEDB88320
_ONE, _ONE_BYTE = 1 << 31, 1 << 23
"""x to the power of 0 and of 8: a CRC's highest bit is the lowest coefficient."""


def base64_of(crc: int) -> str:
    """A CRC32 as S3 writes it (Amazon S3 user guide, "Checking object integrity for data uploads")."""
    return b64encode(crc.to_bytes(4, "big")).decode()


def crc32_combine(first: int, second: int, second_size: int) -> int:
    """The CRC32 of bytes that follow each other, without a look at them.

    Parameters
    ----------
    first, second : int
        The CRC32 of the first bytes, and of the second.
    second_size : int
        How many the second bytes are.

    References
    ----------
    ISO 3309, the polynomial. Bytes that follow multiply what precedes them by x to the power of eight for each, modulo
    the polynomial; zlib has the same as ``crc32_combine``, which Python does not pass on.

    Examples
    --------
    >>> from zlib import crc32
    >>> crc32_combine(crc32(b"first "), crc32(b"second"), 6) == crc32(b"first second")
    True
    """
    shift, power = _ONE, _ONE_BYTE
    while second_size:
        if second_size & 1:
            shift = _product(shift, power)
        power = _product(power, power)
        second_size >>= 1
    return _product(first, shift) ^ second


def _product(a: int, b: int) -> int:
    """The product of two polynomials over GF(2), modulo that of the CRC."""
    product = 0
    for bit in range(31, -1, -1):
        if a >> bit & 1:
            product ^= b
        b = b >> 1 ^ _POLYNOMIAL if b & 1 else b >> 1
    return product
