"""HealthImaging's ``GetImageFrame`` over TLS with frames in memory, and a link of settable latency and bandwidth."""

from __future__ import annotations

import multiprocessing
import socket
import socketserver
import ssl
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from local.certificates import write_certificate

if TYPE_CHECKING:
    from collections.abc import Mapping
    from multiprocessing.connection import Connection

PACED = 16 * 1024
"""Bytes that are sent at a time where bandwidth is limited."""


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


class Origin:
    """The origin in a process of its own, for as long as the ``with`` block lasts.

    Parameters
    ----------
    frames : mapping of str to bytes
        Frames by identifier.
    link : Link
        How far away it is.

    Attributes
    ----------
    url : str
        The endpoint.
    ca_bundle : Path
        The certificate to trust.
    """

    url: str

    def __init__(self, frames: Mapping[str, bytes], link: Link) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.ca_bundle = Path(self._folder.name) / "certificate.pem"
        key = Path(self._folder.name) / "key.pem"
        write_certificate(self.ca_bundle, key)
        ours, theirs = multiprocessing.Pipe()
        self._ready = ours
        arguments = (dict(frames), link, str(self.ca_bundle), str(key), theirs)
        self._process = multiprocessing.get_context("spawn").Process(target=_serve, args=arguments, daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        self.url = f"https://localhost:{self._ready.recv()}"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()
        self._folder.cleanup()


def _serve(frames: dict[str, bytes], link: Link, certificate: str, key: str, ready: Connection) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # TCP's handshake and TLS 1.3's: RFC 8446, section 2.
            time.sleep(2 * link.round_trip)
            try:
                with context.wrap_socket(self.request, server_side=True) as connection:
                    while _answer(connection, frames, link):
                        pass
            except OSError:
                # Clients of this origin break off: that is what is measured.
                pass

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        request_queue_size = 256

    with Server(("127.0.0.1", 0), Handler) as server:
        ready.send(server.server_address[1])
        server.serve_forever()


def _answer(connection: ssl.SSLSocket, frames: dict[str, bytes], link: Link) -> bool:
    """Answer one request; say whether there may be another one."""
    request = b""
    while b"}" not in request:
        received = connection.recv(65536)
        if not received:
            return False
        request += received
    identifier = request.rpartition(b'"imageFrameId": "')[2].partition(b'"')[0].decode()
    frame = memoryview(frames[identifier])
    time.sleep(link.round_trip)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: image/jph\r\nContent-Length: %d\r\n\r\n" % len(frame))
    if not link.bandwidth:
        connection.sendall(frame)
        return True
    began = time.perf_counter()
    for start in range(0, len(frame), PACED):
        connection.sendall(frame[start : start + PACED])
        behind = began + (start + PACED) / link.bandwidth - time.perf_counter()
        if behind > 0:
            threading.Event().wait(behind)
    return True
