"""Keeps what deployments are built from, so that dependencies are installed and packed once and not for each cloud."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

KEPT = Path(__file__).parent.parent / ".bundle-cache"
KEPT_SECONDS = 24 * 60 * 60
"""Seconds for which an asset is kept that no deployment uses any more: another version of the sources, most likely."""

# What the CDK builds, and what it packs of that. Both have the hash of their sources in their names.
_BUILT, _PACKED = "asset.*", ".cache/*.zip"


def take_from_kept(output: Path) -> None:
    """Put all that is kept into the folder of a deployment, before it begins: the CDK builds none of it again."""
    for asset in [*KEPT.glob(_BUILT), *KEPT.glob(_PACKED)]:
        _link(asset, output / asset.relative_to(KEPT))


def keep(output: Path) -> None:
    """Keep what a deployment has built, after it has succeeded."""
    for asset in [*output.glob(_BUILT), *output.glob(_PACKED)]:
        kept = KEPT / asset.relative_to(output)
        if not kept.exists():
            _link(asset, kept)
        os.utime(kept)
    for kept in [*KEPT.glob(_BUILT), *KEPT.glob(_PACKED)]:
        if time.time() - kept.stat().st_mtime > KEPT_SECONDS:
            shutil.rmtree(kept) if kept.is_dir() else kept.unlink()


def _link(source: Path, target: Path) -> None:
    """Give a file, or all files of a folder, another name: at once, as others may look for it at the same time."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        linked = Path(folder) / target.name
        if source.is_dir():
            shutil.copytree(source, linked, copy_function=os.link)
        else:
            os.link(source, linked)
        with suppress(OSError):
            # Where it is there by now, all the better.
            linked.rename(target)
