"""The export queue: sends messages, and changes when a received message is visible again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from framegate.aws.errors import botocore_problems

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mypy_boto3_sqs import SQSClient

SERVICE = "SQS"


class ExportQueue:
    """The export queue.

    Parameters
    ----------
    client : callable
        Returns the SQS client; called on first use.
    url : str
        The queue's URL.

    Notes
    -----
    Every method raises `UpstreamFailed` or `Throttled` if SQS rejects the call.
    """

    def __init__(self, client: Callable[[], SQSClient], url: str) -> None:
        self._client = client
        self._url = url

    def send(self, body: str, delay_seconds: int = 0) -> None:
        """Send a message that becomes visible after `delay_seconds`, 900 at most."""
        with botocore_problems(SERVICE):
            self._client().send_message(QueueUrl=self._url, MessageBody=body, DelaySeconds=delay_seconds)

    def hide(self, receipt_handles: Sequence[str], seconds: int) -> None:
        """Hide up to 10 received messages for `seconds` from now, in place of their visibility timeout.

        A message that SQS cannot hide keeps its visibility timeout.
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
        """Make a received message visible again after `seconds`, in place of its visibility timeout."""
        with botocore_problems(SERVICE):
            self._client().change_message_visibility(
                QueueUrl=self._url, ReceiptHandle=receipt_handle, VisibilityTimeout=seconds
            )
