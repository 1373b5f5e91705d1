"""The tasks of the state machine that works request manifests off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from framegate.entrypoints.export_parts import RETURN_TIME
from framegate.export.exporter import ExportOrder
from framegate.export.report import report_export, report_failure
from framegate.export.request_manifest import RequestManifests
from framegate.export.request_summary import RequestSummaries
from framegate.healthimaging.identifiers import ImageSetRef
from framegate.observability import logger
from framegate.problems import Problem
from framegate.time_budget import TimeBudget

if TYPE_CHECKING:
    from collections.abc import Mapping

    from framegate.export.exporter import Exporter
    from framegate.settings import ExportSettings
    from framegate.storage.object_store import ObjectStore


class RequestTasks:
    """Does tasks.

    Parameters
    ----------
    settings : ExportSettings
        Which data stores are served, and whether every export is verified.
    objects : ObjectStore
        Where request manifests are, and go to.
    exporter : Exporter
        What exports image sets.

    Notes
    -----
    Problems leave `do` as exceptions: Step Functions knows them by their class's name, and tries again.
    """

    def __init__(self, settings: ExportSettings, objects: ObjectStore, exporter: Exporter) -> None:
        self._settings = settings
        self._bucket = objects.bucket
        self._manifests = RequestManifests(objects, settings.datastore_ids)
        self._summaries = RequestSummaries(objects)
        self._exporter = exporter

    def do(self, task: Mapping[str, Any], remaining_ms: int) -> dict[str, Any]:
        """Do a task.

        Parameters
        ----------
        task : mapping
            Its name in ``task``, and what it needs.
        remaining_ms : int
            Milliseconds until Lambda ends the invocation.
        """
        logger.set_correlation_id(task.get("execution"))
        budget = TimeBudget(remaining_ms / 1000 - RETURN_TIME)
        try:
            match task["task"]:
                case "validate":
                    return self._validate(task, budget)
                case "export":
                    return self._export(task, budget)
                case "summarize":
                    return self._summarize(task, budget)
        except Problem as problem:
            report_failure(problem, task=task["task"])
            raise
        raise ValueError("The state machine and this function do not belong together.")

    def _validate(self, task: Mapping[str, Any], budget: TimeBudget) -> dict[str, Any]:
        checked = self._manifests.check(task["key"], task["execution"], budget)
        logger.info("manifest checked", extra={"accepted": checked.accepted, "rejected": checked.rejected})
        return {
            "prefix": checked.prefix,
            "accepted": self._lines(checked.accepted_key, checked.accepted),
            "rejected": self._lines(checked.rejected_key, checked.rejected),
            "request": {"bucket": self._bucket, "key": task["key"]},
        }

    def _lines(self, key: str, count: int) -> dict[str, Any]:
        return {"bucket": self._bucket, "key": key, "count": count}

    def _export(self, task: Mapping[str, Any], budget: TimeBudget) -> dict[str, Any]:
        """Export a line's frames, or some of them: then the answer is the next task."""
        request = task["request"]
        order = self._order(task["execution"], request, task["progress"])
        try:
            outcome = self._exporter.export(order, budget, last_attempt=task["final"])
        except Problem as problem:
            if not task["final"]:
                raise
            outcome = self._exporter.give_up(order, problem)
        report_export(outcome)
        if isinstance(outcome, ExportOrder):
            return {**task, "progress": outcome.progress, "done": False}
        return {"done": True, "result": {"line": request["line"], **outcome.to_json(self._bucket)}}

    def _order(self, execution: str, request: Mapping[str, Any], progress: str) -> ExportOrder:
        frame_ids = request.get("imageFrameIds")
        return ExportOrder(
            ImageSetRef(request["datastoreId"], request["imageSetId"]),
            f"{execution}-{request['line']}",
            request.get("versionId"),
            None if frame_ids is None else tuple(frame_ids),
            self._settings.verify or request.get("verify", False),
            progress or None,
        )

    def _summarize(self, task: Mapping[str, Any], budget: TimeBudget) -> dict[str, Any]:
        validated = task["input"]
        results = validated.get("results")
        summary = self._summaries.write(validated, results["ResultWriterDetails"]["Key"] if results else None, budget)
        logger.info("request worked off", extra={"exports": summary["exports"], "frames": summary["frames"]})
        return {"summary": {"bucket": self._bucket, "key": f"{validated['prefix']}/summary.json"}, **summary}
