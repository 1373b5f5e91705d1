"""Draws mutated frames with mutated attributes and parameters, and checks that nothing crashes or exceeds its bounds.

``python -m bench.fuzz_pictures 50000`` draws 50,000 on all processors; a test draws a few hundred.
"""

from __future__ import annotations

import base64
import io
import multiprocessing
import os
import random
import re
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import imagecodecs
import numpy as np
from urllib3.response import HTTPResponse

from bench.measure import peak_memory
from framegate.healthimaging.client import FrameStream
from framegate.identifiers import FrameRef
from framegate.problems import FrameNotDrawable
from framegate.rendering.drawer import FrameDrawer
from framegate.rendering.drawing_process import DRAWING_MEMORY_BYTES, MAX_DRAW_SECONDS, DrawingProcess
from framegate.rendering.picture_index import FrameToDraw
from framegate.rendering.request import (
    MEDIA_TYPES,
    PictureParameterError,
    PictureRequest,
    parse_quality,
    parse_viewport,
    parse_window,
)
from framegate.time_budget import TimeBudget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from framegate.healthimaging.client import HealthImaging

ROWS, COLUMNS = 96, 80

CHUNK_FRAMES = 1_000
"""Frames between two lines of progress."""

MAX_SECONDS = MAX_DRAW_SECONDS + 5
"""Maximum time for an answer, with a new process on a busy machine."""

MAX_PROCESS_BYTES = DRAWING_MEMORY_BYTES + 128 * 1024 * 1024
"""Maximum memory of the process that draws, with the libraries that it loads before it limits itself."""

_PREFIX = "1.2.840.10008.1.2"
_GREY = np.add.outer(np.arange(ROWS) * 2, np.arange(COLUMNS)).astype(np.uint8)
_DEEP = _GREY.astype(np.uint16) * 15
_WIDE = _GREY.astype(np.uint32) << 20
_COLOUR = np.stack([_GREY, _GREY[::-1], _GREY], axis=-1)
_FRAME = FrameRef("d" * 32, "5" * 32, "f" * 32)


@dataclass(frozen=True, slots=True)
class Seed:
    """A frame, and the attributes that fit it."""

    transfer_syntax_uid: str
    content: bytes
    bits: int = 8
    channels: int = 1


def _resolutions(pixels: Any) -> bytes:
    return bytes(
        imagecodecs.htj2k_encode(
            pixels, reversible=True, resolutions=3, tlm=True, tilepart=imagecodecs.HTJ2K.TILEPART.RESOLUTIONS
        )
    )


_RLE_ROWS = b"".join(b"\x4f" + row.tobytes() for row in _GREY)

SEEDS = (
    Seed(f"{_PREFIX}.1", _GREY.tobytes()),
    Seed(f"{_PREFIX}.1", _DEEP.tobytes(), 16),
    Seed(f"{_PREFIX}.1", _WIDE.tobytes(), 32),
    Seed(f"{_PREFIX}.1", np.packbits(_GREY > 99, bitorder="little").tobytes(), 1),
    Seed(f"{_PREFIX}.1", _COLOUR.tobytes(), 8, 3),
    Seed(f"{_PREFIX}.5", b"\x01\0\0\0\x40\0\0\0" + bytes(56) + _RLE_ROWS),
    Seed(f"{_PREFIX}.4.50", bytes(imagecodecs.jpeg8_encode(_GREY))),
    Seed(f"{_PREFIX}.4.50", bytes(imagecodecs.jpeg8_encode(_COLOUR)), 8, 3),
    Seed(f"{_PREFIX}.4.70", bytes(imagecodecs.ljpeg_encode(_GREY))),
    Seed(f"{_PREFIX}.4.70", bytes(imagecodecs.ljpeg_encode(_DEEP, bitspersample=12)), 16),
    Seed(f"{_PREFIX}.4.80", bytes(imagecodecs.jpegls_encode(_GREY))),
    Seed(f"{_PREFIX}.4.81", bytes(imagecodecs.jpegls_encode(_DEEP, level=2)), 16),
    Seed(f"{_PREFIX}.4.90", bytes(imagecodecs.jpeg2k_encode(_GREY, level=0, reversible=True))),
    Seed(f"{_PREFIX}.4.91", bytes(imagecodecs.jpeg2k_encode(_COLOUR, level=50)), 8, 3),
    Seed(f"{_PREFIX}.4.112", bytes(imagecodecs.jpegxl_encode(_GREY, lossless=True))),
    Seed(f"{_PREFIX}.4.112", bytes(imagecodecs.jpegxl_encode(_COLOUR, usecontainer=True)), 8, 3),
    Seed(f"{_PREFIX}.4.112", bytes(imagecodecs.jpegxl_encode(np.stack([_GREY] * 3), lossless=True))),
    Seed(f"{_PREFIX}.4.202", _resolutions(_DEEP), 16),
    Seed(f"{_PREFIX}.4.202", _resolutions(_COLOUR), 8, 3),
    Seed(f"{_PREFIX}.4.203", bytes(imagecodecs.htj2k_encode(_GREY, reversible=False))),
)
"""Frames of each transfer syntax."""

