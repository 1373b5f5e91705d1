"""CRC32 checksums in S3's encoding, and their combination."""

from __future__ import annotations

from base64 import b64encode

_POLYNOMIAL = 0xEDB88320
_ONE, _ONE_BYTE = 1 << 31, 1 << 23
"""The polynomials x⁰ and x⁸. The highest bit of a CRC is the lowest coefficient."""


def base64_of(crc: int) -> str:
    """Encode a CRC32 as S3 does (Amazon S3 user guide, "Checking object integrity for data uploads")."""
    return b64encode(crc.to_bytes(4, "big")).decode()


def crc32_combine(first: int, second: int, second_size: int) -> int:
    """Return the CRC32 of two concatenated byte strings from their own CRC32s.

    Parameters
    ----------
    first, second : int
        The CRC32 of the first and of the second byte string.
    second_size : int
        Length of the second byte string.

    References
    ----------
    ISO 3309 defines the polynomial. Each byte that follows multiplies the preceding ones by x⁸, modulo the polynomial.
    zlib has the same function, ``crc32_combine``, but Python does not expose it.

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
    """Return the product of two polynomials over GF(2), modulo the polynomial of the CRC."""
    product = 0
    for bit in range(31, -1, -1):
        if a >> bit & 1:
            product ^= b
        b = b >> 1 ^ _POLYNOMIAL if b & 1 else b >> 1
    return product
