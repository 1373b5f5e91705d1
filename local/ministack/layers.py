"""Runs functions without their layers.

MiniStack adds layers to the import path of its own Python. The compiled packages in our layers are built for Lambda;
MiniStack's environment has the same packages for this machine.

The layers cannot be removed after the deployment: publishing a SnapStart version already initialises the function, and
a published version cannot be changed.
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
    why="MiniStack imports layers that are built for Lambda",
)
def spawn(original: Callable[..., None], worker: Any) -> None:
    """Start a worker's process without layers."""
    worker.config = {**worker.config, "Layers": []}
    original(worker)
