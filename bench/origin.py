"""What is measured against: HealthImaging and S3 over TLS, frames in memory, a link of settable latency and bandwidth.

They answer just the calls that the bench makes, and so fast that it is not them what is measured. What is written to S3
is forgotten.
"""

from __future__ import annotations

import gzip
import json
import multiprocessing
import re
import socket
import socketserver
import ssl
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import parse_qs, urlsplit

from local.certificates import write_certificate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from multiprocessing.connection import Connection

PACED = 16 * 1024
"""Bytes that are sent at a time where bandwidth is limited."""

DATASTORE, IMAGE_SET, BUCKET = "d" * 32, "5" * 32, "bench"


@dataclass(frozen=True, slots=True)
class Link:
    """What lies between a client and the origin.

    Parameters
    ----------
    round_trip : float
        Seconds there and back: one before each answer, two before the first byte of a new connection can be sent.
    bandwidth : float
        Bytes a second of one connection; 0 is as many as there can be.
    """

    round_trip: float = 0.0
    bandwidth: float = 0.0


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame: a block of bytes, so many times."""

    block: bytes
    times: int = 1

    @property
    def size(self) -> int:
        """Bytes of the frame."""
        return len(self.block) * self.times


class Origin:
    """Both services in a process of their own, for as long as the ``with`` block lasts.

    Parameters
    ----------
    frames : mapping of str to Frame
        Frames by identifier; all are in one image set.
    link : Link
        How far away they are.

    Attributes
    ----------
    url : str
        The endpoint of both.
    ca_bundle : Path
        The certificate to trust.
    """

    url: str

    def __init__(self, frames: Mapping[str, Frame], link: Link | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.ca_bundle = Path(self._folder.name) / "certificate.pem"
        key = Path(self._folder.name) / "key.pem"
        write_certificate(self.ca_bundle, key)
        ours, theirs = multiprocessing.Pipe()
        self._ready = ours
        arguments = (dict(frames), link or Link(), str(self.ca_bundle), str(key), theirs)
        self._process = multiprocessing.get_context("spawn").Process(target=_serve, args=arguments, daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        # Not «localhost»: S3 clients would put the bucket's name before it.
        self.url = f"https://127.0.0.1:{self._ready.recv()}"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()
        self._folder.cleanup()

    def environment(self) -> dict[str, str]:
        """What points the AWS SDKs, and so Framegate, to it."""
        return {
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ENDPOINT_URL_MEDICAL_IMAGING": self.url,
            "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
            "AWS_CA_BUNDLE": str(self.ca_bundle),
            "FRAMEGATE_DATASTORE_IDS": DATASTORE,
            "FRAMEGATE_FRAME_BUCKET": BUCKET,
            "FRAMEGATE_PRESIGNED_URL_LIFETIME_SECONDS": "300",
            "FRAMEGATE_EXPORT_QUEUE_URL": f"{self.url}/queue",
            "FRAMEGATE_CORS_ORIGINS": "*",
            "FRAMEGATE_AUTH": "iam",
        }


def _serve(frames: dict[str, Frame], link: Link, certificate: str, key: str, ready: Connection) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    services = _Services(frames, link)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # TCP's handshake and TLS 1.3's: RFC 8446, section 2.
            time.sleep(2 * link.round_trip)
            try:
                with context.wrap_socket(self.request, server_side=True) as connection:
                    received = _Received(connection)
                    while received.until(b"\r\n\r\n"):
                        services.answer(connection, received)
            except OSError:
                # Clients of this origin break off: that is what is measured.
                pass

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        request_queue_size = 256

    with Server(("127.0.0.1", 0), Handler) as server:
        ready.send(server.server_address[1])
        server.serve_forever()


class _Received:
    """The bytes that come over a connection."""

    def __init__(self, connection: ssl.SSLSocket) -> None:
        self._connection = connection
        self._buffer = bytearray()
        self.head = b""

    def until(self, end: bytes) -> bool:
        """Read up to `end` into `head`; say whether there was anything."""
        while (found := self._buffer.find(end)) < 0:
            if not self._more():
                return False
        self.head = bytes(self._buffer[:found])
        del self._buffer[: found + len(end)]
        return True

    def take(self, size: int, *, keep: bool) -> bytes:
        """Read so many bytes; return them, or nothing."""
        kept = bytearray()
        while size:
            if not self._buffer and not self._more():
                raise ConnectionError
            taken = self._buffer[:size]
            del self._buffer[:size]
            size -= len(taken)
            if keep:
                kept += taken
        return bytes(kept)

    def _more(self) -> bool:
        received = self._connection.recv(256 * 1024)
        self._buffer += received
        return bool(received)


class _Services:
    def __init__(self, frames: dict[str, Frame], link: Link) -> None:
        self._frames = frames
        self._link = link
        entries = [{"ID": name, "FrameSizeInBytes": frame.size} for name, frame in frames.items()]
        instances = {"1.2.3": {"DICOM": {}, "ImageFrames": entries}}
        metadata = {"Study": {"Series": {"1.2": {"Instances": instances}}}}
        self._metadata = gzip.compress(json.dumps(metadata).encode())

    def answer(self, connection: ssl.SSLSocket, received: _Received) -> None:
        method, target, _ = received.head.split(b"\r\n", 1)[0].decode().split(" ")
        headers = received.head.lower()
        if b"expect: 100-continue" in headers:
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = _body(headers, received)
        time.sleep(self._link.round_trip)
        path, query = urlsplit(target).path, parse_qs(urlsplit(target).query, keep_blank_values=True)
        if path.endswith("/getImageFrame"):
            self._send(connection, self._frames[json.loads(body)["imageFrameId"]])
        elif path.endswith("/getImageSetMetadata"):
            self._send(connection, Frame(self._metadata), b"Content-Encoding: gzip\r\n")
        elif method == "POST" and path == "/":
            # EventBridge.
            self._send(connection, Frame(b'{"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]}'))
        else:
            connection.sendall(_s3(method, query))

    def _send(self, connection: ssl.SSLSocket, frame: Frame, header: bytes = b"") -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: image/jph\r\n%bContent-Length: %d\r\n\r\n" % (header, frame.size)
        connection.sendall(head)
        if not self._link.bandwidth:
            for _ in range(frame.times):
                connection.sendall(frame.block)
            return
        began, sent = time.perf_counter(), 0
        for piece in _pieces(frame):
            connection.sendall(piece)
            sent += len(piece)
            behind = began + sent / self._link.bandwidth - time.perf_counter()
            if behind > 0:
                time.sleep(behind)


def _pieces(frame: Frame) -> Iterator[memoryview]:
    view = memoryview(frame.block)
    for _ in range(frame.times):
        yield from (view[start : start + PACED] for start in range(0, len(view), PACED))


def _body(headers: bytes, received: _Received) -> bytes:
    """The body of a request, if it is a short one; a long one is read and forgotten."""
    if b"transfer-encoding: chunked" in headers:
        while True:
            received.until(b"\r\n")
            size = int(received.head, 16)
            received.take(size + 2, keep=False)
            if not size:
                return b""
    match = re.search(rb"content-length: (\d+)", headers)
    size = int(match[1]) if match else 0
    return received.take(size, keep=size < PACED)


def _s3(method: str, query: dict[str, list[str]]) -> bytes:
    """S3 with an empty bucket, which stays empty whatever is written to it."""
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
        case "HEAD":
            return b"HTTP/1.1 404 Not Found\r\n\r\n"
        case "DELETE":
            return b"HTTP/1.1 204 No Content\r\n\r\n"
    return b'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: %d\r\n\r\n%b' % (len(xml), xml)
