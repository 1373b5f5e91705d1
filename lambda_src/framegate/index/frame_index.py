"""The frame index: lists the frames of an image set's version, stores the list, and serves it page by page."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, count
from typing import TYPE_CHECKING

from framegate.aws.retries import pause_after
from framegate.bucket_layout import JSON_LINES, index_key, latest_version_key
from framegate.healthimaging import media_types
from framegate.healthimaging.client import MAX_ATTEMPTS
from framegate.identifiers import FrameRef
from framegate.observability import logger
from framegate.problems import (
    FrameNotAvailable,
    FrameNotFound,
    ImageSetNotFound,
    InvalidIdentifier,
    InvalidRequest,
    Throttled,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamRejected,
    UpstreamTimeout,
    VersionNotFound,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from framegate.healthimaging.client import HealthImaging
    from framegate.healthimaging.image_set_metadata import FrameEntry
    from framegate.identifiers import ImageSetRef
    from framegate.storage.object_store import ObjectStore
    from framegate.time_budget import TimeBudget

FORMAT = 1
"""Format of an index's lines. It is part of the key and the entity tag, so old lines are never read as new ones."""

LATEST_TTL_SECONDS = 300
"""How long a version counts as the latest without a check. A newer version's event ends that; events can be lost."""

KEPT_SIZE, KEPT_INDEXES = 256 * 1024, 64
"""Bytes of the largest index that is kept in memory, some 1,000 frames, and how many are."""


@dataclass(frozen=True, slots=True)
class IndexQuery:
    """The frames of an image set that a request asks for.

    Parameters
    ----------
    version_id : str or None
        Version of the image set, a decimal number; None is the latest.
    sop_instance_uid : str or None
        Instance that the frames belong to; None is any.
    frame_number : int or None
        Number of the frame in its instance, from 1; None is any.
    most : int
        Maximum number of frames.
    position : int
        Offset in the index, in bytes, where the page starts: 0, or `IndexPage.following`.
    """

    version_id: str | None = None
    sop_instance_uid: str | None = None
    frame_number: int | None = None
    most: int = 1000
    position: int = 0

    def wants(self, line: bytes) -> bool:
        """Whether a line of the index matches.

        The line is searched as text, not parsed: there can be 50,000 lines. Quotes within a string would be escaped.
        """
        uid, number = self.sop_instance_uid, self.frame_number
        if uid is not None and b'"sopInstanceUID":"%b",' % uid.encode() not in line:
            return False
        return number is None or b'"frameNumber":%d,' % number in line


@dataclass(frozen=True, slots=True)
class IndexPage:
    """A page of an image set's frames.

    Attributes
    ----------
    frames : list of bytes
        One JSON object for each frame.
    following : int or None
        `position` of the next page; None on the last page.
    """

    frames: list[bytes]
    following: int | None


