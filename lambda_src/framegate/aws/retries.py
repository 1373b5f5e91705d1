"""When a call is made again: after a pause, and not at all while most calls fail."""

from __future__ import annotations

import random
import threading

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
