"""Runs checks one after the other, and prints a line for each as it ends."""

from __future__ import annotations

import time
from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError
from requests import RequestException

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console


class Outcome(StrEnum):
    """How a check ended."""

    PASSED = "pass"
    FAILED = "FAIL"
    SKIPPED = "skip"


_STYLES = {Outcome.PASSED: "green", Outcome.FAILED: "bold red", Outcome.SKIPPED: "yellow"}


class CheckFailedError(Exception):
    """The deployment does not do what it should; the text says what it did instead."""


class CheckSkippedError(Exception):
    """The check does not apply to this deployment; the text says why."""


class Report:
    """The lines of a run.

    Parameters
    ----------
    console : Console
        Where the lines are printed.

    Attributes
    ----------
    counts : Counter of Outcome
        How many checks ended in which way.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self.counts: Counter[Outcome] = Counter()

    def check(self, name: str, run: Callable[[], str]) -> Outcome:
        """Run one check and print its line.

        Parameters
        ----------
        name : str
            What is checked.
        run : callable
            Does the check and returns what it found, in a few words. An error of AWS, of HTTP or of the check itself
            makes the line a failure; no error ends the run.
        """
        started = time.monotonic()
        try:
            outcome, detail = Outcome.PASSED, run()
        except CheckSkippedError as skipped:
            outcome, detail = Outcome.SKIPPED, str(skipped)
        except CheckFailedError as failed:
            outcome, detail = Outcome.FAILED, str(failed)
        except (BotoCoreError, ClientError, RequestException) as error:
            outcome, detail = Outcome.FAILED, f"{type(error).__name__}: {error}"
        except Exception as error:
            # A document without an expected member, for example. The other checks still run.
            outcome, detail = Outcome.FAILED, f"unexpected answer ({type(error).__name__}: {error})"
        self.counts[outcome] += 1
        seconds = time.monotonic() - started
        self._console.print(
            f"[{_STYLES[outcome]}]{outcome}[/]  {name:<48} [dim]{seconds:5.1f} s[/]  ", end="", highlight=False
        )
        self._console.print(" ".join(detail.split()), markup=False, highlight=False)
        return outcome

    def skip(self, names: list[str], reason: str) -> None:
        """Print a skipped line for each of these checks."""

        def skipped() -> str:
            raise CheckSkippedError(reason)

        for name in names:
            self.check(name, skipped)

    def summary(self) -> str:
        """The counts, in one line."""
        return (
            f"{self.counts[Outcome.PASSED]} passed, {self.counts[Outcome.FAILED]} failed, "
            f"{self.counts[Outcome.SKIPPED]} skipped"
        )


def expect(what: str, found: object, expected: object) -> None:
    """Fail the check unless a value is the expected one.

    Raises
    ------
    CheckFailedError
        If it is not; the text shows both values.
    """
    if found != expected:
        raise CheckFailedError(f"{what}: expected {expected!r}, found {found!r}")
