"""Writes the DICOM files of instances: data set, bulk data and frames stream from HealthImaging and S3 to S3."""

from __future__ import annotations

import re
import threading
import time
import zlib
from collections import deque
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit

from framegate.aws.checksums import base64_of
from framegate.aws.retries import pause_after
from framegate.datasets.encoding import BulkData, DatasetError
from framegate.datasets.part10 import DICOM_FILE, joined_bits
from framegate.healthimaging.client import SERVICE
from framegate.healthimaging.media_types import UNKNOWN, stored_syntax
from framegate.identifiers import FrameRef, is_uid
from framegate.problems import (
    FrameNotAvailable,
    PixelMismatch,
    Throttled,
    UpstreamFailed,
    UpstreamTimeout,
)
from framegate.storage.object_store import ObjectChangedError, Written

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from concurrent.futures import Executor, Future

    from framegate.datasets.instance_files import InstanceFiles
    from framegate.datasets.part10 import PixelLayout
    from framegate.datasets.series import InstanceSource
    from framegate.healthimaging.client import FrameStream, HealthImaging
    from framegate.healthimaging.image_set_metadata import FrameEntry
    from framegate.identifiers import ImageSetRef
    from framegate.storage.frame_store import FrameStore
    from framegate.time_budget import TimeBudget

MAX_FAILURES = 4
"""Maximum number of failed attempts at a frame or a value of bulk data. Throttled attempts do not count."""

MAX_FRAMES_AHEAD = 16
"""Maximum number of frames of a multi-frame instance that are fetched before their turn."""

MAX_FRAME_BYTES_AHEAD = 4 * 1024 * 1024
"""Maximum size of a frame that is fetched before its turn. A larger one streams."""

MAX_BYTES_AHEAD = 64 * 1024 * 1024
"""Maximum size of all frames that wait for their turn."""

MAX_UNANNOUNCED_BYTES = 64 * 1024 * 1024
"""Maximum size of bulk data whose length HealthImaging does not announce: it is kept in memory."""


_BULK_DATA_ID = re.compile(r"[0-9A-Za-z_-]+", re.ASCII)


class Calls(Protocol):
    """Paces the calls of HealthImaging."""

    def wait(self, budget: TimeBudget) -> None:
        """Wait for the turn of the next call."""

    def slow_down(self) -> None:
        """React to a throttled call."""


class Unpaced:
    """Calls of a request, which nothing delays."""

    def wait(self, budget: TimeBudget) -> None:
        """Do not wait."""

    def slow_down(self) -> None:
        """Pause shortly."""
        time.sleep(pause_after(1))


@dataclass(frozen=True, slots=True)
class StoredFrames:
    """The frames of an image set that the bucket has.

    Attributes
    ----------
    present : collection of str
        Identifiers of the frames that may be stored.
    mismatched : collection of str
        Identifiers of the frames in quarantine.
    """

    present: Collection[str] = frozenset()
    mismatched: Collection[str] = frozenset()


