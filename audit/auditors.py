"""Runs each auditor and reads its report. An auditor is a function from the audited files to findings."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cfnlint.api import lint
from cfnlint.config import ManualArgs

from audit.deployments import CONFIGURATIONS, REPORT
from audit.findings import AuditError, Finding
from audit.policies import ACCOUNT, REGION, construct_path, policies
from framegate.healthimaging.regions import REGIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

PROJECT = Path(__file__).resolve().parent.parent
TOOLS = PROJECT / ".venv-audit" / "bin"
SPECTRAL = PROJECT / "audit" / "node_modules" / ".bin" / "spectral"
CODE = ("lambda_src", "infra", "local", "smoke", "app.py")
OPENAPI = PROJECT / "docs" / "openapi.json"
POLICY_PAGES = (PROJECT / "docs" / "access.md", PROJECT / "docs" / "security.md")

_PLACEHOLDER = re.compile("<([a-z ]+)>")
_EXAMPLES = {"account": ACCOUNT, "region": REGION}


@dataclass(frozen=True)
class Audited:
    """What is audited besides the files of the project.

    Parameters
    ----------
    folder : Path
        Holds the cloud assembly of each deployment in a folder of its own.
    """

    folder: Path

    @cached_property
    def templates(self) -> dict[Path, dict[str, Any]]:
        """Every template, by its path."""
        paths = [path for name in CONFIGURATIONS for path in sorted((self.folder / name).glob("*.template.json"))]
        return {path: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def synthesize(folder: Path) -> Audited:
    """Synthesize every deployment, in a process of its own: jsii prints each finding that we read from the report."""
    _run([sys.executable, "-m", "audit.synthesis", str(folder)], successes=(0,))
    return Audited(folder)


def cdk_nag(audited: Audited) -> Iterator[Finding]:
    """Read what AwsSolutions, HIPAA.Security and NIST.800-53.R5 found and no construct acknowledges."""
    for name in CONFIGURATIONS:
        report = audited.folder / name / REPORT
        if not report.is_file():
            raise AuditError(f"cdk-nag wrote no {report}")
        for pack in json.loads(report.read_text(encoding="utf-8"))["pluginReports"]:
            for violation in pack["violations"]:
                for construct in violation["violatingConstructs"]:
                    place = construct["constructPath"].partition("/")[2]
                    yield Finding("cdk-nag", violation["ruleName"], place, violation["description"])


def cfn_lint(audited: Audited) -> Iterator[Finding]:
    """Lint every template for HealthImaging's Regions, informational rules included."""
    arguments = ManualArgs(regions=list(REGIONS), include_checks=["I"])
    for template in audited.templates.values():
        for match in lint(json.dumps(template), config=arguments):
            logical_id = str(match.path[1]) if match.path and match.path[0] == "Resources" else ""
            place = (
                construct_path(template, logical_id) if logical_id else "/".join(map(str, match.path or ["template"]))
            )
            yield Finding("cfn-lint", match.rule.id, place, match.message)


def checkov(audited: Audited) -> Iterator[Finding]:
    """Run Checkov's rules for CloudFormation over every template."""
    options = ["--framework=cloudformation", "--skip-download", "--quiet", "--compact", "--output=json"]
    command = [str(TOOLS / "checkov"), *options, "--file", *map(str, audited.templates)]
    report = _json(command, successes=(0, 1))
    if report["summary"]["parsing_errors"]:
        raise AuditError(f"checkov could not read {report['summary']['parsing_errors']} of the templates")
    for check in report["results"]["failed_checks"]:
        logical_id = check["resource"].rpartition(".")[2]
        place = construct_path(audited.templates[Path(check["file_abs_path"])], logical_id)
        yield Finding("checkov", check["check_id"], place, check["check_name"])


def parliament(audited: Audited) -> Iterator[Finding]:
    """Run parliament over every policy of every template, and over those that the documentation gives."""
    written: dict[str, str] = {}
    folder = audited.folder / "policies"
    folder.mkdir()
    documents = [each for template in audited.templates.values() for each in policies(template)]
    for page in POLICY_PAGES:
        documents += [(str(page.relative_to(PROJECT)), policy) for policy in documented_policies(page)]
    for number, (place, document) in enumerate(documents):
        path = folder / f"{number}.json"
        path.write_text(json.dumps(document), encoding="utf-8")
        written[str(path)] = place
    options = ["--include-community-auditors", "--minimum_severity=INFO", "--json"]
    command = [str(TOOLS / "parliament"), *options, "--directory", str(folder)]
    # A crash of parliament's has the same exit status as a finding.
    for line in _run(command, successes=(0, 1), silent_successes=(0,)).splitlines():
        found = json.loads(line)
        place = written[found["location"]["filepath"]]
        message = ": ".join(str(found[each]) for each in ("title", "detail") if found.get(each))
        yield Finding("parliament", found["issue"], place, message)


