"""What an export leaves behind: a line a frame, in JSON."""

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
"""Outcomes that another attempt may change; denied access among them, because an operator can grant it."""


class Outcome(StrEnum):
    """What became of a frame, where nothing went wrong; else the outcome is the problem's name."""

    COPIED = "copied"
    PRESENT = "present"


@dataclass(slots=True)
class ExportedFrame:
    """A frame in an export, and what became of it.

    Parameters
    ----------
    entry : FrameEntry
        The frame as the metadata lists it.
    key : str
        Where it is in the bucket, or will be.

    Attributes
    ----------
    content_type, size, checksum
        Media type, bytes, and CRC32 of the bytes in base64; None until it is stored, the checksum also where S3 has
        none of a frame that was there already.
    outcome : str or None
        `Outcome`, or the slug of a `Problem`; None while it is to be done.
    detail : str or None
        The problem's detail.
    verified : bool
        Whether its pixels were decoded and found to be those that HealthImaging took in.
    not_verified : str or None
        Why a verifying export could not verify it: a `NotVerified`.
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
    def stored(self) -> bool:
        """Whether it is in the bucket, by this export or before it."""
        return self.outcome in (Outcome.COPIED, Outcome.PRESENT)

    @property
    def to_do(self) -> bool:
        """Whether there is something left to try."""
        return self.outcome is None or self.outcome in TRANSIENT

    def fail(self, problem: Problem) -> None:
        """Record what went wrong."""
        self.outcome, self.detail = problem.slug, problem.detail

    def to_line(self) -> dict[str, Any]:
        """The frame as the manifest has it."""
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


def encode_lines(documents: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """JSON Lines (https://jsonlines.org), a piece a line."""
    for document in documents:
        yield json.dumps(document, separators=(",", ":")).encode() + b"\n"


def decode_lines(pieces: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The documents of JSON Lines; the last line may lack its end."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from map(json.loads, lines)
    if rest:
        yield json.loads(rest)
