"""Calls of AWS over HTTP: signed with botocore, sent with urllib3, each waited for just as long as there is time.

Frames come and go this way, and not through the SDK's clients. A client takes one read timeout for its whole life,
where a request here may wait just as long as API Gateway still does. And it costs more: 1.0 ms to get a frame of 170 kB
from HealthImaging instead of 0.7, 1.5 ms to put it into S3 instead of 0.8, and 60 ms of a cold start.
"""

from __future__ import annotations

import builtins
import ssl
import threading
from contextlib import contextmanager, suppress
from queue import Empty
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import urllib3
from botocore.awsrequest import AWSRequest
from botocore.httpsession import get_cert_path
from urllib3.connection import HTTPSConnection
from urllib3.exceptions import HTTPError, NewConnectionError, TimeoutError  # noqa: A004 - only urllib3's is meant

from framegate.problems import UpstreamFailed, UpstreamTimeout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from queue import LifoQueue

    from botocore.auth import SigV4Auth
    from botocore.credentials import ReadOnlyCredentials
    from botocore.session import Session
    from urllib3._base_connection import BaseHTTPConnection
    from urllib3.response import BaseHTTPResponse

    from framegate.time_budget import TimeBudget

CONNECT_TIMEOUT = 2.0
"""Seconds that a TCP or TLS handshake may take, and the sending of a request without a body to speak of."""

SILENCE_TIMEOUT = 10.0
"""Seconds without a byte after which an attempt is given up, so that there is time for another."""


class SignedHttp:
    """Calls one service; many threads can use one.

    Parameters
    ----------
    session : botocore.session.Session
        For credentials, and the certificates to trust.
    service : str
        The service's name, for people.
    signer : callable
        Makes what signs a request of the credentials of the moment: those of a role change while the function lives.
    max_connections : int
        Connections that are kept open; as many as threads use this object.
    send_timeout : float
        Seconds in which a request is sent.
    """

    def __init__(
        self,
        session: Session,
        service: str,
        signer: Callable[[ReadOnlyCredentials], SigV4Auth],
        max_connections: int = 1,
        send_timeout: float = CONNECT_TIMEOUT,
    ) -> None:
        self._session = session
        self._service = service
        self._signer = signer
        self._send_timeout = send_timeout
        self._http = urllib3.PoolManager(
            # One more, opened ahead.
            maxsize=max_connections + 1,
            timeout=urllib3.Timeout(CONNECT_TIMEOUT),
            ca_certs=get_cert_path(session.get_config_variable("ca_bundle") or True),
        )
        self._http.pool_classes_by_scheme = {"http": _Pool, "https": _HttpsPool}

    def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | bytearray, budget: TimeBudget
    ) -> BaseHTTPResponse:
        """Send a request and wait for the head of its answer; the body is there to be read.

        Parameters
        ----------
        method, url, headers, body
            The request. The URL is encoded as it goes over the wire.
        budget : TimeBudget
            The time for it.

        Raises
        ------
        UpstreamFailed
            If the service cannot be reached or breaks the connection off.
        UpstreamTimeout
            If it is silent, or the time runs out.
        """
        patience = budget.remaining()
        if not patience:
            raise UpstreamTimeout(self._service)
        pool, parts = self._pool(url), urlsplit(url)
        signed = self._signed(method, url, headers, body)
        with transport_problems(self._service), pool.fresh_after_failure():
            # Not by the manager: that takes dots out of a path, and what is signed is the path with them.
            return pool.urlopen(
                method,
                f"{parts.path}?{parts.query}" if parts.query else parts.path,
                body=cast("bytes", body),
                headers=signed,
                timeout=urllib3.Timeout(patience, connect=min(self._send_timeout, patience), read=SILENCE_TIMEOUT),
                preload_content=False,
                decode_content=False,
                redirect=False,
                retries=False,
            )

    def connect_ahead(self, url: str) -> None:
        """Open a connection to that URL's host for the call after the next one, unless there is one.

        For a call whose answer will not be read to its end, and whose connection is lost with that. The handshake goes
        on beside it, and takes less time than the service needs to answer.
        """
        self._pool(url).open_ahead()

    def _pool(self, url: str) -> _Pool:
        return cast("_Pool", self._http.connection_from_url(url))

    def _signed(self, method: str, url: str, headers: Mapping[str, str], body: bytes | bytearray) -> dict[str, str]:
        request = AWSRequest(method, url, headers=dict(headers), data=body)
        credentials = self._session.get_credentials()
        if credentials is None:
            raise UpstreamFailed(self._service, "cannot be called, as the function has no credentials")
        self._signer(credentials.get_frozen_credentials()).add_auth(request)
        return dict(request.headers.items())


@contextmanager
def transport_problems(service: str, broken: str = "broke the connection off") -> Iterator[None]:
    """Raise an `UpstreamFailed` or `UpstreamTimeout` of that service for an error of urllib3."""
    try:
        yield
    except NewConnectionError:
        # A subclass of TimeoutError, though it is raised at once where a connection is refused.
        raise UpstreamFailed(service, "could not be reached") from None
    except TimeoutError:
        raise UpstreamTimeout(service) from None
    except HTTPError as error:
        # One that comes while a body is sent is inside another error.
        timed_out = any(isinstance(cause, builtins.TimeoutError) for cause in error.args)
        raise (UpstreamTimeout(service) if timed_out else UpstreamFailed(service, broken)) from None


class _Pool(urllib3.HTTPConnectionPool):
    """A pool that can have a connection before there is a request for it."""

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
            if each.is_connected:
                self._put_conn(each)
            else:
                each.close()
        return self._idle.qsize()

    def _validate_conn(self, conn: BaseHTTPConnection) -> None:
        """Connect within its own time: urllib3 has one for that and for a body that is sent."""
        if conn.is_closed:
            send_timeout, conn.timeout = conn.timeout, min(cast("float", conn.timeout), CONNECT_TIMEOUT)
            conn.connect()
            conn.timeout = send_timeout
        super()._validate_conn(conn)

    def _open(self) -> None:
        connection = self._new_conn()
        try:
            connection.connect()
        except (HTTPError, OSError):
            # Whoever needs one will try, and say what is wrong.
            connection.close()
        else:
            self._put_conn(connection)
        finally:
            self._opening.release()

    def _put_conn(self, conn: BaseHTTPConnection | None) -> None:
        if conn is not None:
            super()._put_conn(conn)


class _HttpsConnection(HTTPSConnection):
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


class _HttpsPool(_Pool, urllib3.HTTPSConnectionPool):
    ConnectionCls = _HttpsConnection
