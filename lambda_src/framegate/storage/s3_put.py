"""Sends objects and parts of uploads to S3, each with its checksum, which S3 verifies."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode
from zlib import crc32

from botocore.auth import UNSIGNED_PAYLOAD, S3SigV4Auth

from framegate.aws.checksums import base64_of
from framegate.aws.errors import is_transient, refusal
from framegate.aws.retries import retry
from framegate.aws.signed_http import SignedHttp, transport_problems

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from botocore.awsrequest import AWSRequest
    from botocore.session import Session
    from mypy_boto3_s3 import S3Client
    from urllib3.response import BaseHTTPResponse

    from framegate.time_budget import TimeBudget

SERVICE = "S3"

SEND_TIMEOUT_SECONDS = 60.0
"""Maximum time for sending a body: enough for 16 MiB from each of 24 workers at 7 MB/s in all."""

MAX_ATTEMPTS = 2
"""Maximum number of attempts at a PUT."""

MAX_ERROR_BODY_BYTES = 16 * 1024
"""Maximum size of an error document that is read."""


@dataclass(frozen=True, slots=True)
class SentPart:
    """A part that S3 has accepted: its entity tag, its size in bytes, and its CRC32."""

    etag: str
    size: int
    checksum: int


class S3Put:
    """A thread-safe client that sends objects and parts to one bucket.

    Parameters
    ----------
    session : botocore.session.Session
        Provides credentials and Region.
    client : callable
        Returns the S3 client, which knows the bucket's URL; called on first use.
    bucket : str
        The bucket's name.
    max_connections : int
        Number of connections to keep open: the number of threads that use this object.
    """

    def __init__(self, session: Session, client: Callable[[], S3Client], bucket: str, max_connections: int = 1) -> None:
        self._client = client
        self._bucket = bucket
        region = session.get_config_variable("region")
        self._http = SignedHttp(
            session, SERVICE, lambda each: _Signer(each, "s3", region), max_connections, SEND_TIMEOUT_SECONDS
        )
        self._base = ""

    def put_object(
        self,
        key: str,
        content: bytes | bytearray,
        headers: Mapping[str, str],
        budget: TimeBudget,
        attempts: int = MAX_ATTEMPTS,
    ) -> int:
        """Store an object; return the CRC32 of its bytes, which S3 has verified.

        Parameters
        ----------
        key : str
            The object's key.
        content : bytes
            Its bytes.
        headers : mapping of str to str
            Additional HTTP headers.
        budget : TimeBudget
            The time for all attempts.
        attempts : int
            Maximum number of attempts. Use 1 for a conditional PUT: after a success whose response was lost, a second
            attempt would fail.

        Raises
        ------
        Throttled, UpstreamFailed, UpstreamTimeout
            If S3 rejects it, cannot be reached, or takes too long.

        References
        ----------
        Amazon S3 API reference, ``PutObject``.
        """
        checksum = crc32(content)
        self._put("PutObject", self._url(key), content, checksum, headers, budget, attempts)
        return checksum

    def upload_part(
        self, key: str, upload_id: str, number: int, content: bytes | bytearray, budget: TimeBudget
    ) -> SentPart:
        """Send a part of a multipart upload. Parts are numbered from 1.

        Raises
        ------
        Throttled, UpstreamFailed, UpstreamTimeout
            If S3 rejects it, cannot be reached, or takes too long.

        References
        ----------
        Amazon S3 API reference, ``UploadPart``.
        """
        query = urlencode({"partNumber": number, "uploadId": upload_id}, quote_via=quote, safe="")
        checksum = crc32(content)
        answer = self._put("UploadPart", f"{self._url(key)}?{query}", content, checksum, {}, budget)
        return SentPart(answer.headers["ETag"], len(content), checksum)

    def _put(
        self,
        operation: str,
        url: str,
        content: bytes | bytearray,
        checksum: int,
        headers: Mapping[str, str],
        budget: TimeBudget,
        attempts: int = MAX_ATTEMPTS,
    ) -> BaseHTTPResponse:
        headers = {**headers, "x-amz-sdk-checksum-algorithm": "CRC32", "x-amz-checksum-crc32": base64_of(checksum)}
        return retry(
            lambda: self._put_once(operation, url, content, headers, budget),
            budget,
            attempts=attempts,
            is_transient=is_transient,
            refresh_credentials=self._http.refresh_credentials,
        )

    def _put_once(
        self, operation: str, url: str, content: bytes | bytearray, headers: Mapping[str, str], budget: TimeBudget
    ) -> BaseHTTPResponse:
        answer = self._http.send("PUT", url, headers, content, budget)
        try:
            with transport_problems(SERVICE):
                document = answer.read(MAX_ERROR_BODY_BYTES)
        finally:
            # A fully read response has returned its connection to the pool already.
            answer.close()
        if answer.status != HTTPStatus.OK:
            raise refusal(SERVICE, operation, answer.status, _code_of(document))
        return answer

    def _url(self, key: str) -> str:
        if not self._base:
            # botocore knows the rules for a bucket's URL: partitions, FIPS and more.
            signed = self._client().generate_presigned_url("head_bucket", Params={"Bucket": self._bucket})
            self._base = signed.partition("?")[0].rstrip("/")
        return f"{self._base}/{quote(key, safe='/~')}"


class _Signer(S3SigV4Auth):
    """Signs everything but the body, which has a signed checksum and travels over TLS.

    References
    ----------
    Amazon S3 API reference, "Authenticating Requests: Using the Authorization Header": ``UNSIGNED-PAYLOAD``.
    """

    def payload(self, request: AWSRequest) -> str:
        return UNSIGNED_PAYLOAD


def _code_of(document: bytes) -> str:
    """Return the error code (Amazon S3 API reference, "Error responses"), empty if there is none."""
    found = re.search(rb"<Code>([\w.]{1,100})</Code>", document)
    return found[1].decode() if found else ""
