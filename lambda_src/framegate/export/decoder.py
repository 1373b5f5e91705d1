"""Decodes frames in a separate process without credentials and with limited memory and time."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
import weakref
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING

from framegate.export.decoder_child import DECODED, OUT_OF_MEMORY, REQUEST, RESPONSE
from framegate.jpeg2000.pixels import Decoder
from framegate.settings import library_path

if TYPE_CHECKING:
    from collections.abc import Iterable

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


class DecoderProcess:
    """A process that decodes one frame at a time. It starts with the first frame, and again after it was stopped.

    Starting takes 0.3 seconds, so the process is reused for the next frame. It communicates through pipes, because
    Lambda has no ``/dev/shm``, which the queues and locks of `multiprocessing` need.

    Parameters
    ----------
    memory_bytes : int
        Address space for decoding.
    max_seconds : float
        Maximum wall-clock time and CPU time for one frame.
    """

    def __init__(self, memory_bytes: int = DECODER_MEMORY_BYTES, max_seconds: float = MAX_DECODE_SECONDS) -> None:
        self._memory_bytes = memory_bytes
        self._max_seconds = max_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._stop: weakref.finalize[..., DecoderProcess] | None = None

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
        process = self._running()
        killer = threading.Timer(min(seconds, self._max_seconds), process.kill)
        killer.start()
        try:
            return self._ask(process, content, size, decoder, all_layouts)
        except BaseException:
            # The process still waits for the rest of the frame.
            self.stop()
            raise
        finally:
            killer.cancel()

    def stop(self) -> None:
        """End the process if it is running."""
        if self._stop:
            self._stop()
        self._process = None

    def _ask(
        self,
        process: subprocess.Popen[bytes],
        content: Iterable[bytes],
        size: int,
        decoder: Decoder,
        all_layouts: bool,
    ) -> Decoding:
        assert process.stdin is not None  # noqa: S101 - for the type checker
        assert process.stdout is not None  # noqa: S101
        missing = size
        try:
            process.stdin.write(REQUEST.pack(_DECODERS.index(decoder), all_layouts, size))
            for piece in content:
                missing -= len(piece)
                process.stdin.write(piece)
            if missing:
                raise ValueError("The frame has another size than the one given.")
            process.stdin.flush()
        except BrokenPipeError:
            answer = b""
        else:
            answer = process.stdout.read(RESPONSE.size)
        if len(answer) == RESPONSE.size:
            status, count = RESPONSE.unpack(answer)
            checksums = process.stdout.read(4 * count)
            if len(checksums) == 4 * count and status != OUT_OF_MEMORY:
                found = struct.unpack(f"<{count}I", checksums)
                return Decoding(DecodeStatus.DECODED if status == DECODED else DecodeStatus.REFUSED, found)
        # A process that crashed or ran out of memory must not decode the next frame.
        self.stop()
        return Decoding(DecodeStatus.STOPPED)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.stop()
            self._process = process = subprocess.Popen(
                [sys.executable, "-s", "-P", "-B", str(_PROGRAM), str(self._memory_bytes), str(int(self._max_seconds))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=_environment(),
                cwd="/",
            )
            self._stop = weakref.finalize(self, _end, process)
        return self._process


def _environment() -> dict[str, str]:
    """The variables that Python needs to find its libraries, and no others, so that no credentials are passed on."""
    # Each thread of OpenBLAS would take address space, and the process does not multiply matrices.
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"}
    if path := library_path():
        environment["LD_LIBRARY_PATH"] = path
    return environment


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            with suppress(BrokenPipeError):
                pipe.close()
    process.wait()
