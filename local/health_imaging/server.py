"""The emulator's HTTP side: HealthImaging's operations on the wire, as the service's own model has them."""

from __future__ import annotations

import json
import re
import socket
import struct
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from local.health_imaging.datastores import FrameAddress, ServiceError, new_identifier
from local.health_imaging.faults import STATUSES, Call, Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from local.health_imaging.emulator import HealthImagingEmulator

_LARGEST_REQUEST = 1 << 20


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to be sent; ``size`` None means a chunked body."""

    content_type: str
    body: Iterable[bytes | memoryview]
    size: int | None
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class Request:
    """A request: what its path names, its query, and its JSON body."""

    names: dict[str, str]
    query: dict[str, str]
    document: dict[str, Any]


def _json(document: dict[str, Any], status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    content = json.dumps(document).encode()
    return Answer("application/json", [content], len(content), status, headers)


def _create_datastore(emulator: HealthImagingEmulator, request: Request) -> Answer:
    store = emulator.stores.create(request.document.get("datastoreName") or "")
    return _json({"datastoreId": store.id, "datastoreStatus": "CREATING"})


def _get_datastore(emulator: HealthImagingEmulator, request: Request) -> Answer:
    return _json({"datastoreProperties": _datastore(emulator, request.names["datastoreId"])})


def _list_datastores(emulator: HealthImagingEmulator, request: Request) -> Answer:
    summaries = [_datastore(emulator, store.id) for store in emulator.stores.all()]
    page, token = _page(summaries, request)
    return _json({"datastoreSummaries": page, **token})


def _delete_datastore(emulator: HealthImagingEmulator, request: Request) -> Answer:
    emulator.stores.remove(request.names["datastoreId"])
    return _json({"datastoreId": request.names["datastoreId"], "datastoreStatus": "DELETING"})


def _datastore(emulator: HealthImagingEmulator, datastore_id: str) -> dict[str, Any]:
    store = emulator.stores.get(datastore_id)
    return {
        "datastoreId": store.id,
        "datastoreName": store.name,
        "datastoreStatus": "ACTIVE",
        "datastoreArn": f"{emulator.arn_prefix}datastore/{store.id}",
        "createdAt": store.created_at,
        "updatedAt": store.created_at,
    }


def _start_import(emulator: HealthImagingEmulator, request: Request) -> Answer:
    job = emulator.importer.start(request.names["datastoreId"], request.document)
    return _json(
        {
            "datastoreId": job.datastore_id,
            "jobId": job.id,
            "jobStatus": "SUBMITTED",
            "submittedAt": job.submitted_at,
        }
    )


def _get_import(emulator: HealthImagingEmulator, request: Request) -> Answer:
    job = emulator.importer.job(request.names["datastoreId"], request.names["jobId"])
    return _json({"jobProperties": job.properties()})


def _list_imports(emulator: HealthImagingEmulator, request: Request) -> Answer:
    page, token = _page([job.properties() for job in emulator.importer.jobs(request.names["datastoreId"])], request)
    return _json({"jobSummaries": page, **token})


def _search_image_sets(emulator: HealthImagingEmulator, request: Request) -> Answer:
    store = emulator.stores.get(request.names["datastoreId"])
    filters = request.document.get("filters") or []
    summaries = [
        {
            "imageSetId": each.id,
            "version": each.version,
            "createdAt": each.created_at,
            "updatedAt": each.updated_at,
            "isPrimary": each.is_primary,
            "DICOMTags": each.attributes,
        }
        for each in store.image_sets.values()
        if each.state == "ACTIVE" and all(_fits(each, one) for one in filters)
    ]
    page, token = _page(summaries, request)
    return _json({"imageSetsMetadataSummaries": page, **token})


def _fits(image_set: Any, one: dict[str, Any]) -> bool:
    """Whether an image set fits a search filter: EQUAL on attributes, BETWEEN on the times."""
    values = one.get("values") or []
    if one.get("operator") == "EQUAL":
        return any(image_set.attributes.get(name) == value for each in values for name, value in each.items())
    if one.get("operator") == "BETWEEN" and len(values) == 2:
        (name, low), (_, high) = next(iter(values[0].items())), next(iter(values[1].items()))
        times = {"createdAt": image_set.created_at, "updatedAt": image_set.updated_at}
        if name in times:
            return bool(low <= times[name] <= high)
    raise ServiceError("ValidationException", "The emulator searches with EQUAL, and BETWEEN on createdAt, updatedAt")


def _get_image_set(emulator: HealthImagingEmulator, request: Request) -> Answer:
    image_set = emulator.stores.image_set(request.names["datastoreId"], request.names["imageSetId"])
    version = _version(request) or image_set.version
    image_set.metadata(version)
    return _json(_image_set(emulator, image_set, version))


def _list_versions(emulator: HealthImagingEmulator, request: Request) -> Answer:
    image_set = emulator.stores.image_set(request.names["datastoreId"], request.names["imageSetId"])
    versions = [_image_set(emulator, image_set, version) for version in range(image_set.version, 0, -1)]
    page, token = _page(versions, request)
    return _json({"imageSetPropertiesList": page, **token})


def _image_set(emulator: HealthImagingEmulator, image_set: Any, version: int) -> dict[str, Any]:
    return {
        "datastoreId": image_set.datastore_id,
        "imageSetId": image_set.id,
        "versionId": str(version),
        "imageSetState": image_set.state,
        "imageSetWorkflowStatus": image_set.workflow_status,
        "createdAt": image_set.created_at,
        "updatedAt": image_set.updated_at,
        "imageSetArn": f"{emulator.arn_prefix}datastore/{image_set.datastore_id}/imageset/{image_set.id}",
        "isPrimary": image_set.is_primary,
    }


def _get_metadata(emulator: HealthImagingEmulator, request: Request) -> Answer:
    image_set = emulator.stores.image_set(request.names["datastoreId"], request.names["imageSetId"])
    blob = image_set.metadata(_version(request))
    return Answer("application/json", [blob], len(blob), headers=(("Content-Encoding", "gzip"),))


def _get_frame(emulator: HealthImagingEmulator, request: Request) -> Answer:
    frame_id = request.document.get("imageFrameId")
    if not isinstance(frame_id, str):
        raise ServiceError("ValidationException", "imageFrameId must be given")
    frame = emulator.stores.frame(FrameAddress(request.names["datastoreId"], request.names["imageSetId"], frame_id))
    size = frame.content.size if frame.announce_length else None
    return Answer(frame.content_type, frame.content.pieces(), size)


def _delete_image_set(emulator: HealthImagingEmulator, request: Request) -> Answer:
    image_set = emulator.delete_image_set(request.names["datastoreId"], request.names["imageSetId"])
    return _json(
        {
            "datastoreId": image_set.datastore_id,
            "imageSetId": image_set.id,
            "imageSetState": "LOCKED",
            "imageSetWorkflowStatus": "DELETING",
        }
    )


def _version(request: Request) -> int | None:
    version = request.query.get("version")
    if version is None:
        return None
    if not version.isdecimal():
        raise ServiceError("ValidationException", "version must be a number")
    return int(version)


def _page(items: list[Any], request: Request) -> tuple[list[Any], dict[str, str]]:
    size, start = request.query.get("maxResults", "50"), request.query.get("nextToken", "0")
    if not (size.isdecimal() and 1 <= int(size) <= 50 and start.isdecimal()):
        raise ServiceError("ValidationException", "maxResults must be from 1 to 50, nextToken one that was given")
    end = int(start) + int(size)
    return items[int(start) : end], {"nextToken": str(end)} if end < len(items) else {}


_STORE, _SET = "/datastore/{datastoreId}", "/datastore/{datastoreId}/imageSet/{imageSetId}"
_OPERATIONS: dict[str, tuple[str, str, Callable[[HealthImagingEmulator, Request], Answer]]] = {
    "CreateDatastore": ("POST", "/datastore", _create_datastore),
    "ListDatastores": ("GET", "/datastore", _list_datastores),
    "GetDatastore": ("GET", _STORE, _get_datastore),
    "DeleteDatastore": ("DELETE", _STORE, _delete_datastore),
    "StartDICOMImportJob": ("POST", f"/startDICOMImportJob{_STORE}", _start_import),
    "GetDICOMImportJob": ("GET", f"/getDICOMImportJob{_STORE}/job/{{jobId}}", _get_import),
    "ListDICOMImportJobs": ("GET", f"/listDICOMImportJobs{_STORE}", _list_imports),
    "SearchImageSets": ("POST", f"{_STORE}/searchImageSets", _search_image_sets),
    "GetImageSet": ("POST", f"{_SET}/getImageSet", _get_image_set),
    "ListImageSetVersions": ("POST", f"{_SET}/listImageSetVersions", _list_versions),
    "GetImageSetMetadata": ("POST", f"{_SET}/getImageSetMetadata", _get_metadata),
    "GetImageFrame": ("POST", f"{_SET}/getImageFrame", _get_frame),
    "DeleteImageSet": ("POST", f"{_SET}/deleteImageSet", _delete_image_set),
}
_ROUTES = [
    (operation, method, re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path)), handle)
    for operation, (method, path, handle) in _OPERATIONS.items()
]


class Server(ThreadingHTTPServer):
    """The listening side, which knows its connections so that it can end them."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, port: int, emulator: HealthImagingEmulator) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.emulator = emulator
        self.closing = threading.Event()
        self._connections: set[socket.socket] = set()
        self._connections_lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own."""
        with self._connections_lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection that is done."""
        with self._connections_lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that went away; show every other error."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def close(self) -> None:
        """Stop listening, and end every connection, in the middle of an answer too."""
        self.closing.set()
        self.shutdown()
        with self._connections_lock:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self.server_close()


