"""The emulator: the service behind its HTTP server, to start, fill and stop."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal, Self

from local.health_imaging.server import Server, serve
from local.health_imaging.service import HealthImagingService
from local.health_imaging.throttling import DOCUMENTED_QUOTAS, Throttles

if TYPE_CHECKING:
    from collections.abc import Callable


class HealthImagingEmulator(HealthImagingService):
    """AWS HealthImaging on 127.0.0.1, while its ``with`` block runs.

    To call it with boto3, set ``AWS_ENDPOINT_URL_MEDICAL_IMAGING`` to its `url` and
    ``AWS_DISABLE_HOST_PREFIX_INJECTION`` to ``true``.

    Parameters
    ----------
    port : int
        The port on 127.0.0.1; 0 picks a free one.
    s3 : boto3 S3 client, optional
        The S3 that import jobs read from and write to. Without it, import jobs fail.
    events : boto3 EventBridge client, optional
        Receives the events of data stores, import jobs and image sets.
    event_source : str
        The source of these events.
    account_id, region : str
        The account and Region in ARNs.
    throttles : {"documented"}, optional
        With ``"documented"``, calls above AWS's documented quotas get ThrottlingException.
    clock : callable
        Returns the time in seconds for these quotas; it must be monotonic.

    Attributes
    ----------
    url : str
        The endpoint of the emulator.
    faults : Faults
        The armed faults.
    calls : Calls
        The calls answered so far.

    Examples
    --------
    >>> with HealthImagingEmulator() as emulator:
    ...     frame = emulator.add_frame(emulator.create_datastore("example"), b"pixels", "image/jph")
    ...     emulator.content(frame)
    b'pixels'
    """

    def __init__(
        self,
        *,
        port: int = 0,
        s3: Any = None,
        events: Any = None,
        event_source: str = "aws.medical-imaging",
        account_id: str = "000000000000",
        region: str = "us-east-1",
        throttles: Literal["documented"] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(s3=s3, events=events, event_source=event_source, account_id=account_id, region=region)
        self._server = Server(port, self, Throttles(DOCUMENTED_QUOTAS if throttles else {}, clock))
        self.url = self._server.origin

    def __enter__(self) -> Self:
        self._thread = serve(self._server)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening, end every connection at once, and wait for running import jobs."""
        self._server.close()
        self._thread.join()
        self.importer.close()
