"""Decodes a stored frame to samples.

References
----------
DICOM PS3.5, section 8 and annex A: encodings of pixel data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np

from framegate.rendering.declared_size import NoSizeError, size_of_jpeg, size_of_jpeg_xl
from framegate.rendering.drawing import UnsupportedPixelsError
from framegate.rendering.htj2k import decode_htj2k
from framegate.rendering.syntaxes import HTJ2K, JPEG, JPEG_2000, JPEG_LS, JPEG_XL, MAX_SAMPLES, RLE, UNCOMPRESSED

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from framegate.rendering.presentation import Presentation


ANOTHER_SIZE = "The frame has another size than its attributes say"
"""Why a frame is not drawn whose codestream contradicts its rows and columns."""


class DamagedFrameError(ValueError):
    """The frame cannot be decoded."""


def decode(
    content: bytes, transfer_syntax_uid: str, presentation: Presentation, *, skip_decompositions: int = 0
) -> NDArray[Any]:
    """Decode a frame, or one of its resolutions.

    Parameters
    ----------
    content : bytes
        The stored frame, or the codestream of a resolution.
    transfer_syntax_uid : str
        Its encoding.
    presentation : Presentation
        Its size and the kind of its samples.
    skip_decompositions : int
        Decompositions to leave undone, which halves the size each time. Only frames in HTJ2K support it.

    Returns
    -------
    array of shape (rows, columns) or (rows, columns, 3)
        The stored values, with colours by pixel. JPEG's colours are RGB.

    Raises
    ------
    UnsupportedPixelsError
        If no decoder is there for it.
    DamagedFrameError
        If the decoder refuses the frame, or the frame has another size than its attributes say.
    """
    if transfer_syntax_uid in UNCOMPRESSED:
        return _uncompressed(content, presentation)
    _check_declared_size(content, transfer_syntax_uid, presentation)
    try:
        samples = _decoder_of(transfer_syntax_uid, presentation, skip_decompositions)(content)
    except (UnsupportedPixelsError, DamagedFrameError, MemoryError):
        raise
    except Exception as error:
        raise DamagedFrameError(f"The frame cannot be decoded: {type(error).__name__}") from None
    if samples.ndim == 3 and samples.shape[2] == 1:
        samples = samples[..., 0]
    channels = samples.shape[2] if samples.ndim == 3 else 1
    if samples.ndim not in (2, 3) or channels != presentation.samples_per_pixel:
        raise DamagedFrameError("The frame has another number of samples per pixel than its attributes say")
    return _signed(samples, presentation)


def _check_declared_size(content: bytes, syntax: str, presentation: Presentation) -> None:
    """Check the size that a frame declares, before a decoder allocates memory for it.

    Raises
    ------
    DamagedFrameError
        If the frame declares another size than its attributes, or none.
    """
    try:
        if syntax in JPEG | JPEG_LS:
            declared = size_of_jpeg(content)
        elif syntax in JPEG_XL:
            declared = size_of_jpeg_xl(content)
        else:
            return
    except NoSizeError:
        raise DamagedFrameError("The headers of the frame are damaged") from None
    # JPEG XL's orientation can exchange both sides, and the decoder applies it.
    if sorted(declared) != sorted((presentation.columns, presentation.rows)):
        raise DamagedFrameError(ANOTHER_SIZE)


def _decoder_of(syntax: str, presentation: Presentation, skip_decompositions: int) -> Callable[[bytes], NDArray[Any]]:
    if syntax in HTJ2K:
        return lambda content: decode_htj2k(content, syntax, presentation, skip_decompositions)
    if syntax in JPEG_2000:
        return lambda content: imagecodecs.jpeg2k_decode(content, numthreads=1)
    if syntax in JPEG:
        return lambda content: _jpeg(content, presentation)
    if syntax in JPEG_XL:
        # Of an animation, the first picture is the frame.
        return lambda content: imagecodecs.jpegxl_decode(content, index=0, numthreads=1)
    if syntax in JPEG_LS:
        return lambda content: imagecodecs.jpegls_decode(content)
    if syntax == RLE:
        return lambda content: _rle(content, presentation)
    raise UnsupportedPixelsError("Frames in this transfer syntax cannot be drawn")


def _uncompressed(content: bytes, presentation: Presentation) -> NDArray[Any]:
    """Read samples of 1, 8, 16 or 32 bits, little endian (DICOM PS3.5, sections 8.1.1 and 8.2)."""
    rows, columns, channels = presentation.rows, presentation.columns, presentation.samples_per_pixel
    count = rows * columns * channels
    if count > MAX_SAMPLES:
        raise UnsupportedPixelsError(f"Frames of more than {MAX_SAMPLES:,} samples cannot be drawn")
    bits = presentation.bits_allocated
    if presentation.photometric_interpretation == "YBR_FULL_422":
        return _subsampled(content, presentation)
    if bits == 1:
        samples = np.unpackbits(np.frombuffer(content, np.uint8), bitorder="little")
    elif bits in (8, 16, 32):
        samples = np.frombuffer(content, f"<u{bits // 8}", count=min(count, len(content) // (bits // 8)))
    else:
        raise UnsupportedPixelsError(f"Samples of {bits} bits cannot be drawn")
    if len(samples) < count:
        raise DamagedFrameError("The frame is shorter than its attributes say")
    samples = samples[:count]
    if channels == 1:
        return _signed(samples.reshape(rows, columns), presentation)
    if presentation.is_planar:
        return _signed(np.moveaxis(samples.reshape(channels, rows, columns), 0, 2), presentation)
    return _signed(samples.reshape(rows, columns, channels), presentation)


def _subsampled(content: bytes, presentation: Presentation) -> NDArray[Any]:
    """Read YBR_FULL_422: two luminances share their colours (DICOM PS3.3, section C.7.6.3.1.2)."""
    rows, columns = presentation.rows, presentation.columns
    if presentation.bits_allocated != 8 or columns % 2:
        raise UnsupportedPixelsError("Subsampled colours need samples of 8 bits and an even number of columns")
    count = rows * columns * 2
    if len(content) < count:
        raise DamagedFrameError("The frame is shorter than its attributes say")
    pairs = np.frombuffer(content, np.uint8, count=count).reshape(rows, columns // 2, 4)
    samples = np.empty((rows, columns, 3), np.uint8)
    samples[:, 0::2, 0], samples[:, 1::2, 0] = pairs[..., 0], pairs[..., 1]
    samples[..., 1] = np.repeat(pairs[..., 2], 2, axis=1)
    samples[..., 2] = np.repeat(pairs[..., 3], 2, axis=1)
    return samples


def _jpeg(content: bytes, presentation: Presentation) -> NDArray[Any]:
    """Decode JPEG to the colours that the attributes name; the photometric interpretation wins over JPEG's markers."""
    if presentation.samples_per_pixel == 1 or presentation.bits_allocated > 8:
        samples: NDArray[Any] = imagecodecs.jpeg_decode(content)
        return samples
    colours = 2 if presentation.photometric_interpretation == "RGB" else 3  # JCS_RGB or JCS_YCbCr
    return imagecodecs.jpeg8_decode(content, colorspace=colours, outcolorspace=colours)


