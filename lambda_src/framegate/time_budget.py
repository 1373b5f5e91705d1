"""Time budgets: how long work may still take."""

from __future__ import annotations

import time


class TimeBudget:
    """The time that is left for some work.

    Parameters
    ----------
    seconds : float
        The time for the work, counted from now.

    Examples
    --------
    >>> budget = TimeBudget(60)
    >>> budget.exhausted, 59 < budget.remaining() <= 60, budget.share(1).remaining() <= 1
    (False, True, True)
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def remaining(self) -> float:
        """Return the seconds that are left, 0 at the end."""
        return max(0.0, self._end - time.monotonic())

    def share(self, seconds: float) -> TimeBudget:
        """Return a budget of `seconds`, or of what is left of this one if that is less."""
        return TimeBudget(min(seconds, self.remaining()))

    @property
    def exhausted(self) -> bool:
        """Whether there is no time left."""
        return time.monotonic() >= self._end
