"""The queue from which the export function works."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from framegate.aws.errors import botocore_problems

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mypy_boto3_sqs import SQSClient

SERVICE = "SQS"


class ExportQueue:
    """The queue, to send to and to put messages off in.

    Parameters
    ----------
    client : callable
        Gives the SQS client; called on first use.
    url : str
        The queue's URL.

    Notes
    -----
    Every method raises `UpstreamFailed` or `Throttled` if SQS does not do as it is asked.
    """

    def __init__(self, client: Callable[[], SQSClient], url: str) -> None:
        self._client = client
        self._url = url

    def send(self, message: dict[str, Any], delay: int = 0) -> None:
        """Send a message that is to be worked off in so many seconds, 900 at most."""
        with botocore_problems(SERVICE):
            self._client().send_message(QueueUrl=self._url, MessageBody=json.dumps(message), DelaySeconds=delay)

    def hide(self, receipt_handles: Sequence[str], seconds: int) -> None:
        """Hide up to 10 received messages for so many seconds from now, in the place of their visibility timeout.

        A message that cannot be hidden keeps its visibility timeout.
        """
        with botocore_problems(SERVICE):
            self._client().change_message_visibility_batch(
                QueueUrl=self._url,
                Entries=[
                    {"Id": str(number), "ReceiptHandle": each, "VisibilityTimeout": seconds}
                    for number, each in enumerate(receipt_handles)
                ],
            )

    def put_off(self, receipt_handle: str, seconds: int) -> None:
        """Let a received message come again in so many seconds, and not when its visibility timeout ends."""
        with botocore_problems(SERVICE):
            self._client().change_message_visibility(
                QueueUrl=self._url, ReceiptHandle=receipt_handle, VisibilityTimeout=seconds
            )
