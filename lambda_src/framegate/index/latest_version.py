"""Keeps track of the latest version of each image set, with few calls of HealthImaging."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from framegate.bucket_layout import latest_version_key
from framegate.healthimaging.client import MAX_ATTEMPTS
from framegate.observability import logger
from framegate.problems import FrameNotFound, ImageSetNotFound, Throttled, UpstreamFailed, UpstreamTimeout
from framegate.storage.concurrent_change import change_object, read_with_etag

if TYPE_CHECKING:
    from framegate.healthimaging.client import HealthImaging
    from framegate.identifiers import ImageSetRef
    from framegate.storage.object_store import ObjectStore
    from framegate.time_budget import TimeBudget

LATEST_TTL_SECONDS = 300
"""How long a version counts as the latest without a check. The event of a newer version ends this, but events can be
lost."""

UNKNOWN_VERSION_RECHECK_SECONDS = 5
"""Age from which a noted version is checked again when a client requests a later one, which may just have been made.
Until then, the later version counts as missing, so that made-up versions cost few calls."""

MISSING_TTL_SECONDS = 10
"""How long the function remembers that an image set does not exist."""

MEMORY_SECONDS = 10
"""How long a function uses a version, or the image sets of a series, without looking into the bucket."""

MAX_REMEMBERED_VERSIONS = 1_000
"""Maximum number of image sets whose version a function remembers."""

MAX_MISSING_IMAGE_SETS = 10_000
"""Maximum number of missing image sets that the function remembers: about 3 MB of memory."""


class LatestVersions:
    """The latest versions of image sets, noted in the bucket.

    Parameters
    ----------
    source : HealthImaging
        Provides the latest version, at most 25 times a second for an account (GetImageSet).
    objects : ObjectStore
        The bucket.
    """

    def __init__(self, source: HealthImaging, objects: ObjectStore) -> None:
        self._source = source
        self._objects = objects
        self._missing = _MissingImageSets()

    def find(self, image_set: ImageSetRef, requested: str | None, budget: TimeBudget) -> str:
        """Return the latest version: the noted one if it was checked recently, or the one that HealthImaging reports.

        Parameters
        ----------
        image_set : ImageSetRef
            The image set.
        requested : str or None
            The version that a client requests, a decimal number. If it is later than the noted one, the noted one is
            checked again after a few seconds.
        budget : TimeBudget
            The time for it.

        Raises
        ------
        ImageSetNotFound
            If the image set does not exist, or did not exist a few seconds ago.
        Problem
            As `HealthImaging.image_set_version` and `ObjectStore` raise it.
        """
        if image_set in self._missing:
            raise ImageSetNotFound
        key = latest_version_key(image_set)
        noted = self._read(key, budget)
        if noted and time.time() - noted.checked_at < noted.lifetime_seconds(requested):
            return noted.version_id
        content, etag = read_with_etag(self._objects, key, budget)
        noted = _LatestVersion.noted_in(content)
        try:
            # A noted version can replace the answer, so retries need not add to the load of a failing service.
            attempts = 1 if noted else MAX_ATTEMPTS
            version_id = self._source.image_set_version(image_set, budget, attempts)
        except FrameNotFound:
            self._missing.add(image_set)
            raise ImageSetNotFound from None
        except (Throttled, UpstreamFailed, UpstreamTimeout) as problem:
            if noted is None or budget.exhausted or noted.is_before(requested):
                raise
            # The check only guards against lost events. An index that may be outdated is better than none.
            logger.warning("latest version not checked", extra=problem.log_fields)
            return noted.version_id
        found = _LatestVersion(version_id, time.time())
        if not self._objects.put_if_unchanged(key, found.to_json(), etag, budget):
            # Another function noted a version while HealthImaging answered. It may be newer than the answer.
            noted = self._read(key, budget)
            found = max(noted or found, found, key=lambda each: each.rank)
        return found.version_id

    def noted(self, image_set: ImageSetRef, budget: TimeBudget) -> str | None:
        """Return the noted version without a check, or None if none is noted.

        Raises
        ------
        Problem
            As `ObjectStore` raises it.
        """
        noted = self._read(latest_version_key(image_set), budget)
        return noted.version_id if noted else None

    def note(self, image_set: ImageSetRef, version_id: str | None, budget: TimeBudget, *, confirmed: bool) -> None:
        """Note the version that an event named, unless a newer one is noted.

        Events can arrive late, twice or out of order.

        Parameters
        ----------
        image_set : ImageSetRef
            The image set that has changed.
        version_id : str or None
            The version, a decimal number; None if the event named none. The next call of `find` then checks.
        budget : TimeBudget
            The time for it.
        confirmed : bool
            Whether HealthImaging has just returned the metadata of that version. `find` then returns it without a
            check. Otherwise the next call of `find` checks.

        Raises
        ------
        Problem
            As `ObjectStore` raises it.
        """
        key = latest_version_key(image_set)
        if version_id is None:
            self._objects.remove(key, budget)
            return
        candidate = _LatestVersion(version_id, time.time() if confirmed else 0.0)

        def newest(content: bytes | None) -> bytes | None:
            noted = _LatestVersion.noted_in(content)
            return None if noted and noted.rank >= candidate.rank else candidate.to_json()

        change_object(self._objects, key, newest, budget)

    def _read(self, key: str, budget: TimeBudget) -> _LatestVersion | None:
        try:
            return _LatestVersion.noted_in(b"".join(self._objects.read(key, budget)))
        except KeyError:
            return None


class RecentVersions:
    """The latest versions that a function found a few seconds ago.

    Parameters
    ----------
    latest : LatestVersions
        The latest versions.
    """

    def __init__(self, latest: LatestVersions) -> None:
        self._latest = latest
        self._found: OrderedDict[ImageSetRef, tuple[float, str]] = OrderedDict()

    def find(self, image_set: ImageSetRef, budget: TimeBudget) -> str:
        """Return the latest version, at most `MEMORY_SECONDS` old.

        Raises
        ------
        Problem
            As `LatestVersions.find` raises it.
        """
        now = time.time()
        found_at, version_id = self._found.get(image_set, (0.0, ""))
        if 0 <= now - found_at < MEMORY_SECONDS:
            return version_id
        version_id = self._latest.find(image_set, None, budget)
        self._found[image_set] = now, version_id
        self._found.move_to_end(image_set)
        if len(self._found) > MAX_REMEMBERED_VERSIONS:
            self._found.popitem(last=False)
        return version_id


@dataclass(frozen=True, slots=True)
class _LatestVersion:
    """The latest version of an image set, and when HealthImaging confirmed it, in seconds since 1970."""

    version_id: str
    checked_at: float

    @property
    def rank(self) -> tuple[int, float]:
        """The sort key: the version, and then the time of the check."""
        return int(self.version_id), self.checked_at

    def is_before(self, requested: str | None) -> bool:
        """Whether a client requests a later version than this one."""
        return requested is not None and int(requested) > int(self.version_id)

    def lifetime_seconds(self, requested: str | None) -> int:
        """How long this version counts as the latest without a check."""
        return UNKNOWN_VERSION_RECHECK_SECONDS if self.is_before(requested) else LATEST_TTL_SECONDS

    @classmethod
    def noted_in(cls, content: bytes | None) -> _LatestVersion | None:
        """Return the version that an object notes; None if there is no object, or if it notes none."""
        document = json.loads(content) if content is not None else {}
        if "versionId" not in document or "checkedAt" not in document:
            return None
        return cls(document["versionId"], document["checkedAt"])

    def to_json(self) -> bytes:
        return json.dumps({"versionId": self.version_id, "checkedAt": self.checked_at}).encode()


class _MissingImageSets:
    """The image sets that HealthImaging did not have a few seconds ago. Their number is bounded."""

    def __init__(self) -> None:
        self._noted_at: OrderedDict[ImageSetRef, float] = OrderedDict()

    def __contains__(self, image_set: ImageSetRef) -> bool:
        noted_at = self._noted_at.get(image_set)
        return noted_at is not None and time.monotonic() - noted_at < MISSING_TTL_SECONDS

    def add(self, image_set: ImageSetRef) -> None:
        self._noted_at[image_set] = time.monotonic()
        self._noted_at.move_to_end(image_set)
        if len(self._noted_at) > MAX_MISSING_IMAGE_SETS:
            self._noted_at.popitem(last=False)
