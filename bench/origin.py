"""Emulates HealthImaging and S3 for measurements: frames in memory, over TLS, on a link with a latency and bandwidth.

It answers only the calls that the bench makes, fast enough not to limit the result. It discards objects written to S3,
unless it is told to keep them.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import multiprocessing
import re
import ssl
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, urlsplit

from botocore.httpsession import get_cert_path

from bench.bucket import MemoryBucket
from framegate.settings import ExportSettings, Settings
from local.certificates import write_certificate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from multiprocessing.connection import Connection

PIECE_BYTES = 16 * 1024
"""Bytes sent at a time if the bandwidth is limited."""

TLS_BYTES = 128 * 1024
"""Bytes encrypted at a time. asyncio encrypts what one call of `write` gets before it sends the first byte."""

MAX_BUFFERED_BYTES = 1024 * 1024
"""Bytes of a request that are held in memory."""

STORED = (
    b'HTTP/1.1 200 OK\r\nContent-Type: image/jph\r\nContent-Length: %d\r\nETag: "1"\r\n'
    b"Last-Modified: Wed, 21 Oct 2026 07:28:00 GMT\r\n\r\n"
)
"""The response to HEAD for a frame that is stored in S3."""

DATASTORE, IMAGE_SET, BUCKET = "d" * 32, "5" * 32, "bench"
STUDY_UID, SERIES_UID, INSTANCE_UID = "1.2", "1.2.1", "1.2.1.1"
"""The instance whose frames are all frames, in their order."""

HTJ2K_RPCL = "1.2.840.10008.1.2.4.202"
"""The transfer syntax of the instances with attributes."""


@dataclass(frozen=True, slots=True)
class Link:
    """The network between a client and the origin.

    Parameters
    ----------
    round_trip : float
        Seconds per round trip. Each response takes one; a new connection takes two more before its first request.
    bandwidth : float
        Bytes per second of one connection; 0 means unlimited.
    """

    round_trip: float = 0.0
    bandwidth: float = 0.0


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame: a block of bytes, repeated. `stored` tells whether S3 has it already."""

    block: bytes
    times: int = 1
    stored: bool = False

    @property
    def size(self) -> int:
        """The size in bytes."""
        return len(self.block) * self.times


