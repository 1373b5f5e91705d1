"""The demo's pictures: the first image in kilobytes, resolution by resolution, and the index of what there is."""

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
    from pathlib import Path

    from rich.console import Console

    from local.importing import ImportedFrame

WANTED = {"base": {"resolution": 0}, "128": {"size": 128}, "512": {"size": 512}, "full": {}}
"""What is asked for, by what it is called in the table."""

CALL_SECONDS = 60
INDEX_ROWS = 5


@dataclass(frozen=True, slots=True)
class _Seen:
    """A resolution as a client got it."""

    pixels: np.ndarray
    size: int
    milliseconds: float
    delivered: str


class ResolutionDemo:
    """One run of it against a deployment.

    Parameters
    ----------
    console : Console
        Where it shows what it does.
    api : str
        The base URL of the REST API.
    session : requests.Session
        Signs requests.
    output : Path
        The folder for pictures.
    """

    def __init__(self, console: Console, api: str, session: requests.Session, output: Path) -> None:
        self._console = console
        self._api = api
        self._session = session
        self._output = output
        self.failures = 0

    def show_resolutions(self, frames: dict[str, ImportedFrame]) -> None:
        """Fetch some frames at several resolutions, and compare each with the whole frame at that resolution.

        Parameters
        ----------
        frames : dict
            A frame in HTJ2K by the name of its file.
        """
        table = Table("file", "wanted", "pixels", "bytes", "of the frame", "ms", "delivered", "equal", box=None)
        for column in (3, 4, 5):
            table.columns[column].justify = "right"
        for name, frame in frames.items():
            seen = {wanted: self._fetch(frame, query) for wanted, query in WANTED.items()}
            full = seen["full"]
            for wanted, each in seen.items():
                skip = _skipped(full.pixels, each.pixels)
                equal = np.array_equal(each.pixels, self._whole_at(frame, skip))
                self.failures += not equal
                table.add_row(
                    name if wanted == "base" else "",
                    wanted,
                    f"{each.pixels.shape[1]} × {each.pixels.shape[0]}",
                    f"{each.size:,}",
                    f"{each.size / full.size:.1%}",
                    f"{each.milliseconds:.0f}",
                    each.delivered,
                    "yes" if equal else "[red]no[/]",
                )
            pictures = [
                (f"{wanted}: {each.size:,} bytes", picture_of_pixels(each.pixels)) for wanted, each in seen.items()
            ]
            side_by_side(pictures, self._output / f"resolutions-{name.partition('.')[0]}.png")
        self._console.print(table)
        self._console.print(
            "equal: every pixel, to the whole frame decoded at that resolution; side by side in "
            f"{self._output.name}/resolutions-*.png",
            style="dim",
        )

    def show_index(self, frame: ImportedFrame) -> None:
        """Show what there is to fetch of an image set."""
        url = f"{self._api}{frame.path.partition('/imageFrame/')[0]}/imageFrames"
        entries: list[dict[str, Any]] = []
        token: dict[str, str] = {}
        while True:
            answer = self._session.get(url, params={"maxResults": "50", **token}, timeout=CALL_SECONDS)
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
        self._console.print(f"the first {len(table.rows)} of {len(entries)}, in pages of 50", style="dim")

    def _fetch(self, frame: ImportedFrame, query: dict[str, int]) -> _Seen:
        started = time.perf_counter()
        answer = self._session.get(self._api + frame.path, params=query, timeout=CALL_SECONDS, allow_redirects=False)
        skip, delivered = int(answer.headers.get("Framegate-Skip-Decompositions", 0)), "inline"
        if answer.status_code == requests.codes.see_other:
            delivered = "303 to S3"
            answer = requests.get(answer.headers["Location"], timeout=CALL_SECONDS)
        answer.raise_for_status()
        milliseconds = (time.perf_counter() - started) * 1000
        pixels = imagecodecs.htj2k_decode(answer.content, skipres=skip)
        return _Seen(pixels, len(answer.content), milliseconds, delivered)

    def _whole_at(self, frame: ImportedFrame, skip: int) -> np.ndarray:
        answer = self._session.get(
            self._api + frame.path, params={"delivery": "url"}, timeout=CALL_SECONDS, allow_redirects=False
        )
        whole = requests.get(answer.headers["Location"], timeout=CALL_SECONDS).content
        return imagecodecs.htj2k_decode(whole, skipres=skip)


def _skipped(full: np.ndarray, pixels: np.ndarray) -> int:
    """How many decompositions lie between two resolutions."""
    return next(skip for skip in range(33) if -(-full.shape[1] // 2**skip) <= pixels.shape[1])
