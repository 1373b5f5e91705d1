"""Runs the tasks of the state machine for request manifests."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from framegate.bucket_layout import summary_key
from framegate.export.invocation import work_budget
from framegate.export.report import report_export, report_failure
from framegate.export.request_manifest import RequestManifests, prefix_of_results
from framegate.export.request_summary import RequestSummaries
from framegate.messages import (
    OUTPUTS,
    ExportOrder,
    ExportTask,
    ObjectLocation,
    SummarizeTask,
    ValidatedManifest,
    ValidateTask,
)
from framegate.observability import logger
from framegate.problems import InvalidRequestManifest, Problem

if TYPE_CHECKING:
    from framegate.export.exporter import Exporter
    from framegate.messages import Task
    from framegate.settings import ExportSettings
    from framegate.storage.object_store import ObjectStore
    from framegate.time_budget import TimeBudget


class RequestTasks:
    """Runs the tasks of request manifests.

    Parameters
    ----------
    settings : ExportSettings
        The data stores that are served, and whether every export is verified.
    objects : ObjectStore
        The bucket with the request manifests and their results.
    exporter : Exporter
        Exports image sets.

    Notes
    -----
    Problems leave `do` as exceptions. Step Functions recognizes them by the names of their classes, and retries.
    """

    def __init__(self, settings: ExportSettings, objects: ObjectStore, exporter: Exporter) -> None:
        self._settings = settings
        self._bucket = objects.bucket
        self._manifests = RequestManifests(
            objects, settings.datastore_ids, OUTPUTS if settings.output == "dicom" else ("frames",)
        )
        self._summaries = RequestSummaries(objects)
        self._exporter = exporter

    def do(self, task: Task, remaining_ms: int) -> dict[str, Any]:
        """Run a task.

        Parameters
        ----------
        task : ValidateTask, ExportTask or SummarizeTask
            The task.
        remaining_ms : int
            Milliseconds until Lambda ends the invocation.

        Returns
        -------
        dict
            The answer to the state machine, as JSON.

        Raises
        ------
        Problem
            If the work failed. The log says why.
        """
        budget = work_budget(remaining_ms)
        try:
            match task:
                case ValidateTask():
                    return self._validate(task, budget)
                case ExportTask():
                    return self._export(task, budget)
                case SummarizeTask():
                    return self._summarize(task, budget)
        except InvalidRequestManifest as problem:
            logger.error("request manifest rejected", extra={"problem": problem.slug, "reason": problem.description})
            raise
        except Problem as problem:
            report_failure(problem, task=task.TASK)
            raise

    def _validate(self, task: ValidateTask, budget: TimeBudget) -> dict[str, Any]:
        prefix = prefix_of_results(task.key, task.execution)
        try:
            checked = self._manifests.check(task.key, task.execution, budget)
        except InvalidRequestManifest as problem:
            request = ObjectLocation(self._bucket, task.key)
            self._summaries.write_refusal(prefix, request.to_json(), problem, budget)
            raise
        logger.info("manifest checked", extra={"accepted": checked.accepted, "rejected": checked.rejected})
        return ValidatedManifest(
            self._bucket,
            task.key,
            checked.prefix,
            checked.accepted_key,
            checked.accepted,
            checked.rejected_key,
            checked.rejected,
            checked.listed,
        ).to_json()

    def _export(self, task: ExportTask, budget: TimeBudget) -> dict[str, Any]:
        """Export a line's frames; if the time is not enough for all, the answer is the next task."""
        order = task.order(verify=self._settings.verify)
        try:
            outcome = self._exporter.export(order, budget, last_attempt=task.final)
        except Problem as problem:
            if not task.final:
                raise
            outcome = self._exporter.give_up(order, problem)
        report_export(outcome)
        if isinstance(outcome, ExportOrder):
            return {**replace(task, progress=outcome.progress).to_json(), "done": False}
        return {"done": True, "result": {"line": task.line, **outcome.announcement(self._bucket).to_json()}}

    def _summarize(self, task: SummarizeTask, budget: TimeBudget) -> dict[str, Any]:
        summary = self._summaries.write(task.validated, task.map_manifest, budget)
        logger.info("request worked off", extra={"exports": summary["exports"], "frames": summary["frames"]})
        return {"summary": ObjectLocation(self._bucket, summary_key(task.validated.prefix)).to_json(), **summary}
