"""Runs the copying of an export's frames in several threads, within one invocation."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from framegate.export.manifest import ExportedFrame
    from framegate.problems import Problem
    from framegate.time_budget import TimeBudget


class CopyRun:
    """Copies frames in several threads until none is left, the time runs out, or a thread raises an error.

    Parameters
    ----------
    frames : sequence of ExportedFrame
        The frames to copy.
    copy : callable
        Copies one frame and returns the problem that it met, or None. An error that it raises ends the run.
    budget : TimeBudget
        No frame starts after this time.

    Attributes
    ----------
    problem : Problem or None
        The first problem that a frame met.
    """

    def __init__(
        self, frames: Sequence[ExportedFrame], copy: Callable[[ExportedFrame], Problem | None], budget: TimeBudget
    ) -> None:
        self._count = len(frames)
        self._frames = iter(frames)
        self._copy = copy
        self._budget = budget
        self._lock = threading.Lock()
        self._is_stopped = False
        self.problem: Problem | None = None

    def run(self, max_threads: int) -> None:
        """Copy the frames in at most `max_threads` threads, and pass on the error that ended the run."""
        threads = min(max_threads, self._count)
        with ThreadPoolExecutor(threads, thread_name_prefix="export") as pool:
            workers = [pool.submit(self._work) for _ in range(threads)]
        for worker in workers:
            worker.result()

    def _work(self) -> None:
        while (frame := self._next()) is not None:
            try:
                problem = self._copy(frame)
            except BaseException:
                self._is_stopped = True
                raise
            self.problem = self.problem or problem

    def _next(self) -> ExportedFrame | None:
        with self._lock:
            return None if self._is_stopped or self._budget.exhausted else next(self._frames, None)
