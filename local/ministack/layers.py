"""Functions run without their layers.

MiniStack puts a layer first on the import path of the Python that runs MiniStack, while the compiled packages in ours
are for Lambda's own machines and its own Python. MiniStack's environment has the same packages for this machine.

Taking the layers off the deployed functions instead would come too late: publishing a SnapStart version runs its
initialisation during the deployment, and a published version cannot be changed.
"""

from __future__ import annotations

from typing import Any

from ministack.core import lambda_runtime  # type: ignore[import-not-found]

_spawn = lambda_runtime.Worker._spawn


def extend() -> None:
    """Let workers ignore layers."""
    lambda_runtime.Worker._spawn = spawn


def spawn(worker: Any) -> None:
    """Start a worker's process."""
    worker.config = {**worker.config, "Layers": []}
    _spawn(worker)
