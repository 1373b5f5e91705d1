"""The audit: how it judges findings and reads the reports of auditors, which are stood in for by scripts."""

from __future__ import annotations

import json

import pytest

from audit import __main__ as command
from audit import auditors
from audit.auditors import AUDITORS, Audited, documented_policies, named_place
from audit.findings import AuditError, Finding, accepted_findings, compare
from audit.policies import construct_path, policies
from tests.infra.project import PROJECT

ACCEPTED = """
[[accepted]]
rules = ["checkov CKV_1", "cdk-nag NIST-1"]
places = ["*Function/Resource", "Bucket"]
reason = "Because."
"""
COVERED = [Finding("checkov", "CKV_1", "ApiFunction/Resource"), Finding("cdk-nag", "NIST-1", "Bucket")]


def verdict(findings, text=ACCEPTED):
    return compare(findings, accepted_findings(text))


def test_audit_passes_when_findings_are_exactly_those_accepted():
    assert verdict(COVERED).passed
    assert verdict([], "").passed


@pytest.mark.parametrize(
    "finding",
    [
        Finding("checkov", "CKV_2", "Bucket"),
        Finding("checkov", "CKV_1", "Topic"),
        Finding("checkov", "CKV_1", "bucket"),
        Finding("bandit", "CKV_1", "Bucket"),
    ],
    ids=["another rule", "another place", "another case", "another auditor"],
)
def test_finding_that_is_not_accepted_fails_the_audit(finding):
    found = verdict([*COVERED, finding])

    assert found.unknown == (finding,)
    assert not found.stale
    assert not found.passed


def test_accepted_rule_that_no_longer_occurs_fails_the_audit():
    found = verdict([Finding("checkov", "CKV_1", "ApiFunction/Resource"), Finding("checkov", "CKV_1", "Bucket")])

    assert found.stale == ("cdk-nag NIST-1 no longer occurs at *Function/Resource or Bucket",)
    assert not found.passed


def test_accepted_place_without_a_finding_fails_the_audit():
    found = verdict([Finding("checkov", "CKV_1", "Bucket"), Finding("cdk-nag", "NIST-1", "Bucket")])

    assert found.stale == ("nothing is found at *Function/Resource for checkov CKV_1 or cdk-nag NIST-1",)
    assert not found.passed


def test_finding_of_another_rule_does_not_keep_a_place_accepted():
    found = verdict(
        [Finding("checkov", "CKV_1", "Bucket"), COVERED[1], Finding("checkov", "CKV_9", "ApiFunction/Resource")]
    )

    assert len(found.unknown) == len(found.stale) == 1


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (ACCEPTED.replace('reason = "Because."', ""), "needs rules, places and a reason"),
        (ACCEPTED.replace("Because.", ""), "needs rules, places and a reason"),
        (ACCEPTED.replace("Because.", " "), "the reason is a text"),
        (ACCEPTED.replace('["*Function/Resource", "Bucket"]', "[]"), "needs rules, places and a reason"),
        (ACCEPTED.replace('["*Function/Resource", "Bucket"]', '"Bucket"'), "rules and places are lists"),
        (ACCEPTED + 'until = "2030"', "and nothing else"),
        (ACCEPTED + ACCEPTED, "accepted more than once: cdk-nag NIST-1 at"),
        ("[[accepted", "accepted.toml: "),
    ],
)
def test_wrong_file_of_accepted_findings_is_an_error(text, fault):
    with pytest.raises(AuditError, match=fault):
        accepted_findings(text)


def test_file_of_accepted_findings_names_existing_auditors_and_files():
    acceptances = accepted_findings(command.ACCEPTED.read_text())

    assert acceptances
    for acceptance in acceptances:
        names = {rule.partition(" ")[0] for rule in acceptance.rules}
        assert names <= set(AUDITORS)
        if "bandit" in names:
            assert all((PROJECT / place).is_file() for place in acceptance.places)


TEMPLATE = {
    "Resources": {
        "Queue1": {"Type": "AWS::SQS::Queue", "Metadata": {"aws:cdk:path": "Stack/Queue/Resource"}},
        "Machine": {"Type": "AWS::StepFunctions::StateMachine"},
        "Store": {"Type": "AWS::S3::Bucket"},
        "Role1": {
            "Type": "AWS::IAM::Role",
            "Metadata": {"aws:cdk:path": "Stack/Function/Role/Resource"},
            "Properties": {
                "AssumeRolePolicyDocument": {"Statement": [{"Action": "sts:AssumeRole"}]},
                "Policies": [{"PolicyDocument": {"Statement": [{"Resource": None, "Condition": {}}]}}],
            },
        },
    }
}


