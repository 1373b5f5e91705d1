"""Reports the exception of a handler as AWS does, and keeps its execution environment.

MiniStack reports every exception as ``Runtime.HandlerError``, and a throttled call as ``Lambda.Unknown``. AWS reports
the exception's class name and ``Lambda.TooManyRequestsException``, which ``Retry`` and ``Catch`` of a state machine
match. After an error, MiniStack starts a new execution environment; AWS keeps the old one and its memory.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from ministack.core import lambda_runtime  # type: ignore[import-not-found]
from ministack.services import lambda_svc, stepfunctions  # type: ignore[import-not-found]

from local.ministack.patching import MiniStackChangedError, Patches

if TYPE_CHECKING:
    from collections.abc import Callable

WHY = "MiniStack does not report which exception a handler raised"

# The worker's response when a handler raises. It lacks the exception's class, and its status makes MiniStack stop the
# worker.
_ANSWER = '"status": "error", "error": str(e), "trace"'
_ANSWER_WITH_TYPE = '"status": "ok", "raised": type(e).__name__, "error": str(e), "trace"'

_error_type: ContextVar[str | None] = ContextVar("error_type", default=None)


class WorkerPatches(Patches):
    """The replacements of this module, and a change to the script that runs a function."""

    def apply(self) -> None:
        """Put every replacement in place, and change the script."""
        script = lambda_runtime._PYTHON_WORKER_SCRIPT
        if _ANSWER not in script:
            raise MiniStackChangedError(f"MiniStack's worker script has changed. Review {__name__}, because {WHY}")
        lambda_runtime._PYTHON_WORKER_SCRIPT = script.replace(_ANSWER, _ANSWER_WITH_TYPE)
        super().apply()


patches = WorkerPatches()


@patches.replaces(lambda_runtime.Worker, "invoke", digest="96751a754710", why=WHY)
def invoke_worker(original: Callable[..., Any], worker: Any, *arguments: Any, **options: Any) -> Any:
    """Invoke a function's worker, and remember the name of the exception that its handler raised."""
    answer = original(worker, *arguments, **options)
    if "raised" in answer:
        answer["status"] = "error"
    _error_type.set("Runtime.ExitError" if answer.get("error") == "Worker process died" else answer.get("raised"))
    return answer


@patches.replaces(lambda_svc, "_execute_function_warm", digest="62b9218bef5b", why=WHY)
def execute_function_warm(original: Callable[..., Any], function: Any, event: Any, request_id: str) -> Any:
    """Run a function, and report the remembered name as the type of its error."""
    _error_type.set(None)
    result = original(function, event, request_id)
    name = _error_type.get()
    if result.get("error") and name is not None:
        result["body"]["errorType"] = name
    return result


@patches.replaces(
    stepfunctions, "_call_lambda", digest="25830369b126", why="MiniStack calls a throttled task Lambda.Unknown"
)
def call_lambda(original: Callable[..., Any], function: str, event: Any) -> Any:
    """Invoke a function for a state."""
    try:
        return original(function, event)
    except stepfunctions._ExecutionError as error:
        if error.error == "Lambda.Unknown" and "TooManyRequestsException" in error.cause:
            raise stepfunctions._ExecutionError("Lambda.TooManyRequestsException", error.cause) from None
        raise
