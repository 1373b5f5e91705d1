"""Draws frames in a separate process without credentials and with limited memory and time."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from framegate.processes.confined import ConfinedProcess
from framegate.rendering.drawing_child import REQUEST, RESPONSE, DrawStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from framegate.processes.confined import Channel
    from framegate.rendering.request import PictureRequest

DRAWING_MEMORY_BYTES = 1024 * 1024 * 1024
"""Address space that the process may allocate after its start: enough for a radiograph of 8000 by 8000 pixels."""

MAX_DRAW_SECONDS = 15.0
"""Maximum time for one picture. On one vCPU, a mammogram in JPEG 2000 takes five seconds."""

_PROGRAM = Path(__file__).with_name("drawing_child.py")


@dataclass(frozen=True, slots=True)
class DrawTask:
    """What to draw.

    Attributes
    ----------
    transfer_syntax_uid : str
        The encoding of the frame.
    attributes : mapping
        The attributes of the frame in the DICOM JSON model, with no more functional groups than its own.
    value_range : tuple of int or None
        The frame's least and greatest stored value.
    request : PictureRequest
        What the client asks of the picture.
    min_pixels : int
        Pixels that the longer side of the decoded frame must have.
    skip_decompositions : int or None
        Decompositions that the frame lacks, because it is one of the stored resolutions; None for a whole frame.
    """

    transfer_syntax_uid: str
    attributes: Mapping[str, Any]
    value_range: tuple[int, int] | None
    request: PictureRequest
    min_pixels: int
    skip_decompositions: int | None = None

    def to_json(self) -> bytes:
        """Return the document that the process reads."""
        return json.dumps(
            {
                "transferSyntaxUID": self.transfer_syntax_uid,
                "attributes": self.attributes,
                "valueRange": self.value_range,
                "picture": asdict(self.request),
                "minPixels": self.min_pixels,
                "skipDecompositions": self.skip_decompositions,
            }
        ).encode()


@dataclass(frozen=True, slots=True)
class Drawing:
    """The result of drawing a frame: the picture, or the reason why there is none."""

    status: DrawStatus
    picture: bytes = b""
    reason: str = ""


class DrawingProcess(ConfinedProcess):
    """A process that draws one frame at a time.

    Parameters
    ----------
    memory_bytes : int
        Address space for drawing.
    max_seconds : float
        Maximum wall-clock time and CPU time for one picture.
    """

    def __init__(self, memory_bytes: int = DRAWING_MEMORY_BYTES, max_seconds: float = MAX_DRAW_SECONDS) -> None:
        super().__init__(_PROGRAM, memory_bytes, max_seconds)

    def draw(self, content: bytes | bytearray, task: DrawTask, seconds: float) -> Drawing:
        """Draw a frame.

        Parameters
        ----------
        content : bytes
            The stored frame, or the codestream of a resolution.
        task : DrawTask
            What to draw.
        seconds : float
            Time for the picture, up to the process's maximum.
        """
        document = task.to_json()

        def send(requests: Channel) -> None:
            requests.write(REQUEST.pack(len(document), len(content)), document, content)

        return self.exchange(send, _drawing, seconds) or Drawing(DrawStatus.STOPPED)


def _drawing(answers: Channel) -> Drawing | None:
    head = answers.read(RESPONSE.size)
    if len(head) < RESPONSE.size:
        return None
    status, size = RESPONSE.unpack(head)
    content = answers.read(size)
    # A process that ran out of memory must not draw the next frame.
    if len(content) < size or status == DrawStatus.OUT_OF_MEMORY:
        return None
    if status == DrawStatus.DRAWN:
        return Drawing(DrawStatus.DRAWN, picture=content)
    return Drawing(DrawStatus(status), reason=content.decode())
