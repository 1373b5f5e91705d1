"""Checks callers' tokens and reads what they grant."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jwt

from framegate.access.issuer_keys import ALGORITHMS
from framegate.access.principal import DEFAULT_CLAIM, Principal, name_in
from framegate.identifiers import is_identifier, is_uid

if TYPE_CHECKING:
    from collections.abc import Callable

    from framegate.access.issuer_keys import IssuerKeys

LEEWAY_SECONDS = 30
"""Seconds by which the issuer's clock and ours may differ."""

MAX_TOKEN_LENGTH = 16 * 1024
"""Maximum characters of a token. API Gateway limits all headers to 10,240 bytes, so it refuses such a token first."""

HEADER_TYPES = frozenset({"jwt", "at+jwt"})
"""The accepted values of the header ``typ``, in lower case: a JWT (RFC 7519) and an access token (RFC 9068)."""

TOKEN_USES = frozenset({"access", "id"})
"""The accepted values of the claim ``token_use``, with which Amazon Cognito names the kind of a token."""

TOKEN_TYPES = frozenset({"bearer", "id", "jwt", "at+jwt"})
"""The accepted values of the claim ``typ``, in lower case. Keycloak names the kind of a token with it; its refresh,
offline and logout tokens have other values."""

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
    image_set_ids, study_uids : frozenset of str or None
        The image sets and the studies that the token lists; None if no claim for them is configured.
    """

    expires_at: int
    datastore_ids: frozenset[str] | None
    principal: Principal
    image_set_ids: frozenset[str] | None = None
    study_uids: frozenset[str] | None = None


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
    image_sets_claim, studies_claim : str or None
        The claims that list image sets and study instance UIDs, in the same forms.
    max_lifetime_seconds : int or None
        Maximum time between the issue of a token and its expiry; None if there is no maximum.
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
        image_sets_claim: str | None = None,
        studies_claim: str | None = None,
        max_lifetime_seconds: int | None = None,
        principal_claim: str = DEFAULT_CLAIM,
    ) -> None:
        self._issuer = issuer
        self._audiences = audiences
        self._datastores_claim = datastores_claim
        self._keys = keys
        self._image_sets_claim = image_sets_claim
        self._studies_claim = studies_claim
        self._max_lifetime_seconds = max_lifetime_seconds
        self._principal_claim = principal_claim

    def check(self, token: str) -> Grant:
        """Check a token.

        Raises
        ------
        RefusedTokenError
            If the token is malformed, expired, of another kind, not for this audience, or otherwise invalid.
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
        _check_kind(claims)
        self._check_lifetime(claims)
        return Grant(
            int(claims["exp"]) + LEEWAY_SECONDS,
            _listed(claims, self._datastores_claim, is_identifier, "datastores"),
            Principal(name_in(claims, self._principal_claim), self._issuer),
            _listed(claims, self._image_sets_claim, is_identifier, "image-sets"),
            _listed(claims, self._studies_claim, is_uid, "studies"),
        )

    def _key_of(self, token: str) -> jwt.PyJWK:
        header = jwt.get_unverified_header(token)
        algorithm = header.get("alg")
        if algorithm not in ALGORITHMS:
            raise RefusedTokenError("algorithm")
        if "typ" in header and not _is_header_type(header["typ"]):
            raise RefusedTokenError("kind")
        key = self._keys.find(algorithm, header.get("kid"))
        if key is None:
            raise RefusedTokenError("unknown-key")
        return key

    def _check_lifetime(self, claims: dict[str, Any]) -> None:
        """Check that the token is not valid for longer than configured, from its issue and from now.

        A token without ``iat``, or with a false one, still expires within the maximum from now.
        """
        if self._max_lifetime_seconds is None:
            return
        remaining_seconds = int(claims["exp"]) - time.time() - LEEWAY_SECONDS
        issued_at = claims.get("iat")
        lifetime_seconds = claims["exp"] - issued_at if isinstance(issued_at, int | float) else 0
        if max(remaining_seconds, lifetime_seconds) > self._max_lifetime_seconds:
            raise RefusedTokenError("lifetime")


def _is_header_type(value: object) -> bool:
    """Whether the header ``typ`` is that of a JWT or an access token.

    References
    ----------
    RFC 7515, section 4.1.9: a media type, in which the prefix ``application/`` may be left out.
    RFC 8725, section 3.11: explicit typing keeps tokens of one kind from being used as another.
    """
    return isinstance(value, str) and value.lower().removeprefix("application/") in HEADER_TYPES


def _check_kind(claims: dict[str, Any]) -> None:
    """Refuse tokens of other kinds, which the issuer signs with the same key: refresh tokens, logout tokens, and so on.

    References
    ----------
    RFC 8725, section 3.12: mutually exclusive validation rules for different kinds of tokens.
    RFC 8417, section 2.2: only security event tokens, such as logout tokens, have the claim ``events``.
    Amazon Cognito developer guide, "Verifying JSON web tokens": ``token_use``.
    """
    token_use, token_type = claims.get("token_use", "access"), claims.get("typ", "bearer")
    is_known_type = isinstance(token_type, str) and token_type.lower() in TOKEN_TYPES
    is_known_use = isinstance(token_use, str) and token_use.lower() in TOKEN_USES
    if "events" in claims or not is_known_use or not is_known_type:
        raise RefusedTokenError("kind")


def _listed(
    claims: dict[str, Any], name: str | None, is_item: Callable[[object], bool], reason: str
) -> frozenset[str] | None:
    """Return the items that a claim lists; None if the claim is not configured. An absent claim lists nothing."""
    if name is None:
        return None
    listed = claims.get(name, [])
    if isinstance(listed, str):
        listed = listed.split()
    if not isinstance(listed, list) or not all(map(is_item, listed)):
        raise RefusedTokenError(reason)
    return frozenset(listed)


def _reason_of(error: jwt.PyJWTError) -> str:
    return next((reason for kind, reason in _REASONS if isinstance(error, kind)), "malformed")
