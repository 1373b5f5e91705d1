"""The program of the drawing process: reads frames from standard input, and writes pictures to standard output.

The program starts without credentials. Before it reads the first frame, it gives up the rights to open files and
sockets and to start processes, and limits its memory and time (`confinement`).
"""

from __future__ import annotations

import json
import struct
import sys
from enum import IntEnum
from typing import TYPE_CHECKING, Any, BinaryIO

from framegate.jpeg2000.pixels import MAX_HEADER_BYTES, DamagedHeaderError, read_header
from framegate.processes.confinement import limit, limit_cpu
from framegate.rendering.presentation import Presentation, Window
from framegate.rendering.request import MEDIA_TYPES, PictureRequest, Viewport
from framegate.rendering.syntaxes import HTJ2K, JPEG_2000

if TYPE_CHECKING:
    from framegate.jpeg2000.pixels import ImageHeader

REQUEST = struct.Struct("<IQ")
"""The sizes in bytes of the task, a JSON document, and of the frame that follows it."""

RESPONSE = struct.Struct("<BQ")
"""The status, and the size in bytes of what follows: the picture, or the reason why there is none."""


class DrawStatus(IntEnum):
    """The result of drawing a frame."""

    DRAWN = 0
    UNSUPPORTED = 1
    """Frames of this kind cannot be drawn."""
    DAMAGED = 2
    """The frame cannot be decoded, or contradicts its attributes."""
    OUT_OF_MEMORY = 3
    STOPPED = 4
    """The process crashed, or exceeded its limits. Only the parent reports this."""


def main(memory_bytes: int, cpu_seconds: int) -> None:
    """Draw frames until standard input ends."""
    _load()
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    limit(memory_bytes)
    while head := requests.read(REQUEST.size):
        task_bytes, frame_bytes = REQUEST.unpack(head)
        limit_cpu(cpu_seconds)
        status, content = _answer(requests, task_bytes, frame_bytes)
        answers.write(RESPONSE.pack(status, len(content)))
        answers.write(content)
        answers.flush()


def _load() -> None:
    """Load every decoder and encoder, which must come before the process gives up opening files."""
    import imagecodecs
    import numpy as np

    import framegate.rendering.decoding
    import framegate.rendering.drawing  # noqa: F401
    from framegate.rendering.pictures import picture

    for codec in ("htj2k", "jpeg2k", "jpeg8", "ljpeg", "jpegxl", "jpegls", "dicomrle"):
        getattr(imagecodecs, f"{codec}_version")()
    pixel = np.zeros((2, 2), np.uint8)
    for media_type in MEDIA_TYPES:
        picture(pixel, PictureRequest(media_type), 2, 2)


def _answer(requests: BinaryIO, task_bytes: int, frame_bytes: int) -> tuple[DrawStatus, bytes]:
    from framegate.rendering.decoding import DamagedFrameError
    from framegate.rendering.drawing import UnsupportedPixelsError

    try:
        task, frame = json.loads(requests.read(task_bytes)), requests.read(frame_bytes)
        return DrawStatus.DRAWN, _draw(task, frame)
    except UnsupportedPixelsError as error:
        return DrawStatus.UNSUPPORTED, str(error).encode()
    except DamagedFrameError as error:
        return DrawStatus.DAMAGED, str(error).encode()
    except MemoryError:
        return DrawStatus.OUT_OF_MEMORY, b""
    except Exception as error:
        return DrawStatus.DAMAGED, f"The frame cannot be drawn: {type(error).__name__}".encode()


def _draw(task: dict[str, Any], frame: bytes) -> bytes:
    from framegate.rendering.decoding import ANOTHER_SIZE, DamagedFrameError, decode
    from framegate.rendering.drawing import draw
    from framegate.rendering.pictures import picture

    syntax, request = task["transferSyntaxUID"], picture_request(task["picture"])
    presentation = Presentation.of_frame(task["attributes"], 1, task["valueRange"])
    skip = 0
    if syntax in JPEG_2000 | HTJ2K:
        header = _header(frame, presentation)
        if syntax in HTJ2K:
            found = skipped_decompositions(presentation, task["minPixels"], header.decompositions)
            skip = found if task["skipDecompositions"] is None else task["skipDecompositions"]
    samples = decode(frame, syntax, presentation, skip_decompositions=skip)
    if samples.shape[:2] != tuple(-(-side >> skip) for side in (presentation.rows, presentation.columns)):
        raise DamagedFrameError(ANOTHER_SIZE)
    drawn = draw(samples, presentation, request.window)
    return picture(drawn, request, presentation.columns, presentation.rows, presentation.aspect_ratio)


def _header(frame: bytes, presentation: Presentation) -> ImageHeader:
    """Read the header of a codestream before the decoder allocates memory for what it declares.

    Raises
    ------
    DamagedFrameError
        If the header is damaged or declares another size than the attributes.
    """
    from framegate.rendering.decoding import ANOTHER_SIZE, DamagedFrameError

    try:
        header = read_header(frame[:MAX_HEADER_BYTES])
    except DamagedHeaderError:
        raise DamagedFrameError("The headers of the frame are damaged") from None
    if (header.columns, header.rows) != (presentation.columns, presentation.rows):
        raise DamagedFrameError(ANOTHER_SIZE)
    if header.components != presentation.samples_per_pixel:
        raise DamagedFrameError("The frame has another number of samples per pixel than its attributes say")
    return header


def skipped_decompositions(presentation: Presentation, min_pixels: int | None, decompositions: int) -> int:
    """Return how many decompositions a decoder can skip for a picture that needs this many pixels on the longer side.

    Parameters
    ----------
    presentation : Presentation
        The size of the frame.
    min_pixels : int or None
        Pixels on the longer side of the frame; None for all.
    decompositions : int
        Decompositions of the frame.
    """
    longer = max(presentation.rows, presentation.columns)
    if min_pixels is None:
        return 0
    return max((n for n in range(decompositions + 1) if -(-longer >> n) >= min_pixels), default=0)


def picture_request(document: dict[str, Any]) -> PictureRequest:
    """Return a request that `dataclasses.asdict` has turned into JSON."""
    viewport, window = document["viewport"], document["window"]
    return PictureRequest(
        document["media_type"],
        document["quality"],
        Viewport(**viewport) if viewport else None,
        Window(**window) if window else None,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
