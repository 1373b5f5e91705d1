"""Keeps HTTP connections open between calls, and replaces them before a dead one can delay a call.

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

from framegate.aws.trust import tls_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from queue import LifoQueue

    from urllib3._base_connection import BaseHTTPConnection, BaseHTTPSConnection
    from urllib3.response import BaseHTTPResponse

CONNECT_TIMEOUT_SECONDS = 2.0
"""Maximum time for a TCP or TLS handshake, and for sending a request with a small body."""

MAX_IDLE_SECONDS = 5.0
"""Maximum idle time of a connection that is used again.

While Lambda freezes a function, the service or a NAT gateway can drop its connections. The FIN or RST does not always
arrive, and a request on a dead connection waits until it times out. A new connection takes milliseconds.

Lambda developer guide, "Best practices": reuse connections, expect that idle ones are purged, and reconnect.
"""

KEEPALIVE_IDLE_SECONDS, KEEPALIVE_INTERVAL_SECONDS, KEEPALIVE_PROBES = 2, 1, 3
"""TCP keepalive settings, which detect a peer that vanishes during a call."""


def has_idled_too_long(idle_since: float) -> bool:
    """Whether a connection may be dead that was last used at this time.

    Parameters
    ----------
    idle_since : float
        Time of the last use, as ``time.time`` gives it. Only the wall clock shows how long a function was frozen; the
        monotonic clock may have stopped. After the wall clock was set back, the connection counts as too old.
    """
    return not 0 <= time.time() - idle_since <= MAX_IDLE_SECONDS


class Connections:
    """A thread-safe pool of connections to the hosts of a service.

    Parameters
    ----------
    ca_certs : str
        Path of the certificates to trust.
    max_connections : int
        Number of connections to keep open for each host: the number of threads that use this object.
    send_timeout_seconds : float
        Maximum time for sending a request.
    """

    def __init__(self, ca_certs: str, max_connections: int, send_timeout_seconds: float) -> None:
        self._send_timeout_seconds = send_timeout_seconds
        self._manager = urllib3.PoolManager(
            # One more for the connection that is opened ahead.
            maxsize=max_connections + 1,
            timeout=urllib3.Timeout(CONNECT_TIMEOUT_SECONDS),
            ca_certs=ca_certs,
            ssl_context=tls_context(),
            socket_options=[*HTTPConnection.default_socket_options, *_keepalive_options(send_timeout_seconds)],
        )
        self._manager.pool_classes_by_scheme = {"http": _Pool, "https": _HttpsPool}
        # The manager would parse the URL of each request. A service has one host, or two.
        self._pools: dict[str, _Pool] = {}

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | bytearray,
        timeout_seconds: float,
        silence_timeout_seconds: float,
        *,
        connect_ahead: bool = False,
    ) -> BaseHTTPResponse:
        """Send a request over an idle connection or a new one, and wait for the headers of the response.

        Parameters
        ----------
        method, url, headers, body
            The request, encoded for the wire.
        timeout_seconds : float
            Maximum time for the call.
        silence_timeout_seconds : float
            Maximum time without a byte from the server.
        connect_ahead : bool
            Whether to open a connection for the next call while this one waits for its response, unless one is idle.

        Raises
        ------
        urllib3.exceptions.HTTPError
            If the call fails. All idle connections are closed then.
        """
        parts = urlsplit(url)
        pool = self._pools.get(parts.netloc)
        if pool is None:
            pool = self._pools[parts.netloc] = cast("_Pool", self._manager.connection_from_url(url))
        with pool.fresh_after_failure(), pool.connecting_ahead(is_needed=connect_ahead):
            # PoolManager.request would normalize the path and so invalidate the signature.
            return pool.urlopen(
                method,
                f"{parts.path}?{parts.query}" if parts.query else parts.path,
                body=cast("bytes", body),
                headers=headers,
                timeout=urllib3.Timeout(
                    timeout_seconds,
                    connect=min(self._send_timeout_seconds, timeout_seconds),
                    read=silence_timeout_seconds,
                ),
                preload_content=False,
                decode_content=False,
                redirect=False,
                retries=False,
            )


def _keepalive_options(send_timeout_seconds: float) -> list[tuple[int, int, int]]:
    """Return socket options that end a connection whose peer acknowledges nothing. Not every system has them all."""
    by_name = {
        "TCP_KEEPIDLE": KEEPALIVE_IDLE_SECONDS,
        "TCP_KEEPINTVL": KEEPALIVE_INTERVAL_SECONDS,
        "TCP_KEEPCNT": KEEPALIVE_PROBES,
        # In milliseconds, see tcp(7). A peer that accepts no bytes for this long misses the send timeout anyway.
        "TCP_USER_TIMEOUT": round(send_timeout_seconds * 1000),
    }
    options = [(socket.IPPROTO_TCP, getattr(socket, name), value) for name, value in by_name.items() if name in _NAMES]
    return [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), *options]


_NAMES = frozenset(dir(socket))


class _Pooled:
    """What the pool notes about a connection.

    Attributes
    ----------
    idle_since : float or None
        The time of its last use, by the wall clock; None before its first use.
    after_request : callable or None
        Called when a request was sent, before the wait for its response.
    """

    idle_since: float | None = None
    after_request: Callable[[], None] | None = None

    def getresponse(self) -> Any:
        if self.after_request:
            self.after_request()
        return super().getresponse()  # type: ignore[misc]


class _Connection(_Pooled, HTTPConnection):
    pass


class _HttpsConnection(_Pooled, HTTPSConnection):
    @property
    def is_connected(self) -> bool:
        if self.sock is None:
            return False
        if super().is_connected:
            return True
        # The socket is readable: the peer closed the connection, or it sent session tickets after the handshake (RFC
        # 8446, section 4.6.1), which OpenSSL consumes only during a read.
        self.sock.settimeout(0)
        try:
            self.sock.recv(1)
        except ssl.SSLWantReadError:
            return True
        except OSError:
            pass
        return False


class _Pool(urllib3.HTTPConnectionPool):
    """A pool that can open a connection ahead of a request, and closes connections that were idle for too long."""

    ConnectionCls: type[BaseHTTPConnection] | type[BaseHTTPSConnection] = _Connection

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._idle = cast("LifoQueue[BaseHTTPConnection]", self.pool)
        # urllib3 fills the pool with None placeholders, which would leave no room for a connection opened ahead.
        self._idle.queue.clear()
        self._opening = threading.Lock()
        self._calls = threading.local()

    @contextmanager
    def connecting_ahead(self, *, is_needed: bool) -> Iterator[None]:
        """Open a connection for the next call while this thread's call waits for its response, if one is needed."""
        self._calls.connect_ahead = is_needed
        try:
            yield
        finally:
            self._calls.connect_ahead = False

    def _open_ahead(self) -> None:
        """Open a connection in a thread, unless one is idle or is being opened."""
        if not self._count_idle() and self._opening.acquire(blocking=False):
            threading.Thread(target=self._open, name="connect-ahead", daemon=True).start()

    @contextmanager
    def fresh_after_failure(self) -> Iterator[None]:
        """Close all idle connections if a call fails: after a freeze, all of them are probably stale."""
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
        """Count the connections that are open and idle; remove all others from the pool."""
        # Checking a connection reads from it, so no other thread may take it meanwhile.
        for each in reversed(self._take_idle()):
            if _is_stale(each) or not each.is_connected:
                each.close()
            else:
                # Our own `_put_conn` would renew its idle time.
                super()._put_conn(each)
        return self._idle.qsize()

    def _get_conn(self, timeout: float | None = None) -> BaseHTTPConnection:
        connection = super()._get_conn(timeout)
        if _is_stale(connection):
            # urllib3 connects it again when it sends the request.
            connection.close()
        is_needed = getattr(self._calls, "connect_ahead", False)
        cast("_Pooled", connection).after_request = self._open_ahead if is_needed else None
        return connection

    def _validate_conn(self, conn: BaseHTTPConnection) -> None:
        """Connect with the connect timeout; urllib3 would use the timeout for sending, which is longer."""
        if conn.is_closed:
            send_timeout, conn.timeout = conn.timeout, min(cast("float", conn.timeout), CONNECT_TIMEOUT_SECONDS)
            conn.connect()
            conn.timeout = send_timeout
        super()._validate_conn(conn)

    def _open(self) -> None:
        connection = self._new_conn()
        # Lambda may freeze the function before the connection is in the pool.
        began = time.time()
        try:
            connection.connect()
        except (HTTPError, OSError):
            # The next call opens its own connection, and reports what is wrong.
            connection.close()
        else:
            cast("_Pooled", connection).idle_since = began
            self._put_last(connection)
        finally:
            self._opening.release()

    def _put_last(self, connection: BaseHTTPConnection) -> None:
        """Put a connection where it is taken last: it is for the call after the next one."""
        idle = self._idle
        with idle.mutex:
            is_full = 0 < idle.maxsize <= len(idle.queue)
            if not is_full:
                idle.queue.insert(0, connection)
        if is_full:
            connection.close()

    def _put_conn(self, conn: BaseHTTPConnection | None) -> None:
        if conn is not None:
            cast("_Pooled", conn).idle_since = time.time()
            super()._put_conn(conn)


def _is_stale(connection: BaseHTTPConnection) -> bool:
    idle_since = cast("_Pooled", connection).idle_since
    return idle_since is not None and not connection.is_closed and has_idled_too_long(idle_since)


class _HttpsPool(_Pool, urllib3.HTTPSConnectionPool):
    ConnectionCls = _HttpsConnection