class InstanceWriter:
    """Writes DICOM files. Threads can share one writer.

    Parameters
    ----------
    source : HealthImaging
        Provides frames, bulk data, and files that only HealthImaging can write.
    frames : FrameStore
        Provides the frames that are stored already.
    files : InstanceFiles
        Receives the files.
    calls : Calls
        Paces the calls of HealthImaging.
    threads : concurrent.futures.Executor
        Fetches frames of multi-frame instances before their turn.
    """

    def __init__(
        self, source: HealthImaging, frames: FrameStore, files: InstanceFiles, calls: Calls, threads: Executor
    ) -> None:
        self._source = source
        self._frames = frames
        self._files = files
        self._calls = calls
        self._threads = threads
        self._ahead = _Allowance(MAX_BYTES_AHEAD)

    def write(
        self,
        image_set: ImageSetRef,
        instance: InstanceSource,
        stored: StoredFrames,
        version_id: str | None,
        budget: TimeBudget,
    ) -> Written:
        """Write the file of an instance. It appears complete or never.

        Parameters
        ----------
        image_set : ImageSetRef
            The image set.
        instance : InstanceSource
            What the file is made of.
        stored : StoredFrames
            The frames that the bucket has.
        version_id : str or None
            The version that was the latest before the metadata was read, if it is known.
        budget : TimeBudget
            The time for it.

        Raises
        ------
        PixelMismatch
            If an export found that the pixels of a frame are wrong.
        Problem
            As `HealthImaging`, `FrameStore` and `InstanceFiles` raise it.
        """
        if any(frame.image_frame_id in stored.mismatched for frame in instance.frames):
            raise PixelMismatch("An earlier export found a wrong copy of a frame.")
        if instance.dataset is None:
            return self._copy_file(image_set, instance, version_id, budget)
        dataset, instance = instance.dataset, self._completed(image_set, instance, budget)
        try:
            layout = instance.layout()
        except DatasetError:
            raise FrameNotAvailable from None
        size = instance.size(layout)
        with self._files.writer(image_set, instance, size, version_id, budget) as writer:
            writer.write(instance.head)
            self._write_parts(image_set, dataset.before, writer.write, budget)
            if layout:
                self._write_pixels(image_set, instance, layout, stored, writer.write, budget)
            self._write_parts(image_set, dataset.after, writer.write, budget)
            if size is not None and writer.size != size:
                raise UpstreamFailed(SERVICE, "sent a frame of another size than its metadata says")
        return Written(writer.size, base64_of(writer.checksum))

    def _completed(self, image_set: ImageSetRef, instance: InstanceSource, budget: TimeBudget) -> InstanceSource:
        """Ask the frames for the transfer syntax and the sizes that the metadata lacks."""
        if not instance.frames:
            return instance
        syntax, frames = instance.transfer_syntax_uid, instance.frames
        if syntax is not None and all(frame.size is not None for frame in frames):
            return instance
        completed = []
        for frame in frames:
            if syntax is None or frame.size is None:
                content_type, size = self._describe(_ref(image_set, frame), budget)
                syntax = syntax or stored_syntax(None, content_type)
                frame = replace(frame, size=size if frame.size is None else frame.size)
            completed.append(frame)
        if syntax is None:
            raise FrameNotAvailable
        return replace(instance, transfer_syntax_uid=syntax, frames=tuple(completed))

    def _describe(self, ref: FrameRef, budget: TimeBudget) -> tuple[str, int]:
        def describe(stream: FrameStream) -> tuple[str, int]:
            if stream.content_length is None:
                raise UpstreamFailed(SERVICE, "sent a frame of unknown size")
            return stream.content_type, stream.content_length

        self._calls.wait(budget)
        return self._source.fetch(ref, describe, budget, in_part=True)

    # Data set

    def _write_parts(
        self,
        image_set: ImageSetRef,
        parts: Iterable[bytes | BulkData],
        write: Callable[[bytes], None],
        budget: TimeBudget,
    ) -> None:
        for part in parts:
            if isinstance(part, bytes):
                write(part)
            else:
                self._write_bulk_data(image_set, part, write, budget)

    def _write_bulk_data(
        self, image_set: ImageSetRef, bulk_data: BulkData, write: Callable[[bytes], None], budget: TimeBudget
    ) -> None:
        path = bulk_data_path(bulk_data.uri, image_set.datastore_id)
        query = (("imageSetId", image_set.image_set_id),)

        def begin(size: int) -> None:
            write(bulk_data.header(size + size % 2))

        def fetch(use: Callable[[FrameStream], None]) -> None:
            self._source.fetch_dicomweb(image_set.datastore_id, path, query, UNKNOWN, use, budget)

        size = self._transfer(fetch, write, budget, begin=begin)
        write(bytes(size % 2))

    def _copy_file(
        self, image_set: ImageSetRef, instance: InstanceSource, version_id: str | None, budget: TimeBudget
    ) -> Written:
        """Store the file that HealthImaging writes."""
        accept = f"{DICOM_FILE}; transfer-syntax=*"
        query = (("imageSetId", image_set.image_set_id),)

        def fetch(use: Callable[[FrameStream], None]) -> None:
            self._source.fetch_dicomweb(image_set.datastore_id, instance.path, query, accept, use, budget)

        with self._files.writer(image_set, instance, None, version_id, budget) as writer:
            self._transfer(fetch, writer.write, budget)
        return Written(writer.size, base64_of(writer.checksum))

    # Pixels

    def _write_pixels(
        self,
        image_set: ImageSetRef,
        instance: InstanceSource,
        layout: PixelLayout,
        stored: StoredFrames,
        write: Callable[[bytes], None],
        budget: TimeBudget,
    ) -> None:
        write(layout.head)
        frames = self._in_order(image_set, instance.frames, stored, budget)
        if layout.repacks_bits:
            for piece in joined_bits(map(_collected, frames), layout.frame_bits):
                write(piece)
        else:
            for number, frame in enumerate(frames, start=1):
                write(layout.before_frame(number))
                frame(write)
                write(layout.after_frame(number))
        write(layout.tail)

    def _in_order(
        self, image_set: ImageSetRef, frames: tuple[FrameEntry, ...], stored: StoredFrames, budget: TimeBudget
    ) -> Iterator[Callable[[Callable[[bytes], None]], None]]:
        """Yield a function for each frame, in order, that writes the frame. Small frames are fetched ahead."""
        ahead: deque[Future[bytes]] = deque()
        following = 1

        def fetch(frame: FrameEntry, write: Callable[[bytes], None]) -> None:
            self._write_frame(_ref(image_set, frame), frame.size or 0, stored, write, budget)

        def whole(frame: FrameEntry) -> bytes:
            return _collected(partial(fetch, frame))

        try:
            for position, frame in enumerate(frames):
                following = max(following, position + 1)
                current = ahead.popleft() if ahead else None
                try:
                    while following < len(frames) and len(ahead) < MAX_FRAMES_AHEAD:
                        size = frames[following].size or 0
                        if size > MAX_FRAME_BYTES_AHEAD or not self._ahead.take(size):
                            break
                        ahead.append(self._threads.submit(whole, frames[following]))
                        following += 1
                    yield partial(fetch, frame) if current is None else partial(_write_result, current)
                finally:
                    if current is not None:
                        self._ahead.give_back(frame.size or 0)
        finally:
            for waiting, frame in zip(ahead, frames[following - len(ahead) : following], strict=True):
                waiting.cancel()
                waiting.add_done_callback(partial(self._give_back, frame.size or 0))

    def _give_back(self, size: int, _: object) -> None:
        self._ahead.give_back(size)

    def _write_frame(
        self, ref: FrameRef, size: int, stored: StoredFrames, write: Callable[[bytes], None], budget: TimeBudget
    ) -> None:
        """Write a frame from the bucket if it is stored, otherwise from HealthImaging."""
        progress = _Progress(write)
        if ref.image_frame_id not in stored.present or not self._write_stored(ref, size, progress, budget):

            def fetch(use: Callable[[FrameStream], None]) -> None:
                self._source.fetch(ref, use, budget, attempts=1)

            self._transfer(fetch, write, budget, progress=progress)
        if progress.size != size:
            raise UpstreamFailed(SERVICE, "sent a frame of another size than its metadata says")

    def _write_stored(self, ref: FrameRef, size: int, progress: _Progress, budget: TimeBudget) -> bool:
        """Write a stored frame; return False if it was removed or replaced."""
        found = self._frames.look_up(ref, budget)
        if found is None:
            return False
        if found.is_mismatched:
            raise PixelMismatch("An earlier export found a wrong copy of a frame.")
        if found.stored.size != size:
            return False
        try:
            progress.take(self._frames.read_unchanged(ref, found.stored.etag, budget))
        except ObjectChangedError:
            return False
        return True

    def _transfer(
        self,
        fetch: Callable[[Callable[[FrameStream], None]], None],
        write: Callable[[bytes], None],
        budget: TimeBudget,
        *,
        begin: Callable[[int], None] | None = None,
        progress: _Progress | None = None,
    ) -> int:
        """Write a body of HealthImaging; return its size. After a failure, another attempt continues where it stopped.

        Parameters
        ----------
        fetch : callable
            Opens the body, and passes it to its argument.
        write : callable
            Takes the bytes.
        budget : TimeBudget
            The time for all attempts.
        begin : callable, optional
            Takes the size of the body, once, before its first byte.
        progress : _Progress, optional
            What was written already.
        """
        progress = progress or _Progress(write)
        begun = begin is None

        def use(stream: FrameStream) -> None:
            nonlocal begun
            content: Iterable[bytes] = stream
            if not begun and begin:
                size = stream.content_length
                if size is None:
                    content = [_all_of(stream)]
                    size = len(content[0])
                begin(size)
                begun = True
            progress.take(content)

        failures = 0
        while True:
            self._calls.wait(budget)
            if budget.exhausted:
                raise UpstreamTimeout(SERVICE)
            try:
                fetch(use)
            except Throttled as problem:
                if problem.service != SERVICE or budget.exhausted:
                    raise
                self._calls.slow_down()
            except (UpstreamFailed, UpstreamTimeout) as problem:
                failures += 1
                if problem.service != SERVICE or failures == MAX_FAILURES or budget.exhausted:
                    raise
                time.sleep(min(pause_after(failures), budget.remaining()))
            else:
                return progress.size