def _rle(content: bytes, presentation: Presentation) -> NDArray[Any]:
    channels, size = presentation.samples_per_pixel, presentation.bits_allocated // 8
    count = presentation.rows * presentation.columns * channels
    if count > MAX_SAMPLES or size not in (1, 2, 4):
        raise UnsupportedPixelsError(f"RLE frames of {count:,} samples of {8 * size} bits cannot be drawn")
    planes = np.frombuffer(imagecodecs.dicomrle_decode(content, f"<u{size}"), f"<u{size}")
    if len(planes) < count:
        raise DamagedFrameError("The frame is shorter than its attributes say")
    planes = planes[:count].reshape(channels, presentation.rows, presentation.columns)
    return planes[0] if channels == 1 else np.moveaxis(planes, 0, 2)


def _signed(samples: NDArray[Any], presentation: Presentation) -> NDArray[Any]:
    """Keep the stored bits of each sample only, and extend their sign (DICOM PS3.5, section 8.1.1)."""
    if samples.dtype.kind not in "ui" or presentation.samples_per_pixel > 1:
        return samples
    size = 8 * samples.dtype.itemsize
    stored = min(presentation.bits_stored, size)
    if presentation.is_signed:
        above = max(size - 1 - presentation.high_bit, 0) if size == presentation.bits_allocated else size - stored
        signed = samples.astype(f"i{size // 8}")
        return signed << above >> (size - stored)
    if samples.dtype.kind == "i":
        samples = samples.view(f"u{size // 8}")
    low = presentation.high_bit + 1 - stored if size == presentation.bits_allocated else 0
    return samples if stored == size else (samples >> low) & (2**stored - 1)
