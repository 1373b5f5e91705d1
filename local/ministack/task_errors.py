"""What becomes of a handler that raises: the name that its error goes by, and the function's next invocation.

MiniStack calls whatever a handler raises ``Runtime.HandlerError``, and a throttled call ``Lambda.Unknown``. On AWS the
one goes by the name of the exception's class, the other is ``Lambda.TooManyRequestsException``: ``Retry`` and ``Catch``
of a state machine look for these. And MiniStack starts a function anew after an error, where AWS goes on with the same
execution environment, and with what it holds in memory.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from ministack.core import lambda_runtime  # type: ignore[import-not-found]
from ministack.services import lambda_svc, stepfunctions  # type: ignore[import-not-found]

_invoke_worker = lambda_runtime.Worker.invoke
_execute_function_warm = lambda_svc._execute_function_warm
_call_lambda = stepfunctions._call_lambda

# What the worker answers when a handler raises: its message, not its class. To another status than this, no end of the
# worker follows.
_ANSWER = '"status": "error", "error": str(e), "trace"'
_ANSWER_WITH_TYPE = '"status": "ok", "raised": type(e).__name__, "error": str(e), "trace"'

_error_type: ContextVar[str | None] = ContextVar("error_type", default=None)


def extend() -> None:
    """Let failed tasks go by the names that AWS gives them."""
    if _ANSWER not in lambda_runtime._PYTHON_WORKER_SCRIPT:
        raise RuntimeError("This MiniStack's worker is not the one that local.ministack was written for")
    lambda_runtime._PYTHON_WORKER_SCRIPT = lambda_runtime._PYTHON_WORKER_SCRIPT.replace(_ANSWER, _ANSWER_WITH_TYPE)
    lambda_runtime.Worker.invoke = invoke_worker
    lambda_svc._execute_function_warm = execute_function_warm
    stepfunctions._call_lambda = call_lambda


def invoke_worker(worker: Any, *arguments: Any, **options: Any) -> Any:
    """Invoke a function's worker, and keep the name of what its handler raised."""
    answer = _invoke_worker(worker, *arguments, **options)
    if "raised" in answer:
        answer["status"] = "error"
    _error_type.set("Runtime.ExitError" if answer.get("error") == "Worker process died" else answer.get("raised"))
    return answer


def execute_function_warm(function: Any, event: Any, request_id: str) -> Any:
    """Run a function; its error goes by the name that was kept."""
    _error_type.set(None)
    result = _execute_function_warm(function, event, request_id)
    name = _error_type.get()
    if result.get("error") and name is not None:
        result["body"]["errorType"] = name
    return result


def call_lambda(function: str, event: Any) -> Any:
    """Invoke a function for a state."""
    try:
        return _call_lambda(function, event)
    except stepfunctions._ExecutionError as error:
        if error.error == "Lambda.Unknown" and "TooManyRequestsException" in error.cause:
            raise stepfunctions._ExecutionError("Lambda.TooManyRequestsException", error.cause) from None
        raise
