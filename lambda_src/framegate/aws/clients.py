"""The one place that builds AWS sessions and clients, each on first use and then kept."""

from __future__ import annotations

import threading
import time
from functools import cache
from typing import TYPE_CHECKING, Any

import botocore.session

from framegate.aws.connections import has_idled_too_long

if TYPE_CHECKING:
    import boto3
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

S3_CONNECTIONS = 4
"""Calls of S3 that one request can have under way: the parts of an upload (object_writer.py), and one beside them."""


@cache
def session() -> botocore.session.Session:
    """The session that holds credentials and Region."""
    return botocore.session.get_session()


@cache
def s3(connections: int = S3_CONNECTIONS) -> S3Client:
    """The S3 client, with so many connections.

    For pre-signed URLs, SigV4 and the bucket's regional host are asked for by name. botocore still defaults to SigV2,
    which S3 refuses for an object encrypted with a KMS key, and to the global host, which redirects elsewhere with a
    signature that is not good there.
    """
    client: S3Client = _client(
        "s3",
        signature_version="s3v4",
        s3={"addressing_style": "virtual", "us_east_1_regional_endpoint": "regional"},
        max_pool_connections=connections,
    )
    return client


@cache
def sqs() -> SQSClient:
    """The SQS client."""
    client: SQSClient = _client("sqs")
    return client


@cache
def events() -> EventBridgeClient:
    """The EventBridge client."""
    client: EventBridgeClient = _client("events")
    return client


@cache
def _boto3_session() -> boto3.Session:
    """boto3's session on ours. Just one: a second one adds its methods to S3's clients again, and fails."""
    # It costs tens of milliseconds to import, and most requests to the REST API need none of its clients.
    import boto3

    return boto3.Session(botocore_session=session())


def _client(service: str, **options: Any) -> Any:
    from botocore.config import Config

    retries = {"mode": "standard", "total_max_attempts": 2}
    config = Config(connect_timeout=2, read_timeout=5, tcp_keepalive=True, retries=retries, **options)  # type: ignore[arg-type]
    client = _boto3_session().client(service, config=config)  # type: ignore[call-overload]
    client.meta.events.register("before-send", _IdleConnections(client).before_send)
    return client


class _IdleConnections:
    """Closes a client's connections before a call, if none was made for so long that they may be dead."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._called_at = time.time()
        self._lock = threading.Lock()

    def before_send(self, **_: Any) -> None:
        """Take botocore's event ``before-send``, which comes before each attempt at a call."""
        with self._lock:
            if has_idled_too_long(self._called_at):
                # The client connects anew with the next call; connections in use go on.
                self._client.close()
            self._called_at = time.time()
