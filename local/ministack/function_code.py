"""Runs functions from code that is unpacked once for all of their processes, and without their layers.

- MiniStack unpacks the zip file for each process of a function, so each process compiles all modules again. That takes
  longer than the initialisation itself.
- MiniStack adds layers to the import path of its own Python. The compiled packages in our layers are built for Lambda;
  MiniStack's environment has the same packages for this machine. The layers cannot be removed after the deployment:
  publishing a SnapStart version already initialises the function, and a published version cannot be changed.
"""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING, Any

from ministack.core import lambda_runtime  # type: ignore[import-not-found]

from local.assets import unpacked
from local.ministack.patching import Patches

if TYPE_CHECKING:
    from collections.abc import Callable

patches = Patches()


@patches.replaces(
    lambda_runtime.Worker,
    "_spawn",
    digest="c55febf95656",
    why="MiniStack compiles the code for each process of a function, and imports layers built for Lambda",
)
def spawn(original: Callable[..., None], worker: Any) -> None:
    """Start a worker's process that imports from the shared folder instead of its own copy and of layers."""
    code_zip = worker.code_zip
    environment = worker.config.get("Environment") or {}
    variables = {**environment.get("Variables", {}), "PYTHONPATH": str(unpacked(code_zip))}
    worker.config = {**worker.config, "Environment": {**environment, "Variables": variables}, "Layers": []}
    worker.code_zip = _EMPTY_ZIP
    try:
        original(worker)
    finally:
        # MiniStack starts the worker again, with its code, after the process ends.
        worker.code_zip = code_zip


def _empty_zip() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w"):
        pass
    return content.getvalue()


_EMPTY_ZIP = _empty_zip()
