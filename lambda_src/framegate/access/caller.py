"""What the authorizer tells the API's function of a caller, and what the function makes of it.

API Gateway keeps an authorizer's answer for minutes, so a token can end while it is still let in. And whether a request
is for a data store that the token lists, API Gateway decides by the path alone. Both are looked at once more here.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from framegate.problems import DatastoreNotGranted, TokenExpired

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

EVERY_DATASTORE = "*"


def caller_context(expires_at: int, datastore_ids: Sequence[str] | None) -> dict[str, str]:
    """The context of an authorizer's answer: texts, as API Gateway passes no lists on, and numbers as texts.

    Parameters
    ----------
    expires_at : int
        When the token ends, in seconds since 1970.
    datastore_ids : sequence of str or None
        The data stores that its holder may read; None is all that are served.
    """
    listed = EVERY_DATASTORE if datastore_ids is None else " ".join(datastore_ids)
    return {"expiresAt": str(expires_at), "datastores": listed}


def admit(event: Mapping[str, Any], auth: str) -> None:
    """Let a request go on, or not.

    Parameters
    ----------
    event : mapping
        The event of a Lambda proxy integration, payload format 1.0.
    auth : str
        Who checked the caller. What IAM and Cognito let in is let in.

    Raises
    ------
    TokenExpired
        If the caller's token has ended.
    DatastoreNotGranted
        If the token lists data stores, and the request is for another.
    KeyError
        If the authorizer was not asked: then the request should not be here.
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
