"""Exports an image set: stores its frames or DICOM files, and writes a manifest with a line for each."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from framegate.access.audit import audited_export
from framegate.export.copy_run import CopyRun
from framegate.export.manifest import TRANSIENT, Exported, ExportedFrame, Outcome
from framegate.export.outputs import ImageSetDeletedError
from framegate.identifiers import FrameRef, ImageSetRef
from framegate.messages import ExportAnnouncement, ExportOrder, ObjectLocation
from framegate.problems import (
    DicomFilesOff,
    ExportIncomplete,
    FrameNotAvailable,
    FrameNotFound,
    Problem,
    UpstreamRefused,
    UpstreamRejected,
    UpstreamTimeout,
    VersionNotFound,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from framegate.access.audit import ExportRead
    from framegate.aws.event_bus import EventBus
    from framegate.dicomweb.study_lists import StudyLists
    from framegate.export.outputs import Job, Output
    from framegate.export.records import ExportRecords
    from framegate.healthimaging.client import HealthImaging
    from framegate.messages import ExportOutput
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
        The total size of the stored frames or DICOM files.
    missing : int
        The number of failed frames or DICOM files that a later attempt may store.
    problem : Problem or None
        Why the image set could not be exported at all.
    instances : mapping of str to int, or None
        The number of DICOM files that were ``copied``, ``present`` and ``failed``; None if the export stored frames.
    """

    order: ExportOrder
    manifest: str | None = None
    frames: dict[str, int] = field(default_factory=lambda: {"copied": 0, "present": 0, "failed": 0})
    total_bytes: int = 0
    missing: int = 0
    problem: Problem | None = None
    instances: dict[str, int] | None = None

    @property
    def completed(self) -> bool:
        """Whether every frame or DICOM file is stored."""
        return self.problem is None and not self.frames["failed"] and not (self.instances or {}).get("failed")

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
            self.instances,
        )


class Exporter:
    """Exports image sets.

    Parameters
    ----------
    source : HealthImaging
        Provides the metadata of image sets.
    records : ExportRecords
        Stores manifests and progress.
    outputs : mapping of str to Output
        How each output of the deployment is exported. An order for another output fails.
    remover : ImageSetRemover
        Removes an image set that turns out to be deleted.
    bus : EventBus
        Announces that an export has ended.
    workers : int
        Number of threads that copy frames, or write DICOM files.
    studies : StudyLists, optional
        Gets the image sets that are exported on an event, so that the first request by UID needs no search.
    """

    def __init__(
        self,
        source: HealthImaging,
        records: ExportRecords,
        outputs: Mapping[ExportOutput, Output],
        remover: ImageSetRemover,
        bus: EventBus,
        workers: int,
        studies: StudyLists | None = None,
    ) -> None:
        self._source = source
        self._records = records
        self._outputs = outputs
        self._remover = remover
        self._bus = bus
        self._workers = workers
        self._studies = studies

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
        except ImageSetDeletedError:
            # This export may have stored frames after the deletion's event was processed. Nothing else removes them.
            if self._studies:
                self._studies.forget(order.image_set, budget)
            self._remover.remove(order.image_set, budget)
            return self.give_up(order, FrameNotFound())
        except (VersionNotFound, UpstreamRejected, UpstreamRefused, DicomFilesOff) as problem:
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
        job = self._job_of(order, work)
        if self._copy_all(job, read, work):
            progress = self._records.save_progress(order.image_set, job.items, budget)
            outcome: ExportResult | ExportOrder = replace(order, progress=progress)
        else:
            manifest = self._records.write_manifest(order.image_set, order.export_id, job.items, budget)
            self._require_not_deleted(order.image_set, job.items, budget)
            outcome = _result(order, manifest, job.items)
        if order.progress:
            self._records.remove_progress(order.progress, budget)
        return outcome

    def _job_of(self, order: ExportOrder, budget: TimeBudget) -> Job:
        saved: list[Exported] | None = None
        if order.progress:
            # There is none if SQS delivered the message again after the export had ended.
            with suppress(KeyError):
                saved = self._records.load_progress(order.progress, budget)
        output = self._outputs.get(order.output)
        if output is None:
            raise DicomFilesOff
        return output.begin(order, saved, budget)

    def _copy_all(self, job: Job, read: ExportRead, budget: TimeBudget) -> int:
        """Copy the unfinished items; return how many still have no outcome.

        Raises
        ------
        Problem
            If no item got an outcome. An invocation that followed at once would make no progress either.
        """
        unfinished = [item for item in job.items if item.is_unfinished]
        if not unfinished:
            return 0
        job.prepare(budget)
        run = CopyRun(unfinished, lambda item: job.copy(item, budget), budget)
        try:
            run.run(self._workers)
        finally:
            copied = [item for item in unfinished if item.outcome == Outcome.COPIED]
            read.frames, read.bytes = sum(item.frame_count for item in copied), sum(item.size or 0 for item in copied)
        remaining = sum(item.outcome is None for item in unfinished)
        if remaining == len(unfinished) and not job.has_progressed:
            raise run.problem or UpstreamTimeout("HealthImaging")
        return remaining

    def _require_not_deleted(self, image_set: ImageSetRef, items: Sequence[Exported], budget: TimeBudget) -> None:
        """Raise an error if the image set was deleted before the export had stored everything.

        The check fetches the smallest frame, if there is one, instead of the metadata: HealthImaging allows an account
        1000 calls of GetImageFrame a second, but only 50 of GetImageSetMetadata.
        """
        stored = [item for item in items if isinstance(item, ExportedFrame) and item.stored]
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
            raise ImageSetDeletedError

    def _announce(self, result: ExportResult) -> None:
        announcement = result.announcement(self._records.bucket)
        self._bus.announce(announcement.detail_type, announcement.to_json())


def _result(order: ExportOrder, manifest: str, items: Sequence[Exported]) -> ExportResult:
    files: Counter[str] = Counter()
    frames: Counter[str] = Counter()
    for item in items:
        outcome = str(item.outcome) if item.stored else "failed"
        files[outcome] += 1
        frames[outcome] += item.frame_count
    names = ("copied", "present", "failed")
    return ExportResult(
        order,
        manifest,
        {name: frames[name] for name in names},
        sum(item.size or 0 for item in items if item.stored),
        sum(item.outcome in TRANSIENT for item in items),
        instances={name: files[name] for name in names} if order.output == "dicom" else None,
    )
