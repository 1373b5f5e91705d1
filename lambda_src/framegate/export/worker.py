"""Processes the messages of the export function's queues, and decides when failed ones are retried."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from framegate.access.audit import audited_export
from framegate.export.invocation import work_budget
from framegate.export.report import (
    identifiers,
    report_export,
    report_failure,
    report_not_understood,
    report_unforeseen,
)
from framegate.messages import (
    CREATED,
    ExportOrder,
    ImageSetChanged,
    ImageSetDeleted,
    QueueMessage,
    RemoveImageSet,
    StoreFrame,
    UnknownMessageError,
    decode,
    encode,
)
from framegate.observability import logger, stack_of
from framegate.problems import (
    DatastoreNotServed,
    FrameNotAvailable,
    FrameNotFound,
    Problem,
    UpstreamRefused,
    UpstreamRejected,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from framegate.aws.export_queue import ExportQueue
    from framegate.delivery.deferred_store import DeferredStoreWorker
    from framegate.dicomweb.study_lists import StudyLists
    from framegate.export.exporter import Exporter
    from framegate.healthimaging.client import HealthImaging
    from framegate.identifiers import ImageSetRef
    from framegate.index.frame_index import FrameIndex
    from framegate.settings import ExportSettings
    from framegate.storage.image_set_remover import ImageSetRemover
    from framegate.time_budget import TimeBudget

MIN_WORK_SECONDS = 5.0
"""Below this, the message goes back to the queue untouched."""

MIN_RETRY_SECONDS, MAX_RETRY_SECONDS = 20, 900
"""Delays after which a failed message is retried: after the first failure, and at most."""

KILLED_RETRY_SECONDS = 10
"""Delay after the end of an invocation before the messages of a killed function become visible again."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message from the queue, with the number of times that it was received."""

    id: str
    body: str
    receipt_handle: str
    receives: int


@contextmanager
def retried(queue: ExportQueue, message: Message) -> Iterator[None]:
    """Log and count an error of the block, and set the delay after which the message is retried.

    The delay grows with each failure, and is shorter than the visibility timeout of the queue.

    Raises
    ------
    Problem, UnknownMessageError
        If the block raises them.
    UnforeseenError
        If the block raises any other error.
    """
    logger.set_correlation_id(message.id)
    try:
        yield
    except Problem as problem:
        report_failure(problem, receives=message.receives)
        put_off(queue, message)
        raise
    except UnknownMessageError as error:
        report_not_understood("message", str(error), receives=message.receives)
        put_off(queue, message)
        raise
    except Exception as error:
        unforeseen = report_unforeseen(error, receives=message.receives)
        put_off(queue, message)
        raise unforeseen from None


def put_off(queue: ExportQueue, message: Message) -> None:
    """Set the delay after which a failed message is retried. It grows with each failure."""
    with _without_visibility_change():
        queue.put_off(message.receipt_handle, retry_seconds(message.receives))


def put_all_off(queue: ExportQueue, messages: Sequence[Message]) -> None:
    """Set the delay after which up to 10 failed messages are retried, in one call."""
    with _without_visibility_change():
        queue.hide([each.receipt_handle for each in messages], max(retry_seconds(each.receives) for each in messages))


def retry_seconds(receives: int) -> int:
    """Return the delay after which a message is retried that was received this many times."""
    return min(MAX_RETRY_SECONDS, MIN_RETRY_SECONDS << min(receives - 1, 10))


