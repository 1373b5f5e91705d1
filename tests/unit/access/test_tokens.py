"""Accepted tokens and what they grant, with the keys of a real issuer over TLS."""

from __future__ import annotations

import time

import pytest

from framegate.access.issuer import OpenIdIssuer
from framegate.access.issuer_keys import (
    ALGORITHMS,
    IssuerKeys,
)
from framegate.access.tokens import LEEWAY_SECONDS, TokenChecker
from local.token_issuer import TokenIssuer
from tests.unit.access.refusals import refusal


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_token_is_valid_until_it_expires(issuer, checker, algorithm):
    key = issuer.new_key(algorithm, "first")
    claims = issuer.claims()
    grant = checker.check(key.sign(claims))
    assert (grant.expires_at, grant.datastore_ids) == (claims["exp"] + LEEWAY_SECONDS, None)


@pytest.mark.parametrize("audience", ["framegate", "other", ["someone", "framegate"]])
def test_one_accepted_audience_is_enough(issuer, checker, key, audience):
    checker.check(key.sign(issuer.claims(aud=audience)))


@pytest.mark.parametrize("left_out", ["iat", "sub"])
def test_optional_claim_may_be_missing(issuer, checker, key, left_out):
    checker.check(key.sign(issuer.claims(**{left_out: None})))


@pytest.mark.parametrize("claims", [{"exp": 3 - LEEWAY_SECONDS}, {"nbf": LEEWAY_SECONDS}, {"iat": LEEWAY_SECONDS}])
def test_clocks_may_differ_by_the_leeway(issuer, checker, key, claims):
    now = int(time.time())
    checker.check(key.sign(issuer.claims(**{name: now + seconds for name, seconds in claims.items()})))


def test_token_without_key_id_matches_the_only_key(issuer, checker):
    key = issuer.new_key("ES256")
    checker.check(key.sign(issuer.claims()))


def test_key_id_selects_one_of_several_keys(issuer, checker):
    keys = [issuer.new_key("ES256", name) for name in ("first", "second", "third")]
    for key in keys:
        checker.check(key.sign(issuer.claims()))


@pytest.mark.parametrize("path", ["", "/", "/realms/imaging", "/realms/imaging/"])
def test_discovery_document_is_below_the_issuers_path(tmp_path, monkeypatch, path):
    with TokenIssuer(tmp_path, path) as issuer:
        monkeypatch.setenv("SSL_CERT_FILE", str(issuer.certificate))
        key = issuer.new_key("ES256", "first")
        checker = TokenChecker(issuer.url, ("framegate",), None, IssuerKeys(OpenIdIssuer(issuer.url).keys))
        checker.check(key.sign(issuer.claims()))
        assert issuer.requests[0] == f"{path.rstrip('/')}/.well-known/openid-configuration"


# Data stores


A, B = "a" * 32, "b" * 32


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
def test_claim_grants_the_data_stores_that_it_lists(issuer, claim_checker, key, claim, granted):
    token = key.sign(issuer.claims(**{"https://example.org/datastores": claim}))
    assert claim_checker.check(token).datastore_ids == granted


@pytest.mark.parametrize(
    "claim", ["*", f"{A},{B}", f"{A} *", [A, "*"], [A, None], [[A]], {A: True}, True, 5, [A.upper()], f"{A}/../{B}"]
)
def test_malformed_data_store_claim_is_refused(issuer, claim_checker, key, claim):
    token = key.sign(issuer.claims(**{"https://example.org/datastores": claim}))
    assert refusal(claim_checker, token) == "datastores"


def test_data_store_claim_is_ignored_unless_configured(issuer, checker, key):
    assert checker.check(key.sign(issuer.claims(datastores=[A]))).datastore_ids is None
