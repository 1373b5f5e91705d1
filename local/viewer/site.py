"""Serves OHIF and the login page on one origin."""

from __future__ import annotations

import json
import mimetypes
import re
import threading
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from local.http_server import LoopbackServer
from local.token_issuer import AUDIENCE, DISCOVERY
from local.viewer.login import LoginError, LoginProvider
from local.viewer.ohif import CALLBACK, CLIENT_ID, configuration

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from local.cloud import Deployment, LocalCloud
    from local.token_issuer import SigningKey, TokenIssuer

LOGIN = "/login"
MAX_FORM_BYTES = 64 * 1024
_HASHED_NAME = re.compile(r"(.+\.)?[0-9a-f]{16}\.\w+")
# Python's table depends on the machine.
_TYPES = {".js": "text/javascript", ".wasm": "application/wasm", ".css": "text/css", ".json": "application/json"}


class ViewerSite:
    """A website on loopback that runs while its ``with`` block runs.

    Parameters
    ----------
    application : Path
        The folder of OHIF's built application.
    issuer : TokenIssuer
        The issuer of the tokens that the login page hands out.
    key : SigningKey
        The key that signs them.
    claims : mapping, optional
        Further claims of the access tokens.

    Attributes
    ----------
    url : str
        The website's origin.
    dicomweb_url : str
        Base URL of the DICOMweb routes. `deploy` sets it.
    session_cookie : str
        The name of the login page's cookie. Browsers ignore the port of a cookie, so the name contains it.
    """

    def __init__(
        self, application: Path, issuer: TokenIssuer, key: SigningKey, claims: Mapping[str, object] | None = None
    ) -> None:
        self.application = application.resolve()
        self._issuer = issuer
        self.dicomweb_url = ""
        self._server = LoopbackServer(("127.0.0.1", 0), _handler(self))
        port = self._server.server_address[1]
        self.url = f"http://localhost:{port}"
        self.session_cookie = f"login_{port}"
        self.login = LoginProvider(issuer, key, self.url + LOGIN, CLIENT_ID, self.url + CALLBACK, claims)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def deploy(self, cloud: LocalCloud, *datastore_ids: str, **context: str) -> Deployment:
        """Deploy the stack for people who log in here, and show the first of its data stores.

        Parameters
        ----------
        cloud : LocalCloud
            A cloud that trusts the issuer's certificate.
        *datastore_ids : str
            The data stores that the stack serves.
        **context : str
            Further configuration keys.
        """
        settings = {"auth": "jwt", "jwt_issuer": self._issuer.url, "jwt_audience": AUDIENCE, "cors_origins": self.url}
        deployment = cloud.deploy(*datastore_ids, **{**settings, **context})
        self.dicomweb_url = f"{deployment.api_url}/datastore/{datastore_ids[0]}"
        return deployment

    def configuration_script(self) -> bytes:
        """Return the script that OHIF reads its configuration from."""
        return f"window.config = {json.dumps(configuration(self.dicomweb_url, self.url + LOGIN))};\n".encode()

    def file(self, path: str) -> Path:
        """Return the application's file for a path. OHIF shows its pages itself, so other paths get its only page."""
        file = (self.application / path.lstrip("/")).resolve()
        is_file = file.is_relative_to(self.application) and file.is_file()
        return file if is_file else self.application / "index.html"


def _caching(file: Path) -> Mapping[str, str]:
    """Let browsers keep files whose names contain a hash of their content, such as OHIF's decoders."""
    return {"Cache-Control": "max-age=31536000, immutable"} if _HASHED_NAME.fullmatch(file.name) else {}


def _handler(site: ViewerSite) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            path = unquote(url.path)
            if path == "/app-config.js":
                self._answer(site.configuration_script(), _TYPES[".js"])
            elif path == LOGIN + DISCOVERY:
                self._answer_json(site.login.discovery())
            elif path == f"{LOGIN}/keys":
                self._answer_json(site.login.keys())
            elif path == f"{LOGIN}/authorize":
                self._try(lambda: self._authorize(dict(parse_qsl(url.query))))
            elif path == f"{LOGIN}/end-session":
                self._try(lambda: self._log_out(dict(parse_qsl(url.query))))
            else:
                file = site.file(path)
                kind = _TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0] or "application/octet-stream"
                self._answer(file.read_bytes(), kind, headers=_caching(file))

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            if length > MAX_FORM_BYTES:
                self._answer(b"", "text/plain", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
                return
            form = dict(parse_qsl(self.rfile.read(length).decode()))
            path = urlsplit(self.path).path
            if path == f"{LOGIN}/authorize":
                self._try(lambda: self._log_in(form))
            elif path == f"{LOGIN}/end-session":
                self._try(lambda: self._log_out(form))
            elif path == f"{LOGIN}/token":
                self._try(lambda: self._answer_json(site.login.tokens(form)))
            else:
                self._answer(b"", "text/plain", HTTPStatus.NOT_FOUND)

        def _try(self, answer: Any) -> None:
            try:
                answer()
            except LoginError as error:
                self._answer_json({"error": error.error}, HTTPStatus.BAD_REQUEST)

        def _authorize(self, request: dict[str, str]) -> None:
            if location := site.login.resume(request, self._session_id()):
                self._redirect(location)
            else:
                self._answer(site.login.page(request).encode(), "text/html")

        def _log_in(self, form: dict[str, str]) -> None:
            login = site.login.log_in(form)
            self._redirect(login.location, {"Set-Cookie": self._cookie(login.session_id)})

        def _log_out(self, request: dict[str, str]) -> None:
            location = site.login.log_out(request, self._session_id())
            self._redirect(location, {"Set-Cookie": self._cookie("") + "; Max-Age=0"})

        def _session_id(self) -> str | None:
            # Other servers on localhost share the header, and SimpleCookie stops at the first invalid cookie.
            cookies = (each.strip().partition("=") for each in self.headers.get("Cookie", "").split(";"))
            return next((value for name, _, value in cookies if name == site.session_cookie), None)

        def _cookie(self, value: str) -> str:
            return f"{site.session_cookie}={value}; Path={LOGIN}; HttpOnly; SameSite=Lax"

        def _redirect(self, url: str, headers: Mapping[str, str] | None = None) -> None:
            self._answer(b"", "text/html", HTTPStatus.SEE_OTHER, {"Location": url, **(headers or {})})

        def _answer_json(self, document: object, status: HTTPStatus = HTTPStatus.OK) -> None:
            self._answer(json.dumps(document).encode(), "application/json", status)

        def _answer(
            self,
            body: bytes,
            kind: str,
            status: HTTPStatus = HTTPStatus.OK,
            headers: Mapping[str, str] | None = None,
        ) -> None:
            self.send_response(status)
            # The next run has another configuration.
            fields = {"Content-Type": kind, "Content-Length": str(len(body)), "Cache-Control": "no-cache"}
            fields.update(headers or {})
            for name, value in fields.items():
                self.send_header(name, value)
            with suppress(OSError):  # The browser closed the connection early.
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    return Handler
