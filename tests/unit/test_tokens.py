"""What tokens are let in, and what they grant: real tokens, and the keys of a real issuer over TLS."""

from __future__ import annotations

import json
import socket
import time

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import example, given
from hypothesis import strategies as st

from framegate.access.issuer import MAX_DOCUMENT, IssuerError, OpenIdIssuer
from framegate.access.issuer_keys import (
    ALGORITHMS,
    FRESH_SECONDS,
    LIFETIME_SECONDS,
    REFETCH_SECONDS,
    RETRY_SECONDS,
    IssuerKeys,
)
from framegate.access.tokens import LEEWAY_SECONDS, RefusedTokenError, TokenChecker
from local.token_issuer import KEY_SET, SigningKey, TokenIssuer
from tests.forging import base64url, compact, hs256, public_pem, signed_with

A, B = "a" * 32, "b" * 32


class Clock:
    """The time that the cache of keys goes by."""

    def __init__(self):
        self.now = 1_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def keys(issuer, clock):
    return IssuerKeys(OpenIdIssuer(issuer.url).keys, clock)


@pytest.fixture
def checker(issuer, keys):
    return TokenChecker(issuer.url, ("framegate", "other"), None, keys)


@pytest.fixture
def key(issuer):
    """The issuer's one key."""
    return issuer.new_key("ES256", "first")


def refusal(checker, token):
    """The reason for which a token is refused; the error says nothing else."""
    with pytest.raises(RefusedTokenError) as refused:
        checker.check(token)
    assert str(refused.value) == f"The token is refused: {refused.value.reason}"
    return refused.value.reason


# What is let in


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_token_of_the_issuer_is_good_until_it_ends(issuer, checker, algorithm):
    key = issuer.new_key(algorithm, "first")
    claims = issuer.claims()
    grant = checker.check(key.sign(claims))
    assert (grant.expires_at, grant.datastore_ids) == (claims["exp"] + LEEWAY_SECONDS, None)


@pytest.mark.parametrize("audience", ["framegate", "other", ["someone", "framegate"]])
def test_one_audience_of_ours_is_enough(issuer, checker, key, audience):
    checker.check(key.sign(issuer.claims(aud=audience)))


@pytest.mark.parametrize("left_out", ["iat", "sub"])
def test_claim_that_is_not_needed_can_be_left_out(issuer, checker, key, left_out):
    checker.check(key.sign(issuer.claims(**{left_out: None})))


@pytest.mark.parametrize("claims", [{"exp": 3 - LEEWAY_SECONDS}, {"nbf": LEEWAY_SECONDS}, {"iat": LEEWAY_SECONDS}])
def test_clocks_may_differ_by_the_leeway(issuer, checker, key, claims):
    now = int(time.time())
    checker.check(key.sign(issuer.claims(**{name: now + seconds for name, seconds in claims.items()})))


def test_token_without_key_id_is_checked_with_the_only_key(issuer, checker):
    key = issuer.new_key("ES256")
    checker.check(key.sign(issuer.claims()))


def test_right_one_of_several_keys_is_taken(issuer, checker):
    keys = [issuer.new_key("ES256", name) for name in ("first", "second", "third")]
    for key in keys:
        checker.check(key.sign(issuer.claims()))


@pytest.mark.parametrize("path", ["", "/", "/realms/imaging", "/realms/imaging/"])
def test_discovery_document_is_found_below_any_issuer(tmp_path, monkeypatch, path):
    with TokenIssuer(tmp_path, path) as issuer:
        monkeypatch.setenv("SSL_CERT_FILE", str(issuer.certificate))
        key = issuer.new_key("ES256", "first")
        checker = TokenChecker(issuer.url, ("framegate",), None, IssuerKeys(OpenIdIssuer(issuer.url).keys))
        checker.check(key.sign(issuer.claims()))
        assert issuer.requests[0] == f"{path.rstrip('/')}/.well-known/openid-configuration"


# What is refused


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": -LEEWAY_SECONDS}, "expired"),
        ({"exp": -3600}, "expired"),
        ({"nbf": LEEWAY_SECONDS + 3}, "not-yet-valid"),
        ({"iat": LEEWAY_SECONDS + 3}, "not-yet-valid"),
    ],
)
def test_token_out_of_its_time_is_refused(issuer, checker, key, claims, reason):
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
def test_claim_that_is_wrong_or_missing_is_refused(issuer, checker, key, claims, reason):
    token = compact({"alg": "ES256", "kid": "first"}, issuer.claims(**claims), signed_with(key))
    assert refusal(checker, token) == reason


