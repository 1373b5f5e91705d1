"""Runs functions from code that is unpacked once for all of their processes.

MiniStack unpacks the zip file for each process of a function, so each process compiles all modules again. That takes
longer than the initialisation itself.
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
    why="MiniStack unpacks and compiles a function's code for each of its processes",
)
def spawn(original: Callable[..., None], worker: Any) -> None:
    """Start a worker's process that imports from the shared folder instead of its own copy."""
    code_zip = worker.code_zip
    environment = worker.config.get("Environment") or {}
    variables = {**environment.get("Variables", {}), "PYTHONPATH": str(unpacked(code_zip))}
    worker.config = {**worker.config, "Environment": {**environment, "Variables": variables}}
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
