"""Retries failed calls with pauses, within a time budget and a quota."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING, TypeVar

from framegate.aws.errors import is_credential_error
from framegate.problems import ServiceProblem

if TYPE_CHECKING:
    from collections.abc import Callable

    from framegate.time_budget import TimeBudget

Result = TypeVar("Result")

# Uses the operating system's generator: Python's own would be the same in every copy of a SnapStart snapshot.
_random = random.SystemRandom()


def pause_after(attempt: int) -> float:
    """Return the seconds to wait before the next attempt: exponential backoff with full jitter.

    References
    ----------
    AWS Architecture Blog, "Exponential Backoff And Jitter".
    """
    return _random.uniform(0, 0.1 * 2**attempt)


class RetryQuota:
    """Limits retries while most calls fail.

    Each retry takes one from the quota, and each success gives one back. When nearly all calls fail, as under heavy
    throttling, the quota is soon empty and retries stop, because they would only add load.

    Parameters
    ----------
    capacity : int
        Maximum number of retries while no call succeeds.

    References
    ----------
    AWS SDKs and Tools reference guide, "Retry behavior": the retry quota of the standard mode.

    Examples
    --------
    >>> quota = RetryQuota(2)
    >>> [quota.take() for _ in range(3)]
    [True, True, False]
    >>> quota.give_back()
    >>> quota.take()
    True
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = self._left = capacity
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Take one retry; return whether there was one."""
        with self._lock:
            if not self._left:
                return False
            self._left -= 1
            return True

    def give_back(self) -> None:
        """Give one retry back after a success."""
        with self._lock:
            self._left = min(self._capacity, self._left + 1)


def retry(
    call: Callable[[], Result],
    budget: TimeBudget,
    *,
    attempts: int,
    is_transient: Callable[[ServiceProblem], bool],
    refresh_credentials: Callable[[], bool],
    quota: RetryQuota | None = None,
) -> Result:
    """Make a call, and retry it while that can help.

    Parameters
    ----------
    call : callable
        Makes one attempt. It must clean up when it raises.
    budget : TimeBudget
        The time for all attempts. No attempt starts after its end.
    attempts : int
        Maximum number of attempts.
    is_transient : callable
        Whether another attempt can succeed after a problem.
    refresh_credentials : callable
        Reloads the credentials and returns whether they have changed. If so, a call that failed because of the old
        ones is repeated once, even after the last attempt, because the service did nothing.
    quota : RetryQuota, optional
        Limits retries while most calls fail.

    Raises
    ------
    Problem
        The problem of the last attempt.
    """
    attempt = 1
    may_refresh = True
    while True:
        try:
            result = call()
        except ServiceProblem as problem:
            if may_refresh and is_credential_error(problem) and not budget.exhausted and refresh_credentials():
                may_refresh = False
                continue
            pause = pause_after(attempt)
            is_last = attempt == attempts or budget.remaining() <= pause
            if is_last or not is_transient(problem) or not (quota is None or quota.take()):
                raise
        else:
            if quota:
                quota.give_back()
            return result
        time.sleep(pause)
        attempt += 1
