"""The time that a piece of work has."""

from __future__ import annotations

import time


class TimeBudget:
    """The time that is left for a piece of work.

    Parameters
    ----------
    seconds : float
        How much there is, from now.

    Examples
    --------
    >>> budget = TimeBudget(60)
    >>> budget.exhausted, 59 < budget.remaining() <= 60, budget.share(1).remaining() <= 1
    (False, True, True)
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

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
