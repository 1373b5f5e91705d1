"""One bucket of S3, and the calls of it: in threads, each waited for just as long as there is time."""

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
    """A bucket, and what calls it.

    Parameters
    ----------
    name : str
        Its name.
    client : callable
        Gives the S3 client; called on first use, since most requests need none.
    put : S3Put
        What sends bytes.
    threads : concurrent.futures.Executor
        Where S3 is called, even for one call alone: a thread can be waited for, where a client waits as it likes.
    """

    name: str
    client: Callable[[], S3Client]
    put: S3Put
    threads: Executor

    def begin(self, operation: Callable[..., Any], **parameters: Any) -> Future[Any]:
        """Call an operation of the client, and do not wait for it."""
        return self.threads.submit(operation, Bucket=self.name, **parameters)

    def call(self, operation: Callable[..., Any], budget: TimeBudget, **parameters: Any) -> Any:
        """Call an operation of the client.

        Raises
        ------
        UpstreamTimeout
            If the time runs out. What was begun goes on.
        """
        return result_of(self.begin(operation, **parameters), budget)


def result_of(call: Future[Result], budget: TimeBudget) -> Result:
    """What a call in another thread comes to, if it does in time."""
    try:
        return call.result(budget.remaining())
    except TimeoutError:
        raise UpstreamTimeout(SERVICE) from None
