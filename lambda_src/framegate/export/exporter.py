"""Copies the frames of an image set to the frame store, and leaves a manifest that accounts for every one of them."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from framegate.bucket_layout import frame_key
from framegate.export.manifest import TRANSIENT, ExportedFrame
from framegate.healthimaging.image_set_metadata import FrameEntry, MetadataError, frames_of
from framegate.identifiers import FrameRef, ImageSetRef
from framegate.messages import ExportAnnouncement, ExportOrder, ObjectLocation
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
    from collections.abc import Callable, Iterator

    from framegate.aws.event_bus import EventBus
    from framegate.export.copying import FrameCopier
    from framegate.export.records import ExportRecords
    from framegate.healthimaging.client import HealthImaging
    from framegate.storage.frame_store import FrameStore
    from framegate.storage.image_set_remover import ImageSetRemover
    from framegate.time_budget import TimeBudget

ENDING_SHARE, ENDING_TIME = 0.25, 30.0
"""The share of an invocation's time, and the seconds at most, that are kept for the manifest and the event."""


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What became of an export that is over.

    Attributes
    ----------
    order : ExportOrder
        What was asked for.
    manifest : str or None
        The manifest's key; None if there is nothing to account for.
    frames : mapping of str to int
        How many were ``copied``, ``present`` and ``failed``.
    size : int
        Bytes of the frames that are stored.
    missing : int
        How many of those that failed a later attempt may get.
    problem : Problem or None
        Why the image set could not be exported at all.
    """

    order: ExportOrder
    manifest: str | None = None
    frames: dict[str, int] = field(default_factory=lambda: {"copied": 0, "present": 0, "failed": 0})
    size: int = 0
    missing: int = 0
    problem: Problem | None = None

    @property
    def completed(self) -> bool:
        """Whether every frame is stored."""
        return self.problem is None and not self.frames["failed"]

    def announcement(self, bucket: str) -> ExportAnnouncement:
        """Return the announcement of the result, whose manifest is in a bucket."""
        order = self.order
        return ExportAnnouncement(
            order.image_set,
            order.version_id,
            order.export_id,
            self.completed,
            self.problem.slug if self.problem else None,
            ObjectLocation(bucket, self.manifest) if self.manifest else None,
            self.frames,
            self.size,
        )


class Exporter:
    """Exports image sets.

    Parameters
    ----------
    source : HealthImaging
        Where frames come from, and what image sets are made of.
    store : FrameStore
        Where frames go.
    copier : FrameCopier
        What brings one there.
    records : ExportRecords
        Where manifests go.
    remover : ImageSetRemover
        What takes an image set away again that turns out to be deleted.
    bus : EventBus
        Where it is told that an export is over.
    workers : int
        Frames that are copied at the same time.
    """

    def __init__(
        self,
        source: HealthImaging,
        store: FrameStore,
        copier: FrameCopier,
        records: ExportRecords,
        remover: ImageSetRemover,
        bus: EventBus,
        workers: int,
    ) -> None:
        self._source = source
        self._store = store
        self._copier = copier
        self._records = records
        self._remover = remover
        self._bus = bus
        self._workers = workers

    def export(
        self, order: ExportOrder, budget: TimeBudget, *, last_attempt: bool = False
    ) -> ExportResult | ExportOrder:
        """Export an image set, or as much of it as there is time for.

        Parameters
        ----------
        order : ExportOrder
            What to export.
        budget : TimeBudget
            The time for it.
        last_attempt : bool
            Whether frames that a later attempt may get are given up.

        Returns
        -------
        ExportResult or ExportOrder
            What became of it; or, if the time was not enough, what to call this with next.

        Raises
        ------
        ExportIncomplete
            All is accounted for, and frames are missing that a later attempt may get.
        Problem
            HealthImaging, S3 or EventBridge failed in a way that a later attempt may not; nothing is lost.
        """
        try:
            result = self._export(order, budget)
        except _ImageSetDeletedError:
            # What was stored after the event of its deletion had been worked off would stay for good.
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
        """Say that an image set cannot be exported, and why."""
        result = ExportResult(order, problem=problem)
        self._announce(result)
        return result

    def _export(self, order: ExportOrder, budget: TimeBudget) -> ExportResult | ExportOrder:
        work = budget.share(budget.remaining() - min(ENDING_TIME, ENDING_SHARE * budget.remaining()))
        frames = self._frames_of(order, work)
        if self._copy_all(order, frames, work):
            progress = self._records.save_progress(order.image_set, frames, budget)
            following: ExportResult | ExportOrder = replace(order, progress=progress)
        else:
            manifest = self._records.write_manifest(order.image_set, order.export_id, frames, budget)
            self._make_sure_it_is_not_deleted(order.image_set, frames, budget)
            following = _result(order, manifest, frames)
        if order.progress:
            self._records.remove_progress(order.progress, budget)
        return following

    def _frames_of(self, order: ExportOrder, budget: TimeBudget) -> list[ExportedFrame]:
        if order.progress:
            try:
                return self._records.load_progress(order.progress, budget)
            except KeyError:
                # A message that is delivered again, after all was done: what is stored is found to be there.
                pass
        entries = self._entries(order, budget)
        if order.image_frame_ids is not None:
            wanted = set(order.image_frame_ids)
            entries = [entry for entry in entries if entry.image_frame_id in wanted]
            wanted -= {entry.image_frame_id for entry in entries}
        frames = [_to_do(order.image_set, entry) for entry in entries]
        if order.image_frame_ids is not None:
            frames += [_unknown(order.image_set, each) for each in order.image_frame_ids if each in wanted]
        return frames

    def _entries(self, order: ExportOrder, budget: TimeBudget) -> list[FrameEntry]:
        try:
            return self._source.fetch_metadata(order.image_set, order.version_id, _entries_of, budget)
        except FrameNotFound:
            if order.version_id and self._source.has_image_set(order.image_set, budget):
                raise VersionNotFound from None
            raise _ImageSetDeletedError from None

    def _copy_all(self, order: ExportOrder, frames: list[ExportedFrame], budget: TimeBudget) -> int:
        """Copy what there is to do; return how many frames are left to do.

        Raises
        ------
        Problem
            If it was possible to do nothing at all: going on at once would be going round in circles.
        """
        to_do = [frame for frame in frames if frame.to_do]
        if not to_do:
            return 0
        known = set(self._store.names(order.image_set, budget))
        mismatched = set(self._store.mismatched_names(order.image_set, budget))
        run = _Run(to_do, lambda frame: self._copy(order, frame, known, mismatched, budget), budget)
        count = min(self._workers, len(to_do))
        with ThreadPoolExecutor(count, thread_name_prefix="export") as threads:
            workers = [threads.submit(run.work) for _ in range(count)]
        for worker in workers:
            worker.result()
        left = sum(frame.outcome is None for frame in to_do)
        if left == len(to_do):
            raise run.problem or UpstreamTimeout("HealthImaging")
        return left

    def _copy(
        self, order: ExportOrder, frame: ExportedFrame, known: set[str], mismatched: set[str], budget: TimeBudget
    ) -> Problem | None:
        frame_id = frame.entry.image_frame_id
        problem = self._copier.copy(
            frame,
            order.image_set,
            budget,
            known=frame_id in known,
            mismatched=frame_id in mismatched,
            verify=order.verify,
        )
        if isinstance(problem, FrameNotFound) and not self._source.has_image_set(order.image_set, budget):
            raise _ImageSetDeletedError
        return problem

    def _make_sure_it_is_not_deleted(
        self, image_set: ImageSetRef, frames: list[ExportedFrame], budget: TimeBudget
    ) -> None:
        """Raise if the image set was deleted meanwhile, at a time when all that this export stores was stored.

        The smallest frame is asked for, and not the metadata: HealthImaging allows 1000 calls a second for the one and
        50 for the other.
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
    """The image set is not there any more."""