class Origin:
    """Both services in a separate process, while the ``with`` block runs.

    Parameters
    ----------
    frames : mapping of str to Frame
        Frames by identifier; all are in one image set.
    link : Link
        The network to the services.
    tls : bool
        Whether to use TLS. Without it, encryption in the origin does not limit throughput on a small machine.
    keeps_objects : bool
        Whether S3 keeps what is written: objects of at most `MAX_BUFFERED_BYTES`, in one piece.
    dataset : mapping, optional
        The DICOM JSON of an instance. With it, each frame is an instance of its own with these attributes; without it,
        all frames are of one instance, which has no other attributes.
    is_multi_frame : bool
        Whether all frames are of one instance, with a `dataset`, too.

    Attributes
    ----------
    url : str
        The endpoint of both services.
    ca_bundle : Path
        The certificates to trust: the SDK's, which take as long to parse as in Lambda, and the origin's.
    """

    url: str

    def __init__(
        self,
        frames: Mapping[str, Frame],
        link: Link | None = None,
        *,
        tls: bool = True,
        keeps_objects: bool = False,
        dataset: Mapping[str, Any] | None = None,
        is_multi_frame: bool = False,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.ca_bundle = Path(self._folder.name) / "trusted.pem"
        certificate_file, key = Path(self._folder.name) / "certificate.pem", Path(self._folder.name) / "key.pem"
        write_certificate(certificate_file, key)
        self.ca_bundle.write_bytes(Path(str(get_cert_path(True))).read_bytes() + certificate_file.read_bytes())
        ours, theirs = multiprocessing.Pipe()
        self._ready = ours
        self._scheme = "https" if tls else "http"
        certificate = (str(certificate_file), str(key)) if tls else None
        services = _Services(
            dict(frames), link or Link(), MemoryBucket() if keeps_objects else None, dataset, is_multi_frame
        )
        arguments = (services, certificate, theirs)
        self._process = multiprocessing.get_context("spawn").Process(target=_serve, args=arguments, daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        # With "localhost", S3 clients would prepend the bucket's name.
        self.url = f"{self._scheme}://127.0.0.1:{self._ready.recv()}"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()
        self._folder.cleanup()

    def environment(self) -> dict[str, str]:
        """The environment variables that point AWS SDKs and Framegate to the origin."""
        return {
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ENDPOINT_URL_MEDICAL_IMAGING": self.url,
            "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
            "AWS_CA_BUNDLE": str(self.ca_bundle),
            **Settings(
                datastore_ids=(DATASTORE,),
                frame_bucket=BUCKET,
                presigned_url_lifetime_seconds=300,
                deferred_store_queue_url=f"{self.url}/queue",
                cors_origins=("*",),
                auth="iam",
                uid_hash_secret="bench",  # noqa: S106 - the bench has no UIDs to hide
            ).to_environment(),
            **ExportSettings(
                datastore_ids=(DATASTORE,),
                frame_bucket=BUCKET,
                event_bus="default",
                calls_per_second=1e9,
                verify=False,
                events=(),
                output="dicom",
                uid_hash_secret="bench",  # noqa: S106
            ).to_environment(),
        }


def _serve(services: _Services, certificate: tuple[str, str] | None, ready: Connection) -> None:
    context = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*certificate)

    async def serve() -> None:
        server = await asyncio.start_server(
            services.converse, "127.0.0.1", 0, ssl=context, limit=MAX_BUFFERED_BYTES, backlog=256
        )
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


class _Services:
    def __init__(
        self,
        frames: dict[str, Frame],
        link: Link,
        bucket: MemoryBucket | None,
        dataset: Mapping[str, Any] | None = None,
        is_multi_frame: bool = False,
    ) -> None:
        self._frames = frames
        self._link = link
        self._bucket = bucket
        entries = [{"ID": name, "FrameSizeInBytes": frame.size} for name, frame in frames.items()]
        instances: dict[str, Any] = {INSTANCE_UID: {"DICOM": {}, "ImageFrames": entries}}
        documents: list[dict[str, Any]] = []
        if dataset is not None:
            of_instances = [entries] if is_multi_frame else [[entry] for entry in entries]
            instances = {
                f"{INSTANCE_UID}.{number}": {"StoredTransferSyntaxUID": HTJ2K_RPCL, "DICOM": {}, "ImageFrames": each}
                for number, each in enumerate(of_instances, 1)
            }
            number_of_frames = {"00280008": {"vr": "IS", "Value": [len(entries)]}} if is_multi_frame else {}
            documents = [{**dataset, **number_of_frames, "00080018": {"vr": "UI", "Value": [uid]}} for uid in instances]
        self._documents = json.dumps(documents).encode()
        metadata = {
            "Study": {"DICOM": {"StudyInstanceUID": STUDY_UID}, "Series": {SERIES_UID: {"Instances": instances}}}
        }
        self._metadata = gzip.compress(json.dumps(metadata).encode())

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of a connection until the client closes or resets it, which is no error here."""
        # One round trip for TCP's handshake, one for TLS 1.3's (RFC 8446, section 2).
        await asyncio.sleep(2 * self._link.round_trip)
        try:
            while True:
                await self._answer(await reader.readuntil(b"\r\n\r\n"), reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
        headers = head.lower()
        if b"expect: 100-continue" in headers:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await _body(headers, reader, MAX_BUFFERED_BYTES if self._bucket else PIECE_BYTES)
        await asyncio.sleep(self._link.round_trip)
        path, query = urlsplit(target).path, parse_qs(urlsplit(target).query, keep_blank_values=True)
        if path.endswith("/getImageFrame"):
            await self._send(writer, self._frames[json.loads(body)["imageFrameId"]])
        elif path.endswith("/getImageSetMetadata"):
            await self._send(writer, Frame(self._metadata), b"Content-Encoding: gzip\r\n")
        elif path.endswith("/metadata"):
            await self._send(writer, Frame(self._documents))
        elif path.endswith("/getImageSet"):
            await self._send(writer, Frame(_IMAGE_SET))
        elif path.endswith("/searchImageSets"):
            await self._send(writer, Frame(_FOUND))
        elif method == "POST" and path == "/":
            # EventBridge.
            await self._send(writer, Frame(b'{"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]}'))
        elif self._bucket and not query:
            writer.write(self._bucket.answer(method, path, _named(head), body))
        else:
            writer.write(_s3(method, query, self._frames.get(path.rpartition("/")[2])))
        await writer.drain()

    async def _send(self, writer: asyncio.StreamWriter, frame: Frame, header: bytes = b"") -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: image/jph\r\n%bContent-Length: %d\r\n\r\n" % (header, frame.size)
        )
        if not self._link.bandwidth:
            for piece in _pieces(frame, TLS_BYTES):
                writer.write(piece)
                await writer.drain()
                # `drain` returns at once unless a client is slow, and a client may have closed the connection.
                await asyncio.sleep(0)
                if writer.is_closing():
                    raise ConnectionResetError
            return
        started, sent = time.perf_counter(), 0
        for piece in _pieces(frame):
            writer.write(piece)
            await writer.drain()
            sent += len(piece)
            await asyncio.sleep(max(0.0, started + sent / self._link.bandwidth - time.perf_counter()))


_IMAGE_SET = json.dumps({"imageSetId": IMAGE_SET, "versionId": "1", "imageSetState": "ACTIVE"}).encode()

_FOUND = json.dumps(
    {
        "imageSetsMetadataSummaries": [
            {
                "imageSetId": IMAGE_SET,
                "version": 1,
                "isPrimary": True,
                "DICOMTags": {"DICOMStudyInstanceUID": STUDY_UID, "DICOMSeriesInstanceUID": SERIES_UID},
            }
        ]
    }
).encode()


def _named(head: bytes) -> dict[str, str]:
    """The headers of a request, names in lower case."""
    lines = (line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:])
    return {name.strip().lower(): value.strip() for name, _, value in lines if name}


def _pieces(frame: Frame, size: int = PIECE_BYTES) -> Iterator[memoryview]:
    view = memoryview(frame.block)
    for _ in range(frame.times):
        yield from (view[start : start + size] for start in range(0, len(view), size))


async def _body(headers: bytes, reader: asyncio.StreamReader, max_bytes: int) -> bytes:
    """Read the body of a request. A body above `max_bytes` or in chunks is discarded."""
    if b"transfer-encoding: chunked" in headers:
        while size := int(await reader.readuntil(b"\r\n"), 16):
            await _discard(reader, size + 2)
        await _discard(reader, 2)
        return b""
    match = re.search(rb"content-length: (\d+)", headers)
    size = int(match[1]) if match else 0
    if size < max_bytes:
        return await reader.readexactly(size)
    await _discard(reader, size)
    return b""


async def _discard(reader: asyncio.StreamReader, size: int) -> None:
    while size:
        received = await reader.read(min(size, MAX_BUFFERED_BYTES))
        if not received:
            raise asyncio.IncompleteReadError(b"", size)
        size -= len(received)


def _s3(method: str, query: dict[str, list[str]], frame: Frame | None) -> bytes:
    """Answer an S3 request. Only the frames marked as stored exist, whatever is written."""
    xml = b""
    match method:
        case "POST" if "uploads" in query:
            xml = b"<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>"
        case "POST":
            xml = b'<CompleteMultipartUploadResult><ETag>"1"</ETag></CompleteMultipartUploadResult>'
        case "GET" if "list-type" in query:
            xml = b"<ListBucketResult><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated></ListBucketResult>"
        case "GET":
            xml = b"<Error><Code>NoSuchKey</Code></Error>"
            return b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n%b" % (len(xml), xml)
        case "HEAD" if frame and frame.stored:
            return STORED % frame.size
        case "HEAD":
            return b"HTTP/1.1 404 Not Found\r\n\r\n"
        case "DELETE":
            return b"HTTP/1.1 204 No Content\r\n\r\n"
    return b'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: %d\r\n\r\n%b' % (len(xml), xml)
