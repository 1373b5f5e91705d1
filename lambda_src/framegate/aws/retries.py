"""Makes failed calls again: after a pause, within the time there is, and not at all while most calls fail."""

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

# The operating system's: Python's own generator would go on alike in every copy of a SnapStart snapshot.
_random = random.SystemRandom()


def pause_after(attempt: int) -> float:
    """Seconds to wait before the next attempt: exponential, with full jitter."""
    return _random.uniform(0, 0.1 * 2**attempt)


class RetryQuota:
    """How many calls may still be made again; each that succeeds gives one back.

    A few calls that fail are made again at once. When nearly all fail, as in a storm of throttling, the quota is soon
    used up and each request is one call: trying again would only be more load on a service that has too much.

    Parameters
    ----------
    capacity : int
        How many may be made again if none succeeds.

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
        """Whether a call may be made again; if so, one less may be."""
        with self._lock:
            if not self._left:
                return False
            self._left -= 1
            return True

    def give_back(self) -> None:
        """A call has succeeded."""
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
    """Make a call, and make it again while that can help.

    Parameters
    ----------
    call : callable
        Makes one attempt. It leaves nothing behind when it raises.
    budget : TimeBudget
        The time for all attempts; there is none that would begin after its end.
    attempts : int
        How many there may be.
    is_transient : callable
        Whether another attempt may end better.
    refresh_credentials : callable
        Loads credentials anew and says whether they are others than before. If so, a call that failed because of the
        old ones is made once more, even after its last attempt: the service did nothing.
    quota : RetryQuota, optional
        Limits attempts while most calls fail.

    Raises
    ------
    Problem
        That of the last attempt.
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