class _Run:
    """The frames of an export in the hands of several threads, in one invocation."""

    def __init__(
        self, frames: list[ExportedFrame], copy: Callable[[ExportedFrame], Problem | None], budget: TimeBudget
    ) -> None:
        self._frames = iter(frames)
        self._copy = copy
        self._budget = budget
        self._lock = threading.Lock()
        self._stopped = False
        self.problem: Problem | None = None

    def work(self) -> None:
        """Copy frame after frame, until there is none left, no time left, or no sense in it."""
        while (frame := self._next()) is not None:
            try:
                problem = self._copy(frame)
            except BaseException:
                self._stopped = True
                raise
            self.problem = self.problem or problem

    def _next(self) -> ExportedFrame | None:
        with self._lock:
            return None if self._stopped or self._budget.exhausted else next(self._frames, None)


def _entries_of(document: Iterator[bytes]) -> list[FrameEntry]:
    try:
        return list(frames_of(document))
    except MetadataError as error:
        raise UpstreamFailed("HealthImaging", f"sent metadata that {error}") from None


def _to_do(image_set: ImageSetRef, entry: FrameEntry) -> ExportedFrame:
    frame = FrameRef(image_set.datastore_id, image_set.image_set_id, entry.image_frame_id)
    return ExportedFrame(entry, frame_key(frame))


def _unknown(image_set: ImageSetRef, image_frame_id: str) -> ExportedFrame:
    """A frame that was asked for and is not in the metadata."""
    frame = _to_do(image_set, FrameEntry(image_frame_id, None, None))
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
