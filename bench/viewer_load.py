"""Simulates viewers that open series at the same time, each with many requests open."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.account import GET_IMAGE_FRAME, Account, Bucket
from bench.request_load import API, LAMBDA, health_imaging, reserved_concurrency
from bench.viewers import CONNECTIONS, MAX_PAUSE_SECONDS
from framegate.aws.retries import RetryQuota
from framegate.healthimaging.client import MAX_ATTEMPTS, MAX_RETRIES

if TYPE_CHECKING:
    from infra.config import Config


@dataclass(frozen=True, slots=True)
class Viewers:
    """Viewers that open a series each, at the same moment.

    Attributes
    ----------
    count : int
        The number of viewers.
    frames : int
        Frames of a series.
    retries : bool
        Whether a viewer repeats a request after 429. OHIF does not: the frame stays missing.
    connections : int
        Requests that a viewer has open.
    network_seconds : float
        From the end of a response to the arrival of the viewer's next request.
    """

    count: int
    frames: int
    retries: bool
    connections: int = CONNECTIONS
    network_seconds: float = 0.02


@dataclass(slots=True)
class Opened:
    """The result of a simulation.

    Attributes
    ----------
    seconds : float
        From the first request to the last response.
    complete, missing : int
        Frames that arrived, and frames that a viewer gave up on.
    refused : Counter of str
        Refused requests, by the limit that refused them.
    max_concurrent : int
        Functions that ran at once.
    """

    seconds: float = 0.0
    complete: int = 0
    missing: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    max_concurrent: int = 0


@dataclass(slots=True)
class _Request:
    """A request of a viewer for a frame: the viewer's attempt, and the function's attempt at HealthImaging."""

    viewer_attempt: int = 1
    attempt: int = 1
    quota: RetryQuota | None = None


def simulate_viewers(viewers: Viewers, config: Config, account: Account, seconds: float, seed: int = 1) -> Opened:
    """Simulate the requests for all frames through API Gateway, Lambda and HealthImaging.

    The token buckets are full at first. There are no exports at the same time.

    Parameters
    ----------
    viewers : Viewers
        The viewers.
    config : Config
        Gives the throttling of the API.
    account : Account
        The quotas of the account.
    seconds : float
        The function's seconds for a frame.
    seed : int
        Seed for the pauses between attempts.
    """
    rng = random.Random(seed)  # noqa: S311
    gateway = Bucket(min(config.throttle_rate, account.api_rate), config.throttle_burst, config.throttle_burst)
    rate, burst = account.quota(GET_IMAGE_FRAME)
    source = Bucket(rate, burst, burst)
    limit = account.concurrency - reserved_concurrency(config)
    opened, busy, number = Opened(), 0, 0
    idle: list[RetryQuota] = []
    waiting = [viewers.frames - min(viewers.connections, viewers.frames)] * viewers.count
    events: list[tuple[float, int, str, int, _Request]] = []

    def later(when: float, what: str, viewer: int, request: _Request) -> None:
        nonlocal number
        number += 1
        heapq.heappush(events, (when, number, what, viewer, request))

    def next_frame(now: float, viewer: int) -> None:
        opened.seconds = max(opened.seconds, now)
        if waiting[viewer]:
            waiting[viewer] -= 1
            later(now + viewers.network_seconds, "arrive", viewer, _Request())

    def refuse(now: float, wall: str, viewer: int, request: _Request) -> None:
        opened.refused[wall] += 1
        if viewers.retries:
            # As `bench.viewers.Viewer` pauses.
            pause = rng.uniform(0, min(MAX_PAUSE_SECONDS, 0.1 * 2**request.viewer_attempt))
            later(now + viewers.network_seconds + pause, "arrive", viewer, _Request(request.viewer_attempt + 1))
        else:
            opened.missing += 1
            next_frame(now, viewer)

    for viewer in range(viewers.count):
        for _ in range(min(viewers.connections, viewers.frames)):
            later(viewers.network_seconds, "arrive", viewer, _Request())
    while events:
        now, _, what, viewer, request = heapq.heappop(events)
        if what == "arrive":
            if not gateway.take(now):
                refuse(now, API, viewer, request)
                continue
            if busy >= limit:
                refuse(now, LAMBDA, viewer, request)
                continue
            busy += 1
            opened.max_concurrent = max(opened.max_concurrent, busy)
            request.quota = idle.pop() if idle else RetryQuota(MAX_RETRIES)
        if what == "answer":
            busy -= 1
            idle.append(request.quota or RetryQuota(MAX_RETRIES))
            opened.complete += 1
            next_frame(now, viewer)
        elif source.take(now):
            if request.quota:
                request.quota.give_back()
            later(now + seconds, "answer", viewer, request)
        elif request.attempt < MAX_ATTEMPTS and request.quota is not None and request.quota.take():
            # The pause of `framegate.aws.retries.pause_after`, from a seeded generator.
            pause = rng.uniform(0, 0.1 * 2**request.attempt)
            request.attempt += 1
            later(now + pause, "call", viewer, request)
        else:
            busy -= 1
            idle.append(request.quota or RetryQuota(MAX_RETRIES))
            refuse(now, health_imaging(GET_IMAGE_FRAME), viewer, request)
    return opened
