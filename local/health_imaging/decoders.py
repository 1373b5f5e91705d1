"""Decodes compressed frames in a separate process, because a damaged codestream can crash or block a decoder."""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import resource
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import imagecodecs
import numpy as np
import openjpeg

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO

_END_OF_CODESTREAM = b"\xff\xd9"
_MAX_MEMORY_BYTES = 4 << 30
_MAX_SECONDS = 30


class DecodeError(ValueError):
    """A codestream cannot be decoded; the message says why."""


def _jpeg_2000(decode: Callable[[bytes], np.ndarray]) -> Callable[[bytes], np.ndarray]:
    """Extend a decoder to subsampled grids and to codestreams without an end marker, both of which OpenJPEG accepts."""

    def decode_any(codestream: bytes) -> np.ndarray:
        candidates = [codestream]
        if not codestream.rstrip(b"\0").endswith(_END_OF_CODESTREAM):
            # A fragment has an even length, so a zero byte may follow the codestream.
            candidates = [codestream + _END_OF_CODESTREAM, codestream[:-1] + _END_OF_CODESTREAM]
        problem: Exception | None = None
        for candidate in candidates:
            for decoder in (decode, openjpeg.decode):
                try:
                    return np.asarray(decoder(candidate))
                except Exception as error:
                    problem = problem or error
        raise DecodeError(f"the JPEG 2000 codestream is damaged or cut off ({problem})")

    return decode_any


_PREFIX = "1.2.840.10008.1.2.4."
_DECODERS: dict[str, Callable[[bytes], np.ndarray]] = {
    **dict.fromkeys((f"{_PREFIX}50", f"{_PREFIX}51"), imagecodecs.jpeg8_decode),
    **dict.fromkeys((f"{_PREFIX}57", f"{_PREFIX}70"), imagecodecs.ljpeg_decode),
    **dict.fromkeys((f"{_PREFIX}80", f"{_PREFIX}81"), imagecodecs.jpegls_decode),
    **dict.fromkeys((_PREFIX + each for each in ("90", "91", "92", "93")), _jpeg_2000(imagecodecs.jpeg2k_decode)),
    f"{_PREFIX}112": imagecodecs.jpegxl_decode,
    **dict.fromkeys((_PREFIX + each for each in ("201", "202", "203")), _jpeg_2000(imagecodecs.htj2k_decode)),
}
"""Decoders by transfer syntax UID. RLE is missing because pydicom reads it."""


class _DecoderProcess:
    """The decoder process. It starts when it is first needed, and again after a crash."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def decode(self, transfer_syntax_uid: str, codestream: bytes) -> np.ndarray:
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._end()
                self._process = self._start()
            process = self._process
            watchdog = threading.Timer(_MAX_SECONDS, process.kill)
            watchdog.start()
            try:
                _write(process.stdin, transfer_syntax_uid.encode())
                _write(process.stdin, codestream)
                is_decoded, answer = _read(process.stdout) == b"decoded", _read(process.stdout)
            except (EOFError, OSError) as error:
                self._end()
                raise DecodeError("the codestream is damaged: the decoder crashed or took too long") from error
            finally:
                watchdog.cancel()
        if not is_decoded:
            raise DecodeError(answer.decode())
        image: np.ndarray = np.load(io.BytesIO(answer), allow_pickle=False)
        return image

    def close(self) -> None:
        """Stop the process."""
        with self._lock:
            if self._process is not None:
                self._end()

    def _start(self) -> subprocess.Popen[bytes]:
        # Running it as a script with -P avoids importing the package.
        pipe = subprocess.PIPE
        return subprocess.Popen([sys.executable, "-P", __file__], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()


_PROCESS = _DecoderProcess()
atexit.register(_PROCESS.close)


def decode_frame(transfer_syntax_uid: str, codestream: bytes) -> np.ndarray:
    """Decode a compressed frame to an array of rows × columns, or rows × columns × samples.

    Raises
    ------
    DecodeError
        If decoding fails, or takes more than 30 seconds or 4 GiB of memory.
    """
    return _PROCESS.decode(transfer_syntax_uid, codestream)


def _write(pipe: IO[bytes] | None, content: bytes) -> None:
    if pipe is not None:
        pipe.write(len(content).to_bytes(8, "big") + content)
        pipe.flush()


def _read(pipe: IO[bytes] | None) -> bytes:
    """Read a message from a pipe: its length in eight bytes, then its content."""
    header = pipe.read(8) if pipe is not None else b""
    content = pipe.read(int.from_bytes(header, "big")) if pipe is not None and len(header) == 8 else b""
    if len(header) < 8 or len(content) < int.from_bytes(header, "big"):
        raise EOFError("The other process ended")
    return content


def _serve() -> None:
    """Decode the codestreams from standard input until it ends."""
    _, hard_limit = resource.getrlimit(resource.RLIMIT_AS)
    is_unlimited = hard_limit == resource.RLIM_INFINITY
    memory_bytes = _MAX_MEMORY_BYTES if is_unlimited else min(_MAX_MEMORY_BYTES, hard_limit)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, hard_limit))
    # Codecs print to standard output, so results go to a separate file descriptor.
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        while True:
            try:
                transfer_syntax_uid, codestream = _read(sys.stdin.buffer).decode(), _read(sys.stdin.buffer)
            except EOFError:
                return
            try:
                file = io.BytesIO()
                np.save(file, np.ascontiguousarray(_DECODERS[transfer_syntax_uid](codestream)), allow_pickle=False)
                outcome, answer = b"decoded", file.getvalue()
            except Exception as error:
                outcome, answer = b"failed", (str(error) or type(error).__name__).encode()
            _write(answers, outcome)
            _write(answers, answer)


if __name__ == "__main__":
    _serve()
