"""Works off the messages of the export queue, and decides which come again."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from framegate.entrypoints.export_parts import RETURN_TIME
from framegate.export.export_messages import (
    CREATED,
    ImageSetChange,
    Removal,
    UnknownMessageError,
    order_document,
    parse,
    removal_document,
)
from framegate.export.exporter import ExportOrder
from framegate.export.report import (
    identifiers,
    report_export,
    report_failure,
    report_not_understood,
    report_unforeseen,
)
from framegate.identifiers import FrameRef
from framegate.observability import logger, stack_of
from framegate.problems import (
    DatastoreNotServed,
    FrameNotAvailable,
    FrameNotFound,
    InvalidIdentifier,
    Problem,
    UpstreamRefused,
    UpstreamRejected,
)
from framegate.time_budget import TimeBudget

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from framegate.aws.export_queue import ExportQueue
    from framegate.delivery.deferred_store import HandedOverFrames
    from framegate.export.exporter import Exporter
    from framegate.index.frame_index import FrameIndex
    from framegate.settings import ExportSettings
    from framegate.storage.image_set_remover import ImageSetRemover

MIN_WORK_SECONDS = 5.0
"""Below this, the message goes back to the queue untouched."""

MIN_RETRY_SECONDS, MAX_RETRY_SECONDS = 20, 900
"""Seconds until a message comes again: after it failed once, and after it failed many times."""

KILLED_RETRY_SECONDS = 10
"""Seconds after the end of its invocation in which a message comes again that a killed function was working on."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it came from the queue, for the `receives`-th time."""

    id: str
    body: str
    receipt_handle: str
    receives: int


@contextmanager
def retried(queue: ExportQueue, message: Message) -> Iterator[None]:
    """Log and count whatever goes wrong with a message in the block, and have the message come again.

    It comes again soon, and later each time, and not only at the end of its visibility timeout.

    Raises
    ------
    Problem, UnknownMessageError
        As the block does.
    UnforeseenError
        In the place of any other error.
    """
    logger.set_correlation_id(message.id)
    try:
        yield
    except Problem as problem:
        report_failure(problem, receives=message.receives)
        _put_off(queue, message)
        raise
    except UnknownMessageError as error:
        report_not_understood("message", str(error), receives=message.receives)
        _put_off(queue, message)
        raise
    except Exception as error:
        unforeseen = report_unforeseen(error, receives=message.receives)
        _put_off(queue, message)
        raise unforeseen from None


def _put_off(queue: ExportQueue, message: Message) -> None:
    seconds = min(MAX_RETRY_SECONDS, MIN_RETRY_SECONDS * 2 ** min(message.receives - 1, 10))
    with _without_visibility_change():
        queue.put_off(message.receipt_handle, seconds)


