"""Writes the log lines and metrics of the export functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.metrics import MetricUnit

from framegate.messages import ExportOrder
from framegate.observability import Metric, logger, metrics, stack_of
from framegate.problems import InternalError

if TYPE_CHECKING:
    from framegate.export.exporter import ExportResult
    from framegate.identifiers import ImageSetRef
    from framegate.problems import Problem


def identifiers(image_set: ImageSetRef) -> dict[str, Any]:
    """The log fields that identify an image set."""
    return {"datastore_id": image_set.datastore_id, "image_set_id": image_set.image_set_id}


def report_export(outcome: ExportResult | ExportOrder) -> None:
    """Log and count an export that has ended, or log that the next invocation continues it."""
    if isinstance(outcome, ExportOrder):
        logger.info("export continues", extra={**identifiers(outcome.image_set), "export_id": outcome.export_id})
        return
    record = {**identifiers(outcome.order.image_set), "export_id": outcome.order.export_id}
    if outcome.problem:
        record |= {"problem": outcome.problem.slug, **outcome.problem.evidence}
    record |= {"frames": outcome.frames, "bytes": outcome.total_bytes, "missing": outcome.missing}
    log = logger.info if outcome.completed else logger.error
    log("export completed" if outcome.completed else "export failed", extra=record)
    metrics.add_metric(Metric.EXPORTS_COMPLETED if outcome.completed else Metric.EXPORTS_FAILED, MetricUnit.Count, 1)
    for name, count in outcome.frames.items():
        metrics.add_metric(Metric(f"Frames{name.capitalize()}"), MetricUnit.Count, count)
    metrics.add_metric(Metric.EXPORTED_BYTES, MetricUnit.Bytes, outcome.total_bytes)
    metrics.flush_metrics()


class UnforeseenError(Exception):
    """Replaces an unexpected error, and carries only the name of its class.

    Lambda logs each exception that leaves a handler, and Step Functions stores it. The message of the original error
    may quote data of the work, so it must not leave the handler.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(type(error).__name__)


def report_failure(problem: Problem, **record: Any) -> None:
    """Log and count work that failed with a problem and will be retried."""
    logger.error("work failed, will be retried", extra={**record, **problem.log_fields})
    _count_retry()


def report_unforeseen(error: Exception, **record: Any) -> UnforeseenError:
    """Log and count an unexpected error; return the error to raise in its place."""
    place = {"error": type(error).__name__, "stack": stack_of(error)}
    logger.error("work failed, will be retried", extra={**record, "problem": InternalError.slug, **place})
    _count_retry()
    return UnforeseenError(error)


def report_not_understood(what: str, reason: str, **record: Any) -> None:
    """Log and count a message, task or event of unknown form."""
    logger.error(f"{what} not understood", extra={**record, "reason": reason})
    _count_retry()


def _count_retry() -> None:
    metrics.add_metric(Metric.EXPORT_RETRIES, MetricUnit.Count, 1)
    metrics.flush_metrics()
