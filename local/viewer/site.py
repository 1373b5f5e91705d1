"""Serves OHIF and the login page on one origin."""

from __future__ import annotations

import json
import mimetypes
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from local.token_issuer import DISCOVERY
from local.viewer.login import LoginError, LoginProvider
from local.viewer.ohif import CALLBACK, CLIENT_ID, configuration

if TYPE_CHECKING:
    from pathlib import Path

    from local.token_issuer import SigningKey, TokenIssuer

LOGIN = "/login"
MAX_FORM_BYTES = 64 * 1024
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

    Attributes
    ----------
    url : str
        The website's origin.
    dicomweb_url : str
        Base URL of the DICOMweb routes. Set it once the API is deployed.
    """

    def __init__(self, application: Path, issuer: TokenIssuer, key: SigningKey) -> None:
        self.application = application.resolve()
        self.dicomweb_url = ""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://localhost:{self._server.server_address[1]}"
        self.login = LoginProvider(issuer, key, self.url + LOGIN, CLIENT_ID, self.url + CALLBACK)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def configuration_script(self) -> bytes:
        """Return the script that OHIF reads its configuration from."""
        return f"window.config = {json.dumps(configuration(self.dicomweb_url, self.url + LOGIN))};\n".encode()

    def file(self, path: str) -> Path:
        """Return the application's file for a path. OHIF shows its pages itself, so other paths get its only page."""
        file = (self.application / path.lstrip("/")).resolve()
        is_file = file.is_relative_to(self.application) and file.is_file()
        return file if is_file else self.application / "index.html"


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
                self._try(lambda: self._answer(site.login.page(dict(parse_qsl(url.query))).encode(), "text/html"))
            else:
                file = site.file(path)
                kind = _TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0] or "application/octet-stream"
                self._answer(file.read_bytes(), kind)

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            if length > MAX_FORM_BYTES:
                self._answer(b"", "text/plain", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
                return
            form = dict(parse_qsl(self.rfile.read(length).decode()))
            path = urlsplit(self.path).path
            if path == f"{LOGIN}/authorize":
                self._try(lambda: self._redirect(site.login.log_in(form)))
            elif path == f"{LOGIN}/token":
                self._try(lambda: self._answer_json(site.login.tokens(form)))
            else:
                self._answer(b"", "text/plain", HTTPStatus.NOT_FOUND)

        def _try(self, answer: Any) -> None:
            try:
                answer()
            except LoginError as error:
                self._answer_json({"error": error.error}, HTTPStatus.BAD_REQUEST)

        def _redirect(self, url: str) -> None:
            self._answer(b"", "text/html", HTTPStatus.SEE_OTHER, Location=url)

        def _answer_json(self, document: object, status: HTTPStatus = HTTPStatus.OK) -> None:
            self._answer(json.dumps(document).encode(), "application/json", status)

        def _answer(self, body: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK, **headers: str) -> None:
            self.send_response(status)
            # The application never changes while the server runs, but the next run has another configuration.
            fields = {"Content-Type": kind, "Content-Length": str(len(body)), "Cache-Control": "no-cache", **headers}
            for name, value in fields.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    return Handler
