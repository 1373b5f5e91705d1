"""Paces the calls of an export to HealthImaging: evenly, below a rate, and more slowly after throttling."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from framegate.time_budget import TimeBudget

RECOVERY_SECONDS = 20.0
"""Time in which the rate grows from zero to its maximum."""

MIN_CALLS_PER_SECOND = 0.5
"""Minimum rate. Some calls must continue to find out when throttling ends."""

REACTION_SECONDS = 1.0
"""Time in which the rate is halved at most once, because concurrent calls are throttled together."""


class Pace:
    """Lets threads call one after the other, up to a number of times a second.

    Parameters
    ----------
    rate : float
        Maximum number of calls per second.

    Notes
    -----
    The rate follows additive increase and multiplicative decrease, as in TCP (RFC 5681, section 3.1): throttling halves
    it, and it grows back steadily. Calls are spaced evenly, because a burst would throttle other callers of the
    account.
    """

    def __init__(self, rate: float) -> None:
        self._full_rate = rate
        self._rate = rate
        self._lock = threading.Lock()
        self._next = 0.0
        self._changed = time.monotonic()
        self._slowed = -REACTION_SECONDS

    @property
    def rate(self) -> float:
        """The current number of calls per second."""
        with self._lock:
            self._recover(time.monotonic())
            return self._rate

    def wait(self, budget: TimeBudget) -> None:
        """Wait for this thread's turn, or until the time runs out."""
        with self._lock:
            now = time.monotonic()
            self._recover(now)
            turn = max(now, self._next)
            self._next = turn + 1 / self._rate
        time.sleep(min(turn - now, budget.remaining()))

    def slow_down(self) -> None:
        """Halve the rate after a throttled call."""
        with self._lock:
            now = time.monotonic()
            if now - self._slowed < REACTION_SECONDS:
                return
            self._recover(now)
            self._slowed = now
            self._rate = max(min(MIN_CALLS_PER_SECOND, self._full_rate), self._rate / 2)

    def _recover(self, now: float) -> None:
        gained = (now - self._changed) * self._full_rate / RECOVERY_SECONDS
        self._rate = min(self._full_rate, self._rate + gained)
        self._changed = now
