"""Request manifests: what to export, a line an image set, checked line by line as it streams by."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from framegate.export.manifest import JSON_LINES, encode_lines
from framegate.healthimaging.identifiers import FrameRef, ImageSetRef
from framegate.problems import DatastoreNotServed, InvalidRequest, InvalidRequestManifest, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from framegate.storage.object_store import ObjectStore
    from framegate.time_budget import TimeBudget

REQUESTS, RESULTS = "export-requests/", "exports/requests/"
"""Where users put request manifests, and where what becomes of them is told."""

MEMBERS = ("datastoreId", "imageSetId", "imageFrameIds", "versionId", "verify")

MOST_FRAME_IDS = 4000
"""Frames that one line can name: some 140 kB, of the 256 KiB that a state's data can have in Step Functions."""

LONGEST_LINE = 200_000
"""Bytes of a line that are read; none that is valid is longer."""

LONGEST_KEY = 800
"""Bytes of a manifest's key, of the 1024 that S3 allows: those of its results are longer."""


@dataclass(frozen=True, slots=True)
class CheckedManifest:
    """A request manifest after its lines were checked.

    Attributes
    ----------
    prefix : str
        What the keys of all that becomes of it begin with.
    accepted, rejected : int
        How many lines.
    """

    prefix: str
    accepted: int
    rejected: int

    @property
    def accepted_key(self) -> str:
        """Where the accepted lines are."""
        return f"{self.prefix}/accepted.jsonl"

    @property
    def rejected_key(self) -> str:
        """Where it is told which lines were rejected, and why."""
        return f"{self.prefix}/rejected.jsonl"


class RequestManifests:
    """The request manifests in a bucket.

    Parameters
    ----------
    objects : ObjectStore
        The bucket.
    datastore_ids : frozenset of str
        The data stores that are served.
    """

    def __init__(self, objects: ObjectStore, datastore_ids: frozenset[str]) -> None:
        self._objects = objects
        self._datastore_ids = datastore_ids

    def check(self, key: str, execution: str, budget: TimeBudget) -> CheckedManifest:
        """Check a manifest, and write its lines down as accepted or rejected.

        Parameters
        ----------
        key : str
            The manifest's key.
        execution : str
            Names this reading of it among others of the same key.
        budget : TimeBudget
            The time for it.

        Raises
        ------
        InvalidRequestManifest
            If it is not there, or its key cannot be worked with.
        Problem
            If S3 fails.
        """
        if not key.startswith(REQUESTS) or len(key.encode()) > LONGEST_KEY:
            raise InvalidRequestManifest(
                f"The key of a request manifest begins with {REQUESTS} and has at most {LONGEST_KEY} bytes."
            )
        prefix = f"{RESULTS}{key.removeprefix(REQUESTS)}/{execution}"
        manifest = CheckedManifest(prefix, 0, 0)
        accepted = rejected = 0
        with (
            self._objects.writer(manifest.accepted_key, JSON_LINES, budget) as good,
            self._objects.writer(manifest.rejected_key, JSON_LINES, budget) as bad,
        ):
            try:
                for number, line in numbered_lines(self._objects.read(key, budget)):
                    try:
                        good.write(_encoded({"line": number, **self._request(line)}))
                        accepted += 1
                    except Problem as problem:
                        bad.write(_encoded({"line": number, "problem": problem.slug, "reason": problem.detail}))
                        rejected += 1
            except KeyError:
                raise InvalidRequestManifest("The request manifest is not there any more.") from None
        return CheckedManifest(prefix, accepted, rejected)

    def _request(self, line: bytes | None) -> dict[str, Any]:
        request = parse_line(line)
        if request["datastoreId"] not in self._datastore_ids:
            raise DatastoreNotServed
        return request


def _encoded(document: dict[str, Any]) -> bytes:
    return b"".join(encode_lines([document]))


def numbered_lines(pieces: Iterable[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """The lines that are not blank, with their numbers from 1; None for one that is longer than `LONGEST_LINE`."""
    number = 0
    line = b""
    for piece in pieces:
        *ended, rest = piece.split(b"\n")
        for part in ended:
            number += 1
            line = _appended(line, part)
            if line.strip():
                yield number, _unless_too_long(line)
            line = b""
        line = _appended(line, rest)
    if line.strip():
        yield number + 1, _unless_too_long(line)


def _appended(line: bytes, part: bytes) -> bytes:
    """A line and more of it, cut off where it is too long anyway: it may have no end."""
    return (line + part)[: LONGEST_LINE + 1]


def _unless_too_long(line: bytes) -> bytes | None:
    return line if len(line) <= LONGEST_LINE else None


def parse_line(line: bytes | None) -> dict[str, Any]:
    """The request in a line, with the members that it has and no others.

    Raises
    ------
    InvalidRequest, InvalidIdentifier
        If it is not a request. The message repeats nothing of the line, which may hold anything.
    """
    if line is None:
        raise InvalidRequest(f"The line is longer than {LONGEST_LINE:,} bytes.")
    try:
        # utf-8-sig: editors put a byte order mark before the first line.
        request = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise InvalidRequest("The line is not JSON in UTF-8.") from None
    if not isinstance(request, dict):
        raise InvalidRequest("The line is not a JSON object.")
    if not request.keys() <= set(MEMBERS):
        raise InvalidRequest(f"The line has a member other than {', '.join(MEMBERS)}.")
    image_set = ImageSetRef(request.get("datastoreId"), request.get("imageSetId"))  # type: ignore[arg-type]
    parsed: dict[str, Any] = {"datastoreId": image_set.datastore_id, "imageSetId": image_set.image_set_id}
    if request.get("imageFrameIds") is not None:
        parsed["imageFrameIds"] = _frame_ids(image_set, request["imageFrameIds"])
    if request.get("versionId") is not None:
        parsed["versionId"] = _version_id(request["versionId"])
    if request.get("verify") is not None:
        parsed["verify"] = _true_or_false(request["verify"])
    return parsed


def _frame_ids(image_set: ImageSetRef, value: object) -> list[str]:
    if not isinstance(value, list) or not value:
        raise InvalidRequest("imageFrameIds must be a list of image frame ids; leave it out to export all frames.")
    if len(value) > MOST_FRAME_IDS:
        raise InvalidRequest(
            f"imageFrameIds lists {len(value):,} frames. A line can name {MOST_FRAME_IDS:,}: use several lines, "
            "or leave it out to export all frames."
        )
    # In order, and each once.
    return list(
        dict.fromkeys(FrameRef(image_set.datastore_id, image_set.image_set_id, each).image_frame_id for each in value)
    )


def _version_id(value: object) -> str:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not (text.isascii() and text.isdecimal()) or len(text) > 10 or int(text) < 1:
        raise InvalidRequest("versionId must be the number of a version, from 1.")
    return text


def _true_or_false(value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidRequest("verify must be true or false.")
    return value
