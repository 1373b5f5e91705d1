"""Refused tokens: forged, expired, malformed, or meant for another audience."""

from __future__ import annotations

import json
import time

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from framegate.access.tokens import LEEWAY_SECONDS
from local.token_issuer import SigningKey
from tests.forging import base64url, compact, hs256, public_pem, signed_with
from tests.unit.access.refusals import refusal


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": -LEEWAY_SECONDS}, "expired"),
        ({"exp": -3600}, "expired"),
        ({"nbf": LEEWAY_SECONDS + 3}, "not-yet-valid"),
        ({"iat": LEEWAY_SECONDS + 3}, "not-yet-valid"),
    ],
)
def test_expired_or_early_token_is_refused(issuer, checker, key, claims, reason):
    now = int(time.time())
    token = key.sign(issuer.claims(**{name: now + seconds for name, seconds in claims.items()}))
    assert refusal(checker, token) == reason


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"iss": "https://login.example.org"}, "issuer"),
        ({"aud": "somebody-else"}, "audience"),
        ({"aud": ["somebody", "else"]}, "audience"),
        ({"aud": []}, "missing-claim"),
        ({"aud": {"framegate": True}}, "audience"),
        ({"aud": None}, "missing-claim"),
        ({"iss": None}, "missing-claim"),
        ({"exp": None}, "missing-claim"),
        ({"exp": "never"}, "malformed"),
        ({"exp": float("inf")}, "malformed"),
        ({"exp": [1]}, "malformed"),
        ({"nbf": "now"}, "malformed"),
    ],
)
def test_wrong_or_missing_claim_is_refused(issuer, checker, key, claims, reason):
    token = compact({"alg": "ES256", "kid": "first"}, issuer.claims(**claims), signed_with(key))
    assert refusal(checker, token) == reason


@pytest.mark.parametrize("slash", ["", "/"])
def test_issuer_must_match_exactly(issuer, checker, key, slash):
    wrong = issuer.url.upper() if not slash else issuer.url + slash
    assert refusal(checker, key.sign(issuer.claims(iss=wrong))) == "issuer"


def test_unsigned_token_is_refused(issuer, checker, key):
    for header in ({"alg": "none"}, {"alg": "none", "kid": "first"}, {"alg": "None", "kid": "first"}, {"kid": "first"}):
        assert refusal(checker, compact(header, issuer.claims())) == "algorithm"


def test_token_without_signature_is_refused(issuer, checker, key):
    token = key.sign(issuer.claims())
    assert refusal(checker, token.rpartition(".")[0] + ".") == "signature"
    assert refusal(checker, token.rpartition(".")[0]) == "malformed"


def test_token_with_changed_claims_is_refused(issuer, checker, key):
    header, _, signature = key.sign(issuer.claims()).split(".")
    claims = base64url(issuer.claims(sub="somebody-else"))
    assert refusal(checker, f"{header}.{claims}.{signature}") == "signature"


def test_token_signed_with_another_key_is_refused(issuer, checker, key):
    assert refusal(checker, SigningKey("ES256", "first").sign(issuer.claims())) == "signature"


def test_public_key_is_not_accepted_as_shared_secret(issuer, checker):
    key = issuer.new_key("RS256", "first")
    der = key.private.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    secrets = [public_pem(key), der, json.dumps(issuer.published[0]).encode()]
    for secret in secrets:
        for header in ({"alg": "HS256", "kid": "first"}, {"alg": "HS256"}):
            token = compact(header, issuer.claims(), hs256(secret))
            assert refusal(checker, token) == "algorithm"


def test_symmetric_key_of_the_issuer_is_ignored(issuer, checker):
    secret = b"0123456789abcdef0123456789abcdef"
    issuer.published.append({"kty": "oct", "k": base64url(secret), "kid": "first", "alg": "HS256"})
    token = compact({"alg": "HS256", "kid": "first"}, issuer.claims(), hs256(secret))
    assert refusal(checker, token) == "algorithm"
    assert refusal(checker, SigningKey("ES256", "first").sign(issuer.claims())) == "unknown-key"


