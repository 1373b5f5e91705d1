"""Draws mutated frames with mutated parameters, and checks that nothing crashes or exceeds its bounds.

``python -m bench.fuzz_pictures 50000`` draws 50,000; a test draws a few hundred.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np

from framegate.rendering.drawing_child import DrawStatus
from framegate.rendering.drawing_process import MAX_DRAW_SECONDS, DrawingProcess, DrawTask
from framegate.rendering.presentation import Presentation, PresentationError
from framegate.rendering.request import (
    MEDIA_TYPES,
    PictureParameterError,
    PictureRequest,
    parse_quality,
    parse_viewport,
    parse_window,
)

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS, COLUMNS = 96, 80

_PREFIX = "1.2.840.10008.1.2"
_GREY = np.add.outer(np.arange(ROWS) * 2, np.arange(COLUMNS)).astype(np.uint8)
_COLOUR = np.stack([_GREY, _GREY[::-1], _GREY], axis=-1)

SEEDS: dict[str, list[bytes]] = {
    f"{_PREFIX}.1": [_GREY.tobytes()],
    f"{_PREFIX}.5": [b"\x01\0\0\0\x40\0\0\0" + bytes(56) + b"".join(b"\x4f" + row.tobytes() for row in _GREY)],
    f"{_PREFIX}.4.50": [bytes(imagecodecs.jpeg8_encode(_GREY)), bytes(imagecodecs.jpeg8_encode(_COLOUR))],
    f"{_PREFIX}.4.70": [bytes(imagecodecs.ljpeg_encode(_GREY))],
    f"{_PREFIX}.4.80": [bytes(imagecodecs.jpegls_encode(_GREY))],
    f"{_PREFIX}.4.90": [bytes(imagecodecs.jpeg2k_encode(_GREY, level=0, reversible=True))],
    f"{_PREFIX}.4.112": [bytes(imagecodecs.jpegxl_encode(_GREY, lossless=True))],
    f"{_PREFIX}.4.202": [
        bytes(imagecodecs.htj2k_encode(_GREY, reversible=True, tlm=True)),
        bytes(imagecodecs.htj2k_encode(_COLOUR, reversible=True)),
    ],
}
"""A few frames of each transfer syntax."""

_NUMBERS = {
    "00280002": (1, 3, 0, 2, 4),
    "00280010": (ROWS, 0, 1, 65_535, 2**31),
    "00280011": (COLUMNS, 0, 1, 65_535, 2**31),
    "00280100": (8, 1, 16, 32, 64, 0, 7),
    "00280101": (8, 1, 12, 32, 0, 99),
    "00280102": (7, 0, 11, 31, 99),
    "00280103": (0, 1, 2),
    "00280006": (0, 1),
    "00281050": (128, -1e9, 1e308, 0),
    "00281051": (256, 0, 1, 1e-9, 1e308),
    "00281052": (0, -1024, 1e300),
    "00281053": (1, 0, -1, 1e300),
}
_INTERPRETATIONS = ("MONOCHROME2", "MONOCHROME1", "RGB", "YBR_FULL", "YBR_FULL_422", "PALETTE COLOR", "", "X")
_TEXTS = ("", "1", "256,256", "1,1", "16384,16384", "64,64,1,1,5,5", "64,64,0,0,-9,-9", "8192,8192,0,0,1,1", "1e9,1")
_WINDOWS = ("", "40,400", "0,1,sigmoid", "-1e9,1e-9,linear-exact", "1e12,1e12", "nan,1")


def mutated(content: bytes, chance: random.Random) -> bytes:
    """Change, remove, repeat or insert a few bytes."""
    changed = bytearray(content)
    for _ in range(chance.randint(0, 6)):
        position = (
            chance.randrange(len(changed) + 1)
            if chance.random() < 0.5
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


def attributes(chance: random.Random, *, is_colour: bool) -> dict[str, Any]:
    """The attributes of an image, some of which are wrong."""
    found: dict[str, Any] = {}
    for tag, values in _NUMBERS.items():
        usual = values[0] if tag != "00280002" or not is_colour else 3
        found[tag] = {"Value": [usual if chance.random() < 0.95 else chance.choice(values)]}
    interpretation = "RGB" if is_colour else "MONOCHROME2"
    found["00280004"] = {"Value": [interpretation if chance.random() < 0.9 else chance.choice(_INTERPRETATIONS)]}
    return found


def request(chance: random.Random) -> PictureRequest:
    """A request; parameters that are not valid are left out, as the API refuses them."""

    def parsed(parse: Callable[[str], Any], texts: tuple[str, ...]) -> Any:
        try:
            return parse(mutated(chance.choice(texts).encode(), chance).decode("latin-1"))
        except PictureParameterError:
            return None

    return PictureRequest(
        chance.choice(MEDIA_TYPES),
        parsed(parse_quality, ("1", "100")) or 85,
        parsed(parse_viewport, _TEXTS) if chance.random() < 0.5 else None,
        parsed(parse_window, _WINDOWS) if chance.random() < 0.5 else None,
    )


def fuzz(count: int, process: DrawingProcess, seed: int = 0) -> Counter[str]:
    """Draw mutated frames; return how many ended how.

    Raises
    ------
    AssertionError
        If a frame takes longer than it may, or a result has neither a picture nor a reason.
    """
    ends: Counter[str] = Counter()
    for number in range(count):
        chance = random.Random(seed * 1_000_003 + number)  # noqa: S311 - seeded, so that a finding can be repeated
        syntax = chance.choice(list(SEEDS))
        which = chance.randrange(len(SEEDS[syntax]))
        content = mutated(SEEDS[syntax][which], chance)
        image, asked = attributes(chance, is_colour=which == 1), request(chance)
        try:
            shown = Presentation.of_frame(image, 1)
        except PresentationError:
            ends["REFUSED"] += 1
            continue
        pixels = asked.min_pixels(shown.columns, shown.rows, shown.aspect_ratio)
        started = time.monotonic()
        drawing = process.draw(content, DrawTask(syntax, image, None, asked, pixels), MAX_DRAW_SECONDS)
        seconds = time.monotonic() - started
        assert seconds < MAX_DRAW_SECONDS + 15, (number, seconds)
        assert (drawing.status is DrawStatus.DRAWN) == bool(drawing.picture), number
        assert drawing.reason or drawing.status in (DrawStatus.DRAWN, DrawStatus.STOPPED), number
        ends[drawing.status.name] += 1
    return ends


def main() -> None:
    """Draw as many mutated frames as the command line says, and print how they ended."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    started = time.monotonic()
    print(dict(fuzz(count, DrawingProcess())), f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
