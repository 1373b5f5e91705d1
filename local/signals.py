"""How the commands in this package are stopped."""

from __future__ import annotations

import signal
import sys

INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM


def stop_in_good_order() -> None:
    """Let Ctrl-C and SIGTERM unwind the program, so that every ``with`` block stops what it started.

    SIGINT is set up too: a program that a script starts in the background finds it ignored.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
