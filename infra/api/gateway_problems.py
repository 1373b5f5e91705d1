"""The answers that API Gateway gives by itself, in the form of the API's own errors (RFC 9457)."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aws_cdk import aws_apigateway as apigateway

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.config import Config


@dataclass(frozen=True)
class GatewayProblem:
    """One of API Gateway's own answers.

    Parameters
    ----------
    response_type : str
        API Gateway's name for it.
    slug : str
        What its problem type ends in.
    title : str
        What happened, the same for every occurrence.
    detail : str
        What the client can do.
    status : int | None
        HTTP status; ``None`` where API Gateway decides it.
    retry_after_seconds : int | None
        When to come back, where that helps.
    """

    response_type: str
    slug: str
    title: str
    detail: str
    status: int | None = None
    retry_after_seconds: int | None = None


# Slugs and titles that the function uses, too, mean the same there.
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
        "The API is not set up to answer this request. Its operator finds more under the request id.",
        500,
    ),
    GatewayProblem(
        "AUTHORIZER_CONFIGURATION_ERROR",
        "authorizer-error",
        "Authorization failed to run",
        "The API could not check the caller's credentials. Its operator finds more under the request id.",
        500,
    ),
    GatewayProblem(
        "AUTHORIZER_FAILURE",
        "authorizer-error",
        "Authorization failed to run",
        "The API could not check the caller's credentials. Its operator finds more under the request id.",
        500,
    ),
    GatewayProblem(
        "BAD_REQUEST_BODY",
        "invalid-request",
        "The request is not valid",
        "The request's body is not what this method takes.",
        400,
    ),
    GatewayProblem(
        "BAD_REQUEST_PARAMETERS",
        "invalid-request",
        "The request is not valid",
        "A parameter of the request is missing or not what this method takes.",
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
        "The request could not be handed on or its answer not be used. Try again.",
        502,
    ),
    GatewayProblem(
        "INTEGRATION_TIMEOUT",
        "integration-timeout",
        "Backend too slow",
        "The answer did not come within the time that the API allows. Try again, large frames with delivery=url.",
        504,
    ),
    GatewayProblem(
        "INVALID_API_KEY", "invalid-api-key", "API key invalid", "The request's API key is not valid here.", 403
    ),
    GatewayProblem(
        "INVALID_SIGNATURE",
        "invalid-signature",
        "Signature invalid",
        "The request's signature does not match it. Sign with AWS Signature Version 4 for the service execute-api, "
        "in the API's Region, exactly what is sent.",
        403,
    ),
    GatewayProblem(
        "MISSING_AUTHENTICATION_TOKEN",
        "missing-authentication",
        "Authentication missing",
        "The request is not signed, or there is no such path. Sign it with AWS Signature Version 4 for the service "
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
        "More requests come than the API takes at a time. Try again after the time in Retry-After.",
        429,
        retry_after_seconds=1,
    ),
    GatewayProblem(
        "UNAUTHORIZED", "unauthorized", "Not authorized", "The request carries no credentials that the API takes.", 401
    ),
    GatewayProblem(
        "UNSUPPORTED_MEDIA_TYPE",
        "unsupported-media-type",
        "Unsupported media type",
        "This method does not take a body of the request's Content-Type.",
        415,
    ),
    GatewayProblem(
        "WAF_FILTERED",
        "request-blocked",
        "Request blocked",
        "A firewall rule of the API blocked the request: for what is in it, or because so many came from its address "
        "in the last five minutes.",
        403,
    ),
    # Stand in for types that API Gateway may add. Their status is its own, and a template cannot repeat it.
    GatewayProblem("DEFAULT_4XX", "request-refused", "Request refused", "The API did not take this request."),
    GatewayProblem(
        "DEFAULT_5XX",
        "api-failed",
        "The API failed",
        "API Gateway failed to answer. Its operator finds more under the request id.",
    ),
)

# What else a client can do, where callers bring tokens.
_DETAILS_OF_TOKENS = {
    "ACCESS_DENIED": "The caller's token does not allow this request. It may list other data stores than this one.",
    "MISSING_AUTHENTICATION_TOKEN": "There is no such path, or it does not take this method.",
    "UNAUTHORIZED": "The request carries no token that the API takes. Send one of the API's issuer that has not "
    "expired, behind the word Bearer in the header Authorization.",
}


def add_gateway_problems(
    api: apigateway.RestApi, config: Config, problems: Sequence[GatewayProblem] = GATEWAY_PROBLEMS
) -> None:
    """Give an API's own answers the form of problem documents that web pages can read, too."""
    cors = _cors_headers(config)
    for problem in problems:
        if config.auth != "iam":
            problem = replace(problem, detail=_DETAILS_OF_TOKENS.get(problem.response_type, problem.detail))
        headers = {"Content-Type": "'application/problem+json'", "Cache-Control": "'no-store'", **cors}
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
            # API Gateway picks a template by media type and falls back to this one; the header above says what it is.
            templates={"application/json": _template(problem)},
        )


def _cors_headers(config: Config) -> dict[str, str]:
    headers = {"Access-Control-Expose-Headers": "'Retry-After,x-amzn-RequestId'"}
    if len(config.cors_origins) == 1:
        return {"Access-Control-Allow-Origin": f"'{config.cors_origins[0]}'", **headers}
    # One header can name one origin, and templates cannot choose. A problem says nothing that a page of any origin
    # may not read, so its origin is returned; the preflight and the function keep to the list.
    return {"Access-Control-Allow-Origin": "method.request.header.Origin", "Vary": "'Origin'", **headers}


def _template(problem: GatewayProblem) -> str:
    document: dict[str, object] = {"type": f"urn:framegate:problem:{problem.slug}", "title": problem.title}
    if problem.status is not None:
        document["status"] = problem.status
    return json.dumps({**document, "detail": problem.detail, "requestId": "$context.requestId"})