@pytest.mark.parametrize("slash", ["", "/"])
def test_issuer_is_compared_to_the_last_character(issuer, checker, key, slash):
    wrong = issuer.url.upper() if not slash else issuer.url + slash
    assert refusal(checker, key.sign(issuer.claims(iss=wrong))) == "issuer"


def test_unsigned_token_is_refused(issuer, checker, key):
    for header in ({"alg": "none"}, {"alg": "none", "kid": "first"}, {"alg": "None", "kid": "first"}, {"kid": "first"}):
        assert refusal(checker, compact(header, issuer.claims())) == "algorithm"


def test_token_without_its_signature_is_refused(issuer, checker, key):
    token = key.sign(issuer.claims())
    assert refusal(checker, token.rpartition(".")[0] + ".") == "signature"
    assert refusal(checker, token.rpartition(".")[0]) == "malformed"


def test_token_with_changed_claims_is_refused(issuer, checker, key):
    header, _, signature = key.sign(issuer.claims()).split(".")
    claims = base64url(issuer.claims(sub="somebody-else"))
    assert refusal(checker, f"{header}.{claims}.{signature}") == "signature"


def test_token_of_another_key_is_refused(issuer, checker, key):
    assert refusal(checker, SigningKey("ES256", "first").sign(issuer.claims())) == "signature"


def test_public_key_is_no_shared_secret(issuer, checker):
    key = issuer.new_key("RS256", "first")
    der = key.private.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    secrets = [public_pem(key), der, json.dumps(issuer.published[0]).encode()]
    for secret in secrets:
        for header in ({"alg": "HS256", "kid": "first"}, {"alg": "HS256"}):
            token = compact(header, issuer.claims(), hs256(secret))
            assert refusal(checker, token) == "algorithm"


def test_symmetric_key_of_the_issuer_is_not_used(issuer, checker):
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
def test_key_that_is_not_for_this_is_not_used(issuer, checker, members):
    key = issuer.new_key("ES256", "first", **members)
    assert refusal(checker, key.sign(issuer.claims())) == "unknown-key"


@pytest.mark.parametrize(
    ("published", "claimed"),
    [("ES384", "ES256"), ("ES256", "ES512"), ("RS256", "ES256"), ("ES256", "RS256"), ("EdDSA", "ES256")],
)
def test_algorithm_must_fit_type_and_curve_of_the_key(issuer, checker, published, claimed):
    key = issuer.new_key(published, "first")
    token = compact({"alg": claimed, "kid": "first"}, issuer.claims(), signed_with(key))
    assert refusal(checker, token) == "unknown-key"


def test_rsa_key_below_2048_bits_is_refused(issuer, checker):
    key = SigningKey("RS256", "first")
    key.private = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - too short on purpose
    issuer.published.append(key.public_jwk())
    token = compact({"alg": "RS256", "kid": "first"}, issuer.claims(), signed_with(key))
    assert refusal(checker, token) == "weak-key"


def test_token_that_names_none_of_several_keys_is_refused(issuer, checker):
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
def test_header_that_is_not_understood_is_refused(issuer, checker, key, header):
    token = compact({"alg": "ES256", "kid": "first", **header}, issuer.claims(), signed_with(key))
    assert refusal(checker, token) in ("malformed", "unknown-key")


@pytest.mark.parametrize("algorithm", [["ES256"], {"ES256": 1}, None, 256, "", "es256", "ES256K", "RSA-OAEP"])
def test_algorithm_that_is_none_of_ours_is_refused(issuer, checker, key, algorithm):
    token = compact({"alg": algorithm, "kid": "first"}, issuer.claims(), signed_with(key))
    assert refusal(checker, token) == "algorithm"


def test_key_that_a_token_brings_along_is_not_used(issuer, checker, key):
    own = SigningKey("ES256", "own")
    header = {"alg": "ES256", "kid": "own", "jwk": own.public_jwk(), "jku": f"{issuer.host}/own"}
    assert refusal(checker, compact(header, issuer.claims(), signed_with(own))) == "unknown-key"
    assert f"{issuer.host}/own" not in issuer.requests


def test_token_in_a_token_is_refused(issuer, checker, key):
    inner = key.sign(issuer.claims()).encode()
    token = compact({"alg": "ES256", "kid": "first", "cty": "JWT"}, inner, signed_with(key))
    assert refusal(checker, token) == "malformed"


