"""The application as the CDK command line runs it: in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.infra.project import DATASTORE_A, PROJECT


def run_app(context, **environment):
    return subprocess.run(
        [sys.executable, "app.py"],
        cwd=PROJECT,
        env={**os.environ, "CDK_CONTEXT_JSON": json.dumps(context), "CDK_VALIDATION": "false", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_wrong_configuration_ends_in_a_message_that_says_what_to_change(tmp_path):
    result = run_app({"datastore_id": DATASTORE_A, "memory_mb": "64"}, CDK_OUTDIR=str(tmp_path))
    message = result.stderr[result.stderr.index("Framegate") :]

    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert message.splitlines() == [
        "Framegate cannot be built with this configuration:",
        "  datastore_id: is not a configuration key. Did you mean: -c datastore_ids=0123456789abcdef0123456789abcdef",
        "  memory_mb: 64 is not a whole number from 512 to 10240. For example: -c memory_mb=3008",
        "  datastore_ids: is missing. For example: -c datastore_ids=0123456789abcdef0123456789abcdef",
    ]
    assert list(tmp_path.iterdir()) == []


def test_second_synthesis_of_unchanged_sources_installs_nothing(tmp_path, cdk_context):
    context = {key: value for key, value in cdk_context().items() if key != "aws:cdk:bundling-stacks"}
    first = run_app(context, CDK_OUTDIR=str(tmp_path))
    bundles = [each for each in tmp_path.iterdir() if each.name.startswith("asset.")]
    # From here on, pip could not install anything.
    second = run_app(context, CDK_OUTDIR=str(tmp_path), PIP_CONFIG_FILE=os.devnull, PIP_NO_INDEX="1", PIP_FIND_LINKS="")

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert first.stdout == second.stdout == ""
    assert bundles == [each for each in tmp_path.iterdir() if each.name.startswith("asset.")]
    assert len(bundles) == 2


def test_dependency_that_cannot_be_installed_ends_in_pips_reason_and_does_no_harm_later(tmp_path, cdk_context):
    context = {key: value for key, value in cdk_context().items() if key != "aws:cdk:bundling-stacks"}
    no_index = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": ""}
    failed = run_app(context, CDK_OUTDIR=str(tmp_path), **no_index)
    later = run_app(context, CDK_OUTDIR=str(tmp_path))
    bundled = {path.relative_to(each).as_posix() for each in tmp_path.glob("asset.*") for path in each.glob("**/*.py")}

    assert (failed.returncode, later.returncode) == (1, 0)
    assert "pip could not install lambda_src/requirements.txt: ERROR:" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert {"boto3/__init__.py", "python/imagecodecs/__init__.py"} <= bundled
