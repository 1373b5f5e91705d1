"""Builds AWS sessions and clients, each once and on first use."""

from __future__ import annotations

import threading
import time
from functools import cache
from typing import TYPE_CHECKING, Any

import botocore.session

from framegate.aws.connections import has_idled_too_long
from framegate.aws.presigning import accept_request_ids
from framegate.aws.trust import share_context

if TYPE_CHECKING:
    import boto3
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

S3_CONNECTIONS = 4
"""Concurrent S3 calls of one request: three parts of an upload (``storage/object_writer.py``) and one other call."""


@cache
def session() -> botocore.session.Session:
    """Return the session, which holds credentials and Region."""
    return botocore.session.get_session()


@cache
def s3(connections: int = S3_CONNECTIONS) -> S3Client:
    """Return the S3 client.

    Pre-signed URLs need SigV4 and the bucket's regional host. By default, botocore uses SigV2, which S3 rejects for
    objects that are encrypted with a KMS key, and the global host, whose redirects invalidate the signature.

    Parameters
    ----------
    connections : int
        Number of connections to keep open.
    """
    client: S3Client = _client(
        "s3",
        signature_version="s3v4",
        s3={"addressing_style": "virtual", "us_east_1_regional_endpoint": "regional"},
        max_pool_connections=connections,
    )
    accept_request_ids(client)
    return client


@cache
def sqs() -> SQSClient:
    """Return the SQS client."""
    client: SQSClient = _client("sqs")
    return client


@cache
def events() -> EventBridgeClient:
    """Return the EventBridge client."""
    client: EventBridgeClient = _client("events")
    return client


@cache
def _boto3_session() -> boto3.Session:
    """Return the one boto3 session. A second one would fail, because both add their methods to S3's clients."""
    # The import takes tens of milliseconds, and most requests to the REST API need no client.
    import boto3

    return boto3.Session(botocore_session=session())


def _client(service: str, **options: Any) -> Any:
    from botocore.config import Config

    retries = {"mode": "standard", "total_max_attempts": 2}
    config = Config(connect_timeout=2, read_timeout=5, tcp_keepalive=True, retries=retries, **options)  # type: ignore[arg-type]
    client = _boto3_session().client(service, config=config)  # type: ignore[call-overload]
    share_context(client)
    client.meta.events.register("before-send", _IdleConnections(client).before_send)
    return client


class _IdleConnections:
    """Closes a client's idle connections before a call if they may be dead."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._called_at = time.time()
        self._lock = threading.Lock()

    def before_send(self, **_: Any) -> None:
        """Handle botocore's event ``before-send``, which precedes each attempt at a call."""
        with self._lock:
            if has_idled_too_long(self._called_at):
                # The next call opens a new connection. Connections in use stay open.
                self._client.close()
            self._called_at = time.time()
