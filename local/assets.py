"""Caches the assets of deployments, so that dependencies are installed, packed and compiled once for all clouds."""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import shutil
import tempfile
import time
import zipfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).parent.parent
CACHE = PROJECT / ".bundle-cache"
MAX_UNUSED_SECONDS = 24 * 60 * 60
"""Age at which an unused asset is removed. It usually belongs to an older version of the sources."""

# The CDK's built assets and its zip files. Both have the hash of their sources in their names.
_BUILT, _PACKED = "asset.*", ".cache/*.zip"
# Unpacked zip files, with the digests of the zip files as names.
_UNPACKED = "unpacked/*"


@contextmanager
def deploying() -> Iterator[None]:
    """Let one deployment build new sources, while other processes wait until its assets are in the cache."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        if not _is_current():
            fcntl.flock(lock, fcntl.LOCK_EX)
            if _is_current():
                fcntl.flock(lock, fcntl.LOCK_UN)
        yield


def _is_current() -> bool:
    """Whether a deployment has used the cache since the last change of a source."""
    used = max((each.stat().st_mtime for each in CACHE.glob(_BUILT)), default=0.0)
    sources = [PROJECT / "infra" / "build" / "bundling.py", *(PROJECT / "lambda_src").glob("*.txt")]
    sources += (PROJECT / "lambda_src" / "framegate").rglob("*.py")
    return all(source.stat().st_mtime < used for source in sources)


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
    for cached in [*CACHE.glob(_BUILT), *CACHE.glob(_PACKED), *CACHE.glob(_UNPACKED)]:
        if time.time() - cached.stat().st_mtime > MAX_UNUSED_SECONDS:
            shutil.rmtree(cached) if cached.is_dir() else cached.unlink()


def unpacked(code: bytes) -> Path:
    """Return a folder with the content of a zip file.

    Every process of a function imports from this folder, so Python compiles each module once, not for each cold start.
    """
    folder = CACHE / Path(_UNPACKED).with_name(hashlib.sha256(code).hexdigest())
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            content = Path(temporary) / "content"
            with zipfile.ZipFile(io.BytesIO(code)) as archive:
                archive.extractall(content)
            with suppress(OSError):
                # Another process may have unpacked it first.
                content.rename(folder)
    os.utime(folder)
    return folder


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