class _Progress:
    """Writes a body that may come in several attempts, each from its first byte.

    Attributes
    ----------
    size : int
        Number of bytes that were written.
    """

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._checksum = 0
        self.size = 0

    def take(self, pieces: Iterable[bytes]) -> None:
        """Write the bytes that were not written yet.

        Raises
        ------
        UpstreamFailed
            If this attempt's body is another one than the body of the attempts before it.
        """
        expected, position, repeated = self.size, 0, 0
        for piece in pieces:
            if position < expected:
                known = piece[: expected - position]
                repeated = zlib.crc32(known, repeated)
                position += len(known)
                if position == expected and repeated != self._checksum:
                    raise UpstreamFailed(SERVICE, "sent other bytes than before")
                piece = piece[len(known) :]
            if piece:
                self._checksum = zlib.crc32(piece, self._checksum)
                self.size += len(piece)
                self._write(piece)
        if position < expected:
            raise UpstreamFailed(SERVICE, "sent fewer bytes than before")


class _Allowance:
    """Bytes that threads share without waiting for them."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Take bytes if there are as many; return whether there were."""
        with self._lock:
            if size > self._free:
                return False
            self._free -= size
            return True

    def give_back(self, size: int) -> None:
        """Return bytes."""
        with self._lock:
            self._free += size


