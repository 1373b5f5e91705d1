"""The application in a process of its own, as the CDK command line runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from aws_cdk import App
from aws_cdk.assertions import Annotations, Match

from infra.application import compose
from tests.infra.project import DATASTORE_A, PROJECT

# The environment without variables for jsii, which `make` or another test may have set.
WITHOUT_JSII = {name: value for name, value in os.environ.items() if not name.startswith("JSII_")}


def run_app(context, *, program=("app.py",), **environment):
    return subprocess.run(
        [sys.executable, *program],
        cwd=PROJECT,
        env={**WITHOUT_JSII, "CDK_CONTEXT_JSON": json.dumps(context), "CDK_VALIDATION": "false", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_configuration_error_is_reported_without_a_traceback(tmp_path):
    result = run_app({"datastore_id": DATASTORE_A, "memory_mb": "64"}, CDK_OUTDIR=str(tmp_path))

    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert result.stderr.splitlines() == [
        "Framegate cannot be built with this configuration:",
        "  datastore_id: is not a configuration key. Did you mean: -c datastore_ids=0123456789abcdef0123456789abcdef",
        "  memory_mb: 64 is not a whole number from 512 to 10240. For example: -c memory_mb=3008",
        "  datastore_ids: is missing. For example: -c datastore_ids=0123456789abcdef0123456789abcdef",
    ]
    assert list(tmp_path.iterdir()) == []


# A module that Node.js loads first and that changes the version and the date that jsii sees.
OTHER_NODE = """
Object.defineProperty(process, "version", {value: "%s"});
const Now = Date;
Date = class extends Now {
  constructor(...given) { given.length ? super(...given) : super("2031-01-01"); }
  static now() { return new Now("2031-01-01").getTime(); }
};
"""
SILENCE = "JSII_SILENCE_WARNING_{}_NODE_VERSION"
VERSIONS = {"v24.1.0": "END_OF_LIFE", "v29.0.0": "UNTESTED"}


def stderr_on(version, tmp_path, **environment):
    other = tmp_path / "other_node.js"
    other.write_text(OTHER_NODE % version)
    return run_app({"datastore_id": DATASTORE_A}, NODE_OPTIONS=f"--require {other}", **environment).stderr


@pytest.mark.parametrize("version", VERSIONS)
def test_jsii_warns_of_no_node_version(tmp_path, version):
    stderr = stderr_on(version, tmp_path)

    assert stderr.startswith("Framegate cannot be built with this configuration:\n")
    assert len(stderr.splitlines()) == 3


@pytest.mark.parametrize(("version", "warning"), VERSIONS.items())
def test_jsii_warns_of_those_node_versions_unless_silenced(tmp_path, version, warning):
    stderr = stderr_on(version, tmp_path, **{SILENCE.format(warning): ""})

    assert version in stderr
    assert len(stderr.splitlines()) > 10


def test_cdk_command_line_prints_only_the_configuration_errors(tmp_path):
    result = subprocess.run(
        ["node_modules/.bin/cdk", "synth", "--quiet", "--output", str(tmp_path), "-c", f"datastore_id={DATASTORE_A}"],
        cwd=PROJECT,
        env={**WITHOUT_JSII, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    *ours, cdk = result.stderr.splitlines()

    assert (result.returncode, result.stdout) == (1, "")
    assert [line.partition(":")[0].strip() for line in ours] == [
        "Framegate cannot be built with this configuration",
        "datastore_id",
        "datastore_ids",
    ]
    assert cdk == ".venv/bin/python app.py: Subprocess exited with error 1"


NO_INDEX = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": ""}
"""Settings with which pip finds no packages."""


def test_failed_installation_reports_pips_error_and_later_syntheses_build_once(tmp_path, cdk_context):
    context = {key: value for key, value in cdk_context().items() if key != "aws:cdk:bundling-stacks"}
    failed = run_app(context, CDK_OUTDIR=str(tmp_path), **NO_INDEX)
    built = run_app(context, CDK_OUTDIR=str(tmp_path))
    bundles = sorted(tmp_path.glob("asset.*"))
    bundled = {path.relative_to(each).as_posix() for each in bundles for path in each.glob("**/*.py")}
    reused = run_app(context, CDK_OUTDIR=str(tmp_path), **NO_INDEX)

    assert (failed.returncode, built.returncode, reused.returncode) == (1, 0, 0)
    assert "pip could not install lambda_src/requirements.txt: ERROR:" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert built.stdout == reused.stdout == ""
    assert {"boto3/__init__.py", "python/imagecodecs/__init__.py"} <= bundled
    assert bundles == sorted(tmp_path.glob("asset.*"))
    # The bundle of the functions, the decoders of exports and those of pictures.
    assert len(bundles) == 3


WITHOUT_ACKNOWLEDGMENTS = """
from infra import acknowledge
acknowledge.acknowledge = lambda *_: None
import runpy
runpy.run_path("app.py", run_name="__main__")
"""


@pytest.mark.parametrize(
    ("program", "builtin_validation", "returncode", "conclusions"),
    [
        (["app.py"], "true", 0, {}),
        # cdk-nag reports only findings, and the application has none. Without the acknowledgments, it has many.
        (["-c", WITHOUT_ACKNOWLEDGMENTS], "false", 1, {"AwsSolutions": "failure", "HIPAA.Security": "failure"}),
    ],
    ids=["application", "without acknowledgments"],
)
def test_application_runs_the_checks_of_cdk_nag(
    tmp_path, cdk_context, program, builtin_validation, returncode, conclusions
):
    result = run_app(cdk_context(), program=program, CDK_OUTDIR=str(tmp_path), CDK_VALIDATION=builtin_validation)
    reports = json.loads((tmp_path / "validation-report.json").read_text())["pluginReports"]
    found = {each["pluginName"]: each["conclusion"] for each in reports}

    assert result.returncode == returncode
    # The CDK itself reports the warnings of constructs.
    assert {name: found[name] for name in found if name != "Construct Annotations"} == conclusions


@pytest.mark.parametrize(
    ("keys", "warnings"),
    [
        ({"environment": "production"}, 1),
        ({"environment": "production", "cors_origins": "https://viewer.example.org"}, 0),
        ({}, 0),
    ],
)
def test_production_warns_of_pages_of_every_origin(cdk_context, keys, warnings):
    stack = compose(App(context=cdk_context(**keys)))

    assert len(Annotations.from_stack(stack).find_warning("*", Match.string_like_regexp("cors_origins"))) == warnings
