"""Keeps the keys of an issuer, and finds the one that a token says it was signed with."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import jwt

from framegate.access.issuer import IssuerError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FRESH_SECONDS = 600
"""Seconds after which the keys are fetched anew: so long is a key good that the issuer has withdrawn."""

LIFETIME_SECONDS = 3600
"""Seconds for which keys are used while the issuer cannot be reached."""

REFETCH_SECONDS = 60
"""Seconds between two fetches, however many tokens name keys that are not there: anybody can make such tokens up."""

RETRY_SECONDS = 5
"""The same while there are no keys at all."""

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
"""The algorithms that are accepted: asymmetric ones, and so neither ``none`` nor ``HS256``."""

_PUBLIC_MEMBERS = ("kty", "crv", "n", "e", "x", "y")


class IssuerKeys:
    """The keys of an issuer, in memory.

    Parameters
    ----------
    fetch : callable
        Fetches the members of the issuer's key set, or raises an :exc:`IssuerError`.
    clock : callable
        The time in seconds. Not a monotonic clock: one can stand still while Lambda has the function frozen.
    """

    def __init__(self, fetch: Callable[[], Sequence[Any]], clock: Callable[[], float] = time.time) -> None:
        self._fetch = fetch
        self._clock = clock
        self._keys: list[dict[str, Any]] = []
        self._fetched = self._tried = float("-inf")

    def find(self, algorithm: str, key_id: str | None) -> jwt.PyJWK | None:
        """Find a key.

        Parameters
        ----------
        algorithm : str
            One of `ALGORITHMS`.
        key_id : str or None
            The ``kid`` of the token. One that names none is taken for signed with the only key there is.

        Returns
        -------
        jwt.PyJWK or None
            The key, bound to the algorithm; None if the issuer has no such key.

        Raises
        ------
        IssuerError
            If there are no keys to look among.

        References
        ----------
        OpenID Connect Core 1.0, section 10.1: with several keys, ``kid`` must be there.
        """
        if self._age() >= FRESH_SECONDS:
            self._refresh()
        key = self._pick(algorithm, key_id)
        if key is None and key_id is not None and self._refresh():
            key = self._pick(algorithm, key_id)
        return key

    def _age(self) -> float:
        return self._clock() - self._fetched

    def _refresh(self) -> bool:
        """Fetch the keys, unless that was tried a moment ago; tell whether there are new ones."""
        in_use = self._age() < LIFETIME_SECONDS
        if self._clock() - self._tried < (REFETCH_SECONDS if in_use else RETRY_SECONDS):
            if not in_use:
                raise IssuerError("failed-before")
            return False
        self._tried = self._clock()
        try:
            self._keys = [key for key in self._fetch() if _is_for_signatures(key)]
        except IssuerError:
            if not in_use:
                raise
            return False
        self._fetched = self._tried
        return True

    def _pick(self, algorithm: str, key_id: str | None) -> jwt.PyJWK | None:
        if key_id is None and len(self._keys) > 1:
            return None
        for key in self._keys:
            if key_id in (None, key.get("kid")) and _fits(key, algorithm):
                return _key_of(key, algorithm)
        return None


def _is_for_signatures(key: object) -> bool:
    """Whether a member of the set is a public key that signatures can be checked with.

    References
    ----------
    RFC 7517, section 4.2 and 4.3: ``use``, ``key_ops``. A key whose private part is published proves nothing.
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