def test_encrypted_token_is_refused(checker, key):
    header = base64url({"alg": "ES256", "enc": "A256GCM", "kid": "first"})
    assert refusal(checker, f"{header}.AAAA.AAAA.AAAA.AAAA") == "malformed"


@pytest.mark.parametrize("payload", [b"[]", b'"text"', b"null", b"{", b"\xff", b"[" * 9_000])
def test_payload_that_is_no_object_is_refused(checker, key, payload):
    assert refusal(checker, compact({"alg": "ES256", "kid": "first"}, payload, signed_with(key))) == "malformed"


def test_token_of_100_kb_is_refused_unread(issuer, checker, key):
    assert refusal(checker, key.sign(issuer.claims(padding="x" * 75_000))) == "malformed"
    assert issuer.requests == []


KNOWN = SigningKey("ES256", "first")
OFFLINE = TokenChecker(
    "https://login.example.org", ("framegate",), "datastores", IssuerKeys(lambda: [KNOWN.public_jwk()])
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
headers = st.fixed_dictionaries(
    {"alg": st.sampled_from(ALGORITHMS) | json_values},
    optional=dict.fromkeys(("kid", "typ", "cty", "crit", "b64", "zip"), json_values),
)


@st.composite
def almost_tokens(draw):
    """Three parts that each may be right."""
    header = draw(headers.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=50))
    payload = draw(json_values.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=50))
    return compact(header, payload, lambda _: draw(st.binary(max_size=80)))


@given(token=st.text() | almost_tokens() | st.text(alphabet="eyJhbGciOiIXVCJ9-_.= ", max_size=200))
@example("")
@example(".")
@example("..")
@example("\ud800.a.b")
@example(f"{base64url(b'[' * 9_000)}.e30.")
def test_any_text_is_refused_and_nothing_else_happens(token):
    refusal(OFFLINE, token)


@given(
    claims=st.dictionaries(
        st.sampled_from(["exp", "nbf", "iat", "iss", "aud", "sub", "jti", "datastores"]), json_values
    )
)
def test_any_claims_with_a_right_signature_are_checked_and_nothing_else_happens(claims):
    claims = {"iss": "https://login.example.org", "aud": "framegate", "exp": 2**33, **claims}
    token = compact({"alg": "ES256", "kid": "first"}, claims, signed_with(KNOWN))
    try:
        grant = OFFLINE.check(token)
    except RefusedTokenError:
        return
    assert grant.expires_at > time.time()
    assert grant.datastore_ids is not None


# The issuer


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
        (KEY_SET, (200, {}, b" " * (MAX_DOCUMENT + 1)), "too-large"),
        (KEY_SET, (200, {"Content-Encoding": "gzip"}, b"\x1f\x8b"), "not-json"),
        (KEY_SET, (200, {"Content-Length": "10"}, b"{}"), "unreachable"),
    ],
)
def test_issuer_that_does_not_answer_as_it_should_is_an_error_and_lets_nobody_in(
    issuer, checker, key, path, answer, reason
):
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
def test_keys_are_fetched_by_https_only(issuer, checker, key, uri):
    configure(issuer, {"jwks_uri": uri})
    with pytest.raises(IssuerError, match="keys-without-https"):
        checker.check(key.sign(issuer.claims()))


@pytest.mark.parametrize("path", ["/realms/imaging/.well-known/openid-configuration", KEY_SET])
def test_redirect_is_not_followed(issuer, checker, key, path):
    issuer.answers[path] = 302, {"Location": f"{issuer.host}/elsewhere"}, b""
    with pytest.raises(IssuerError, match="status-302"):
        checker.check(key.sign(issuer.claims()))
    assert "/elsewhere" not in issuer.requests


