"""The program of the decoder process: reads frames from standard input, and writes checksums of their pixels.

The program starts without credentials. Before it reads the first frame, it gives up the rights to open files and
sockets and to start processes, and limits its memory and time (`confinement`).
"""

from __future__ import annotations

import struct
import sys
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO

from framegate.processes.confinement import limit, limit_cpu

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REQUEST = struct.Struct("<BBQ")
"""The decoder's index, whether to return all layouts, and the size in bytes of the frame that follows."""

RESPONSE = struct.Struct("<BB")
"""The status, and the number of 4-byte checksums that follow."""

DECODED, REFUSED, OUT_OF_MEMORY = range(3)


def main(memory_bytes: int, cpu_seconds: int) -> None:
    """Decode frames until standard input ends."""
    # The import must come before the process gives up opening files.
    import imagecodecs

    decoders: list[Callable[[bytes], Any]] = [
        imagecodecs.htj2k_decode,
        lambda content: imagecodecs.jpeg2k_decode(content, numthreads=1),
    ]
    # imagecodecs loads the library of each codec on first use, which must also come before.
    imagecodecs.htj2k_version()
    imagecodecs.jpeg2k_version()
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    limit(memory_bytes)
    while head := requests.read(REQUEST.size):
        decoder, all_layouts, size = REQUEST.unpack(head)
        limit_cpu(cpu_seconds)
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
    """Yield the CRC32 of the little-endian samples, with colours by pixel or in each layout of a data set.

    A data set can have colours by pixel or by plane (DICOM PS3.3, C.7.6.3.1.3), and samples of the smallest size or of
    twice that size (Bits Allocated, C.7.6.3.1). The checksum is computed row by row, because a widened copy of the
    whole image would need several times its memory.
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


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
