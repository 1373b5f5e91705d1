"""The time budget of an invocation that exports."""

from __future__ import annotations

from framegate.storage.object_writer import CLEANUP_SECONDS
from framegate.time_budget import TimeBudget

RETURN_SECONDS = CLEANUP_SECONDS + 1.0
"""Seconds of an invocation that are reserved for removing a failed upload, logging and returning."""


def work_budget(remaining_ms: int) -> TimeBudget:
    """Return the time for work in an invocation that Lambda ends in `remaining_ms` milliseconds."""
    return TimeBudget(remaining_ms / 1000 - RETURN_SECONDS)
