"""Who sends a request: the identity that the audit record names and the decision hook is asked about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from urllib.parse import quote

UNKNOWN = "unknown"
"""The name of a caller whose token has neither the configured claim nor ``sub``."""

DEFAULT_CLAIM = "sub"
"""The claim that names a caller by default: the subject of the token (RFC 7519, section 4.1.2)."""

MAX_NAME_LENGTH = 256
"""Maximum characters of a principal's name. OpenID Connect Core 1.0, section 2, limits ``sub`` to 255."""

# Printable ASCII except `"` and `\`, which have a meaning in JSON, and `%`.
_UNENCODED = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) not in '"\\%')


@dataclass(frozen=True, slots=True)
class Principal:
    """Who sends a request.

    Attributes
    ----------
    name : str
        The ARN of an IAM principal, or the value of the token's audit claim.
    issuer : str or None
        The issuer of the token; None for an IAM principal. A name is unique for its issuer only
        (OpenID Connect Core 1.0, section 5.7).
    """

    name: str
    issuer: str | None = None


def principal_of(event: Mapping[str, Any], auth: str, claim: str = DEFAULT_CLAIM) -> Principal:
    """Return the principal of a request that API Gateway has authorized.

    Parameters
    ----------
    event : mapping
        The event of a Lambda proxy integration, payload format 1.0.
    auth : str
        The kind of authorization: ``iam``, ``cognito`` or ``jwt``.
    claim : str
        The claim that names the caller. API Gateway passes on all claims of a Cognito token. The authorizer passes on
        this one for ``jwt``, as ``principal``, with the issuer.
    """
    context = _mapping(event.get("requestContext"))
    if auth == "iam":
        return Principal(str(_mapping(context.get("identity")).get("userArn") or UNKNOWN))
    authorizer = _mapping(context.get("authorizer"))
    if auth == "jwt":
        return Principal(str(authorizer.get("principal") or UNKNOWN), authorizer.get("issuer"))
    claims = _mapping(authorizer.get("claims"))
    return Principal(name_in(claims, claim), claims.get("iss"))


def name_in(claims: Mapping[str, Any], claim: str) -> str:
    r"""Return the name that a token's claims give its holder, fit for a log.

    API Gateway puts the name into the access log without escaping it, so every character except printable ASCII, and
    ``"``, ``\`` and ``%``, is percent-encoded. The SHA-256 of the claim replaces a name that is too long, so that two
    long names never look the same.

    Parameters
    ----------
    claims : mapping
        The claims of a valid token.
    claim : str
        The claim with the name. ``sub`` is used if the token lacks the claim.

    Examples
    --------
    >>> name_in({"sub": "4d2", "email": "jörg@example.org"}, "email")
    'j%C3%B6rg@example.org'
    """
    given = next((claims[each] for each in (claim, DEFAULT_CLAIM) if _is_name(claims.get(each))), UNKNOWN)
    # JSON can contain half of a surrogate pair, which has no encoding in UTF-8.
    encoded = quote(given, safe=_UNENCODED, errors="surrogatepass")
    return encoded if len(encoded) <= MAX_NAME_LENGTH else f"sha256:{sha256(encoded.encode()).hexdigest()}"


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
