"""Caches the keys of an issuer and finds the key that a token names."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import jwt

from framegate.access.issuer import IssuerError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAX_AGE_SECONDS = 600
"""Seconds after which the keys are fetched again. A key that the issuer has withdrawn stays valid for this long."""

MAX_STALE_SECONDS = 3600
"""Seconds for which keys are used while the issuer is unreachable."""

REFETCH_SECONDS = 60
"""Minimum seconds between two fetches. Anyone can make up tokens with unknown keys, and each would cause a fetch."""

RETRY_SECONDS = 5
"""Minimum seconds between two fetches while there are no keys."""

_RSA = ("RSA", (None,))
_KEYS_OF = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), _RSA),
    "ES256": ("EC", ("P-256",)),
    "ES384": ("EC", ("P-384",)),
    "ES512": ("EC", ("P-521",)),
    "EdDSA": ("OKP", ("Ed25519", "Ed448")),
}
"""The key type and curves that go with each algorithm (RFC 7518, section 3.1; RFC 8037, section 3.1)."""

ALGORITHMS = tuple(_KEYS_OF)
"""The accepted algorithms. All are asymmetric: ``none`` and ``HS256`` are not among them."""

_PUBLIC_MEMBERS = ("kty", "crv", "n", "e", "x", "y")


class IssuerKeys:
    """The keys of an issuer, cached in memory.

    Parameters
    ----------
    fetch : callable
        Returns the members of the issuer's key set, or raises an :exc:`IssuerError`.
    clock : callable
        Returns the time in seconds. A monotonic clock can stop while Lambda has the function frozen.
    """

    def __init__(self, fetch: Callable[[], Sequence[Any]], clock: Callable[[], float] = time.time) -> None:
        self._fetch = fetch
        self._clock = clock
        self._keys: list[dict[str, Any]] = []
        self._fetched = self._tried = float("-inf")

    def find(self, algorithm: str, key_id: str | None) -> jwt.PyJWK | None:
        """Find the key of a token.

        Parameters
        ----------
        algorithm : str
            One of `ALGORITHMS`.
        key_id : str or None
            The ``kid`` of the token. A token without one matches an issuer's only key.

        Returns
        -------
        jwt.PyJWK or None
            The key, bound to the algorithm; None if the issuer has no such key.

        Raises
        ------
        IssuerError
            If no keys are available.

        References
        ----------
        OpenID Connect Core 1.0, section 10.1: a token must have a ``kid`` if the issuer has several keys.
        """
        if self._age() >= MAX_AGE_SECONDS:
            self._refresh()
        key = self._pick(algorithm, key_id)
        if key is None and key_id is not None and self._refresh():
            key = self._pick(algorithm, key_id)
        return key

    def _age(self) -> float:
        return self._clock() - self._fetched

    def _refresh(self) -> bool:
        """Fetch the keys, unless the last attempt was too recent. Return whether the fetch succeeded."""
        in_use = self._age() < MAX_STALE_SECONDS
        if self._clock() - self._tried < (REFETCH_SECONDS if in_use else RETRY_SECONDS):
            if not in_use:
                raise IssuerError("failed-before")
            return False
        self._tried = self._clock()
        try:
            keys = [key for key in self._fetch() if _is_for_signatures(key)]
        except IssuerError:
            if not in_use:
                raise
            return False
        if not keys and in_use:
            # A set without any key for signatures is a fault of the issuer, like an empty one.
            return False
        self._keys, self._fetched = keys, self._tried
        return True

    def _pick(self, algorithm: str, key_id: str | None) -> jwt.PyJWK | None:
        if key_id is None and len(self._keys) > 1:
            return None
        for key in self._keys:
            if key_id in (None, key.get("kid")) and _fits(key, algorithm):
                return _key_of(key, algorithm)
        return None


def _is_for_signatures(key: object) -> bool:
    """Whether a member of the set is a public key for checking signatures.

    A key with a private part is refused: everyone who can read the set could sign with it.

    References
    ----------
    RFC 7517, sections 4.2 and 4.3: ``use``, ``key_ops``.
    """
    return (
        isinstance(key, dict)
        and key.get("kty") in ("RSA", "EC", "OKP")
        and key.get("use", "sig") == "sig"
        and "verify" in _listed(key.get("key_ops", "verify"))
        and "d" not in key
    )


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _fits(key: dict[str, Any], algorithm: str) -> bool:
    key_type, curves = _KEYS_OF[algorithm]
    return key["kty"] == key_type and key.get("crv") in curves and key.get("alg", algorithm) == algorithm


def _key_of(key: dict[str, Any], algorithm: str) -> jwt.PyJWK | None:
    try:
        return jwt.PyJWK({name: key[name] for name in _PUBLIC_MEMBERS if name in key}, algorithm)
    except jwt.PyJWTError:
        return None
