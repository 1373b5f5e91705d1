"""Runs checks one after the other, and prints the outcome of each."""

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
    """The outcome of a check."""

    PASSED = "pass"
    FAILED = "FAIL"
    SKIPPED = "skip"


_STYLES = {Outcome.PASSED: "green", Outcome.FAILED: "bold red", Outcome.SKIPPED: "yellow"}


class CheckFailedError(Exception):
    """The deployment does not behave as expected; the message says what it did instead."""


class CheckSkippedError(Exception):
    """The check does not apply to this deployment; the message says why."""


class Report:
    """Runs and prints the checks of a run.

    Parameters
    ----------
    console : Console
        Prints the lines.

    Attributes
    ----------
    counts : Counter of Outcome
        Number of checks by outcome.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self.counts: Counter[Outcome] = Counter()

    def check(self, name: str, run: Callable[[], str]) -> Outcome:
        """Run one check and print its line.

        Parameters
        ----------
        name : str
            The name of the check.
        run : callable
            Does the check and returns its result in a few words. Any exception becomes a failed line; none ends the
            run.
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
            # For example, a document lacks an expected member. The other checks still run.
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
        """The counts in one line."""
        return (
            f"{self.counts[Outcome.PASSED]} passed, {self.counts[Outcome.FAILED]} failed, "
            f"{self.counts[Outcome.SKIPPED]} skipped"
        )


def expect(what: str, found: object, expected: object) -> None:
    """Fail the check if a value differs from the expected one.

    Raises
    ------
    CheckFailedError
        If the values differ; the message shows both.
    """
    if found != expected:
        raise CheckFailedError(f"{what}: expected {expected!r}, found {found!r}")
