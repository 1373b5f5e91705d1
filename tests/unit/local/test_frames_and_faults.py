"""The emulator sends frames, and fails as the armed faults say."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

import pytest
import requests
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError, ResponseStreamingError
from botocore.exceptions import ConnectionError as BotoConnectionError

from local.health_imaging import Fault, GeneratedBody, HealthImagingEmulator
from local.health_imaging.faults import STATUSES
from tests.unit.local import emulated
from tests.unit.local.emulated import frame_bytes, frame_response

CONTENT = b"0123456789" * 20_000


@pytest.fixture
def health_imaging(own_emulator):
    own_emulator.faults.clear()
    own_emulator.calls.clear()
    return own_emulator


@pytest.fixture
def boto(health_imaging):
    return new_client(health_imaging.url)


@pytest.fixture
def frame(health_imaging, datastore_id):
    return health_imaging.add_frame(datastore_id, CONTENT, "image/jph")


def new_client(url):
    return emulated.new_client(url, read_timeout_seconds=1)


@pytest.mark.parametrize("announce_length", [True, False])
def test_frame_is_sent_with_its_media_type(boto, health_imaging, datastore_id, announce_length):
    frame = health_imaging.add_frame(datastore_id, b"pixels", "image/x-new", announce_length=announce_length)
    answer = frame_response(boto, frame)
    assert (answer["imageFrameBlob"].read(), answer["contentType"]) == (b"pixels", "image/x-new")


def test_frame_can_be_a_file_or_generated(boto, health_imaging, datastore_id, tmp_path):
    (tmp_path / "frame").write_bytes(b"from a file")
    file = health_imaging.add_frame(datastore_id, tmp_path / "frame", "image/jph")
    generated = health_imaging.add_frame(datastore_id, GeneratedBody(6, lambda: iter([b"abc", b"def"])), "video/mp4")
    assert [frame_bytes(boto, each) for each in (file, generated)] == [b"from a file", b"abcdef"]


@pytest.mark.parametrize("error", STATUSES)
def test_armed_exception_has_the_code_and_status_of_the_service(boto, health_imaging, frame, error):
    health_imaging.faults.arm(Fault(error=error, times=1))
    with pytest.raises(ClientError) as raised:
        frame_response(boto, frame)
    assert raised.value.response["Error"]["Code"] == error
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == STATUSES[error]
    assert frame_bytes(boto, frame)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"imageSetId": "0" * 32}, "ResourceNotFoundException"),
        ({"datastoreId": "0" * 32}, "ResourceNotFoundException"),
        ({"imageFrameInformation": {"imageFrameId": "0" * 32}}, "ResourceNotFoundException"),
        ({"imageFrameInformation": {"imageFrameId": "short"}}, "ValidationException"),
    ],
)
def test_wrong_id_raises_the_service_exception(boto, frame, changes, error):
    right = {
        "datastoreId": frame.datastore_id,
        "imageSetId": frame.image_set_id,
        "imageFrameInformation": {"imageFrameId": frame.image_frame_id},
    }
    with pytest.raises(ClientError) as raised:
        boto.get_image_frame(**right | changes)
    assert raised.value.response["Error"]["Code"] == error


def test_unsigned_call_is_denied(health_imaging, frame):
    url = f"{health_imaging.url}/datastore/{frame.datastore_id}/imageSet/{frame.image_set_id}/getImageFrame"
    answer = requests.post(url, json={"imageFrameId": frame.image_frame_id}, timeout=5)
    assert (answer.status_code, answer.headers["x-amzn-ErrorType"]) == (403, "AccessDeniedException")


def test_fault_resets_the_connection_before_the_response(boto, health_imaging, frame):
    health_imaging.faults.arm(Fault(then="reset"))
    with pytest.raises((ConnectionClosedError, BotoConnectionError)):
        frame_response(boto, frame)


def test_fault_truncates_the_body(boto, health_imaging, frame):
    health_imaging.faults.arm(Fault(then="close", after=150_000))
    with pytest.raises(ResponseStreamingError, match="50000 more expected"):
        frame_bytes(boto, frame)
    (call,) = health_imaging.calls
    assert (call.bytes_sent, call.aborted) == (150_000, True)


def test_fault_resets_the_connection_within_the_body(boto, health_imaging, frame):
    health_imaging.faults.arm(Fault(then="reset", after=150_000))
    with pytest.raises(ResponseStreamingError, match="reset"):
        frame_bytes(boto, frame)


def test_faults_delay_slow_down_and_stall_a_response(boto, health_imaging, frame):
    health_imaging.faults.arm(Fault(latency=0.3, times=1))
    health_imaging.faults.arm(Fault(bytes_per_second=500_000, times=1))
    for at_least in (0.3, 0.35):
        started = time.monotonic()
        frame_bytes(boto, frame)
        assert time.monotonic() - started > at_least
    health_imaging.faults.arm(Fault(then="stall", after=1_000))
    with pytest.raises(ReadTimeoutError):
        frame_bytes(boto, frame)


def test_fault_can_affect_a_share_of_calls_or_one_frame(boto, health_imaging, frame):
    health_imaging.faults.arm(Fault(error="ConflictException", probability=0.5))
    assert 10 < sum(fails(boto, frame) for _ in range(60)) < 50
    health_imaging.faults.clear()
    health_imaging.faults.arm(Fault(error="ConflictException", image_frame_id="f" * 32))
    assert not fails(boto, frame)


def fails(boto, frame):
    try:
        frame_bytes(boto, frame)
    except ClientError:
        return True
    return False


def test_calls_are_recorded(boto, health_imaging, frame):
    frame_bytes(boto, frame)
    (call,) = health_imaging.calls
    assert (call.operation, call.image_frame_id, call.status) == ("GetImageFrame", frame.image_frame_id, 200)
    assert (call.bytes_sent, call.aborted) == (200_000, False)


def test_faults_and_calls_are_managed_over_http(health_imaging, boto, frame):
    faults = f"{health_imaging.url}/_emulator/faults"
    assert requests.post(faults, json={"error": "ThrottlingException", "times": 1}, timeout=5).status_code == 200
    assert fails(boto, frame)
    assert (
        requests.post(faults, json={"eror": "ThrottlingException"}, timeout=5)
        .json()["message"]
        .startswith("unknown: eror")
    )
    requests.delete(faults, timeout=5)
    assert requests.get(faults, timeout=5).json() == {"faults": []}
    (call,) = requests.get(f"{health_imaging.url}/_emulator/calls", timeout=5).json()["calls"]
    assert call["status"] == 429


@pytest.mark.parametrize("part", ["datastore_id", "image_set_id", "image_frame_id"])
def test_fault_can_be_limited_to_a_part_of_the_address(boto, health_imaging, datastore_id, frame, part):
    health_imaging.faults.arm(Fault(error="ConflictException", **{part: "0" * 32}))
    assert frame_bytes(boto, frame)
    health_imaging.faults.arm(Fault(error="ConflictException", **{part: getattr(frame, part)}))
    with pytest.raises(boto.exceptions.ConflictException):
        frame_bytes(boto, frame)


def test_fault_can_affect_every_operation(boto, health_imaging, frame):
    health_imaging.faults.arm(Fault(operation=None, error="InternalServerException"))
    with pytest.raises(boto.exceptions.InternalServerException):
        boto.list_datastores()
    with pytest.raises(boto.exceptions.InternalServerException):
        frame_bytes(boto, frame)


@pytest.mark.parametrize("after", [None, 0, 5_000, len(CONTENT) - 1])
def test_response_continues_after_a_timed_stall(boto, health_imaging, frame, after):
    health_imaging.faults.arm(Fault(then="stall", after=after, stall_seconds=0.2))
    started = time.monotonic()
    assert frame_bytes(boto, frame) == CONTENT
    assert time.monotonic() - started >= 0.2


def test_stall_causes_a_read_timeout(boto, health_imaging, frame):
    health_imaging.faults.arm(Fault(then="stall", stall_seconds=5))
    with pytest.raises(ReadTimeoutError):
        frame_bytes(boto, frame)


@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize("after", [0, 5_000])
def test_broken_chunked_body_never_looks_complete(boto, health_imaging, datastore_id, then, after):
    frame = health_imaging.add_frame(datastore_id, bytes(10_000), "image/jph", announce_length=False)
    health_imaging.faults.arm(Fault(then=then, after=after))
    with pytest.raises((ResponseStreamingError, ConnectionError)):
        frame_bytes(boto, frame)


def test_clearing_faults_restarts_the_random_sequence(boto, health_imaging, frame):
    def sequence():
        health_imaging.faults.clear()
        health_imaging.faults.arm(Fault(error="ThrottlingException", probability=0.5))
        health_imaging.calls.clear()
        for _ in range(12):
            with suppress(ClientError):
                frame_bytes(boto, frame)
        return [call.status for call in health_imaging.calls]

    assert sequence() == sequence()


@pytest.mark.parametrize(
    "document",
    [
        {"times": "3"},
        {"after": 1.5},
        {"after": -1},
        {"bytes_per_second": 0},
        {"probability": 2},
        {"latency": None},
        {"stall_seconds": True},
    ],
)
def test_invalid_fault_is_rejected_when_it_is_armed(health_imaging, document):
    answer = requests.post(f"{health_imaging.url}/_emulator/faults", json=document, timeout=5)
    assert answer.status_code == 400
    assert next(iter(document)) in answer.json()["message"]


def test_error_in_the_emulator_raises_internal_server_exception(boto, health_imaging, datastore_id, tmp_path, caplog):
    (tmp_path / "frame").write_bytes(b"x")
    frame = health_imaging.add_frame(datastore_id, tmp_path / "frame", "image/jph")
    image_set = health_imaging.stores.image_set(datastore_id, frame.image_set_id)
    image_set.frames[frame.image_frame_id].content = None
    with pytest.raises(boto.exceptions.InternalServerException):
        frame_bytes(boto, frame)
    assert "The emulator failed in GetImageFrame" in caplog.text


def test_unread_frame_does_not_count_as_sent(boto, health_imaging, datastore_id):
    frame = health_imaging.add_frame(datastore_id, bytes(8 << 20), "video/mp4")
    answer = frame_response(boto, frame)
    time.sleep(0.1)
    answer["imageFrameBlob"].close()
    (call,) = health_imaging.calls
    assert call.aborted
    assert call.bytes_sent < 4 << 20


def test_closing_ends_latency_and_leaves_no_thread():
    before = set(threading.enumerate())
    with HealthImagingEmulator() as emulator:
        frame = emulator.add_frame(emulator.create_datastore("close"), bytes(5_000), "image/jph")
        boto = new_client(emulator.url)
        frame_bytes(boto, frame)
        emulator.faults.arm(Fault(latency=30))
        errors = []
        waiting = threading.Thread(
            target=lambda: errors.append(_error_of(frame_bytes, new_client(emulator.url), frame))
        )
        waiting.start()
        deadline = time.monotonic() + 5
        while len(emulator.calls._calls) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        started = time.monotonic()
    assert time.monotonic() - started < 15
    waiting.join(5)
    assert errors != [None]
    assert set(threading.enumerate()) <= before


def _error_of(function, *arguments):
    try:
        function(*arguments)
    except Exception as error:
        return error
    return None


def test_closing_ends_a_stalled_response_at_once():
    with HealthImagingEmulator() as emulator:
        frame = emulator.add_frame(emulator.create_datastore("close"), bytes(5000), "image/jph")
        emulator.faults.arm(Fault(then="stall", after=100))
        stalled = frame_response(new_client(emulator.url), frame)["imageFrameBlob"]
        started = time.monotonic()
    assert time.monotonic() - started < 5
    with pytest.raises(ResponseStreamingError):
        stalled.read()


@pytest.mark.parametrize("header", ["Content-Length: many", "Transfer-Encoding: chunked"])
def test_request_without_a_valid_length_is_rejected_once_and_closes_the_connection(
    health_imaging, datastore_id, header
):
    with socket.create_connection(("127.0.0.1", int(health_imaging.url.rpartition(":")[2])), timeout=5) as connection:
        request = f"POST /datastore/{datastore_id}/searchImageSets HTTP/1.1\r\nHost: x\r\nAuthorization: x\r\n{header}"
        connection.sendall(request.encode() + b"\r\n\r\n2\r\n{}\r\n0\r\n\r\n")
        answer = b""
        # A close with unread request bytes resets the connection after the response.
        while piece := _received(connection):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1


def _received(connection):
    try:
        return connection.recv(65536)
    except ConnectionResetError:
        return b""