@pytest.mark.parametrize(
    "members",
    [
        {"use": "enc"},
        {"key_ops": ["sign"]},
        {"alg": "ES384"},
        {"kty": "RSA"},
        {"crv": "P-384"},
        {"crv": "secp256k1"},
        {"x": "AAAA"},
        {"x": 5},
        {"d": "AAAA"},
        {"kid": "second"},
    ],
)
def test_unsuitable_key_is_ignored(issuer, checker, members):
    key = issuer.new_key("ES256", "first", **members)
    assert refusal(checker, key.sign(issuer.claims())) == "unknown-key"


@pytest.mark.parametrize(
    ("published", "claimed"),
    [("ES384", "ES256"), ("ES256", "ES512"), ("RS256", "ES256"), ("ES256", "RS256"), ("EdDSA", "ES256")],
)
def test_algorithm_must_match_the_keys_type_and_curve(issuer, checker, published, claimed):
    key = issuer.new_key(published, "first")
    token = compact({"alg": claimed, "kid": "first"}, issuer.claims(), signed_with(key))
    assert refusal(checker, token) == "unknown-key"


def test_rsa_key_below_2048_bits_is_refused(issuer, checker):
    key = SigningKey("RS256", "first")
    key.private = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - too short on purpose
    issuer.published.append(key.public_jwk())
    token = compact({"alg": "RS256", "kid": "first"}, issuer.claims(), signed_with(key))
    assert refusal(checker, token) == "weak-key"


def test_token_without_key_id_is_refused_if_there_are_several_keys(issuer, checker):
    key, _ = issuer.new_key("ES256", "first"), issuer.new_key("ES256", "second")
    token = compact({"alg": "ES256"}, issuer.claims(), signed_with(key))
    assert refusal(checker, token) == "unknown-key"


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["exp"]},
        {"crit": ["b64"], "b64": False},
        {"crit": ["unknown"], "unknown": 1},
        {"crit": []},
        {"b64": False},
        {"kid": 7},
        {"kid": None},
        {"kid": ["first"]},
    ],
)
def test_unsupported_header_is_refused(issuer, checker, key, header):
    token = compact({"alg": "ES256", "kid": "first", **header}, issuer.claims(), signed_with(key))
    assert refusal(checker, token) in ("malformed", "unknown-key")


@pytest.mark.parametrize("algorithm", [["ES256"], {"ES256": 1}, None, 256, "", "es256", "ES256K", "RSA-OAEP"])
def test_unsupported_algorithm_is_refused(issuer, checker, key, algorithm):
    token = compact({"alg": algorithm, "kid": "first"}, issuer.claims(), signed_with(key))
    assert refusal(checker, token) == "algorithm"


def test_key_in_the_tokens_header_is_ignored(issuer, checker, key):
    own = SigningKey("ES256", "own")
    header = {"alg": "ES256", "kid": "own", "jwk": own.public_jwk(), "jku": f"{issuer.host}/own"}
    assert refusal(checker, compact(header, issuer.claims(), signed_with(own))) == "unknown-key"
    assert f"{issuer.host}/own" not in issuer.requests


def test_nested_token_is_refused(issuer, checker, key):
    inner = key.sign(issuer.claims()).encode()
    token = compact({"alg": "ES256", "kid": "first", "cty": "JWT"}, inner, signed_with(key))
    assert refusal(checker, token) == "malformed"


def test_encrypted_token_is_refused(checker, key):
    header = base64url({"alg": "ES256", "enc": "A256GCM", "kid": "first"})
    assert refusal(checker, f"{header}.AAAA.AAAA.AAAA.AAAA") == "malformed"


@pytest.mark.parametrize("payload", [b"[]", b'"text"', b"null", b"{", b"\xff", b"[" * 9_000])
def test_payload_that_is_not_a_json_object_is_refused(checker, key, payload):
    assert refusal(checker, compact({"alg": "ES256", "kid": "first"}, payload, signed_with(key))) == "malformed"


def test_token_of_100_kb_is_refused_without_asking_the_issuer(issuer, checker, key):
    assert refusal(checker, key.sign(issuer.claims(padding="x" * 75_000))) == "malformed"
    assert issuer.requests == []
