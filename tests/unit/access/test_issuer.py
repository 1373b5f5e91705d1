"""The OpenID Connect issuer: its documents, its certificate, and its failures."""

from __future__ import annotations

import json
import socket
import time

import pytest

from framegate.access.issuer import MAX_DOCUMENT_BYTES, IssuerError, OpenIdIssuer
from framegate.access.issuer_keys import (
    IssuerKeys,
)
from framegate.access.tokens import TokenChecker
from local.token_issuer import KEY_SET, TokenIssuer


@pytest.mark.parametrize(
    ("path", "answer", "reason"),
    [
        ("discovery", (404, {}, b""), "status-404"),
        ("discovery", (503, {}, b"{}"), "status-503"),
        ("discovery", (200, {}, b"<html>"), "not-json"),
        ("discovery", (200, {}, b"[]"), "not-json"),
        ("discovery", (200, {}, b"[" * 9_000), "not-json"),
        ("discovery", (200, {}, b"{}"), "other-issuer"),
        (KEY_SET, (500, {}, b""), "status-500"),
        (KEY_SET, (200, {}, b"{}"), "no-keys"),
        (KEY_SET, (200, {}, b'{"keys": {"first": {}}}'), "no-keys"),
        (KEY_SET, (200, {}, b" " * (MAX_DOCUMENT_BYTES + 1)), "too-large"),
        (KEY_SET, (200, {"Content-Encoding": "gzip"}, b"\x1f\x8b"), "not-json"),
        (KEY_SET, (200, {"Content-Length": "10"}, b"{}"), "unreachable"),
    ],
)
def test_invalid_response_of_the_issuer_is_an_error(issuer, checker, key, path, answer, reason):
    issuer.answers["/realms/imaging/.well-known/openid-configuration" if path == "discovery" else path] = answer
    with pytest.raises(IssuerError) as error:
        checker.check(key.sign(issuer.claims()))
    assert error.value.reason == reason


def configure(issuer, changed):
    document = {"issuer": issuer.url, "jwks_uri": issuer.host + KEY_SET, **changed}
    issuer.answers["/realms/imaging/.well-known/openid-configuration"] = 200, {}, json.dumps(document).encode()


@pytest.mark.parametrize("other", ["https://login.example.org", None, ["x"]])
def test_discovery_document_of_another_issuer_is_an_error(issuer, checker, key, other):
    configure(issuer, {"issuer": other})
    with pytest.raises(IssuerError, match="other-issuer"):
        checker.check(key.sign(issuer.claims()))


@pytest.mark.parametrize("uri", ["http://localhost/keys", "file:///keys", "/keys", "https://", "https://[", None, 5])
def test_keys_are_fetched_only_over_https(issuer, checker, key, uri):
    configure(issuer, {"jwks_uri": uri})
    with pytest.raises(IssuerError, match="keys-without-https"):
        checker.check(key.sign(issuer.claims()))


@pytest.mark.parametrize("path", ["/realms/imaging/.well-known/openid-configuration", KEY_SET])
def test_redirect_is_not_followed(issuer, checker, key, path):
    issuer.answers[path] = 302, {"Location": f"{issuer.host}/elsewhere"}, b""
    with pytest.raises(IssuerError, match="status-302"):
        checker.check(key.sign(issuer.claims()))
    assert "/elsewhere" not in issuer.requests


def test_issuer_with_an_untrusted_certificate_is_an_error(issuer, key, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE")
    checker = TokenChecker(issuer.url, ("framegate",), None, IssuerKeys(OpenIdIssuer(issuer.url).keys))
    with pytest.raises(IssuerError, match="unreachable"):
        checker.check(key.sign(issuer.claims()))


def test_unreachable_issuer_is_an_error(tmp_path):
    with TokenIssuer(tmp_path) as gone:
        pass
    with pytest.raises(IssuerError, match="unreachable"):
        OpenIdIssuer(gone.url).keys()


def test_silent_issuer_times_out(monkeypatch):
    monkeypatch.setattr("framegate.access.issuer.CONNECT_TIMEOUT_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(IssuerError, match="unreachable"):
        OpenIdIssuer(f"https://localhost:{silent.getsockname()[1]}").keys()


def test_endless_response_of_the_issuer_times_out(issuer, monkeypatch):
    def dripping():
        for _ in range(1000):
            time.sleep(0.02)
            yield b" "

    monkeypatch.setattr("framegate.access.issuer.FETCH_SECONDS", 0.5)
    issuer.answers[KEY_SET] = 200, {}, dripping()
    with pytest.raises(IssuerError, match="too-slow"):
        OpenIdIssuer(issuer.url).keys()
