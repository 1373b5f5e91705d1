"""Finds the image sets of studies and series, with few searches of HealthImaging."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from framegate.bucket_layout import claim_key, study_list_key
from framegate.dicomweb.uids import SeriesAddress, hash_of
from framegate.identifiers import ImageSetRef
from framegate.index.latest_version import LATEST_TTL_SECONDS
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
    from framegate.dicomweb.uids import StudyAddress
    from framegate.healthimaging.client import HealthImaging
    from framegate.index.latest_version import LatestVersions
    from framegate.storage.object_store import ObjectStore
    from framegate.time_budget import TimeBudget

STUDY_TTL_SECONDS = 3600
"""How long the list of a study's image sets is used without a search. A new version of one of them ends this."""

MEMORY_SECONDS = 10
"""How long a function uses what it has found without looking into the bucket."""

CACHE_MAX_SERIES = 1000
"""Maximum number of series that a function remembers."""


@dataclass(frozen=True, slots=True)
class ImageSetVersion:
    """A version of an image set, with the series that it belongs to."""

    image_set: ImageSetRef
    version_id: str
    is_primary: bool
    series_instance_uid: str


@dataclass(frozen=True, slots=True)
class Study:
    """The image sets of a study, and when HealthImaging listed them, in seconds since 1970."""

    image_sets: tuple[ImageSetVersion, ...]
    searched_at: float

    @property
    def age_seconds(self) -> float:
        """Seconds since the search."""
        return time.time() - self.searched_at

    @property
    def series_uids(self) -> tuple[str, ...]:
        """The series that have a primary image set."""
        return tuple(dict.fromkeys(each.series_instance_uid for each in self.image_sets if each.is_primary))

    def of_series(self, series: SeriesAddress) -> tuple[ImageSetVersion, ...]:
        """The image sets that a request for the series means: the chosen one, or the primary ones."""
        return tuple(
            each
            for each in self.image_sets
            if each.series_instance_uid == series.series_instance_uid
            and (each.is_primary if series.image_set_id is None else each.image_set.image_set_id == series.image_set_id)
        )

    @classmethod
    def from_json(cls, datastore_id: str, content: bytes) -> Study:
        document = json.loads(content)
        image_sets = (
            ImageSetVersion(
                ImageSetRef(datastore_id, each["imageSetId"]),
                each["versionId"],
                each["isPrimary"],
                each["seriesInstanceUID"],
            )
            for each in document["imageSets"]
        )
        return cls(tuple(image_sets), document["searchedAt"])

    def to_json(self) -> bytes:
        image_sets = [
            {
                "imageSetId": each.image_set.image_set_id,
                "versionId": each.version_id,
                "isPrimary": each.is_primary,
                "seriesInstanceUID": each.series_instance_uid,
            }
            for each in self.image_sets
        ]
        return json.dumps({"searchedAt": self.searched_at, "imageSets": image_sets}).encode()


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
        self._objects = objects
        self._latest = latest
        self._hash_secret = hash_secret
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
        noted = self._read(address, budget)
        if noted is not None and 0 <= noted.age_seconds < STUDY_TTL_SECONDS:
            return noted
        try:
            return self._search(address, noted, budget)
        except (Throttled, UpstreamFailed, UpstreamTimeout) as problem:
            if noted is None or budget.exhausted:
                raise
            # A list that may be outdated is better than none. Versions are checked anyway.
            logger.warning("study not searched again", extra=problem.log_fields)
            return noted

    def _current(self, series: SeriesAddress, budget: TimeBudget) -> tuple[ImageSetVersion, ...]:
        study = self.study(series.study, budget)
        found = study.of_series(series)
        if found and all(self._is_current(each, study, budget) for each in found):
            return found
        if found or study.age_seconds >= ABSENCE_SECONDS:
            found = self._search(series.study, study, budget).of_series(series)
        return found

    def _is_current(self, found: ImageSetVersion, study: Study, budget: TimeBudget) -> bool:
        """Whether the noted version is the latest. HealthImaging is asked once in `LATEST_TTL_SECONDS`."""
        if study.age_seconds < LATEST_TTL_SECONDS:
            noted = self._latest.noted(found.image_set, budget)
            return noted is None or int(noted) <= int(found.version_id)
        try:
            return self._latest.find(found.image_set, None, budget) == found.version_id
        except ImageSetNotFound:
            return False

    def _search(self, address: StudyAddress, outdated: Study | None, budget: TimeBudget) -> Study:
        """Search for a study, unless another invocation has done so after the outdated search."""
        name = self._hash_of(address)

        def find() -> Study | None:
            noted = self._read(address, budget)
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
            study = Study(tuple(sorted(image_sets, key=lambda each: not each.is_primary)), searched_at)
            key = study_list_key(address.datastore_id, name)
            if not study.image_sets:
                self._objects.remove(key, budget)
                raise AbsentError
            self._objects.put(key, "application/json", [study.to_json()], budget)
            return study

        try:
            return self._work.result(claim_key(address.datastore_id, name), find, make, budget)
        except AbsentError:
            raise InstanceNotFound from None

    def _read(self, address: StudyAddress, budget: TimeBudget) -> Study | None:
        try:
            content = b"".join(self._objects.read(study_list_key(address.datastore_id, self._hash_of(address)), budget))
        except KeyError:
            return None
        return Study.from_json(address.datastore_id, content)

    def _hash_of(self, address: StudyAddress) -> str:
        return hash_of(self._hash_secret, address.datastore_id, address.study_instance_uid)

    def _remember(self, series: SeriesAddress, checked_at: float, found: tuple[ImageSetVersion, ...]) -> None:
        self._recent[series] = checked_at, found
        self._recent.move_to_end(series)
        if len(self._recent) > CACHE_MAX_SERIES:
            self._recent.popitem(last=False)
