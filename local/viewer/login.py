"""A login page: the authorization code flow with PKCE, whose access tokens are JWTs."""

from __future__ import annotations

import base64
import hashlib
import hmac
import html
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local.token_issuer import SigningKey, TokenIssuer

TOKEN_LIFETIME_SECONDS = 3600
CODE_LIFETIME_SECONDS = 60
SESSION_LIFETIME_SECONDS = 8 * 3600
MAX_NAME_LENGTH = 64

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Log in</title>
<style>body {{ font: 16px sans-serif; margin: 15vh auto; width: 20em }} input, button {{ font: inherit; width: 100%;
 box-sizing: border-box; margin: .4em 0; padding: .5em }}</style>
<h1>Log in</h1>
<p>This login page runs on your machine. Every name is accepted, without a password.</p>
<form method="post"><label>Name<input name="name" value="radiologist" maxlength="{length}" autofocus required></label>
{fields}<button>Log in</button></form></html>"""


class LoginError(Exception):
    """A request that the provider refuses.

    Parameters
    ----------
    error : str
        The error code of RFC 6749, sections 4.1.2.1 and 5.2.
    """

    def __init__(self, error: str) -> None:
        super().__init__(error)
        self.error = error


@dataclass(frozen=True, slots=True)
class _Login:
    name: str
    redirect_uri: str
    challenge: str
    nonce: str | None
    expires_at: float


@dataclass(frozen=True, slots=True)
class _Session:
    name: str
    expires_at: float


class NewLogin(NamedTuple):
    """A person who has just logged in: the URL to redirect the browser to, and the session to keep in a cookie."""

    location: str
    session_id: str


class LoginProvider:
    """An OpenID Connect provider for one public client.

    A person who has logged in has a session, so that the next page of the viewer does not ask for the name again.

    The browser reaches it over HTTP on the viewer's own origin, so that nobody has to accept a certificate. API
    Gateway's authorizer reads the keys of the same tokens from `issuer`, over TLS.

    Parameters
    ----------
    issuer : TokenIssuer
        The issuer that the tokens name.
    key : SigningKey
        One of its keys.
    url : str
        Base URL of the provider.
    client_id, redirect_uri : str
        The client, and where the login page returns to.
    claims : mapping, optional
        Further claims of every access token.

    References
    ----------
    RFC 6749, section 4.1: authorization code grant. RFC 7636: PKCE. RFC 9068: access tokens as JWTs.
    OpenID Connect Core 1.0, section 3.1. OpenID Connect RP-Initiated Logout 1.0.
    """

    def __init__(
        self,
        issuer: TokenIssuer,
        key: SigningKey,
        url: str,
        client_id: str,
        redirect_uri: str,
        claims: Mapping[str, object] | None = None,
    ) -> None:
        self._claims = dict(claims or {})
        self._issuer = issuer
        self._key = key
        self._url = url
        self._client_id = client_id
        self._redirect_uri = redirect_uri
        self._logins: dict[str, _Login] = {}
        self._sessions: dict[str, _Session] = {}

    def discovery(self) -> dict[str, Any]:
        """Return the discovery document (OpenID Connect Discovery 1.0, section 4.2)."""
        return {
            "issuer": self._issuer.url,
            "authorization_endpoint": f"{self._url}/authorize",
            "token_endpoint": f"{self._url}/token",
            "end_session_endpoint": f"{self._url}/end-session",
            "jwks_uri": f"{self._url}/keys",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [self._key.algorithm],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none"],
        }

    def keys(self) -> dict[str, Any]:
        """Return the key set."""
        return {"keys": self._issuer.published}

    def page(self, request: Mapping[str, str]) -> str:
        """Return the login page for an authorization request.

        Raises
        ------
        LoginError
            If the request is not for this client, or lacks PKCE.
        """
        self._check(request)
        fields = "".join(
            f'<input type="hidden" name="{html.escape(name)}" value="{html.escape(value)}">'
            for name, value in request.items()
        )
        return _PAGE.format(length=MAX_NAME_LENGTH, fields=fields)

    def resume(self, request: Mapping[str, str], session_id: str | None) -> str | None:
        """Answer an authorization request without the login page, if the session or the request allows it.

        Returns
        -------
        str or None
            The URL to redirect the browser to: with an authorization code if the person has a session, with the error
            ``login_required`` if there is none and the request wants no page (``prompt=none``). None if the person
            must see the login page.

        Raises
        ------
        LoginError
            If the request is not for this client, or lacks PKCE.
        """
        self._check(request)
        session = self._sessions.get(session_id or "")
        prompt = request.get("prompt", "")
        if session and time.time() < session.expires_at and prompt in ("", "none"):
            return self._location_with_code(request, session.name)
        return _callback(request, error="login_required") if prompt == "none" else None

    def log_in(self, form: Mapping[str, str]) -> NewLogin:
        """Log somebody in.

        Raises
        ------
        LoginError
            If the request is not for this client, or names nobody.
        """
        self._check(form)
        name = form.get("name", "").strip()
        if not name or len(name) > MAX_NAME_LENGTH:
            raise LoginError("access_denied")
        session_id = secrets.token_urlsafe(32)
        self._sessions[session_id] = _Session(name, time.time() + SESSION_LIFETIME_SECONDS)
        return NewLogin(self._location_with_code(form, name), session_id)

    def log_out(self, request: Mapping[str, str], session_id: str | None) -> str:
        """End a session. Access tokens remain valid until they expire.

        Returns
        -------
        str
            The URL to redirect the browser to.

        Raises
        ------
        LoginError
            If the request names a page outside the client's origin.
        """
        client = urlsplit(self._redirect_uri)
        # urlsplit removes line breaks, which would add headers to the response.
        page = urlsplit(request.get("post_logout_redirect_uri", f"{client.scheme}://{client.netloc}/"))
        if (page.scheme, page.netloc) != (client.scheme, client.netloc):
            raise LoginError("invalid_request")
        self._sessions.pop(session_id or "", None)
        query = "&".join(filter(None, (page.query, urlencode(_state_of(request)))))
        return page._replace(query=query).geturl()

    def tokens(self, form: Mapping[str, str]) -> dict[str, Any]:
        """Exchange an authorization code for tokens. A code is valid once.

        Raises
        ------
        LoginError
            If the code is unknown or used, or the verifier does not belong to it.
        """
        if form.get("grant_type") != "authorization_code":
            raise LoginError("unsupported_grant_type")
        login = self._logins.pop(form.get("code", ""), None)
        if login is None or time.time() > login.expires_at or form.get("redirect_uri") != login.redirect_uri:
            raise LoginError("invalid_grant")
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if not hmac.compare_digest(base64.urlsafe_b64encode(digest).rstrip(b"=").decode(), login.challenge):
            raise LoginError("invalid_grant")
        lifetime = {"exp": int(time.time()) + TOKEN_LIFETIME_SECONDS, "sub": login.name}
        identity = self._issuer.claims(**lifetime, aud=self._client_id, nonce=login.nonce)
        further = {"client_id": self._client_id, "jti": secrets.token_urlsafe(12), **self._claims}
        access = self._issuer.claims(**lifetime, **further)
        return {
            "access_token": self._key.sign(access, headers={"typ": "at+jwt"}),
            "id_token": self._key.sign(identity),
            "token_type": "Bearer",
            "expires_in": TOKEN_LIFETIME_SECONDS,
            "scope": "openid",
        }

    def _location_with_code(self, request: Mapping[str, str], name: str) -> str:
        """Create an authorization code, and return the client's URL with it."""
        code = secrets.token_urlsafe(24)
        self._logins[code] = _Login(
            name,
            request["redirect_uri"],
            request["code_challenge"],
            request.get("nonce"),
            time.time() + CODE_LIFETIME_SECONDS,
        )
        return _callback(request, code=code)

    def _check(self, request: Mapping[str, str]) -> None:
        if request.get("client_id") != self._client_id or request.get("redirect_uri") != self._redirect_uri:
            raise LoginError("unauthorized_client")
        if request.get("response_type") != "code":
            raise LoginError("unsupported_response_type")
        if not request.get("code_challenge") or request.get("code_challenge_method") != "S256":
            raise LoginError("invalid_request")


def _callback(request: Mapping[str, str], **answer: str) -> str:
    return f"{request['redirect_uri']}?{urlencode({**answer, **_state_of(request)})}"


def _state_of(request: Mapping[str, str]) -> dict[str, str]:
    return {"state": request["state"]} if "state" in request else {}
