"""HTTP connections that are kept open between calls, and replaced before a dead one can cost a call its time.

This is the only module that relies on internals of urllib3; ``tests/unit/test_connection_pool.py`` names each of them.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from contextlib import contextmanager, suppress
from queue import Empty
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from queue import LifoQueue

    from urllib3._base_connection import BaseHTTPConnection, BaseHTTPSConnection
    from urllib3.response import BaseHTTPResponse

CONNECT_TIMEOUT_SECONDS = 2.0
"""Seconds that a TCP or TLS handshake may take, and the sending of a request without a body to speak of."""

MAX_IDLE_SECONDS = 5.0
"""Idle time after which a connection is not used again.

While Lambda freezes a function, the service or a NAT gateway can drop its connections. The FIN or RST does not always
arrive, and a request on such a connection waits for an answer until it times out. A new connection takes milliseconds.

Lambda developer guide, "Best practices": reuse connections, expect that idle ones are purged, and reconnect.
"""

KEEPALIVE_IDLE_SECONDS, KEEPALIVE_INTERVAL_SECONDS, KEEPALIVE_PROBES = 2, 1, 3
"""When TCP asks a silent peer whether it is still there: it notices a peer that vanished during a call."""


def has_idled_too_long(idle_since: float) -> bool:
    """Whether a connection that was used last at that time of ``time.time`` may be dead.

    Only the wall clock shows how long a function was frozen: the monotonic clock may stand still meanwhile. A wall
    clock that was set back tells nothing, so the connection counts as too old.
    """
    return not 0 <= time.time() - idle_since <= MAX_IDLE_SECONDS


class Connections:
    """Keeps connections to hosts open; many threads can use one.

    Parameters
    ----------
    ca_certs : str or None
        Path of the certificates to trust; None is the system's.
    max_connections : int
        Connections to a host that are kept open; as many as threads use this object.
    send_timeout_seconds : float
        Seconds in which a request is sent.
    """

    def __init__(self, ca_certs: str | None, max_connections: int, send_timeout_seconds: float) -> None:
        self._send_timeout = send_timeout_seconds
        self._manager = urllib3.PoolManager(
            # One more, opened ahead.
            maxsize=max_connections + 1,
            timeout=urllib3.Timeout(CONNECT_TIMEOUT_SECONDS),
            ca_certs=ca_certs,
            socket_options=[*HTTPConnection.default_socket_options, *_keepalive_options(send_timeout_seconds)],
        )
        self._manager.pool_classes_by_scheme = {"http": _Pool, "https": _HttpsPool}

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | bytearray,
        timeout: float,
        silence_timeout: float,
    ) -> BaseHTTPResponse:
        """Send a request over an idle connection or a new one, and wait for the head of the answer.

        Parameters
        ----------
        method, url, headers, body
            The request, encoded as it goes over the wire.
        timeout : float
            Seconds for it.
        silence_timeout : float
            Seconds without a byte after which it is given up.

        Raises
        ------
        urllib3.exceptions.HTTPError
            If the call fails. All idle connections are closed then.
        """
        pool, parts = self._pool(url), urlsplit(url)
        with pool.fresh_after_failure():
            # Not by the manager: it normalizes the path, and the signature covers the path as it is.
            return pool.urlopen(
                method,
                f"{parts.path}?{parts.query}" if parts.query else parts.path,
                body=cast("bytes", body),
                headers=headers,
                timeout=urllib3.Timeout(timeout, connect=min(self._send_timeout, timeout), read=silence_timeout),
                preload_content=False,
                decode_content=False,
                redirect=False,
                retries=False,
            )

    def open_ahead(self, url: str) -> None:
        """Open a connection to that URL's host in a thread, unless one more than the next call takes is idle."""
        self._pool(url).open_ahead()

    def _pool(self, url: str) -> _Pool:
        return cast("_Pool", self._manager.connection_from_url(url))


def _keepalive_options(send_timeout_seconds: float) -> list[tuple[int, int, int]]:
    """Socket options that end a connection whose peer acknowledges nothing; names differ outside Linux."""
    by_name = {
        "TCP_KEEPIDLE": KEEPALIVE_IDLE_SECONDS,
        "TCP_KEEPINTVL": KEEPALIVE_INTERVAL_SECONDS,
        "TCP_KEEPCNT": KEEPALIVE_PROBES,
        # Milliseconds, as tcp(7) has it. A peer that accepts no bytes for longer would miss the send timeout anyway.
        "TCP_USER_TIMEOUT": round(send_timeout_seconds * 1000),
    }
    options = [(socket.IPPROTO_TCP, getattr(socket, name), value) for name, value in by_name.items() if name in _NAMES]
    return [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), *options]