def test_issuer_without_a_certificate_that_is_trusted_is_an_error(issuer, key, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE")
    checker = TokenChecker(issuer.url, ("framegate",), None, IssuerKeys(OpenIdIssuer(issuer.url).keys))
    with pytest.raises(IssuerError, match="unreachable"):
        checker.check(key.sign(issuer.claims()))


def test_issuer_that_is_not_there_is_an_error(tmp_path):
    with TokenIssuer(tmp_path) as gone:
        pass
    with pytest.raises(IssuerError, match="unreachable"):
        OpenIdIssuer(gone.url).keys()


def test_issuer_that_says_nothing_is_given_up(monkeypatch):
    monkeypatch.setattr("framegate.access.issuer.CONNECT_TIMEOUT_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(IssuerError, match="unreachable"):
        OpenIdIssuer(f"https://localhost:{silent.getsockname()[1]}").keys()


def test_issuer_that_never_comes_to_an_end_is_given_up(issuer, monkeypatch):
    def dripping():
        for _ in range(1000):
            time.sleep(0.02)
            yield b" "

    monkeypatch.setattr("framegate.access.issuer.FETCH_SECONDS", 0.5)
    issuer.answers[KEY_SET] = 200, {}, dripping()
    with pytest.raises(IssuerError, match="too-slow"):
        OpenIdIssuer(issuer.url).keys()


# How often it is asked


def fetches(issuer):
    return issuer.requests.count(KEY_SET)


def test_keys_are_fetched_once_and_then_kept(issuer, checker, key, clock):
    for _ in range(3):
        checker.check(key.sign(issuer.claims()))
        clock.now += FRESH_SECONDS / 4
    assert fetches(issuer) == 1


def test_keys_that_are_no_longer_fresh_are_fetched_anew(issuer, checker, key, clock):
    checker.check(key.sign(issuer.claims()))
    issuer.published.clear()
    clock.now += FRESH_SECONDS
    assert refusal(checker, key.sign(issuer.claims())) == "unknown-key"


def test_new_key_is_found_when_it_is_used(issuer, checker, key, clock):
    checker.check(key.sign(issuer.claims()))
    clock.now += REFETCH_SECONDS
    checker.check(issuer.new_key("ES256", "second").sign(issuer.claims()))
    checker.check(key.sign(issuer.claims()))
    assert fetches(issuer) == 2


def test_made_up_key_ids_ask_the_issuer_once_a_minute(issuer, checker, key, clock):
    checker.check(key.sign(issuer.claims()))
    for number in range(200):
        clock.now += 1
        assert refusal(checker, SigningKey("ES256", f"made-up-{number}").sign(issuer.claims())) == "unknown-key"
    assert fetches(issuer) <= 1 + 200 / REFETCH_SECONDS
    checker.check(key.sign(issuer.claims()))


def test_tokens_that_cannot_be_good_do_not_ask_the_issuer(issuer, checker, key):
    for token in ("", "a.b.c", compact({"alg": "none"}, issuer.claims())):
        refusal(checker, token)
    assert issuer.requests == []


def test_keys_are_used_for_an_hour_while_the_issuer_is_away(issuer, checker, key, clock):
    checker.check(key.sign(issuer.claims()))
    issuer.answers[KEY_SET] = 503, {}, b""
    clock.now += LIFETIME_SECONDS - 1
    checker.check(key.sign(issuer.claims()))
    clock.now += REFETCH_SECONDS
    with pytest.raises(IssuerError, match="status-503"):
        checker.check(key.sign(issuer.claims()))


def test_issuer_that_failed_is_left_alone_for_a_moment(issuer, checker, key, clock):
    issuer.answers[KEY_SET] = 503, {}, b""
    for _ in range(10):
        with pytest.raises(IssuerError):
            checker.check(key.sign(issuer.claims()))
    assert fetches(issuer) == 1
    issuer.answers.clear()
    clock.now += RETRY_SECONDS
    checker.check(key.sign(issuer.claims()))


# Data stores


@pytest.fixture
def claim_checker(issuer, keys):
    return TokenChecker(issuer.url, ("framegate",), "https://example.org/datastores", keys)


@pytest.mark.parametrize(
    ("claim", "granted"),
    [
        ([A, B], {A, B}),
        (f"{A} {B}", {A, B}),
        (A, {A}),
        ([A, A], {A}),
        ([], set()),
        ("", set()),
        (None, set()),
    ],
)
def test_claim_lists_the_data_stores_that_are_granted(issuer, claim_checker, key, claim, granted):
    token = key.sign(issuer.claims(**{"https://example.org/datastores": claim}))
    assert claim_checker.check(token).datastore_ids == granted


@pytest.mark.parametrize(
    "claim", ["*", f"{A},{B}", f"{A} *", [A, "*"], [A, None], [[A]], {A: True}, True, 5, [A.upper()], f"{A}/../{B}"]
)
def test_anything_else_in_the_claim_is_refused(issuer, claim_checker, key, claim):
    token = key.sign(issuer.claims(**{"https://example.org/datastores": claim}))
    assert refusal(claim_checker, token) == "datastores"


def test_claim_counts_only_where_it_is_configured(issuer, checker, key):
    assert checker.check(key.sign(issuer.claims(datastores=[A]))).datastore_ids is None
