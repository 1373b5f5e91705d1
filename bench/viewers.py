"""Opens a series as a viewer does: over many connections, with or without another attempt after 429 and 503."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

CONNECTIONS = 100
"""Connections of a viewer: the requests that OHIF has open for the images on the screen (``interaction``)."""

MAX_PAUSE_SECONDS = 1.0
"""Maximum pause before another attempt."""

_BUSY = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}


@dataclass(slots=True)
class Opening:
    """How a series was opened.

    Attributes
    ----------
    seconds : float
        From the first request to the last byte of the last frame.
    complete : int
        Frames that arrived.
    missing : int
        Frames that did not, because the viewer gave up on them.
    refused : int
        Responses 429 and 503.
    received_bytes : int
        The bytes of all bodies.
    """

    seconds: float = 0.0
    complete: int = 0
    missing: int = 0
    refused: int = 0
    received_bytes: int = 0


class Viewer:
    """A viewer of one series.

    Parameters
    ----------
    port : int
        The server's port on 127.0.0.1.
    headers : sequence of str
        The header lines of the requests for frames.
    retries : bool
        Whether it repeats a request after 429 or 503, with growing pauses.
    connections : int
        The number of its connections.
    """

    def __init__(
        self, port: int, headers: Sequence[str], *, retries: bool = False, connections: int = CONNECTIONS
    ) -> None:
        self._port = port
        self._headers = headers
        self._retries = retries
        self._connections = connections
        self._random = random.Random(1)  # noqa: S311 - spreads attempts, no secret

    async def open(self, metadata: str, frames: Sequence[str]) -> Opening:
        """Get the metadata of the series, then all of its frames.

        Raises
        ------
        RuntimeError
            If the metadata is not available, or the status of a frame is neither 200, 429 nor 503.
        """
        opening, started = Opening(), time.perf_counter()
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        while (status := (await self._get(reader, writer, metadata, ["Accept: application/dicom+json"]))[0]) in _BUSY:
            opening.refused += 1
            await asyncio.sleep(0.1)
        writer.close()
        if status != HTTPStatus.OK:
            raise RuntimeError(f"the metadata of the series: status {status}")
        waiting = deque(frames)
        await asyncio.gather(*(self._work(waiting, opening) for _ in range(min(self._connections, len(frames)))))
        opening.seconds = time.perf_counter() - started
        return opening

    async def _work(self, waiting: deque[str], opening: Opening) -> None:
        """Get frames over one connection, until none is left."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        while waiting:
            target, attempt = waiting.popleft(), 0
            while True:
                status, size = await self._get(reader, writer, target, self._headers)
                if status == HTTPStatus.OK:
                    opening.complete += 1
                    opening.received_bytes += size
                    break
                if status not in _BUSY:
                    raise RuntimeError(f"a frame: status {status}")
                opening.refused += 1
                if not self._retries:
                    opening.missing += 1
                    break
                attempt += 1
                await asyncio.sleep(self._random.uniform(0, min(MAX_PAUSE_SECONDS, 0.1 * 2**attempt)))
        writer.close()

    async def _get(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: str, headers: Sequence[str]
    ) -> tuple[int, int]:
        """Send a request; return the status and the size of the body."""
        # The emulator of HealthImaging wants a signature, but does not verify it.
        lines = [f"GET {target} HTTP/1.1", "Host: 127.0.0.1", "Authorization: AWS4-HMAC-SHA256 bench", *headers]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        status = int(head.split(b" ", 2)[1])
        size = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        await reader.readexactly(size)
        return status, size
