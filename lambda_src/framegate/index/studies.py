"""Knows which study an image set belongs to, with one call for its metadata for each version."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from framegate.bucket_layout import study_key
from framegate.problems import FrameNotFound, ImageSetNotFound, UpstreamFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from framegate.healthimaging.client import HealthImaging
    from framegate.identifiers import ImageSetRef
    from framegate.index.latest_version import LatestVersions
    from framegate.storage.object_store import ObjectStore
    from framegate.time_budget import TimeBudget

STUDY_TTL_SECONDS = 60
"""How long an execution environment uses the study of an image set without looking for a newer version of it."""

CACHE_MAX_STUDIES = 4096
"""Maximum number of image sets whose study is cached in memory."""


@dataclass(frozen=True, slots=True)
class _KnownStudy:
    version_id: str
    study_uid: str | None
    checked_at: float


class Studies:
    """The studies of the latest versions of image sets, cached in memory and stored beside the frame indexes.

    A study instance UID identifies a patient's study, so it is in the content of objects only: no key, log line or
    error has it.

    Parameters
    ----------
    source : HealthImaging
        Provides the metadata, at most 50 times a second for an account.
    objects : ObjectStore
        The bucket.
    latest : LatestVersions
        Knows the latest version of each image set.
    """

    def __init__(self, source: HealthImaging, objects: ObjectStore, latest: LatestVersions) -> None:
        self._source = source
        self._objects = objects
        self._latest = latest
        self._cache: OrderedDict[ImageSetRef, _KnownStudy] = OrderedDict()

    def find(self, image_set: ImageSetRef, budget: TimeBudget) -> str | None:
        """Return the study instance UID of an image set's latest version.

        An update of an image set can move it to another study, so older versions do not count.

        Returns
        -------
        str or None
            The UID; None if the metadata has none, or if the image set does not exist.

        Raises
        ------
        Problem
            As `LatestVersions.find`, `HealthImaging.fetch_metadata` and `ObjectStore` raise it.
        """
        known = self._cache.get(image_set)
        if known and 0 <= time.time() - known.checked_at < STUDY_TTL_SECONDS:
            self._cache.move_to_end(image_set)
            return known.study_uid
        self._cache.pop(image_set, None)
        try:
            version_id = self._latest.find(image_set, None, budget)
            if known is None or known.version_id != version_id:
                known = _KnownStudy(version_id, self._of_version(image_set, version_id, budget), 0)
        except (ImageSetNotFound, FrameNotFound):
            return None
        self._cache[image_set] = _KnownStudy(version_id, known.study_uid, time.time())
        if len(self._cache) > CACHE_MAX_STUDIES:
            self._cache.popitem(last=False)
        return known.study_uid

    def _of_version(self, image_set: ImageSetRef, version_id: str, budget: TimeBudget) -> str | None:
        # Imported here to keep cold starts short: only a request for a new image set needs the metadata parser.
        from framegate.healthimaging.image_set_metadata import MetadataError, study_of

        key = study_key(image_set, version_id)
        try:
            stored: dict[str, str | None] = json.loads(b"".join(self._objects.read(key, budget)))
            return stored["studyInstanceUID"]
        except KeyError:
            pass

        def read(document: Iterator[bytes]) -> str | None:
            try:
                return study_of(document)
            except MetadataError as error:
                raise UpstreamFailed("HealthImaging", f"sent metadata that {error}") from None

        study_uid = self._source.fetch_metadata(image_set, version_id, read, budget)
        self._objects.put(key, "application/json", [json.dumps({"studyInstanceUID": study_uid}).encode()], budget)
        return study_uid
