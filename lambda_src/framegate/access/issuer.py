"""Fetches the keys of an OpenID Connect issuer from the address in its discovery document."""

from __future__ import annotations

import json
import ssl
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError

from framegate.observability import subsegment
from framegate.time_budget import TimeBudget

FETCH_SECONDS = 6.0
"""Seconds for both documents together. The function has 10 seconds in all."""

CONNECT_TIMEOUT_SECONDS = 2.0
"""Seconds that a TCP or TLS handshake may take."""

READ_TIMEOUT_SECONDS = 3.0
"""Seconds without a byte after which a fetch fails."""

MAX_DOCUMENT_BYTES = 256 * 1024
"""Maximum size of a document. Large issuers, with a certificate chain for each key, send some 20,000 bytes."""


class IssuerError(Exception):
    """The issuer's keys are not available, so no token can be checked.

    Parameters
    ----------
    reason : str
        The cause in one word, for the log.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"The issuer's keys are not available: {reason}")
        self.reason = reason


class OpenIdIssuer:
    """An OpenID Connect issuer.

    Parameters
    ----------
    issuer : str
        Its URL, as in the claim ``iss``.

    References
    ----------
    OpenID Connect Discovery 1.0, section 4.
    RFC 7517, section 5: JWK Set.
    """

    def __init__(self, issuer: str) -> None:
        self._issuer = issuer
        # Loading the system's certificates takes longer than most requests, so it happens before the first one.
        self._http = urllib3.PoolManager(ssl_context=ssl.create_default_context())

    def keys(self) -> list[Any]:
        """Fetch the members of the issuer's key set, without validating them.

        Raises
        ------
        IssuerError
            If the issuer is unreachable, has no keys, or sends documents that violate the standards.
        """
        budget = TimeBudget(FETCH_SECONDS)
        with subsegment("OpenID issuer"):
            # Section 4.1 removes a trailing slash from the issuer; `iss` keeps it.
            configuration = self._get(f"{self._issuer.removesuffix('/')}/.well-known/openid-configuration", budget)
            if configuration.get("issuer") != self._issuer:
                raise IssuerError("other-issuer")
            keys = self._get(_https(configuration.get("jwks_uri")), budget).get("keys")
        if not isinstance(keys, list) or not keys:
            raise IssuerError("no-keys")
        return keys

    def _get(self, url: str, budget: TimeBudget) -> dict[str, Any]:
        if budget.exhausted:
            raise IssuerError("too-slow")
        left = budget.remaining()
        try:
            # Section 4.2 requires status 200. A redirect could lead anywhere, even to plain HTTP.
            response = self._http.request(
                "GET",
                url,
                headers={"Accept": "application/json"},
                timeout=urllib3.Timeout(
                    connect=min(CONNECT_TIMEOUT_SECONDS, left), read=min(READ_TIMEOUT_SECONDS, left)
                ),
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
            try:
                if response.status != HTTPStatus.OK:
                    raise IssuerError(f"status-{response.status}")
                document = json.loads(_body(response, budget))
            finally:
                response.close()
                response.release_conn()
        except HTTPError:
            raise IssuerError("unreachable") from None
        except (ValueError, RecursionError):
            raise IssuerError("not-json") from None
        if not isinstance(document, dict):
            raise IssuerError("not-json")
        return document


def _https(url: object) -> str:
    """Return the URL if it uses HTTPS; keys from any other URL cannot be trusted."""
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
    except ValueError:
        parts = None
    if parts is None or parts.scheme != "https" or not parts.hostname:
        raise IssuerError("keys-without-https")
    return parts.geturl()


def _body(response: urllib3.BaseHTTPResponse, budget: TimeBudget) -> bytes:
    content = b""
    # read1 returns whatever has arrived, so a body that trickles in cannot exceed the budget. read would wait for all.
    while piece := response.read1(MAX_DOCUMENT_BYTES):
        content += piece
        if len(content) > MAX_DOCUMENT_BYTES:
            raise IssuerError("too-large")
        if budget.exhausted:
            raise IssuerError("too-slow")
    return content
