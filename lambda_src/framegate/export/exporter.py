"""Exports an image set: copies its frames to the frame store, and writes a manifest with a line for each frame."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from framegate.access.audit import audited_export
from framegate.bucket_layout import frame_key
from framegate.export.copy_run import CopyRun
from framegate.export.manifest import TRANSIENT, ExportedFrame, Outcome
from framegate.healthimaging.image_set_metadata import FrameEntry, MetadataError, frames_of
from framegate.identifiers import FrameRef, ImageSetRef
from framegate.messages import ExportAnnouncement, ExportOrder, ObjectLocation
from framegate.observability import logger
from framegate.problems import (
    ExportIncomplete,
    FrameNotAvailable,
    FrameNotFound,
    Problem,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamRejected,
    UpstreamTimeout,
    VersionNotFound,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from framegate.access.audit import ExportRead
    from framegate.aws.event_bus import EventBus
    from framegate.export.copying import FrameCopier
    from framegate.export.records import ExportRecords
    from framegate.healthimaging.client import HealthImaging
    from framegate.index.frame_index import FrameIndex
    from framegate.storage.frame_store import FrameStore
    from framegate.storage.image_set_remover import ImageSetRemover
    from framegate.time_budget import TimeBudget

FINISH_SHARE, MAX_FINISH_SECONDS = 0.25, 30.0
"""Share of an invocation's time that is reserved for the manifest and the event, and its maximum in seconds."""


@dataclass(frozen=True, slots=True)
class ExportResult:
    """The result of a finished export.

    Attributes
    ----------
    order : ExportOrder
        The export's order.
    manifest : str or None
        The key of the manifest; None if the export failed before it knew its frames.
    frames : mapping of str to int
        The number of frames that were ``copied``, ``present`` and ``failed``.
    total_bytes : int
        The total size of the stored frames.
    missing : int
        The number of failed frames that a later attempt may copy.
    problem : Problem or None
        Why the image set could not be exported at all.
    """

    order: ExportOrder
    manifest: str | None = None
    frames: dict[str, int] = field(default_factory=lambda: {"copied": 0, "present": 0, "failed": 0})
    total_bytes: int = 0
    missing: int = 0
    problem: Problem | None = None

    @property
    def completed(self) -> bool:
        """Whether every frame is stored."""
        return self.problem is None and not self.frames["failed"]

    def announcement(self, bucket: str) -> ExportAnnouncement:
        """The announcement of the result; `bucket` holds the manifest."""
        order = self.order
        return ExportAnnouncement(
            order.image_set,
            order.version_id,
            order.export_id,
            self.completed,
            self.problem.slug if self.problem else None,
            ObjectLocation(bucket, self.manifest) if self.manifest else None,
            self.frames,
            self.total_bytes,
        )


