"""Shows resolutions and the frame index in the demo: a small first image, then larger ones."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np
import requests
from rich.table import Table

from local.pictures import picture_of_pixels, side_by_side

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rich.console import Console

    from local.importing import ImportedFrame

QUERIES = {"resolution=0": {"resolution": 0}, "size=128": {"size": 128}, "size=512": {"size": 512}, "whole": {}}
"""Query parameters of each request, by its name in the table."""

CALL_TIMEOUT_SECONDS = 60
INDEX_ROWS = 5
INDEX_PAGE_FRAMES = 50


@dataclass(frozen=True, slots=True)
class _Received:
    """A resolution as a client received it."""

    pixels: np.ndarray
    size_bytes: int
    milliseconds: float
    delivery: str


class ResolutionDemo:
    """The resolution part of the demo, for one deployment.

    Parameters
    ----------
    console : Console
        Prints the tables.
    api : str
        The base URL of the REST API.
    session : requests.Session
        Signs requests.
    output : Path
        The folder for pictures.

    Attributes
    ----------
    failures : int
        Number of failed checks.
    """

    def __init__(self, console: Console, api: str, session: requests.Session, output: Path) -> None:
        self._console = console
        self._api = api
        self._session = session
        self._output = output
        self.failures = 0

    def show_resolutions(self, frames: dict[str, ImportedFrame]) -> None:
        """Fetch frames at several resolutions, and compare each with the whole frame decoded at that resolution.

        Parameters
        ----------
        frames : dict
            HTJ2K frames by file name.
        """
        table = Table(
            "file", "request", "pixels", "bytes", "of whole frame", "ms", "delivery", "pixels match", box=None
        )
        for column in (3, 4, 5):
            table.columns[column].justify = "right"
        for name, frame in frames.items():
            received = {request: self._fetch(frame, query) for request, query in QUERIES.items()}
            whole = received["whole"]
            for number, (request, each) in enumerate(received.items()):
                skip = _decompositions_between(whole.pixels, each.pixels)
                matches = np.array_equal(each.pixels, self._whole_frame_at(frame, skip))
                self.failures += not matches
                table.add_row(
                    "" if number else name,
                    request,
                    f"{each.pixels.shape[1]} × {each.pixels.shape[0]}",
                    f"{each.size_bytes:,}",
                    f"{each.size_bytes / whole.size_bytes:.1%}",
                    f"{each.milliseconds:.0f}",
                    each.delivery,
                    "yes" if matches else "[red]no[/]",
                )
            pictures = [
                (f"{request}: {each.size_bytes:,} bytes", picture_of_pixels(each.pixels))
                for request, each in received.items()
            ]
            side_by_side(pictures, self._output / f"resolutions-{name.partition('.')[0]}.png")
        self._console.print(table)
        self._console.print(
            "pixels match: every pixel equals the whole frame decoded at that resolution. "
            f"Pictures: {self._output.name}/resolutions-*.png",
            style="dim",
        )

    def show_index(self, frame: ImportedFrame) -> None:
        """Show the first rows of an image set's frame index."""
        url = f"{self._api}{frame.path.partition('/imageFrame/')[0]}/imageFrames"
        entries: list[dict[str, Any]] = []
        token: dict[str, str] = {}
        while True:
            query = {"maxResults": str(INDEX_PAGE_FRAMES), **token}
            answer = self._session.get(url, params=query, timeout=CALL_TIMEOUT_SECONDS)
            answer.raise_for_status()
            page = answer.json()
            entries += page["imageFrames"]
            if "nextToken" not in page:
                break
            token = {"nextToken": page["nextToken"]}
        self.failures += frame.image_frame_id not in {entry["imageFrameId"] for entry in entries}
        table = Table("frame", "image frame id", "media type", "bytes", "rows × columns", "resolutions", box=None)
        for column in (0, 3, 5):
            table.columns[column].justify = "right"
        for entry in entries[:INDEX_ROWS]:
            table.add_row(
                str(entry["frameNumber"]),
                entry["imageFrameId"],
                entry["contentType"],
                f"{entry['contentLength']:,}",
                f"{entry['rows']} × {entry['columns']}",
                str(entry["resolutions"]),
            )
        self._console.print(table)
        self._console.print(
            f"the first {len(table.rows)} of {len(entries)} frames, fetched in pages of {INDEX_PAGE_FRAMES}",
            style="dim",
        )

    def _fetch(self, frame: ImportedFrame, query: dict[str, int]) -> _Received:
        started = time.perf_counter()
        answer = self._get(frame, query)
        skip, delivery = int(answer.headers.get("Framegate-Skip-Decompositions", 0)), "inline"
        if answer.status_code == requests.codes.see_other:
            delivery = "303 to S3"
            answer = requests.get(answer.headers["Location"], timeout=CALL_TIMEOUT_SECONDS)
        answer.raise_for_status()
        milliseconds = (time.perf_counter() - started) * 1000
        pixels = imagecodecs.htj2k_decode(answer.content, skipres=skip)
        return _Received(pixels, len(answer.content), milliseconds, delivery)

    def _whole_frame_at(self, frame: ImportedFrame, skip: int) -> np.ndarray:
        answer = self._get(frame, {"delivery": "url"})
        whole = requests.get(answer.headers["Location"], timeout=CALL_TIMEOUT_SECONDS).content
        return imagecodecs.htj2k_decode(whole, skipres=skip)

    def _get(self, frame: ImportedFrame, query: Mapping[str, str | int]) -> requests.Response:
        url = self._api + frame.path
        return self._session.get(url, params=query, timeout=CALL_TIMEOUT_SECONDS, allow_redirects=False)


def _decompositions_between(whole: np.ndarray, pixels: np.ndarray) -> int:
    """The number of decompositions between two resolutions."""
    return next(skip for skip in range(33) if -(-whole.shape[1] // 2**skip) <= pixels.shape[1])
