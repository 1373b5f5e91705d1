"""The logger, the metrics, and the traces of calls to other services.

Logs, metrics and traces contain HealthImaging's identifiers, counts and times. They never contain a DICOM attribute,
bytes of a frame, or text that came with a request: their readers may not be allowed to see patient data.
"""

from __future__ import annotations

import threading
import traceback
from contextlib import contextmanager
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit, single_metric

from framegate.settings import LoggingSettings, is_sampled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aws_lambda_powertools import Tracer

NAMESPACE = "Framegate"

_SETTINGS = LoggingSettings.from_environment()

SERVICE = _SETTINGS.service
"""Name of the deployment, in every log line, metric and trace."""


class Metric(StrEnum):
    """The metrics of Framegate's code; the dashboard and the alarms use these names."""

    FRAMES = "Frames"
    FRAME_BYTES = "FrameBytes"
    INDEX_PAGES = "IndexPages"
    DATASETS = "Datasets"
    ERRORS = "Errors"
    UPSTREAM_LATENCY = "UpstreamLatency"
    AUTHORIZATION_LATENCY = "AuthorizationLatency"
    COLD_STARTS = "ColdStarts"
    EXPORTS_COMPLETED = "ExportsCompleted"
    EXPORTS_FAILED = "ExportsFailed"
    EXPORT_RETRIES = "ExportRetries"
    FRAMES_COPIED = "FramesCopied"
    FRAMES_PRESENT = "FramesPresent"
    FRAMES_FAILED = "FramesFailed"
    EXPORTED_BYTES = "ExportedBytes"


logger = Logger(service=SERVICE, level=_SETTINGS.level, location=None)
metrics = Metrics(namespace=NAMESPACE, service=SERVICE)


@cache
def count_cold_start(handler: str) -> None:
    """Count the start of an execution environment. Every invocation calls this.

    The cache skips all invocations but the first. Lambda takes a snapshot before the first invocation, so a start from
    a snapshot is counted too.

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
    """Return the X-Ray tracer. Its SDK takes 0.2 s to import, so only sampled requests load it.

    It patches no library. Calls open their subsegments themselves, so that a subsegment ends with the last byte of the
    body, not with the headers.
    """
    from aws_lambda_powertools import Tracer

    return Tracer(service=SERVICE, auto_patch=False)


def stack_of(error: Exception) -> str:
    """Return where an error happened, innermost frame first, without its message, which may quote the request."""
    frames = traceback.extract_tb(error.__traceback__)
    return " < ".join(f"{f.filename.rpartition('/')[2]}:{f.lineno} {f.name}" for f in reversed(frames))


@contextmanager
def subsegment(service: str, **annotations: str) -> Iterator[None]:
    """Record a call to another service as an X-Ray subsegment, if the invocation is sampled.

    Calls in other threads are not recorded: X-Ray's context belongs to the handler's thread, and a trace of thousands
    of frames would be unreadable.

    Parameters
    ----------
    service : str
        The service's name on the service map.
    **annotations : str
        Identifiers to find the trace by.
    """
    if not is_sampled() or threading.current_thread() is not threading.main_thread():
        yield
        return
    with tracer().provider.in_subsegment(service, namespace="remote") as segment:
        for key, value in annotations.items():
            segment.put_annotation(key, value)
        yield
