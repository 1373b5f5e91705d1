"""Generators of clients and types, and a linter, accept ``docs/openapi.json``."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import npm
from tests.infra.project import PROJECT

HERE = Path(__file__).parent
DOCUMENT = PROJECT / "docs" / "openapi.json"

FRAME = "f" * 32

BYTES = ("image/jpeg", "application/dicom")
"""Media types that the generator of Python clients takes for bytes only if it is told."""


@pytest.fixture(scope="module")
def npm_tools():
    """The folder of the commands of the pinned npm packages next to this file."""
    return npm.install(HERE) / ".bin"


def run(*command, **environment):
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def python_client(tmp_path_factory):
    """The imported package that openapi-python-client generates without warnings."""
    folder = tmp_path_factory.mktemp("client")
    overrides = folder / "config.yaml"
    overrides.write_text(json.dumps({"content_type_overrides": dict.fromkeys(BYTES, "application/octet-stream")}))
    scripts = Path(sys.executable).parent
    run(
        *(scripts / "openapi-python-client", "generate", "--path", DOCUMENT, "--meta", "none", "--fail-on-warning"),
        *("--output-path", folder / "framegate_client", "--config", overrides),
        # The generator formats its output with ruff.
        PATH=f"{scripts}{os.pathsep}{os.environ['PATH']}",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield importlib.import_module("framegate_client")


def test_generated_python_client_has_every_operation(python_client):
    frames = Path(python_client.__file__).parent / "api" / "frames"
    index = Path(python_client.__file__).parent / "api" / "index"

    assert {path.stem for path in frames.glob("get*.py")} == {
        "get_image_frame",
        "get_image_frame_by_path",
        "get_image_frame_by_path_headers",
        "get_image_frame_by_query",
        "get_image_frame_by_query_headers",
    }
    assert {path.stem for path in index.glob("list*.py")} == {"list_image_frames", "list_image_frames_headers"}
    for path in (*frames.glob("*.py"), *index.glob("*.py")):
        importlib.import_module(f"framegate_client.api.{path.parent.name}.{path.stem}")


def test_python_client_sends_what_healthimagings_sdk_sends(python_client):
    models = importlib.import_module("framegate_client.models")
    body = models.FrameRequestByInformation(models.ImageFrameInformation(FRAME))

    assert body.to_dict() == {"imageFrameInformation": {"imageFrameId": FRAME}}


def test_python_client_reads_an_index_and_a_frame(python_client):
    models = importlib.import_module("framegate_client.models")
    entry = {
        "sopInstanceUID": "1.2.826",
        "frameNumber": 1,
        "imageFrameId": FRAME,
        "storedTransferSyntaxUID": None,
        "contentType": "image/jph",
        "contentLength": None,
        "rows": 512,
        "columns": 512,
        "resolutions": 5,
    }
    index = {"datastoreId": FRAME, "imageSetId": FRAME, "versionId": "2", "imageFrames": [entry], "nextToken": "2-7"}
    frame = {
        "datastoreId": FRAME,
        "imageSetId": FRAME,
        "imageFrameId": FRAME,
        "contentType": "image/jph",
        "contentLength": 3,
        "imageFrameBlob": "AAAA",
    }

    assert models.FrameIndex.from_dict(index).to_dict() == index
    assert models.InlineFrame.from_dict(frame).to_dict() == frame


def test_typescript_types_are_generated_and_compile(npm_tools, tmp_path):
    types, use = tmp_path / "api.d.ts", tmp_path / "use.ts"
    run(npm_tools / "openapi-typescript", DOCUMENT, "--output", types)
    use.write_text(
        """
        import type { components, operations } from "./api";
        const information: components["schemas"]["ImageFrameInformation"] = { imageFrameId: "f" };
        const request: components["schemas"]["FrameRequest"] = { imageFrameInformation: information };
        type Query = operations["getImageFrameByPath"]["parameters"]["query"];
        const query: Query = { delivery: "inline", size: 128 };
        type Page = operations["listImageFrames"]["responses"][200]["content"]["application/json"];
        const frames = (page: Page): string[] => page.imageFrames.map((each) => each.imageFrameId);
        // @ts-expect-error: no such delivery
        const wrong: Query = { delivery: "pigeon" };
        export { request, query, frames, wrong };
        """
    )
    run(npm_tools / "tsc", "--noEmit", "--strict", use)


def test_redocly_accepts_the_document_by_its_strict_rules(npm_tools):
    run(
        *(npm_tools / "redocly", "lint", "--extends", "recommended-strict", DOCUMENT),
        REDOCLY_TELEMETRY="off",
        REDOCLY_SUPPRESS_UPDATE_NOTICE="true",
    )
