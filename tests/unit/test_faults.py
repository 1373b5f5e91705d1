"""Faults of HealthImaging and of the connection to it."""

from __future__ import annotations

import os
import time

import pytest
import requests

from framegate.aws import signed_http
from framegate.aws.signed_http import SILENCE_TIMEOUT_SECONDS
from framegate.bucket_layout import frame_key
from framegate.healthimaging.client import MAX_ATTEMPTS, MAX_RETRIES, HealthImaging
from framegate.identifiers import FrameRef
from framegate.rest.http import INLINE_LIMIT
from local.health_imaging import Fault
from tests.unit.conftest import BUCKET, SERVED, Client
from tests.unit.sessions import new_session

SMALL, LARGE = os.urandom(300_000), os.urandom(3 * INLINE_LIMIT)
SHORT_TIME_MS = 5_500
"""Time of a request. The API keeps 5 s back, so half a second is left for HealthImaging."""


@pytest.fixture(scope="module")
def small(emulator):
    return emulator.add_frame(SERVED, SMALL, "image/jph")


@pytest.fixture(scope="module")
def large(emulator):
    return emulator.add_frame(SERVED, LARGE, "video/mp4")


def attempts(health_imaging):
    return len(health_imaging.calls)


def stored(s3, frame):
    key = frame_key(FrameRef(frame.datastore_id, frame.image_set_id, frame.image_frame_id))
    found = s3.list_objects_v2(Bucket=BUCKET, Prefix=key).get("Contents", [])
    return [each["Key"] for each in found] + s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])


@pytest.mark.parametrize(
    ("error", "status", "slug", "tried"),
    [
        ("ThrottlingException", 429, "throttled", MAX_ATTEMPTS),
        ("ConflictException", 409, "conflict", 1),
        ("AccessDeniedException", 403, "access-denied", 1),
        ("ValidationException", 400, "upstream-rejected", 1),
        ("ResourceNotFoundException", 404, "frame-not-found", 1),
        ("InternalServerException", 502, "upstream-failed", MAX_ATTEMPTS),
        ("ServiceQuotaExceededException", 502, "upstream-refused", 1),
        # Expired or revoked credentials, without new ones.
        ("ExpiredTokenException", 502, "upstream-failed", 1),
        ("UnrecognizedClientException", 502, "upstream-failed", 1),
        ("RequestExpired", 502, "upstream-failed", 1),
        # A wrong clock.
        ("InvalidSignatureException", 502, "upstream-refused", 1),
        ("InternalFailure", 502, "upstream-failed", MAX_ATTEMPTS),
        ("ServiceUnavailable", 502, "upstream-failed", MAX_ATTEMPTS),
    ],
)
def test_each_service_error_has_its_status_and_attempts(
    health_imaging, client, small, log_lines, error, status, slug, tried
):
    health_imaging.faults.arm(Fault(error=error))
    answer = client.get(small)
    assert (answer.status, answer.json()["type"]) == (status, f"urn:framegate:problem:{slug}")
    assert attempts(health_imaging) == tried
    assert answer.headers.get("Retry-After") == ("1" if status == 429 else None)
    assert log_lines()[-1]["upstream_error"] == error


@pytest.mark.parametrize(
    "fault",
    [
        Fault(error="ThrottlingException", times=2),
        Fault(error="InternalServerException", times=2),
        Fault(then="reset", times=2),
        Fault(then="close", times=2),
        Fault(then="reset", after=100_000, times=2),
        Fault(then="close", after=0, times=2),
        Fault(then="close", after=299_999, times=2),
    ],
    ids=str,
)
def test_transient_fault_is_invisible_to_the_client(health_imaging, client, small, fault):
    health_imaging.faults.arm(fault)
    answer = client.get(small)
    assert (answer.status, answer.body) == (200, SMALL)
    assert attempts(health_imaging) == 3


@pytest.mark.parametrize(
    "fault",
    [
        Fault(then="reset"),
        Fault(then="close"),
        Fault(then="reset", after=100_000),
        Fault(then="close", after=100_000),
        Fault(then="close", after=299_999),
    ],
    ids=str,
)
def test_broken_response_is_502_without_any_frame_bytes(health_imaging, client, small, fault):
    health_imaging.faults.arm(fault)
    answer = client.get(small)
    assert (answer.status, answer.json()["type"]) == (502, "urn:framegate:problem:upstream-failed")
    assert attempts(health_imaging) == MAX_ATTEMPTS