class FrameIndex:
    """The indexes of image sets, each built from HealthImaging's metadata when it is first asked for.

    Parameters
    ----------
    source : HealthImaging
        Says which version is the latest, 25 times a second at most in an account, and gives metadata, 50 times.
    objects : ObjectStore
        Where indexes are kept.
    """

    def __init__(self, source: HealthImaging, objects: ObjectStore) -> None:
        self._source = source
        self._objects = objects
        self._kept = _Kept()

    def version(self, image_set: ImageSetRef, wanted: str | None, budget: TimeBudget) -> str:
        """Which version of an image set a page is of: the one that is wanted, or the latest.

        Raises
        ------
        ImageSetNotFound
            If there is no such image set, or none any more: then there is none of its versions either.
        Problem
            As `HealthImaging.image_set_version` and `ObjectStore` raise it.
        """
        latest = self._latest(image_set, budget)
        return wanted or latest

    def page(self, image_set: ImageSetRef, version_id: str, query: IndexQuery, budget: TimeBudget) -> IndexPage:
        """A page of an index.

        Parameters
        ----------
        image_set : ImageSetRef
            The image set.
        version_id : str
            Its version, as `version` gives it.
        query : IndexQuery
            Which of its frames.
        budget : TimeBudget
            The time for it.

        Raises
        ------
        VersionNotFound
            If the image set has no such version.
        InvalidRequest
            If the query's position is not one that a page gave.
        Problem
            As `HealthImaging.fetch_metadata` and `ObjectStore` raise it.
        """
        frames: list[bytes] = []
        position = query.position
        with closing(self._lines(image_set, version_id, position, budget)) as lines:
            for line in lines:
                if query.wants(line):
                    if len(frames) == query.most:
                        return IndexPage(frames, position)
                    frames.append(line)
                position += len(line) + 1
        return IndexPage(frames, None)

    def note_version(
        self, image_set: ImageSetRef, version_id: str | None, budget: TimeBudget, *, confirmed: bool = False
    ) -> None:
        """Note a version that an event named, unless a newer one is known: events can come late, twice or out of order.

        Parameters
        ----------
        image_set : ImageSetRef
            The image set that has changed.
        version_id : str or None
            The version, a decimal number; None if the event named none. The next request then looks for the latest one.
        budget : TimeBudget
            The time for it.
        confirmed : bool
            Whether HealthImaging has given the metadata of that version just now. Requests then take it for the latest
            without a call of `GetImageSet`. Otherwise the next request checks.

        Raises
        ------
        Problem
            As `ObjectStore` raises it.
        """
        key = latest_version_key(image_set)
        if version_id is None:
            self._objects.remove(key, budget)
            return
        noted = _Latest(version_id, time.time() if confirmed else 0.0)
        for attempt in count(1):
            known, etag = self._latest_with_etag(key, budget)
            if known and known.rank >= noted.rank:
                return
            if self._objects.put_if_unchanged(key, noted.to_json(), etag, budget):
                return
            # Another function has just noted a version: compare with that one. Each round, somebody gets further.
            time.sleep(min(pause_after(attempt), budget.remaining()))

    def _latest(self, image_set: ImageSetRef, budget: TimeBudget) -> str:
        key = latest_version_key(image_set)
        known = self._known_latest(key, budget)
        if known and time.time() - known.checked_at < LATEST_TTL_SECONDS:
            return known.version_id
        known, etag = self._latest_with_etag(key, budget)
        try:
            # Where an answer is known that will do, a service in trouble is not asked again and again.
            attempts = 1 if known else MAX_ATTEMPTS
            version_id = self._source.image_set_version(image_set, budget, attempts)
        except FrameNotFound:
            raise ImageSetNotFound from None
        except (Throttled, UpstreamFailed, UpstreamTimeout) as problem:
            if known is None or budget.exhausted:
                raise
            # The check is for lost events. A viewer can do without it, and not without the index.
            logger.warning("latest version not checked", extra={"problem": problem.slug, **problem.evidence})
            return known.version_id
        found = _Latest(version_id, time.time())
        if not self._objects.put_if_unchanged(key, found.to_json(), etag, budget):
            # Somebody else noted a version while HealthImaging answered, and it may be newer than the answer.
            noted = self._known_latest(key, budget)
            found = max(noted or found, found, key=lambda each: each.rank)
        return found.version_id

    def _latest_with_etag(self, key: str, budget: TimeBudget) -> tuple[_Latest | None, str | None]:
        """What is noted of the latest version, and the entity tag under which nobody has changed it since."""
        stored = self._objects.head(key, budget)
        return (None, None) if stored is None else (self._known_latest(key, budget), stored.etag)

    def _known_latest(self, key: str, budget: TimeBudget) -> _Latest | None:
        try:
            return _Latest.from_json(b"".join(self._objects.read(key, budget)))
        except KeyError:
            return None

    def _lines(self, image_set: ImageSetRef, version_id: str, position: int, budget: TimeBudget) -> Generator[bytes]:
        """The lines of an index from `position` on. Builds the index if there is none.

        Every line ends with a line feed. The byte before `position` is read too: it is a line feed unless the position
        was made up.
        """
        key = index_key(image_set, version_id, FORMAT)
        first = max(0, position - 1)
        try:
            try:
                pieces = self._pieces(key, first, budget)
                lines = _lines_of(chain([next(pieces, b"")], pieces))
            except KeyError:
                self._build(key, image_set, version_id, budget)
                lines = _lines_of(self._pieces(key, first, budget))
            if position and next(lines, None) != b"":
                raise IndexError
            yield from lines
        except IndexError:
            raise InvalidRequest("nextToken must be one that an answer gave, for the same image set.") from None

    def _pieces(self, key: str, first: int, budget: TimeBudget) -> Iterator[bytes]:
        """The bytes of an index from `first` on.

        Raises
        ------
        KeyError
            If there is no index.
        IndexError
            If the index ends before `first`.
        """
        if (kept := self._kept.get(key)) is not None:
            if first >= len(kept) > 0:
                raise IndexError(first)
            yield kept[first:]
            return
        with closing(self._objects.read(key, budget, first or None)) as pieces:
            content = b""
            for piece in pieces:
                content += piece
                if first or len(content) > KEPT_SIZE:
                    break
            else:
                if not first:
                    self._kept.put(key, content)
            yield content
            yield from pieces

    def _build(self, key: str, image_set: ImageSetRef, version_id: str, budget: TimeBudget) -> None:
        # Only the few requests that find no index need the parser.
        from framegate.healthimaging.image_set_metadata import MetadataError, frames_of

        def store(document: Iterator[bytes]) -> None:
            try:
                content_types = _ContentTypes(self._source, image_set, budget)
                lines = (_line_of(frame, content_types.of(frame)) for frame in frames_of(document))
                self._objects.put(key, JSON_LINES, lines, budget)
            except MetadataError as error:
                raise UpstreamFailed("HealthImaging", f"sent metadata that {error}") from None

        try:
            self._source.fetch_metadata(image_set, version_id, store, budget)
        except FrameNotFound:
            raise VersionNotFound from None


