"""What a fault does to the connection of a call: delays, cut-off and slow bodies, resets, silence."""

from __future__ import annotations

import math
import socket
import struct
import time
from typing import TYPE_CHECKING

from local.health_imaging.errors import ServiceError

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator
    from io import BufferedIOBase

    from local.health_imaging.answers import Body
    from local.health_imaging.faults import Fault


class ConnectionEndedError(OSError):
    """A fault ended the connection."""


class FaultyConnection:
    """A connection that faults happen to.

    Parameters
    ----------
    connection : socket.socket
        The connection.
    reader : file
        What reads requests from it; it keeps the socket open until it is closed.
    closing : threading.Event
        Set when the emulator closes; it ends every wait.
    """

    def __init__(self, connection: socket.socket, reader: BufferedIOBase, closing: threading.Event) -> None:
        self._connection = connection
        self._reader = reader
        self._closing = closing

    def begin(self, fault: Fault) -> None:
        """Do what a fault does before the answer.

        Raises
        ------
        ServiceError
            The exception that the fault answers with.
        ConnectionEndedError
            If the fault ends the connection.
        """
        if self._closing.wait(fault.latency):
            raise ConnectionEndedError
        if fault.error is not None:
            raise ServiceError(fault.error, "A fault was armed in the emulator")
        if fault.then is not None and fault.after is None:
            self._break_off(fault)

    def pieces(self, body: Body, fault: Fault) -> Iterator[memoryview]:
        """The body, as far and as fast as a fault lets it through.

        Raises
        ------
        ConnectionEndedError
            If the fault ends the connection.
        """
        left = fault.after if fault.then is not None else None
        for piece in _slices(body, fault):
            if left is not None and left <= len(piece):
                yield piece[:left]
                self._break_off(fault)
                yield piece[left:]
                left = None
            else:
                yield piece
                left = None if left is None else left - len(piece)
            if fault.bytes_per_second:
                self._closing.wait(len(piece) / fault.bytes_per_second)
        if left is not None:
            self._break_off(fault)

    def _break_off(self, fault: Fault) -> None:
        """End the connection as the fault says; return only from a stall that is over."""
        if fault.then == "stall" and self._stall(fault.stall_seconds):
            return
        if fault.then == "reset":
            # With no time to linger, closing sends RST instead of FIN.
            self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # `shutdown` would send FIN first, so the server must not get to call it.
            self._reader.close()
            self._connection.close()
        raise ConnectionEndedError

    def _stall(self, seconds: float | None) -> bool:
        """Stay silent for that long; return False if the client gives up before, or the emulator closes."""
        until = time.monotonic() + (math.inf if seconds is None else seconds)
        self._connection.settimeout(0.1)
        while time.monotonic() < until:
            try:
                if self._closing.is_set() or not self._connection.recv(1, socket.MSG_PEEK):
                    return False
                # The next request is there already; it has to wait like this one.
                self._closing.wait(0.1)
            except TimeoutError:
                continue
            except OSError:
                return False
        self._connection.settimeout(None)
        return True


def _slices(body: Body, fault: Fault) -> Iterator[memoryview]:
    """A body in pieces so small that it can be sent slowly."""
    size = max(1, fault.bytes_per_second // 20) if fault.bytes_per_second else 1 << 20
    for piece in body.pieces:
        view = memoryview(piece)
        yield from (view[start : start + size] for start in range(0, len(view), size))
