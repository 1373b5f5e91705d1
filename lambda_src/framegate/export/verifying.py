"""Compares the pixels of stored frames with the checksums that HealthImaging computed at import."""

from __future__ import annotations

import queue
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from typing import TYPE_CHECKING

from framegate.export.decoder import DECODER_MEMORY_BYTES, DecoderProcess, DecodeStatus
from framegate.healthimaging.media_types import essence, stored_syntax
from framegate.jpeg2000.pixels import (
    LOSSLESS,
    LOSSLESS_OR_LOSSY,
    MAX_HEADER_BYTES,
    UNCOMPRESSED,
    DamagedHeaderError,
    is_codestream,
    read_header,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from framegate.healthimaging.image_set_metadata import FrameEntry
    from framegate.jpeg2000.pixels import Decoder, ImageHeader
    from framegate.time_budget import TimeBudget

DECODER_PROCESSES = 2
"""Number of decoder processes: one decodes while the other receives a frame."""

MAX_DECODED_BYTES = DECODER_MEMORY_BYTES // 2
"""Maximum memory to decode a frame. A lossless radiograph of 8000 by 8000 pixels takes 192 MB."""

MIN_DECODE_SECONDS = 1.0
"""Below this, decoding does not start, because the next invocation has more time."""

_CODESTREAM_TYPES = frozenset({"image/jph", "image/jphc", "image/j2c", "image/jp2"})
"""Media types of JPEG 2000 and HTJ2K. HealthImaging documents none for ``1.2.840.10008.1.2.4.90``."""

_BIT_PIXELS = [bytes(byte >> bit & 1 for bit in range(8)) for byte in range(256)]
"""The eight pixels of a byte if Bits Allocated is 1; the lowest bit is the first pixel (DICOM PS3.5, section 8.1.1)."""


class NotVerified(StrEnum):
    """Why Framegate cannot say whether the pixels of a frame are right."""

    NO_CHECKSUM = "no-checksum"
    """HealthImaging's metadata has no checksum for the frame."""
    LOSSY = "lossy"
    """Decoders may differ on the frame, or Framegate does not decode its format."""
    UNSUPPORTED = "unsupported"
    """No decoder is certain to support the frame's samples or components."""
    TOO_LARGE = "too-large"
    """Decoding needs more memory than ``MAX_DECODED_BYTES``."""
    DECODER_STOPPED = "decoder-stopped"
    """Each decoder that supports the frame crashed or exceeded the limits of its process."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of verifying a frame. If both attributes are None, the pixels are those that HealthImaging imported.

    Attributes
    ----------
    mismatch : str or None
        What is wrong with the frame.
    not_verified : NotVerified or None
        Why the pixels could not be verified.
    """

    mismatch: str | None = None
    not_verified: NotVerified | None = None


MATCH = Verdict()


class OutOfTimeError(Exception):
    """The time ran out before there was a verdict."""


class PixelVerifier:
    """Verifies the pixels of frames. Threads can share one verifier.

    Parameters
    ----------
    new_process : callable
        Creates a decoder process.

    Notes
    -----
    A frame is right if one decoder returns the expected pixels. It is wrong if its headers are damaged or declare
    another size than the metadata, or if no decoder returns these pixels and one that certainly supports the frame
    returns others or an error. Otherwise the verdict is that the frame is not verified. A crash proves nothing,
    because a decoder can crash on a right frame as well as on a wrong one.

    References
    ----------
    AWS HealthImaging developer guide, "Pixel data verification".
    """

    def __init__(self, new_process: Callable[[], DecoderProcess] = DecoderProcess) -> None:
        self._processes: queue.SimpleQueue[DecoderProcess] = queue.SimpleQueue()
        for _ in range(DECODER_PROCESSES):
            self._processes.put(new_process())

    def verify(
        self,
        entry: FrameEntry,
        content_type: str,
        size: int,
        read: Callable[[], Iterator[bytes]],
        budget: TimeBudget,
    ) -> Verdict:
        """Compare a frame's pixels with the checksum of the metadata.

        Parameters
        ----------
        entry : FrameEntry
            The frame as the metadata lists it.
        content_type : str
            The media type of the stored frame.
        size : int
            Its size in bytes.
        read : callable
            Reads its bytes from the beginning. Each further decoding calls it again. Its errors are passed on.
        budget : TimeBudget
            The time for it.

        Raises
        ------
        OutOfTimeError
            If the time runs out before there is a verdict.
        """
        expected, syntax = entry.checksum, stored_syntax(entry.transfer_syntax_uid, content_type)
        if expected is None:
            return Verdict(not_verified=NotVerified.NO_CHECKSUM)
        if syntax == UNCOMPRESSED:
            return _compare_uncompressed(entry, expected, size, read())
        if syntax is not None and syntax not in LOSSLESS | LOSSLESS_OR_LOSSY:
            return Verdict(not_verified=NotVerified.LOSSY)
        with _Frame(size, read) as frame:
            header = _judge_header(entry, content_type, frame.head)
            if isinstance(header, Verdict):
                return header
            verdict = self._compare_decoded(header, expected, frame, budget)
        # A reversible transformation does not make a frame lossless, so other pixels prove nothing for these syntaxes.
        return Verdict(not_verified=NotVerified.LOSSY) if verdict.mismatch and syntax in LOSSLESS_OR_LOSSY else verdict

    def _compare_decoded(self, header: ImageHeader, expected: int, frame: _Frame, budget: TimeBudget) -> Verdict:
        mismatch: str | None = None
        reason = NotVerified.UNSUPPORTED
        for decoder in header.decoders:
            if header.memory_bytes(decoder, frame.size) > MAX_DECODED_BYTES:
                reason = NotVerified.TOO_LARGE
                continue
            status, is_match = self._decode(decoder, expected, frame, budget)
            if is_match:
                return MATCH
            if status is DecodeStatus.STOPPED:
                reason = NotVerified.DECODER_STOPPED
            elif header.proves_mismatch(decoder):
                has_pixels = status is DecodeStatus.DECODED
                mismatch = f"The stored frame {'decodes to other pixels' if has_pixels else 'does not decode'}."
        return Verdict(mismatch) if mismatch else Verdict(not_verified=reason)

    def _decode(self, decoder: Decoder, expected: int, frame: _Frame, budget: TimeBudget) -> tuple[DecodeStatus, bool]:
        """Decode a frame; return the status, and whether the pixels in one of the layouts are the expected ones."""
        # The usual layout comes first: few frames need the others, which take another decoding.
        for all_layouts in (False, True):
            with self._process(budget) as process:
                seconds = budget.remaining()
                decoding = process.decode(frame.content(), frame.size, decoder, seconds, all_layouts=all_layouts)
            if decoding.status is DecodeStatus.STOPPED and budget.exhausted:
                raise OutOfTimeError
            if decoding.status is not DecodeStatus.DECODED or expected in decoding.checksums:
                break
        return decoding.status, expected in decoding.checksums

    @contextmanager
    def _process(self, budget: TimeBudget) -> Iterator[DecoderProcess]:
        try:
            process = self._processes.get(timeout=budget.remaining())
        except queue.Empty:
            raise OutOfTimeError from None
        try:
            if budget.remaining() < MIN_DECODE_SECONDS:
                raise OutOfTimeError
            yield process
        finally:
            self._processes.put(process)


class _Frame:
    """A stored frame. Its head is read once, and its whole content for each decoding."""

    def __init__(self, size: int, read: Callable[[], Iterator[bytes]]) -> None:
        self.size = size
        self._read = read
        self._pieces = read()
        head: list[bytes] = []
        while sum(map(len, head)) < MAX_HEADER_BYTES and (piece := next(self._pieces, b"")):
            head.append(piece)
        self.head = b"".join(head)
        self._is_fresh = True

    def __enter__(self) -> _Frame:
        return self

    def __exit__(self, *_: object) -> None:
        # A reader that is not read to its end would keep its connection.
        if close := getattr(self._pieces, "close", None):
            close()

    def content(self) -> Iterator[bytes]:
        """All bytes from the beginning."""
        if self._is_fresh:
            self._is_fresh = False
            return chain([self.head], self._pieces)
        return self._read()


def _judge_header(entry: FrameEntry, content_type: str, head: bytes) -> ImageHeader | Verdict:
    """The header of a frame to decode, or a verdict that needs no decoding."""
    syntax = stored_syntax(entry.transfer_syntax_uid, content_type)
    may_be_lossy = syntax in LOSSLESS_OR_LOSSY
    if syntax is None and not is_codestream(head) and essence(content_type) not in _CODESTREAM_TYPES:
        return Verdict(not_verified=NotVerified.LOSSY)
    mismatch: str | None = None
    try:
        header = read_header(head)
    except DamagedHeaderError:
        mismatch = "The headers of the stored frame are damaged."
    else:
        sizes = ((header.columns, entry.columns), (header.rows, entry.rows))
        if any(listed is not None and declared != listed for declared, listed in sizes):
            mismatch = "The stored frame declares another size than the metadata."
        elif not may_be_lossy or header.is_reversible:
            return header
    return Verdict(not_verified=NotVerified.LOSSY) if may_be_lossy else Verdict(mismatch)


def _compare_uncompressed(entry: FrameEntry, expected: int, size: int, pieces: Iterator[bytes]) -> Verdict:
    """Compare uncompressed samples.

    The developer guide does not say whether the checksum of a binary segmentation covers the packed bits or the pixels.
    A match with either proves that the frame is right. A mismatch with both proves nothing.
    """
    pixels = (entry.rows or 0) * (entry.columns or 0)
    is_packed = size == -(-pixels // 8)
    checksum = unpacked = 0
    missing = pixels
    for piece in pieces:
        checksum = zlib.crc32(piece, checksum)
        if is_packed:
            bits = b"".join(_BIT_PIXELS[byte] for byte in piece)[:missing]
            unpacked = zlib.crc32(bits, unpacked)
            missing -= len(bits)
    if expected == checksum or (is_packed and expected == unpacked):
        return MATCH
    if is_packed:
        return Verdict(not_verified=NotVerified.UNSUPPORTED)
    return Verdict("The stored frame has other pixels.")
