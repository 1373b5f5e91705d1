"""Converts pixel data to frames as HealthImaging does: preserves some transfer syntaxes, and transcodes the others."""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import imagecodecs
import numpy as np
from pydicom.encaps import generate_frames, parse_basic_offsets, parse_fragments
from pydicom.pixels.utils import pack_bits, pixel_array
from pydicom.tag import BaseTag

from local.health_imaging.attributes import name_of
from local.health_imaging.decoders import decode_frame
from local.health_imaging.frames import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    HTJ2K_RPCL,
    JPEG_2000_LOSSLESS,
    JPEG_BASELINE,
    JPEG_XL,
    VIDEO,
)
from local.health_imaging.import_warnings import InstanceWarning, WarningReason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pydicom import Dataset

LOSSLESS_STORAGE_FORMATS = {"HTJ2K": HTJ2K_RPCL, "JPEG_2000_LOSSLESS": JPEG_2000_LOSSLESS}
"""The transfer syntax of lossless frames, by a data store's ``losslessStorageFormat``."""

MAX_BASE_PIXELS = 64
"""Pixels on the longer side of the base resolution (DICOM PS3.5, section A.4.7, HTJ2K RPCL)."""

PIXEL_DATA = (BaseTag(0x7FE00010), BaseTag(0x7FE00008), BaseTag(0x7FE00009))
"""Pixel Data, Float Pixel Data and Double Float Pixel Data."""

_MAX_STEP = 4
"""Points of the reference grid per sample, in each direction. Decoders fill the whole grid."""
_MAX_RLE_RATIO = 64
"""Two bytes of an RLE segment encode at most 128 bytes (PS3.5, section G.3.2)."""


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """A frame to store, and the description of its pixels for the metadata."""

    content: bytes
    min_pixel_value: int | None = None
    max_pixel_value: int | None = None
    checksums: list[dict[str, int]] = field(default_factory=list)


class PixelDataError(ValueError):
    """Pixel data cannot be stored as frames. HealthImaging then imports the instance with a warning."""

    def __init__(self, reason: WarningReason, problem: str) -> None:
        super().__init__(problem)
        self.warning = InstanceWarning(reason, problem)


_wrong_pixels = partial(PixelDataError, WarningReason.TRANSCODING_EXCEPTION)


