"""The SQS queues that the export function reads: the export queue and the deferred store queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from framegate.aws.errors import botocore_problems

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mypy_boto3_sqs import SQSClient

SERVICE = "SQS"


class ExportQueue:
    """Sends messages to a queue of the export function and changes when received messages return.

    Parameters
    ----------
    client : callable
        Returns the SQS client; called on first use.
    url : str
        The queue's URL.

    Notes
    -----
    Every method raises `UpstreamFailed` or `Throttled` if SQS rejects the call or cannot be reached.
    """

    def __init__(self, client: Callable[[], SQSClient], url: str) -> None:
        self._client = client
        self._url = url

    def has_arn(self, arn: str) -> bool:
        """Whether an ARN is this queue's, judged by account and name.

        References
        ----------
        Amazon SQS developer guide, "Queue and message identifiers": both end with the account and the name.
        """
        return arn.split(":")[-2:] == self._url.split("/")[-2:]

    def send(self, body: str, delay_seconds: int = 0) -> None:
        """Send a message that becomes visible after `delay_seconds`, 900 at most."""
        with botocore_problems(SERVICE):
            self._client().send_message(QueueUrl=self._url, MessageBody=body, DelaySeconds=delay_seconds)

    def hide(self, receipt_handles: Sequence[str], seconds: int) -> None:
        """Set the visibility timeout of up to 10 received messages to `seconds` from now.

        A message for which that fails keeps its visibility timeout.
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
        """Return a received message to the queue after `seconds`, whatever its visibility timeout is."""
        with botocore_problems(SERVICE):
            self._client().change_message_visibility(
                QueueUrl=self._url, ReceiptHandle=receipt_handle, VisibilityTimeout=seconds
            )
