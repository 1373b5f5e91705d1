"""Errors of botocore's clients as problems of ours."""

from __future__ import annotations

from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from framegate.problems import Problem, Throttled, UpstreamFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

_THROTTLING_CODES = {
    "SlowDown",
    "RequestLimitExceeded",
    "RequestThrottled",
    "ThrottlingException",
    "KMS.ThrottlingException",
}


@contextmanager
def botocore_problems(service: str) -> Iterator[None]:
    """Raise a `Throttled` or `UpstreamFailed` of that service for an error of botocore."""
    try:
        yield
    except ClientError as error:
        raise refusal(service, error.operation_name, status_of(error), code_of(error)) from None
    except BotoCoreError as error:
        # Timeouts and broken connections, after botocore's own retries.
        problem = UpstreamFailed(service, "could not be reached")
        problem.evidence = {"upstream_error": type(error).__name__}
        raise problem from None


def refusal(service: str, operation: str, status: int, code: str) -> Problem:
    """The problem that an error answer of a service stands for."""
    throttled = code in _THROTTLING_CODES or status == HTTPStatus.TOO_MANY_REQUESTS
    problem = Throttled(service) if throttled else UpstreamFailed(service, "did not do as it was asked")
    problem.evidence = {"upstream_status": status, "upstream_error": code, "upstream_operation": operation}
    return problem


def code_of(error: ClientError) -> str:
    """The service's name for the error, empty if it gave none."""
    return error.response.get("Error", {}).get("Code", "")


def status_of(error: ClientError) -> int:
    """The HTTP status of an answer, 0 if it had none."""
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
