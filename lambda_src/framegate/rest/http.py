"""Reads requests and writes responses in the format of API Gateway's Lambda proxy integration."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

from pybase64 import b64encode

from framegate.aws.lambda_runtime import Base64Text
from framegate.problems import InvalidRequest

LAMBDA_RESPONSE_LIMIT = 6_291_556
"""Maximum bytes of a serialised synchronous response (AWS Lambda developer guide, "Lambda quotas")."""

ENVELOPE_ALLOWANCE = 8 * 1024
"""Bytes reserved for the rest of a response: status, headers, JSON members, quotes and escapes."""

INLINE_LIMIT = (LAMBDA_RESPONSE_LIMIT - ENVELOPE_ALLOWANCE) // 4 * 3
"""Bytes of the largest frame that fits into a response. Base64 encodes three bytes as four characters."""

SECURITY_HEADERS = {"X-Content-Type-Options": "nosniff"}
"""The headers of every response: a browser must not guess another media type (Fetch standard, "nosniff")."""

# Matches {name} but not {name+}, which only the catch-all route has.
_PATH_PARAMETER = re.compile(r"\{(\w+)\}")

_HOST = re.compile(r"[A-Za-z0-9.-]{1,255}(?::[0-9]{1,5})?", re.ASCII)

# The segments below which a custom domain name maps the API.
_BASE_PATH = re.compile(r"(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")


class NotAnHttpRequestError(ValueError):
    """The event does not come from a Lambda proxy integration; the message says what is missing or wrong."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request.

    Attributes
    ----------
    method : str
        The method, in upper case.
    route : str
        The template of the path: ``/datastore/{datastoreId}/…``.
    path : mapping
        The parameters in the path.
    request_id : str
        API Gateway's id of the request, which appears in its access log and in ours.
    """

    method: str
    route: str
    path: Mapping[str, str]
    request_id: str
    _context: Mapping[str, Any]
    _query: Mapping[str, list[str]]
    _headers: Mapping[str, str]
    _body: str
    _body_is_base64: bool

    @classmethod
    def from_event(cls, event: object) -> HttpRequest:
        """Read the event of a Lambda proxy integration (payload format 1.0).

        Raises
        ------
        NotAnHttpRequestError
            If the event is something else, such as a console test, a warm-up, or payload format 2.0.

        References
        ----------
        API Gateway developer guide, "Input format of a Lambda function for proxy integration".
        """
        if not isinstance(event, Mapping):
            raise NotAnHttpRequestError("it is not an object")
        context = event.get("requestContext")
        for name, value in (
            ("httpMethod", event.get("httpMethod")),
            ("resource", event.get("resource")),
            ("path", event.get("path")),
            ("requestContext.requestId", context.get("requestId") if isinstance(context, Mapping) else None),
        ):
            if not isinstance(value, str):
                raise NotAnHttpRequestError(f"{name} is missing")
        for name, is_valid in (
            ("pathParameters", _is_mapping_of_texts),
            ("multiValueHeaders", _is_mapping_of_lists),
            ("multiValueQueryStringParameters", _is_mapping_of_lists),
            ("body", _is_text),
        ):
            if event.get(name) is not None and not is_valid(event[name]):
                raise NotAnHttpRequestError(f"{name} has another form")
        path = event.get("pathParameters") or {}
        for name in _PATH_PARAMETER.findall(event["resource"]):
            if name not in path:
                raise NotAnHttpRequestError("pathParameters lacks a parameter of the resource")
        headers = event.get("multiValueHeaders") or {}
        return cls(
            method=event["httpMethod"],
            route=event["resource"],
            path=path,
            request_id=event["requestContext"]["requestId"],
            _context=event["requestContext"],
            _query=event.get("multiValueQueryStringParameters") or {},
            _headers={name.lower(): ", ".join(values) for name, values in headers.items()},
            _body=event.get("body") or "",
            _body_is_base64=bool(event.get("isBase64Encoded")),
        )

    def header(self, name: str) -> str | None:
        """The value of a header; commas join repeated lines (RFC 9110, section 5.3)."""
        return self._headers.get(name.lower())

    def query(self, name: str) -> str | None:
        """The value of a query parameter.

        Raises
        ------
        InvalidRequest
            If the query gives it more than once.
        """
        values = self._query.get(name) or []
        if len(values) > 1:
            raise InvalidRequest(f"The query gives {name} {len(values)} times; give it once.")
        return values[0] if values else None

    @property
    def base_url(self) -> str:
        """The API's URL as the client sees it, with the stage or the base path, and without a trailing slash.

        API Gateway accepts only host names of the API, so the client's Host header can be trusted.
        """
        host = self.header("Host") or ""
        if _HOST.fullmatch(host) is None:
            host = str(self._context.get("domainName") or "")
        scheme = "http" if self.header("X-Forwarded-Proto") == "http" else "https"
        path = str(self._context.get("path") or "")
        prefix = path.partition(self.route.partition("{")[0])[0]
        return f"{scheme}://{host}{prefix}"

    def query_values(self, name: str) -> list[str]:
        """All values of a query parameter."""
        return self._query.get(name) or []

    def query_pairs(self) -> list[tuple[str, str]]:
        """All parameters of the query, in API Gateway's order."""
        return [(name, value) for name, values in self._query.items() for value in values]

    def json_object(self) -> dict[str, Any]:
        """Parse the body as a JSON object.

        Raises
        ------
        InvalidRequest
            If the body is not a JSON object.
        """
        try:
            body = b64decode(self._body, validate=True) if self._body_is_base64 else self._body
            value = json.loads(body)
        except (ValueError, RecursionError):
            raise InvalidRequest("The body must be a JSON object; this one is not JSON.") from None
        if not isinstance(value, dict):
            raise InvalidRequest("The body must be a JSON object.")
        return value


