"""How the bench measures: in turns, so that a machine that is slow for a while is slow for all; medians and spread."""

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

PROJECT = Path(__file__).parent.parent

Task = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of the table.

    Parameters
    ----------
    what : str
        What was measured, over what.
    value : float
        The median.
    low, high : float
        The quartiles around it.
    unit : str
        ``×`` for a ratio.
    target : float or None
        What it should be; None where there is no such thing.
    at_most : bool
        Whether it should be that at most, or at least.
    key : tuple of str
        What a program finds it by, where one looks for it.
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
        """Whether it is as it should be."""
        return self.target is None or (self.value <= self.target if self.at_most else self.value >= self.target)

    def to_json(self) -> dict[str, Any]:
        """The figure, for machines."""
        return {**asdict(self), "is_met": self.is_met}


def row(what: str, values: Sequence[float], **more: Any) -> Row:
    """Make a figure of repeated measurements."""
    low, median, high = statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
    return Row(what, median, low, high, **more)


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """The ratio of each turn."""
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def in_turns(tasks: Mapping[str, Task], turns: int, warm_up: int = 3) -> dict[str, list[float]]:
    """Seconds that each task takes, one after the other, in so many turns.

    Parameters
    ----------
    tasks : mapping of str to callable
        What to do.
    turns : int
        How often each is measured.
    warm_up : int
        How often each is done before.
    """
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(-warm_up, turns):
        for name, task in tasks.items():
            began = time.perf_counter()
            task()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - began)
    return seconds


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Have these variables in the environment, and none of AWS's besides."""
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
    """Run Python with the project's modules, in this environment; return the last line that it prints.

    Before that come log lines of what is measured.
    """
    paths = {"PYTHONPATH": str(PROJECT), "POWERTOOLS_TRACE_DISABLED": "true"}
    done = subprocess.run(
        [sys.executable, *arguments], env={**os.environ, **paths}, stdout=subprocess.PIPE, check=True, cwd=PROJECT
    )
    return done.stdout.decode().splitlines()[-1]


def peak_memory() -> int:
    """The most bytes that this process has had in memory."""
    # The kernel's unit differs (getrusage(2) of Linux and of macOS).
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Let what is measured write its log lines, and nobody see them."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # noqa: PTH123 - no path of a file
        yield
