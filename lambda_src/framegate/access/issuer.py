"""Fetches the keys of an OpenID Connect issuer: from where it says they are, and no more than an honest one sends."""

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
"""Seconds for both documents together; the function has 10 for everything."""

CONNECT_TIMEOUT = 2.0
"""Seconds that a TCP or TLS handshake may take."""

SILENCE_TIMEOUT = 3.0
"""Seconds without a byte after which a document is given up."""

MAX_DOCUMENT = 256 * 1024
"""Bytes of a document; those of large issuers, with a certificate chain for each key, have some 20,000."""


class IssuerError(Exception):
    """The issuer's keys cannot be had, so that no token can be checked.

    Parameters
    ----------
    reason : str
        Why, in a word for the log.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"The issuer's keys cannot be had: {reason}")
        self.reason = reason


class OpenIdIssuer:
    """An issuer, by its discovery document.

    Parameters
    ----------
    issuer : str
        Its URL, as in ``iss``.

    References
    ----------
    OpenID Connect Discovery 1.0, section 4.
    RFC 7517, section 5: JWK Set.
    """

    def __init__(self, issuer: str) -> None:
        self._issuer = issuer
        # Loading the system's certificates takes longer than most requests, so it is done before the first one.
        self._http = urllib3.PoolManager(ssl_context=ssl.create_default_context())

    def keys(self) -> list[Any]:
        """Fetch the members of the issuer's key set, whatever they are.

        Raises
        ------
        IssuerError
            If the issuer is not there, or does not answer as the standard has it.
        """
        budget = TimeBudget(FETCH_SECONDS)
        with subsegment("OpenID issuer"):
            # Section 4.1: a terminating slash of the issuer is removed, unlike in `iss`.
            configuration = self._get(f"{self._issuer.removesuffix('/')}/.well-known/openid-configuration", budget)
            if configuration.get("issuer") != self._issuer:
                raise IssuerError("other-issuer")
            keys = self._get(_https(configuration.get("jwks_uri")), budget).get("keys")
        if not isinstance(keys, list):
            raise IssuerError("no-keys")
        return keys

    def _get(self, url: str, budget: TimeBudget) -> dict[str, Any]:
        if budget.exhausted:
            raise IssuerError("too-slow")
        left = budget.remaining()
        try:
            # Section 4.2: the status is 200. A redirect could lead anywhere, out of TLS as well.
            response = self._http.request(
                "GET",
                url,
                headers={"Accept": "application/json"},
                timeout=urllib3.Timeout(connect=min(CONNECT_TIMEOUT, left), read=min(SILENCE_TIMEOUT, left)),
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
    """The URL, if keys that came from there could be trusted."""
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
    except ValueError:
        parts = None
    if parts is None or parts.scheme != "https" or not parts.hostname:
        raise IssuerError("keys-without-https")
    return parts.geturl()


def _body(response: urllib3.BaseHTTPResponse, budget: TimeBudget) -> bytes:
    content = b""
    # read1, unlike read, comes back with what is there: a body that drips is given up when the time has run out.
    while piece := response.read1(MAX_DOCUMENT):
        content += piece
        if len(content) > MAX_DOCUMENT:
            raise IssuerError("too-large")
        if budget.exhausted:
            raise IssuerError("too-slow")
    return content
