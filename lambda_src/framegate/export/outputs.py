"""What exports store: single frames, or a DICOM file of each instance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from framegate.bucket_layout import frame_key, instance_key
from framegate.datasets.part10 import DICOM_FILE
from framegate.datasets.writer import MAX_FAILURES, StoredFrames
from framegate.dicomweb.study_lists import ImageSetVersion
from framegate.export.manifest import Exported, ExportedFrame, ExportedInstance, Outcome
from framegate.healthimaging.image_set_metadata import FrameEntry, MetadataError, frames_of, series_of
from framegate.identifiers import FrameRef
from framegate.observability import logger
from framegate.problems import (
    FrameNotFound,
    Problem,
    Throttled,
    UpstreamFailed,
    UpstreamTimeout,
    VersionNotFound,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Executor

    from framegate.datasets.instance_files import InstanceFiles
    from framegate.datasets.series import InstanceSource, SeriesReader
    from framegate.datasets.writer import InstanceWriter
    from framegate.dicomweb.study_lists import StudyLists
    from framegate.export.copying import FrameCopier
    from framegate.healthimaging.client import HealthImaging
    from framegate.identifiers import ImageSetRef
    from framegate.index.frame_index import FrameIndex
    from framegate.messages import ExportOrder
    from framegate.storage.frame_store import FrameStore
    from framegate.time_budget import TimeBudget

MAX_START_BYTES = 256 * 1024
"""Bytes at the start of the metadata in which the UIDs of the study and the series must be."""

MAX_DIRECT_FRAMES = 5_000
"""Maximum number of frames that go straight into a DICOM file.

