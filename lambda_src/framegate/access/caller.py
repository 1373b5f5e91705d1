"""Checks what a caller may read: the claims that the authorizer passes on, and the data stores that are served.

API Gateway caches an authorizer's policy for minutes, so a token can expire while its policy still applies. The policy
also names data stores by path alone. The API's function therefore checks both again.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from framegate.problems import DatastoreNotGranted, DatastoreNotServed, TokenExpired

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from framegate.access.tokens import Grant
    from framegate.identifiers import ImageSetRef

EVERY_DATASTORE = "*"


def caller_context(grant: Grant, datastore_ids: Collection[str] | None) -> dict[str, str]:
    """The context that the authorizer returns. API Gateway passes on no lists, so every value is text.

    Parameters
    ----------
    grant : Grant
        What the token grants, and to whom.
    datastore_ids : collection of str or None
        The data stores that the caller may read; None is every served one.

    References
    ----------
    API Gateway developer guide, "Output from an API Gateway Lambda authorizer".
    """
    return {
        "expiresAt": str(grant.expires_at),
        "datastores": EVERY_DATASTORE if datastore_ids is None else " ".join(sorted(datastore_ids)),
        "principal": grant.principal.name,
        "issuer": grant.principal.issuer or "",
    }


def authorize_caller(event: Mapping[str, Any], auth: str) -> None:
    """Check that the caller's token is still valid and grants the requested data store.

    Parameters
    ----------
    event : mapping
        The event of a Lambda proxy integration, payload format 1.0.
    auth : str
        The kind of authorization. For ``iam`` and ``cognito``, API Gateway has decided already.

    Raises
    ------
    TokenExpired
        If the caller's token has expired.
    DatastoreNotGranted
        If the token lists data stores, and the requested one is not among them.
    KeyError
        If the event has no authorizer context: no authorizer has seen the request.
    """
    if auth != "jwt":
        return
    context = event["requestContext"]["authorizer"]
    if time.time() >= int(context["expiresAt"]):
        raise TokenExpired
    listed = context["datastores"]
    datastore_id = (event.get("pathParameters") or {}).get("datastoreId")
    if listed != EVERY_DATASTORE and datastore_id is not None and datastore_id not in listed.split():
        raise DatastoreNotGranted


def require_served(image_set: ImageSetRef, datastore_ids: Collection[str]) -> None:
    """Check that this deployment serves the image set's data store.

    Raises
    ------
    DatastoreNotServed
        If `datastore_ids` does not list it.
    """
    if image_set.datastore_id not in datastore_ids:
        raise DatastoreNotServed
