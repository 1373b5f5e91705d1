"""Decodes frames in a separate process without credentials and with limited memory and time."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING

from framegate.export.decoder_child import DECODED, OUT_OF_MEMORY, REQUEST, RESPONSE
from framegate.jpeg2000.pixels import Decoder
from framegate.processes.confined import ConfinedProcess

if TYPE_CHECKING:
    from collections.abc import Iterable

    from framegate.processes.confined import Channel

DECODER_MEMORY_BYTES = 512 * 1024 * 1024
"""Address space that the process may allocate after its start. Framegate sends it frames that need at most half of
that, so a decoder that allocates more is not decoding the image that the header declares."""

MAX_DECODE_SECONDS = 60.0
"""Maximum time for one frame. On one vCPU, OpenJPEG decodes 6 million samples a second, and OpenJPH 90 million."""

_PROGRAM = Path(__file__).with_name("decoder_child.py")

_DECODERS = (Decoder.OPENJPH, Decoder.OPENJPEG)


class DecodeStatus(Enum):
    """The result of decoding a frame."""

    DECODED = auto()
    REFUSED = auto()
    """The decoder reported an error in the frame."""
    STOPPED = auto()
    """The decoder crashed, or exceeded the limits of its process."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """The status of decoding a frame, and the CRC32 of its pixels in each requested layout."""

    status: DecodeStatus
    checksums: tuple[int, ...] = ()


class DecoderProcess(ConfinedProcess):
    """A process that decodes one frame at a time.

    Parameters
    ----------
    memory_bytes : int
        Address space for decoding.
    max_seconds : float
        Maximum wall-clock time and CPU time for one frame.
    """

    def __init__(self, memory_bytes: int = DECODER_MEMORY_BYTES, max_seconds: float = MAX_DECODE_SECONDS) -> None:
        super().__init__(_PROGRAM, memory_bytes, max_seconds)

    def decode(
        self, content: Iterable[bytes], size: int, decoder: Decoder, seconds: float, *, all_layouts: bool = False
    ) -> Decoding:
        """Decode a frame.

        Parameters
        ----------
        content : iterable of bytes
            The bytes of the frame. Errors of the iterable are passed on.
        size : int
            Its size in bytes.
        decoder : Decoder
            Which decoder to use.
        seconds : float
            Time for the frame, up to the process's maximum.
        all_layouts : bool
            Whether to return a checksum for each layout that a DICOM data set can have, instead of the usual one.

        Raises
        ------
        ValueError
            If `content` is not `size` bytes.
        """

        def send(requests: Channel) -> None:
            missing = size
            requests.write(REQUEST.pack(_DECODERS.index(decoder), all_layouts, size))
            for piece in content:
                missing -= len(piece)
                requests.write(piece)
            if missing:
                raise ValueError("The frame has another size than the one given.")

        return self.exchange(send, _decoding, seconds) or Decoding(DecodeStatus.STOPPED)


def _decoding(answers: Channel) -> Decoding | None:
    answer = answers.read(RESPONSE.size)
    if len(answer) < RESPONSE.size:
        return None
    status, count = RESPONSE.unpack(answer)
    checksums = answers.read(4 * count)
    # A process that ran out of memory must not decode the next frame.
    if len(checksums) < 4 * count or status == OUT_OF_MEMORY:
        return None
    found = struct.unpack(f"<{count}I", checksums)
    return Decoding(DecodeStatus.DECODED if status == DECODED else DecodeStatus.REFUSED, found)
