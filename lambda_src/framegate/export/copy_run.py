"""Runs the copying of an export's frames or DICOM files in several threads, within one invocation."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from framegate.export.manifest import Exported
    from framegate.problems import Problem
    from framegate.time_budget import TimeBudget


Item = TypeVar("Item", bound="Exported")


class CopyRun(Generic[Item]):
    """Copies items in several threads until none is left, the time runs out, or a thread raises an error.

    Parameters
    ----------
    items : sequence of Exported
        The frames or DICOM files to copy.
    copy : callable
        Copies one item and returns the problem that it met, or None. An error that it raises ends the run.
    budget : TimeBudget
        No item starts after this time.

    Attributes
    ----------
    problem : Problem or None
        The first problem that an item met.
    """

    def __init__(self, items: Sequence[Item], copy: Callable[[Item], Problem | None], budget: TimeBudget) -> None:
        self._count = len(items)
        self._items = iter(items)
        self._copy = copy
        self._budget = budget
        self._lock = threading.Lock()
        self._is_stopped = False
        self.problem: Problem | None = None

    def run(self, max_threads: int) -> None:
        """Copy the items in at most `max_threads` threads, and pass on the error that ended the run."""
        threads = min(max_threads, self._count)
        with ThreadPoolExecutor(threads, thread_name_prefix="export") as pool:
            workers = [pool.submit(self._work) for _ in range(threads)]
        for worker in workers:
            worker.result()

    def _work(self) -> None:
        while (item := self._next()) is not None:
            try:
                problem = self._copy(item)
            except BaseException:
                self._is_stopped = True
                raise
            self.problem = self.problem or problem

    def _next(self) -> Item | None:
        with self._lock:
            return None if self._is_stopped or self._budget.exhausted else next(self._items, None)
