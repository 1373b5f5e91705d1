"""Simulates requests for frames against the limits of an account, and finds the limit that they reach first."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.account import GET_IMAGE_FRAME, Account, Bucket
from framegate.aws.retries import RetryQuota
from framegate.export.pace import MIN_CALLS_PER_SECOND, REACTION_SECONDS, RECOVERY_SECONDS
from framegate.healthimaging.client import MAX_ATTEMPTS, MAX_RETRIES
from infra.export.functions import DEFERRED_STORE_CONCURRENCY

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from infra.config import Config

WALL_REFUSED_SHARE = 0.01
"""Share of refused requests from which a limit counts as reached."""

API, LAMBDA = "`throttle_rate`", "Lambda's concurrency"


def health_imaging(operation: str) -> str:
    """The name of HealthImaging's quota for an operation, in tables."""
    return f"HealthImaging, `{operation}`"


def reserved_concurrency(config: Config) -> int:
    """Return the concurrency that the two export functions reserve."""
    return 2 * config.export_concurrency + DEFERRED_STORE_CONCURRENCY


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of request: its share, the function's seconds for one, and its HealthImaging calls."""

    share: float
    seconds: float
    calls: tuple[str, ...] = (GET_IMAGE_FRAME,)


@dataclass(slots=True)
class Pacer:
    """`framegate.export.pace.Pace` in simulated time; rates in calls per second."""

    full: float
    rate: float
    changed: float = 0.0
    slowed: float = -REACTION_SECONDS

    def next_after(self, now: float, *, throttled: bool) -> float:
        """The time of the next call."""
        self.rate = min(self.full, self.rate + (now - self.changed) * self.full / RECOVERY_SECONDS)
        self.changed = now
        if throttled and now - self.slowed >= REACTION_SECONDS:
            self.slowed = now
            self.rate = max(min(MIN_CALLS_PER_SECOND, self.full), self.rate / 2)
        return now + 1 / self.rate


@dataclass(slots=True)
class Traffic:
    """The result of a simulation: requests, and the exports at the same time."""

    seconds: float
    arrived: int = 0
    answered: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    max_concurrent: int = 0
    frame_calls: int = 0
    export_calls: int = 0

    @property
    def share_refused(self) -> float:
        """The share of refused requests."""
        return self.refused.total() / self.arrived


def poisson(rate: float, seconds: float, seed: int = 1) -> Iterable[float]:
    """Yield the arrival times of independent requests, in seconds."""
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
    """Simulate requests through API Gateway, Lambda and HealthImaging, while every worker exports small frames.

    Exports are left out if no request gets a frame.

    Parameters
    ----------
    arrivals : iterable of float
        Arrival times in seconds, in order.
    kinds : sequence of Kind
        The kinds of requests.
    config : Config
        Gives the throttling of the API, and the rate of exports.
    account : Account
        The quotas of the account.
    full : float
        Initial fill of the token buckets, from 0 to 1.
    seed : int
        Seed for the kinds of the requests and the pauses between attempts.
    """
    rng = random.Random(seed)  # noqa: S311
    gateway = Bucket(min(config.throttle_rate, account.api_rate), config.throttle_burst, full * config.throttle_burst)
    quotas = {operation: account.quota(operation) for kind in kinds for operation in kind.calls}
    quotas.setdefault(GET_IMAGE_FRAME, account.quota(GET_IMAGE_FRAME))
    buckets = {operation: Bucket(rate, burst, full * burst) for operation, (rate, burst) in quotas.items()}
    limit = account.concurrency - reserved_concurrency(config)
    idle: list[RetryQuota] = []
    traffic, busy = Traffic(0.0), 0
    weights = [kind.share for kind in kinds]
    workers = 2 * config.export_concurrency
    pace = config.export_rate_per_worker
    # Exports share no quota with requests that get no frames. Leaving them out then saves most of the time.
    is_shared = any(GET_IMAGE_FRAME in kind.calls for kind in kinds)
    # The workers start at different times. A sorted list is a valid heap.
    events: list[tuple[float, int, object]] = [
        (worker / workers / pace, worker, Pacer(pace, pace)) for worker in range(workers if is_shared else 0)
    ]
    number = workers

    def later(when: float, what: object) -> None:
        nonlocal number
        number += 1
        heapq.heappush(events, (when, number, what))

    def call(now: float, kind: Kind, made: int, attempt: int, quota: RetryQuota) -> None:
        """Make the remaining calls of a request. Its next event is an answer, a refusal or another attempt."""
        for number, operation in enumerate(kind.calls[made:], made):
            if buckets[operation].take(now):
                traffic.frame_calls += operation == GET_IMAGE_FRAME
                quota.give_back()
                attempt = 1
            elif attempt < MAX_ATTEMPTS and quota.take():
                # The pause of `framegate.aws.retries.pause_after`, from a seeded generator.
                later(now + rng.uniform(0, 0.1 * 2**attempt), (kind, number, attempt + 1, quota))
                return
            else:
                later(now, (health_imaging(operation), quota))
                return
        later(now + kind.seconds, (None, quota))

    def until(end: float) -> None:
        nonlocal busy
        while events and events[0][0] <= end:
            now, _, what = heapq.heappop(events)
            match what:
                case Pacer():
                    taken = buckets[GET_IMAGE_FRAME].take(now)
                    traffic.export_calls += taken
                    later(what.next_after(now, throttled=not taken), what)
                case (Kind() as kind, int(made), int(attempt), RetryQuota() as quota):
                    call(now, kind, made, attempt, quota)
                case (str() | None as wall, RetryQuota() as quota):
                    busy -= 1
                    idle.append(quota)
                    if wall is None:
                        traffic.answered += 1
                    else:
                        traffic.refused[wall] += 1

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
            traffic.max_concurrent = max(traffic.max_concurrent, busy)
            call(now, rng.choices(kinds, weights)[0], 0, 1, idle.pop() if idle else RetryQuota(MAX_RETRIES))
    # Let running requests finish. Exports would go on forever.
    events = [each for each in events if not isinstance(each[2], Pacer)]
    heapq.heapify(events)
    until(float("inf"))
    return traffic


def predicted_walls(kinds: Sequence[Kind], config: Config, account: Account) -> dict[str, float]:
    """The requests per second that each limit allows, by the formulas of ``docs/scaling.md``."""
    seconds = sum(kind.share * kind.seconds for kind in kinds)
    calls: Counter[str] = Counter()
    for kind in kinds:
        for operation in kind.calls:
            calls[operation] += kind.share  # type: ignore[assignment]
    return {
        API: min(config.throttle_rate, account.api_rate),
        LAMBDA: (account.concurrency - reserved_concurrency(config)) / seconds,
        **{health_imaging(operation): account.quota(operation)[0] / number for operation, number in calls.items()},
    }


def first_wall(kinds: Sequence[Kind], config: Config, account: Account) -> tuple[float, Traffic]:
    """Find the highest rate at which nearly all requests are answered, to 1 %, and the traffic just above it."""
    predicted = min(predicted_walls(kinds, config, account).values())
    low, high = 0.4 * predicted, 1.2 * predicted
    max_seconds = max(kind.seconds for kind in kinds)

    def at(rate: float) -> Traffic:
        # The buckets start almost empty, and the simulation is long enough for exports to slow down.
        seconds = max(8 * max_seconds, 15_000 / rate)
        return simulate_requests(poisson(rate, seconds), kinds, config, account, full=0.02)

    while high / low > 1.01:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if at(middle).share_refused > WALL_REFUSED_SHARE else (middle, high)
    return low, at(high)
