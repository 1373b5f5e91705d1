"""Checks callers' tokens and reads what they grant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import jwt

from framegate.access.issuer_keys import ALGORITHMS
from framegate.access.principal import DEFAULT_CLAIM, Principal, name_in
from framegate.identifiers import is_identifier

if TYPE_CHECKING:
    from framegate.access.issuer_keys import IssuerKeys

LEEWAY_SECONDS = 30
"""Seconds by which the issuer's clock and ours may differ."""

MAX_TOKEN_LENGTH = 16 * 1024
"""Maximum characters of a token. API Gateway limits all headers to 10,240 bytes, so it refuses such a token first."""

_REASONS: tuple[tuple[type[jwt.PyJWTError], str], ...] = (
    (jwt.ExpiredSignatureError, "expired"),
    (jwt.ImmatureSignatureError, "not-yet-valid"),
    (jwt.InvalidIssuerError, "issuer"),
    (jwt.InvalidAudienceError, "audience"),
    (jwt.MissingRequiredClaimError, "missing-claim"),
    (jwt.InvalidSignatureError, "signature"),
    (jwt.InvalidKeyError, "weak-key"),
)


class RefusedTokenError(Exception):
    """The token is not valid.

    Parameters
    ----------
    reason : str
        The cause in one word, for the log. It repeats nothing of the token.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"The token is refused: {reason}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token grants.

    Attributes
    ----------
    expires_at : int
        When the token expires, in seconds since 1970, leeway included.
    datastore_ids : frozenset of str or None
        The data stores that the caller may read; None is every served one.
    principal : Principal
        The holder of the token.
    """

    expires_at: int
    datastore_ids: frozenset[str] | None
    principal: Principal


class TokenChecker:
    """Checks JSON Web Tokens of one issuer.

    Parameters
    ----------
    issuer : str
        The required value of ``iss``.
    audiences : tuple of str
        The accepted values of ``aud``.
    datastores_claim : str or None
        The claim that lists data stores, as a JSON array or as text separated by spaces; None if none is configured.
    keys : IssuerKeys
        The issuer's keys.
    principal_claim : str
        The claim that names the holder.

    References
    ----------
    RFC 7519, section 7.2: validating a JWT.
    RFC 8725: JSON Web Token best current practices.
    """

    def __init__(
        self,
        issuer: str,
        audiences: tuple[str, ...],
        datastores_claim: str | None,
        keys: IssuerKeys,
        *,
        principal_claim: str = DEFAULT_CLAIM,
    ) -> None:
        self._issuer = issuer
        self._audiences = audiences
        self._datastores_claim = datastores_claim
        self._keys = keys
        self._principal_claim = principal_claim

    def check(self, token: str) -> Grant:
        """Check a token.

        Raises
        ------
        RefusedTokenError
            If the token is malformed, expired, not for this audience, or otherwise invalid.
        IssuerError
            If the issuer's keys are not available.
        """
        if len(token) > MAX_TOKEN_LENGTH or not token.isascii():
            raise RefusedTokenError("malformed")
        try:
            claims = jwt.decode(
                token,
                self._key_of(token),
                algorithms=ALGORITHMS,
                audience=self._audiences,
                issuer=self._issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud"], "enforce_minimum_key_length": True},
            )
        except jwt.PyJWTError as error:
            raise RefusedTokenError(_reason_of(error)) from None
        return Grant(
            int(claims["exp"]) + LEEWAY_SECONDS,
            self._datastores_of(claims),
            Principal(name_in(claims, self._principal_claim), self._issuer),
        )

    def _key_of(self, token: str) -> jwt.PyJWK:
        header = jwt.get_unverified_header(token)
        algorithm = header.get("alg")
        if algorithm not in ALGORITHMS:
            raise RefusedTokenError("algorithm")
        key = self._keys.find(algorithm, header.get("kid"))
        if key is None:
            raise RefusedTokenError("unknown-key")
        return key

    def _datastores_of(self, claims: dict[str, object]) -> frozenset[str] | None:
        if self._datastores_claim is None:
            return None
        listed = claims.get(self._datastores_claim, [])
        if isinstance(listed, str):
            listed = listed.split()
        if not isinstance(listed, list) or not all(map(is_identifier, listed)):
            raise RefusedTokenError("datastores")
        return frozenset(listed)


def _reason_of(error: jwt.PyJWTError) -> str:
    return next((reason for kind, reason in _REASONS if isinstance(error, kind)), "malformed")
