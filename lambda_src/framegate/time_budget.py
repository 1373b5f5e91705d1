"""The time that a request has, and how much of it was spent waiting for HealthImaging."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class TimeBudget:
    """The time that is left for a piece of work.

    Parameters
    ----------
    seconds : float
        How much there is, from now.

    Attributes
    ----------
    waited_ms : float
        Milliseconds that went by inside `waiting`.

    Examples
    --------
    >>> budget = TimeBudget(60)
    >>> with budget.waiting():
    ...     pass
    >>> budget.exhausted, budget.waited_ms < 1000
    (False, True)
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self.waited_ms = 0.0

    def remaining(self) -> float:
        """Seconds left, 0 when there are none."""
        return max(0.0, self._end - time.monotonic())

    def share(self, seconds: float) -> TimeBudget:
        """A budget of so many seconds, or of what is left of this one where that is less."""
        return TimeBudget(min(seconds, self.remaining()))

    @property
    def exhausted(self) -> bool:
        """Whether there is no time left."""
        return time.monotonic() >= self._end

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time of the block as waiting for HealthImaging."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.waited_ms += (time.perf_counter() - started) * 1000
