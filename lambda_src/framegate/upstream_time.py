"""Counts the time that a request waits for HealthImaging. Each thread has its own count."""

from __future__ import annotations

import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_waited_ms: ContextVar[float] = ContextVar("waited_ms", default=0.0)


def reset() -> None:
    """Start a new count, for a new request."""
    _waited_ms.set(0.0)


def waited_ms() -> float:
    """Return the milliseconds spent in `waiting` blocks since the last `reset`.

    Examples
    --------
    >>> reset()
    >>> with waiting():
    ...     time.sleep(0.001)
    >>> waited_ms() >= 1
    True
    """
    return _waited_ms.get()


@contextmanager
def waiting() -> Iterator[None]:
    """Add the time of the block to the count."""
    started = time.perf_counter()
    try:
        yield
    finally:
        _waited_ms.set(_waited_ms.get() + (time.perf_counter() - started) * 1000)
