"""Enforces the quotas of HealthImaging's operations with token buckets."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True)
class Quota:
    """The quota of an operation: ``rate`` calls per second, and ``burst`` calls at once."""

    rate: float
    burst: int


DOCUMENTED_QUOTAS = {
    "CreateDatastore": Quota(0.085, 1),
    "GetDatastore": Quota(10, 20),
    "ListDatastores": Quota(5, 10),
    "DeleteDatastore": Quota(0.085, 1),
    "StartDICOMImportJob": Quota(1, 2),
    "GetDICOMImportJob": Quota(25, 50),
    "ListDICOMImportJobs": Quota(10, 20),
    "SearchImageSets": Quota(25, 50),
    "GetImageSet": Quota(25, 50),
    "GetImageSetMetadata": Quota(50, 100),
    "GetImageFrame": Quota(1000, 2000),
    "ListImageSetVersions": Quota(25, 50),
    "UpdateImageSetMetadata": Quota(0.25, 1),
    "CopyImageSet": Quota(0.25, 1),
    "DeleteImageSet": Quota(0.25, 1),
    "TagResource": Quota(10, 20),
    "ListTagsForResource": Quota(10, 20),
    "UntagResource": Quota(10, 20),
    "GetDICOMInstance": Quota(50, 100),
    "GetDICOMInstanceMetadata": Quota(50, 100),
    "GetDICOMInstanceFrames": Quota(50, 100),
    "GetDICOMSeriesMetadata": Quota(50, 100),
    # The guide has no quotas for these: they get those of their siblings GetDICOMInstance and SearchImageSets.
    "GetDICOMBulkdata": Quota(50, 100),
    "SearchDICOMStudies": Quota(25, 50),
    "SearchDICOMSeries": Quota(25, 50),
    "SearchDICOMInstances": Quota(25, 50),
    "SearchDICOMStudyInstances": Quota(25, 50),
    "SearchDICOMAllSeries": Quota(25, 50),
    "SearchDICOMAllInstances": Quota(25, 50),
}
"""Quotas by operation (AWS HealthImaging Developer Guide, "AWS HealthImaging throttling limits")."""


class Throttles:
    """Limits calls to their quotas, with a token bucket for each operation.

    Parameters
    ----------
    quotas : mapping
        The quota of each operation. Operations without one are not throttled.
    clock : callable
        Returns the time in seconds; it must be monotonic.
    """

    def __init__(self, quotas: Mapping[str, Quota], clock: Callable[[], float] = time.monotonic) -> None:
        self._buckets = {operation: _TokenBucket(quota, clock) for operation, quota in quotas.items()}

    def take(self, operation: str) -> bool:
        """Count a call and return True if it is within its quota; otherwise return False."""
        bucket = self._buckets.get(operation)
        return bucket is None or bucket.take()


class _TokenBucket:
    """A bucket of ``burst`` tokens that starts full and gains ``rate`` tokens per second."""

    def __init__(self, quota: Quota, clock: Callable[[], float]) -> None:
        self._quota = quota
        self._clock = clock
        self._tokens = float(quota.burst)
        self._filled_at = clock()
        self._lock = threading.Lock()

    def take(self) -> bool:
        with self._lock:
            now = self._clock()
            gained = (now - self._filled_at) * self._quota.rate
            self._tokens = min(self._quota.burst, self._tokens + gained)
            self._filled_at = now
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True
