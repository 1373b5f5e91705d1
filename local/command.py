"""Runs a command of the local cloud, and handles how it stops and fails."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

from local.cloud import LocalCloudError
from local.signals import INTERRUPTED, unwind_on_signals

if TYPE_CHECKING:
    from collections.abc import Callable


def run_command(run: Callable[[], int]) -> NoReturn:
    """Run a command, and exit with the status that it returns; a `LocalCloudError` becomes one message."""
    unwind_on_signals()
    try:
        sys.exit(run())
    except LocalCloudError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        print("\nstopped")
        sys.exit(INTERRUPTED)
