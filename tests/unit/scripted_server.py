"""An HTTP server that records every request, and responds as a test tells it to."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Received:
    """A request, with lower-case header names and the number of its connection."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def path(self):
        return self.target.partition("?")[0]

    @property
    def query(self):
        return self.target.partition("?")[2]


@dataclass
class Reply:
    """A response. If `silent`, the server sends nothing and keeps the connection open."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    silent: bool = False


class ScriptedServer(ThreadingHTTPServer):
    """Serves on loopback while its ``with`` block lasts.

    Attributes
    ----------
    url : str
        The endpoint.
    requests : list of Received
        The requests in order of arrival.
    reply : callable
        Returns the `Reply` to a `Received`.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, reply=lambda _: Reply()):
        super().__init__(("127.0.0.1", 0), _Conversation)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.reply = reply
        self.requests, self.connections = [], 0
        self.closing = threading.Event()

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=[0.02], daemon=True).start()
        return self

    def __exit__(self, *_):
        self.closing.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, *_):
        """Ignore clients that close their connection."""


class _Conversation(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        self.server.connections += 1
        self._number = self.server.connections
        super().setup()

    def _answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Received(self.command, self.path, headers, body, self._number)
        self.server.requests.append(request)
        reply = self.server.reply(request)
        if reply.silent:
            self.server.closing.wait(30)
            self.close_connection = True
            return
        self.send_response_only(reply.status)
        for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815 - http.server's names

    def log_message(self, *_):
        pass