@dataclass(frozen=True, slots=True)
class _Latest:
    """The latest version of an image set, and when that was so, in seconds since 1970."""

    version_id: str
    checked_at: float

    @property
    def rank(self) -> tuple[int, float]:
        """Orders what is noted: by version, and then by how recently it was checked."""
        return int(self.version_id), self.checked_at

    @classmethod
    def from_json(cls, content: bytes) -> _Latest:
        document = json.loads(content)
        return cls(document["versionId"], document["checkedAt"])

    def to_json(self) -> bytes:
        return json.dumps({"versionId": self.version_id, "checkedAt": self.checked_at}).encode()


class _Kept:
    """The most recently used indexes, in memory."""

    def __init__(self) -> None:
        self._contents: OrderedDict[str, bytes] = OrderedDict()

    def get(self, key: str) -> bytes | None:
        if key in self._contents:
            self._contents.move_to_end(key)
        return self._contents.get(key)

    def put(self, key: str, content: bytes) -> None:
        self._contents[key] = content
        if len(self._contents) > KEPT_INDEXES:
            self._contents.popitem(last=False)


class _ContentTypes:
    """The media types with which HealthImaging delivers the frames of an image set."""

    def __init__(self, source: HealthImaging, image_set: ImageSetRef, budget: TimeBudget) -> None:
        self._source = source
        self._image_set = image_set
        self._budget = budget
        self._of_own_format: str | None = None

    def of(self, frame: FrameEntry) -> str:
        """The media type of a frame; HealthImaging is asked at most once, where the metadata does not tell."""
        if frame.transfer_syntax_uid is not None:
            return media_types.of_stored(frame.transfer_syntax_uid)
        if self._of_own_format is None:
            # In the data store's own format, as are all others without a transfer syntax.
            self._of_own_format = self._ask(frame.image_frame_id)
        return self._of_own_format

    def _ask(self, image_frame_id: str) -> str:
        try:
            ref = FrameRef(self._image_set.datastore_id, self._image_set.image_set_id, image_frame_id)
            return self._source.fetch(ref, lambda stream: stream.content_type, self._budget)
        except (FrameNotFound, FrameNotAvailable, UpstreamRejected, UpstreamRefused, InvalidIdentifier):
            return media_types.WITHOUT_SYNTAX


def _line_of(frame: FrameEntry, content_type: str) -> bytes:
    """The index's line for a frame, with nothing about patient, study or series."""
    document = {
        "sopInstanceUID": frame.sop_instance_uid,
        "frameNumber": frame.frame_number,
        "imageFrameId": frame.image_frame_id,
        "storedTransferSyntaxUID": frame.transfer_syntax_uid,
        "contentType": content_type,
        "contentLength": frame.size,
        "rows": frame.rows,
        "columns": frame.columns,
        "resolutions": frame.resolutions,
    }
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def _lines_of(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Split pieces into lines, without their line feeds."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
