"""Reads the part of a frame that a picture needs, and has it drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from framegate.delivery.portions import BySize
from framegate.delivery.resolutions import StreamPrefix, TooLargeError, cut
from framegate.healthimaging.media_types import stored_syntax
from framegate.problems import FrameNotDrawable
from framegate.rendering.drawing_child import DrawStatus
from framegate.rendering.drawing_process import DrawTask
from framegate.rendering.presentation import Presentation, PresentationError
from framegate.rendering.syntaxes import HTJ2K, MAX_SAMPLES

if TYPE_CHECKING:
    from framegate.healthimaging.client import FrameStream, HealthImaging
    from framegate.rendering.drawing_process import DrawingProcess
    from framegate.rendering.picture_index import FrameToDraw
    from framegate.rendering.request import PictureRequest
    from framegate.time_budget import TimeBudget

MAX_FRAME_BYTES = 128 * 1024 * 1024
"""Maximum size of what is read of a frame: an uncompressed radiograph of 8000 by 8000 pixels."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture.

    Attributes
    ----------
    content : bytes
        The encoded picture.
    resolution : int or None
        Number of the stored resolution that was read; None for the whole frame.
    bytes_read : int
        Bytes of the frame that were read from HealthImaging.
    """

    content: bytes
    resolution: int | None
    bytes_read: int


@dataclass(frozen=True, slots=True)
class _Stored:
    """What was read of a frame.

    Attributes
    ----------
    transfer_syntax_uid : str or None
        The encoding of the frame.
    content : bytes
        The frame, or the codestream of a resolution.
    resolution, skip_decompositions : int or None
        The number of the resolution, and the decompositions that it lacks; None for the whole frame.
    bytes_read : int
        Bytes that were read from HealthImaging.
    """

    transfer_syntax_uid: str | None
    content: bytes | bytearray
    resolution: int | None
    skip_decompositions: int | None
    bytes_read: int


class FrameDrawer:
    """Draws frames.

    Parameters
    ----------
    source : HealthImaging
        Where frames come from.
    process : DrawingProcess
        Draws them.
    """

    def __init__(self, source: HealthImaging, process: DrawingProcess) -> None:
        self._source = source
        self._process = process

    def prepare(self) -> None:
        """Start the process that draws, so that it loads its libraries while the frame is looked up and read."""
        self._process.start()

    def draw(self, to_draw: FrameToDraw, request: PictureRequest, budget: TimeBudget) -> Picture:
        """Draw a frame. Of a frame in HTJ2K, only the resolution that the picture needs is read.

        Raises
        ------
        FrameNotDrawable
            If the frame or its attributes are damaged, or of a kind that cannot be drawn, or need too much memory or
            time.
        Problem
            As `HealthImaging.fetch` raises it.
        """
        try:
            presentation = Presentation.of_frame(to_draw.attributes, 1)
        except PresentationError as error:
            raise FrameNotDrawable(str(error)) from None
        rows, columns = presentation.rows, presentation.columns
        if rows * columns * presentation.samples_per_pixel > MAX_SAMPLES:
            raise FrameNotDrawable(f"Frames of more than {MAX_SAMPLES:,} samples cannot be drawn")
        if not request.can_encode(columns, rows, presentation.aspect_ratio):
            raise FrameNotDrawable(f"The picture is too large for {request.media_type}: request a smaller viewport")
        # A resolution has averages of samples, and those of numbers of colours have no meaning.
        is_reducible = not presentation.palette
        longer = max(rows, columns)
        min_pixels = request.min_pixels(columns, rows, presentation.aspect_ratio) if is_reducible else longer
        is_reduced = min_pixels < longer
        syntax = to_draw.transfer_syntax_uid
        stored = self._source.fetch(
            to_draw.frame,
            lambda stream: _read(stream, syntax, min_pixels if is_reduced else None),
            budget,
            in_part=is_reduced and (syntax is None or syntax in HTJ2K),
        )
        if stored.transfer_syntax_uid is None:
            raise FrameNotDrawable("The transfer syntax of the frame is not known")
        task = DrawTask(
            stored.transfer_syntax_uid,
            to_draw.attributes,
            to_draw.value_range,
            request,
            min_pixels,
            stored.skip_decompositions,
        )
        drawing = self._process.draw(stored.content, task, budget.remaining())
        if drawing.status is DrawStatus.DRAWN:
            return Picture(drawing.picture, stored.resolution, stored.bytes_read)
        raise FrameNotDrawable(drawing.reason or "Drawing the frame takes too much memory or time")


def _read(stream: FrameStream, listed_syntax: str | None, min_pixels: int | None) -> _Stored:
    syntax = stored_syntax(listed_syntax, stream.content_type)
    prefix = StreamPrefix(stream, MAX_FRAME_BYTES)
    try:
        if min_pixels is not None and syntax in HTJ2K:
            taken = cut(prefix, BySize(min_pixels))
            resolution, resolutions = taken.portion.resolution, taken.portion.resolutions
            if taken.content is not None and resolution is not None and resolutions is not None:
                skipped = resolutions - 1 - resolution.number
                return _Stored(syntax, taken.content, resolution.number, skipped, stream.bytes_read)
        return _Stored(syntax, prefix.to_the_end(), None, None, stream.bytes_read)
    except TooLargeError:
        raise FrameNotDrawable(f"Frames of more than {MAX_FRAME_BYTES:,} bytes cannot be drawn") from None