def bulk_data_path(uri: str, datastore_id: str) -> tuple[str, ...]:
    """Return the segments of the path of bulk data below the data store.

    Raises
    ------
    UpstreamFailed
        If the URI does not lead to bulk data of this data store.

    Examples
    --------
    >>> bulk_data_path("https://host/datastore/d/studies/1/series/2/instances/3/bulkdata/f0", "d")[-2:]
    ('bulkdata', 'f0')
    """
    segments = tuple(unquote(each) for each in urlsplit(uri).path.strip("/").split("/"))
    match segments:
        case ("datastore", found, "studies", study, "series", series, "instances", instance, "bulkdata", identifier):
            if (
                found == datastore_id
                and all(map(is_uid, (study, series, instance)))
                and _BULK_DATA_ID.fullmatch(identifier)
            ):
                return segments[2:]
    raise UpstreamFailed(SERVICE, "sent a reference to bulk data that it does not document")


def _ref(image_set: ImageSetRef, frame: FrameEntry) -> FrameRef:
    return FrameRef(image_set.datastore_id, image_set.image_set_id, frame.image_frame_id)


def _write_result(content: Future[bytes], write: Callable[[bytes], None]) -> None:
    write(content.result())


def _collected(frame: Callable[[Callable[[bytes], None]], None]) -> bytes:
    content = bytearray()
    frame(content.extend)
    return bytes(content)


def _all_of(stream: FrameStream) -> bytes:
    content = bytearray()
    for piece in stream:
        content += piece
        if len(content) > MAX_UNANNOUNCED_BYTES:
            raise UpstreamFailed(SERVICE, "sent bulk data of unknown size that is too large")
    return bytes(content)
