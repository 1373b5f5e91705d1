"""Decides whether a caller may read an image set: by the served data stores, the token, and the decision function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from framegate.access.decision import Question
from framegate.identifiers import ImageSetRef
from framegate.problems import DatastoreNotServed, ImageSetNotGranted

if TYPE_CHECKING:
    from collections.abc import Collection

    from framegate.access.caller import Caller
    from framegate.access.decision import Action, Decision, DecisionFunction
    from framegate.time_budget import TimeBudget


class Studies(Protocol):
    """Knows the studies of image sets."""

    def study(self, image_set: ImageSetRef, budget: TimeBudget) -> str | None:
        """Return the study instance UID of an image set, or None if it has none or does not exist."""


class ImageSetAccess:
    """Decides who may read an image set.

    Parameters
    ----------
    datastore_ids : collection of str
        The data stores that this deployment serves.
    studies : Studies
        Knows the studies of image sets. It is asked only if a token lists studies, or for the decision function.
    decision_function : DecisionFunction or None
        Has the last word; None if the deployment has no such function.
    """

    def __init__(
        self, datastore_ids: Collection[str], studies: Studies, decision_function: DecisionFunction | None = None
    ) -> None:
        self._datastore_ids = datastore_ids
        self._studies = studies
        self._decision_function = decision_function

    def restricts(self, caller: Caller) -> bool:
        """Whether the caller may read only some image sets of a data store, as far as this is known beforehand."""
        return self.asks_function or caller.image_set_ids is not None or caller.study_uids is not None

    @property
    def asks_function(self) -> bool:
        """Whether the deployment has a decision function."""
        return self._decision_function is not None

    def decide(self, caller: Caller, image_set: ImageSetRef, action: Action, budget: TimeBudget) -> Decision | None:
        """Return the decision of the deployment's function, or None if it has none and the caller may read.

        Raises
        ------
        DatastoreNotServed
            If the deployment does not serve the image set's data store.
        ImageSetNotGranted
            If the token lists image sets or studies, and neither this image set nor its study is among them.
        AuthorizationUnavailable
            If the decision function gives no valid answer.
        Problem
            As `Studies.study` raises it.
        """
        if image_set.datastore_id not in self._datastore_ids:
            raise DatastoreNotServed
        # Of a frame's address, only the image set counts: frames must share what is cached.
        image_set = ImageSetRef(image_set.datastore_id, image_set.image_set_id)
        if not self._is_granted(caller, image_set, budget):
            raise ImageSetNotGranted
        if self._decision_function is None:
            return None
        study_uid = self._studies.study(image_set, budget)
        return self._decision_function.decide(Question(caller.principal, image_set, study_uid, action), budget)

    def _is_granted(self, caller: Caller, image_set: ImageSetRef, budget: TimeBudget) -> bool:
        if caller.image_set_ids is None and caller.study_uids is None:
            return True
        if image_set.image_set_id in (caller.image_set_ids or ()):
            return True
        return bool(caller.study_uids) and self._studies.study(image_set, budget) in (caller.study_uids or ())
