"""Stops the commands of this package on Ctrl-C and SIGTERM."""

from __future__ import annotations

import signal
import sys

INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM


def unwind_on_signals() -> None:
    """Make Ctrl-C and SIGTERM unwind the program, so that every ``with`` block stops what it started.

    The SIGINT handler is set explicitly because a shell script starts background programs with SIGINT ignored.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