def documented_policies(page: Path) -> list[dict[str, Any]]:
    """Return the policies on a page of the documentation, with examples in the place of ``<region>`` and the like."""
    blocks = page.read_text(encoding="utf-8").split("```")[1::2]
    examples = (_PLACEHOLDER.sub(lambda found: _EXAMPLES.get(found[1], "example"), each) for each in blocks)
    parsed = [json.loads(each.removeprefix("json\n")) for each in examples if each.startswith("json\n")]
    found = [each for each in parsed if isinstance(each, dict) and "Statement" in each]
    if not found:
        raise AuditError(f"{page.relative_to(PROJECT)} no longer has a policy in a block marked json")
    return found


def bandit(_audited: Audited) -> Iterator[Finding]:
    """Run Bandit over the code of the functions, the stack, the local cloud and the smoke test."""
    code = [str(PROJECT / each) for each in CODE]
    report = _json([str(TOOLS / "bandit"), "--quiet", "--recursive", "--format", "json", *code], successes=(0, 1))
    if report["errors"]:
        raise AuditError(f"bandit could not read {report['errors']}")
    for result in report["results"]:
        place = Path(result["filename"]).relative_to(PROJECT).as_posix()
        yield Finding("bandit", result["test_id"], place, f"line {result['line_number']}: {result['issue_text']}")


def spectral(_audited: Audited) -> Iterator[Finding]:
    """Run Spectral's rules for OpenAPI and OWASP's for APIs over docs/openapi.json."""
    ruleset = PROJECT / "audit" / ".spectral.yaml"
    command = [str(SPECTRAL), "lint", "--quiet", "--ruleset", str(ruleset), "--format", "json", str(OPENAPI)]
    document = json.loads(OPENAPI.read_text(encoding="utf-8"))
    for result in _json(command, successes=(0, 1)):
        yield Finding("spectral", str(result["code"]), named_place(document, result["path"]), result["message"])


def named_place(document: Any, path: Sequence[str]) -> str:
    """Return a JSON path as text, with the name of each parameter in the place of its number."""
    steps = []
    for step in path:
        match document:
            case list() if str(step).isdigit() and int(step) < len(document):
                document = document[int(step)]
                steps.append(document.get("name", step) if isinstance(document, dict) else step)
            case _:
                document = document.get(step) if isinstance(document, dict) else None
                steps.append(step)
    return "/".join(str(each).strip("/") for each in steps)


AUDITORS: Mapping[str, Callable[[Audited], Iterator[Finding]]] = {
    "cdk-nag": cdk_nag,
    "cfn-lint": cfn_lint,
    "checkov": checkov,
    "parliament": parliament,
    "bandit": bandit,
    "spectral": spectral,
}


def _json(command: Sequence[str], successes: Sequence[int]) -> Any:
    output = _run(command, successes)
    try:
        return json.loads(output)
    except json.JSONDecodeError:
        raise AuditError(f"{Path(command[0]).name} wrote no JSON: {output[:500]}") from None


def _run(command: Sequence[str], successes: Sequence[int], silent_successes: Sequence[int] | None = None) -> str:
    """Return what a command writes to its standard output.

    Parameters
    ----------
    command : sequence of str
        The program and its arguments.
    successes : sequence of int
        Exit statuses with which it has done its work.
    silent_successes : sequence of int, optional
        Those of `successes` with which it may write nothing; all, unless given.

    Raises
    ------
    AuditError
        The command is not installed, or it failed.
    """
    try:
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise AuditError(f"{command[0]} is not installed: run make audit") from None
    expected = successes if done.stdout or silent_successes is None else silent_successes
    if done.returncode not in expected:
        raise AuditError(f"{Path(command[0]).name} failed with {done.returncode}:\n{done.stderr or done.stdout}")
    return done.stdout