def resolved(value, template=TEMPLATE):
    copy = json.loads(json.dumps(template))
    (policy,) = copy["Resources"]["Role1"]["Properties"]["Policies"]
    policy["PolicyDocument"]["Statement"][0]["Resource"] = value
    ((place, document),) = policies(copy)
    assert place == "Function/Role/Resource"
    return document["Statement"][0]["Resource"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("arn:aws:s3:::a", "arn:aws:s3:::a"),
        ({"Ref": "AWS::AccountId"}, "123456789012"),
        ({"Ref": "Store"}, "store"),
        ({"Ref": "Machine"}, "arn:aws:states:eu-west-1:123456789012:stateMachine:machine"),
        ({"Fn::GetAtt": ["Queue1", "Arn"]}, "arn:aws:sqs:eu-west-1:123456789012:queue1"),
        (
            {"Fn::Join": ["", [{"Fn::GetAtt": ["Store", "Arn"]}, "/frames/*"]]},
            "arn:aws:s3:::store/frames/*",
        ),
        ({"Fn::Select": ["1", {"Fn::Split": [":", "a:b"]}]}, "b"),
        ([{"Ref": "AWS::Region"}], ["eu-west-1"]),
        (1.2, "1.2"),
        (False, "false"),
    ],
)
def test_policy_has_the_values_that_aws_would_see(value, text):
    assert resolved(value) == text


@pytest.mark.parametrize(
    "value", [{"Fn::ImportValue": "Other"}, {"Fn::GetAtt": ["Table", "Arn"]}, {"Fn::If": ["A", "b", "c"]}]
)
def test_value_of_a_policy_that_cannot_be_resolved_is_an_error(value):
    template = {"Resources": {**TEMPLATE["Resources"], "Table": {"Type": "AWS::DynamoDB::Table"}}}

    with pytest.raises(AuditError, match="a policy"):
        resolved(value, template)


def test_place_of_a_resource_is_its_construct_path_without_the_stack():
    assert construct_path(TEMPLATE, "Queue1") == "Queue/Resource"
    assert construct_path(TEMPLATE, "Store") == "Store"


@pytest.fixture
def audited(tmp_path):
    for name in ("default", "production", "private"):
        (tmp_path / name).mkdir()
    (tmp_path / "default" / "Stack.template.json").write_text(json.dumps(TEMPLATE))
    return Audited(tmp_path)


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """Stands in for an outside tool: prints a text and ends with a status."""
    monkeypatch.setattr(auditors, "TOOLS", tmp_path)
    monkeypatch.setattr(auditors, "SPECTRAL", tmp_path / "spectral")

    def write(name, output, status):
        (tmp_path / "output").write_text(output)
        (tmp_path / name).write_text(f"#!/bin/sh\ncat {tmp_path / 'output'}\necho reason >&2\nexit {status}\n")
        (tmp_path / name).chmod(0o755)

    return write


@pytest.mark.parametrize("name", ["checkov", "parliament", "bandit", "spectral"])
@pytest.mark.parametrize(("output", "status"), [("", 1), ("", 2), ("{}", 2), ("[]", 70)])
def test_auditor_that_crashes_fails_the_audit(audited, tool, name, output, status):
    tool(name, output, status)

    with pytest.raises(AuditError, match=name):
        list(AUDITORS[name](audited))


@pytest.mark.parametrize("name", ["checkov", "parliament", "bandit", "spectral"])
def test_auditor_that_is_not_installed_fails_the_audit(audited, tmp_path, monkeypatch, name):
    monkeypatch.setattr(auditors, "TOOLS", tmp_path)
    monkeypatch.setattr(auditors, "SPECTRAL", tmp_path / "spectral")

    with pytest.raises(AuditError, match="is not installed: run make audit"):
        list(AUDITORS[name](audited))


def test_report_of_checkov_is_read(audited, tool):
    failed = {
        "check_id": "CKV_AWS_1",
        "check_name": "Ensure something",
        "resource": "AWS::SQS::Queue.Queue1",
        "file_abs_path": str(audited.folder / "default" / "Stack.template.json"),
    }
    report = {"summary": {"parsing_errors": 0}, "results": {"failed_checks": [failed]}}
    tool("checkov", json.dumps(report), 1)

    assert list(AUDITORS["checkov"](audited)) == [Finding("checkov", "CKV_AWS_1", "Queue/Resource", "Ensure something")]


