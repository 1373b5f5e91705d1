"""Property tests: any text and any claims lead to a grant or a refusal, never to another error."""

from __future__ import annotations

import json
import time

from hypothesis import example, given
from hypothesis import strategies as st

from framegate.access.issuer_keys import (
    ALGORITHMS,
    IssuerKeys,
)
from framegate.access.tokens import RefusedTokenError, TokenChecker
from local.token_issuer import SigningKey
from tests.forging import base64url, compact, signed_with
from tests.unit.access.refusals import refusal

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
    """Tokens of three parts, each of which may be valid."""
    header = draw(headers.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=50))
    payload = draw(json_values.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=50))
    return compact(header, payload, lambda _: draw(st.binary(max_size=80)))


@given(token=st.text() | almost_tokens() | st.text(alphabet="eyJhbGciOiIXVCJ9-_.= ", max_size=200))
@example("")
@example(".")
@example("..")
@example("\ud800.a.b")
@example(f"{base64url(b'[' * 9_000)}.e30.")
def test_any_text_is_refused_without_another_error(token):
    refusal(OFFLINE, token)


@given(
    claims=st.dictionaries(
        st.sampled_from(["exp", "nbf", "iat", "iss", "aud", "sub", "jti", "datastores"]), json_values
    )
)
def test_any_signed_claims_are_granted_or_refused_without_another_error(claims):
    claims = {"iss": "https://login.example.org", "aud": "framegate", "exp": 2**33, **claims}
    token = compact({"alg": "ES256", "kid": "first"}, claims, signed_with(KNOWN))
    try:
        grant = OFFLINE.check(token)
    except RefusedTokenError:
        return
    assert grant.expires_at > time.time()
    assert grant.datastore_ids is not None
