"""The cache of the issuer's keys: when it fetches, and what it keeps while the issuer is unreachable."""

from __future__ import annotations

import pytest

from framegate.access.issuer import IssuerError
from framegate.access.issuer_keys import (
    MAX_AGE_SECONDS,
    MAX_STALE_SECONDS,
    REFETCH_SECONDS,
    RETRY_SECONDS,
)
from local.token_issuer import KEY_SET, SigningKey
from tests.forging import compact
from tests.unit.access.refusals import refusal


def fetches(issuer):
    return issuer.requests.count(KEY_SET)


def test_keys_are_cached(issuer, checker, key, clock):
    for _ in range(3):
        checker.check(key.sign(issuer.claims()))
        clock.now += MAX_AGE_SECONDS / 4
    assert fetches(issuer) == 1


def test_outdated_keys_are_fetched_again(issuer, checker, key, clock):
    checker.check(key.sign(issuer.claims()))
    issuer.published.clear()
    issuer.new_key("ES256", "second")
    clock.now += MAX_AGE_SECONDS
    assert refusal(checker, key.sign(issuer.claims())) == "unknown-key"


def test_empty_key_set_is_a_failed_fetch(issuer, checker, key, clock):
    checker.check(key.sign(issuer.claims()))
    issuer.published.clear()
    clock.now += MAX_AGE_SECONDS
    checker.check(key.sign(issuer.claims()))
    clock.now += MAX_STALE_SECONDS
    with pytest.raises(IssuerError, match="no-keys"):
        checker.check(key.sign(issuer.claims()))


def test_key_set_without_signature_keys_replaces_no_keys(issuer, checker, key, clock):
    checker.check(key.sign(issuer.claims()))
    issuer.published[:] = [{**key.public_jwk(), "use": "enc"}]
    clock.now += MAX_AGE_SECONDS
    checker.check(key.sign(issuer.claims()))
    clock.now += MAX_STALE_SECONDS
    assert refusal(checker, key.sign(issuer.claims())) == "unknown-key"


def test_new_key_is_fetched_when_a_token_names_it(issuer, checker, key, clock):
    checker.check(key.sign(issuer.claims()))
    clock.now += REFETCH_SECONDS
    checker.check(issuer.new_key("ES256", "second").sign(issuer.claims()))
    checker.check(key.sign(issuer.claims()))
    assert fetches(issuer) == 2


def test_made_up_key_ids_cause_one_fetch_a_minute(issuer, checker, key, clock):
    checker.check(key.sign(issuer.claims()))
    for number in range(200):
        clock.now += 1
        assert refusal(checker, SigningKey("ES256", f"made-up-{number}").sign(issuer.claims())) == "unknown-key"
    assert fetches(issuer) <= 1 + 200 / REFETCH_SECONDS
    checker.check(key.sign(issuer.claims()))


def test_malformed_tokens_cause_no_fetch(issuer, checker, key):
    for token in ("", "a.b.c", compact({"alg": "none"}, issuer.claims())):
        refusal(checker, token)
    assert issuer.requests == []


def test_keys_are_used_for_an_hour_while_the_issuer_is_unreachable(issuer, checker, key, clock):
    checker.check(key.sign(issuer.claims()))
    issuer.answers[KEY_SET] = 503, {}, b""
    clock.now += MAX_STALE_SECONDS - 1
    checker.check(key.sign(issuer.claims()))
    clock.now += REFETCH_SECONDS
    with pytest.raises(IssuerError, match="status-503"):
        checker.check(key.sign(issuer.claims()))


def test_failed_fetch_is_not_repeated_at_once(issuer, checker, key, clock):
    issuer.answers[KEY_SET] = 503, {}, b""
    for _ in range(10):
        with pytest.raises(IssuerError):
            checker.check(key.sign(issuer.claims()))
    assert fetches(issuer) == 1
    issuer.answers.clear()
    clock.now += RETRY_SECONDS
    checker.check(key.sign(issuer.claims()))
