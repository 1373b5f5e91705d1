"""Measures the cold start of the API function, and the size of its bundle."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from bench.invocations import OURS, USUAL, event
from bench.measure import PROJECT, Row, in_turns, ratios, row
from bench.origin import Frame, Origin
from bench.runtime_api import Function
from infra.build.bundling import bundle

if TYPE_CHECKING:
    from collections.abc import Mapping

CT, CT_BYTES = "c" * 32, 185_000
STARTS = 12
START = "bench.start_handler.lambda_handler"


def measure() -> list[Row]:
    """Time the first response of both handlers in a new process, and of one that only starts."""
    with Origin({CT: Frame(os.urandom(CT_BYTES))}) as origin:
        environment = origin.environment()
        seconds = in_turns(
            {
                "ours": lambda: _first_response(OURS, environment),
                "usual": lambda: _first_response(USUAL, environment),
                "start": lambda: _first_response(START, environment),
                "nothing": lambda: subprocess.run([sys.executable, "-c", ""], check=True, cwd=PROJECT),
            },
            STARTS,
            warm_up=1,
        )
    return [
        row("cold start until the first response: over the usual handler", ratios(*_two(seconds)), target=0.55),
        row(
            "  minimum: the runtime, the SDK's session and signer, and Powertools, without a call",
            ratios(seconds["start"], seconds["usual"]),
        ),
        row("  Framegate, ms", [1000 * each for each in seconds["ours"]], unit="ms"),
        row("  of which an empty interpreter, ms", [1000 * each for each in seconds["nothing"]], unit="ms"),
        row("zipped bundle", [_zipped_bundle() / 1e6], unit="MB", target=5.0),
    ]


def _two(seconds: Mapping[str, list[float]]) -> tuple[list[float], list[float]]:
    return seconds["ours"], seconds["usual"]


def _first_response(handler: str, environment: Mapping[str, str]) -> None:
    with Function(handler, environment) as function:
        response = function.invoke(event(CT)).response()
    assert response["statusCode"] == 200, response


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