def hide_while_working(queue: ExportQueue, receipt_handles: Sequence[str], remaining_ms: int) -> None:
    """Have messages come again soon after this invocation, should the function be killed before it answers.

    A function that runs out of memory or time puts nothing off. Its messages would stay hidden for the queue's own
    visibility timeout, which is six times as long as an invocation.
    """
    with _without_visibility_change():
        queue.hide(receipt_handles, remaining_ms // 1000 + KILLED_RETRY_SECONDS)


@contextmanager
def _without_visibility_change() -> Iterator[None]:
    """Go on if SQS fails: the message then comes again at the end of its visibility timeout."""
    try:
        yield
    except Problem as problem:
        logger.warning("visibility timeout not changed", extra={"problem": problem.slug, **problem.evidence})
    except Exception as error:
        unforeseen = {"error": type(error).__name__, "stack": stack_of(error)}
        logger.warning("visibility timeout not changed", extra=unforeseen)


def _json_object(body: str) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise UnknownMessageError("The message is not JSON.") from None
    if not isinstance(document, dict):
        raise UnknownMessageError("The message is not a JSON object.")
    return document


class ExportWorker:
    """Does what messages ask for.

    Parameters
    ----------
    settings : ExportSettings
        Which data stores are served, which events are exported on, and whether these exports are verified.
    exporter : Exporter
        What exports image sets.
    frames : HandedOverFrames
        What stores single frames.
    remover : ImageSetRemover
        What removes image sets.
    index : FrameIndex
        Must learn about new versions.
    queue : ExportQueue
        Where messages come from, and go to.
    recheck_delay : int
        Seconds after which an image set is removed a second time: as long as a request that began before it was deleted
        may still be storing a frame of it.
    """

    def __init__(
        self,
        settings: ExportSettings,
        exporter: Exporter,
        frames: HandedOverFrames,
        remover: ImageSetRemover,
        index: FrameIndex,
        queue: ExportQueue,
        *,
        recheck_delay: int,
    ) -> None:
        self._settings = settings
        self._exporter = exporter
        self._frames = frames
        self._remover = remover
        self._index = index
        self._queue = queue
        self._recheck_delay = recheck_delay

    def work(self, message: Message, remaining_ms: int) -> None:
        """Work a message off.

        Parameters
        ----------
        message : Message
            The message.
        remaining_ms : int
            Milliseconds until Lambda ends the invocation.

        Raises
        ------
        Problem, UnknownMessageError
            It has to come again, or cannot be understood; in the end, it is for the dead-letter queue.
        """
        budget = TimeBudget(remaining_ms / 1000 - RETURN_TIME)
        document = _json_object(message.body)
        if budget.remaining() < MIN_WORK_SECONDS:
            self._queue.send(document)
        else:
            self._do(document, budget)

    def _do(self, document: dict[str, Any], budget: TimeBudget) -> None:
        match self._parsed(document):
            case ImageSetChange() as change:
                self._on_image_set_changed(change, budget)
            case ExportOrder() as order:
                self._export(order, budget)
            case Removal() as removal:
                self._remove(removal, budget)
            case FrameRef() as frame:
                self._store(frame, budget)

    def _parsed(self, document: dict[str, Any]) -> ImageSetChange | ExportOrder | Removal | FrameRef:
        try:
            return parse(document, verify=self._settings.verify)
        except InvalidIdentifier as invalid:
            raise UnknownMessageError(invalid.detail) from None

    def _on_image_set_changed(self, change: ImageSetChange, budget: TimeBudget) -> None:
        order = change.order
        served = order.image_set.datastore_id in self._settings.datastore_ids
        if served and change.kind != CREATED:
            # The index has nothing of an image set that was just created.
            self._index.note_version(order.image_set, order.version_id, budget)
        if change.kind not in self._settings.events:
            logger.info("image set changed", extra=identifiers(order.image_set))
        elif self._export(order, budget) and order.version_id:
            self._index.note_version(order.image_set, order.version_id, budget, confirmed=True)

    def _export(self, order: ExportOrder, budget: TimeBudget) -> bool:
        """Export an image set, or as much of it as there is time for; return whether HealthImaging has that version."""
        if order.image_set.datastore_id in self._settings.datastore_ids:
            outcome = self._exporter.export(order, budget)
        else:
            outcome = self._exporter.give_up(order, DatastoreNotServed())
        if isinstance(outcome, ExportOrder):
            self._queue.send(order_document(outcome))
        report_export(outcome)
        return isinstance(outcome, ExportOrder) or outcome.problem is None

    def _remove(self, removal: Removal, budget: TimeBudget) -> None:
        removed = self._remover.remove(removal.image_set, budget)
        if not removal.again:
            self._queue.send(removal_document(removal.image_set), delay=self._recheck_delay)
        logger.info("image set removed", extra={**identifiers(removal.image_set), "objects": removed})

    def _store(self, frame: FrameRef, budget: TimeBudget) -> None:
        record = {**identifiers(frame), "image_frame_id": frame.image_frame_id}
        try:
            if frame.datastore_id not in self._settings.datastore_ids:
                raise DatastoreNotServed
            self._frames.store(frame, budget)
        except (DatastoreNotServed, FrameNotFound, UpstreamRejected, FrameNotAvailable, UpstreamRefused) as problem:
            logger.error("frame not stored", extra={**record, "problem": problem.slug, **problem.evidence})
        else:
            logger.info("frame stored", extra=record)
