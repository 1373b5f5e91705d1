"""Simulates requests for frames against the limits of an account, and finds the first wall that they come to."""

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

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from infra.config import Config

MUCH = 0.01
"""The share of requests that are refused at a wall."""

API, LAMBDA = "`throttle_rate`", "Lambda's concurrency"


def health_imaging(operation: str) -> str:
    """The wall that HealthImaging's quota for an operation is."""
    return f"HealthImaging, `{operation}`"


@dataclass(frozen=True, slots=True)
class Kind:
    """Requests of one kind: their share, how long the function works on one, and its calls of HealthImaging."""

    share: float
    seconds: float
    calls: tuple[str, ...] = (GET_IMAGE_FRAME,)


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
            self.rate = max(min(MIN_CALLS_PER_SECOND, self.full), self.rate / 2)
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
    quotas = {operation: account.quota(operation) for kind in kinds for operation in kind.calls}
    quotas.setdefault(GET_IMAGE_FRAME, account.quota(GET_IMAGE_FRAME))
    buckets = {operation: Bucket(rate, burst, full * burst) for operation, (rate, burst) in quotas.items()}
    limit = account.concurrency - 2 * config.export_concurrency
    idle: list[RetryQuota] = []
    traffic, busy = Traffic(0.0), 0
    weights = [kind.share for kind in kinds]
    workers = 2 * config.export_concurrency
    pace = config.export_rate_per_worker
    # In order, as a heap is: workers that began at different times.
    events: list[tuple[float, int, object]] = [
        (worker / workers / pace, worker, Pacer(pace, pace)) for worker in range(workers)
    ]
    number = workers

    def later(when: float, what: object) -> None:
        nonlocal number
        number += 1
        heapq.heappush(events, (when, number, what))

    def call(now: float, kind: Kind, made: int, attempt: int, quota: RetryQuota) -> None:
        """Make the calls of a request that are left: it ends answered, refused, or with another attempt of one call."""
        for number, operation in enumerate(kind.calls[made:], made):
            if buckets[operation].take(now):
                traffic.frame_calls += operation == GET_IMAGE_FRAME
                quota.give_back()
                attempt = 1
            elif attempt < MAX_ATTEMPTS and quota.take():
                # As `framegate.aws.retries.pause_after`, from a generator with a seed.
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
            traffic.most_at_once = max(traffic.most_at_once, busy)
            call(now, rng.choices(kinds, weights)[0], 0, 1, idle.pop() if idle else RetryQuota(MAX_RETRIES))
    # What is under way is answered; exports would go on for ever.
    events = [each for each in events if not isinstance(each[2], Pacer)]
    heapq.heapify(events)
    until(float("inf"))
    return traffic


def predicted_walls(kinds: Sequence[Kind], config: Config, account: Account) -> dict[str, float]:
    """Requests a second that each wall lets through, by the formulas of ``docs/scaling.md``."""
    seconds = sum(kind.share * kind.seconds for kind in kinds)
    calls: Counter[str] = Counter()
    for kind in kinds:
        for operation in kind.calls:
            calls[operation] += kind.share  # type: ignore[assignment]
    return {
        API: min(config.throttle_rate, account.api_rate),
        LAMBDA: (account.concurrency - 2 * config.export_concurrency) / seconds,
        **{health_imaging(operation): account.quota(operation)[0] / number for operation, number in calls.items()},
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