def hide_while_working(queue: ExportQueue, receipt_handles: Sequence[str], remaining_ms: int) -> None:
    """Make messages visible again soon after this invocation, in case the function is killed before it returns.

    A function that runs out of memory or time cannot set the delay. Without this call, its messages would stay hidden
    for the visibility timeout of the queue, which is six times as long as an invocation.
    """
    with _without_visibility_change():
        queue.hide(receipt_handles, remaining_ms // 1000 + KILLED_RETRY_SECONDS)


@contextmanager
def _without_visibility_change() -> Iterator[None]:
    """Continue if SQS fails: the message then becomes visible at the end of its visibility timeout."""
    try:
        yield
    except Problem as problem:
        logger.warning("visibility timeout not changed", extra=problem.log_fields)
    except Exception as error:
        fields = {"error": type(error).__name__, "stack": stack_of(error)}
        logger.warning("visibility timeout not changed", extra=fields)


class ExportWorker:
    """Processes messages.

    Parameters
    ----------
    settings : ExportSettings
        The data stores that are served, the events that start an export, and whether such exports are verified.
    source : HealthImaging
        Knows whether an image set is deleted.
    exporter : Exporter
        Exports image sets.
    frames : DeferredStoreWorker
        Stores single frames.
    remover : ImageSetRemover
        Removes deleted image sets.
    index : FrameIndex
        Learns about new versions.
    queue : ExportQueue
        The export queue, which receives the messages for later invocations.
    studies : StudyLists
        Forgets deleted image sets.
    recheck_delay_seconds : int
        Seconds until a deleted image set is removed a second time. A request that started before the deletion may still
        be storing a frame for this long.
    """

    def __init__(
        self,
        settings: ExportSettings,
        source: HealthImaging,
        exporter: Exporter,
        frames: DeferredStoreWorker,
        remover: ImageSetRemover,
        index: FrameIndex,
        queue: ExportQueue,
        studies: StudyLists,
        *,
        recheck_delay_seconds: int,
    ) -> None:
        self._settings = settings
        self._source = source
        self._exporter = exporter
        self._frames = frames
        self._remover = remover
        self._index = index
        self._queue = queue
        self._studies = studies
        self._recheck_delay_seconds = recheck_delay_seconds
        self._handlers: dict[type[QueueMessage], Callable[[Any, TimeBudget], object]] = {
            ImageSetChanged: self._on_image_set_changed,
            ImageSetDeleted: self._on_image_set_deleted,
            ExportOrder: self._export,
            RemoveImageSet: self._remove,
            StoreFrame: self._store,
        }

    def work(
        self, message: Message, queue: ExportQueue, accepts: Collection[type[QueueMessage]], remaining_ms: int
    ) -> None:
        """Process a message.

        Parameters
        ----------
        message : Message
            The message.
        queue : ExportQueue
            The queue that it comes from.
        accepts : collection of type
            The kinds of messages that may come from that queue.
        remaining_ms : int
            Milliseconds until Lambda ends the invocation.

        Raises
        ------
        Problem, UnknownMessageError
            Processing failed, or the message has an unknown form or belongs to another queue. It is retried, and then
            goes to the dead-letter queue.
        """
        work = decode(message.body)
        if type(work) not in accepts:
            raise UnknownMessageError("The message belongs to another queue.")
        budget = work_budget(remaining_ms)
        if budget.remaining() < MIN_WORK_SECONDS:
            queue.send(message.body)
        else:
            self._handlers[type(work)](work, budget)

    def _serves(self, image_set: ImageSetRef) -> bool:
        return image_set.datastore_id in self._settings.datastore_ids

    def _on_image_set_changed(self, changed: ImageSetChanged, budget: TimeBudget) -> None:
        image_set, version_id = changed.image_set, changed.version_id
        # A new image set has no index yet.
        if self._serves(image_set) and changed.change != CREATED:
            self._index.note_version(image_set, version_id, budget)
        if changed.change not in self._settings.events:
            logger.info("image set changed", extra=identifiers(image_set))
        elif self._export(self._order(changed), budget) and version_id:
            self._index.note_version(image_set, version_id, budget, confirmed=True)

    def _order(self, changed: ImageSetChanged) -> ExportOrder:
        return ExportOrder.on_change(changed, verify=self._settings.verify, output=self._settings.output)

    def _on_image_set_deleted(self, deleted: ImageSetDeleted, budget: TimeBudget) -> None:
        self._remove(RemoveImageSet(deleted.image_set, again=False), budget)

    def _export(self, order: ExportOrder, budget: TimeBudget) -> bool:
        """Export an image set, or as much as the time allows; return whether HealthImaging has that version."""
        if self._serves(order.image_set):
            outcome = self._exporter.export(order, budget)
        else:
            outcome = self._exporter.give_up(order, DatastoreNotServed())
        if isinstance(outcome, ExportOrder):
            self._queue.send(encode(outcome))
        report_export(outcome)
        return isinstance(outcome, ExportOrder) or outcome.problem is None

    def _remove(self, removal: RemoveImageSet, budget: TimeBudget) -> None:
        """Remove a deleted image set. HealthImaging must confirm the deletion: anybody may have sent the message."""
        image_set = removal.image_set
        record = identifiers(image_set)
        if not self._serves(image_set):
            logger.error("image set not removed", extra={**record, **DatastoreNotServed().log_fields})
            return
        if self._source.is_deleted(image_set, budget):
            # The objects that tell the lists are removed with the image set.
            self._studies.forget(image_set, budget)
            removed = self._remover.remove(image_set, budget)
            logger.info("image set removed", extra={**record, "objects": removed})
        else:
            logger.warning("image set exists, nothing removed", extra=record)
        if not removal.again:
            recheck = encode(RemoveImageSet(image_set, again=True))
            self._queue.send(recheck, delay_seconds=self._recheck_delay_seconds)

    def _store(self, message: StoreFrame, budget: TimeBudget) -> None:
        frame = message.frame
        record = {**identifiers(frame), "image_frame_id": frame.image_frame_id}
        try:
            if not self._serves(frame):
                raise DatastoreNotServed
            with audited_export(frame, image_frame_id=frame.image_frame_id) as read:
                read.bytes = self._frames.store(frame, budget)
                read.frames, read.status = int(read.bytes > 0), "completed"
        except (DatastoreNotServed, FrameNotFound, UpstreamRejected, FrameNotAvailable, UpstreamRefused) as problem:
            logger.error("frame not stored", extra={**record, **problem.log_fields})
        else:
            logger.info("frame stored", extra=record)
