"""Who sends a request: the identity that the audit record names and the decision hook is asked about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

UNKNOWN = "unknown"
"""The name of a caller whose token lacks the configured claim."""


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


def principal_of(event: Mapping[str, Any], auth: str, claim: str = "sub") -> Principal:
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
    context = event.get("requestContext") or {}
    if auth == "iam":
        return Principal(str((context.get("identity") or {}).get("userArn") or UNKNOWN))
    authorizer = context.get("authorizer") or {}
    if auth == "jwt":
        return Principal(str(authorizer.get("principal") or UNKNOWN), authorizer.get("issuer"))
    claims = authorizer.get("claims") or {}
    return Principal(str(claims.get(claim) or UNKNOWN), claims.get("iss"))
