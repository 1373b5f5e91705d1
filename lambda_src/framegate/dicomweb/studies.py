"""Finds the image sets of studies and series, with few searches of HealthImaging."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from framegate.bucket_layout import claim_key
from framegate.dicomweb.study_lists import ImageSetVersion, Study, StudyLists, in_order
from framegate.identifiers import ImageSetRef
from framegate.index.latest_version import LATEST_TTL_SECONDS, MEMORY_SECONDS
from framegate.observability import logger
from framegate.problems import (
    FrameNotFound,
    ImageSetNotFound,
    InstanceNotFound,
    Throttled,
    UpstreamFailed,
    UpstreamTimeout,
)
from framegate.storage.shared_work import ABSENCE_SECONDS, AbsentError, SharedWork

if TYPE_CHECKING:
    from framegate.dicomweb.uids import SeriesAddress, StudyAddress
    from framegate.healthimaging.client import HealthImaging
    from framegate.index.latest_version import LatestVersions
    from framegate.storage.object_store import ObjectStore
    from framegate.time_budget import TimeBudget

CACHE_MAX_SERIES = 1000
"""Maximum number of series that a function remembers."""


class StudyDirectory:
    """The image sets of studies, noted in the bucket.

    One search finds the image sets of all series of a study. Of several requests at the same time, one searches. A
    study that does not exist is searched for at most once in `ABSENCE_SECONDS`.

    Parameters
    ----------
    source : HealthImaging
        Searches, at most 25 times a second for an account (SearchImageSets).
    objects : ObjectStore
        The bucket.
    latest : LatestVersions
        Tells when an image set has a new version.
    hash_secret : str
        The key of the hashes that stand for UIDs in keys.
    """

    def __init__(self, source: HealthImaging, objects: ObjectStore, latest: LatestVersions, hash_secret: str) -> None:
        self._source = source
        self._latest = latest
        self._lists = StudyLists(objects, hash_secret)
        self._work = SharedWork(objects)
        self._recent: OrderedDict[SeriesAddress, tuple[float, tuple[ImageSetVersion, ...]]] = OrderedDict()

    def image_sets(self, series: SeriesAddress, budget: TimeBudget) -> tuple[ImageSetVersion, ...]:
        """Return the current versions of the image sets that a request for the series means.

        Raises
        ------
        InstanceNotFound
            If there is no such series, or no such image set of it.
        Problem
            As `HealthImaging.search_study` and `ObjectStore` raise it.
        """
        checked_at, found = self._recent.get(series, (0.0, ()))
        if not 0 <= time.time() - checked_at < (MEMORY_SECONDS if found else ABSENCE_SECONDS):
            started_at = time.time()
            try:
                found = self._current(series, budget)
            except InstanceNotFound:
                found = ()
            self._remember(series, started_at, found)
        if not found:
            raise InstanceNotFound
        return found

    def study(self, address: StudyAddress, budget: TimeBudget) -> Study:
        """Return the image sets of a study.

        Raises
        ------
        InstanceNotFound
            If there is no such study.
        Problem
            As `HealthImaging.search_study` and `ObjectStore` raise it.
        """
        return self._listed(address, self._lists.read(address, budget), budget)

    def _listed(self, address: StudyAddress, noted: Study | None, budget: TimeBudget) -> Study:
        """Return the noted list if it is recent and complete; otherwise search."""
        if noted is not None and noted.is_recent:
            return noted
        try:
            return self._search(address, noted, budget)
        except (Throttled, UpstreamFailed, UpstreamTimeout) as problem:
            if noted is None or not noted.is_complete or budget.exhausted:
                raise
            # A list that may be outdated is better than none. Versions are checked anyway.
            logger.warning("study not searched again", extra=problem.log_fields)
            return noted

    def _current(self, series: SeriesAddress, budget: TimeBudget) -> tuple[ImageSetVersion, ...]:
        noted = self._lists.read(series.study, budget)
        found = noted.of_series(series) if noted is not None else ()
        if noted is not None and found and all(map(noted.is_listed_recently, found)):
            # These entries serve the series, even if only events have made the list.
            study = noted
        else:
            study = self._listed(series.study, noted, budget)
            found = study.of_series(series)
        if found and all(self._is_current(each, study, budget) for each in found):
            return found
        if found or study.age_seconds >= ABSENCE_SECONDS:
            found = self._search(series.study, study, budget).of_series(series)
        return found

    def _is_current(self, found: ImageSetVersion, study: Study, budget: TimeBudget) -> bool:
        """Whether the noted version is the latest. HealthImaging is asked once in `LATEST_TTL_SECONDS`."""
        if study.age_of(found) < LATEST_TTL_SECONDS:
            noted = self._latest.noted(found.image_set, budget)
            return noted is None or int(noted) <= int(found.version_id)
        try:
            return self._latest.find(found.image_set, None, budget) == found.version_id
        except ImageSetNotFound:
            return False

    def _search(self, address: StudyAddress, outdated: Study | None, budget: TimeBudget) -> Study:
        """Search for a study, unless another invocation has done so after the outdated search."""
        name = self._lists.hash_of(address)

        def find() -> Study | None:
            noted = self._lists.read(address, budget)
            is_newer = noted is not None and (outdated is None or noted.searched_at > outdated.searched_at)
            return noted if is_newer else None

        def make() -> Study:
            searched_at = time.time()
            try:
                found = self._source.search_study(address.datastore_id, address.study_instance_uid, budget)
            except FrameNotFound:
                found = []
            image_sets = (
                ImageSetVersion(
                    ImageSetRef(address.datastore_id, each.image_set_id),
                    each.version_id,
                    each.is_primary,
                    each.series_instance_uid,
                )
                for each in found
                if each.study_instance_uid == address.study_instance_uid
            )
            study = Study(in_order(image_sets), searched_at)
            self._lists.write(address, study, budget)
            if not study.image_sets:
                raise AbsentError
            return study

        try:
            return self._work.result(claim_key(address.datastore_id, name), find, make, budget)
        except AbsentError:
            raise InstanceNotFound from None

    def _remember(self, series: SeriesAddress, checked_at: float, found: tuple[ImageSetVersion, ...]) -> None:
        self._recent[series] = checked_at, found
        self._recent.move_to_end(series)
        if len(self._recent) > CACHE_MAX_SERIES:
            self._recent.popitem(last=False)
