"""Starts and replaces a confined process, and exchanges messages with it."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from framegate.settings import library_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

Result = TypeVar("Result")


class OutOfTimeError(Exception):
    """The time for a task has run out."""


class Channel:
    """The pipes to and from a process, which no call of this object uses beyond a deadline.

    Parameters
    ----------
    requests, answers : int
        The descriptors of the pipe to the process, which does not block, and of the pipe from it.
    seconds : float
        Time until the deadline.
    """

    def __init__(self, requests: int, answers: int, seconds: float) -> None:
        self._requests = requests
        self._answers = answers
        self._deadline = time.monotonic() + seconds

    def write(self, *parts: bytes | bytearray) -> None:
        """Send bytes to the process.

        Raises
        ------
        OutOfTimeError
            If the process does not take them in time.
        BrokenPipeError
            If the process has ended.
        """
        rest: Sequence[memoryview] = [memoryview(part) for part in parts if part]
        while rest:
            self._wait_for(self._requests, select.POLLOUT)
            rest = _after(os.writev(self._requests, rest), rest)

    def read(self, size: int) -> bytes:
        """Return `size` bytes from the process, or fewer if it ends.

        Raises
        ------
        OutOfTimeError
            If the process does not send them in time.
        """
        pieces, missing = [], size
        while missing:
            self._wait_for(self._answers, select.POLLIN)
            piece = os.read(self._answers, missing)
            if not piece:
                break
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)

    def _wait_for(self, descriptor: int, event: int) -> None:
        poll = select.poll()
        poll.register(descriptor, event)
        milliseconds = (self._deadline - time.monotonic()) * 1000
        if milliseconds <= 0 or not poll.poll(milliseconds):
            raise OutOfTimeError


def _after(size: int, parts: Sequence[memoryview]) -> list[memoryview]:
    """Return what follows the first `size` bytes of the parts."""
    rest = []
    for part in parts:
        taken = min(size, len(part))
        size -= taken
        if taken < len(part):
            rest.append(part[taken:])
    return rest


class ConfinedProcess:
    """A process that does one task at a time. It starts with the first task, and again after it was stopped.

    Starting takes 0.3 seconds, so the process is reused for the next task. It communicates through pipes, because
    Lambda has no ``/dev/shm``, which the queues and locks of `multiprocessing` need.

    Parameters
    ----------
    program : Path
        The program: a Python file that limits itself with `confinement`, and then reads tasks from standard input and
        writes results to standard output.
    memory_bytes : int
        Address space that the process may allocate after its start.
    max_seconds : float
        Maximum wall-clock time and CPU time for one task.
    """

    def __init__(self, program: Path, memory_bytes: int, max_seconds: float) -> None:
        self._program = program
        self._memory_bytes = memory_bytes
        self._max_seconds = max_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._stop: weakref.finalize[..., ConfinedProcess] | None = None

    def exchange(
        self,
        send: Callable[[Channel], None],
        receive: Callable[[Channel], Result | None],
        seconds: float,
    ) -> Result | None:
        """Send a task and receive its result.

        Parameters
        ----------
        send : callable
            Writes the task. Its errors are passed on.
        receive : callable
            Reads the result; returns None if the process ended, or must not do another task.
        seconds : float
            Time for the task, up to the process's maximum.

        Returns
        -------
        Result or None
            None if the process crashed, or exceeded its limits. The next task starts another process.
        """
        process = self._running()
        assert process.stdin is not None  # noqa: S101 - for the type checker
        assert process.stdout is not None  # noqa: S101
        channel = Channel(process.stdin.fileno(), process.stdout.fileno(), min(seconds, self._max_seconds))
        result = None
        try:
            with suppress(BrokenPipeError, OutOfTimeError):
                send(channel)
                result = receive(channel)
        except BaseException:
            # The process still waits for the rest of the task.
            self.stop()
            raise
        if result is None:
            self.stop()
        return result

    def start(self) -> None:
        """Start the process if it is not running, without waiting for it."""
        self._running()

    def stop(self) -> None:
        """End the process if it is running."""
        if self._stop:
            self._stop()
        self._process = None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.stop()
            limits = (str(self._memory_bytes), str(int(self._max_seconds)))
            self._process = process = subprocess.Popen(
                [sys.executable, "-s", "-P", "-B", str(self._program), *limits],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=_environment(),
                cwd="/",
                bufsize=0,
            )
            assert process.stdin is not None  # noqa: S101 - for the type checker
            os.set_blocking(process.stdin.fileno(), False)
            self._stop = weakref.finalize(self, _end, process)
        return self._process


def _environment() -> dict[str, str]:
    """The variables that Python needs to find its libraries, and no others, so that no credentials are passed on."""
    # Each thread of OpenBLAS would take address space, and the process does not multiply matrices.
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"}
    if path := library_path():
        environment["LD_LIBRARY_PATH"] = path
    return environment


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            with suppress(BrokenPipeError):
                pipe.close()
    process.wait()
