"""The function behind the export queue and the deferred store queue."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response

from framegate.aws import clients
from framegate.aws.export_queue import ExportQueue
from framegate.delivery.deferred_store import DeferredStoreQueue, DeferredStoreWorker
from framegate.dicomweb.study_lists import StudyLists
from framegate.entrypoints.export_parts import ExportParts
from framegate.export.report import report_not_understood, report_unforeseen
from framegate.export.worker import ExportWorker, Message, hide_while_working, retried
from framegate.index.frame_index import FrameIndex
from framegate.messages import DEFERRED_STORE_MESSAGES, EXPORT_MESSAGES, QueueMessage, UnknownMessageError
from framegate.observability import count_cold_start
from framegate.settings import ExportQueueSettings, ExportSettings

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from framegate.storage.object_store import ObjectStore

# An exception for a batch in which every message failed would override the times at which they come again.
_processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)


@dataclass(frozen=True, slots=True)
class _Source:
    """A queue that invokes the function, and the kinds of messages that the function accepts from it."""

    queue: ExportQueue
    accepts: tuple[type[QueueMessage], ...]


@cache
def _worker() -> ExportWorker:
    shared, settings = ExportSettings.from_environment(), ExportQueueSettings.from_environment()

    def studies(objects: ObjectStore) -> StudyLists:
        return StudyLists(objects, shared.uid_hash_secret)

    parts = ExportParts.build(shared, studies)
    deferred_stores = DeferredStoreQueue(parts.objects, ExportQueue(clients.sqs, settings.deferred_store_queue_url))
    return ExportWorker(
        parts.settings,
        parts.source,
        parts.exporter,
        DeferredStoreWorker(parts.source, parts.store, deferred_stores, parts.remover),
        parts.remover,
        FrameIndex(parts.source, parts.objects),
        ExportQueue(clients.sqs, settings.queue_url),
        studies(parts.objects),
        recheck_delay_seconds=settings.removal_recheck_seconds,
    )


def _source_of(event: Any) -> _Source:
    """Return the queue that a batch comes from. All messages of a batch come from one queue."""
    settings = ExportQueueSettings.from_environment()
    sources = (
        _Source(ExportQueue(clients.sqs, settings.queue_url), EXPORT_MESSAGES),
        _Source(ExportQueue(clients.sqs, settings.deferred_store_queue_url), DEFERRED_STORE_MESSAGES),
    )
    arns = {str(record.get("eventSourceARN")) for record in event["Records"]}
    for source in sources:
        if all(map(source.queue.has_arn, arns)):
            return source
    raise UnknownMessageError("The batch comes from a queue that the function does not know.")


def lambda_handler(event: dict[str, Any], context: LambdaContext) -> Any:
    """Process a batch of SQS messages; return the ids of those that have to come again.

    Raises
    ------
    UnknownMessageError
        If the event is not a batch of SQS messages, or comes from another queue than the function's two.
    UnforeseenError
        If the function does not know its queues.
    """
    count_cold_start("export")
    try:
        messages = _receipt_handles(event)
        source = _source_of(event)
    except UnknownMessageError as error:
        report_not_understood("event", str(error))
        raise
    except Exception as error:
        raise report_unforeseen(error) from None
    hide_while_working(source.queue, messages, context.get_remaining_time_in_millis())

    def work(record: SQSRecord) -> None:
        receives = int(record.attributes.approximate_receive_count)
        message = Message(record.message_id, record.body, record.receipt_handle, receives)
        # The worker is built in the block, so that the message is put off even if that fails.
        with retried(source.queue, message):
            _worker().work(message, source.queue, source.accepts, context.get_remaining_time_in_millis())

    return process_partial_response(event=event, record_handler=work, processor=_processor, context=context)


def _receipt_handles(event: Any) -> list[str]:
    """Return the receipt handles of a batch.

    References
    ----------
    AWS Lambda developer guide, "Using Lambda with Amazon SQS": example of a standard queue message event.
    """
    try:
        handles = [record["receiptHandle"] for record in event["Records"] if record["eventSource"] == "aws:sqs"]
    except (KeyError, TypeError):
        handles = []
    if not handles:
        raise UnknownMessageError("The event is not a batch of SQS messages.")
    return handles