_NUMBERS: dict[str, tuple[Any, ...]] = {
    "00280002": (1, 3, 0, 2, 4),
    "00280010": (ROWS, 0, 1, 95, 97, 65_535, 2**31),
    "00280011": (COLUMNS, 0, 1, 79, 81, 65_535, 2**31),
    "00280100": (8, 1, 16, 32, 64, 0, 7),
    "00280101": (8, 1, 12, 32, 0, 99),
    "00280102": (7, 0, 11, 31, 99),
    "00280103": (0, 1, 2),
    "00280006": (0, 1),
    "00281050": (128, -1e9, 1e308, 0, None, "nan"),
    "00281051": (256, 0, 1, 1e-9, 1e308, -1, "inf"),
    "00281052": (0, -1024, 1e300),
    "00281053": (1, 0, -1, 1e300, 5e-324),
}
"""Numbers of an image by attribute, the usual one first."""

_PAIRS = ([1, 1], [100, 1], [1, 100], [1, 3], [0, 0], [1e-300, 1e300], ["0.2", "0.1"])
_DESCRIPTORS: tuple[list[int], ...] = (
    [256, 0, 8],
    [256, 0, 16],
    [0, 0, 16],
    [16, -8, 12],
    [256, 0, 99],
    [65_535, 65_535, 16],
    [1],
    [],
)
_SEGMENTS = (0, 1, 0, 1, 255, 65_535, 2, 2, 0, 0, 1, 65_535, 7)
_ENTRIES = (bytes(range(256)) * 2, bytes(256), np.array(_SEGMENTS, "<u2").tobytes(), b"")
_INTERPRETATIONS = ("MONOCHROME2", "MONOCHROME1", "RGB", "YBR_FULL", "YBR_FULL_422", "PALETTE COLOR", "", "X")
_RANGES = (None, (0, 255), (0, 0), (255, 0), (-(2**31), 2**32))
_VIEWPORTS = ("", "1", "256,256", "1,1", "16384,16384", "64,64,1,1,5,5", "64,64,0,0,-9,-9", "32,32,,,,", "1e9,1")
_ENLARGED = ("4096,4096,0,0,1,1", "8192,4096,10,10,-9,9", "16384,1,0,0,1,1", "1,16384,,1,,")
_WINDOWS = ("", "40,400", "0,1,sigmoid", "-1e9,1e-9,linear-exact", "1e12,1e12", "nan,1", "0,0", "1,-1", "1,1e300")


