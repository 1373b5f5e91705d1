"""Answers requests of API Gateway: dispatches each to its handler and turns problems into HTTP responses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from framegate import upstream_time
from framegate.access.audit import Access, identifiers_in
from framegate.access.caller import CognitoRules, authorize_caller
from framegate.observability import logger, stack_of
from framegate.problems import InternalError, InvalidRequest, MethodNotAllowed, Problem, UnknownRoute
from framegate.rest.exchange import Exchange
from framegate.rest.frame_responses import HEADERS
from framegate.rest.http import SECURITY_HEADERS, HttpRequest, HttpResponse, NotAnHttpRequestError, require_exact_path
from framegate.rest.problem_documents import problem_response
from framegate.rest.routes import ROUTES, Text
from framegate.time_budget import TimeBudget

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from framegate.rest.exchange import Handler
    from framegate.rest.routes import Route
    from framegate.settings import Settings

_NOT_HTTP = "This function answers requests of API Gateway's Lambda proxy integration (payload format 1.0)"

_EXPOSED_HEADERS = ", ".join(
    [
        "Accept-Ranges",
        "Content-Length",
        "Content-Range",
        "ETag",
        "Location",
        "Retry-After",
        "x-amzn-Remapped-Content-Length",
        "x-amzn-RequestId",
        *HEADERS.values(),
    ]
)


class HttpApi:
    """An API of routes and their handlers.

    Parameters
    ----------
    settings : Settings
        The kind of authorization, and the allowed origins.
    routes : iterable of Route
        The routes that this API answers.
    handlers : mapping
        The handler of each of their operations, by operation id.
    reserved_seconds : float
        Seconds of an invocation that are reserved for cleaning up and answering.
    base64_apart : bool
        Whether bodies with base64 are `framegate.aws.lambda_runtime.Base64Text` instead of strings.

    Raises
    ------
    KeyError
        If an operation has no handler.
    """

    def __init__(
        self,
        settings: Settings,
        routes: Iterable[Route],
        handlers: Mapping[str, Handler],
        reserved_seconds: float,
        *,
        base64_apart: bool = False,
    ) -> None:
        self._settings = settings
        self._reserved_seconds = reserved_seconds
        self._base64_apart = base64_apart
        self._cognito = CognitoRules(settings.cognito_client_ids, settings.cognito_groups_are_datastores)
        routes = tuple(routes)
        self._max_lengths = {
            route.template: {
                each.name: each.type.max_length
                for operation in route.operations
                for each in operation.parameters
                if each.location == "query" and isinstance(each.type, Text)
            }
            for route in routes
        }
        # An operation without a handler fails here, before the first request.
        self._dispatch = {
            route.template: {
                method: handlers[operation.operation_id] for method, operation in route.operation_by_method.items()
            }
            for route in routes
        }

    def answer(self, event: Mapping[str, Any], remaining_ms: int) -> dict[str, Any]:
        """Answer an event of API Gateway's Lambda proxy integration.

        Any other event, such as the console's test event or a warm-up, is answered with ``invalid-request``. Its log
        line repeats nothing of the event.

        Parameters
        ----------
        event : mapping
            The event, payload format 1.0.
        remaining_ms : int
            Milliseconds until Lambda ends the invocation.
        """
        try:
            request = HttpRequest.from_event(event)
        except NotAnHttpRequestError as error:
            logger.warning("event is not an HTTP request of API Gateway", extra={"reason": str(error)})
            return problem_response(InvalidRequest(f"{_NOT_HTTP}: {error}."), request_id="").to_event()
        upstream_time.reset()
        access = Access.of_request(event, self._settings.auth, self._settings.audit_claim)
        budget = TimeBudget(remaining_ms / 1000 - self._reserved_seconds)
        exchange = Exchange(request, budget, access, {**identifiers_in(request.path)})
        try:
            require_exact_path(event)
            exchange.caller = authorize_caller(event, access.principal, self._settings.auth, self._cognito)
            response = self._route(exchange)
        except Problem as problem:
            response = problem_response(problem, request.request_id)
            exchange.record.update(problem.log_fields)
        except Exception as error:
            response = problem_response(InternalError(), request.request_id)
            exchange.record.update(problem=InternalError.slug, error=type(error).__name__, stack=stack_of(error))
        if request.method == "HEAD":
            response = response.without_body()
            if "bytes" in exchange.record:
                exchange.record["bytes"] = 0
        vary = ", ".join(filter(None, [self._vary(), response.headers.get("Vary")]))
        response.headers.update(self._cors_headers(request), Vary=vary, **SECURITY_HEADERS)
        exchange.report(response)
        return response.to_event(base64_apart=self._base64_apart)

    def _route(self, exchange: Exchange) -> HttpResponse:
        handlers = self._dispatch.get(exchange.request.route)
        if handlers is None:
            raise UnknownRoute([route.template for route in ROUTES])
        if exchange.request.method not in handlers:
            raise MethodNotAllowed(tuple(handlers))
        self._require_short_values(exchange.request)
        return handlers[exchange.request.method](exchange)

    def _require_short_values(self, request: HttpRequest) -> None:
        """Check that no query parameter is longer than its route declares."""
        for name, limit in self._max_lengths[request.route].items():
            if any(len(value) > limit for value in request.query_values(name)):
                raise InvalidRequest(f"{name} must have at most {limit} characters.")

    def _cors_headers(self, request: HttpRequest) -> dict[str, str]:
        """The headers that let a browser's page read the response (Fetch standard, "CORS protocol")."""
        allowed = self._settings.cors_origins
        headers = {"Access-Control-Expose-Headers": _EXPOSED_HEADERS}
        if "*" in allowed:
            headers["Access-Control-Allow-Origin"] = "*"
        elif (origin := request.header("Origin")) in allowed:
            headers["Access-Control-Allow-Origin"] = str(origin)
        return headers

    def _vary(self) -> str:
        """The request headers that a cache compares before it uses a response (RFC 9110, section 12.5.5).

        A cached frame belongs to the token that fetched it. With IAM, `Authorization` is a signature that changes with
        every request, so a cache that compares it would never use a response.
        """
        names = ["Accept"]
        if self._settings.auth != "iam":
            names.append("Authorization")
        if "*" not in self._settings.cors_origins:
            names.append("Origin")
        return ", ".join(names)
