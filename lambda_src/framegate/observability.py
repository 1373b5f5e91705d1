"""The one logger, the one set of metrics, and the traces of calls to other services.

What is written here may be read by people who must not see patients: identifiers of HealthImaging, counts and times,
never a DICOM attribute, never bytes of a frame, never text that came with a request.
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
"""The deployment that log lines, metrics and traces are of."""


class Metric(StrEnum):
    """What is counted and measured. The dashboard and the alarms know it by these names."""

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
    """Count the start of an execution environment; to be called by every invocation.

    It is the cache that leaves out all invocations but the first. A snapshot is taken before that one, so a start from
    a snapshot counts like any other.

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
    """The X-Ray tracer; its SDK takes 0.2 s to import, so only requests that are sampled load it.

    Nothing is patched: calls open their subsegments themselves, so that one lasts until the last byte of a body and
    not until its headers.
    """
    from aws_lambda_powertools import Tracer

    return Tracer(service=SERVICE, auto_patch=False)


def stack_of(error: Exception) -> str:
    """Where an error happened, innermost first, but not its message: that may quote what came with the request."""
    frames = traceback.extract_tb(error.__traceback__)
    return " < ".join(f"{f.filename.rpartition('/')[2]}:{f.lineno} {f.name}" for f in reversed(frames))


@contextmanager
def subsegment(service: str, **annotations: str) -> Iterator[None]:
    """Record a call to another service as an X-Ray subsegment, where the invocation is sampled.

    Calls in threads are not recorded: X-Ray's context belongs to the thread of the handler, and thousands of frames
    would make a trace that nobody can read.

    Parameters
    ----------
    service : str
        The service's name, as it is to appear on the service map.
    **annotations : str
        Identifiers to find the trace by.

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
