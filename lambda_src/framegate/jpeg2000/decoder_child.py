"""The program of the decoder process: decodes frames from its standard input, and answers with checksums of pixels.

It runs as a file of its own, imports nothing of Framegate, and starts without credentials. Before it reads the first
byte of a frame it gives up what a decoder does not need: it can open no file, no socket and no process, and has bounded
memory and time. A frame that takes control of a decoder finds nothing here to take.
"""

from __future__ import annotations

import resource
import struct
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REQUEST = struct.Struct("<BBQ")
"""Which decoder, whether all layouts are wanted, and the bytes of the frame that follows."""

RESPONSE = struct.Struct("<BB")
"""A status, and how many checksums of 4 bytes follow."""

DECODED, REFUSED, OUT_OF_MEMORY = range(3)


def main(memory_bytes: int, cpu_seconds: int) -> None:
    """Decode one frame after the other, until the standard input ends."""
    # Imported here, before files are out of reach.
    import imagecodecs

    decoders: list[Callable[[bytes], Any]] = [
        imagecodecs.htj2k_decode,
        lambda content: imagecodecs.jpeg2k_decode(content, numthreads=1),
    ]
    # Each codec is a library that imagecodecs loads on first use.
    imagecodecs.htj2k_version()
    imagecodecs.jpeg2k_version()
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    _limit(memory_bytes)
    while head := requests.read(REQUEST.size):
        decoder, all_layouts, size = REQUEST.unpack(head)
        _limit_cpu(cpu_seconds)
        status, checksums = _answer(requests, decoders[decoder], bool(all_layouts), size)
        answers.write(RESPONSE.pack(status, len(checksums)) + struct.pack(f"<{len(checksums)}I", *checksums))
        answers.flush()


def _answer(requests: BinaryIO, decode: Callable[[bytes], Any], all_layouts: bool, size: int) -> tuple[int, list[int]]:
    try:
        pixels = decode(requests.read(size))
        return DECODED, list(_checksums(pixels, all_layouts))
    except MemoryError:
        return OUT_OF_MEMORY, []
    except Exception:
        return REFUSED, []


def _checksums(pixels: Any, all_layouts: bool) -> Iterator[int]:
    """CRC32 of the samples in little-endian order: colours by pixel, or in each layout that a data set can have.

    Those are colours by pixel and by plane (DICOM PS3.3, C.7.6.3.1.3), in samples as small as possible and of twice
    that (Bits Allocated, C.7.6.3.1). Row by row: a widened copy of the whole image would need several times its memory.
    """
    widths = (pixels.itemsize, 2 * pixels.itemsize) if all_layouts and pixels.itemsize < 4 else (pixels.itemsize,)
    planes = [pixels[..., number] for number in range(pixels.shape[2])] if pixels.ndim == 3 else []
    layouts = [[pixels], planes] if all_layouts and planes else [[pixels]]
    for width in widths:
        sample = f"<{pixels.dtype.kind}{width}"
        for parts in layouts:
            checksum = 0
            for part in parts:
                for row in part:
                    checksum = zlib.crc32(row.astype(sample, order="C", copy=False).tobytes(), checksum)
            yield checksum


def _limit(memory_bytes: int) -> None:
    """Give up memory beyond `memory_bytes` more than now, and the right to open, start or write anything."""
    statistics = Path("/proc/self/statm")
    if statistics.exists():  # On Linux, that is.
        used = int(statistics.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + memory_bytes, used + memory_bytes))
    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC, resource.RLIMIT_NOFILE):
        resource.setrlimit(limit, (0, 0))


def _limit_cpu(seconds: int) -> None:
    """Let the process run for so many seconds more."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(usage.ru_utime + usage.ru_stime) + 1 + seconds, hard))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