def mutated(content: bytes, chance: random.Random) -> bytes:
    """Change, remove, repeat or insert a few bytes."""
    changed = bytearray(content)
    for _ in range(chance.randint(0, 6)):
        position = (
            chance.randrange(len(changed) + 1)
            if chance.random() < 0.7
            else chance.randrange(min(160, len(changed) + 1))
        )
        match chance.randrange(5):
            case 0 if position < len(changed):
                changed[position] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
            case 1:
                del changed[position : position + chance.randint(1, 200)]
            case 2:
                changed[position:position] = changed[position : position + chance.randint(1, 50)]
            case 3:
                changed[position:position] = chance.randbytes(chance.randint(1, 8))
            case 4:
                changed[position : position + 4] = chance.choice((0, 1, 2**31 - 1, 2**32 - 1)).to_bytes(4, "big")
    return bytes(changed)


def attributes(seed: Seed, chance: random.Random) -> dict[str, Any]:
    """The attributes of an image, some of which are wrong."""
    fitting = {"00280002": seed.channels, "00280100": seed.bits, "00280101": seed.bits, "00280102": seed.bits - 1}
    found: dict[str, Any] = {}
    for tag, values in _NUMBERS.items():
        usual = fitting.get(tag, values[0])
        found[tag] = {"Value": [usual if chance.random() < 0.97 else chance.choice(values)]}
    interpretation = "RGB" if seed.channels > 1 else "MONOCHROME2"
    found["00280004"] = {"Value": [interpretation if chance.random() < 0.85 else chance.choice(_INTERPRETATIONS)]}
    for tag in ("00280034", "00280030"):
        if chance.random() < 0.1:
            found[tag] = {"Value": chance.choice(_PAIRS)}
    for tag in ("00283000", "00283010"):
        if chance.random() < 0.1:
            found[tag] = {"Value": [_table("00283002", "00283006", chance)]}
    for number in (1, 2, 3) if chance.random() < 0.5 else ():
        data = f"002812{chance.choice(('0', '2'))}{number}"
        found |= _table(f"0028110{number}", data, chance)
    if chance.random() < 0.1:
        window = {tag: found.pop(tag) for tag in ("00281050", "00281051")}
        found["52009230"] = {"Value": [{"00289132": {"Value": [window]}}]}
    return found


def _table(descriptor: str, data: str, chance: random.Random) -> dict[str, Any]:
    entries = mutated(chance.choice(_ENTRIES), chance)
    return {
        descriptor: {"Value": chance.choice(_DESCRIPTORS)},
        data: {"InlineBinary": base64.b64encode(entries).decode()}
        if chance.random() < 0.7
        else {"Value": [int(each) for each in entries]},
    }


def request(chance: random.Random) -> PictureRequest:
    """A request; parameters that are not valid are left out, as the API refuses them."""

    def parsed(parse: Callable[[str], Any], texts: tuple[str, ...]) -> Any:
        try:
            return parse(mutated(chance.choice(texts).encode(), chance).decode("latin-1"))
        except PictureParameterError:
            return None

    # Pictures of many pixels take seconds, so only a few are.
    viewports = _ENLARGED if chance.random() < 0.01 else _VIEWPORTS
    return PictureRequest(
        chance.choice(MEDIA_TYPES),
        parsed(parse_quality, ("1", "100")) or 85,
        parsed(parse_viewport, viewports) if chance.random() < 0.5 else None,
        parsed(parse_window, _WINDOWS) if chance.random() < 0.5 else None,
    )


