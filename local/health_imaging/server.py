"""The emulator's HTTP side: HealthImaging's operations on the wire, as the service's own model has them."""

from __future__ import annotations

import json
import logging
import math
import re
import socket
import struct
import sys
import threading
import time
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
_CLOSING_SECONDS = 2.0
_SEND_BUFFER = 256 << 10

log = logging.getLogger(__name__)


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


_CREATE_DATASTORE = {
    "clientToken": re.compile(r"[A-Za-z0-9._-]{1,64}"),
    "datastoreName": re.compile(r"[A-Za-z0-9._/#-]{1,256}"),
    "losslessStorageFormat": re.compile("HTJ2K|JPEG_2000_LOSSLESS"),
}


def _create_datastore(emulator: HealthImagingEmulator, request: Request) -> Answer:
    for name, pattern in _CREATE_DATASTORE.items():
        value = request.document.get(name)
        if (value is not None or name == "clientToken") and not (isinstance(value, str) and pattern.fullmatch(value)):
            raise ServiceError("ValidationException", f"{name} must match {pattern.pattern}")
    # The model requires a name of every data store, and the service takes requests without one.
    name = request.document.get("datastoreName") or "unnamed"
    storage_format = request.document.get("losslessStorageFormat") or "HTJ2K"
    datastore_id = emulator.create_datastore(name, lossless_storage_format=storage_format)
    return _json({"datastoreId": datastore_id, "datastoreStatus": "CREATING"})


def _get_datastore(emulator: HealthImagingEmulator, request: Request) -> Answer:
    return _json({"datastoreProperties": _datastore(emulator, request.names["datastoreId"])})


def _list_datastores(emulator: HealthImagingEmulator, request: Request) -> Answer:
    status = request.query.get("datastoreStatus", "ACTIVE")
    summaries = [_datastore(emulator, store.id) for store in emulator.stores.all()] if status == "ACTIVE" else []
    page, token = _page(summaries, request)
    return _json({"datastoreSummaries": page, **token})


def _delete_datastore(emulator: HealthImagingEmulator, request: Request) -> Answer:
    emulator.delete_datastore(request.names["datastoreId"])
    return _json({"datastoreId": request.names["datastoreId"], "datastoreStatus": "DELETING"})


