"""The pixels of lossless frames: decoded, to be compared with the checksum that HealthImaging took at import."""

from __future__ import annotations

import sys
import zlib

UNCOMPRESSED = "1.2.840.10008.1.2.1"

JPEG_2000_LOSSLESS = frozenset(
    {
        "1.2.840.10008.1.2.4.90",  # JPEG 2000
        "1.2.840.10008.1.2.4.201",  # HTJ2K
        "1.2.840.10008.1.2.4.202",  # HTJ2K RPCL, what HealthImaging transcodes to
    }
)


class UndecodableError(ValueError):
    """The bytes are not an image of that transfer syntax."""


def is_verifiable(transfer_syntax_uid: str) -> bool:
    """Whether a frame of that transfer syntax decodes to the very pixels that were encoded.

    References
    ----------
    DICOM PS3.5, section 8.2 and annex A.4: these syntaxes are lossless by definition. Others, such as HTJ2K
    (1.2.840.10008.1.2.4.203), can be either.
    """
    return transfer_syntax_uid == UNCOMPRESSED or transfer_syntax_uid in JPEG_2000_LOSSLESS


def pixel_checksum(content: bytes, transfer_syntax_uid: str) -> int:
    """CRC32 of the pixels of a lossless frame, samples in little-endian order, colours by pixel.

    Parameters
    ----------
    content : bytes
        The stored frame.
    transfer_syntax_uid : str
        One for which `is_verifiable` holds.

    Raises
    ------
    UndecodableError
        If the frame does not decode.

    References
    ----------
    AWS HealthImaging developer guide, "Pixel data verification".
    """
    if transfer_syntax_uid == UNCOMPRESSED:
        return zlib.crc32(content)
    # In a Lambda layer, which the functions that export have and the REST API's does not.
    import openjpeg

    try:
        pixels = openjpeg.decode(content)
    except (RuntimeError, ValueError, TypeError) as error:
        raise UndecodableError("The frame does not decode.") from error
    if sys.byteorder == "big":
        pixels = pixels.byteswap()
    return zlib.crc32(pixels.tobytes())