class _Frames:
    """Serves one frame, as HealthImaging's client does."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def fetch(
        self, _: FrameRef, use: Callable[[FrameStream], Any], budget: TimeBudget, *, in_part: bool = False
    ) -> Any:
        headers = {"Content-Length": str(len(self._content)), "Content-Type": "image/jph"}
        response = HTTPResponse(io.BytesIO(self._content), headers, preload_content=False)
        return use(FrameStream(response, budget))


@dataclass(slots=True)
class Ends:
    """How frames ended, and the most that one of them took.

    Attributes
    ----------
    counts : Counter of str
        Frames by what happened: "drawn", or the reason why not.
    max_seconds : float
        Maximum time for an answer.
    max_bytes : int
        Peak memory of the process that draws, except of those that were stopped.
    """

    counts: Counter[str]
    max_seconds: float = 0.0
    max_bytes: int = 0

    def add(self, other: Ends) -> None:
        """Add the frames of another worker."""
        self.counts += other.counts
        self.max_seconds = max(self.max_seconds, other.max_seconds)
        self.max_bytes = max(self.max_bytes, other.max_bytes)

    def __str__(self) -> str:
        """Return a short line."""
        drawn = self.counts["drawn"]
        stopped = sum(number for end, number in self.counts.items() if end.startswith(STOPPED))
        return (
            f"{sum(self.counts.values()):,} frames: {drawn:,} drawn, {stopped:,} stopped at a limit, the rest refused; "
            f"at most {self.max_seconds:.1f} s and {self.max_bytes / 2**20:.0f} MiB"
        )


STOPPED = "Drawing the frame takes too much memory or time"
"""The reason if the process exceeded its limits or crashed."""


def fuzz(numbers: Iterable[int], process: MeasuredProcess) -> Ends:
    """Draw mutated frames; each number stands for one, so that a finding can be repeated.

    Raises
    ------
    AssertionError
        If an answer exceeds its time or memory, or is neither a picture nor a reason.
    Exception
        Anything but a picture and `FrameNotDrawable` is a finding.
    """
    ends = Ends(Counter())
    for number in numbers:
        chance = random.Random(number)  # noqa: S311 - seeded, so that a finding can be repeated
        seed = chance.choice(SEEDS)
        content = mutated(seed.content, chance)
        frame = FrameToDraw(_FRAME, seed.transfer_syntax_uid, attributes(seed, chance), chance.choice(_RANGES), "")
        asked = request(chance)
        drawer = FrameDrawer(cast("HealthImaging", _Frames(content)), process)
        started = time.monotonic()
        try:
            picture = drawer.draw(frame, asked, TimeBudget(2 * MAX_DRAW_SECONDS))
        except FrameNotDrawable as problem:
            end = problem.reason
            if end == STOPPED:
                end = f"{STOPPED} ({process.end})"
                print(number, seed.transfer_syntax_uid, asked, process.end, f"{time.monotonic() - started:.1f} s")
        else:
            assert picture.content, number
            end = "drawn"
        seconds = time.monotonic() - started
        memory = process.peak_memory()
        assert seconds < MAX_SECONDS, (number, seconds)
        assert memory < MAX_PROCESS_BYTES, (number, memory)
        assert end, number
        # The reasons name formats and transfer syntaxes; one of each kind is enough.
        ends.add(Ends(Counter([re.sub(r"image/\w+", "the format", end)]), seconds, memory))
    return ends


class MeasuredProcess(DrawingProcess):
    """The process that draws, which tells how much memory it took, and how it ended.

    Attributes
    ----------
    end : str
        How the process ended last.
    """

    end = ""

    def stop(self) -> None:
        """End the process if it is running, and note whether it had ended before."""
        if self._process:
            code = self._process.poll()
            self.end = "memory" if code is None else f"exit {code}" if code >= 0 else signal.Signals(-code).name
        super().stop()

    def peak_memory(self) -> int:
        """Return the peak memory in bytes; 0 if the process does not run."""
        process = self._process
        return peak_memory(process.pid) if process and process.poll() is None else 0


def _chunk(numbers: range) -> Ends:
    process = MeasuredProcess()
    try:
        return fuzz(numbers, process)
    finally:
        process.stop()


def main() -> None:
    """Draw as many mutated frames as the command line says, and print how they ended."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    started, ends = time.monotonic(), Ends(Counter())
    chunks = [range(first, min(first + CHUNK_FRAMES, count)) for first in range(0, count, CHUNK_FRAMES)]
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as workers:
        for each in workers.imap_unordered(_chunk, chunks):
            ends.add(each)
            print(f"{time.monotonic() - started:6.0f} s  {ends}", flush=True)
    for reason, number in ends.counts.most_common():
        print(f"{number:8,}  {reason}")


if __name__ == "__main__":
    main()
