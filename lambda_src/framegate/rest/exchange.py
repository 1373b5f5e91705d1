"""A request being answered, and the audit records, log line and metrics that report it."""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.metrics import MetricUnit

from framegate import upstream_time
from framegate.access.audit import Stage
from framegate.access.caller import NOBODY
from framegate.observability import SERVICE, Metric, logger, metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from framegate.access.audit import Access
    from framegate.access.caller import Caller
    from framegate.rest.http import HttpRequest, HttpResponse
    from framegate.time_budget import TimeBudget

    Handler = Callable[["Exchange"], HttpResponse]

_DELIVERY_BY_STATUS: dict[int, str] = {HTTPStatus.NOT_MODIFIED: "not-modified", HTTPStatus.SEE_OTHER: "url"}
"""How a response without a frame in the record delivers what it describes."""


@dataclass(slots=True)
class Exchange:
    """A request being answered.

    Attributes
    ----------
    request : HttpRequest
        The request.
    budget : TimeBudget
        Time until the answer.
    access : Access
        Who sends the request, for the audit record.
    record : dict
        What the log line says about it, by field name: HealthImaging's identifiers, counts and kinds only.
    caller : Caller
        Who sends it.
    subjects : list of dict
        Where their audit records differ, by field name, if a request may read several image sets.
    """

    request: HttpRequest
    budget: TimeBudget
    access: Access
    record: dict[str, str | int | float] = field(default_factory=dict)
    caller: Caller = NOBODY
    subjects: list[dict[str, str | int | float]] = field(default_factory=list)
    _has_begun: bool = field(default=False, init=False)

    def begin_read(self) -> None:
        """Write the audit record of a read that is about to start. A handler calls this before it reads anything."""
        self._has_begun = True
        self._audit(Stage.REQUEST, self.record)

    def report(self, response: HttpResponse) -> None:
        """Write the audit record, the log line and the metrics of the answered request."""
        record, status = self.record, response.status
        self._audit(Stage.ANSWER, {**record, **self._result(response)})
        waited_ms = round(upstream_time.waited_ms(), 1)
        logger.set_correlation_id(self.request.request_id)
        log = logger.error if status >= HTTPStatus.INTERNAL_SERVER_ERROR else logger.info
        log(
            "request answered",
            extra={"route": self.request.route, "status": int(status), **record, "upstream_ms": waited_ms},
        )
        if status >= HTTPStatus.BAD_REQUEST:
            metrics.add_dimension("status", str(int(status)))
            metrics.add_metric(Metric.ERRORS, MetricUnit.Count, 1)
        elif "delivery" in record:
            metrics.add_dimension("delivery", str(record["delivery"]))
            metrics.add_metric(Metric.FRAMES, MetricUnit.Count, 1)
            metrics.add_metric(Metric.FRAME_BYTES, MetricUnit.Bytes, int(record["bytes"]))
        elif "datasets_bytes" in record:
            metrics.add_dimension("delivery", self._kind)
            metrics.add_metric(Metric.DATASETS, MetricUnit.Count, 1)
        else:
            metrics.add_dimension("delivery", self._kind)
            metrics.add_metric(Metric.INDEX_PAGES, MetricUnit.Count, 1)
        if waited_ms:
            metrics.add_metric(Metric.UPSTREAM_LATENCY, MetricUnit.Milliseconds, waited_ms)
        # The second set of dimensions covers all requests: CloudWatch cannot combine the percentiles of the first.
        metrics.add_dimensions(service=SERVICE)
        metrics.flush_metrics()

    def _audit(self, stage: Stage, record: Mapping[str, str | int | float]) -> None:
        """Write a record for each image set that is read. Only the first has the bytes, so that sums are right."""
        subjects = self.subjects if self._has_begun else []
        for number, subject in enumerate(subjects or [{}]):
            self.access.write(stage, {**record, **subject, **({"bytes": 0} if number and "bytes" in record else {})})

    @property
    def _kind(self) -> str:
        """What a response delivers that has no frame."""
        return "dicom-json" if "datasets_bytes" in self.record else "index"

    def _result(self, response: HttpResponse) -> dict[str, str | int]:
        """What the response delivers, for the audit record."""
        status = int(response.status)
        if status >= HTTPStatus.BAD_REQUEST:
            return {"status": status, "bytes": 0}
        delivery = _DELIVERY_BY_STATUS.get(status, self._kind)
        return {"delivery": delivery, "bytes": response.body_bytes, **_delivered(self.record), "status": status}


def _delivered(record: Mapping[str, str | int | float]) -> dict[str, Any]:
    """What a frame's handler has recorded about the delivery; nothing for an index."""
    return {name: record[name] for name in ("delivery", "bytes") if name in record}
