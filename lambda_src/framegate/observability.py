"""The one logger, the one set of metrics, and the traces of calls to other services.

What is written here may be read by people who must not see patients: identifiers of HealthImaging, counts and times,
never a DICOM attribute, never bytes of a frame, never text that came with a request.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from aws_lambda_powertools import Logger, Metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aws_lambda_powertools import Tracer

NAMESPACE = "Framegate"

logger = Logger(service="framegate", location=None)
metrics = Metrics(namespace=NAMESPACE, service="framegate")


@cache
def tracer() -> Tracer:
    """The X-Ray tracer; its SDK takes 0.2 s to import, so only requests that are sampled load it.

    Nothing is patched: calls open their subsegments themselves, so that one lasts until the last byte of a body and
    not until its headers.
    """
    from aws_lambda_powertools import Tracer

    return Tracer(service="framegate", auto_patch=False)


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
