"""What the parts of the demo that wait for exports have in common."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from local.cloud import Deployment, LocalCloud

TIMEOUT_SECONDS = 120
POLL_SECONDS = 0.2


class DemoPart:
    """A part of the demo, for one deployment.

    Parameters
    ----------
    console : Console
        Prints the tables.
    cloud : LocalCloud
        The running local cloud.
    deployment : Deployment
        The stack deployed in it.
    datastore_id : str
        The data store that the stack serves.

    Attributes
    ----------
    failures : int
        Number of failed checks.
    """

    def __init__(self, console: Console, cloud: LocalCloud, deployment: Deployment, datastore_id: str) -> None:
        self._console = console
        self._cloud = cloud
        self._s3 = cloud.client("s3")
        self._bucket = deployment.frame_bucket
        self._datastore_id = datastore_id
        self.failures = 0

    def _wait(self, is_done: Callable[[], bool], step: str) -> None:
        """Show a step until it is done.

        Raises
        ------
        TimeoutError
            If it takes too long.
        """
        deadline = time.monotonic() + TIMEOUT_SECONDS
        with self._console.status(step):
            while not is_done():
                if time.monotonic() > deadline:
                    raise TimeoutError(f"This did not end within {TIMEOUT_SECONDS} s: {step}")
                time.sleep(POLL_SECONDS)
