"""Calls an S3 bucket in threads, within a time budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from framegate.problems import UpstreamTimeout
from framegate.storage.s3_put import SERVICE

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor, Future

    from mypy_boto3_s3 import S3Client

    from framegate.storage.s3_put import S3Put
    from framegate.time_budget import TimeBudget

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket and the clients that call it.

    Parameters
    ----------
    name : str
        The bucket's name.
    client : callable
        Returns the S3 client; called on first use, because most requests need none.
    put : S3Put
        Sends objects and parts.
    threads : concurrent.futures.Executor
        Runs every S3 call, because waiting for a thread can stop in time, whereas a client has its own timeouts.
    """

    name: str
    client: Callable[[], S3Client]
    put: S3Put
    threads: Executor

    def begin(self, operation: Callable[..., Any], **parameters: Any) -> Future[Any]:
        """Start an operation of the client; do not wait for it."""
        return self.threads.submit(operation, Bucket=self.name, **parameters)

    def call(self, operation: Callable[..., Any], budget: TimeBudget, **parameters: Any) -> Any:
        """Call an operation of the client and return its result.

        Raises
        ------
        UpstreamTimeout
            If the time runs out. The operation continues.
        """
        return result_of(self.begin(operation, **parameters), budget)


def result_of(call: Future[Result], budget: TimeBudget) -> Result:
    """Wait for a call in another thread and return its result.

    Raises
    ------
    UpstreamTimeout
        If the time runs out. The call continues.
    """
    try:
        return call.result(budget.remaining())
    except TimeoutError:
        raise UpstreamTimeout(SERVICE) from None