_NAMES = frozenset(dir(socket))


class _IdleTime:
    """When a connection was last used, by the wall clock; None before its first use."""

    idle_since: float | None = None


class _Connection(_IdleTime, HTTPConnection):
    pass


class _HttpsConnection(_IdleTime, HTTPSConnection):
    @property
    def is_connected(self) -> bool:
        if self.sock is None:
            return False
        if super().is_connected:
            return True
        # There is something to read: its end; or just the session tickets that a server sends after the handshake (RFC
        # 8446, section 4.6.1), and OpenSSL takes only when it is asked for data.
        self.sock.settimeout(0)
        try:
            self.sock.recv(1)
        except ssl.SSLWantReadError:
            return True
        except OSError:
            pass
        return False


class _Pool(urllib3.HTTPConnectionPool):
    """A pool that can have a connection before there is a request for it, and keeps none for too long."""

    ConnectionCls: type[BaseHTTPConnection] | type[BaseHTTPSConnection] = _Connection

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._idle = cast("LifoQueue[BaseHTTPConnection]", self.pool)
        # As many times None, for connections that are yet to be made; they would keep one out that is opened ahead.
        self._idle.queue.clear()
        self._opening = threading.Lock()

    def open_ahead(self) -> None:
        """Open a connection, unless there is one more than the next call takes, or one on its way."""
        if self._count_idle() <= 1 and self._opening.acquire(blocking=False):
            threading.Thread(target=self._open, name="connect-ahead", daemon=True).start()

    @contextmanager
    def fresh_after_failure(self) -> Iterator[None]:
        """Close what is idle if a call fails: after a function was frozen, all of it is likely to be stale."""
        try:
            yield
        except HTTPError:
            for each in self._take_idle():
                each.close()
            raise

    def _take_idle(self) -> list[BaseHTTPConnection]:
        taken = []
        with suppress(Empty):
            while True:
                taken.append(self._idle.get(block=False))
        return taken

    def _count_idle(self) -> int:
        """How many connections are open and idle; the others leave the pool."""
        # Taken out of it, since to look at one is to read from it: no other thread may.
        for each in reversed(self._take_idle()):
            if _is_stale(each) or not each.is_connected:
                each.close()
            else:
                # Not `_put_conn`: it has not been used.
                super()._put_conn(each)
        return self._idle.qsize()

    def _get_conn(self, timeout: float | None = None) -> BaseHTTPConnection:
        connection = super()._get_conn(timeout)
        if _is_stale(connection):
            # It connects again when the request is sent, as urllib3's own dropped connections do.
            connection.close()
        return connection

    def _validate_conn(self, conn: BaseHTTPConnection) -> None:
        """Connect within its own time: urllib3 has one for that and for a body that is sent."""
        if conn.is_closed:
            send_timeout_seconds, conn.timeout = conn.timeout, min(cast("float", conn.timeout), CONNECT_TIMEOUT_SECONDS)
            conn.connect()
            conn.timeout = send_timeout_seconds
        super()._validate_conn(conn)

    def _open(self) -> None:
        connection = self._new_conn()
        # The function may be frozen before the connection is in the pool.
        began = time.time()
        try:
            connection.connect()
        except (HTTPError, OSError):
            # Whoever needs one will try, and say what is wrong.
            connection.close()
        else:
            cast("_IdleTime", connection).idle_since = began
            self._put_last(connection)
        finally:
            self._opening.release()

    def _put_last(self, connection: BaseHTTPConnection) -> None:
        """Put a connection where it is taken last, so that the call that it is not for does not get it."""
        idle = self._idle
        with idle.mutex:
            is_full = 0 < idle.maxsize <= len(idle.queue)
            if not is_full:
                idle.queue.insert(0, connection)
        if is_full:
            connection.close()

    def _put_conn(self, conn: BaseHTTPConnection | None) -> None:
        if conn is not None:
            cast("_IdleTime", conn).idle_since = time.time()
            super()._put_conn(conn)


def _is_stale(connection: BaseHTTPConnection) -> bool:
    idle_since = cast("_IdleTime", connection).idle_since
    return idle_since is not None and not connection.is_closed and has_idled_too_long(idle_since)


class _HttpsPool(_Pool, urllib3.HTTPSConnectionPool):
    ConnectionCls = _HttpsConnection
