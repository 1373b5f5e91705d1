"""Checks request manifests, which name the image sets to export, line by line as they stream from S3."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from framegate.bucket_layout import JSON_LINES, REQUEST_PREFIX, accepted_key, rejected_key, results_prefix
from framegate.export.manifest import encode_lines
from framegate.identifiers import ImageSetRef, is_identifier
from framegate.messages import OUTPUTS
from framegate.problems import (
    DatastoreNotServed,
    DicomFilesOff,
    DuplicateRequest,
    InvalidIdentifier,
    InvalidRequest,
    InvalidRequestManifest,
    Problem,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from framegate.messages import ExportOutput
    from framegate.storage.object_store import ObjectStore
    from framegate.time_budget import TimeBudget

MEMBERS = ("datastoreId", "imageSetId", "imageFrameIds", "versionId", "verify", "output")

MAX_FRAME_IDS = 4000
"""Maximum number of frames that a line names: about 140 kB. Step Functions allows 256 KiB for the input of a state."""

MAX_LINE_BYTES = 200_000
"""Maximum size of a line. No valid line is longer."""

MAX_LINES = 1_000_000
"""Maximum number of lines in a manifest, including blank ones."""

MAX_MANIFEST_BYTES = 2 * 1024**3
"""Maximum size of a manifest.

In measurements, checking ``MAX_LINES`` short lines took 25 s of CPU time, and long lines of this total size 80 s.
Reading them from S3 and writing them back adds 60 s at 75 MB/s. By default, an invocation has 300 s.
"""

MAX_LISTED_REJECTIONS = 100_000
"""Maximum number of rejected lines that ``rejected.jsonl`` lists. The count includes the others."""

MAX_KEY_BYTES = 800
"""Maximum size of a manifest's key. The keys of its results are longer, and S3 allows 1024 bytes."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class CheckedManifest:
    """The result of checking a request manifest.

    Attributes
    ----------
    prefix : str
        The key prefix of the manifest's results.
    accepted, rejected : int
        Number of accepted and rejected lines. Every line that is not blank is one or the other.
    listed : int
        Number of rejected lines that ``rejected.jsonl`` lists.
    """

    prefix: str
    accepted: int
    rejected: int
    listed: int

    @property
    def accepted_key(self) -> str:
        """The key of the accepted lines."""
        return accepted_key(self.prefix)

    @property
    def rejected_key(self) -> str:
        """The key of the list of rejected lines, each with a reason."""
        return rejected_key(self.prefix)


def prefix_of_results(key: str, execution: str) -> str:
    """Check the key of a request manifest; return the prefix of the results of one execution for it.

    Raises
    ------
    InvalidRequestManifest
        If the key cannot be that of a request manifest.
    """
    if not key.startswith(REQUEST_PREFIX) or len(key.encode()) > MAX_KEY_BYTES:
        raise InvalidRequestManifest(
            f"The key of a request manifest begins with {REQUEST_PREFIX} and has at most {MAX_KEY_BYTES} bytes."
        )
    if key.endswith("/"):
        raise InvalidRequestManifest(
            "A key that ends in a slash is a folder in the S3 console, not a request manifest."
        )
    return results_prefix(key, execution)


class RequestManifests:
    """The request manifests in a bucket.

    Parameters
    ----------
    objects : ObjectStore
        The bucket.
    datastore_ids : collection of str
        The data stores that are served.
    outputs : collection of ExportOutput
        What the deployment may export.
    """

    def __init__(
        self, objects: ObjectStore, datastore_ids: Collection[str], outputs: Collection[ExportOutput] = OUTPUTS
    ) -> None:
        self._objects = objects
        self._datastore_ids = datastore_ids
        self._outputs = outputs

    def check(self, key: str, execution: str, budget: TimeBudget) -> CheckedManifest:
        """Check a manifest, and write its lines to the lists of accepted and rejected ones.

        A line that repeats an earlier request is rejected, so that no request is carried out twice.

        Parameters
        ----------
        key : str
            The manifest's key.
        execution : str
            Identifies this check among others of the same key.
        budget : TimeBudget
            The time for it.

        Raises
        ------
        InvalidRequestManifest
            If the manifest does not exist, if its key cannot be that of a manifest, or if it has more than
            ``MAX_MANIFEST_BYTES`` bytes or ``MAX_LINES`` lines. Then no line is accepted.
        Problem
            If S3 fails.
        """
        prefix = prefix_of_results(key, execution)
        self._require_size(key, budget)
        earlier = _EarlierRequests()
        accepted = rejected = 0
        with (
            self._objects.writer(accepted_key(prefix), JSON_LINES, budget) as good,
            self._objects.writer(rejected_key(prefix), JSON_LINES, budget) as bad,
        ):
            try:
                for number, line in numbered_lines(self._objects.read(key, budget)):
                    try:
                        request = self._request(line)
                        earlier.add(request, number)
                    except Problem as problem:
                        rejected += 1
                        if rejected <= MAX_LISTED_REJECTIONS:
                            bad.write(
                                _encoded({"line": number, "problem": problem.slug, "reason": problem.description})
                            )
                    else:
                        accepted += 1
                        good.write(_encoded({"line": number, **request}))
            except KeyError:
                raise _gone() from None
        return CheckedManifest(prefix, accepted, rejected, min(rejected, MAX_LISTED_REJECTIONS))

    def _require_size(self, key: str, budget: TimeBudget) -> None:
        stored = self._objects.head(key, budget)
        if stored is None:
            raise _gone()
        if stored.size > MAX_MANIFEST_BYTES:
            raise InvalidRequestManifest(
                f"The request manifest has {stored.size:,} bytes. The maximum is {MAX_MANIFEST_BYTES:,}: "
                "split it into several files."
            )

    def _request(self, line: bytes | None) -> dict[str, Any]:
        request = parse_line(line)
        if request["datastoreId"] not in self._datastore_ids:
            raise DatastoreNotServed
        if request.get("output", "frames") not in self._outputs:
            raise DicomFilesOff
        return request


