"""Tokens of other kinds are refused, and so are tokens that live too long; what a token may list beside data stores."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framegate.access.issuer_keys import IssuerKeys
from framegate.access.tokens import LEEWAY_SECONDS, RefusedTokenError, TokenChecker
from local.token_issuer import SigningKey
from tests.forging import compact, signed_with
from tests.unit.access.refusals import refusal

KNOWN = SigningKey("ES256", "first")
MAX_LIFETIME_SECONDS = 600
A, B = "a" * 32, "b" * 32


@pytest.mark.parametrize(
    "kind", ["JWT", "jwt", "Jwt", "at+jwt", "AT+JWT", "application/jwt", "application/at+jwt", "Application/AT+JWT"]
)
def test_token_with_the_header_type_of_a_jwt_or_an_access_token_is_accepted(issuer, checker, key, kind):
    checker.check(key.sign(issuer.claims(), headers={"typ": kind}))


def test_token_without_a_header_type_is_accepted(issuer, checker, key):
    checker.check(compact({"alg": "ES256", "kid": "first"}, issuer.claims(), signed_with(key)))


@pytest.mark.parametrize(
    "kind",
    [
        *(
            "logout+jwt",
            "secevent+jwt",
            "dpop+jwt",
            "oauth-authz-req+jwt",
            "rt+jwt",
            "id+jwt",
            "JOSE",
            "",
            " JWT",
            "JWT ",
        ),
        *("application/logout+jwt", "application/application/jwt", "text/jwt", "application/", "JWT; charset=utf-8"),
        *(None, 7, ["JWT"], {"JWT": 1}, True),
    ],
)
def test_token_with_another_header_type_is_refused(issuer, checker, key, kind):
    token = compact({"alg": "ES256", "kid": "first", "typ": kind}, issuer.claims(), signed_with(key))
    assert refusal(checker, token) in ("kind", "malformed")


@pytest.mark.parametrize(
    "claims",
    [
        *({"token_use": each} for each in ("access", "id", "ACCESS")),
        *({"typ": each} for each in ("Bearer", "bearer", "ID", "JWT", "at+jwt")),
        {"token_use": "access", "typ": "Bearer"},
    ],
)
def test_access_and_identity_tokens_are_accepted(issuer, checker, key, claims):
    checker.check(key.sign(issuer.claims(**claims)))


@pytest.mark.parametrize(
    "claims",
    [
        *({"token_use": each} for each in ("refresh", "logout", "REFRESH", "", "access ", 7, ["access"], False)),
        *(
            {"typ": each}
            for each in ("Refresh", "Offline", "Logout", "refresh", "DPoP", "Serialized-ID", "", 7, ["ID"])
        ),
        *({"events": each} for each in ({"http://schemas.openid.net/event/backchannel-logout": {}}, {}, [], "", False)),
        {"token_use": "access", "typ": "Refresh"},
        {"token_use": "refresh", "typ": "Bearer"},
        {"typ": "ID", "events": {}},
    ],
)
def test_refresh_logout_and_event_tokens_are_refused(issuer, checker, key, claims):
    assert refusal(checker, key.sign(issuer.claims(**claims))) == "kind"


@pytest.mark.parametrize("name", ["events", "token_use", "typ"])
def test_claim_that_is_null_says_no_accepted_kind(checker, issuer, key, name):
    token = compact({"alg": "ES256", "kid": "first"}, {**issuer.claims(), name: None}, signed_with(key))
    assert refusal(checker, token) == "kind"


# Lifetime


@pytest.fixture
def strict_checker(issuer, keys):
    return TokenChecker(issuer.url, ("framegate",), None, keys, max_lifetime_seconds=MAX_LIFETIME_SECONDS)


@pytest.mark.parametrize(
    ("issued_ago", "expires_in"),
    [(0, MAX_LIFETIME_SECONDS), (300, 300), (None, MAX_LIFETIME_SECONDS), (None, 5), (-20, MAX_LIFETIME_SECONDS)],
)
def test_token_within_the_maximum_lifetime_is_accepted(issuer, strict_checker, key, issued_ago, expires_in):
    now = int(time.time())
    issued_at = None if issued_ago is None else now - issued_ago
    strict_checker.check(key.sign(issuer.claims(iat=issued_at, exp=now + expires_in)))


@pytest.mark.parametrize(
    ("issued_ago", "expires_in"),
    [
        (0, MAX_LIFETIME_SECONDS + 1),
        (500, 101),
        (None, MAX_LIFETIME_SECONDS + LEEWAY_SECONDS + 3),
        (None, 2**40),
        (10_000, 10),
        (0, 86_400),
    ],
)
def test_token_beyond_the_maximum_lifetime_is_refused(issuer, strict_checker, key, issued_ago, expires_in):
    now = int(time.time())
    issued_at = None if issued_ago is None else now - issued_ago
    assert refusal(strict_checker, key.sign(issuer.claims(iat=issued_at, exp=now + expires_in))) == "lifetime"


def test_token_may_live_long_unless_a_maximum_is_configured(issuer, checker, key):
    checker.check(key.sign(issuer.claims(exp=int(time.time()) + 2**31)))


# Image sets and studies


@pytest.fixture
def listing_checker(issuer, keys):
    return TokenChecker(
        issuer.url,
        ("framegate",),
        None,
        keys,
        image_sets_claim="image_sets",
        studies_claim="https://example.org/studies",
    )


@pytest.mark.parametrize(
    ("claim", "granted"), [([A, B], {A, B}), (f"{A} {B}", {A, B}), ([], set()), ("", set()), (None, set())]
)
def test_claim_grants_the_image_sets_that_it_lists(issuer, listing_checker, key, claim, granted):
    grant = listing_checker.check(key.sign(issuer.claims(image_sets=claim)))
    assert (grant.image_set_ids, grant.study_uids, grant.datastore_ids) == (granted, set(), None)


@pytest.mark.parametrize(
    ("claim", "granted"), [(["1.2.3", "2.25.4"], {"1.2.3", "2.25.4"}), ("1.2.3 1.2", {"1.2.3", "1.2"}), (None, set())]
)
def test_claim_grants_the_studies_that_it_lists(issuer, listing_checker, key, claim, granted):
    grant = listing_checker.check(key.sign(issuer.claims(**{"https://example.org/studies": claim})))
    assert (grant.image_set_ids, grant.study_uids) == (set(), granted)


@pytest.mark.parametrize("claim", ["*", [A, "*"], [A[:-1]], A.upper(), [[A]], {A: True}, 5, True, f"{A},{B}"])
def test_malformed_image_set_claim_is_refused(issuer, listing_checker, key, claim):
    assert refusal(listing_checker, key.sign(issuer.claims(image_sets=claim))) == "image-sets"


@pytest.mark.parametrize("claim", ["*", ["1.2.3", None], "Mueller^Hans", ["1.2.3\n"], ["9" * 257], 1.2, True, [""]])
def test_malformed_study_claim_is_refused(issuer, listing_checker, key, claim):
    token = key.sign(issuer.claims(**{"https://example.org/studies": claim}))
    assert refusal(listing_checker, token) == "studies"


def test_claims_are_ignored_unless_configured(issuer, checker, key):
    grant = checker.check(key.sign(issuer.claims(image_sets=[A], studies=["1.2"])))
    assert (grant.image_set_ids, grant.study_uids) == (None, None)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    claims=st.dictionaries(
        st.sampled_from(["exp", "iat", "typ", "token_use", "events", "sub", "image_sets", "studies"]),
        json_values | st.sampled_from(["access", "Bearer", A, "1.2.3"]),
    )
)
def test_any_signed_claims_are_granted_or_refused_without_another_error(claims):
    checker = TokenChecker(
        "https://login.example.org",
        ("framegate",),
        None,
        IssuerKeys(lambda: [KNOWN.public_jwk()]),
        image_sets_claim="image_sets",
        studies_claim="studies",
        max_lifetime_seconds=MAX_LIFETIME_SECONDS,
    )
    claims = {"iss": "https://login.example.org", "aud": "framegate", "exp": int(time.time()) + 60, **claims}
    try:
        grant = checker.check(compact({"alg": "ES256", "kid": "first"}, claims, signed_with(KNOWN)))
    except RefusedTokenError:
        return
    assert "events" not in claims
    assert time.time() < grant.expires_at <= time.time() + MAX_LIFETIME_SECONDS + 2 * LEEWAY_SECONDS + 1
    assert isinstance(grant.principal.name, str)
    assert grant.image_set_ids is not None
    assert grant.study_uids is not None
