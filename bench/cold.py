"""Measures the cold start of the API function, and the size of its bundle."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from bench.measure import PROJECT, Row, in_turns, ratios, row
from bench.origin import Frame, Origin
from infra.build.bundling import bundle

if TYPE_CHECKING:
    from collections.abc import Mapping

CT, CT_BYTES = "c" * 32, 185_000
STARTS = 12

PROGRAM = """
import json, sys
from bench.invocations import context, event
from {module} import lambda_handler
answer = lambda_handler(event({frame!r}), context())
assert answer["statusCode"] == 200 and answer["isBase64Encoded"], answer
json.dumps(answer)
"""


def measure() -> list[Row]:
    """Time the first response of both handlers in a new process; an empty program gives the minimum."""
    with Origin({CT: Frame(os.urandom(CT_BYTES))}) as origin:
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(PROJECT),
            "POWERTOOLS_TRACE_DISABLED": "true",
            **origin.environment(),
        }
        seconds = in_turns(
            {
                "ours": lambda: _run(PROGRAM.format(module="framegate.entrypoints.api", frame=CT), environment),
                "usual": lambda: _run(PROGRAM.format(module="bench.usual_handler", frame=CT), environment),
                "nothing": lambda: _run("", environment),
            },
            STARTS,
            warm_up=1,
        )
    return [
        row("cold start until the first response: over the usual handler", ratios(*_two(seconds)), target=0.6),
        row("  Framegate, ms", [1000 * each for each in seconds["ours"]], unit="ms"),
        row("  of which an empty interpreter, ms", [1000 * each for each in seconds["nothing"]], unit="ms"),
        row("zipped bundle", [_zipped_bundle() / 1e6], unit="MB", target=5.0),
    ]


def _two(seconds: Mapping[str, list[float]]) -> tuple[list[float], list[float]]:
    return seconds["ours"], seconds["usual"]


def _run(program: str, environment: Mapping[str, str]) -> None:
    subprocess.run(
        [sys.executable, "-c", program], env=dict(environment), stdout=subprocess.DEVNULL, check=True, cwd=PROJECT
    )


def _zipped_bundle() -> int:
    """The size of the functions' zipped code in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "built"
        built.mkdir()
        bundle(built, "arm64")
        archive = Path(folder) / "bundle.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
            for path in sorted(built.rglob("*")):
                packed.write(path, path.relative_to(built))
        return archive.stat().st_size
