"""What the commands of the local cloud have in common: how they stop, and how they fail."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

from local.cloud import LocalCloudError
from local.signals import INTERRUPTED, stop_in_good_order

if TYPE_CHECKING:
    from collections.abc import Callable


def run_command(run: Callable[[], int]) -> NoReturn:
    """Run a command that returns its exit status, and exit with it; a cloud that does not start is one message."""
    stop_in_good_order()
    try:
        sys.exit(run())
    except LocalCloudError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        print("\nstopped")
        sys.exit(INTERRUPTED)
