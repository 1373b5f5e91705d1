"""What goes wrong in HealthImaging and on the way from it."""

from __future__ import annotations

import os
import time

import botocore.session
import pytest
import requests

from framegate.aws import signed_http
from framegate.aws.signed_http import SILENCE_TIMEOUT
from framegate.bucket_layout import frame_key
from framegate.delivery.delivery import FrameDelivery
from framegate.healthimaging.client import MAX_ATTEMPTS, MOST_RETRIES, HealthImaging
from framegate.identifiers import FrameRef
from framegate.rest.frame_api import FrameApi
from framegate.rest.http import INLINE_LIMIT
from local.health_imaging import Fault
from tests.unit.conftest import BUCKET, SERVED, Client

SMALL, LARGE = os.urandom(300_000), os.urandom(3 * INLINE_LIMIT)
# A request's time, in milliseconds, of which 5 s are kept back: half a second to work with.
LITTLE_TIME = 5_500


@pytest.fixture(scope="session")
def small(emulator):
    return emulator.add_frame(SERVED, SMALL, "image/jph")


@pytest.fixture(scope="session")
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
        # Credentials that have expired or were withdrawn, where there are no others.
        ("ExpiredTokenException", 502, "upstream-failed", 1),
        ("UnrecognizedClientException", 502, "upstream-failed", 1),
        ("RequestExpired", 502, "upstream-failed", 1),
        # A clock that is wrong.
        ("InvalidSignatureException", 502, "upstream-refused", 1),
        ("InternalFailure", 502, "upstream-failed", MAX_ATTEMPTS),
        ("ServiceUnavailable", 502, "upstream-failed", MAX_ATTEMPTS),
    ],
)
def test_exception_of_the_service_has_its_status(health_imaging, client, small, log_lines, error, status, slug, tried):
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
def test_fault_that_passes_is_not_noticed(health_imaging, client, small, fault):
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
def test_broken_answer_is_502_and_nothing_of_it_is_delivered(health_imaging, client, small, fault):
    health_imaging.faults.arm(fault)
    answer = client.get(small)
    assert (answer.status, answer.json()["type"]) == (502, "urn:framegate:problem:upstream-failed")
    assert attempts(health_imaging) == MAX_ATTEMPTS


@pytest.mark.parametrize("announce_length", [True, False])
@pytest.mark.parametrize("then", ["reset", "close"])
def test_upload_of_a_broken_answer_leaves_nothing(health_imaging, client, s3, then, announce_length):
    frame = health_imaging.add_frame(SERVED, LARGE, "video/mp4", announce_length=announce_length)
    health_imaging.faults.arm(Fault(then=then, after=len(LARGE) - 1))
    assert client.get(frame).status == 502
    assert stored(s3, frame) == []
    assert attempts(health_imaging) == MAX_ATTEMPTS


def test_upload_that_broke_once_is_done_again(health_imaging, client, large):
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
def test_slowness_beyond_the_requests_time_is_504_in_time(health_imaging, client, small, fault):
    health_imaging.faults.arm(fault)
    started = time.monotonic()
    answer = client.get(small, remaining_ms=LITTLE_TIME)
    assert (answer.status, answer.json()["type"]) == (504, "urn:framegate:problem:upstream-timeout")
    assert time.monotonic() - started < SILENCE_TIMEOUT


@pytest.mark.parametrize("fault", [Fault(then="stall", after=9_000_000), Fault(bytes_per_second=2_000_000)], ids=str)
def test_upload_that_cannot_be_done_in_time_is_handed_over_and_leaves_nothing(health_imaging, client, s3, queue, fault):
    frame = health_imaging.add_frame(SERVED, LARGE, "video/mp4")
    health_imaging.faults.arm(fault)
    started = time.monotonic()
    assert client.get(frame, remaining_ms=LITTLE_TIME).status == 202
    assert stored(s3, frame) == []
    assert [message["imageFrameId"] for message in queue.received()] == [frame.image_frame_id]
    assert time.monotonic() - started < SILENCE_TIMEOUT


def test_no_time_at_all_is_504_without_a_call(health_imaging, client, small):
    assert client.get(small, remaining_ms=4_000).status == 504
    assert attempts(health_imaging) == 0


def test_silence_is_given_up_early_enough_for_another_attempt(health_imaging, client, small, monkeypatch):
    monkeypatch.setattr(signed_http, "SILENCE_TIMEOUT", 0.2)
    health_imaging.faults.arm(Fault(then="stall", after=1_000, times=1))
    assert client.get(small).body == SMALL


def test_retries_keep_within_the_requests_time(health_imaging, client, small):
    health_imaging.faults.arm(Fault(error="ThrottlingException", latency=0.4))
    assert client.get(small, remaining_ms=LITTLE_TIME).status in (429, 504)
    assert attempts(health_imaging) < MAX_ATTEMPTS


def test_storm_of_throttling_is_not_made_worse(health_imaging, client, small):
    health_imaging.faults.arm(Fault(error="ThrottlingException"))
    statuses = {client.get(small).status for _ in range(30)}
    assert statuses == {429}
    # Beyond the first few, a request is one call.
    assert attempts(health_imaging) == 30 + MOST_RETRIES

    health_imaging.faults.clear()
    client.get(small)
    client.get(small)
    health_imaging.faults.arm(Fault(error="ThrottlingException", times=2))
    assert client.get(small).body == SMALL


def test_healthimaging_out_of_reach_is_502(health_imaging, store, handover, frame_index, settings, small, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_MEDICAL_IMAGING", "http://127.0.0.1:1")
    source = HealthImaging(botocore.session.Session())
    delivery = FrameDelivery(source, store, handover, INLINE_LIMIT, 300)
    answer = Client(FrameApi(settings, delivery, frame_index)).get(small)
    assert (answer.status, answer.json()["type"]) == (502, "urn:framegate:problem:upstream-failed")


def test_after_all_of_this_the_next_500_requests_work(health_imaging, client, small, large):
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