class _ConnectionEndedError(OSError):
    """A fault ended the connection."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def do_GET(self) -> None:
        self._answer_request()

    do_POST = do_DELETE = do_GET  # noqa: N815 - the names that http.server calls

    def log_message(self, *_: object) -> None:
        pass

    def _answer_request(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if length > _LARGEST_REQUEST:
            self.close_connection = True
            return self._send(_error(ServiceError("ValidationException", "The request is too large")), None, None)
        content = self.rfile.read(length)
        address = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(address.query).items()}
        if address.path.startswith("/_emulator/"):
            return self._send(self._administer(address.path, content), None, None)
        for operation, method, pattern, handle in _ROUTES:
            if method == self.command and (match := pattern.fullmatch(address.path)):
                request = Request(match.groupdict(), query, {})
                return self._answer_operation(operation, handle, request, content)
        return self._send(_error(ServiceError("ResourceNotFoundException", "There is no such operation")), None, None)

    def _answer_operation(
        self,
        operation: str,
        handle: Callable[[HealthImagingEmulator, Request], Answer],
        request: Request,
        content: bytes,
    ) -> None:
        emulator = self.server.emulator
        call = Call(operation, request.names.get("datastoreId"), request.names.get("imageSetId"))
        emulator.calls.begin(call)
        try:
            fault = None
            try:
                if "Authorization" not in self.headers:
                    raise ServiceError("AccessDeniedException", "The request is not signed")
                request.document = _document(content)
                call.image_frame_id = request.document.get("imageFrameId")
                fault = emulator.faults.next_for(operation, call.image_frame_id)
                if fault is not None:
                    self._befall(fault)
                answer = handle(emulator, request)
            except ServiceError as error:
                answer = _error(error)
            call.status = answer.status
            call.aborted = True
            self._send(answer, fault, call)
            call.aborted = False
        finally:
            call.done.set()

    def _befall(self, fault: Fault) -> None:
        """What a fault does before an answer is begun."""
        self.server.closing.wait(fault.latency)
        if fault.error is not None:
            raise ServiceError(fault.error, "A fault was armed in the emulator")
        if fault.then is not None and fault.after is None:
            self._end_connection(fault)

    def _send(self, answer: Answer, fault: Fault | None, call: Call | None) -> None:
        self.send_response(answer.status)
        self.send_header("x-amzn-RequestId", new_identifier())
        self.send_header("Content-Type", answer.content_type)
        for name, value in answer.headers:
            self.send_header(name, value)
        if answer.size is None:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(answer.size))
        self.end_headers()
        for piece in self._faulty(answer.body, fault):
            if answer.size is None:
                self.wfile.write(b"%x\r\n" % len(piece))
            self.wfile.write(piece)
            if answer.size is None:
                self.wfile.write(b"\r\n")
            if call is not None:
                call.bytes_sent += len(piece)
        if answer.size is None:
            self.wfile.write(b"0\r\n\r\n")

    def _faulty(self, body: Iterable[bytes | memoryview], fault: Fault | None) -> Iterator[bytes | memoryview]:
        """The body, as far and as fast as a fault lets it through."""
        if fault is None:
            yield from body
            return
        sent = 0
        for piece in _slices(body, fault):
            if fault.then is not None and fault.after is not None and sent + len(piece) >= fault.after:
                yield piece[: fault.after - sent]
                self._end_connection(fault)
            yield piece
            sent += len(piece)
            if fault.bytes_per_second:
                self.server.closing.wait(len(piece) / fault.bytes_per_second)
        if fault.then is not None and fault.after is not None:
            self._end_connection(fault)

    def _end_connection(self, fault: Fault) -> None:
        if fault.then == "stall":
            self._wait_for_the_end()
        elif fault.then == "reset":
            # With no time to linger, closing sends RST instead of FIN.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # `shutdown` would send FIN first, so the server must not get to call it.
            self.rfile.close()
            self.connection.close()
        self.close_connection = True
        raise _ConnectionEndedError

    def _wait_for_the_end(self) -> None:
        """Keep silent until the client gives up, or the emulator closes."""
        self.connection.settimeout(0.1)
        while not self.server.closing.is_set():
            try:
                if not self.connection.recv(1):
                    return
            except TimeoutError:
                continue
            except OSError:
                return

    def _administer(self, path: str, content: bytes) -> Answer:
        emulator = self.server.emulator
        match self.command, path:
            case "GET", "/_emulator/faults":
                return _json({"faults": emulator.faults.to_json()})
            case "POST", "/_emulator/faults":
                try:
                    emulator.faults.arm(Fault.from_json(json.loads(content)))
                except (ValueError, TypeError) as error:
                    return _json({"message": str(error)}, 400)
                return _json({"faults": emulator.faults.to_json()})
            case "DELETE", "/_emulator/faults":
                emulator.faults.clear()
                return _json({})
            case "GET", "/_emulator/calls":
                return _json({"calls": [call.to_json() for call in emulator.calls]})
            case "DELETE", "/_emulator/calls":
                emulator.calls.clear()
                return _json({})
        return _json({"message": "there is /_emulator/faults and /_emulator/calls"}, 404)


def _document(content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content) if content else {}
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise ServiceError("ValidationException", "The body must be a JSON object")
    return document


def _slices(body: Iterable[bytes | memoryview], fault: Fault) -> Iterator[memoryview]:
    """A body in pieces so small that it can be sent slowly."""
    size = max(1, fault.bytes_per_second // 20) if fault.bytes_per_second else 1 << 20
    for piece in body:
        view = memoryview(piece)
        yield from (view[start : start + size] for start in range(0, len(view), size))


def _error(error: ServiceError) -> Answer:
    return _json({"message": error.message}, STATUSES[error.code], (("x-amzn-ErrorType", error.code),))


def serve(server: Server) -> threading.Thread:
    """Serve in the background."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    return thread
