"""Works off the messages of the export queue, and decides which come again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from framegate.entrypoints.export_parts import RETURN_TIME
from framegate.export.export_messages import (
    ImageSetChange,
    Removal,
    UnknownMessageError,
    order_document,
    parse,
    removal_document,
)
from framegate.export.exporter import ExportOrder
from framegate.export.report import identifiers, report_export, report_failure
from framegate.healthimaging.identifiers import FrameRef
from framegate.observability import logger
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
    from framegate.aws.export_queue import ExportQueue
    from framegate.delivery.deferred_store import HandedOverFrames
    from framegate.export.exporter import Exporter
    from framegate.export.removal import ImageSetRemover
    from framegate.index.frame_index import FrameIndex
    from framegate.settings import ExportSettings

LEAST_TIME = 5.0
"""Seconds below which no work is begun: it goes back to the queue, as good as new."""

FIRST_RETRY, LAST_RETRY = 20, 900
"""Seconds until a message comes again, after it failed once, and after it failed many times."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it came from the queue, for the `receives`-th time."""

    id: str
    body: str
    receipt_handle: str
    receives: int


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
        What has to hear of changes.
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
        logger.set_correlation_id(message.id)
        budget = TimeBudget(remaining_ms / 1000 - RETURN_TIME)
        try:
            if budget.remaining() < LEAST_TIME:
                self._queue.send(json.loads(message.body))
            else:
                self._do(message, budget)
        except Problem as problem:
            report_failure(problem, receives=message.receives)
            self._put_off(message)
            raise
        except UnknownMessageError as error:
            logger.error("message not understood", extra={"reason": str(error), "receives": message.receives})
            self._put_off(message)
            raise

    def _do(self, message: Message, budget: TimeBudget) -> None:
        match self._read(message.body):
            case ImageSetChange() as change:
                self._heed(change, budget)
            case ExportOrder() as order:
                self._export(order, budget)
            case Removal() as removal:
                self._remove(removal, budget)
            case FrameRef() as frame:
                self._store(frame, budget)

    def _read(self, body: str) -> ImageSetChange | ExportOrder | Removal | FrameRef:
        try:
            document = json.loads(body)
            if not isinstance(document, dict):
                raise UnknownMessageError("The message is not a JSON object.")
            return parse(document, verify=self._settings.verify)
        except InvalidIdentifier as invalid:
            raise UnknownMessageError(invalid.detail) from None
        except ValueError as error:
            raise UnknownMessageError("The message is not JSON.") from error

    def _heed(self, change: ImageSetChange, budget: TimeBudget) -> None:
        self._index.forget_latest(change.order.image_set, budget)
        if change.kind in self._settings.events:
            self._export(change.order, budget)
        else:
            logger.info("image set changed", extra=identifiers(change.order.image_set))

    def _export(self, order: ExportOrder, budget: TimeBudget) -> None:
        if order.image_set.datastore_id in self._settings.datastore_ids:
            outcome = self._exporter.export(order, budget)
        else:
            outcome = self._exporter.give_up(order, DatastoreNotServed())
        if isinstance(outcome, ExportOrder):
            self._queue.send(order_document(outcome))
        report_export(outcome)

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

    def _put_off(self, message: Message) -> None:
        """Let a message come again soon, and later each time, instead of at the end of its visibility timeout."""
        seconds = min(LAST_RETRY, FIRST_RETRY * 2 ** (message.receives - 1))
        try:
            self._queue.put_off(message.receipt_handle, seconds)
        except Problem as problem:
            logger.warning("message not put off", extra={"problem": problem.slug, **problem.evidence})
