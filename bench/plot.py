"""Plots the results relative to their targets, on a logarithmic scale."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.measure import Row

WIDTH, LINE, LEFT, MARGIN = 1180, 30, 620, 24  # pixels
PAPER, INK, DIM, GOOD, BAD = "#ffffff", "#202024", "#a0a0a8", "#2a7f4f", "#b3402a"
MAX_DOUBLINGS = 5.0


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw every row that has a target: median and quartiles, better to the left and worse to the right."""
    shown = [each for each in rows if each.target]
    image = Image.new("RGB", (WIDTH, LINE * (len(shown) + 2) + 2 * MARGIN), PAPER)
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(14)
    centre = LEFT + (WIDTH - LEFT - MARGIN) // 2
    pen.text((LEFT, MARGIN), "better", fill=GOOD, font=font)
    pen.text((WIDTH - MARGIN - 44, MARGIN), "worse", fill=BAD, font=font)
    pen.text((centre - 20, MARGIN), "target", fill=INK, font=font)
    pen.line([(centre, MARGIN + LINE), (centre, image.height - MARGIN)], fill=INK)
    for number, each in enumerate(shown, start=1):
        y = MARGIN + LINE * number + LINE // 2
        colour = GOOD if each.is_met else BAD
        pen.text((MARGIN, y - 9), each.what.strip(), fill=INK, font=font)
        low, value, high = (_place(each, figure, centre) for figure in (each.low, each.value, each.high))
        pen.line([(centre, y), (value, y)], fill=DIM)
        pen.line([(min(low, high), y), (max(low, high), y)], fill=colour, width=5)
        pen.ellipse([(value - 5, y - 5), (value + 5, y + 5)], fill=colour)
    image.save(path)


def _place(each: Row, figure: float, centre: int) -> int:
    """The x coordinate of a value: the target is in the centre, and each factor of two is one step."""
    doublings = math.log2(max(figure, 1e-9) / (each.target or 1.0)) * (1 if each.at_most else -1)
    scale = (WIDTH - MARGIN - centre) / MAX_DOUBLINGS
    return round(centre + scale * max(-MAX_DOUBLINGS, min(MAX_DOUBLINGS, doublings)))
