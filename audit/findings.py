"""What auditors find, what we accept of it, and the difference between the two: pure, no I/O."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


class AuditError(Exception):
    """The audit cannot be completed: an auditor failed, or accepted.toml is wrong."""


@dataclass(frozen=True, order=True)
class Finding:
    """One rule that one place breaks.

    Parameters
    ----------
    auditor : str
        The tool, such as ``checkov``.
    rule : str
        The tool's own name of the rule, such as ``CKV_AWS_116``.
    place : str
        The construct path of a resource, the path of a source file, or the JSON path in the OpenAPI document.
    message : str
        What the tool says, for the reader; it does not distinguish findings.
    """

    auditor: str
    rule: str
    place: str
    message: str = ""

    @property
    def name(self) -> str:
        """The auditor and the rule, as accepted.toml writes them."""
        return f"{self.auditor} {self.rule}"


@dataclass(frozen=True)
class Acceptance:
    """Findings that we accept for one reason.

    Parameters
    ----------
    rules : tuple of str
        Names of the findings: auditor and rule.
    places : tuple of str
        Shell-style patterns (:mod:`fnmatch`) of the places at which the rules may be broken.
    reason : str
        Why the findings are accepted.
    """

    rules: tuple[str, ...]
    places: tuple[str, ...]
    reason: str

    def covers(self, finding: Finding) -> bool:
        """Return whether the finding is accepted here."""
        return finding.name in self.rules and any(fnmatchcase(finding.place, place) for place in self.places)


@dataclass(frozen=True)
class Verdict:
    """The result of an audit.

    Parameters
    ----------
    unknown : tuple of Finding
        Findings that no acceptance covers.
    stale : tuple of str
        Sentences about rules and places of acceptances that no finding needs any more.
    """

    unknown: tuple[Finding, ...]
    stale: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether what was found is exactly what was accepted."""
        return not self.unknown and not self.stale


def accepted_findings(text: str) -> list[Acceptance]:
    """Read accepted.toml.

    Parameters
    ----------
    text : str
        Tables ``[[accepted]]`` with ``rules``, ``places`` and ``reason``.

    Raises
    ------
    AuditError
        A table has other members than these, one is empty, or two tables accept the same rule at the same place.
    """
    try:
        tables = tomllib.loads(text).get("accepted", [])
    except tomllib.TOMLDecodeError as error:
        raise AuditError(f"accepted.toml: {error}") from None
    acceptances = [_acceptance(table) for table in tables]
    pairs = [(rule, place) for each in acceptances for rule in each.rules for place in each.places]
    repeated = sorted({f"{rule} at {place}" for rule, place in pairs if pairs.count((rule, place)) > 1})
    if repeated:
        raise AuditError(f"accepted.toml: accepted more than once: {', '.join(repeated)}")
    return acceptances


def _acceptance(table: dict[str, object]) -> Acceptance:
    if set(table) != {"rules", "places", "reason"} or not all(table.values()):
        raise AuditError(f"accepted.toml: a table needs rules, places and a reason, and nothing else: {table}")
    rules, places, reason = table["rules"], table["places"], table["reason"]
    if not (isinstance(rules, list) and isinstance(places, list) and isinstance(reason, str) and reason.strip()):
        raise AuditError(f"accepted.toml: rules and places are lists, the reason is a text: {table}")
    return Acceptance(tuple(map(str, rules)), tuple(map(str, places)), reason.strip())


def compare(findings: Iterable[Finding], acceptances: Collection[Acceptance]) -> Verdict:
    """Compare what was found with what is accepted.

    Parameters
    ----------
    findings : iterable of Finding
        Everything that every auditor found.
    acceptances : collection of Acceptance
        Everything that accepted.toml accepts.
    """
    found = sorted(set(findings))
    unknown = tuple(each for each in found if not any(acceptance.covers(each) for acceptance in acceptances))
    return Verdict(unknown, tuple(line for acceptance in acceptances for line in _stale(acceptance, found)))


def _stale(acceptance: Acceptance, found: list[Finding]) -> list[str]:
    covered = [each for each in found if acceptance.covers(each)]
    rules = set(acceptance.rules) - {each.name for each in covered}
    places = {place for place in acceptance.places if not any(fnmatchcase(each.place, place) for each in covered)}
    return [
        *(f"{rule} no longer occurs at {' or '.join(acceptance.places)}" for rule in sorted(rules)),
        *(f"nothing is found at {place} for {' or '.join(acceptance.rules)}" for place in sorted(places)),
    ]
