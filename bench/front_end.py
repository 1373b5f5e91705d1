"""Puts several functions behind one HTTP server, as API Gateway and Lambda do."""

from __future__ import annotations

import asyncio
import json
import re
import time
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from framegate.rest.routes import ROUTES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.account import Bucket
    from bench.runtime_api import Function

STAGE = "/v1"

_ROUTES = tuple(
    (re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(route.template))), route.template)
    for route in ROUTES
)


class UnknownPathError(Exception):
    """The API has no route for the path."""


def api_event(method: str, target: str, headers: Mapping[str, str]) -> dict[str, Any]:
    """Make the event of a request, as API Gateway does.

    Raises
    ------
    UnknownPathError
        If the API has no such route.

    References
    ----------
    API Gateway developer guide, "Input format of a Lambda function for proxy integration".
    """
    url = urlsplit(target)
    path = url.path.removeprefix(STAGE)
    found = next(((template, match) for pattern, template in _ROUTES if (match := pattern.fullmatch(path))), None)
    if found is None:
        raise UnknownPathError(path)
    template, match = found
    query = parse_qs(url.query, keep_blank_values=True)
    return {
        "httpMethod": method,
        "resource": template,
        "path": path,
        "pathParameters": {name: unquote(value) for name, value in match.groupdict().items()},
        "headers": dict(headers),
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "queryStringParameters": {name: values[-1] for name, values in query.items()} or None,
        "multiValueQueryStringParameters": query or None,
        "requestContext": {"requestId": "bench", "stage": STAGE.strip("/"), "path": f"{STAGE}{path}"},
        "body": None,
        "isBase64Encoded": False,
    }


class FrontEnd:
    """Serves the functions over HTTP on loopback while the ``async with`` block runs.

    Each function answers one request at a time, as in Lambda. Lambda would start further functions; here, a request
    waits until one is free.

    Parameters
    ----------
    functions : sequence of Function
        The running functions.
    throttle : Bucket, optional
        The throttle of API Gateway. Requests above it get 429.

    Attributes
    ----------
    port : int
        The port on 127.0.0.1.
    throttled : int
        Requests that got 429 from the throttle.
    """

    port: int

    def __init__(self, functions: Sequence[Function], throttle: Bucket | None = None) -> None:
        self._functions = functions
        self._throttle = throttle
        self.throttled = 0

    async def __aenter__(self) -> Self:
        self._idle: asyncio.Queue[Function] = asyncio.Queue()
        for function in self._functions:
            self._idle.put_nowait(function)
        self._threads = ThreadPoolExecutor(len(self._functions))
        self._connections: dict[asyncio.Task[None] | None, asyncio.StreamWriter] = {}
        self._server = await asyncio.start_server(self._converse, "127.0.0.1", 0, backlog=2048)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._connections.values():
            writer.close()
        await asyncio.gather(*filter(None, list(self._connections)), return_exceptions=True)
        self._threads.shutdown()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections[asyncio.current_task()] = writer
        # The client may close the connection at any time.
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                writer.writelines(await self._answer(head.decode("latin-1")))
                await writer.drain()
        writer.close()

    async def _answer(self, head: str) -> tuple[bytes, bytes]:
        request_line, *lines = head.strip().split("\r\n")
        method, target, _ = request_line.split(" ")
        headers = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if self._throttle is not None and not self._throttle.take(time.monotonic()):
            self.throttled += 1
            return _response(HTTPStatus.TOO_MANY_REQUESTS, {}, b"")
        event = api_event(method, target, headers)
        function = await self._idle.get()
        try:
            invocation = await asyncio.get_running_loop().run_in_executor(self._threads, function.invoke, event)
        finally:
            self._idle.put_nowait(function)
        result = invocation.response()
        body = b64decode(result["body"]) if result["isBase64Encoded"] else result["body"].encode()
        return _response(result["statusCode"], result["headers"], body)


def _response(status: int, headers: Mapping[str, str], body: bytes) -> tuple[bytes, bytes]:
    lines = [f"HTTP/1.1 {status} -", *(f"{name}: {value}" for name, value in headers.items())]
    lines += [f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode(), body


async def warm_up(functions: Sequence[Function], events: Sequence[Mapping[str, Any]]) -> None:
    """Let each function answer these events, all functions at the same time.

    Raises
    ------
    RuntimeError
        If a response is not 200.
    """

    def answer_all(function: Function) -> None:
        for event in events:
            response = function.invoke(event).response()
            if response["statusCode"] != HTTPStatus.OK:
                raise RuntimeError(f"warm-up: {json.dumps(response)[:500]}")

    with ThreadPoolExecutor(len(functions)) as threads:
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(threads, answer_all, function) for function in functions))