class _EarlierRequests:
    """Finds the lines of a manifest that repeat an earlier request.

    Notes
    -----
    Requests are equal if they name the same data store, image set, version and frames, in any order, and agree on
    ``verify`` and ``output``. The 128-bit digests of a million requests take 140 MB, as measured.
    """

    def __init__(self) -> None:
        self._lines: dict[bytes, int] = {}

    def add(self, request: dict[str, Any], number: int) -> None:
        """Add the request of a line.

        Raises
        ------
        DuplicateRequest
            If an earlier line has the same request.
        """
        identity = (
            request["datastoreId"],
            request["imageSetId"],
            request.get("versionId", ""),
            "verify" if request.get("verify") else "",
            request.get("output", "frames"),
            *sorted(request.get("imageFrameIds", ())),
        )
        earlier = self._lines.setdefault(blake2b(" ".join(identity).encode(), digest_size=16).digest(), number)
        if earlier != number:
            raise DuplicateRequest(earlier)


def _gone() -> InvalidRequestManifest:
    return InvalidRequestManifest("The request manifest no longer exists.")


def _encoded(document: dict[str, Any]) -> bytes:
    return b"".join(encode_lines([document]))


def numbered_lines(pieces: Iterable[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """Split pieces into lines; yield those that are not blank, with their numbers from 1.

    A blank line has at most ``MAX_LINE_BYTES`` bytes, and all of them are white space. A longer line counts as not
    blank, because a request may follow the bytes that are read. It is yielded as None.

    Raises
    ------
    InvalidRequestManifest
        If there are more than ``MAX_LINES`` lines.
    """
    number = 0
    line = b""
    for piece in pieces:
        *ended, rest = piece.split(b"\n")
        for part in ended:
            number += 1
            if number > MAX_LINES:
                raise _too_many_lines()
            line = _appended(line, part)
            if not _is_blank(line, number):
                yield number, _unless_too_long(line)
            line = b""
        line = _appended(line, rest)
    if line and number == MAX_LINES:
        raise _too_many_lines()
    if not _is_blank(line, number + 1):
        yield number + 1, _unless_too_long(line)


def _too_many_lines() -> InvalidRequestManifest:
    return InvalidRequestManifest(
        f"The request manifest has more than {MAX_LINES:,} lines, the maximum: split it into several files."
    )


def _appended(line: bytes, part: bytes) -> bytes:
    """Append to a line, but cut it off once it is too long: a line may have no end."""
    return (line + part)[: MAX_LINE_BYTES + 1]


def _is_blank(line: bytes, number: int) -> bool:
    if len(line) > MAX_LINE_BYTES:
        return False
    # Editors put a byte order mark before the first line.
    return not (line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line).strip()


def _unless_too_long(line: bytes) -> bytes | None:
    return line if len(line) <= MAX_LINE_BYTES else None


def parse_line(line: bytes | None) -> dict[str, Any]:
    """Parse the request in a line. Optional members that are absent or null stay absent.

    Raises
    ------
    InvalidRequest, InvalidIdentifier
        If the line is not a request. The message repeats nothing of the line, which may hold patient data.
    """
    if line is None:
        raise InvalidRequest(f"The line is longer than {MAX_LINE_BYTES:,} bytes.")
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
        parsed["imageFrameIds"] = _frame_ids(request["imageFrameIds"])
    if request.get("versionId") is not None:
        parsed["versionId"] = _version_id(request["versionId"])
    if request.get("verify") is not None:
        parsed["verify"] = _true_or_false(request["verify"])
    if request.get("output") is not None:
        parsed["output"] = _output(request["output"], parsed)
    return parsed


def _frame_ids(value: object) -> list[str]:
    if not isinstance(value, list) or not value:
        raise InvalidRequest("imageFrameIds must be a list of image frame ids; leave it out to export all frames.")
    if len(value) > MAX_FRAME_IDS:
        raise InvalidRequest(
            f"imageFrameIds lists {len(value):,} frames. A line can name {MAX_FRAME_IDS:,}: use several lines, "
            "or leave it out to export all frames."
        )
    if not all(map(is_identifier, value)):
        raise InvalidIdentifier("imageFrameId")
    # Duplicates are removed, and the order stays.
    return list(dict.fromkeys(value))


def _version_id(value: object) -> str:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not (text.isascii() and text.isdecimal()) or len(text) > 10 or int(text) < 1:
        raise InvalidRequest("versionId must be the number of a version, from 1.")
    # "007" is version 7: left as text, it would count as another request and have another key.
    return str(int(text))


def _true_or_false(value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidRequest("verify must be true or false.")
    return value


def _output(value: object, parsed: dict[str, Any]) -> str:
    if value not in OUTPUTS:
        raise InvalidRequest(f"output must be {' or '.join(OUTPUTS)}.")
    if value == "dicom" and "imageFrameIds" in parsed:
        raise InvalidRequest("A DICOM file has all frames of its instance: leave out imageFrameIds.")
    if value == "dicom" and "versionId" in parsed:
        raise InvalidRequest("DICOM files have the latest version: leave out versionId.")
    return str(value)
