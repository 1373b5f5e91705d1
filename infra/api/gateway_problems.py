"""The responses that API Gateway generates itself, as problem documents (RFC 9457) like those of the function."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aws_cdk import aws_apigateway as apigateway

from framegate.rest.http import SECURITY_HEADERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.config import Config


@dataclass(frozen=True)
class GatewayProblem:
    """A response that API Gateway generates itself.

    Parameters
    ----------
    response_type : str
        API Gateway's name of the response.
    slug : str
        Last part of the problem type.
    title : str
        What happened; the same for every occurrence.
    detail : str
        What the client can do.
    status : int | None
        HTTP status; ``None`` if API Gateway chooses it.
    retry_after_seconds : int | None
        Value of ``Retry-After``, if the client should retry.
    """

    response_type: str
    slug: str
    title: str
    detail: str
    status: int | None = None
    retry_after_seconds: int | None = None


# Slugs and titles that the function also uses have the same meaning there.
# https://docs.aws.amazon.com/apigateway/latest/developerguide/supported-gateway-response-types.html
GATEWAY_PROBLEMS = (
    GatewayProblem(
        "ACCESS_DENIED",
        "caller-denied",
        "The caller may not do this",
        "The caller's credentials do not allow this request. They need execute-api:Invoke on this API.",
        403,
    ),
    GatewayProblem(
        "API_CONFIGURATION_ERROR",
        "api-configuration-error",
        "API misconfigured",
        "The API is not configured to answer this request. Its operator can look up the request id in the logs.",
        500,
    ),
    GatewayProblem(
        "AUTHORIZER_CONFIGURATION_ERROR",
        "authorizer-error",
        "Authorization failed to run",
        "The API could not check the caller's credentials. Its operator can look up the request id in the logs.",
        500,
    ),
    GatewayProblem(
        "AUTHORIZER_FAILURE",
        "authorizer-error",
        "Authorization failed to run",
        "The API could not check the caller's credentials. Its operator can look up the request id in the logs.",
        500,
    ),
    GatewayProblem(
        "BAD_REQUEST_BODY",
        "invalid-request",
        "The request is not valid",
        "The request body does not match what this method accepts.",
        400,
    ),
    GatewayProblem(
        "BAD_REQUEST_PARAMETERS",
        "invalid-request",
        "The request is not valid",
        "A parameter of the request is missing or does not match what this method accepts.",
        400,
    ),
    GatewayProblem(
        "EXPIRED_TOKEN",
        "expired-credentials",
        "Credentials expired",
        "The security token of the request's signature has expired. Sign again with fresh credentials.",
        403,
    ),
    GatewayProblem(
        "INTEGRATION_FAILURE",
        "integration-failure",
        "No answer from the backend",
        "API Gateway could not call the function or could not use its response. Try again.",
        502,
    ),
    GatewayProblem(
        "INTEGRATION_TIMEOUT",
        "integration-timeout",
        "Backend too slow",
        "The function did not answer in time. Try again; request large frames with delivery=url.",
        504,
    ),
    GatewayProblem(
        "INVALID_API_KEY", "invalid-api-key", "API key invalid", "The request's API key is not valid here.", 403
    ),
    GatewayProblem(
        "INVALID_SIGNATURE",
        "invalid-signature",
        "Signature invalid",
        "The signature does not match the request. Sign the exact request with AWS Signature Version 4, for the "
        "service execute-api in the Region of the API.",
        403,
    ),
    GatewayProblem(
        "MISSING_AUTHENTICATION_TOKEN",
        "missing-authentication",
        "Authentication missing",
        "The request is not signed, or the path does not exist. Sign it with AWS Signature Version 4 for the service "
        "execute-api.",
        403,
    ),
    GatewayProblem("QUOTA_EXCEEDED", "quota-exceeded", "Quota exceeded", "The caller's quota is used up.", 429),
    GatewayProblem(
        "REQUEST_TOO_LARGE", "request-too-large", "Request too large", "The request is larger than 10 MB.", 413
    ),
    GatewayProblem(
        "RESOURCE_NOT_FOUND", "unknown-route", "There is nothing at this path", "This API has no such path.", 404
    ),
    GatewayProblem(
        "THROTTLED",
        "throttled",
        "Too many requests",
        "The API receives more requests than it accepts at a time. Try again after the time in Retry-After.",
        429,
        retry_after_seconds=1,
    ),
    GatewayProblem(
        "UNAUTHORIZED", "unauthorized", "Not authorized", "The request has no credentials that the API accepts.", 401
    ),
    GatewayProblem(
        "UNSUPPORTED_MEDIA_TYPE",
        "unsupported-media-type",
        "Unsupported media type",
        "This method does not accept a body of the request's Content-Type.",
        415,
    ),
    GatewayProblem(
        "WAF_FILTERED",
        "request-blocked",
        "Request blocked",
        "A firewall rule of the API blocked the request, because of its content or because its IP address sent too "
        "many requests in the last five minutes.",
        403,
    ),
    # The defaults for all other response types. API Gateway chooses the status, and a template cannot refer to it.
    GatewayProblem("DEFAULT_4XX", "request-refused", "Request refused", "The API did not accept this request."),
    GatewayProblem(
        "DEFAULT_5XX",
        "api-failed",
        "The API failed",
        "API Gateway failed to answer. The operator of the API can look up the request id in the logs.",
    ),
)

# Details that replace those above if the API authorizes callers by tokens.
_TOKEN_DETAILS = {
    "ACCESS_DENIED": "The caller's token does not allow this request. It may list other data stores than this one.",
    "MISSING_AUTHENTICATION_TOKEN": "The path does not exist, or it does not accept this method.",
    "UNAUTHORIZED": "The request has no token that the API accepts. Send an unexpired token of the API's issuer, "
    "after the word Bearer in the header Authorization.",
}


def add_gateway_problems(
    api: apigateway.RestApi, config: Config, problems: Sequence[GatewayProblem] = GATEWAY_PROBLEMS
) -> None:
    """Make the responses that API Gateway generates problem documents, which web pages can read too."""
    cors = _cors_headers(config)
    for problem in problems:
        if config.auth != "iam":
            problem = replace(problem, detail=_TOKEN_DETAILS.get(problem.response_type, problem.detail))
        security = {name: f"'{value}'" for name, value in SECURITY_HEADERS.items()}
        headers = {"Content-Type": "'application/problem+json'", "Cache-Control": "'no-store'", **security, **cors}
        if problem.retry_after_seconds is not None:
            headers["Retry-After"] = f"'{problem.retry_after_seconds}'"
        if problem.response_type == "UNAUTHORIZED" and config.auth != "iam":
            # RFC 9110, section 11.6.1, and RFC 6750, section 3.
            headers["WWW-Authenticate"] = "'Bearer'"
        api.add_gateway_response(
            f"Problem-{problem.response_type}",
            type=apigateway.ResponseType.of(problem.response_type),
            status_code=None if problem.status is None else str(problem.status),
            response_headers=headers,
            # API Gateway selects a template by media type and falls back to this one. The header above overrides the
            # type.
            templates={"application/json": _template(problem)},
        )


def _cors_headers(config: Config) -> dict[str, str]:
    headers = {"Access-Control-Expose-Headers": "'Retry-After,x-amzn-RequestId'"}
    if len(config.cors_origins) == 1:
        return {"Access-Control-Allow-Origin": f"'{config.cors_origins[0]}'", **headers}
    # The header can name only one origin, and a gateway response cannot select one from a list. A problem contains
    # nothing secret, so every origin may read it. The preflight and the function enforce the list.
    return {"Access-Control-Allow-Origin": "method.request.header.Origin", "Vary": "'Origin'", **headers}


def _template(problem: GatewayProblem) -> str:
    document: dict[str, object] = {"type": f"urn:framegate:problem:{problem.slug}", "title": problem.title}
    if problem.status is not None:
        document["status"] = problem.status
    return json.dumps({**document, "detail": problem.detail, "requestId": "$context.requestId"})
