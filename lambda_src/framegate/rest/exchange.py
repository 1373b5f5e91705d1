"""A request being answered, and the log line and metrics that report it."""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

from aws_lambda_powertools.metrics import MetricUnit

from framegate import upstream_time
from framegate.observability import SERVICE, Metric, logger, metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from framegate.rest.http import HttpRequest, HttpResponse
    from framegate.time_budget import TimeBudget

    Handler = Callable[["Exchange"], HttpResponse]


@dataclass(slots=True)
class Exchange:
    """A request being answered.

    Attributes
    ----------
    request : HttpRequest
        The request.
    budget : TimeBudget
        Time until the answer.
    record : dict
        What the log line says about it, by field name: HealthImaging's identifiers, counts and kinds only.
    """

    request: HttpRequest
    budget: TimeBudget
    record: dict[str, str | int | float] = field(default_factory=dict)

    def report(self, status: int) -> None:
        """Write the log line and the metrics of the request."""
        record = self.record
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
            metrics.add_dimension("delivery", "dicom-json")
            metrics.add_metric(Metric.DATASETS, MetricUnit.Count, 1)
        else:
            metrics.add_dimension("delivery", "index")
            metrics.add_metric(Metric.INDEX_PAGES, MetricUnit.Count, 1)
        if waited_ms:
            metrics.add_metric(Metric.UPSTREAM_LATENCY, MetricUnit.Milliseconds, waited_ms)
        # The second set of dimensions covers all requests: CloudWatch cannot combine the percentiles of the first.
        metrics.add_dimensions(service=SERVICE)
        metrics.flush_metrics()
