"""Summarizes the results that Step Functions stored for the lines of a request manifest."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from framegate.bucket_layout import JSON_LINES, failed_key, summary_key
from framegate.export.manifest import decode_lines, encode_lines
from framegate.messages import ExportTask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from framegate.messages import ValidatedManifest
    from framegate.problems import Problem
    from framegate.storage.object_store import ObjectStore
    from framegate.time_budget import TimeBudget


class RequestSummaries:
    """Writes the summaries of request manifests.

    Parameters
    ----------
    objects : ObjectStore
        The bucket.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def write(self, validated: ValidatedManifest, results_manifest: str | None, budget: TimeBudget) -> dict[str, Any]:
        """Write ``summary.json``, and ``failed.jsonl`` with the failed lines, which can be submitted again.

        Parameters
        ----------
        validated : ValidatedManifest
            The request manifest after its validation.
        results_manifest : str or None
            The key of ``manifest.json``, which the Map state wrote; None if no line was accepted.
        budget : TimeBudget
            The time for it.

        Returns
        -------
        dict
            The summary.

        References
        ----------
        AWS Step Functions developer guide, "ResultWriter (Map)".
        """
        prefix = validated.prefix
        counts: Counter[str] = Counter()
        failed = encode_lines(self._failed_lines(results_manifest, counts, budget))
        self._objects.put(failed_key(prefix), JSON_LINES, failed, budget)
        instances = {name: counts[f"instances-{name}"] for name in ("copied", "present", "failed")}
        summary = {
            "request": validated.request,
            "lines": {
                "accepted": validated.accepted,
                "rejected": validated.rejected,
                "rejectedListed": validated.listed,
            },
            "exports": {name: counts[name] for name in ("completed", "failed")},
            "frames": {name: counts[f"frames-{name}"] for name in ("copied", "present", "failed")},
            "bytes": counts["bytes"],
            **({"instances": instances} if any(instances.values()) else {}),
            "rejected": self._place(validated.rejected_key, validated.rejected),
            "failed": self._place(failed_key(prefix), counts["failed"]),
            "results": self._place(results_manifest, 1) if results_manifest else None,
        }
        self._put(prefix, summary, budget)
        return summary

    def write_refusal(self, prefix: str, request: dict[str, str], problem: Problem, budget: TimeBudget) -> None:
        """Write the ``summary.json`` of a request manifest that is rejected as a whole.

        Parameters
        ----------
        prefix : str
            The key prefix of the manifest's results.
        request : dict
            The manifest's bucket and key.
        problem : Problem
            Why the manifest is rejected.
        budget : TimeBudget
            The time for it.
        """
        self._put(prefix, {"request": request, "problem": problem.slug, "detail": problem.description}, budget)

    def _put(self, prefix: str, summary: dict[str, Any], budget: TimeBudget) -> None:
        content = json.dumps(summary, indent=2).encode()
        self._objects.put(summary_key(prefix), "application/json", [content], budget)

    def _place(self, key: str, count: int) -> dict[str, str] | None:
        return {"bucket": self._objects.bucket, "key": key} if count else None

    def _failed_lines(
        self, results_manifest: str | None, counts: Counter[str], budget: TimeBudget
    ) -> Iterator[dict[str, Any]]:
        """Yield the failed requests, and count all results."""
        for record in self._records(results_manifest, budget) if results_manifest else ():
            result = json.loads(record["Output"]) if record["Status"] == "SUCCEEDED" else {}
            outcome = result.get("outcome", "failed")
            counts[outcome] += 1
            counts["bytes"] += result.get("bytes", 0)
            for name, number in result.get("frames", {}).items():
                counts[f"frames-{name}"] += number
            for name, number in result.get("instances", {}).items():
                counts[f"instances-{name}"] += number
            if outcome == "failed":
                yield ExportTask.request_of(json.loads(record["Input"]))

    def _records(self, results_manifest: str, budget: TimeBudget) -> Iterator[dict[str, Any]]:
        """The records that Step Functions stored for the execution of each line."""
        files = json.loads(b"".join(self._objects.read(results_manifest, budget)))["ResultFiles"]
        for kind in ("SUCCEEDED", "FAILED", "PENDING"):
            for file in files.get(kind, []):
                yield from decode_lines(self._objects.read(file["Key"], budget))
