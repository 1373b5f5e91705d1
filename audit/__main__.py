"""``make audit``: runs every auditor and compares what they find with audit/accepted.toml."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from audit.auditors import AUDITORS, synthesize
from audit.findings import AuditError, Finding, accepted_findings, compare

ACCEPTED = Path(__file__).resolve().parent / "accepted.toml"


def main() -> None:
    """Print a line for each auditor and the verdict in the last one; exit with 1 unless the audit passed."""
    try:
        acceptances = accepted_findings(ACCEPTED.read_text(encoding="utf-8"))
        findings: set[Finding] = set()
        with tempfile.TemporaryDirectory() as folder:
            audited = synthesize(Path(folder))
            for name, audit in AUDITORS.items():
                found = set(audit(audited))
                print(f"{name:<12}{len({(each.rule, each.place) for each in found}):>4} findings", flush=True)
                findings |= found
    except AuditError as error:
        sys.exit(f"Audit failed: {error}")

    verdict = compare(findings, acceptances)
    for finding in verdict.unknown:
        print(f"new: {finding.name} at {finding.place}\n     {finding.message}")
    for line in verdict.stale:
        print(f"outdated: {line}")
    if not verdict.passed:
        sys.exit(
            f"Audit failed: {len(verdict.unknown)} findings are not in audit/accepted.toml, "
            f"{len(verdict.stale)} lines of it are outdated."
        )
    print(f"Audit passed: {len(AUDITORS)} auditors; every finding is explained in audit/accepted.toml.")


if __name__ == "__main__":
    main()
