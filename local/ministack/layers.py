"""Runs functions without their layers.

MiniStack puts a layer first on the import path of the Python that runs MiniStack. The compiled packages in our layers
are for Lambda's machines and Lambda's Python; MiniStack's environment has the same packages for this machine.

Removing the layers from the deployed functions would come too late: publishing a SnapStart version runs its
initialisation during the deployment, and a published version cannot be changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ministack.core import lambda_runtime  # type: ignore[import-not-found]

from local.ministack.patching import Patches

if TYPE_CHECKING:
    from collections.abc import Callable

patches = Patches()


@patches.replaces(
    lambda_runtime.Worker,
    "_spawn",
    digest="c55febf95656",
    why="MiniStack imports layers that are built for Lambda's machines",
)
def spawn(original: Callable[..., None], worker: Any) -> None:
    """Start a worker's process."""
    worker.config = {**worker.config, "Layers": []}
    original(worker)