class Exporter:
    """Exports image sets.

    Parameters
    ----------
    source : HealthImaging
        Provides the metadata of image sets.
    store : FrameStore
        Lists the frames that are stored already.
    copier : FrameCopier
        Copies single frames.
    records : ExportRecords
        Stores manifests and progress.
    index : FrameIndex
        Gets the list of frames, so that the first request for it needs no call.
    remover : ImageSetRemover
        Removes an image set that turns out to be deleted.
    bus : EventBus
        Announces that an export has ended.
    workers : int
        Number of threads that copy frames.
    """

    def __init__(
        self,
        source: HealthImaging,
        store: FrameStore,
        copier: FrameCopier,
        records: ExportRecords,
        index: FrameIndex,
        remover: ImageSetRemover,
        bus: EventBus,
        workers: int,
    ) -> None:
        self._source = source
        self._store = store
        self._copier = copier
        self._records = records
        self._index = index
        self._remover = remover
        self._bus = bus
        self._workers = workers

    def export(
        self, order: ExportOrder, budget: TimeBudget, *, last_attempt: bool = False
    ) -> ExportResult | ExportOrder:
        """Export an image set, or as much of it as the time allows.

        Parameters
        ----------
        order : ExportOrder
            The export's order.
        budget : TimeBudget
            The time for this invocation.
        last_attempt : bool
            Whether to return the result even if a later attempt may copy more frames.

        Returns
        -------
        ExportResult or ExportOrder
            The result; or, if the time was too short, the order with which the next invocation continues.

        Raises
        ------
        ExportIncomplete
            The manifest is written, but frames are missing that a later attempt may copy.
        Problem
            HealthImaging, S3 or EventBridge failed. A later attempt may succeed; no frame is lost.
        """
        try:
            result = self._export(order, budget)
        except _ImageSetDeletedError:
            # This export may have stored frames after the deletion's event was processed. Nothing else removes them.
            self._remover.remove(order.image_set, budget)
            return self.give_up(order, FrameNotFound())
        except (VersionNotFound, UpstreamRejected, UpstreamRefused) as problem:
            return self.give_up(order, problem)
        if isinstance(result, ExportResult):
            self._announce(result)
            if result.missing and not last_attempt:
                raise ExportIncomplete(result.missing)
        return result

    def give_up(self, order: ExportOrder, problem: Problem) -> ExportResult:
        """Announce that an image set cannot be exported, and why."""
        result = ExportResult(order, problem=problem)
        self._announce(result)
        return result

    def _export(self, order: ExportOrder, budget: TimeBudget) -> ExportResult | ExportOrder:
        with audited_export(order.image_set, version_id=order.version_id) as read:
            outcome = self._copy_and_record(order, read, budget)
            completed = isinstance(outcome, ExportResult) and outcome.completed
            read.status = "completed" if completed else "incomplete"
        return outcome

    def _copy_and_record(self, order: ExportOrder, read: ExportRead, budget: TimeBudget) -> ExportResult | ExportOrder:
        work = budget.share(budget.remaining() - min(MAX_FINISH_SECONDS, FINISH_SHARE * budget.remaining()))
        frames = self._frames_of(order, work)
        if self._copy_all(order, frames, read, work):
            progress = self._records.save_progress(order.image_set, frames, budget)
            outcome: ExportResult | ExportOrder = replace(order, progress=progress)
        else:
            manifest = self._records.write_manifest(order.image_set, order.export_id, frames, budget)
            self._require_not_deleted(order.image_set, frames, budget)
            outcome = _result(order, manifest, frames)
        if order.progress:
            self._records.remove_progress(order.progress, budget)
        return outcome

    def _frames_of(self, order: ExportOrder, budget: TimeBudget) -> list[ExportedFrame]:
        if order.progress:
            try:
                return self._records.load_progress(order.progress, budget)
            except KeyError:
                # SQS delivered the message again after the export had ended. The frames are found in the store.
                pass
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
        try:
            return self._source.fetch_metadata(order.image_set, order.version_id, _entries_of, budget)
        except FrameNotFound:
            if order.version_id and self._source.has_image_set(order.image_set, budget):
                raise VersionNotFound from None
            raise _ImageSetDeletedError from None

    def _store_index(self, order: ExportOrder, entries: list[FrameEntry], budget: TimeBudget) -> None:
        if order.version_id is None or any(entry.transfer_syntax_uid is None for entry in entries):
            # Only a frame itself would tell its media type.
            return
        try:
            self._index.store(order.image_set, order.version_id, entries, budget)
        except Problem as problem:
            # The first request for the index builds it.
            logger.warning("frame index not stored", extra=problem.log_fields)

    def _copy_all(self, order: ExportOrder, frames: list[ExportedFrame], read: ExportRead, budget: TimeBudget) -> int:
        """Copy the unfinished frames; return how many still have no outcome.

        Raises
        ------
        Problem
            If no frame got an outcome. An invocation that followed at once would make no progress either.
        """
        unfinished = [frame for frame in frames if frame.is_unfinished]
        if not unfinished:
            return 0
        stored = set(self._store.names(order.image_set, budget))
        mismatched = set(self._store.mismatched_names(order.image_set, budget))
        run = CopyRun(unfinished, lambda frame: self._copy(order, frame, stored, mismatched, budget), budget)
        try:
            run.run(self._workers)
        finally:
            copied = [frame for frame in unfinished if frame.outcome == Outcome.COPIED]
            read.frames, read.bytes = len(copied), sum(frame.size or 0 for frame in copied)
        remaining = sum(frame.outcome is None for frame in unfinished)
        if remaining == len(unfinished):
            raise run.problem or UpstreamTimeout("HealthImaging")
        return remaining

    def _copy(
        self, order: ExportOrder, frame: ExportedFrame, stored: set[str], mismatched: set[str], budget: TimeBudget
    ) -> Problem | None:
        frame_id = frame.entry.image_frame_id
        problem = self._copier.copy(
            frame,
            order.image_set,
            budget,
            may_be_stored=frame_id in stored,
            is_mismatched=frame_id in mismatched,
            verify=order.verify,
        )
        if isinstance(problem, FrameNotFound) and not self._source.has_image_set(order.image_set, budget):
            raise _ImageSetDeletedError
        return problem

    def _require_not_deleted(self, image_set: ImageSetRef, frames: list[ExportedFrame], budget: TimeBudget) -> None:
        """Raise an error if the image set was deleted before the export had stored everything.

        The check fetches the smallest frame instead of the metadata: HealthImaging allows an account 1000 calls of
        GetImageFrame a second, but only 50 of GetImageSetMetadata.
        """
        stored = [frame for frame in frames if frame.stored]
        if stored:
            smallest = min(stored, key=lambda frame: frame.size or 0)
            ref = FrameRef(image_set.datastore_id, image_set.image_set_id, smallest.entry.image_frame_id)
            try:
                self._source.fetch(ref, lambda _: None, budget)
            except (FrameNotFound, FrameNotAvailable, UpstreamRejected, UpstreamRefused):
                pass
            else:
                return
        if not self._source.has_image_set(image_set, budget):
            raise _ImageSetDeletedError

    def _announce(self, result: ExportResult) -> None:
        announcement = result.announcement(self._records.bucket)
        self._bus.announce(announcement.detail_type, announcement.to_json())


class _ImageSetDeletedError(Exception):
    """The image set no longer exists."""


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


def _result(order: ExportOrder, manifest: str, frames: list[ExportedFrame]) -> ExportResult:
    outcomes = Counter(str(frame.outcome) if frame.stored else "failed" for frame in frames)
    return ExportResult(
        order,
        manifest,
        {name: outcomes[name] for name in ("copied", "present", "failed")},
        sum(frame.size or 0 for frame in frames if frame.stored),
        sum(frame.outcome in TRANSIENT for frame in frames),
    )