By default, a worker fetches 22,500 frames in one invocation. Frames of a larger instance are stored first, so that the
next invocation continues with the rest.
"""


class ImageSetDeletedError(Exception):
    """The image set no longer exists."""


class Job(Protocol):
    """The work of one export within one invocation.

    Attributes
    ----------
    has_progressed : bool
        Whether the job has stored something that is not an item of its own.
    """

    has_progressed: bool

    @property
    def items(self) -> Sequence[Exported]:
        """What the export stores, with the outcomes so far."""

    def prepare(self, budget: TimeBudget) -> None:
        """List what is stored already. Called once, before the first copy, and only if an item is unfinished."""

    def copy(self, item: Any, budget: TimeBudget) -> Problem | None:
        """Store an item unless it is stored already, and record its outcome, which stays None if the time runs out.

        Threads call this at the same time.

        Returns
        -------
        Problem or None
            The problem of a failed attempt; None if no attempt failed, or none was made.

        Raises
        ------
        ImageSetDeletedError
            If the image set is deleted.
        """


class Output(Protocol):
    """A kind of export."""

    def begin(self, order: ExportOrder, saved: list[Exported] | None, budget: TimeBudget) -> Job:
        """Return the job of an order.

        Parameters
        ----------
        order : ExportOrder
            The export's order.
        saved : list of Exported or None
            The items as an earlier invocation saved them.
        budget : TimeBudget
            The time for it.

        Raises
        ------
        ImageSetDeletedError
            If the image set is deleted.
        VersionNotFound
            If it has no such version.
        Problem
            As `HealthImaging` raises it.
        """


# Frames


class FrameOutput:
    """Exports of single frames.

    Parameters
    ----------
    source : HealthImaging
        Provides the metadata of image sets.
    store : FrameStore
        Lists the frames that are stored already.
    copier : FrameCopier
        Copies single frames.
    index : FrameIndex
        Gets the list of frames, so that the first request for it needs no call.
    studies : StudyLists, optional
        Gets the image sets that are exported on an event, so that the first request by UID needs no search.
    """

    def __init__(
        self,
        source: HealthImaging,
        store: FrameStore,
        copier: FrameCopier,
        index: FrameIndex,
        studies: StudyLists | None = None,
    ) -> None:
        self._studies = studies
        self._source = source
        self._store = store
        self._copier = copier
        self._index = index

    def begin(self, order: ExportOrder, saved: list[Exported] | None, budget: TimeBudget) -> Job:
        """Return the job of an order; see `Output`."""
        frames = [each for each in saved or () if isinstance(each, ExportedFrame)] or self._frames_of(order, budget)
        return _FrameJob(self._source, self._store, self._copier, order, frames)

    def _frames_of(self, order: ExportOrder, budget: TimeBudget) -> list[ExportedFrame]:
        entries = self._entries(order, budget)
        if order.image_frame_ids is None:
            self._store_index(order, entries, budget)
            return [_new_frame(order.image_set, entry) for entry in entries]
        requested = set(order.image_frame_ids)
        entries = [entry for entry in entries if entry.image_frame_id in requested]
        unknown = requested - {entry.image_frame_id for entry in entries}
        frames = [_new_frame(order.image_set, entry) for entry in entries]
        return frames + [_unknown_frame(order.image_set, each) for each in order.image_frame_ids if each in unknown]

    def _entries(self, order: ExportOrder, budget: TimeBudget) -> list[FrameEntry]:
        start = bytearray()

        def read(document: Iterator[bytes]) -> list[FrameEntry]:
            start.clear()
            return _entries_of(_noting_the_start(document, start))

        try:
            entries = self._source.fetch_metadata(order.image_set, order.version_id, read, budget)
        except FrameNotFound:
            if order.version_id and self._source.has_image_set(order.image_set, budget):
                raise VersionNotFound from None
            raise ImageSetDeletedError from None
        uids = series_of([bytes(start)])
        if uids is not None:
            note_study(self._studies, order, *uids, budget)
        return entries

    def _store_index(self, order: ExportOrder, entries: list[FrameEntry], budget: TimeBudget) -> None:
        if order.version_id is None or any(entry.transfer_syntax_uid is None for entry in entries):
            # Only a frame itself would tell its media type.
            return
        try:
            self._index.store(order.image_set, order.version_id, entries, budget)
        except Problem as problem:
            # The first request for the index builds it.
            logger.warning("frame index not stored", extra=problem.log_fields)


class _FrameJob:
    """The job of an export of frames; see `Job`."""

    has_progressed = False

    def __init__(
        self,
        source: HealthImaging,
        store: FrameStore,
        copier: FrameCopier,
        order: ExportOrder,
        frames: list[ExportedFrame],
    ) -> None:
        self._source = source
        self._store = store
        self._copier = copier
        self._order = order
        self._frames = frames
        self._stored = StoredFrames()

    @property
    def items(self) -> Sequence[ExportedFrame]:
        return self._frames

    def prepare(self, budget: TimeBudget) -> None:
        self._stored = stored_frames(self._store, self._order.image_set, budget)

    def copy(self, item: ExportedFrame, budget: TimeBudget) -> Problem | None:
        frame_id = item.entry.image_frame_id
        problem = self._copier.copy(
            item,
            self._order.image_set,
            budget,
            may_be_stored=frame_id in self._stored.present,
            is_mismatched=frame_id in self._stored.mismatched,
            verify=self._order.verify,
        )
        if isinstance(problem, FrameNotFound) and not self._source.has_image_set(self._order.image_set, budget):
            raise ImageSetDeletedError
        return problem


def stored_frames(store: FrameStore, image_set: ImageSetRef, budget: TimeBudget) -> StoredFrames:
    """List the frames of an image set that the bucket has."""
    return StoredFrames(set(store.names(image_set, budget)), set(store.mismatched_names(image_set, budget)))


def note_study(
    studies: StudyLists | None, order: ExportOrder, study_uid: str, series_uid: str, budget: TimeBudget
) -> None:
    """List the image set of an event under its study."""
    if studies is None or order.version_id is None or order.is_primary is None:
        return
    try:
        noted = ImageSetVersion(order.image_set, order.version_id, order.is_primary, series_uid)
        studies.note(noted, study_uid, budget)
    except Problem as problem:
        # The first request for the series searches.
        logger.warning("study not noted", extra=problem.log_fields)


def _noting_the_start(document: Iterator[bytes], start: bytearray) -> Iterator[bytes]:
    """Pass a document on, and note its first `MAX_START_BYTES`."""
    for piece in document:
        if len(start) < MAX_START_BYTES:
            start += piece[: MAX_START_BYTES - len(start)]
        yield piece


def _entries_of(document: Iterator[bytes]) -> list[FrameEntry]:
    try:
        return list(frames_of(document))
    except MetadataError as error:
        raise UpstreamFailed("HealthImaging", f"sent metadata that {error}") from None


def _new_frame(image_set: ImageSetRef, entry: FrameEntry) -> ExportedFrame:
    frame = FrameRef(image_set.datastore_id, image_set.image_set_id, entry.image_frame_id)
    return ExportedFrame(entry, frame_key(frame))


def _unknown_frame(image_set: ImageSetRef, image_frame_id: str) -> ExportedFrame:
    """A requested frame that the metadata does not list."""
    frame = _new_frame(image_set, FrameEntry(image_frame_id, None, None))
    frame.fail(FrameNotFound())
    return frame


# DICOM files


class InstanceOutput:
    """Exports of DICOM files.

    Parameters
    ----------
    source : HealthImaging
        Knows whether an image set is deleted.
    series : SeriesReader
        Reads what the files are made of.
    files : InstanceFiles
        Lists the files that are stored already.
    writer : InstanceWriter
        Writes single files.
    store : FrameStore
        Lists the frames that are stored already.
    copier : FrameCopier
        Stores and verifies the frames of a verifying export, and those of very large instances.
    threads : concurrent.futures.Executor
        Stores the frames of such instances.
    studies : StudyLists, optional
        See `FrameOutput`.
    """

    def __init__(
        self,
        source: HealthImaging,
        series: SeriesReader,
        files: InstanceFiles,
        writer: InstanceWriter,
        store: FrameStore,
        copier: FrameCopier,
        threads: Executor,
        studies: StudyLists | None = None,
    ) -> None:
        self._source = source
        self._series = series
        self._studies = studies
        self.files = files
        self.writer = writer
        self.store = store
        self.copier = copier
        self.threads = threads

    def begin(self, order: ExportOrder, saved: list[Exported] | None, budget: TimeBudget) -> Job:
        """Return the job of an order; see `Output`. The metadata is read again, because the files need it."""
        known = {each.sop_instance_uid: each for each in saved or () if isinstance(each, ExportedInstance)}
        finished = {uid for uid, each in known.items() if not each.is_unfinished}
        try:
            found = self._series.read(order.image_set, budget, lambda uid: uid not in finished)
        except FrameNotFound:
            # Either kind of metadata may be the first that is gone.
            if self.has_image_set(order.image_set, budget):
                raise UpstreamFailed("HealthImaging", "has no metadata of a series that it lists") from None
            raise ImageSetDeletedError from None
        if found:
            _, study_uid, _, series_uid, *_ = found[0].path
            note_study(self._studies, order, study_uid, series_uid, budget)
        sources = {each.sop_instance_uid: each for each in found}
        # The order of the metadata; an instance that was added since comes last.
        uids = dict.fromkeys([*(uid for uid in known if uid in finished or uid in sources), *sources])
        items = [known.get(uid) or _new_instance(order.image_set, sources[uid]) for uid in uids]
        return _InstanceJob(self, order, items, sources)

    def has_image_set(self, image_set: ImageSetRef, budget: TimeBudget) -> bool:
        """Whether the image set exists."""
        return self._source.has_image_set(image_set, budget)


class _InstanceJob:
    """The job of an export of DICOM files; see `Job`."""

    def __init__(
        self,
        output: InstanceOutput,
        order: ExportOrder,
        items: list[ExportedInstance],
        sources: dict[str, InstanceSource],
    ) -> None:
        self._output = output
        self._order = order
        self._items = items
        self._sources = sources
        self._stored = StoredFrames()
        self._files: set[str] = set()
        self.has_progressed = False

    @property
    def items(self) -> Sequence[ExportedInstance]:
        return self._items

    def prepare(self, budget: TimeBudget) -> None:
        image_set = self._order.image_set
        self._stored = stored_frames(self._output.store, image_set, budget)
        self._files = self._output.files.names(image_set, budget)

    def copy(self, item: ExportedInstance, budget: TimeBudget) -> Problem | None:
        item.outcome = item.detail = None
        source = self._sources[item.sop_instance_uid]
        problem: Problem | None = None
        failures = 0
        while not budget.exhausted:
            try:
                self._attempt(item, source, budget)
            except Throttled as throttled:
                problem = throttled.without_traceback()
            except (UpstreamFailed, UpstreamTimeout) as failure:
                failure.without_traceback()
                problem = problem if problem and budget.exhausted else failure
                failures += 1
                if failures == MAX_FAILURES and not budget.exhausted:
                    item.fail(failure)
                    return failure
            except FrameNotFound as missing:
                if not self._output.has_image_set(self._order.image_set, budget):
                    raise ImageSetDeletedError from None
                item.fail(missing)
                return missing.without_traceback()
            except Problem as final:
                item.fail(final)
                return final.without_traceback()
            else:
                return problem if item.outcome is None else None
        item.outcome = None
        return problem

    def _attempt(self, item: ExportedInstance, source: InstanceSource, budget: TimeBudget) -> None:
        """Store the file unless it is stored already. If the time runs out, the outcome stays None."""
        image_set = self._order.image_set
        if self._order.verify and source.frames and not self._store_frames(item, source, budget):
            return
        if source.name in self._files and (found := self._output.files.find(image_set, source, budget)):
            item.size, item.checksum = found.size, found.checksum
            item.content_type, item.outcome = found.content_type, Outcome.PRESENT
            return
        stored = self._stored
        if self._order.verify or len(source.frames) > MAX_DIRECT_FRAMES:
            if not self._order.verify and not self._store_frames(item, source, budget):
                return
            stored = StoredFrames({frame.image_frame_id for frame in source.frames})
        written = self._output.writer.write(image_set, source, stored, self._order.version_id, budget)
        item.size, item.checksum = written.size, written.checksum
        item.content_type, item.outcome = DICOM_FILE, Outcome.COPIED

    def _store_frames(self, item: ExportedInstance, source: InstanceSource, budget: TimeBudget) -> bool:
        """Store the frames of an instance; return whether all are stored. The item gets the outcome of a failure."""
        frames = [_new_frame(self._order.image_set, entry) for entry in source.frames]

        def copy(frame: ExportedFrame) -> Problem | None:
            frame_id = frame.entry.image_frame_id
            return self._output.copier.copy(
                frame,
                self._order.image_set,
                budget,
                may_be_stored=frame_id in self._stored.present,
                is_mismatched=frame_id in self._stored.mismatched,
                verify=self._order.verify,
            )

        _raise_missing(list(self._output.threads.map(copy, frames)))
        self.has_progressed |= any(frame.outcome == Outcome.COPIED for frame in frames)
        failed = next((frame for frame in frames if frame.outcome is not None and not frame.stored), None)
        if failed:
            item.outcome, item.detail = failed.outcome, failed.detail
        return all(frame.stored for frame in frames)


def _raise_missing(problems: list[Problem | None]) -> None:
    for problem in problems:
        if isinstance(problem, FrameNotFound):
            raise problem


def _new_instance(image_set: ImageSetRef, source: InstanceSource) -> ExportedInstance:
    return ExportedInstance(source.sop_instance_uid, instance_key(image_set, source.name), len(source.frames))
