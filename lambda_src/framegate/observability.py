"""The logger, the metrics, and the traces of calls to other services.

People who must not see patient data may read all of them. They hold identifiers of HealthImaging, counts and times, but
no DICOM attribute, no bytes of a frame, and no text that came with a request.
"""

from __future__ import annotations

import os
import threading
import traceback
from contextlib import contextmanager
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit, single_metric

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aws_lambda_powertools import Tracer

NAMESPACE = "Framegate"

SERVICE = os.environ.get("POWERTOOLS_SERVICE_NAME", "framegate")
"""The name of the deployment in log lines, metrics and traces."""


class Metric(StrEnum):
    """The names of the metrics, which the dashboard and the alarms use, too."""

    FRAMES = "Frames"
    FRAME_BYTES = "FrameBytes"
    INDEX_PAGES = "IndexPages"
    ERRORS = "Errors"
    UPSTREAM_LATENCY = "UpstreamLatency"
    COLD_STARTS = "ColdStarts"
    EXPORTS_COMPLETED = "ExportsCompleted"
    EXPORTS_FAILED = "ExportsFailed"
    EXPORT_RETRIES = "ExportRetries"
    FRAMES_COPIED = "FramesCopied"
    FRAMES_PRESENT = "FramesPresent"
    FRAMES_FAILED = "FramesFailed"
    EXPORTED_BYTES = "ExportedBytes"


logger = Logger(service=SERVICE, location=None)
metrics = Metrics(namespace=NAMESPACE, service=SERVICE)


@cache
def count_cold_start(handler: str) -> None:
    """Count the start of an execution environment. Every invocation calls this.

    The cache skips all invocations but the first. Lambda takes snapshots before the first invocation, so a start from a
    snapshot counts like any other.

    Parameters
    ----------
    handler : str
        The module of the function's handler.
    """
    with single_metric(Metric.COLD_STARTS, MetricUnit.Count, 1, namespace=NAMESPACE) as metric:
        metric.add_dimension("service", SERVICE)
        metric.add_dimension("handler", handler)


@cache
def tracer() -> Tracer:
    """Return the X-Ray tracer. Only sampled requests load it, because its SDK takes 0.2 s to import.

    The tracer patches no library. Calls open their subsegments themselves, so that a subsegment lasts until the last
    byte of the body rather than until the headers.
    """
    from aws_lambda_powertools import Tracer

    return Tracer(service=SERVICE, auto_patch=False)


def stack_of(error: Exception) -> str:
    """Return where an error happened, innermost first. Its message is left out, because it may quote the request."""
    frames = traceback.extract_tb(error.__traceback__)
    return " < ".join(f"{f.filename.rpartition('/')[2]}:{f.lineno} {f.name}" for f in reversed(frames))


@contextmanager
def subsegment(service: str, **annotations: str) -> Iterator[None]:
    """Record a call to another service as an X-Ray subsegment if the invocation is sampled.

    Calls in other threads are not recorded: X-Ray's context belongs to the handler's thread, and thousands of frames
    would make the trace unreadable.

    Parameters
    ----------
    service : str
        The service's name on the service map.
    **annotations : str
        Identifiers by which to find the trace.

    References
    ----------
    AWS X-Ray developer guide, "Tracing header": ``Sampled=1``.
    """
    sampled = "Sampled=1" in os.environ.get("_X_AMZN_TRACE_ID", "")
    if not sampled or threading.current_thread() is not threading.main_thread():
        yield
        return
    with tracer().provider.in_subsegment(service, namespace="remote") as segment:
        for key, value in annotations.items():
            segment.put_annotation(key, value)
        yield