def _datastore(emulator: HealthImagingEmulator, datastore_id: str) -> dict[str, Any]:
    store = emulator.stores.get(datastore_id)
    return {
        "datastoreId": store.id,
        "datastoreName": store.name,
        "datastoreStatus": "ACTIVE",
        "losslessStorageFormat": store.lossless_storage_format,
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
    jobs = emulator.importer.jobs(request.names["datastoreId"], request.query.get("jobStatus"))
    page, token = _page([job.properties() for job in jobs], request)
    return _json({"jobSummaries": page, **token})


def _search_image_sets(emulator: HealthImagingEmulator, request: Request) -> Answer:
    store = emulator.stores.get(request.names["datastoreId"])
    filters = request.document.get("filters") or []
    order = {"sortField": "updatedAt", "sortOrder": "DESC"} | (request.document.get("sort") or {})
    # A copy of the values, because an import may add to them meanwhile.
    found = [
        each
        for each in list(store.image_sets.values())
        if each.state == "ACTIVE" and all(_fits(each, one) for one in filters)
    ]
    found.sort(key=_sort_key(order["sortField"]), reverse=order["sortOrder"] == "DESC")
    summaries = [
        {
            "imageSetId": each.id,
            "version": each.version,
            "createdAt": each.created_at,
            "updatedAt": each.updated_at,
            "isPrimary": each.is_primary,
            "DICOMTags": each.attributes,
        }
        for each in found
    ]
    page, token = _page(summaries, request)
    return _json({"imageSetsMetadataSummaries": page, "sort": order, **token})


_SORT_FIELDS: dict[str, Callable[[Any], Any]] = {
    "createdAt": lambda image_set: image_set.created_at,
    "updatedAt": lambda image_set: image_set.updated_at,
    "DICOMStudyDateAndTime": lambda image_set: _study_date_and_time(image_set.attributes),
}
_EQUAL = (
    "DICOMPatientId",
    "DICOMAccessionNumber",
    "DICOMStudyId",
    "DICOMStudyInstanceUID",
    "DICOMSeriesInstanceUID",
    "isPrimary",
)


def _sort_key(name: str) -> Callable[[Any], Any]:
    if name not in _SORT_FIELDS:
        raise ServiceError("ValidationException", f"sortField must be one of {', '.join(_SORT_FIELDS)}")
    return _SORT_FIELDS[name]


def _study_date_and_time(attributes: dict[str, str]) -> str:
    return attributes.get("DICOMStudyDate", "") + attributes.get("DICOMStudyTime", "")


def _fits(image_set: Any, one: Any) -> bool:
    """Whether an image set fits a search filter: EQUAL on attributes, BETWEEN on the times."""
    try:
        pairs = [(name, value) for each in one["values"] for name, value in each.items()]
        names = {name for name, _ in pairs}
        if one["operator"] == "EQUAL" and names and names <= set(_EQUAL):
            known = {**image_set.attributes, "isPrimary": image_set.is_primary}
            return any(known.get(name) == value for name, value in pairs)
        if one["operator"] == "BETWEEN" and len(pairs) == 2 and len(names) == 1:
            (name, low), (_, high) = pairs
            if name == "DICOMStudyDateAndTime":
                low, high = _study_date_and_time(low), _study_date_and_time(high)
            return bool(low <= _SORT_FIELDS[name](image_set) <= high)
    except (AttributeError, KeyError, TypeError):
        # Of another form than the model has it: boto3 does not send that, other clients may.
        pass
    raise ServiceError(
        "ValidationException", f"A filter is EQUAL on one of {', '.join(_EQUAL)}, or BETWEEN on one of the times"
    )


def _get_image_set(emulator: HealthImagingEmulator, request: Request) -> Answer:
    image_set = emulator.stores.image_set(request.names["datastoreId"], request.names["imageSetId"])
    version = _version(request)
    image_set.metadata(version)
    version = version or image_set.version
    return _json(_image_set(emulator, image_set, version))


def _list_versions(emulator: HealthImagingEmulator, request: Request) -> Answer:
    image_set = emulator.stores.image_set(request.names["datastoreId"], request.names["imageSetId"])
    versions = [_image_set(emulator, image_set, version) for version in range(image_set.version, 0, -1)]
    for properties in versions:
        # So the model spells it in ImageSetProperties, and only there.
        properties["ImageSetWorkflowStatus"] = properties.pop("imageSetWorkflowStatus")
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
        self._serving: list[threading.Thread] = []
        self._connections_lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own."""
        # Left to itself, Linux lets this buffer grow to megabytes: a frame that no one read would count as sent.
        request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        thread = threading.Thread(target=self.process_request_thread, args=(request, client_address), daemon=True)
        with self._connections_lock:
            self._connections.add(request)
            self._serving = [each for each in self._serving if each.is_alive()]
            thread.start()
            self._serving.append(thread)

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
        for thread in self._serving:
            thread.join(_CLOSING_SECONDS)


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
        announced = self.headers.get("Content-Length") or "0"
        length = int(announced) if announced.isdecimal() else _LARGEST_REQUEST + 1
        if length > _LARGEST_REQUEST or "Transfer-Encoding" in self.headers:
            # What follows is not read, so nothing after it on this connection could be understood.
            self.close_connection = True
            problem = f"The request's Content-Length must be a number up to {_LARGEST_REQUEST}"
            return self._send(_error(ServiceError("ValidationException", problem)), None, None)
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
                fault = emulator.faults.next_for(call)
                if fault is not None:
                    self._befall(fault)
                answer = handle(emulator, request)
            except ServiceError as error:
                answer = _error(error)
            except OSError:
                raise
            except Exception:
                log.exception("%s failed in the emulator itself", operation)
                answer = _error(ServiceError("InternalServerException", "The emulator itself failed; see its output"))
            call.status = answer.status
            call.aborted = True
            self._send(answer, fault, call)
            call.aborted = False
        finally:
            call.done.set()

    def _befall(self, fault: Fault) -> None:
        """What a fault does before an answer is begun."""
        if self.server.closing.wait(fault.latency):
            self.close_connection = True
            raise _ConnectionEndedError
        if fault.error is not None:
            raise ServiceError(fault.error, "A fault was armed in the emulator")
        if fault.then is not None and fault.after is None:
            self._break_off(fault)

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
            if not piece:
                # An empty chunk would be the end of a chunked body.
                continue
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
        left = fault.after if fault.then is not None else None
        for piece in _slices(body, fault):
            if left is not None and left <= len(piece):
                yield piece[:left]
                self._break_off(fault)
                yield piece[left:]
                left = None
            else:
                yield piece
                left = None if left is None else left - len(piece)
            if fault.bytes_per_second:
                self.server.closing.wait(len(piece) / fault.bytes_per_second)
        if left is not None:
            self._break_off(fault)

    def _break_off(self, fault: Fault) -> None:
        """End the connection as a fault has it; return only from a stall that is over."""
        if fault.then == "stall" and self._stall(fault.stall_seconds):
            return
        if fault.then == "reset":
            # With no time to linger, closing sends RST instead of FIN.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # `shutdown` would send FIN first, so the server must not get to call it.
            self.rfile.close()
            self.connection.close()
        self.close_connection = True
        raise _ConnectionEndedError

    def _stall(self, seconds: float | None) -> bool:
        """Keep silent for so long; False if the client gave up before, or the emulator closes."""
        until = time.monotonic() + (math.inf if seconds is None else seconds)
        self.connection.settimeout(0.1)
        while time.monotonic() < until:
            try:
                if self.server.closing.is_set() or not self.connection.recv(1, socket.MSG_PEEK):
                    return False
                # The next request is there already; it has to wait like this one.
                self.server.closing.wait(0.1)
            except TimeoutError:
                continue
            except OSError:
                return False
        self.connection.settimeout(None)
        return True

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
