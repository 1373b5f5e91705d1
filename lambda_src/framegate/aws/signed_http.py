"""Calls AWS over HTTP within a time budget: botocore signs the requests, urllib3 sends them.

Frames travel this way rather than through the SDK's clients, for two reasons. A client has one read timeout for all its
calls, whereas a call here may wait as long as API Gateway still waits. And a client is slower: it takes 1.0 ms instead
of 0.7 to get a frame of 170 kB from HealthImaging, 1.5 ms instead of 0.8 to put it into S3, and 60 ms of a cold start.
``tests/unit/test_wire_parity.py`` compares the requests with the SDK's.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from botocore.awsrequest import AWSRequest
from urllib3.exceptions import HTTPError, NameResolutionError, NewConnectionError
from urllib3.exceptions import TimeoutError as HttpTimeoutError

from framegate.aws.connections import CONNECT_TIMEOUT_SECONDS, Connections
from framegate.aws.trust import ca_certs
from framegate.problems import UpstreamFailed, UpstreamTimeout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from botocore.auth import SigV4Auth
    from botocore.credentials import Credentials, ReadOnlyCredentials
    from botocore.session import Session
    from urllib3.response import BaseHTTPResponse

    from framegate.time_budget import TimeBudget

SILENCE_TIMEOUT_SECONDS = 10.0
"""Maximum time without a byte from the service. It leaves time for another attempt."""

USER_AGENT = "framegate"
"""The user agent, which CloudTrail and S3's access log record."""


class SignedHttp:
    """A thread-safe client for one service.

    Parameters
    ----------
    session : botocore.session.Session
        Provides credentials and the certificates to trust.
    service : str
        The service's display name.
    signer : callable
        Builds the signer of a request from the current credentials, which change while the function lives.
    max_connections : int
        Number of connections to keep open: the number of threads that use this object.
    send_timeout_seconds : float
        Maximum time for sending a request.
    """

    def __init__(
        self,
        session: Session,
        service: str,
        signer: Callable[[ReadOnlyCredentials], SigV4Auth],
        max_connections: int = 1,
        send_timeout_seconds: float = CONNECT_TIMEOUT_SECONDS,
    ) -> None:
        self._session = session
        self._service = service
        self._signer = signer
        self._credentials: Credentials | None = None
        self._loading = threading.Lock()
        self._used = threading.local()
        self._connections = Connections(ca_certs(session), max_connections, send_timeout_seconds)

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | bytearray,
        budget: TimeBudget,
        *,
        connect_ahead: bool = False,
    ) -> BaseHTTPResponse:
        """Send a request and wait for the headers of the response. The caller reads the body.

        Parameters
        ----------
        method, url, headers, body
            The request. The URL is encoded for the wire.
        budget : TimeBudget
            The time for the call.
        connect_ahead : bool
            Whether to open a connection for the next call, unless one is idle. Use this if the response will not be
            read to its end, because that closes the connection. The handshake takes less time than the service needs to
            respond.

        Raises
        ------
        UpstreamFailed
            If the service cannot be reached or breaks the connection.
        UpstreamTimeout
            If the service is silent or the time runs out.
        """
        timeout_seconds = budget.remaining()
        if not timeout_seconds:
            raise UpstreamTimeout(self._service)
        signed = self._signed(method, url, headers, body)
        with transport_problems(self._service):
            return self._connections.request(
                method, url, signed, body, timeout_seconds, SILENCE_TIMEOUT_SECONDS, connect_ahead=connect_ahead
            )

    def refresh_credentials(self) -> bool:
        """Reload the credentials; return whether they differ from those of this thread's last call.

        A service can reject credentials that the SDK considers valid: after a change of the role, or after a start from
        a snapshot.
        """
        refused = getattr(self._used, "credentials", None)
        with self._loading:
            if self._frozen_credentials() == refused:
                loaded = self._session.get_component("credential_provider").load_credentials()
                self._credentials = loaded or self._credentials
            return self._frozen_credentials() != refused

    def _signed(self, method: str, url: str, headers: Mapping[str, str], body: bytes | bytearray) -> dict[str, str]:
        request = AWSRequest(method, url, headers=dict(headers), data=body)
        self._used.credentials = credentials = self._frozen_credentials()
        if credentials is None:
            raise UpstreamFailed(self._service, "cannot be called: the function has no credentials")
        self._signer(credentials).add_auth(request)
        # Like the SDK, do not sign this header, because proxies may change it.
        request.headers["User-Agent"] = USER_AGENT
        return dict(request.headers.items())

    def _frozen_credentials(self) -> ReadOnlyCredentials | None:
        credentials = self._credentials or self._session.get_credentials()
        return credentials.get_frozen_credentials() if credentials else None


@contextmanager
def transport_problems(service: str, failure: str = "broke the connection") -> Iterator[None]:
    """Turn urllib3's errors into `UpstreamFailed` or `UpstreamTimeout`."""
    try:
        yield
    except NameResolutionError:
        evidence = {"upstream_error": "NameResolutionError"}
        raise UpstreamFailed(
            service, "could not be reached: its host name does not resolve", evidence=evidence
        ) from None
    except NewConnectionError:
        # This is a subclass of urllib3's TimeoutError, although a refused connection raises it at once.
        raise UpstreamFailed(service, "could not be reached") from None
    except HttpTimeoutError:
        raise UpstreamTimeout(service) from None
    except HTTPError as error:
        # A timeout while the body is sent is wrapped in another error.
        timed_out = any(isinstance(cause, TimeoutError) for cause in error.args)
        raise (UpstreamTimeout(service) if timed_out else UpstreamFailed(service, failure)) from None
