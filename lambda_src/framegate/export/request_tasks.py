"""The tasks of the state machine that works request manifests off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from framegate.entrypoints.export_parts import RETURN_TIME
from framegate.export.exporter import ExportOrder
from framegate.export.report import report_export, report_failure
from framegate.export.request_manifest import RequestManifests, prefix_of_results
from framegate.export.request_summary import RequestSummaries
from framegate.identifiers import ImageSetRef
from framegate.observability import logger
from framegate.problems import InvalidRequestManifest, Problem
from framegate.time_budget import TimeBudget

if TYPE_CHECKING:
    from collections.abc import Mapping

    from framegate.export.exporter import Exporter
    from framegate.settings import ExportSettings
    from framegate.storage.object_store import ObjectStore


class UnknownTaskError(ValueError):
    """The task is none that this release knows."""


class RequestTasks:
    """Runs the tasks of request manifests.

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

        Raises
        ------
        Problem
            The work failed, and the log says why.
        UnknownTaskError
            It is not one of these tasks.
        """
        name = task.get("task")
        budget = TimeBudget(remaining_ms / 1000 - RETURN_TIME)
        try:
            match name:
                case "validate":
                    return self._validate(task, budget)
                case "export":
                    return self._export(task, budget)
                case "summarize":
                    return self._summarize(task, budget)
        except InvalidRequestManifest as problem:
            logger.error("manifest refused", extra={"problem": problem.slug, "reason": problem.detail})
            raise
        except Problem as problem:
            report_failure(problem, task=name)
            raise
        raise UnknownTaskError("The state machine and this function do not belong together.")

    def _validate(self, task: Mapping[str, Any], budget: TimeBudget) -> dict[str, Any]:
        prefix = prefix_of_results(task["key"], task["execution"])
        request = {"bucket": self._bucket, "key": task["key"]}
        try:
            checked = self._manifests.check(task["key"], task["execution"], budget)
        except InvalidRequestManifest as problem:
            self._summaries.write_refusal(prefix, request, problem, budget)
            raise
        logger.info("manifest checked", extra={"accepted": checked.accepted, "rejected": checked.rejected})
        return {
            "prefix": checked.prefix,
            "accepted": self._lines(checked.accepted_key, checked.accepted),
            "rejected": {**self._lines(checked.rejected_key, checked.rejected), "listed": checked.listed},
            "request": request,
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
