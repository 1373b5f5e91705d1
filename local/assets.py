"""Caches the assets of deployments, so that dependencies are installed and packed once, not for each cloud."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

CACHE = Path(__file__).parent.parent / ".bundle-cache"
MAX_UNUSED_SECONDS = 24 * 60 * 60
"""Age at which an unused asset is removed. It usually belongs to an older version of the sources."""

# The CDK's built assets and its zip files. Both have the hash of their sources in their names.
_BUILT, _PACKED = "asset.*", ".cache/*.zip"


def restore(output: Path) -> None:
    """Link every cached asset into the output folder of a deployment, so that the CDK does not build it again."""
    for asset in [*CACHE.glob(_BUILT), *CACHE.glob(_PACKED)]:
        _link(asset, output / asset.relative_to(CACHE))


def save(output: Path) -> None:
    """Cache the assets of a successful deployment, and remove old ones."""
    for asset in [*output.glob(_BUILT), *output.glob(_PACKED)]:
        cached = CACHE / asset.relative_to(output)
        if not cached.exists():
            _link(asset, cached)
        os.utime(cached)
    for cached in [*CACHE.glob(_BUILT), *CACHE.glob(_PACKED)]:
        if time.time() - cached.stat().st_mtime > MAX_UNUSED_SECONDS:
            shutil.rmtree(cached) if cached.is_dir() else cached.unlink()


def _link(source: Path, target: Path) -> None:
    """Hard-link a file, or all files of a folder, in one step: other processes may read the cache at the same time."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        linked = Path(folder) / target.name
        if source.is_dir():
            shutil.copytree(source, linked, copy_function=os.link)
        else:
            os.link(source, linked)
        with suppress(OSError):
            # Another process may have linked it first.
            linked.rename(target)
