"""DICOM files as HealthImaging keeps them: which transfer syntaxes stay, and how the others become HTJ2K."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import imagecodecs
import numpy as np
from pydicom.encaps import generate_frames
from pydicom.pixels.utils import pack_bits, pixel_array

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pydicom import Dataset

EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
HTJ2K_RPCL = "1.2.840.10008.1.2.4.202"

_PREFIX = "1.2.840.10008.1.2.4."
_MPEG2 = ("100", "100.1", "101", "101.1")
_H264 = ("102", "102.1", "103", "103.1", "104", "104.1", "105", "105.1", "106", "106.1")
_HEVC = ("107", "108")

CONTENT_TYPES = {
    EXPLICIT_VR_LITTLE_ENDIAN: "application/octet-stream",
    f"{_PREFIX}50": "image/jpeg",
    f"{_PREFIX}91": "image/j2c",
    **{_PREFIX + suffix: "video/mpeg" for suffix in _MPEG2},
    **{_PREFIX + suffix: "video/mp4" for suffix in _H264},
    **{_PREFIX + suffix: "video/H256" for suffix in _HEVC},
    HTJ2K_RPCL: "image/jph",
    f"{_PREFIX}203": "image/jphc",
}
"""Media type of a frame by stored transfer syntax (boto3 reference, ``get_image_frame``, ``contentType``)."""

SYNTAXES = {content_type: syntax for syntax, content_type in reversed(CONTENT_TYPES.items())}
"""Stored transfer syntax by media type: the first of those that have it."""

_VIDEO = {_PREFIX + suffix for suffix in (*_MPEG2, *_H264, *_HEVC)}
_KEPT = set(CONTENT_TYPES) - {EXPLICIT_VR_LITTLE_ENDIAN, HTJ2K_RPCL}

# Compressed syntaxes that the service transcodes; pydicom itself reads the rest (native and RLE).
_DECODERS: dict[str, Callable[[bytes], np.ndarray]] = {
    f"{_PREFIX}51": imagecodecs.jpeg8_decode,
    f"{_PREFIX}57": imagecodecs.ljpeg_decode,
    f"{_PREFIX}70": imagecodecs.ljpeg_decode,
    f"{_PREFIX}80": imagecodecs.jpegls_decode,
    f"{_PREFIX}81": imagecodecs.jpegls_decode,
    f"{_PREFIX}90": imagecodecs.jpeg2k_decode,
    f"{_PREFIX}201": imagecodecs.htj2k_decode,
    HTJ2K_RPCL: imagecodecs.htj2k_decode,
}
_CHECKSUM_DECODERS: dict[str, Callable[[bytes], np.ndarray]] = {
    f"{_PREFIX}50": imagecodecs.jpeg8_decode,
    f"{_PREFIX}91": imagecodecs.jpeg2k_decode,
    f"{_PREFIX}203": imagecodecs.htj2k_decode,
}

LARGEST_BASE = 64
"""Pixels on the longer side of the base resolution, at most (DICOM PS3.5, section A.4.7, HTJ2K RPCL)."""


@dataclass(frozen=True, slots=True)
class GeneratedBody:
    """A body that is made as it is sent: ``size`` bytes, in the pieces that ``pieces()`` yields."""

    size: int
    pieces: Callable[[], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class FrameContent:
    """The bytes of a frame: held in memory, in a file, or generated."""

    source: bytes | Path | GeneratedBody

    @property
    def size(self) -> int:
        """Bytes in all."""
        if isinstance(self.source, bytes):
            return len(self.source)
        return self.source.size if isinstance(self.source, GeneratedBody) else self.source.stat().st_size

    def pieces(self, size: int = 1 << 20) -> Iterator[bytes | memoryview]:
        """The bytes, in pieces that can be sent one after the other."""
        if isinstance(self.source, bytes):
            view = memoryview(self.source)
            yield from (view[start : start + size] for start in range(0, len(view), size))
        elif isinstance(self.source, GeneratedBody):
            yield from self.source.pieces()
        else:
            with self.source.open("rb") as file:
                while piece := file.read(size):
                    yield piece


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """A frame to be kept, with what the metadata says of its pixels."""

    content: bytes
    lowest: int | None = None
    highest: int | None = None
    checksums: list[dict[str, int]] = field(default_factory=list)


def encode_frames(dataset: Dataset) -> tuple[str, list[EncodedFrame]]:
    """The stored transfer syntax and the frames of an instance, as the service would keep them.

    Raises
    ------
    Exception
        Whatever the decoder of the file's transfer syntax raises; the import reports the file as failed.
    """
    if not any(keyword in dataset for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        return EXPLICIT_VR_LITTLE_ENDIAN, []
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    if syntax in _VIDEO:
        # One stream for the whole video, in as many fragments as the writer liked.
        return syntax, [EncodedFrame(b"".join(generate_frames(dataset.PixelData, number_of_frames=1)))]
    if syntax in _KEPT:
        return syntax, [_kept(frame, _CHECKSUM_DECODERS[syntax]) for frame in _encapsulated(dataset)]
    if dataset.get("BitsAllocated") == 1:
        return EXPLICIT_VR_LITTLE_ENDIAN, [EncodedFrame(bytes(pack_bits(frame))) for frame in _native(dataset)]
    if syntax in _DECODERS:
        pixels = [_signed_as_declared(_DECODERS[syntax](frame), dataset) for frame in _encapsulated(dataset)]
    else:
        pixels = list(_native(dataset))
    try:
        return HTJ2K_RPCL, [_transcoded(image) for image in pixels]
    except (ValueError, imagecodecs.Htj2kError):
        # Pixels that the codec has no room for, such as floating point, stay as they are.
        return EXPLICIT_VR_LITTLE_ENDIAN, [_described(_little_endian(image), image) for image in pixels]


def _encapsulated(dataset: Dataset) -> Iterator[bytes]:
    return generate_frames(dataset.PixelData, number_of_frames=int(dataset.get("NumberOfFrames", 1) or 1))


def _native(dataset: Dataset) -> Iterator[np.ndarray]:
    pixels = pixel_array(dataset, raw=True)
    # Encoders read the bytes as this machine orders them, whatever order the file had.
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    several = int(dataset.get("NumberOfFrames", 1) or 1) > 1
    yield from pixels if several else [pixels]


def _signed_as_declared(image: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Pixels with the sign that the dataset gives them.

    JPEG and JPEG-LS have no signed samples, and some writers of JPEG 2000 do not use its own: there the highest of
    the stored bits is the sign (DICOM PS3.5, section 8.1.1, Pixel Representation 1).
    """
    if dataset.get("PixelRepresentation") != 1 or image.dtype.kind != "u":
        return image
    unused_bits = max(0, image.dtype.itemsize * 8 - int(dataset.BitsStored))
    signed: np.ndarray = image.view(np.dtype(f"i{image.dtype.itemsize}"))
    return np.asarray(np.right_shift(np.left_shift(signed, unused_bits), unused_bits))


