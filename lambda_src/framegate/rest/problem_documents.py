"""Words problems for HTTP clients: a status, what the client can do, and an RFC 9457 document."""

from __future__ import annotations

import json
from http import HTTPStatus

from framegate import problems
from framegate.rest.http import SECURITY_HEADERS, HttpResponse

RETRY_AFTER_SECONDS = 1

PENDING_RETRY_AFTER_SECONDS = 30
"""Seconds after which a client requests a frame again that is being stored."""

STATUS: dict[type[problems.Problem], HTTPStatus] = {
    problems.InvalidRequest: HTTPStatus.BAD_REQUEST,
    problems.InvalidIdentifier: HTTPStatus.BAD_REQUEST,
    problems.UpstreamRejected: HTTPStatus.BAD_REQUEST,
    problems.TokenExpired: HTTPStatus.UNAUTHORIZED,
    problems.DatastoreNotServed: HTTPStatus.FORBIDDEN,
    problems.DatastoreNotGranted: HTTPStatus.FORBIDDEN,
    problems.ClientNotAccepted: HTTPStatus.UNAUTHORIZED,
    problems.ImageSetNotGranted: HTTPStatus.FORBIDDEN,
    problems.AccessDenied: HTTPStatus.FORBIDDEN,
    problems.UnknownRoute: HTTPStatus.NOT_FOUND,
    problems.FrameNotFound: HTTPStatus.NOT_FOUND,
    problems.ImageSetNotFound: HTTPStatus.NOT_FOUND,
    problems.VersionNotFound: HTTPStatus.NOT_FOUND,
    problems.InstanceNotFound: HTTPStatus.NOT_FOUND,
    problems.MethodNotAllowed: HTTPStatus.METHOD_NOT_ALLOWED,
    problems.NotAcceptable: HTTPStatus.NOT_ACCEPTABLE,
    problems.FrameNotAvailable: HTTPStatus.NOT_ACCEPTABLE,
    problems.FrameNotDrawable: HTTPStatus.NOT_ACCEPTABLE,
    problems.FrameConflict: HTTPStatus.CONFLICT,
    problems.PreconditionFailed: HTTPStatus.PRECONDITION_FAILED,
    problems.FrameTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    problems.PortionTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    problems.ResultTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    problems.RangeNotSatisfiable: HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
    problems.Throttled: HTTPStatus.TOO_MANY_REQUESTS,
    problems.InternalError: HTTPStatus.INTERNAL_SERVER_ERROR,
    problems.NotSupported: HTTPStatus.NOT_IMPLEMENTED,
    problems.DicomFilesOff: HTTPStatus.NOT_IMPLEMENTED,
    problems.FramePending: HTTPStatus.SERVICE_UNAVAILABLE,
    problems.AuthorizationUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    problems.UpstreamFailed: HTTPStatus.BAD_GATEWAY,
    problems.UpstreamRefused: HTTPStatus.BAD_GATEWAY,
    problems.UpstreamTimeout: HTTPStatus.GATEWAY_TIMEOUT,
}
"""The status of each problem that an HTTP client can meet."""

_ASK_THE_OPERATOR = "The operator finds the cause in the log, by the request id."
_TRY_AGAIN = "Nothing was delivered or stored in part; try again."

ADVICE: dict[type[problems.Problem], str] = {
    problems.UpstreamRejected: "Check the data store id, the image set id and the image frame id.",
    problems.TokenExpired: "Get a new one from its issuer, and send the request again.",
    problems.DatastoreNotServed: "Its operator lists the data stores that it serves in `datastore_ids`.",
    problems.ClientNotAccepted: "Sign in with an app client that the operator lists in `cognito_client_ids`.",
    problems.ImageSetNotGranted: "Ask the operator for access to it.",
    problems.AuthorizationUnavailable: "Nothing was delivered; try again after the seconds in Retry-After.",
    problems.AccessDenied: _ASK_THE_OPERATOR,
    problems.VersionNotFound: "Check versionId, or leave it out.",
    problems.FrameNotAvailable: "Trying again does not help.",
    problems.FrameNotDrawable: "Retrieve the frame instead.",
    problems.InstanceNotFound: "Check the UIDs and the frame numbers. For another image set, add imageSetId.",
    problems.ResultTooLarge: "Ask for fewer results with limit, or accept gzip.",
    problems.FramePending: "Try again after the seconds in Retry-After.",
    problems.NotSupported: "Retrieve metadata and frames instead.",
    problems.DicomFilesOff: "Ask the operator for it, or retrieve metadata and frames instead.",
    problems.FrameConflict: "Try again when its update is done.",
    problems.FrameTooLarge: "Use delivery=url, or leave delivery out.",
    problems.PortionTooLarge: "Ask for fewer of them, or for the whole frame with delivery=url.",
    problems.Throttled: "Try again after the seconds in Retry-After.",
    problems.InternalError: _ASK_THE_OPERATOR,
    problems.UpstreamFailed: _TRY_AGAIN,
    problems.UpstreamRefused: _ASK_THE_OPERATOR,
    problems.UpstreamTimeout: _TRY_AGAIN,
}
"""What a client can do about a problem, where the problem's description does not say it already."""


def problem_response(problem: problems.Problem, request_id: str) -> HttpResponse:
    """Return the response that reports a problem to a client.

    References
    ----------
    RFC 9457. The extension member ``requestId`` is the id by which the operator finds the request in the log.
    """
    status = STATUS[type(problem)]
    headers = {"Content-Type": "application/problem+json", "Cache-Control": "no-store", **SECURITY_HEADERS}
    match problem:
        case problems.Throttled() | problems.AuthorizationUnavailable():
            headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        case problems.FramePending():
            headers["Retry-After"] = str(PENDING_RETRY_AFTER_SECONDS)
        case problems.MethodNotAllowed(allowed=allowed):
            headers["Allow"] = ", ".join(allowed)
        case problems.TokenExpired() | problems.ClientNotAccepted():
            # RFC 6750, section 3.1. API Gateway passes it on as x-amzn-Remapped-WWW-Authenticate.
            headers["WWW-Authenticate"] = 'Bearer error="invalid_token"'
        case problems.RangeNotSatisfiable(size_bytes=size_bytes):
            headers["Content-Range"] = f"bytes */{size_bytes}"
    document = {
        "type": f"urn:framegate:problem:{problem.slug}",
        "title": problem.title,
        "status": int(status),
        "detail": _detail_of(problem),
        "requestId": request_id,
    }
    return HttpResponse(status, headers, json.dumps(document))


def _detail_of(problem: problems.Problem) -> str:
    """What happened, and what the client can do about it."""
    advice = ADVICE.get(type(problem))
    return f"{problem.description} {advice}" if advice else problem.description
