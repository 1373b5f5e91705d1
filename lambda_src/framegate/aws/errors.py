"""Errors of botocore's clients as problems of ours."""

from __future__ import annotations

from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

from botocore.exceptions import BotoCoreError, ClientError

from framegate.problems import Problem, Throttled, UpstreamFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

THROTTLING_CODES = frozenset(
    {
        # Those that botocore's standard retry mode takes for throttling; a test compares.
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
        # S3 and SQS pass on what KMS says.
        "KMS.ThrottlingException",
        "KmsThrottled",
    }
)

TRANSIENT_CODES = frozenset({"PriorRequestNotComplete", "RequestTimeout", "RequestTimeoutException"})
"""Errors that pass, though their status is 400: botocore's standard retry mode tries them again, too."""

CREDENTIAL_CODES = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "RequestExpired",
        "TokenRefreshRequired",
        "UnrecognizedClientException",
    }
)
"""Refusals of credentials that are not good any more, or not yet known: others are accepted.

References
----------
AWS HealthImaging API reference, "Common Errors"; Amazon S3 API reference, "Error responses".
"""


@contextmanager
def botocore_problems(service: str) -> Iterator[None]:
    """Raise a `Throttled` or `UpstreamFailed` of that service for an error of botocore."""
    try:
        yield
    except ClientError as error:
        raise refusal(service, error.operation_name, status_of(error), code_of(error)) from None
    except BotoCoreError as error:
        # Timeouts and broken connections, after botocore's own retries.
        evidence = {"upstream_error": type(error).__name__}
        raise UpstreamFailed(service, "could not be reached", evidence=evidence) from None


def refusal(service: str, operation: str, status: int, code: str) -> Problem:
    """The problem that an error answer of a service stands for."""
    evidence: dict[str, str | int] = {
        "upstream_status": status,
        "upstream_error": code,
        "upstream_operation": operation,
    }
    if is_throttling(code, status):
        return Throttled(service, evidence=evidence)
    return UpstreamFailed(service, "rejected the call", evidence=evidence)


def is_throttling(code: str, status: int = 0) -> bool:
    """Whether an error answer asks the caller to slow down."""
    return status == HTTPStatus.TOO_MANY_REQUESTS or code in THROTTLING_CODES


def is_final(status: int, code: str) -> bool:
    """Whether the same call gets the same error answer again.

    A service that finds fault with the request (4xx) will do so again, except for timeouts (408), throttling (429) and
    credentials that can be replaced. RFC 9110, sections 15.5 and 15.6.
    """
    is_client_error = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    passes = status == HTTPStatus.REQUEST_TIMEOUT or code in TRANSIENT_CODES | CREDENTIAL_CODES
    return is_client_error and not passes and not is_throttling(code, status)


def is_credential_error(problem: Problem) -> bool:
    """Whether a service refused the credentials, so that others may be accepted."""
    return problem.evidence.get("upstream_error") in CREDENTIAL_CODES


def is_transient(problem: Problem) -> bool:
    """Whether the same call may end better next time: after throttling, silence, a broken connection, or a 5xx.

    An error answer is judged by its status and code, which the problem's evidence has. Refused credentials stay
    refused; `framegate.aws.retries.retry` looks for others.
    """
    status, code = problem.evidence.get("upstream_status"), problem.evidence.get("upstream_error")
    is_answer = isinstance(status, int) and isinstance(code, str)
    return not is_credential_error(problem) and not (is_answer and is_final(cast("int", status), cast("str", code)))


def code_of(error: ClientError) -> str:
    """The service's name for the error, empty if it gave none."""
    return error.response.get("Error", {}).get("Code", "")


def status_of(error: ClientError) -> int:
    """The HTTP status of an answer, 0 if it had none."""
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
