"""Changes objects that several functions may change at the same time."""

from __future__ import annotations

import time
from itertools import count
from typing import TYPE_CHECKING

from framegate.aws.retries import pause_after
from framegate.storage.object_store import ObjectChangedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from framegate.storage.object_store import ObjectStore
    from framegate.time_budget import TimeBudget


def read_with_etag(objects: ObjectStore, key: str, budget: TimeBudget) -> tuple[bytes | None, str | None]:
    """Return an object's content, and an entity tag that changes when another function changes the object.

    Both are None if there is no object. The content alone is None if the object was removed in between.

    Raises
    ------
    Problem
        As `ObjectStore` raises it.
    """
    stored = objects.head(key, budget)
    if stored is None:
        return None, None
    try:
        return b"".join(objects.read(key, budget)), stored.etag
    except KeyError:
        return None, stored.etag


def change_object(
    objects: ObjectStore, key: str, change: Callable[[bytes | None], bytes | None], budget: TimeBudget
) -> None:
    """Replace a small JSON object by what `change` makes of it.

    If another function changes the object in the meantime, `change` starts again with the new content. One function
    succeeds in each round.

    Parameters
    ----------
    objects : ObjectStore
        The bucket.
    key : str
        The object's key.
    change : callable
        Gets the content, or None if there is no object. Returns the new content, None to leave the object as it is, or
        no bytes to remove it.
    budget : TimeBudget
        The time for it.

    Raises
    ------
    Problem
        As `ObjectStore` raises it.
    """
    for attempt in count(1):
        content, etag = read_with_etag(objects, key, budget)
        changed = change(content)
        if changed is None or _replace(objects, key, changed, etag, budget):
            return
        time.sleep(min(pause_after(attempt), budget.remaining()))


def _replace(objects: ObjectStore, key: str, content: bytes, etag: str | None, budget: TimeBudget) -> bool:
    """Store or remove an object unless it has changed; return whether this was done."""
    if content:
        return objects.put_if_unchanged(key, content, etag, budget)
    if etag is not None:
        try:
            objects.remove_if_unchanged(key, etag, budget)
        except ObjectChangedError:
            return False
    return True
