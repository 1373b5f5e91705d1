"""The function that runs the tasks of the state machine for request manifests."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from framegate.entrypoints.export_parts import ExportParts
from framegate.export.report import report_not_understood, report_unforeseen
from framegate.export.request_tasks import RequestTasks
from framegate.messages import UnknownTaskError, decode_task
from framegate.observability import count_cold_start, logger
from framegate.problems import Problem
from framegate.settings import ExportSettings

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


@cache
def _tasks() -> RequestTasks:
    parts = ExportParts.build(ExportSettings.from_environment())
    return RequestTasks(parts.settings, parts.objects, parts.exporter)


def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Run one task: validate a request manifest, export one of its lines, or summarize its results.

    Raises
    ------
    Problem
        If the work failed. The log says why. Step Functions retries most problems, by the name of their class.
    UnknownTaskError
        If the event is not a task.
    UnforeseenError
        If anything else went wrong: the function could not be set up, or it has a fault.
    """
    count_cold_start("export_requests")
    task = event if isinstance(event, dict) else {}
    logger.set_correlation_id(task.get("execution"))
    try:
        return _tasks().do(decode_task(task), context.get_remaining_time_in_millis())
    except Problem:
        raise
    except UnknownTaskError as error:
        report_not_understood("task", str(error))
        raise
    except Exception as error:
        raise report_unforeseen(error, task=task.get("task")) from None
