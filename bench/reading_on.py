"""Up to how many bytes the unread rest of a frame is cheaper to read than a new connection is to open.

A client that stops in the middle of a frame either reads on, for nothing but to use the connection again, or drops it,
and the next request opens another one. ``python -m bench.reading_on`` measures both, over links as they are between
Lambda and HealthImaging in a Region: what is printed is what `MAX_DRAIN_BYTES` in ``healthimaging/client.py`` rests on.
"""

from __future__ import annotations

import os
import statistics
import time
from typing import TYPE_CHECKING

import urllib3

from bench.origin import Frame, Link, Origin

if TYPE_CHECKING:
    from collections.abc import Callable

KIB = 1024
FRAME, STOP = 4096 * KIB, 16 * KIB
REPEATS = 60
RESTS = tuple(size * KIB for size in (32, 64, 128, 256, 512, 1024))

# Some 600 Mbit/s is what a Lambda function gets; a round trip within a Region takes between half and two milliseconds.
LINKS = {
    "no link at all": Link(),
    "0.5 ms, 600 Mbit/s": Link(0.0005, 75e6),
    "1 ms, 600 Mbit/s": Link(0.001, 75e6),
    "2 ms, 600 Mbit/s": Link(0.002, 75e6),
}


def _pair(http: urllib3.PoolManager, url: str, end: Callable[[urllib3.BaseHTTPResponse], None], frame: str) -> float:
    """Seconds that a request takes which stops early, together with the next one's way to its first byte."""
    began = time.perf_counter()
    for request in ("the one that stops", "the next one"):
        answer = http.request("POST", url, body=b'{"imageFrameId": "%s"}' % frame.encode(), preload_content=False)
        left = STOP
        while left:
            left -= len(answer.read1(left))
        if request == "the next one":
            taken = time.perf_counter() - began
            # Not measured: ready for the next pair.
            answer.drain_conn()
            answer.release_conn()
        else:
            end(answer)
    return taken


def _drop(answer: urllib3.BaseHTTPResponse) -> None:
    answer.close()
    answer.release_conn()


def _read_on(answer: urllib3.BaseHTTPResponse) -> None:
    while answer.read1(256 * KIB):
        pass
    answer.release_conn()


def main() -> None:
    """Print a row a link: what a new connection costs, and up to which rest reading on is cheaper."""
    content = os.urandom(max(RESTS) + STOP)
    frames = {str(rest): Frame(content[: STOP + rest]) for rest in RESTS}
    print(f"{'link':20} {'reading on costs, over dropping the connection: ms by the size of the rest':>40}")
    print(f"{'':20} " + " ".join(f"{rest // KIB:>7}K" for rest in RESTS))
    for name, link in LINKS.items():
        with Origin(frames, link) as origin:
            http = urllib3.PoolManager(maxsize=1, ca_certs=str(origin.ca_bundle))
            url, differences = f"{origin.url}/getImageFrame", []
            for frame in frames:
                pairs = [_pair(http, url, _read_on, frame) - _pair(http, url, _drop, frame) for _ in range(REPEATS)]
                differences.append(statistics.median(pairs) * 1000)
        print(f"{name:20} " + " ".join(f"{each:>+8.2f}" for each in differences))


if __name__ == "__main__":
    main()
