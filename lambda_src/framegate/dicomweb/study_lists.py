"""Keeps the lists of the image sets of studies in the bucket, for searches and for events."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from framegate.bucket_layout import listed_key, listed_prefix, study_list_key
from framegate.dicomweb.uids import StudyAddress, hash_of
from framegate.identifiers import ImageSetRef
from framegate.storage.concurrent_change import change_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from framegate.dicomweb.uids import SeriesAddress
    from framegate.storage.object_store import ObjectStore
    from framegate.time_budget import TimeBudget

STUDY_TTL_SECONDS = 3600
"""How long the list of a study's image sets is used without a search. A new version of one of them ends this."""

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class ImageSetVersion:
    """A version of an image set, with the series that it belongs to."""

    image_set: ImageSetRef
    version_id: str
    is_primary: bool
    series_instance_uid: str


@dataclass(frozen=True, slots=True)
class Study:
    """The image sets of a study.

    Attributes
    ----------
    image_sets : tuple of ImageSetVersion
        The image sets, primary ones first.
    searched_at : float
        When HealthImaging listed them, in seconds since 1970; 0 if only events have listed some of them.
    noted_at : mapping of ImageSetRef to float
        When events listed image sets, in seconds since 1970.
    """

    image_sets: tuple[ImageSetVersion, ...]
    searched_at: float
    noted_at: Mapping[ImageSetRef, float] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether a search made the list. Otherwise, the study may have further image sets."""
        return self.searched_at > 0

    @property
    def age_seconds(self) -> float:
        """Seconds since the search."""
        return time.time() - self.searched_at

    @property
    def is_recent(self) -> bool:
        """Whether the search is so recent that the list counts as complete."""
        return 0 <= self.age_seconds < STUDY_TTL_SECONDS

    @property
    def series_uids(self) -> tuple[str, ...]:
        """The series that have a primary image set."""
        return tuple(dict.fromkeys(each.series_instance_uid for each in self.image_sets if each.is_primary))

    def age_of(self, found: ImageSetVersion) -> float:
        """Seconds since the search, or since a later event of this image set."""
        return time.time() - max(self.searched_at, self.noted_at.get(found.image_set, 0.0))

    def is_listed_recently(self, found: ImageSetVersion) -> bool:
        """Whether the entry of this image set can be used without a search."""
        return 0 <= self.age_of(found) < STUDY_TTL_SECONDS

    def of_series(self, series: SeriesAddress) -> tuple[ImageSetVersion, ...]:
        """The image sets that a request for the series means: the chosen one, or the primary ones."""
        return tuple(
            each
            for each in self.image_sets
            if each.series_instance_uid == series.series_instance_uid
            and (each.is_primary if series.image_set_id is None else each.image_set.image_set_id == series.image_set_id)
        )

    def with_image_set(self, noted: ImageSetVersion) -> Study | None:
        """Return the study with a version that an event named; None if it lists a newer one."""
        others = [each for each in self.image_sets if each.image_set != noted.image_set]
        for each in self.image_sets:
            if each.image_set == noted.image_set and int(each.version_id) > int(noted.version_id):
                return None
        return replace(
            self,
            image_sets=in_order([*others, noted]),
            noted_at={**self.noted_at, noted.image_set: time.time()},
        )

    def without(self, image_set: ImageSetRef) -> Study:
        """Return the study without an image set."""
        return replace(self, image_sets=tuple(each for each in self.image_sets if each.image_set != image_set))

    @classmethod
    def from_json(cls, datastore_id: str, content: bytes) -> Study:
        document = json.loads(content)
        image_sets, noted_at = [], {}
        for each in document["imageSets"]:
            image_set = ImageSetRef(datastore_id, each["imageSetId"])
            image_sets.append(
                ImageSetVersion(image_set, each["versionId"], each["isPrimary"], each["seriesInstanceUID"])
            )
            if "notedAt" in each:
                noted_at[image_set] = each["notedAt"]
        return cls(tuple(image_sets), document["searchedAt"], noted_at)

    def to_json(self) -> bytes:
        image_sets = [
            {
                "imageSetId": each.image_set.image_set_id,
                "versionId": each.version_id,
                "isPrimary": each.is_primary,
                "seriesInstanceUID": each.series_instance_uid,
                **({"notedAt": self.noted_at[each.image_set]} if each.image_set in self.noted_at else {}),
            }
            for each in self.image_sets
        ]
        return json.dumps({"searchedAt": self.searched_at, "imageSets": image_sets}).encode()


def in_order(image_sets: Iterable[ImageSetVersion]) -> tuple[ImageSetVersion, ...]:
    """Sort image sets: primary ones first."""
    return tuple(sorted(image_sets, key=lambda each: not each.is_primary))


class StudyLists:
    """The lists, under keyed hashes of the studies' UIDs.

    Parameters
    ----------
    objects : ObjectStore
        The bucket.
    hash_secret : str
        The key of the hashes.
    """

    def __init__(self, objects: ObjectStore, hash_secret: str) -> None:
        self._objects = objects
        self._hash_secret = hash_secret

    def hash_of(self, address: StudyAddress) -> str:
        """Return the hash that stands for a study."""
        return hash_of(self._hash_secret, address.datastore_id, address.study_instance_uid)

    def read(self, address: StudyAddress, budget: TimeBudget) -> Study | None:
        """Return the list of a study; None if there is none."""
        try:
            content = b"".join(self._objects.read(study_list_key(address.datastore_id, self.hash_of(address)), budget))
        except KeyError:
            return None
        return Study.from_json(address.datastore_id, content)

    def write(self, address: StudyAddress, study: Study, budget: TimeBudget) -> None:
        """Replace the list of a study. An empty list is removed."""
        key = study_list_key(address.datastore_id, self.hash_of(address))
        if study.image_sets:
            self._objects.put(key, JSON, [study.to_json()], budget)
        else:
            self._objects.remove(key, budget)

    def note(self, noted: ImageSetVersion, study_instance_uid: str, budget: TimeBudget) -> None:
        """List an image set that an event named, so that the first request for its series needs no search.

        Events can arrive late, twice or out of order: a newer version stays.

        Parameters
        ----------
        noted : ImageSetVersion
            The version that the event named, with the series that its metadata names.
        study_instance_uid : str
            The study that its metadata names.
        budget : TimeBudget
            The time for it.

        Raises
        ------
        InvalidRequest
            If a UID is malformed.
        Problem
            As `ObjectStore` raises it.
        """
        address = StudyAddress(noted.image_set.datastore_id, study_instance_uid)
        study_hash = self.hash_of(address)
        # The removal of the image set finds its list by this object.
        self._objects.put(listed_key(noted.image_set, study_hash), JSON, [b"{}"], budget)

        def with_noted(content: bytes | None) -> bytes | None:
            study = Study((), 0.0) if content is None else Study.from_json(address.datastore_id, content)
            changed = study.with_image_set(noted)
            return changed.to_json() if changed else None

        change_object(self._objects, study_list_key(address.datastore_id, study_hash), with_noted, budget)

    def forget(self, image_set: ImageSetRef, budget: TimeBudget) -> None:
        """Remove a deleted image set from the lists on which events have put it.

        Raises
        ------
        Problem
            As `ObjectStore` raises it.
        """
        for name in list(self._objects.names(listed_prefix(image_set), budget)):
            study_hash = name.removesuffix(".json")
            self._forget(image_set, study_hash, budget)
            self._objects.remove(listed_key(image_set, study_hash), budget)

    def _forget(self, image_set: ImageSetRef, study_hash: str, budget: TimeBudget) -> None:
        def without(content: bytes | None) -> bytes | None:
            if content is None:
                return None
            study = Study.from_json(image_set.datastore_id, content)
            rest = study.without(image_set)
            if rest.image_sets == study.image_sets:
                return None
            return rest.to_json() if rest.image_sets else b""

        change_object(self._objects, study_list_key(image_set.datastore_id, study_hash), without, budget)
