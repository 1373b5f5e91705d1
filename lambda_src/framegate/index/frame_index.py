"""The frame index: stores a list of the frames of each version of an image set, and serves it page by page."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from framegate.bucket_layout import JSON_LINES, index_key
from framegate.index.builder import FORMAT, index_lines
from framegate.index.latest_version import LatestVersions
from framegate.index.studies import Studies
from framegate.problems import (
    FrameNotFound,
    InvalidRequest,
    UpstreamFailed,
    VersionNotFound,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from framegate.healthimaging.client import HealthImaging
    from framegate.healthimaging.image_set_metadata import FrameEntry
    from framegate.identifiers import ImageSetRef
    from framegate.storage.object_store import ObjectStore
    from framegate.time_budget import TimeBudget

CACHE_MAX_INDEX_BYTES = 256 * 1024
"""Maximum size of an index that the function caches in memory: about 1,000 frames."""

CACHE_MAX_INDEXES = 64
"""Maximum number of indexes that the function caches in memory."""


@dataclass(frozen=True, slots=True)
class IndexQuery:
    """A query for frames of an image set.

    Parameters
    ----------
    version_id : str or None
        Version of the image set, a decimal number; None is the latest.
    sop_instance_uid : str or None
        Instance that the frames belong to; None is any.
    frame_number : int or None
        Number of the frame in its instance, from 1; None is any.
    max_frames : int
        Maximum number of frames on a page.
    position : int
        Offset in the index, in bytes, at which the page starts: 0, or `IndexPage.next_position`.
    """

    version_id: str | None = None
    sop_instance_uid: str | None = None
    frame_number: int | None = None
    max_frames: int = 1000
    position: int = 0

    def matches(self, line: bytes) -> bool:
        """Return whether a line of the index matches.

        An index can have 50,000 lines, so the line is searched as text and not parsed. The search is exact, because
        quotation marks within a JSON string are escaped.
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
    next_position : int or None
        The `position` of the next page; None on the last page.
    """

    frames: list[bytes]
    next_position: int | None


class FrameIndex:
    """The indexes of image sets. The first request for a version builds its index from HealthImaging's metadata.

    Parameters
    ----------
    source : HealthImaging
        Provides the latest version, at most 25 times a second for an account, and the metadata, at most 50 times.
    objects : ObjectStore
        The bucket that stores the indexes.

    Attributes
    ----------
    latest : LatestVersions
        The latest versions of image sets.
    """

    def __init__(self, source: HealthImaging, objects: ObjectStore) -> None:
        self._source = source
        self._objects = objects
        self.latest = LatestVersions(source, objects)
        self._studies = Studies(source, objects, self.latest)
        self._cache = _IndexCache()

    def version(self, image_set: ImageSetRef, requested: str | None, budget: TimeBudget) -> str:
        """Return the version that a page belongs to: the requested one, or the latest.

        Raises
        ------
        ImageSetNotFound
            If the image set does not exist, even if an earlier version was indexed.
        VersionNotFound
            If the requested version is later than the latest. This costs no call of GetImageSetMetadata.
        Problem
            As `LatestVersions.find` raises it.
        """
        latest = self.latest.find(image_set, requested, budget)
        if requested is not None and int(requested) > int(latest):
            raise VersionNotFound
        return requested or latest

    def study(self, image_set: ImageSetRef, budget: TimeBudget) -> str | None:
        """Return the study instance UID of an image set's latest version, as `Studies.find` does."""
        return self._studies.find(image_set, budget)

    def page(self, image_set: ImageSetRef, version_id: str, query: IndexQuery, budget: TimeBudget) -> IndexPage:
        """Return a page of an index.

        Parameters
        ----------
        image_set : ImageSetRef
            The image set.
        version_id : str
            The version, as `version` returns it.
        query : IndexQuery
            Selects the frames.
        budget : TimeBudget
            The time for it.

        Raises
        ------
        VersionNotFound
            If the image set has no such version.
        InvalidRequest
            If the query's position is not the next position of another page.
        Problem
            As `HealthImaging.fetch_metadata` and `ObjectStore` raise it.
        """
        frames: list[bytes] = []
        position = query.position
        with closing(self._lines(image_set, version_id, position, budget)) as lines:
            for line in lines:
                if query.matches(line):
                    if len(frames) == query.max_frames:
                        return IndexPage(frames, position)
                    frames.append(line)
                position += len(line) + 1
        return IndexPage(frames, None)

    def stored(self, image_set: ImageSetRef, version_id: str, budget: TimeBudget) -> bytes | None:
        """Return the lines of an index, or None if it is not built.

        Raises
        ------
        Problem
            As `ObjectStore` raises it.
        """
        try:
            return b"".join(self._objects.read(index_key(image_set, version_id, FORMAT), budget))
        except KeyError:
            return None

    def build(self, image_set: ImageSetRef, version_id: str, budget: TimeBudget) -> None:
        """Build and store an index.

        Raises
        ------
        VersionNotFound
            If the image set has no such version.
        Problem
            As `HealthImaging.fetch_metadata` and `ObjectStore` raise it.
        """
        # Imported here to keep cold starts short: only a request that finds no index needs the metadata parser.
        from framegate.healthimaging.image_set_metadata import MetadataError, frames_of

        def store(document: Iterator[bytes]) -> None:
            try:
                self.store(image_set, version_id, frames_of(document), budget)
            except MetadataError as error:
                raise UpstreamFailed("HealthImaging", f"sent metadata that {error}") from None

        try:
            self._source.fetch_metadata(image_set, version_id, store, budget)
        except FrameNotFound:
            raise VersionNotFound from None

    def store(self, image_set: ImageSetRef, version_id: str, entries: Iterable[FrameEntry], budget: TimeBudget) -> None:
        """Store the index of a version whose frames the caller has read from its metadata.

        Raises
        ------
        Problem
            As `HealthImaging.fetch` and `ObjectStore` raise it.
        """
        lines = index_lines(entries, self._source, image_set, budget)
        self._objects.put(index_key(image_set, version_id, FORMAT), JSON_LINES, lines, budget)

    def note_version(
        self, image_set: ImageSetRef, version_id: str | None, budget: TimeBudget, *, confirmed: bool = False
    ) -> None:
        """Note a version that an event named, as `LatestVersions.note` does."""
        self.latest.note(image_set, version_id, budget, confirmed=confirmed)

    def _lines(self, image_set: ImageSetRef, version_id: str, position: int, budget: TimeBudget) -> Generator[bytes]:
        """Yield the lines of an index from `position` on. Build the index first if there is none.

        Every line ends with a line feed. The byte before `position` is read too: unless it is a line feed, the client
        has made up the position.
        """
        key = index_key(image_set, version_id, FORMAT)
        first = max(0, position - 1)
        try:
            try:
                pieces = self._pieces(key, first, budget)
                lines = _split_lines(chain([next(pieces, b"")], pieces))
            except KeyError:
                self.build(image_set, version_id, budget)
                lines = _split_lines(self._pieces(key, first, budget))
            if position and next(lines, None) != b"":
                raise IndexError
            yield from lines
        except IndexError:
            raise InvalidRequest("nextToken must be one that an answer gave, for the same image set.") from None

    def _pieces(self, key: str, first: int, budget: TimeBudget) -> Iterator[bytes]:
        """Yield the bytes of an index from `first` on.

        Raises
        ------
        KeyError
            If there is no index.
        IndexError
            If the index ends before `first`.
        """
        if (cached := self._cache.get(key)) is not None:
            if first >= len(cached) > 0:
                raise IndexError(first)
            yield cached[first:]
            return
        with closing(self._objects.read(key, budget, first or None)) as pieces:
            content = b""
            for piece in pieces:
                content += piece
                if first or len(content) > CACHE_MAX_INDEX_BYTES:
                    break
            else:
                if not first:
                    self._cache.put(key, content)
            yield content
            yield from pieces


class _IndexCache:
    """Caches the most recently used indexes in memory."""

    def __init__(self) -> None:
        self._contents: OrderedDict[str, bytes] = OrderedDict()

    def get(self, key: str) -> bytes | None:
        if key in self._contents:
            self._contents.move_to_end(key)
        return self._contents.get(key)

    def put(self, key: str, content: bytes) -> None:
        self._contents[key] = content
        if len(self._contents) > CACHE_MAX_INDEXES:
            self._contents.popitem(last=False)


def _split_lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Split pieces into lines, without their line feeds."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
