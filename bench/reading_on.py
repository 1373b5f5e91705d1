"""Measures up to how many unread bytes draining a connection is cheaper than opening a new one.

A client that stops in the middle of a frame can drain the rest, so that the connection can be reused, or close the
connection, so that the next request opens a new one. ``python -m bench.reading_on`` measures both over links like those
between Lambda and HealthImaging in a Region. The results decide `MAX_DRAIN_BYTES` in
``framegate/healthimaging/client.py``.
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

# A Lambda function gets about 600 Mbit/s; a round trip within a Region takes half a millisecond to two milliseconds.
LINKS = {
    "unlimited": Link(),
    "0.5 ms, 600 Mbit/s": Link(0.0005, 75e6),
    "1 ms, 600 Mbit/s": Link(0.001, 75e6),
    "2 ms, 600 Mbit/s": Link(0.002, 75e6),
}


def _pair(http: urllib3.PoolManager, url: str, end: Callable[[urllib3.BaseHTTPResponse], None], frame: str) -> float:
    """Time a request that stops early, plus the next request until its first bytes arrive; in seconds."""
    started = time.perf_counter()
    for request in ("first", "second"):
        answer = http.request("POST", url, body=b'{"imageFrameId": "%s"}' % frame.encode(), preload_content=False)
        left = STOP
        while left:
            left -= len(answer.read1(left))
        if request == "second":
            taken = time.perf_counter() - started
            # Leave the connection ready for the next pair; this is not timed.
            answer.drain_conn()
            answer.release_conn()
        else:
            end(answer)
    return taken


def _close(answer: urllib3.BaseHTTPResponse) -> None:
    answer.close()
    answer.release_conn()


def _drain(answer: urllib3.BaseHTTPResponse) -> None:
    while answer.read1(256 * KIB):
        pass
    answer.release_conn()


def main() -> None:
    """Print a row per link: the time of draining minus the time of reconnecting, by number of unread bytes."""
    content = os.urandom(max(RESTS) + STOP)
    frames = {str(rest): Frame(content[: STOP + rest]) for rest in RESTS}
    print(f"{'link':20} {'draining minus reconnecting, in ms, by the number of unread bytes':>40}")
    print(f"{'':20} " + " ".join(f"{rest // KIB:>7}K" for rest in RESTS))
    for name, link in LINKS.items():
        with Origin(frames, link) as origin:
            http = urllib3.PoolManager(maxsize=1, ca_certs=str(origin.ca_bundle))
            url, differences = f"{origin.url}/getImageFrame", []
            for frame in frames:
                pairs = [_pair(http, url, _drain, frame) - _pair(http, url, _close, frame) for _ in range(REPEATS)]
                differences.append(statistics.median(pairs) * 1000)
        print(f"{name:20} " + " ".join(f"{each:>+8.2f}" for each in differences))


if __name__ == "__main__":
    main()
