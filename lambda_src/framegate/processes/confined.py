"""Starts and replaces a confined process, and exchanges messages with it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import weakref
from contextlib import suppress
from typing import IO, TYPE_CHECKING, TypeVar

from framegate.settings import library_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Result = TypeVar("Result")


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
        send: Callable[[IO[bytes]], None],
        receive: Callable[[IO[bytes]], Result | None],
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
        killer = threading.Timer(min(seconds, self._max_seconds), process.kill)
        killer.start()
        try:
            try:
                send(process.stdin)
                process.stdin.flush()
            except BrokenPipeError:
                result = None
            else:
                result = receive(process.stdout)
        except BaseException:
            # The process still waits for the rest of the task.
            self.stop()
            raise
        finally:
            killer.cancel()
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
            )
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
