"""Keeps the objects of an S3 bucket in memory, with conditional writes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

MODIFIED = "Wed, 21 Oct 2026 07:28:00 GMT"
"""The time of every object. Nothing that the bench measures depends on it."""

_NO_SUCH_KEY = b"<Error><Code>NoSuchKey</Code></Error>"
_CHANGED = b"<Error><Code>PreconditionFailed</Code></Error>"


@dataclass(frozen=True, slots=True)
class _Object:
    body: bytes
    content_type: str
    etag: str


class MemoryBucket:
    """Small objects, and the responses to the S3 requests for them.

    References
    ----------
    Amazon S3 user guide, "How to prevent object overwrites with conditional writes".
    """

    def __init__(self) -> None:
        self._objects: dict[str, _Object] = {}
        self._numbers = itertools.count(1)

    def answer(self, method: str, key: str, headers: dict[str, str], body: bytes) -> bytes:
        """Answer a GET, HEAD, PUT or DELETE request for an object; return the whole response.

        Parameters
        ----------
        method : str
            The method.
        key : str
            The object's path.
        headers : dict of str
            The headers of the request, names in lower case.
        body : bytes
            The body of the request.
        """
        stored = self._objects.get(key)
        match method:
            case "PUT":
                return self._put(key, headers, body, stored)
            case "DELETE":
                self._objects.pop(key, None)
                return b"HTTP/1.1 204 No Content\r\n\r\n"
        if stored is None:
            return _response("404 Not Found", "application/xml", _NO_SUCH_KEY, is_head=method == "HEAD")
        return _response("200 OK", stored.content_type, stored.body, etag=stored.etag, is_head=method == "HEAD")

    def _put(self, key: str, headers: dict[str, str], body: bytes, stored: _Object | None) -> bytes:
        is_new, expected = headers.get("if-none-match") == "*", headers.get("if-match")
        if (is_new and stored is not None) or (expected and (stored is None or stored.etag != expected)):
            return _response("412 Precondition Failed", "application/xml", _CHANGED)
        etag = f'"{next(self._numbers):032x}"'
        self._objects[key] = _Object(body, headers.get("content-type", "binary/octet-stream"), etag)
        return _response("200 OK", "application/xml", b"", etag=etag)


def _response(status: str, content_type: str, body: bytes, *, etag: str = '""', is_head: bool = False) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        f"ETag: {etag}\r\nLast-Modified: {MODIFIED}\r\n\r\n"
    )
    return head.encode() + (b"" if is_head else body)
