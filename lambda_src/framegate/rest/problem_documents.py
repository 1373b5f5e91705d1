"""Problems as HTTP answers: their status, and the RFC 9457 document that says what happened."""

from __future__ import annotations

import json
from http import HTTPStatus

from framegate import problems
from framegate.rest.http import HttpResponse

RETRY_AFTER_SECONDS = 1

STATUS: dict[type[problems.Problem], HTTPStatus] = {
    problems.InvalidRequest: HTTPStatus.BAD_REQUEST,
    problems.InvalidIdentifier: HTTPStatus.BAD_REQUEST,
    problems.UpstreamRejected: HTTPStatus.BAD_REQUEST,
    problems.TokenExpired: HTTPStatus.UNAUTHORIZED,
    problems.DatastoreNotServed: HTTPStatus.FORBIDDEN,
    problems.DatastoreNotGranted: HTTPStatus.FORBIDDEN,
    problems.AccessDenied: HTTPStatus.FORBIDDEN,
    problems.UnknownRoute: HTTPStatus.NOT_FOUND,
    problems.FrameNotFound: HTTPStatus.NOT_FOUND,
    problems.ImageSetNotFound: HTTPStatus.NOT_FOUND,
    problems.VersionNotFound: HTTPStatus.NOT_FOUND,
    problems.MethodNotAllowed: HTTPStatus.METHOD_NOT_ALLOWED,
    problems.NotAcceptable: HTTPStatus.NOT_ACCEPTABLE,
    problems.FrameNotAvailable: HTTPStatus.NOT_ACCEPTABLE,
    problems.FrameConflict: HTTPStatus.CONFLICT,
    problems.PreconditionFailed: HTTPStatus.PRECONDITION_FAILED,
    problems.FrameTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    problems.PortionTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    problems.RangeNotSatisfiable: HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
    problems.Throttled: HTTPStatus.TOO_MANY_REQUESTS,
    problems.InternalError: HTTPStatus.INTERNAL_SERVER_ERROR,
    problems.UpstreamFailed: HTTPStatus.BAD_GATEWAY,
    problems.UpstreamRefused: HTTPStatus.BAD_GATEWAY,
    problems.UpstreamTimeout: HTTPStatus.GATEWAY_TIMEOUT,
}


def problem_response(problem: problems.Problem, request_id: str) -> HttpResponse:
    """The answer that tells a client of a problem.

    References
    ----------
    RFC 9457, with one member of ours: ``requestId``, by which the operator finds the request in the logs.
    """
    status = STATUS[type(problem)]
    headers = {"Content-Type": "application/problem+json", "Cache-Control": "no-store"}
    if isinstance(problem, problems.Throttled):
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    if isinstance(problem, problems.MethodNotAllowed):
        headers["Allow"] = ", ".join(problem.allowed)
    if isinstance(problem, problems.TokenExpired):
        # RFC 6750, section 3.1. API Gateway passes it on as x-amzn-Remapped-WWW-Authenticate.
        headers["WWW-Authenticate"] = 'Bearer error="invalid_token"'
    if isinstance(problem, problems.RangeNotSatisfiable):
        headers["Content-Range"] = f"bytes */{problem.size}"
    document = {
        "type": f"urn:framegate:problem:{problem.slug}",
        "title": problem.title,
        "status": int(status),
        "detail": problem.detail,
        "requestId": request_id,
    }
    return HttpResponse(status, headers, json.dumps(document))
