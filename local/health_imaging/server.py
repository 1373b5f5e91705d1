"""Serves HTTP: connections, requests and responses."""

from __future__ import annotations

import logging
import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

from local.health_imaging.administration import administer
from local.health_imaging.answers import Answer, Body, json_answer
from local.health_imaging.dicomweb import DICOMWEB_OPERATIONS, DICOMweb, DICOMwebOperation
from local.health_imaging.dicomweb_instances import DICOMwebRequest
from local.health_imaging.errors import ServiceError
from local.health_imaging.faults import STATUSES, Call
from local.health_imaging.faulty_connection import FaultyConnection
from local.health_imaging.identifiers import new_identifier
from local.health_imaging.operations import Operations
from local.health_imaging.protocol import Operation, Router, accepts
from local.http_server import LoopbackServer

if TYPE_CHECKING:
    from local.health_imaging.service import HealthImagingService
    from local.health_imaging.throttling import Throttles

MAX_REQUEST_BYTES = 1 << 20
_CLOSE_TIMEOUT_SECONDS = 2.0
_SEND_BUFFER_BYTES = 256 << 10

log = logging.getLogger(__name__)


class Server(LoopbackServer):
    """The listening server, which keeps track of its connections so that it can end them."""

    request_queue_size = 256

    def __init__(self, port: int, service: HealthImagingService, throttles: Throttles) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.service = service
        self.origin = f"http://127.0.0.1:{self.server_address[1]}"
        self.throttles = throttles
        self.operations = Operations(service)
        self.dicomweb = DICOMweb(service.stores)
        self.router = Router(self.operations, DICOMWEB_OPERATIONS)
        self.closing = threading.Event()
        self._connections: set[socket.socket] = set()
        self._serving: list[threading.Thread] = []
        self._connections_lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in its own thread."""
        # By default, Linux lets this buffer grow to megabytes, so that an unread frame would count as sent.
        request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        thread = threading.Thread(target=self.process_request_thread, args=(request, client_address), daemon=True)
        with self._connections_lock:
            self._connections.add(request)
            self._serving = [each for each in self._serving if each.is_alive()]
            thread.start()
            self._serving.append(thread)

    def shutdown_request(self, request: Any) -> None:
        """Close a finished connection."""
        with self._connections_lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def close(self) -> None:
        """Stop listening, and end every connection, even in the middle of a response."""
        self.closing.set()
        self.shutdown()
        with self._connections_lock:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self.server_close()
        for thread in self._serving:
            thread.join(_CLOSE_TIMEOUT_SECONDS)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def do_GET(self) -> None:
        self._answer_request()

    do_POST = do_DELETE = do_PUT = do_PATCH = do_HEAD = do_OPTIONS = do_GET  # noqa: N815 - http.server's names

    def log_message(self, *_: object) -> None:
        pass

    def _answer_request(self) -> None:
        announced = self.headers.get("Content-Length") or "0"
        length = int(announced) if announced.isdecimal() and len(announced) < 10 else MAX_REQUEST_BYTES + 1
        if length > MAX_REQUEST_BYTES or "Transfer-Encoding" in self.headers:
            # The body stays unread, so the connection cannot be reused.
            self.close_connection = True
            problem = f"The request must have a Content-Length of at most {MAX_REQUEST_BYTES}"
            return self._send(_error(ServiceError("ValidationException", problem)))
        content = self.rfile.read(length)
        path, _, query = self.path.partition("?")
        if path.startswith("/_emulator/"):
            return self._send(administer(self.server.service, self.command, path, content))
        try:
            operation, labels = self.server.router.find(self.command, path, self.headers.get("Host", ""))
        except ServiceError as error:
            return self._send(_error(error))
        return self._answer_operation(operation, labels, query, content)

    def _answer_operation(
        self, operation: Operation | DICOMwebOperation, labels: dict[str, str], query: str, content: bytes
    ) -> None:
        service = self.server.service
        request = DICOMwebRequest(labels, query, self.headers.get("Accept"), self.server.origin)
        image_set_id = labels.get("imageSetId") or labels.get("sourceImageSetId") or request.image_set_id
        call = Call(operation.name, labels.get("datastoreId"), image_set_id)
        service.calls.begin(call)
        connection = FaultyConnection(self.connection, self.rfile, self.server.closing)
        fault = None
        try:
            try:
                self._check(operation)
                members = {}
                if isinstance(operation, Operation):
                    members = self._members(operation, labels, query, content)
                    call.image_frame_id = members.get("imageFrameInformation", {}).get("imageFrameId")
                fault = service.faults.next_for(call)
                if fault is not None:
                    connection.begin(fault)
                if isinstance(operation, Operation):
                    answer = self._result(operation, members)
                else:
                    answer = self.server.dicomweb.answer(operation, request)
            except ServiceError as error:
                answer = _error(error)
            except OSError:
                raise
            except Exception:
                log.exception("The emulator failed in %s", operation.name)
                answer = _error(ServiceError("InternalServerException", "The emulator failed; see its output"))
            call.status = answer.status
            call.aborted = True
            body = answer.body if fault is None else Body(connection.pieces(answer.body, fault), answer.body.size_bytes)
            self._send(Answer(answer.status, body, answer.headers), call)
            call.aborted = False
        finally:
            call.done.set()

    def _check(self, operation: Operation | DICOMwebOperation) -> None:
        """Check that a request is signed, and count it."""
        if "Authorization" not in self.headers:
            raise ServiceError("AccessDeniedException", "The request is not signed")
        if not self.server.throttles.take(operation.name):
            raise ServiceError("ThrottlingException", "Rate exceeded")

    def _members(self, operation: Operation, labels: dict[str, str], query: str, content: bytes) -> dict[str, Any]:
        """Read the members of a request."""
        operation.check_body_type(self.headers.get("Content-Type"), content)
        return operation.parse(labels, query, content)

    def _result(self, operation: Operation, members: dict[str, Any]) -> Answer:
        result = getattr(self.server.operations, operation.python_name)(members)
        payload, headers = operation.serialize(result)
        if not accepts(self.headers.get("Accept"), headers["Content-Type"]):
            raise ServiceError("NotAcceptableException", f"The answer is of type {headers['Content-Type']}")
        body = payload if isinstance(payload, Body) else Body([payload], len(payload))
        return Answer(200, body, headers)

    def _send(self, answer: Answer, call: Call | None = None) -> None:
        is_chunked = answer.body.size_bytes is None
        self.send_response(answer.status)
        self.send_header("x-amzn-RequestId", new_identifier())
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if is_chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(answer.body.size_bytes))
        self.end_headers()
        if self.command == "HEAD":
            return
        for piece in answer.body.pieces:
            if not piece:
                # An empty chunk would end a chunked body.
                continue
            if is_chunked:
                self.wfile.write(b"%x\r\n" % len(piece))
            self.wfile.write(piece)
            if is_chunked:
                self.wfile.write(b"\r\n")
            if call is not None:
                call.bytes_sent += len(piece)
        if is_chunked:
            self.wfile.write(b"0\r\n\r\n")


def _error(error: ServiceError) -> Answer:
    return json_answer({"message": error.message}, STATUSES[error.code], {"x-amzn-ErrorType": error.code})


def serve(server: Server) -> threading.Thread:
    """Serve in a background thread, and return the thread."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    return thread
