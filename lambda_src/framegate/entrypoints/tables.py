"""The function that keeps the tables of exported instances and frames up to date."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from framegate.aws import clients
from framegate.aws.export_queue import ExportQueue
from framegate.dicomweb.uids import instance_hash
from framegate.export.pace import Pace
from framegate.export.report import report_not_understood, report_unforeseen
from framegate.export.worker import Message, put_all_off
from framegate.healthimaging.client import HealthImaging
from framegate.messages import UnknownMessageError
from framegate.observability import count_cold_start
from framegate.settings import TableSettings
from framegate.storage.object_store import ObjectStore
from framegate.tables.updater import TableUpdater
from framegate.tables.worker import TableWorker

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

THREADS = 8
"""Image sets that one invocation reads at the same time."""

S3_CALLS = 12
"""Calls of S3 at the same time: one for each thread, and some for the parts of files."""

CALLS_PER_SECOND = 10.0
"""Calls of GetImageSetMetadata a second. Two invocations leave more than half of the account's 50 to exports and to
the API (AWS HealthImaging developer guide, "Endpoints and quotas")."""


MESSAGES_PER_CALL = 10
"""Maximum number of messages whose visibility timeout one call changes (Amazon SQS API reference,
``ChangeMessageVisibilityBatch``)."""

MIN_PUT_OFF_MS = 1000
"""Below this, the function returns without putting off further messages."""


@cache
def _queue() -> ExportQueue:
    return ExportQueue(clients.sqs, TableSettings.from_environment().queue_url)


@cache
def _worker() -> TableWorker:
    settings = TableSettings.from_environment()
    s3 = partial(clients.s3, S3_CALLS)
    # Build the client now: boto3 cannot build one in several threads at once.
    s3()
    calls = ThreadPoolExecutor(S3_CALLS, thread_name_prefix="s3")
    objects = ObjectStore(clients.session(), s3, settings.frame_bucket, calls, S3_CALLS)
    updater = TableUpdater(
        HealthImaging(clients.session(), max_connections=THREADS),
        objects,
        Pace(CALLS_PER_SECOND),
        ThreadPoolExecutor(THREADS, thread_name_prefix="tables"),
        partial(instance_hash, settings.uid_hash_secret),
        settings.identifying_columns,
    )
    return TableWorker(settings.datastore_ids, updater, objects, _queue())


def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Process a batch of SQS messages; return the ids of those that have to come again.

    Raises
    ------
    UnknownMessageError
        If the event is not a batch of SQS messages.
    UnforeseenError
        If the function cannot start.

    References
    ----------
    AWS Lambda developer guide, "Using Lambda with Amazon SQS": "Reporting batch item failures".
    """
    count_cold_start("tables")
    try:
        messages = [_message(record) for record in event["Records"]]
    except (KeyError, TypeError, ValueError):
        report_not_understood("event", "The event is not a batch of SQS messages.")
        raise UnknownMessageError("The event is not a batch of SQS messages.") from None
    try:
        failed = _worker().work(messages, context.get_remaining_time_in_millis())
    except Exception as error:
        raise report_unforeseen(error) from None
    for start in range(0, len(failed), MESSAGES_PER_CALL):
        # Messages that are not put off come again after the visibility timeout of the queue.
        if context.get_remaining_time_in_millis() > MIN_PUT_OFF_MS:
            put_all_off(_queue(), failed[start : start + MESSAGES_PER_CALL])
    return {"batchItemFailures": [{"itemIdentifier": message.id} for message in failed]}


def _message(record: dict[str, Any]) -> Message:
    receives = int(record["attributes"]["ApproximateReceiveCount"])
    return Message(record["messageId"], record["body"], record["receiptHandle"], receives)
