"""A clock, the keys of an issuer, and a checker of its tokens."""

from __future__ import annotations

import pytest

from framegate.access.issuer import OpenIdIssuer
from framegate.access.issuer_keys import IssuerKeys
from framegate.access.tokens import TokenChecker


class Clock:
    """The clock of the key cache."""

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
    """The issuer's only key."""
    return issuer.new_key("ES256", "first")
