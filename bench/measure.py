"""Measures tasks in turns, so that a slow phase of the machine affects all; reports medians and quartiles."""

from __future__ import annotations

import contextlib
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

PROJECT = Path(__file__).parent.parent
PYTHONPATH = os.pathsep.join([str(PROJECT), str(PROJECT / "lambda_src")])
"""The project's modules for another process, whatever is installed."""

Task = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the results.

    Parameters
    ----------
    what : str
        The measurement, and what it is compared with.
    value : float
        The median.
    low, high : float
        The quartiles.
    unit : str
        The unit; ``×`` for a ratio.
    target : float or None
        The target; None if there is none.
    at_most : bool
        Whether the target is a maximum or a minimum.
    key : tuple of str
        The key under which programs find the value, if they need it.
    """

    what: str
    value: float
    low: float
    high: float
    unit: str = "×"
    target: float | None = None
    at_most: bool = True
    key: tuple[str, ...] = ()

    @property
    def is_met(self) -> bool:
        """Whether the target is met."""
        return self.target is None or (self.value <= self.target if self.at_most else self.value >= self.target)

    def to_json(self) -> dict[str, Any]:
        """The row as JSON."""
        return {**asdict(self), "is_met": self.is_met}


def row(what: str, values: Sequence[float], **more: Any) -> Row:
    """Make a row from repeated measurements."""
    low, median, high = statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
    return Row(what, median, low, high, **more)


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """The ratio of the two values of each turn."""
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def in_turns(tasks: Mapping[str, Task], turns: int, warm_up: int = 3) -> dict[str, list[float]]:
    """Time the tasks in turns; return the seconds of each run by task.

    Parameters
    ----------
    tasks : mapping of str to callable
        The tasks by name.
    turns : int
        Number of timed runs of each task.
    warm_up : int
        Number of runs before that, which are not timed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(-warm_up, turns):
        for name, task in tasks.items():
            started = time.perf_counter()
            task()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - started)
    return seconds


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set these environment variables, and remove all others of AWS, Framegate and Powertools."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith(("AWS_", "FRAMEGATE_", "POWERTOOLS_"))]:
        del os.environ[name]
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def last_line_of_python(*arguments: str) -> str:
    """Run Python with the project's modules in this environment; return the last line of its output.

    The lines before it are log lines.
    """
    paths = {"PYTHONPATH": PYTHONPATH, "POWERTOOLS_TRACE_DISABLED": "true"}
    done = subprocess.run(
        [sys.executable, *arguments], env={**os.environ, **paths}, stdout=subprocess.PIPE, check=True, cwd=PROJECT
    )
    return done.stdout.decode().splitlines()[-1]


def peak_memory(pid: int | None = None) -> int:
    """The peak memory of a process in bytes, by default of this one.

    Without ``/proc``, it is this process's peak, or the present memory of another process.
    """
    status = Path(f"/proc/{pid or 'self'}/status")
    if status.exists():
        # getrusage(2) would include the memory of the parent from before the program was loaded.
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    if pid is None:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return int(psutil.Process(pid).memory_info().rss)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Discard standard output, where the measured code writes log lines."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # noqa: PTH123 - a device, not a path
        yield
