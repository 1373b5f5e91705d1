"""Emulates an OpenID Connect issuer on loopback, over TLS: discovery document, key set and signed tokens."""

from __future__ import annotations

import json
import ssl
import threading
import time
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

from local.certificates import write_certificate
from local.http_server import LoopbackServer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

Answer: TypeAlias = "tuple[int, dict[str, str], bytes | Iterable[bytes]]"

DISCOVERY = "/.well-known/openid-configuration"
KEY_SET = "/keys"
AUDIENCE = "framegate"
"""The audience of its tokens."""


class TokenIssuer:
    """An issuer that runs while its ``with`` block runs.

    Parameters
    ----------
    folder : Path
        The folder for its certificate and key.
    path : str
        The path of its URL, such as ``/realms/imaging``.

    Attributes
    ----------
    url : str
        The issuer's URL: the ``iss`` claim of its tokens.
    certificate : Path
        The certificate to trust.
    published : list of dict
        The keys of its key set, as JWKs. Append a key to publish it; remove it to withdraw it.
    answers : dict
        Overrides by path: status, headers, and a body as bytes or as an iterable of bytes.
    requests : list of str
        The paths of the requests received.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> with TokenIssuer(pathlib.Path(tempfile.mkdtemp())) as issuer:
    ...     key = issuer.new_key("ES256")
    ...     jwt.decode(key.sign({"sub": "me"}), key.private.public_key(), algorithms=["ES256"])
    {'sub': 'me'}
    """

    def __init__(self, folder: Path, path: str = "") -> None:
        self.certificate = folder / "issuer.crt"
        write_certificate(self.certificate, folder / "issuer.key")
        self.published: list[Any] = []
        self.answers: dict[str, Answer] = {}
        self.requests: list[str] = []
        self._path = path
        self._server = LoopbackServer(("127.0.0.1", 0), _handler(self))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, folder / "issuer.key")
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.host = f"https://localhost:{self._server.server_address[1]}"
        self.url = self.host + path

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def new_key(self, algorithm: str, key_id: str | None = None, **members: object) -> SigningKey:
        """Create a key and publish it; ``members`` are added to its JWK."""
        key = SigningKey(algorithm, key_id)
        self.published.append({**key.public_jwk(), **members})
        return key

    def claims(self, **changed: object) -> dict[str, object]:
        """The claims of a token that is valid for ten minutes, with changes; None removes a claim."""
        now = int(time.time())
        claims = {"iss": self.url, "sub": "somebody", "aud": AUDIENCE, "iat": now, "exp": now + 600, **changed}
        return {name: value for name, value in claims.items() if value is not None}

    def document(self, path: str) -> Answer:
        """The status, headers and body of the response to a request for a path."""
        self.requests.append(path)
        documents: dict[str, object] = {
            self._path.rstrip("/") + DISCOVERY: {"issuer": self.url, "jwks_uri": self.host + KEY_SET},
            KEY_SET: {"keys": self.published},
        }
        if path in self.answers:
            return self.answers[path]
        if path not in documents:
            return HTTPStatus.NOT_FOUND, {}, b""
        return HTTPStatus.OK, {"Content-Type": "application/json"}, json.dumps(documents[path]).encode()


class SigningKey:
    """A signing key of an issuer.

    Parameters
    ----------
    algorithm : str
        The JWS algorithm, which decides the kind of key.
    key_id : str, optional
        The ``kid`` of the key.

    Attributes
    ----------
    private : private key of cryptography
        The private key.
    """

    def __init__(self, algorithm: str, key_id: str | None = None) -> None:
        self.algorithm = algorithm
        self.key_id = key_id
        self.private = _generated(algorithm)

    def public_jwk(self) -> dict[str, Any]:
        """The public key as a JWK."""
        jwk: dict[str, Any] = get_default_algorithms()[self.algorithm].to_jwk(self.private.public_key(), as_dict=True)
        jwk.pop("key_ops", None)
        return {**jwk, "use": "sig", **({"kid": self.key_id} if self.key_id else {})}

    def sign(
        self, claims: dict[str, object], algorithm: str | None = None, headers: dict[str, object] | None = None
    ) -> str:
        """Sign a token with these claims; ``headers`` are added to its header."""
        key_id = {"kid": self.key_id} if self.key_id else {}
        key: Any = self.private
        return jwt.encode(claims, key, algorithm or self.algorithm, headers={**key_id, **(headers or {})})


def _generated(algorithm: str) -> PrivateKeyTypes:
    match algorithm:
        case "ES256":
            return ec.generate_private_key(ec.SECP256R1())
        case "ES384":
            return ec.generate_private_key(ec.SECP384R1())
        case "ES512":
            return ec.generate_private_key(ec.SECP521R1())
        case "EdDSA":
            return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _handler(issuer: TokenIssuer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = issuer.document(self.path)
            self.send_response(status)
            length = {"Content-Length": str(len(body))} if isinstance(body, bytes) else {}
            for name, value in {**length, **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(OSError):  # The client closed the connection early.
                for piece in [body] if isinstance(body, bytes) else body:
                    self.wfile.write(piece)

        def log_message(self, *_: object) -> None:
            """Log nothing; tests read `requests`."""

    return Handler