@pytest.mark.parametrize("announce_length", [True, False])
@pytest.mark.parametrize("then", ["reset", "close"])
def test_upload_of_a_broken_response_leaves_nothing(health_imaging, client, s3, then, announce_length):
    frame = health_imaging.add_frame(SERVED, LARGE, "video/mp4", announce_length=announce_length)
    health_imaging.faults.arm(Fault(then=then, after=len(LARGE) - 1))
    assert client.get(frame).status == 502
    assert stored(s3, frame) == []
    assert attempts(health_imaging) == MAX_ATTEMPTS


def test_upload_that_broke_once_is_repeated(health_imaging, client, large):
    health_imaging.faults.arm(Fault(then="reset", after=9_000_000, times=1))
    assert requests.get(client.get(large).headers["Location"], timeout=5).content == LARGE


@pytest.mark.parametrize(
    "fault",
    [
        Fault(latency=60),
        Fault(then="stall"),
        Fault(then="stall", after=100_000),
        Fault(bytes_per_second=100_000),
    ],
    ids=str,
)
def test_slow_response_is_504_within_the_time_of_the_request(health_imaging, client, small, fault):
    health_imaging.faults.arm(fault)
    started = time.monotonic()
    answer = client.get(small, remaining_ms=SHORT_TIME_MS)
    assert (answer.status, answer.json()["type"]) == (504, "urn:framegate:problem:upstream-timeout")
    assert time.monotonic() - started < SILENCE_TIMEOUT_SECONDS


@pytest.mark.parametrize("fault", [Fault(then="stall", after=9_000_000), Fault(bytes_per_second=2_000_000)], ids=str)
def test_upload_that_takes_too_long_is_deferred_and_leaves_nothing(
    health_imaging, client, s3, queue, deferred_store_queue, fault
):
    frame = health_imaging.add_frame(SERVED, LARGE, "video/mp4")
    health_imaging.faults.arm(fault)
    started = time.monotonic()
    assert client.get(frame, remaining_ms=SHORT_TIME_MS).status == 202
    assert stored(s3, frame) == []
    assert [message["imageFrameId"] for message in deferred_store_queue.received()] == [frame.image_frame_id]
    assert queue.received() == []
    assert time.monotonic() - started < SILENCE_TIMEOUT_SECONDS


def test_request_without_time_is_504_without_a_call(health_imaging, client, small):
    assert client.get(small, remaining_ms=4_000).status == 504
    assert attempts(health_imaging) == 0


def test_silence_timeout_leaves_time_for_another_attempt(health_imaging, client, small, monkeypatch):
    monkeypatch.setattr(signed_http, "SILENCE_TIMEOUT_SECONDS", 0.2)
    health_imaging.faults.arm(Fault(then="stall", after=1_000, times=1))
    assert client.get(small).body == SMALL


def test_retries_stay_within_the_time_of_the_request(health_imaging, client, small):
    health_imaging.faults.arm(Fault(error="ThrottlingException", latency=0.4))
    assert client.get(small, remaining_ms=SHORT_TIME_MS).status in (429, 504)
    assert attempts(health_imaging) < MAX_ATTEMPTS


def test_retries_stop_under_heavy_throttling(health_imaging, client, small):
    health_imaging.faults.arm(Fault(error="ThrottlingException"))
    statuses = {client.get(small).status for _ in range(30)}
    assert statuses == {429}
    # Once the quota is empty, each request makes one call.
    assert attempts(health_imaging) == 30 + MAX_RETRIES

    health_imaging.faults.clear()
    client.get(small)
    client.get(small)
    health_imaging.faults.arm(Fault(error="ThrottlingException", times=2))
    assert client.get(small).body == SMALL


def test_unreachable_healthimaging_is_502(health_imaging, delivery_from, new_api, small, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_MEDICAL_IMAGING", "http://127.0.0.1:1")
    source = HealthImaging(new_session())
    delivery = delivery_from(source)
    answer = Client(new_api(delivery=delivery)).get(small)
    assert (answer.status, answer.json()["type"]) == (502, "urn:framegate:problem:upstream-failed")


def test_500_requests_work_after_every_kind_of_fault(health_imaging, client, small, large):
    faults = [
        Fault(error="ThrottlingException"),
        Fault(error="ResourceNotFoundException"),
        Fault(then="reset"),
        Fault(then="close", after=1_000),
        Fault(then="reset", after=100_000),
        Fault(then="stall", after=1_000),
    ]
    client.get(large)
    for fault in faults * 5:
        health_imaging.faults.arm(fault)
        client.get(small, remaining_ms=5_050)
        health_imaging.faults.clear()
        client.get(large)
        client.get(small, headers={"Accept": "text/html"})
    assert all(client.get(small).body == SMALL for _ in range(500))
