"""The checks of cdk-nag and cfn-lint over the whole template, and that these checks find faults."""

from __future__ import annotations

import json

import pytest
from aws_cdk import App, Stack
from aws_cdk import aws_s3 as s3
from cfnlint.api import lint
from cfnlint.config import ManualArgs

from framegate.healthimaging.regions import REGIONS
from infra import acknowledge
from infra.application import add_checks, compose
from tests.infra.project import AUTH, FIREWALL, REACH, VPC

CONFIGURATIONS = {
    "default": {},
    "everything else": {
        "stack_name": "Framegate-Test",
        "architecture": "x86_64",
        "cors_origins": "https://a.example.org,https://b.example.org",
        "cors_request_headers": "X-Viewer-Version",
        "export_events": "Copied",
        "export_output": "dicom",
        "dataset_tables": "true",
        "dataset_catalog": "true",
        "dataset_columns": "PatientID,StudyInstanceUID",
        "export_concurrency": "5",
        "export_timeout_seconds": "900",
        "verify": "true",
        "event_source": "local.medical-imaging",
        "frame_retention_days": "30",
        "removal_policy": "destroy",
        "api_gateway_account_role": "true",
        "fips_endpoints": "true",
        "api_concurrency": "100",
    },
    # The remaining configurations cover each value of the keys for access at least once.
    "on request only, iam, private, firewall": {
        "export_events": "none",
        "stack_name": "F" * 128,
        **REACH["private"],
        **FIREWALL["firewall"],
    },
    "production, cognito at a domain": {
        "environment": "production",
        "alarm_email": "operations@example.org",
        "cors_origins": "https://viewer.example.org",
        **AUTH["cognito"],
        **REACH["at a domain"],
    },
    "cognito with scopes at a domain in Route 53, firewall": {
        **AUTH["cognito with scopes"],
        **REACH["at a domain in Route 53"],
        **FIREWALL["firewall"],
    },
    "jwt, functions in a VPC": {**AUTH["jwt"], **VPC},
}


def linted(template, regions):
    matches = lint(json.dumps(template), config=ManualArgs(regions=list(regions)))
    return [f"{match.rule.id} {match.message}" for match in matches]


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_cfn_lint_finds_nothing(synthesize, name):
    # Each Region takes cfn-lint as long as the first, so only the configuration with the most services has them all.
    regions = REGIONS if name == "everything else" else ["us-east-1"]

    assert linted(synthesize(**CONFIGURATIONS[name]).to_json(), regions) == []


# Linting a template takes many seconds, so this one has a single resource.
@pytest.mark.parametrize(("memory_mb", "expected"), [(512, []), (1, ["E3034"])])
def test_cfn_lint_finds_an_invalid_property(memory_mb, expected):
    function = {
        "Code": {"S3Bucket": "code", "S3Key": "code.zip"},
        "Handler": "handler.handle",
        "MemorySize": memory_mb,
        "Role": "arn:aws:iam::123456789012:role/function",
        "Runtime": "python3.13",
    }
    template = {"Resources": {"Function": {"Type": "AWS::Lambda::Function", "Properties": function}}}

    assert [finding.split()[0] for finding in linted(template, ["us-east-1"]) if finding.startswith("E")] == expected


def findings(outdir):
    """Return the findings of cdk-nag as pairs of a rule and a construct path."""
    reports = json.loads((outdir / "validation-report.json").read_text())["pluginReports"]
    return {
        (violation["ruleName"], construct["constructPath"])
        for report in reports
        for violation in report["violations"]
        for construct in violation["violatingConstructs"]
    }


@pytest.mark.parametrize("rule", ["AwsSolutions-S10", "HIPAA.Security-S3BucketReplicationEnabled"])
def test_synthesis_fails_on_a_finding_of_cdk_nag(tmp_path, cdk_context, rule):
    app = App(context=cdk_context(), outdir=str(tmp_path))
    add_checks(app)
    s3.Bucket(Stack(app, "Careless"), "Bucket")

    with pytest.raises(RuntimeError, match=rule):
        app.synth()


class Acknowledgments:
    """Records acknowledgments without passing them on, so that cdk-nag reports every finding."""

    def __init__(self):
        self.made = []

    def of(self, construct):
        self._path = construct.node.path
        return self

    def acknowledge(self, *acknowledgments):
        self.made += [(each.id, self._path) for each in acknowledgments]


# The application with its acknowledgments, as deployed, is in test_app.py.
@pytest.mark.parametrize("keys", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_acknowledgments_match_the_findings_of_cdk_nag(tmp_path, cdk_context, keys, monkeypatch):
    acknowledgments = Acknowledgments()
    monkeypatch.setattr(acknowledge, "Validations", acknowledgments)
    app = App(context=cdk_context(**keys), outdir=str(tmp_path))
    compose(app)
    add_checks(app)
    with pytest.raises(RuntimeError):
        app.synth()
    made = set(acknowledgments.made)
    matched = {finding: {each for each in made if acknowledges(each, finding)} for finding in findings(tmp_path)}
    # The CDK gives its own warnings, unlike cdk-nag's findings, only in some configurations.
    needless = {each for each in made - set().union(*matched.values()) if not each[0].startswith("@aws-cdk/")}

    assert [finding for finding, found in matched.items() if not found] == [], "nobody acknowledges these findings"
    assert needless == set(), "nothing reports these acknowledged findings"


def acknowledges(acknowledgment, finding):
    """Whether an acknowledgment, a rule and a construct path, is for a finding on that construct or a child."""
    (rule, path), (reported, at) = acknowledgment, finding
    return rule == reported.removeprefix("Annotation::") and f"{at}/".startswith(f"{path}/")
