"""Calls of AWS over HTTP: signed with botocore, sent with urllib3, each waited for just as long as there is time.

Frames come and go this way, and not through the SDK's clients. A client takes one read timeout for its whole life,
where a request here may wait just as long as API Gateway still does. And it costs more: 1.0 ms to get a frame of 170 kB
from HealthImaging instead of 0.7, 1.5 ms to put it into S3 instead of 0.8, and 60 ms of a cold start.
``tests/unit/test_wire_parity.py`` compares what goes over the wire with what the SDK would send.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from botocore.awsrequest import AWSRequest
from botocore.httpsession import get_cert_path
from urllib3.exceptions import HTTPError, NameResolutionError, NewConnectionError
from urllib3.exceptions import TimeoutError as HttpTimeoutError

from framegate.aws.connections import CONNECT_TIMEOUT_SECONDS, Connections
from framegate.problems import UpstreamFailed, UpstreamTimeout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from botocore.auth import SigV4Auth
    from botocore.credentials import Credentials, ReadOnlyCredentials
    from botocore.session import Session
    from urllib3.response import BaseHTTPResponse

    from framegate.time_budget import TimeBudget

SILENCE_TIMEOUT_SECONDS = 10.0
"""Seconds without a byte after which an attempt is given up, so that there is time for another."""

USER_AGENT = "framegate"
"""What CloudTrail and S3's access log show of the caller."""


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
    send_timeout_seconds : float
        Seconds in which a request is sent.
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
        ca_certs = get_cert_path(session.get_config_variable("ca_bundle") or True)
        self._connections = Connections(ca_certs, max_connections, send_timeout_seconds)

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
        signed = self._signed(method, url, headers, body)
        with transport_problems(self._service):
            return self._connections.request(method, url, signed, body, patience, SILENCE_TIMEOUT_SECONDS)

    def connect_ahead(self, url: str) -> None:
        """Open a connection to that URL's host for the call after the next one, unless there is one.

        For a call whose answer will not be read to its end, and whose connection is lost with that. The handshake goes
        on beside it, and takes less time than the service needs to answer.
        """
        self._connections.open_ahead(url)

    def refresh_credentials(self) -> bool:
        """Load credentials anew from where they came from; say whether this thread's last call had others.

        A service can refuse credentials that the SDK takes for good: the role was changed, or the function comes from a
        snapshot.
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
            raise UpstreamFailed(self._service, "cannot be called, as the function has no credentials")
        self._signer(credentials).add_auth(request)
        # Not part of the signature, as with the SDK: proxies may change it.
        request.headers["User-Agent"] = USER_AGENT
        return dict(request.headers.items())

    def _frozen_credentials(self) -> ReadOnlyCredentials | None:
        credentials = self._credentials or self._session.get_credentials()
        return credentials.get_frozen_credentials() if credentials else None


@contextmanager
def transport_problems(service: str, broken: str = "broke the connection off") -> Iterator[None]:
    """Raise an `UpstreamFailed` or `UpstreamTimeout` of that service for an error of urllib3."""
    try:
        yield
    except NameResolutionError:
        evidence = {"upstream_error": "NameResolutionError"}
        raise UpstreamFailed(
            service, "could not be reached: its host name does not resolve", evidence=evidence
        ) from None
    except NewConnectionError:
        # A subclass of urllib3's TimeoutError, though it is raised at once where a connection is refused.
        raise UpstreamFailed(service, "could not be reached") from None
    except HttpTimeoutError:
        raise UpstreamTimeout(service) from None
    except HTTPError as error:
        # One that comes while a body is sent is inside another error.
        timed_out = any(isinstance(cause, TimeoutError) for cause in error.args)
        raise (UpstreamTimeout(service) if timed_out else UpstreamFailed(service, broken)) from None
