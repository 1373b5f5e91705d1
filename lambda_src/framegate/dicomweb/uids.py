"""DICOM UIDs: their form, and the hashes that stand for them in keys."""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from framegate.identifiers import require_identifier
from framegate.problems import InvalidRequest

if TYPE_CHECKING:
    from framegate.identifiers import ImageSetRef

MAX_UID_CHARS = 256
"""Maximum length of a UID. DICOM allows 64 (PS3.5, section 9.1); HealthImaging accepts 256."""

# Empty components would make path segments such as `..`.
_UID = re.compile(r"[0-9]+(?:\.[0-9]+)*", re.ASCII)

HASH_CHARS = 40
"""Length of a hash in keys: 160 bits, so that two studies never share a key."""


def require_uid(name: str, value: str) -> str:
    """Return a value if it is a UID.

    Raises
    ------
    InvalidRequest
        If it is not. The description does not repeat the value.
    """
    if len(value) > MAX_UID_CHARS or _UID.fullmatch(value) is None:
        raise InvalidRequest(f"{name} must be a DICOM UID: numbers joined by dots, at most {MAX_UID_CHARS} characters.")
    return value


def hash_of(secret: str, *parts: str) -> str:
    """Return the keyed hash (HMAC-SHA-256) of UIDs, which stands for them in a key of the bucket.

    UIDs are no secrets: whoever knows one could compute a plain hash of it, and learn from a key in a log or an event
    that the study is here. Only the functions of the deployment know `secret`.
    """
    return hmac.new(secret.encode(), "/".join(parts).encode(), "sha256").hexdigest()[:HASH_CHARS]


def instance_hash(secret: str, image_set: ImageSetRef, sop_instance_uid: str) -> str:
    """Return the keyed hash of an instance's UID, which names its DICOM file."""
    return hash_of(secret, image_set.datastore_id, image_set.image_set_id, sop_instance_uid)


@dataclass(frozen=True, slots=True)
class StudyAddress:
    """The address of a study.

    Parameters
    ----------
    datastore_id : str
        HealthImaging's identifier of the data store.
    study_instance_uid : str
        The study's UID.

    Raises
    ------
    InvalidRequest
        If the identifier or the UID is malformed.
    """

    datastore_id: str
    study_instance_uid: str

    def __post_init__(self) -> None:
        require_identifier("datastoreId", self.datastore_id)
        require_uid("studyInstanceUID", self.study_instance_uid)


@dataclass(frozen=True, slots=True)
class SeriesAddress:
    """The address of a series in a study; see `StudyAddress` for errors.

    Parameters
    ----------
    study : StudyAddress
        The study.
    series_instance_uid : str
        The series' UID.
    image_set_id : str or None
        The image set that the client has chosen; None for the primary one.
    """

    study: StudyAddress
    series_instance_uid: str
    image_set_id: str | None = None

    def __post_init__(self) -> None:
        require_uid("seriesInstanceUID", self.series_instance_uid)
        if self.image_set_id is not None:
            require_identifier("imageSetId", self.image_set_id)

    @property
    def path(self) -> tuple[str, ...]:
        """The segments of the series' path below the data store."""
        return "studies", self.study.study_instance_uid, "series", self.series_instance_uid

    @property
    def query(self) -> tuple[tuple[str, str], ...]:
        """The query parameters that HealthImaging needs to choose the image set."""
        return () if self.image_set_id is None else (("imageSetId", self.image_set_id),)
