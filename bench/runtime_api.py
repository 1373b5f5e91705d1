"""Runs a handler as Lambda does: in ``awslambdaric``'s own loop, against a Runtime API on loopback."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

import psutil

from bench.measure import PROJECT, PYTHONPATH, peak_memory

if TYPE_CHECKING:
    from collections.abc import Mapping

EXECUTION_ENVIRONMENT = "AWS_Lambda_python3.13"
"""Lambda's runtime of the stack. From 3.12, ``awslambdaric`` writes characters outside ASCII unescaped."""

TIMEOUT_SECONDS = 60
REQUEST_MILLISECONDS = 28_000

_PREFIX = "/2018-06-01/runtime/"


class FunctionError(Exception):
    """The function did not respond, or reported an error."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """A response of the function.

    Attributes
    ----------
    seconds : float
        The time from the answer to ``/next`` to the last byte of the response.
    document : bytes
        The serialised response.
    """

    seconds: float
    document: bytes

    def response(self) -> dict[str, Any]:
        """Parse the response."""
        parsed: dict[str, Any] = json.loads(self.document)
        return parsed


class Function:
    """A function's process, while the ``with`` block runs.

    Parameters
    ----------
    handler : str
        The handler as Lambda names it: ``module.function``.
    environment : mapping of str to str
        The function's environment variables.

    References
    ----------
    AWS Lambda developer guide, "Using the Lambda runtime API for custom runtimes".
    """

    def __init__(self, handler: str, environment: Mapping[str, str]) -> None:
        self._handler = handler
        self._environment = environment
        self._events: queue.Queue[bytes] = queue.Queue()
        self._results: queue.Queue[Invocation | FunctionError] = queue.Queue()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._request_handler())
        self._server.daemon_threads = True

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": PYTHONPATH,
            "POWERTOOLS_TRACE_DISABLED": "true",
            "AWS_EXECUTION_ENV": EXECUTION_ENVIRONMENT,
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._server.server_port}",
            **self._environment,
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "awslambdaric", self._handler],
            env=environment,
            cwd=PROJECT,
            stdout=subprocess.DEVNULL,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._server.shutdown()
        self._server.server_close()

    def invoke(self, event: Mapping[str, Any]) -> Invocation:
        """Send an event, and wait for the response.

        Raises
        ------
        FunctionError
            If the function ends, reports an error or does not respond in time.
        """
        self._events.put(json.dumps(event).encode())
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            with suppress(queue.Empty):
                result = self._results.get(timeout=1)
                if isinstance(result, FunctionError):
                    raise result
                return result
            if self._process.poll() is not None:
                raise FunctionError(f"the function ended with status {self._process.returncode}")
        raise FunctionError(f"the function did not respond in {TIMEOUT_SECONDS} s")

    def processor_seconds(self) -> float:
        """The processor time that the function has used."""
        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system)

    def peak_memory(self) -> int:
        """The peak memory of the function in bytes; where the system does not tell, the present memory."""
        return peak_memory(self._process.pid)

    def _request_handler(self) -> type[BaseHTTPRequestHandler]:
        events, results = self._events, self._results

        class RuntimeApi(BaseHTTPRequestHandler):
            """The two calls of an invocation, and the reports of errors."""

            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            started = 0.0

            def do_GET(self) -> None:
                """``/next``: wait for an event, and send it."""
                event = events.get()
                self.send_response(HTTPStatus.OK)
                for name, value in (
                    ("Content-Type", "application/json"),
                    ("Content-Length", str(len(event))),
                    ("Lambda-Runtime-Aws-Request-Id", "00000000-0000-0000-0000-000000000000"),
                    ("Lambda-Runtime-Deadline-Ms", str(int(time.time() * 1000) + REQUEST_MILLISECONDS)),
                    ("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:eu-west-1:123456789012:function:bench"),
                ):
                    self.send_header(name, value)
                self.end_headers()
                # The response may come over another connection, which has another instance of this class.
                RuntimeApi.started = time.perf_counter()
                self.wfile.write(event)

            def do_POST(self) -> None:
                """``/response`` or ``/error``: read the body, and end the invocation."""
                body = self.rfile.read(int(self.headers["Content-Length"]))
                seconds = time.perf_counter() - RuntimeApi.started
                is_response = self.path.startswith(f"{_PREFIX}invocation/") and self.path.endswith("/response")
                results.put(Invocation(seconds, body) if is_response else FunctionError(body.decode()))
                self.send_response(HTTPStatus.ACCEPTED)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Write no access log."""

        return RuntimeApi
