"""The function that does the tasks of the state machine for request manifests."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from framegate.entrypoints.export_parts import ExportParts
from framegate.export.request_tasks import RequestTasks
from framegate.observability import count_cold_start

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


@cache
def _tasks() -> RequestTasks:
    parts = ExportParts.from_environment()
    return RequestTasks(parts.settings, parts.objects, parts.exporter)


def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Do one task: ``validate`` a manifest, ``export`` one line of it, or ``summarize``."""
    count_cold_start("export_requests")
    return _tasks().do(event, context.get_remaining_time_in_millis())