@dataclass(frozen=True, slots=True)
class JsonWithBase64:
    """A JSON document with one long member in base64.

    Attributes
    ----------
    before, after : str
        The document around the base64.
    content : bytes
        The bytes that the member has in base64.
    """

    before: str
    content: bytes
    after: str

    def size(self) -> int:
        """The size of the document in bytes."""
        return len(self.before.encode()) + base64_size(len(self.content)) + len(self.after.encode())


def base64_size(size_bytes: int) -> int:
    """The size of this many bytes in base64 (RFC 4648, section 4)."""
    return (size_bytes + 2) // 3 * 4


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A response. A body of type ``bytes`` is sent in base64, any other as it is."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | str | JsonWithBase64 = ""

    @property
    def body_bytes(self) -> int:
        """The size of the body in bytes, before base64 for API Gateway."""
        match self.body:
            case JsonWithBase64():
                return self.body.size()
            case str():
                return len(self.body.encode())
        return len(self.body)

    def to_event(self, *, base64_apart: bool = False) -> dict[str, Any]:
        """Convert the response to the format of the Lambda proxy integration.

        Parameters
        ----------
        base64_apart : bool
            Whether a body with base64 is a `Base64Text`, for a `Base64Marshaller`, instead of a string.
        """
        body = self.body
        text: str | Base64Text
        if isinstance(body, str):
            text = body
        else:
            # Python's base64 takes as long for megabytes as HealthImaging takes to send them.
            apart = (
                Base64Text("", b64encode(body), "")
                if isinstance(body, bytes)
                else Base64Text(body.before, b64encode(body.content), body.after)
            )
            text = apart if base64_apart else str(apart)
        return {
            "statusCode": int(self.status),
            "headers": self.headers,
            "body": text,
            "isBase64Encoded": isinstance(body, bytes),
        }

    def without_body(self) -> HttpResponse:
        """The response to HEAD: the headers of GET's response, without the body.

        API Gateway sets Content-Length from the body that it sends, so it may pass on the one that is set here as
        ``x-amzn-Remapped-Content-Length``.

        References
        ----------
        RFC 9110, sections 9.3.2 and 8.6. Section 8.6 forbids a Content-Length that differs from GET's.
        """
        if self.status == HTTPStatus.NOT_MODIFIED:
            return self
        match self.body:
            case bytes(content):
                size = len(content)
            case str(text):
                size = len(text.encode())
            case document:
                size = document.size()
        return replace(self, headers={"Content-Length": str(size), **self.headers}, body="")


def require_exact_path(event: Mapping[str, Any]) -> None:
    """Check that the path of a request is its route with the parameters filled in, and nothing else.

    API Gateway matches routes leniently: it decodes percent-encoding in parameters, and ignores a slash at the end.
    Policies, however, are compared with the path as it was sent. Only a path that has one spelling is the same to both.

    Parameters
    ----------
    event : mapping
        An event that `HttpRequest.from_event` has read. For a custom domain name, its path starts with the base path of
        the mapping.

    Raises
    ------
    InvalidRequest
        If the path is encoded, has a repeated slash or one at its end, or differs from the route in another way.

    References
    ----------
    API Gateway developer guide, "Input format of a Lambda function for proxy integration" and "Use API mappings".
    """
    route, parameters = event["resource"], event.get("pathParameters") or {}
    if "+}" in route:
        # The route for unknown paths. Nothing is read there.
        return
    expected = _PATH_PARAMETER.sub(lambda match: str(parameters[match[1]]), route)
    base = event["path"].removesuffix(expected)
    domain = event["requestContext"].get("domainName")
    may_have_base = isinstance(domain, str) and ".execute-api." not in domain
    is_exact = event["path"] == base + expected and (base == "" or (may_have_base and _BASE_PATH.fullmatch(base)))
    if not is_exact or any("/" in each or "%" in each for each in parameters.values()):
        raise InvalidRequest("The path must be that of the route, without encoding and without additional slashes.")


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_mapping_of_texts(value: object) -> bool:
    return isinstance(value, Mapping) and all(map(_is_text, value.values()))


def _is_mapping_of_lists(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(each, list) and all(map(_is_text, each)) for each in value.values()
    )
