"""Checks that the caller of a request may read an image set, and records the decision."""

from __future__ import annotations

from typing import TYPE_CHECKING

from framegate.problems import ImageSetNotGranted

if TYPE_CHECKING:
    from framegate.access.decision import Action
    from framegate.access.image_sets import ImageSetAccess
    from framegate.identifiers import ImageSetRef
    from framegate.rest.exchange import Exchange


def require_access(exchange: Exchange, access: ImageSetAccess, image_set: ImageSetRef, action: Action) -> None:
    """Check that the caller may read an image set, before anything is read or compared.

    Raises
    ------
    ImageSetNotGranted
        If the decision function denies it.
    Problem
        As `ImageSetAccess.decide` raises it.
    """
    decision = access.decide(exchange.caller, image_set, action, exchange.budget)
    if decision is None:
        return
    exchange.record.update(decision="allow" if decision.is_allowed else "deny", decisionReason=decision.reason)
    if not decision.is_allowed:
        raise ImageSetNotGranted
