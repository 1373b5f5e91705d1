"""Processes the messages of the table queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from framegate.bucket_layout import EXPORT_PREFIX, table_homes_prefix
from framegate.export.invocation import work_budget
from framegate.export.report import report_failure, report_not_understood, report_unforeseen
from framegate.identifiers import ImageSetRef, is_identifier
from framegate.messages import (
    MAX_IMAGE_SETS_PER_MESSAGE,
    ObjectChanged,
    RefreshTables,
    UnknownMessageError,
    UpdateTables,
    decode,
    encode,
)
from framegate.observability import logger
from framegate.problems import Problem
from framegate.table_schema import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from framegate.aws.export_queue import ExportQueue
    from framegate.export.worker import Message
    from framegate.storage.object_store import ObjectStore
    from framegate.tables.updater import TableUpdater
    from framegate.time_budget import TimeBudget

REFRESH_SHARE = 0.5
"""Share of an invocation's time after which another message continues the listing of a data store."""


class TableWorker:
    """Processes batches of messages of the table queue.

    Parameters
    ----------
    datastore_ids : collection of str
        The data stores that the deployment serves.
    updater : TableUpdater
        Updates the tables.
    objects : ObjectStore
        The bucket, whose manifests and homes a refresh lists.
    queue : ExportQueue
        The table queue, which gets the messages for later invocations.
    """

    def __init__(
        self, datastore_ids: Collection[str], updater: TableUpdater, objects: ObjectStore, queue: ExportQueue
    ) -> None:
        self._datastore_ids = datastore_ids
        self._updater = updater
        self._objects = objects
        self._queue = queue

    def work(self, messages: Sequence[Message], remaining_ms: int) -> list[Message]:
        """Process a batch of messages, and return those that failed.

        All messages about an image set need one update.

        Parameters
        ----------
        messages : sequence of Message
            The messages.
        remaining_ms : int
            Milliseconds until Lambda ends the invocation.
        """
        budget = work_budget(remaining_ms)
        failed: list[Message] = []
        waiting: list[tuple[Message, tuple[ImageSetRef, ...]]] = []
        for message in messages:
            try:
                waiting.append((message, self._image_sets_of(message, budget)))
            except UnknownMessageError as error:
                report_not_understood("message", str(error), receives=message.receives)
                failed.append(message)
            except Problem as problem:
                report_failure(problem, receives=message.receives)
                failed.append(message)
        return failed + self._update(waiting, budget)

    def _image_sets_of(self, message: Message, budget: TimeBudget) -> tuple[ImageSetRef, ...]:
        """Return the image sets that a message names."""
        content = decode(message.body)
        if not isinstance(content, ObjectChanged | UpdateTables | RefreshTables):
            raise UnknownMessageError("The message belongs to another queue.")
        if isinstance(content, RefreshTables):
            self._refresh(content, budget)
            return ()
        image_sets = (content.image_set,) if isinstance(content, ObjectChanged) else content.image_sets
        served = tuple(each for each in image_sets if each.datastore_id in self._datastore_ids)
        if len(served) < len(image_sets):
            logger.error("data store not served", extra={"image_sets": len(image_sets) - len(served)})
        return served

    def _update(self, waiting: Sequence[tuple[Message, tuple[ImageSetRef, ...]]], budget: TimeBudget) -> list[Message]:
        try:
            result = self._updater.update((each for _, image_sets in waiting for each in image_sets), budget)
        except Exception as error:
            report_unforeseen(error)
            return [message for message, image_sets in waiting if image_sets]
        for image_set, problem in result.failed.items():
            report_failure(problem, datastore_id=image_set.datastore_id, image_set_id=image_set.image_set_id)
        logger.info(
            "tables updated",
            extra={
                "written": result.written,
                "removed": result.removed,
                "unchanged": result.unchanged,
                "failed": len(result.failed),
                "unfinished": len(result.unfinished),
            },
        )
        # Too short a time is no failure of the message, which would count towards the dead-letter queue.
        self._send(result.unfinished)
        return [message for message, image_sets in waiting if not result.failed.keys().isdisjoint(image_sets)]

    def _refresh(self, refresh: RefreshTables, budget: TimeBudget) -> None:
        """Send messages for every image set of a data store that has a manifest or a home."""
        if refresh.datastore_id not in self._datastore_ids:
            logger.error("data store not served", extra={"datastore_id": refresh.datastore_id})
            return
        listing = budget.share(REFRESH_SHARE * budget.remaining())
        batch: list[ImageSetRef] = []
        for key, image_set in self._image_sets(refresh, budget):
            batch.append(image_set)
            if len(batch) == MAX_IMAGE_SETS_PER_MESSAGE:
                self._send(batch)
                batch.clear()
                if listing.exhausted:
                    self._queue.send(encode(RefreshTables(refresh.datastore_id, key)))
                    return
        self._send(batch)

    def _image_sets(self, refresh: RefreshTables, budget: TimeBudget) -> Iterator[tuple[str, ImageSetRef]]:
        """Yield each image set that has a manifest or a home, with a key that sorts after all of its objects."""
        datastore_id = refresh.datastore_id
        for prefix in (f"{EXPORT_PREFIX}{datastore_id}/", table_homes_prefix(SCHEMA, datastore_id)):
            if refresh.after > prefix and not refresh.after.startswith(prefix):
                continue
            found = ""
            for name in self._objects.names(prefix, budget, refresh.after.removeprefix(prefix)):
                image_set_id = name.partition("/")[0].removesuffix(".json")
                if image_set_id != found and is_identifier(image_set_id):
                    # The names of its objects continue with a slash or a dot.
                    yield f"{prefix}{image_set_id}0", ImageSetRef(datastore_id, image_set_id)
                found = image_set_id

    def _send(self, image_sets: Iterable[ImageSetRef]) -> None:
        remaining = list(image_sets)
        for start in range(0, len(remaining), MAX_IMAGE_SETS_PER_MESSAGE):
            self._queue.send(encode(UpdateTables(tuple(remaining[start : start + MAX_IMAGE_SETS_PER_MESSAGE]))))
