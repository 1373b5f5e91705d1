"""Lets one of several invocations do a piece of work while the others wait for its result."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, TypeVar

from framegate.problems import Problem, UpstreamTimeout
from framegate.storage.s3_put import SERVICE

if TYPE_CHECKING:
    from collections.abc import Callable

    from framegate.storage.object_store import ObjectStore
    from framegate.time_budget import TimeBudget

CLAIM_LIFETIME_SECONDS = 30
"""Age from which a claim counts for nothing: API Gateway has given up on its request."""

ABSENCE_SECONDS = 60
"""How long an absence counts without another check."""

MIN_POLL_SECONDS, MAX_POLL_SECONDS = 0.05, 0.5

POLLS_PER_CLAIM = 3
"""Looks for the result between two attempts to claim the work. Only a failed invocation releases its claim early."""

Result = TypeVar("Result")


class AbsentError(Exception):
    """The work has no result: what it was about does not exist."""


@dataclass(frozen=True, slots=True)
class _Claim:
    """An invocation's claim to do the work, or the note that the work had no result."""

    is_absence: bool
    made_at: float

    @property
    def is_current(self) -> bool:
        lifetime_seconds = ABSENCE_SECONDS if self.is_absence else CLAIM_LIFETIME_SECONDS
        return 0 <= time.time() - self.made_at < lifetime_seconds

    def to_json(self) -> bytes:
        return json.dumps({"absent": self.is_absence, "madeAt": self.made_at}).encode()

    @classmethod
    def from_json(cls, content: bytes) -> _Claim:
        document = json.loads(content)
        if not isinstance(document, dict) or document.keys() != {"absent", "madeAt"}:
            raise ValueError
        return cls(bool(document["absent"]), float(document["madeAt"]))


class SharedWork:
    """Work whose result all invocations share through the bucket.

    Parameters
    ----------
    objects : ObjectStore
        The bucket.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def result(
        self, claim_key: str, find: Callable[[], Result | None], make: Callable[[], Result], budget: TimeBudget
    ) -> Result:
        """Return the result of the work. If there is none yet, one invocation makes it and the others wait.

        Parameters
        ----------
        claim_key : str
            The key of the claim, an object in the bucket.
        find : callable
            Looks for the result in the bucket; returns None if there is none.
        make : callable
            Does the work, and stores its result where `find` looks. It raises `AbsentError` if there is no result;
            for `ABSENCE_SECONDS`, all invocations then raise it without doing the work.
        budget : TimeBudget
            The time for it, including the wait.

        Raises
        ------
        AbsentError
            If `make` raised it, now or within the last `ABSENCE_SECONDS`.
        UpstreamTimeout
            If another invocation does not finish the work in time.
        Problem
            As `find`, `make` and `ObjectStore` raise it. The next invocation may do the work then.
        """
        for attempt in count():
            if (found := find()) is not None:
                return found
            if attempt % POLLS_PER_CLAIM == 0 and self._claim(claim_key, budget):
                return self._make(claim_key, find, make, budget)
            if budget.exhausted:
                raise UpstreamTimeout(SERVICE)
            time.sleep(min(MIN_POLL_SECONDS * 1.5**attempt, MAX_POLL_SECONDS, budget.remaining()))
        raise AssertionError

    def _make(
        self, claim_key: str, find: Callable[[], Result | None], make: Callable[[], Result], budget: TimeBudget
    ) -> Result:
        try:
            # Another invocation may have finished between the search and the claim.
            found = find()
            result = make() if found is None else found
        except AbsentError:
            self._objects.put(claim_key, "application/json", [_Claim(True, time.time()).to_json()], budget)
            raise
        except BaseException:
            self._release(claim_key, budget)
            raise
        self._release(claim_key, budget)
        return result

    def _claim(self, key: str, budget: TimeBudget) -> bool:
        """Claim the work; return whether this invocation has the claim.

        Raises
        ------
        AbsentError
            If another invocation has recently found that there is no result.
        """
        claim = _Claim(False, time.time()).to_json()
        if self._objects.put_if_unchanged(key, claim, None, budget):
            return True
        stored = self._objects.head(key, budget)
        if stored is None:
            return False
        try:
            other = _Claim.from_json(b"".join(self._objects.read(key, budget)))
        except KeyError:
            return False
        except (ValueError, TypeError):
            other = _Claim(False, stored.modified_at.timestamp())
        if other.is_current:
            if other.is_absence:
                raise AbsentError
            return False
        return self._objects.put_if_unchanged(key, claim, stored.etag, budget)

    def _release(self, key: str, budget: TimeBudget) -> None:
        try:
            self._objects.remove(key, budget)
        except Problem:
            # The claim expires by itself.
            return
