"""The manifest of an export: one JSON line for each frame or DICOM file with its outcome."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from framegate.problems import AccessDenied, FrameConflict, Problem, Throttled, UpstreamFailed, UpstreamTimeout

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from framegate.healthimaging.image_set_metadata import FrameEntry

TRANSIENT = frozenset(
    problem.slug for problem in (AccessDenied, FrameConflict, Throttled, UpstreamFailed, UpstreamTimeout)
)
"""Outcomes that another attempt may change. Denied access is one, because an operator can grant it."""


class Outcome(StrEnum):
    """The outcomes of a stored object. The outcome of any other is the slug of its problem."""

    COPIED = "copied"
    PRESENT = "present"


class Exported:
    """The base of what exports store: an object in the bucket, and its outcome."""

    key: str
    content_type: str | None
    size: int | None
    checksum: str | None
    outcome: str | None
    detail: str | None

    @property
    def stored(self) -> bool:
        """Whether the object is in the bucket, stored by this export or present before it."""
        return self.outcome in (Outcome.COPIED, Outcome.PRESENT)

    @property
    def is_unfinished(self) -> bool:
        """Whether another attempt may change the outcome."""
        return self.outcome is None or self.outcome in TRANSIENT

    @property
    def frame_count(self) -> int:
        """Number of frames in the object."""
        raise NotImplementedError

    def fail(self, problem: Problem) -> None:
        """Record a problem as the outcome."""
        self.outcome, self.detail = problem.slug, problem.description

    def to_line(self) -> dict[str, Any]:
        """The manifest's line for the object, as a JSON object."""
        raise NotImplementedError


@dataclass(slots=True)
class ExportedFrame(Exported):
    """A frame of an export and its outcome.

    Parameters
    ----------
    entry : FrameEntry
        The frame as the metadata lists it.
    key : str
        The key of the frame in the bucket.

    Attributes
    ----------
    content_type, size, checksum
        The media type, the size in bytes, and the CRC32 of the bytes in base64. All are None until the frame is stored;
        the checksum stays None if S3 has none for a frame that was present.
    outcome : str or None
        An `Outcome` or the slug of a `Problem`; None until an attempt has ended.
    detail : str or None
        The detail of the problem.
    verified : bool
        Whether the decoded pixels are those that HealthImaging imported.
    not_verified : str or None
        Why a verifying export could not verify the frame: a `NotVerified`.
    """

    entry: FrameEntry
    key: str
    content_type: str | None = None
    size: int | None = None
    checksum: str | None = None
    outcome: str | None = None
    detail: str | None = None
    verified: bool = False
    not_verified: str | None = None

    @property
    def frame_count(self) -> int:
        """Number of frames in the object."""
        return 1

    def to_line(self) -> dict[str, Any]:
        """The manifest's line for the frame, as a JSON object."""
        line = {
            "sopInstanceUID": self.entry.sop_instance_uid,
            "frameNumber": self.entry.frame_number,
            "imageFrameId": self.entry.image_frame_id,
            "key": self.key,
            "contentType": self.content_type,
            "contentLength": self.size,
            "checksumCRC32": self.checksum,
            "outcome": self.outcome,
        }
        if self.detail:
            line["detail"] = self.detail
        if self.verified:
            line["pixelsVerified"] = True
        if self.not_verified:
            line["pixelsNotVerified"] = self.not_verified
        return line


@dataclass(slots=True)
class ExportedInstance(Exported):
    """A DICOM file of an export and its outcome.

    Parameters
    ----------
    sop_instance_uid : str
        The instance.
    key : str
        The key of its file in the bucket.
    frames : int
        Number of its frames.

    Attributes
    ----------
    content_type, size, checksum, outcome, detail
        See `ExportedFrame`.
    """

    sop_instance_uid: str
    key: str
    frames: int
    content_type: str | None = None
    size: int | None = None
    checksum: str | None = None
    outcome: str | None = None
    detail: str | None = None

    @property
    def frame_count(self) -> int:
        """Number of frames in the object."""
        return self.frames

    def to_line(self) -> dict[str, Any]:
        """The manifest's line for the file, as a JSON object."""
        line = {
            "sopInstanceUID": self.sop_instance_uid,
            "frames": self.frames,
            "key": self.key,
            "contentType": self.content_type,
            "contentLength": self.size,
            "checksumCRC32": self.checksum,
            "outcome": self.outcome,
        }
        if self.detail:
            line["detail"] = self.detail
        return line


def encode_lines(documents: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """Encode documents as JSON Lines (https://jsonlines.org), one line at a time."""
    for document in documents:
        yield json.dumps(document, separators=(",", ":")).encode() + b"\n"


def decode_lines(pieces: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Decode JSON Lines. The last line may lack its line feed."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from map(json.loads, lines)
    if rest:
        yield json.loads(rest)
