"""The checks on the whole template, cdk-nag's and cfn-lint's, and that they find what is wrong."""

from __future__ import annotations

import json

import pytest
from aws_cdk import App, Stack
from aws_cdk import aws_s3 as s3
from cfnlint.api import lint
from cfnlint.config import ManualArgs

from infra.application import compose

# The Regions of HealthImaging.
REGIONS = ["us-east-1", "us-west-2", "ap-southeast-2", "eu-west-1", "eu-west-2"]

CONFIGURATIONS = {
    "default": {},
    "everything else": {
        "stack_name": "Framegate-Test",
        "architecture": "x86_64",
        "cors_origins": "https://a.example.org,https://b.example.org",
        "export_events": "Copied",
        "export_concurrency": "5",
        "export_timeout_seconds": "900",
        "verify": "true",
        "event_source": "local.medical-imaging",
        "frame_retention_days": "30",
        "removal_policy": "destroy",
        "api_gateway_account_role": "false",
    },
    "on request only": {"export_events": "none", "stack_name": "F" * 128},
}


def linted(template):
    matches = lint(json.dumps(template), config=ManualArgs(regions=REGIONS))
    return [f"{match.rule.id} {match.message}" for match in matches]


@pytest.mark.parametrize("keys", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_template_is_clean_for_cfn_lint(synthesize, keys):
    assert linted(synthesize(**keys).to_json()) == []


def test_cfn_lint_finds_a_wrong_property(template):
    wrong = json.loads(json.dumps(template.to_json()))
    functions = [each for each in wrong["Resources"].values() if each["Type"] == "AWS::Lambda::Function"]
    functions[0]["Properties"]["MemorySize"] = 1

    assert [finding for finding in linted(wrong) if finding.startswith("E")]


@pytest.mark.parametrize("keys", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_application_synthesizes_without_a_finding_of_cdk_nag(tmp_path, cdk_context, keys):
    app = App(context=cdk_context(**keys), outdir=str(tmp_path))
    compose(app)
    app.synth()

    assert json.loads((tmp_path / "validation-report.json").read_text())["pluginReports"] == []


def test_synthesis_fails_on_a_finding_of_cdk_nag(tmp_path, cdk_context):
    app = App(context=cdk_context(), outdir=str(tmp_path))
    compose(app)
    s3.Bucket(Stack(app, "Careless"), "Bucket")

    with pytest.raises(RuntimeError, match="AwsSolutions-S10"):
        app.synth()