def _transcoded(image: np.ndarray) -> EncodedFrame:
    # imagecodecs takes 0 for «the usual number», so a tiny frame has one decomposition too.
    decompositions = max(1, math.ceil(math.log2(max(image.shape[:2]) / LARGEST_BASE)))
    # OpenJPH writes RPCL unless told otherwise.
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
    return EncodedFrame(content, int(image.min()), int(image.max()), [_checksum(each) for each in resolutions])


def _kept(content: bytes, decode: Callable[[bytes], np.ndarray]) -> EncodedFrame:
    try:
        return _described(content, decode(content))
    except Exception:
        # What the service keeps it does not have to understand.
        return EncodedFrame(content)


def _described(content: bytes, image: np.ndarray) -> EncodedFrame:
    if image.dtype.kind == "f":
        # MinPixelValue and MaxPixelValue are integers, and a map of measurements may hold NaN.
        return EncodedFrame(content, checksums=[_checksum(image)])
    return EncodedFrame(content, int(image.min()), int(image.max()), [_checksum(image)])


def _checksum(image: np.ndarray) -> dict[str, int]:
    return {"Width": image.shape[1], "Height": image.shape[0], "Checksum": zlib.crc32(_little_endian(image))}


def _little_endian(image: np.ndarray) -> bytes:
    return image.astype(image.dtype.newbyteorder("<"), copy=False).tobytes()
