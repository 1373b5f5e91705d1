"""How fast an export calls HealthImaging: evenly, never above its share, and slower for a while when throttled."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from framegate.time_budget import TimeBudget

RECOVERY_SECONDS = 20.0
"""Time in which a pace that was slowed down to nothing is back at its full rate."""

SLOWEST = 0.5
"""Calls per second that remain of any pace: something has to find out when throttling is over."""

REACTION_SECONDS = 1.0
"""One slow-down in this time: calls that were under way together are throttled together."""


class Pace:
    """Lets threads call one after the other, so many times a second.

    Parameters
    ----------
    rate : float
        Calls per second at most.

    Notes
    -----
    Additive increase, multiplicative decrease, as TCP does it (RFC 5681, section 3.1): being throttled halves the rate,
    and it grows back steadily. Calls are spaced out, not let through in bursts, since every burst is somebody else's
    throttling.
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
        """Calls per second at present."""
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
        """Halve the rate: a call was throttled."""
        with self._lock:
            now = time.monotonic()
            if now - self._slowed < REACTION_SECONDS:
                return
            self._recover(now)
            self._slowed = now
            self._rate = max(min(SLOWEST, self._full_rate), self._rate / 2)

    def _recover(self, now: float) -> None:
        gained = (now - self._changed) * self._full_rate / RECOVERY_SECONDS
        self._rate = min(self._full_rate, self._rate + gained)
        self._changed = now
