"""Runs a handler as Lambda does: in ``awslambdaric``'s own loop, against a Runtime API on loopback."""

from __future__ import annotations

import json
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import psutil

from bench.measure import PROJECT, PYTHONPATH, peak_memory
from framegate.settings import ALLOCATOR

if TYPE_CHECKING:
    from collections.abc import Mapping

EXECUTION_ENVIRONMENT = "AWS_Lambda_python3.13"
"""Lambda's runtime of the stack. From 3.12, ``awslambdaric`` writes characters outside ASCII unescaped."""

TIMEOUT_SECONDS = 60
REQUEST_MILLISECONDS = 28_000


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
        self._api = _RuntimeApi()

    def __enter__(self) -> Self:
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": PYTHONPATH,
            "POWERTOOLS_TRACE_DISABLED": "true",
            "AWS_EXECUTION_ENV": EXECUTION_ENVIRONMENT,
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._api.port}",
            **self._environment,
            # As the stack sets it.
            **(ALLOCATOR if self._handler.startswith("framegate.") else {}),
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
        self._api.close()

    def invoke(self, event: Mapping[str, Any]) -> Invocation:
        """Send an event, and wait for the response.

        Raises
        ------
        FunctionError
            If the function ends, reports an error or does not respond in time.
        """
        self._api.events.put(json.dumps(event).encode())
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            with suppress(queue.Empty):
                result = self._api.results.get(timeout=1)
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
        """The peak memory of the function and its processes in bytes, or the present memory without ``/proc``."""
        processes = psutil.Process(self._process.pid).children(recursive=True)
        return peak_memory(self._process.pid) + sum(peak_memory(each.pid) for each in processes)


class _RuntimeApi:
    """The Runtime API of one function. It parses no more of a request than it needs, to add little to the time."""

    def __init__(self) -> None:
        self.events: queue.Queue[bytes] = queue.Queue()
        self.results: queue.Queue[Invocation | FunctionError] = queue.Queue()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._started = 0.0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept no further connections."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        # The function's process may end at any time.
        with connection, connection.makefile("rb") as reader, suppress(OSError):
            while request_line := reader.readline():
                length = 0
                while (header := reader.readline()) not in (b"\r\n", b""):
                    name, _, value = header.partition(b":")
                    if name.lower() == b"content-length":
                        length = int(value)
                if request_line.startswith(b"GET"):
                    self._send_event(connection)
                else:
                    self._receive_result(request_line, reader.read(length))
                    connection.sendall(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")

    def _send_event(self, connection: socket.socket) -> None:
        """Answer ``/next``, once there is an event."""
        event = self.events.get()
        deadline = int(time.time() * 1000) + REQUEST_MILLISECONDS
        head = (
            f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(event)}\r\n"
            "Lambda-Runtime-Aws-Request-Id: 00000000-0000-0000-0000-000000000000\r\n"
            f"Lambda-Runtime-Deadline-Ms: {deadline}\r\n"
            "Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:eu-west-1:123456789012:function:bench\r\n\r\n"
        )
        self._started = time.perf_counter()
        connection.sendall(head.encode() + event)

    def _receive_result(self, request_line: bytes, body: bytes) -> None:
        """Take the body of ``/response``, or of the report of an error."""
        seconds = time.perf_counter() - self._started
        is_response = request_line.split()[1].endswith(b"/response")
        self.results.put(Invocation(seconds, body) if is_response else FunctionError(body.decode()))