@dataclass(frozen=True, slots=True)
class _Layout:
    """The pixel layout of a frame (PS3.3, section C.7.6.3.1)."""

    rows: int
    columns: int
    samples: int
    bits_allocated: int
    bits_stored: int
    is_signed: bool

    @classmethod
    def of(cls, dataset: Dataset) -> _Layout:
        """Read the layout that a file declares.

        Raises
        ------
        PixelDataError
            If an attribute is missing or out of range.
        """
        bits_allocated = _number(dataset, "BitsAllocated", range(1, 65))
        return cls(
            rows=_number(dataset, "Rows", range(1, 1 << 16)),
            columns=_number(dataset, "Columns", range(1, 1 << 16)),
            samples=_number(dataset, "SamplesPerPixel", range(1, 1 << 16), 1),
            bits_allocated=bits_allocated,
            bits_stored=_number(dataset, "BitsStored", range(1, bits_allocated + 1), bits_allocated),
            is_signed=_number(dataset, "PixelRepresentation", range(2), 0) == 1,
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a frame's array."""
        return (self.rows, self.columns, self.samples) if self.samples > 1 else (self.rows, self.columns)

    @property
    def bits(self) -> int:
        """The size of an uncompressed frame in bits."""
        return math.prod(self.shape) * self.bits_allocated


def encode_frames(dataset: Dataset, lossless_storage_format: str = "HTJ2K") -> tuple[str, list[EncodedFrame]]:
    """Encode the frames of an instance as the service does; return their transfer syntax and the frames.

    Lossless frames are transcoded to the data store's format. Lossy frames and video are preserved (developer guide,
    "Supported transfer syntaxes").

    Raises
    ------
    PixelDataError
        If the pixel data cannot become frames.
    """
    tag = next((each for each in PIXEL_DATA if each in dataset), None)
    if tag is None:
        if "Rows" in dataset and "Columns" in dataset and "PixelDataProviderURL" not in dataset:
            problem = "The file has Rows and Columns, but no pixel data"
            raise PixelDataError(WarningReason.FRAMES_EXTRACTION_FAILURE, problem)
        return EXPLICIT_VR_LITTLE_ENDIAN, []
    if not isinstance(dataset[tag].value, bytes) or not dataset[tag].value:
        raise PixelDataError(WarningReason.FRAMES_EXTRACTION_FAILURE, f"{name_of(tag)} is empty")
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    if syntax not in VIDEO | _NATIVE | _PRESERVED | _TRANSCODED:
        problem = f"HealthImaging does not support the transfer syntax {syntax}"
        raise PixelDataError(WarningReason.UNSUPPORTED_TRANSFER_SYNTAX, problem)
    number_of_frames = _number(dataset, "NumberOfFrames", range(1, 1 << 31), 1)
    try:
        return _encode(dataset, syntax, number_of_frames, LOSSLESS_STORAGE_FORMATS[lossless_storage_format])
    except PixelDataError:
        raise
    except Exception as error:
        raise _wrong_pixels(f"The pixels cannot be decoded: {error}") from error


def _encode(dataset: Dataset, syntax: str, number_of_frames: int, stored: str) -> tuple[str, list[EncodedFrame]]:
    if syntax in VIDEO:
        # A video is one stream, in any number of fragments.
        return syntax, [EncodedFrame(b"".join(_encapsulated(dataset, 1)))]
    if syntax in _PRESERVED:
        contents = _encapsulated(dataset, number_of_frames)
        return syntax, [_preserved(each, dataset, syntax) for each in contents]
    layout = _Layout.of(dataset)
    if syntax in _TRANSCODED:
        contents = _encapsulated(dataset, number_of_frames)
        images = [_decoded(each, layout, syntax) for each in contents]
    else:
        images = list(_native(dataset, syntax, layout, number_of_frames))
    if layout.bits_allocated == 1:
        return EXPLICIT_VR_LITTLE_ENDIAN, [EncodedFrame(bytes(pack_bits(image))) for image in images]
    try:
        return stored, [_ENCODERS[stored](image) for image in images]
    except (ValueError, TypeError, NotImplementedError, imagecodecs.Htj2kError, imagecodecs.Jpeg2kError):
        # Pixels that the codec cannot represent, such as floating point, are stored uncompressed.
        return EXPLICIT_VR_LITTLE_ENDIAN, [_described(little_endian(image), image) for image in images]


def _number(dataset: Dataset, keyword: str, allowed: range, default: int | None = None) -> int:
    value = dataset[keyword].value if keyword in dataset else None
    if value is None and default is not None:
        return default
    if not isinstance(value, int) or value not in allowed:
        problem = "is missing" if value is None else "is not one"
        raise _wrong_pixels(f"{keyword} must be a whole number from {allowed[0]} to {allowed[-1]}, and {problem}")
    return int(value)


# Frames as the file has them


def _encapsulated(dataset: Dataset, number_of_frames: int) -> list[bytes]:
    """Split encapsulated pixel data into frames (PS3.5, section A.4).

    Raises
    ------
    PixelDataError
        If the number of frames differs from Number of Frames, or the offset table does not fit the fragments.
    """
    content = dataset.PixelData
    try:
        basic = parse_basic_offsets(content)
        # The first item holds the basic offset table; offsets count from the item after it.
        fragments = parse_fragments(content)[1][1:]
        offsets = basic or [offset for (offset,) in struct.iter_unpack("<Q", dataset.get("ExtendedOffsetTable") or b"")]
    except Exception as error:
        problem = "PixelData has no sequence of fragments, as its transfer syntax requires"
        raise PixelDataError(WarningReason.FRAMES_EXTRACTION_FAILURE, problem) from error
    starts = {each - fragments[0] for each in fragments}
    if offsets and (not starts.issuperset(offsets) or len(offsets) != number_of_frames):
        problem = "The offset table does not fit the fragments of PixelData"
        raise PixelDataError(WarningReason.INVALID_OFFSET_TABLE, problem)
    try:
        frames = list(generate_frames(content, number_of_frames=number_of_frames))
    except ValueError:
        frames = []
    if len(frames) != number_of_frames:
        problem = f"NumberOfFrames is {number_of_frames}, and PixelData has {len(fragments)} fragments"
        raise PixelDataError(WarningReason.FRAME_NUMBER_MISMATCH, problem)
    return frames


def _native(dataset: Dataset, syntax: str, layout: _Layout, number_of_frames: int) -> Iterator[np.ndarray]:
    """Read uncompressed or RLE frames with pydicom."""
    if syntax == _RLE:
        frames = _encapsulated(dataset, number_of_frames)
        if any(layout.bits > 8 * _MAX_RLE_RATIO * len(frame) for frame in frames):
            raise _wrong_pixels("A frame of PixelData is too short for Rows, Columns and SamplesPerPixel")
    else:
        tag = next(each for each in PIXEL_DATA if each in dataset)
        # YBR_FULL_422 has two samples per pixel instead of three (PS3.3, section C.7.6.3.1.2).
        subsampled = dataset.get("PhotometricInterpretation") == "YBR_FULL_422"
        needed = math.ceil(layout.bits * number_of_frames * (2 / 3 if subsampled else 1) / 8)
        present = len(dataset[tag].value)
        if present < needed:
            problem = f"{name_of(tag)} has {present} bytes; Rows, Columns and NumberOfFrames call for {needed}"
            raise PixelDataError(WarningReason.FRAMES_EXTRACTION_FAILURE, problem)
    pixels = pixel_array(dataset, raw=True)
    # Encoders expect this machine's byte order.
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    yield from pixels if number_of_frames > 1 else [pixels]


# Decoding


def _decoded(codestream: bytes, layout: _Layout, syntax: str) -> np.ndarray:
    """Decode a codestream to the shape and sign that the file declares."""
    header = _check_header(codestream, layout)
    image = decode_frame(syntax, codestream)
    if (header.rows, header.columns) != (layout.rows, layout.columns):
        # OpenJPEG repeats the samples of a subsampled codestream to fill its grid.
        image = image[:: header.row_step, :: header.column_step]
    if image.shape != layout.shape:
        raise _wrong_pixels("The size of a frame differs from Rows, Columns and SamplesPerPixel")
    return _signed_as_declared(np.ascontiguousarray(image), layout)


@dataclass(frozen=True, slots=True)
class _CodestreamHeader:
    """The image size that a codestream's header declares, and the distance between samples on its grid."""

    rows: int
    columns: int
    samples: int
    row_step: int = 1
    column_step: int = 1

    def fits(self, layout: _Layout) -> bool:
        """Whether the size of the grid, or of its samples, is the size that a file declares."""
        sampled = (math.ceil(self.rows / self.row_step), math.ceil(self.columns / self.column_step))
        sizes = {(self.rows, self.columns), sampled}
        return (layout.rows, layout.columns) in sizes and self.samples == layout.samples

    @classmethod
    def of(cls, codestream: bytes) -> _CodestreamHeader | None:
        """Read the header of a JPEG, JPEG-LS or JPEG 2000 codestream; None if there is no valid one."""
        if (at := codestream.find(b"\xff\x4f\xff\x51")) >= 0 and at + 42 <= len(codestream):
            # SIZ (ITU-T T.800, section A.5.1): the grid, its tiles, and each component's depth and steps.
            columns, rows, left, top = struct.unpack_from(">4I", codestream, at + 8)
            (samples,) = struct.unpack_from(">H", codestream, at + 40)
            components = codestream[at + 42 : at + 42 + 3 * samples]
            steps = set(zip(components[2::3], components[1::3], strict=False))
            row_step, column_step = steps.pop() if len(steps) == 1 else (1, 1)
            if 0 in (row_step, column_step):
                return None
            return cls(rows - top, columns - left, samples, row_step, column_step)
        at = 2
        while codestream[:2] == b"\xff\xd8" and at + 10 <= len(codestream) and codestream[at] == 0xFF:
            marker = codestream[at + 1]
            length, _, rows, columns, samples = struct.unpack_from(">HBHHB", codestream, at + 2)
            if marker in _FRAME_HEADERS:
                return cls(rows, columns, samples)
            at += 2 + length if marker != 0xFF else 1
        return None


def _check_header(codestream: bytes, layout: _Layout) -> _CodestreamHeader:
    """Check the declared size before decoding, because a few bytes can decode to gigabytes."""
    header = _CodestreamHeader.of(codestream)
    if header is None:
        raise _wrong_pixels("A frame of PixelData is not a codestream of its transfer syntax, or is damaged")
    if not header.fits(layout):
        raise _wrong_pixels(
            f"A frame has {header.rows} rows, {header.columns} columns and {header.samples} samples a pixel; Rows, "
            f"Columns and SamplesPerPixel say {layout.rows}, {layout.columns} and {layout.samples}"
        )
    if max(header.row_step, header.column_step) > _MAX_STEP:
        raise _wrong_pixels(f"A JPEG 2000 frame has more than {_MAX_STEP} grid points per sample")
    return header


_FRAME_HEADERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""Second bytes of the markers that start a frame header (ITU-T T.81, table B.1; T.87, section C.1)."""


def _signed_as_declared(image: np.ndarray, layout: _Layout) -> np.ndarray:
    """Give pixels the sign that the file declares.

    JPEG and JPEG-LS have no signed samples, and some JPEG 2000 encoders do not use theirs. The highest stored bit is
    then the sign (DICOM PS3.5, section 8.1.1, Pixel Representation 1).
    """
    if not layout.is_signed or image.dtype.kind != "u":
        return image
    unused_bits = max(0, image.dtype.itemsize * 8 - layout.bits_stored)
    signed: np.ndarray = image.view(np.dtype(f"i{image.dtype.itemsize}"))
    return np.asarray(np.right_shift(np.left_shift(signed, unused_bits), unused_bits))


# Encoding


def _htj2k(image: np.ndarray) -> EncodedFrame:
    # imagecodecs takes 0 to mean its default, so even a tiny frame gets one decomposition.
    decompositions = max(1, math.ceil(math.log2(max(image.shape[:2]) / MAX_BASE_PIXELS)))
    # OpenJPH writes RPCL by default.
    content = bytes(
        imagecodecs.htj2k_encode(
            np.ascontiguousarray(image),
            reversible=True,
            resolutions=decompositions,
            tlm=True,
            tilepart=imagecodecs.HTJ2K.TILEPART.RESOLUTIONS,
        )
    )
    resolutions = [imagecodecs.htj2k_decode(content, skipres=skip) for skip in range(decompositions, -1, -1)]
    _check_lossless(image, resolutions[-1])
    return EncodedFrame(content, int(image.min()), int(image.max()), [_checksum(each) for each in resolutions])


def _jpeg_2000_lossless(image: np.ndarray) -> EncodedFrame:
    image = np.ascontiguousarray(image)
    content = bytes(imagecodecs.jpeg2k_encode(image, level=0, codecformat="j2k", reversible=True))
    _check_lossless(image, imagecodecs.jpeg2k_decode(content))
    return _described(content, image)


def _check_lossless(image: np.ndarray, decoded: np.ndarray) -> None:
    """Check that a frame decodes to its pixels, as the service does (developer guide, "Pixel data verification")."""
    if not np.array_equal(image, decoded):
        raise ValueError("The codec changes these pixels")


def _preserved(content: bytes, dataset: Dataset, syntax: str) -> EncodedFrame:
    try:
        if syntax != JPEG_XL:
            _check_header(content, _Layout.of(dataset))
        return _described(content, decode_frame(syntax, content))
    except Exception:
        # The service preserves these frames without decoding them.
        return EncodedFrame(content)


def _described(content: bytes, image: np.ndarray) -> EncodedFrame:
    if image.dtype.kind == "f":
        # MinPixelValue and MaxPixelValue are integers, and floating point pixels may be NaN.
        return EncodedFrame(content, checksums=[_checksum(image)])
    return EncodedFrame(content, int(image.min()), int(image.max()), [_checksum(image)])


def _checksum(image: np.ndarray) -> dict[str, int]:
    return {"Width": image.shape[1], "Height": image.shape[0], "Checksum": zlib.crc32(little_endian(image))}


def little_endian(image: np.ndarray) -> bytes:
    """The samples of an image in little-endian order."""
    return image.astype(image.dtype.newbyteorder("<"), copy=False).tobytes()


_PREFIX = "1.2.840.10008.1.2.4."
_RLE = "1.2.840.10008.1.2.5"

_NATIVE = {"1.2.840.10008.1.2", EXPLICIT_VR_LITTLE_ENDIAN, "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2", _RLE}
_PRESERVED = {JPEG_BASELINE, *(_PREFIX + each for each in ("91", "112", "203"))}
"""Compressed transfer syntaxes that are preserved."""
_TRANSCODED = {
    JPEG_2000_LOSSLESS,
    HTJ2K_RPCL,
    *(_PREFIX + each for each in ("51", "57", "70", "80", "81", "92", "93", "201")),
}
"""Compressed transfer syntaxes that are transcoded to the data store's format, like RLE and uncompressed frames."""
_ENCODERS: dict[str, Callable[[np.ndarray], EncodedFrame]] = {
    HTJ2K_RPCL: _htj2k,
    JPEG_2000_LOSSLESS: _jpeg_2000_lossless,
}
