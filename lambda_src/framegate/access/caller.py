"""Reads what a caller may read from what API Gateway passes on: the authorizer's context, or the claims of Cognito.

API Gateway caches an authorizer's policy for minutes, so a token can expire while its policy still applies. The policy
also names data stores by path alone, and no image sets. The API's function therefore checks all of it.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from framegate.access.principal import UNKNOWN, Principal
from framegate.problems import ClientNotAccepted, DatastoreNotGranted, TokenExpired

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from framegate.access.tokens import Grant

EVERY_DATASTORE = "*"

_SEPARATORS = re.compile(r"[\s,\[\]]+")


@dataclass(frozen=True, slots=True)
class Caller:
    """An authorized caller, and the image sets that the caller's token grants.

    Attributes
    ----------
    principal : Principal
        Who calls.
    image_set_ids, study_uids : frozenset of str or None
        The image sets and studies that the token lists; None if no claim for them is configured. If both are None,
        the token does not restrict image sets.
    """

    principal: Principal
    image_set_ids: frozenset[str] | None = None
    study_uids: frozenset[str] | None = None


NOBODY = Caller(Principal(UNKNOWN), frozenset(), frozenset())
"""The caller of a request that has not been authorized yet. It may read nothing."""


@dataclass(frozen=True, slots=True)
class CognitoRules:
    """What the function checks in addition to API Gateway under ``auth=cognito``.

    Attributes
    ----------
    client_ids : collection of str
        The app clients whose tokens are accepted; empty if all clients of the pool are.
    groups_are_datastores : bool
        Whether callers may read only the data stores whose ids are names of their groups.
    """

    client_ids: Collection[str] = ()
    groups_are_datastores: bool = False


def caller_context(grant: Grant, datastore_ids: Collection[str] | None) -> dict[str, str]:
    """The context that the authorizer returns. API Gateway passes on no lists, so every value is text.

    Parameters
    ----------
    grant : Grant
        What the token grants.
    datastore_ids : collection of str or None
        The data stores that the caller may read; None is every served one.

    References
    ----------
    API Gateway developer guide, "Output from an API Gateway Lambda authorizer".
    """
    context = {
        "expiresAt": str(grant.expires_at),
        "datastores": EVERY_DATASTORE if datastore_ids is None else _joined(datastore_ids),
        "principal": grant.principal.name,
        "issuer": grant.principal.issuer or "",
    }
    if grant.image_set_ids is not None:
        context["imageSets"] = _joined(grant.image_set_ids)
    if grant.study_uids is not None:
        context["studies"] = _joined(grant.study_uids)
    return context


def authorize_caller(
    event: Mapping[str, Any], principal: Principal, auth: str, cognito: CognitoRules | None = None
) -> Caller:
    """Check that the caller's token is still valid and grants the requested data store.

    Parameters
    ----------
    event : mapping
        The event of a Lambda proxy integration, payload format 1.0.
    principal : Principal
        Who calls.
    auth : str
        The kind of authorization: ``iam``, ``cognito`` or ``jwt``. For ``iam``, API Gateway has decided already.
    cognito : CognitoRules, optional
        What to check for ``cognito``.

    Raises
    ------
    TokenExpired
        If the caller's token has expired.
    ClientNotAccepted
        If the token was issued to an app client that is not accepted.
    DatastoreNotGranted
        If the token lists data stores, and the requested one is not among them.
    KeyError
        If the event has no authorizer context: no authorizer has seen the request.
    """
    datastore_id = (event.get("pathParameters") or {}).get("datastoreId")
    if auth == "jwt":
        context = event["requestContext"]["authorizer"]
        if time.time() >= int(context["expiresAt"]):
            raise TokenExpired
        listed = context["datastores"]
        _require_datastore(datastore_id, None if listed == EVERY_DATASTORE else listed.split())
        return Caller(principal, _listed(context, "imageSets"), _listed(context, "studies"))
    if auth == "cognito" and cognito is not None:
        _check_cognito(event, cognito, datastore_id)
    return Caller(principal)


def _check_cognito(event: Mapping[str, Any], rules: CognitoRules, datastore_id: str | None) -> None:
    if not rules.client_ids and not rules.groups_are_datastores:
        return
    claims = event["requestContext"]["authorizer"]["claims"]
    if rules.client_ids and _client_id(claims) not in rules.client_ids:
        raise ClientNotAccepted
    _require_datastore(datastore_id, _groups(claims) if rules.groups_are_datastores else None)


def _client_id(claims: Mapping[str, Any]) -> object:
    """Return the app client that a token was issued to.

    References
    ----------
    Amazon Cognito developer guide, "Verifying JSON web tokens": ``aud`` in an identity token, ``client_id`` in an
    access token.
    """
    return claims.get("aud") if claims.get("token_use") == "id" else claims.get("client_id")


def _groups(claims: Mapping[str, Any]) -> Collection[str]:
    """Return the groups of a caller. API Gateway joins them with commas, or with spaces in square brackets."""
    listed = claims.get("cognito:groups") or ""
    return listed if isinstance(listed, list) else _SEPARATORS.split(str(listed))


def _require_datastore(datastore_id: str | None, granted: Collection[str] | None) -> None:
    if granted is not None and datastore_id is not None and datastore_id not in granted:
        raise DatastoreNotGranted


def _joined(items: Collection[str]) -> str:
    return " ".join(sorted(items))


def _listed(context: Mapping[str, str], name: str) -> frozenset[str] | None:
    return frozenset(context[name].split()) if name in context else None
