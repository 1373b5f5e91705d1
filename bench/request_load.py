"""Simulates requests for frames against the limits of an account, and finds the first wall that they come to."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.account import Account, Bucket
from framegate.aws.retries import RetryQuota
from framegate.export.pace import REACTION_SECONDS, RECOVERY_SECONDS, SLOWEST
from framegate.healthimaging.client import MAX_ATTEMPTS, MOST_RETRIES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from infra.config import Config

MUCH = 0.01
"""The share of requests that are refused at a wall."""

API, LAMBDA, HEALTHIMAGING = "`throttle_rate`", "Lambda's concurrency", "HealthImaging"


@dataclass(frozen=True, slots=True)
class Kind:
    """Requests of one kind: their share, how long the function works on one, and its calls of `GetImageFrame`."""

    share: float
    seconds: float
    calls: int = 1


@dataclass(slots=True)
class Pacer:
    """`framegate.export.pace.Pace`, in simulated time."""

    full: float
    rate: float
    changed: float = 0.0
    slowed: float = -REACTION_SECONDS

    def next_after(self, now: float, *, throttled: bool) -> float:
        """When the next call is made."""
        self.rate = min(self.full, self.rate + (now - self.changed) * self.full / RECOVERY_SECONDS)
        self.changed = now
        if throttled and now - self.slowed >= REACTION_SECONDS:
            self.slowed = now
            self.rate = max(min(SLOWEST, self.full), self.rate / 2)
        return now + 1 / self.rate


@dataclass(slots=True)
class Traffic:
    """What became of requests, and of the exports beside them."""

    seconds: float
    arrived: int = 0
    answered: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    most_at_once: int = 0
    frame_calls: int = 0
    export_calls: int = 0

    @property
    def share_refused(self) -> float:
        """Of all requests."""
        return self.refused.total() / self.arrived


def poisson(rate: float, seconds: float, seed: int = 1) -> Iterable[float]:
    """When requests arrive that know nothing of each other."""
    rng, now = random.Random(seed), 0.0  # noqa: S311
    while (now := now + rng.expovariate(rate)) < seconds:
        yield now


def simulate_requests(
    arrivals: Iterable[float],
    kinds: Sequence[Kind],
    config: Config,
    account: Account,
    *,
    full: float = 0.0,
    seed: int = 1,
) -> Traffic:
    """Send requests through API Gateway, Lambda and HealthImaging, beside workers that all export small frames.

    Parameters
    ----------
    arrivals : iterable of float
        When requests arrive, in order.
    kinds : sequence of Kind
        What they are for.
    config : Config
        Decides throttling, and how much exports there are.
    account : Account
        The quotas.
    full : float
        How full the token buckets are at first, from 0 to 1.
    seed : int
        Decides which request is of which kind, and the pauses between attempts.
    """
    rng = random.Random(seed)  # noqa: S311
    gateway = Bucket(min(config.throttle_rate, account.api_rate), config.throttle_burst, full * config.throttle_burst)
    frames = Bucket(account.frame_rate, account.frame_burst, full * account.frame_burst)
    limit = account.concurrency - 2 * config.export_concurrency
    idle: list[RetryQuota] = []
    traffic, busy = Traffic(0.0), 0
    weights = [kind.share for kind in kinds]
    workers = 2 * config.export_concurrency
    pace = config.export_rate_of_a_worker
    # In order, as a heap is: workers that began at different times.
    events: list[tuple[float, int, object]] = [
        (worker / workers / pace, worker, Pacer(pace, pace)) for worker in range(workers)
    ]
    number = workers

    def later(when: float, what: object) -> None:
        nonlocal number
        number += 1
        heapq.heappush(events, (when, number, what))

    def call(now: float, kind: Kind, attempt: int, quota: RetryQuota) -> None:
        """Make a request's next attempt: it ends answered, refused, or with another attempt."""
        if not kind.calls or frames.take(now):
            traffic.frame_calls += kind.calls
            if kind.calls:
                quota.give_back()
            later(now + kind.seconds, (True, quota))
        elif attempt < MAX_ATTEMPTS and quota.take():
            # As `framegate.aws.retries.pause_after`, from a generator with a seed.
            later(now + rng.uniform(0, 0.1 * 2**attempt), (kind, attempt + 1, quota))
        else:
            later(now, (False, quota))

    def until(end: float) -> None:
        nonlocal busy
        while events and events[0][0] <= end:
            now, _, what = heapq.heappop(events)
            match what:
                case Pacer():
                    taken = frames.take(now)
                    traffic.export_calls += taken
                    later(what.next_after(now, throttled=not taken), what)
                case (Kind() as kind, int(attempt), RetryQuota() as quota):
                    call(now, kind, attempt, quota)
                case (bool(answered), RetryQuota() as quota):
                    busy -= 1
                    idle.append(quota)
                    if answered:
                        traffic.answered += 1
                    else:
                        traffic.refused[HEALTHIMAGING] += 1

    for now in arrivals:
        until(now)
        traffic.arrived += 1
        traffic.seconds = now
        if not gateway.take(now):
            traffic.refused[API] += 1
        elif busy >= limit:
            traffic.refused[LAMBDA] += 1
        else:
            busy += 1
            traffic.most_at_once = max(traffic.most_at_once, busy)
            call(now, rng.choices(kinds, weights)[0], 1, idle.pop() if idle else RetryQuota(MOST_RETRIES))
    # What is under way is answered; exports would go on for ever.
    events = [each for each in events if not isinstance(each[2], Pacer)]
    heapq.heapify(events)
    until(float("inf"))
    return traffic


def predicted_walls(kinds: Sequence[Kind], config: Config, account: Account) -> dict[str, float]:
    """Requests a second that each wall lets through, by the formulas of ``docs/scaling.md``."""
    seconds = sum(kind.share * kind.seconds for kind in kinds)
    calls = sum(kind.share * kind.calls for kind in kinds)
    return {
        API: min(config.throttle_rate, account.api_rate),
        LAMBDA: (account.concurrency - 2 * config.export_concurrency) / seconds,
        HEALTHIMAGING: account.frame_rate / calls,
    }


def first_wall(kinds: Sequence[Kind], config: Config, account: Account) -> tuple[float, Traffic]:
    """The rate up to which nearly all requests are answered, found to 1 %, and what happens just above it."""
    predicted = min(predicted_walls(kinds, config, account).values())
    low, high = 0.4 * predicted, 1.2 * predicted
    longest = max(kind.seconds for kind in kinds)

    def at(rate: float) -> Traffic:
        # Buckets have run empty long ago; there is time for exports to give way.
        seconds = max(8 * longest, 15_000 / rate)
        return simulate_requests(poisson(rate, seconds), kinds, config, account, full=0.02)

    while high / low > 1.01:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if at(middle).share_refused > MUCH else (middle, high)
    return low, at(high)