@pytest.mark.parametrize(
    ("name", "report"),
    [
        ("checkov", {"summary": {"parsing_errors": 1}, "results": {"failed_checks": []}}),
        ("bandit", {"errors": ["a file"], "results": []}),
    ],
)
def test_file_that_an_auditor_cannot_read_fails_the_audit(audited, tool, name, report):
    tool(name, json.dumps(report), 0)

    with pytest.raises(AuditError, match=f"{name} could not read"):
        list(AUDITORS[name](audited))


def test_report_of_bandit_is_read(audited, tool):
    result = {
        "filename": str(PROJECT / "infra" / "build" / "sbom.py"),
        "test_id": "B1",
        "line_number": 7,
        "issue_text": "Something.",
    }
    tool("bandit", json.dumps({"errors": [], "results": [result]}), 1)

    assert list(AUDITORS["bandit"](audited)) == [Finding("bandit", "B1", "infra/build/sbom.py", "line 7: Something.")]


def test_report_of_spectral_is_read(audited, tool):
    result = {"code": "owasp:x", "path": ["paths", "/a/{b}", "get"], "message": "Something."}
    tool("spectral", json.dumps([result]), 1)

    assert list(AUDITORS["spectral"](audited)) == [Finding("spectral", "owasp:x", "paths/a/{b}/get", "Something.")]


@pytest.mark.parametrize(
    ("path", "place"),
    [
        (["paths", "/a", "get", "parameters", "1", "schema"], "paths/a/get/parameters/Range/schema"),
        (["paths", "/a", "get", "parameters", "2"], "paths/a/get/parameters/2"),
        (["paths", "/a", "get", "tags", "0"], "paths/a/get/tags/0"),
        (["paths", "/b", "get"], "paths/b/get"),
    ],
)
def test_place_in_the_api_has_the_names_of_parameters(path, place):
    operation = {"parameters": [{"name": "If-Match"}, {"name": "Range", "schema": {}}], "tags": ["frames"]}

    assert named_place({"paths": {"/a": {"get": operation}}}, path) == place


def test_report_of_parliament_is_read(audited, tool):
    found = {
        "issue": "RESOURCE_STAR",
        "title": "Star",
        "detail": "s3:*",
        "location": {"filepath": str(audited.folder / "policies" / "0.json")},
    }
    tool("parliament", json.dumps(found) + "\n", 1)

    assert list(AUDITORS["parliament"](audited)) == [
        Finding("parliament", "RESOURCE_STAR", "Function/Role/Resource", "Star: s3:*")
    ]


def test_documented_policy_is_audited_with_examples_for_its_placeholders():
    (policy,) = documented_policies(PROJECT / "docs" / "access.md")

    (statement,) = policy["Statement"]
    assert statement["Resource"] == "arn:aws:execute-api:eu-west-1:123456789012:example/*"
    assert policy["Version"] == "2012-10-17"


def test_parliament_without_findings_writes_nothing(audited, tool):
    tool("parliament", "", 0)

    assert list(AUDITORS["parliament"](audited)) == []


def test_findings_of_each_pack_of_cdk_nag_are_read(audited):
    violation = {
        "ruleName": "NIST-1",
        "description": "Something.",
        "violatingConstructs": [{"constructPath": "Framegate/Queue/Resource"}],
    }
    for name in ("default", "production", "private"):
        report = {"pluginReports": [{"violations": [violation]}] if name == "private" else []}
        (audited.folder / name / "validation-report.json").write_text(json.dumps(report))

    assert list(AUDITORS["cdk-nag"](audited)) == [Finding("cdk-nag", "NIST-1", "Queue/Resource", "Something.")]


def test_missing_report_of_cdk_nag_fails_the_audit(audited):
    with pytest.raises(AuditError, match=r"cdk-nag wrote no .*validation-report\.json"):
        list(AUDITORS["cdk-nag"](audited))


def test_makefile_removes_and_git_ignores_what_the_audit_and_the_bill_of_materials_make():
    makefile = (PROJECT / "Makefile").read_text()
    clean = makefile.partition("\nclean:")[2].partition("\n\n")[0].split()
    ignored = (PROJECT / ".gitignore").read_text().splitlines()

    assert {"$(AUDIT)", "audit/node_modules", "sbom"} <= set(clean)
    assert {".venv-audit/", "node_modules/", "sbom/"} <= set(ignored)
