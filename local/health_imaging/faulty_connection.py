"""Applies a fault to the connection of a call: delays, truncated and slow bodies, resets, silence."""

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
    """The connection of a call, to which faults can be applied.

    Parameters
    ----------
    connection : socket.socket
        The client's connection.
    reader : file
        The file that reads requests from it. It keeps the socket open until it is closed.
    closing : threading.Event
        Set when the emulator closes, to end every wait.
    """

    def __init__(self, connection: socket.socket, reader: BufferedIOBase, closing: threading.Event) -> None:
        self._connection = connection
        self._reader = reader
        self._closing = closing

    def begin(self, fault: Fault) -> None:
        """Apply the part of a fault that comes before the response.

        Raises
        ------
        ServiceError
            The exception that the fault returns.
        ConnectionEndedError
            If the fault ends the connection.
        """
        if self._closing.wait(fault.latency):
            raise ConnectionEndedError
        if fault.error is not None:
            raise ServiceError(fault.error, "A fault armed in the emulator caused this error")
        if fault.then is not None and fault.after is None:
            self._break_off(fault)

    def pieces(self, body: Body, fault: Fault) -> Iterator[memoryview]:
        """Yield the body, as far and as fast as a fault allows.

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
        """End the connection as the fault says; return only after a stall that has ended."""
        if fault.then == "stall" and self._stall(fault.stall_seconds):
            return
        if fault.then == "reset":
            # With a linger time of zero, closing sends RST instead of FIN.
            self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # The server's `shutdown` would send FIN first, so we close the socket before it can.
            self._reader.close()
            self._connection.close()
        raise ConnectionEndedError

    def _stall(self, seconds: float | None) -> bool:
        """Send nothing for a time; return False if the client or the emulator closes the connection first."""
        until = time.monotonic() + (math.inf if seconds is None else seconds)
        self._connection.settimeout(0.1)
        while time.monotonic() < until:
            try:
                if self._closing.is_set() or not self._connection.recv(1, socket.MSG_PEEK):
                    return False
                # The client has sent its next request already, which waits as well.
                self._closing.wait(0.1)
            except TimeoutError:
                continue
            except OSError:
                return False
        self._connection.settimeout(None)
        return True


def _slices(body: Body, fault: Fault) -> Iterator[memoryview]:
    """Cut a body into pieces that are small enough to be sent slowly."""
    size = max(1, fault.bytes_per_second // 20) if fault.bytes_per_second else 1 << 20
    for piece in body.pieces:
        view = memoryview(piece)
        yield from (view[start : start + size] for start in range(0, len(view), size))
