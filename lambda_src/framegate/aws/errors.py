"""Turns error responses of AWS into problems, and classifies them for retries."""

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
        # The throttling errors of botocore's standard retry mode; a test compares them.
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
        # S3 and SQS pass on errors of KMS.
        "KMS.ThrottlingException",
        "KmsThrottled",
    }
)

TRANSIENT_CODES = frozenset({"PriorRequestNotComplete", "RequestTimeout", "RequestTimeoutException"})
"""Errors that can pass although their status is 400. botocore's standard retry mode retries them, too."""

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
"""Errors for credentials that are no longer valid, or not yet known. New credentials can help.

References
----------
AWS HealthImaging API reference, "Common Errors"; Amazon S3 API reference, "Error responses".
"""


@contextmanager
def botocore_problems(service: str) -> Iterator[None]:
    """Turn botocore's errors into `Throttled` or `UpstreamFailed`."""
    try:
        yield
    except ClientError as error:
        raise refusal(service, error.operation_name, status_of(error), code_of(error)) from None
    except BotoCoreError as error:
        # Timeouts and broken connections, after botocore's own retries.
        evidence = {"upstream_error": type(error).__name__}
        raise UpstreamFailed(service, "could not be reached", evidence=evidence) from None


def refusal(service: str, operation: str, status: int, code: str) -> Problem:
    """Return the problem for an error response of a service."""
    evidence: dict[str, str | int] = {
        "upstream_status": status,
        "upstream_error": code,
        "upstream_operation": operation,
    }
    if is_throttling(code, status):
        return Throttled(service, evidence=evidence)
    return UpstreamFailed(service, "rejected the call", evidence=evidence)


def is_throttling(code: str, status: int = 0) -> bool:
    """Whether an error response means throttling."""
    return status == HTTPStatus.TOO_MANY_REQUESTS or code in THROTTLING_CODES


def is_final(status: int, code: str) -> bool:
    """Whether the same call would get the same error response again.

    Client errors (4xx) are final, except for timeouts (408), throttling (429) and credentials that can be replaced.

    References
    ----------
    RFC 9110, sections 15.5 and 15.6.
    """
    is_client_error = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    passes = status == HTTPStatus.REQUEST_TIMEOUT or code in TRANSIENT_CODES | CREDENTIAL_CODES
    return is_client_error and not passes and not is_throttling(code, status)


def is_credential_error(problem: Problem) -> bool:
    """Whether a service rejected the credentials, so that new ones can help."""
    return problem.evidence.get("upstream_error") in CREDENTIAL_CODES


def is_transient(problem: Problem) -> bool:
    """Whether the same call may succeed next time: after throttling, silence, a broken connection, or a 5xx.

    The status and the code of an error response are in the problem's evidence. Rejected credentials are not transient;
    `framegate.aws.retries.retry` loads new ones.
    """
    status, code = problem.evidence.get("upstream_status"), problem.evidence.get("upstream_error")
    is_answer = isinstance(status, int) and isinstance(code, str)
    return not is_credential_error(problem) and not (is_answer and is_final(cast("int", status), cast("str", code)))


def code_of(error: ClientError) -> str:
    """Return the service's error code, empty if there is none."""
    return error.response.get("Error", {}).get("Code", "")


def status_of(error: ClientError) -> int:
    """Return the HTTP status of an error response, 0 if there is none."""
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
