"""Frames that take longer than a request: handed over once, stored by the export function, there the next time."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import botocore.exceptions
import pytest
import requests

from framegate.delivery import deferred_store as handover_module
from framegate.delivery import delivery as delivery_module
from framegate.delivery.deferred_store import HandedOverFrames
from framegate.identifiers import FrameRef
from framegate.problems import FrameNotFound, UpstreamFailed, UpstreamTimeout
from framegate.rest.http import INLINE_LIMIT
from framegate.storage.image_set_remover import ImageSetRemover
from framegate.time_budget import TimeBudget
from local.health_imaging import Fault, GeneratedBody
from tests.unit.conftest import BUCKET, SERVED

LARGE = os.urandom(INLINE_LIMIT + 100_000)
SLOW = Fault(bytes_per_second=1_000_000)
LITTLE_TIME = 5_500


@pytest.fixture
def large(health_imaging):
    return health_imaging.add_frame(SERVED, LARGE, "video/mp4")


@pytest.fixture
def handed_over(source, store, handover, objects):
    return HandedOverFrames(source, store, handover, ImageSetRemover(objects))


def ref(frame):
    return FrameRef(frame.datastore_id, frame.image_set_id, frame.image_frame_id)


def keys(s3):
    return [each["Key"] for each in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]


def test_frame_that_time_runs_out_for_is_accepted_with_when_to_come_again(health_imaging, client, large, log_lines):
    health_imaging.faults.arm(SLOW)
    answer = client.get(large, remaining_ms=LITTLE_TIME)
    assert (answer.status, answer.headers["Content-Type"]) == (202, "application/json")
    assert (answer.headers["Retry-After"], answer.headers["Cache-Control"]) == ("30", "no-store")
    document = answer.json()
    assert document["type"] == "urn:framegate:frame-queued"
    assert (document["status"], document["requestId"]) == (202, "request-of-the-test")
    assert "Retry-After" in document["detail"]
    assert log_lines()[-1]["delivery"] == "queued"


def test_frame_known_to_be_too_large_is_handed_over_at_once(health_imaging, client, queue, monkeypatch):
    monkeypatch.setattr(delivery_module, "BANDWIDTH", 1e6)
    body = GeneratedBody(60_000_000, lambda: (bytes(1_000_000) for _ in range(60)))
    frame = health_imaging.add_frame(SERVED, body, "video/mp4")
    assert client.get(frame).status == 202
    (call,) = health_imaging.calls
    assert call.aborted
    assert len(queue.received()) == 1


def test_ten_requests_at_once_queue_a_frame_once(health_imaging, client, large, queue):
    health_imaging.faults.arm(SLOW)
    with ThreadPoolExecutor(10) as threads:
        answers = list(threads.map(lambda _: client.get(large, remaining_ms=LITTLE_TIME), range(10)))
    assert {answer.status for answer in answers} == {202}
    assert queue.received() == [
        {
            "framegate": "store-frame",
            "datastoreId": SERVED,
            "imageSetId": large.image_set_id,
            "imageFrameId": large.image_frame_id,
        }
    ]


def test_request_for_a_queued_frame_does_not_begin_to_store_it(
    health_imaging, client, large, handover, queue, monkeypatch
):
    monkeypatch.setattr(delivery_module, "SOON_STORED", len(LARGE) - 1)
    handover.hand_over(ref(large), TimeBudget(60))
    queue.received()
    assert client.get(large).status == 202
    assert queue.received() == []


def test_queued_frame_that_is_soon_stored_is_stored_again(client, large, handover, s3_server):
    handover.hand_over(ref(large), TimeBudget(60))
    with s3_server.counting("HeadObject") as asked:
        answer = client.get(large)
    assert requests.get(answer.headers["Location"], timeout=5).content == LARGE
    assert len(asked) == 1


def test_marker_of_which_s3_does_not_say_that_it_has_it_keeps_no_frame_from_being_queued(
    health_imaging, client, large, handover, queue, s3_server
):
    with s3_server.answering_nothing("PutObject", times=1), pytest.raises(UpstreamFailed):
        handover.hand_over(ref(large), TimeBudget(60))
    assert not handover.is_pending(ref(large), TimeBudget(60))
    handover.hand_over(ref(large), TimeBudget(60))
    assert len(queue.received()) == 1


def test_stored_frame_is_there_for_the_next_request(health_imaging, client, large, handed_over):
    health_imaging.faults.arm(SLOW)
    assert client.get(large, remaining_ms=LITTLE_TIME).status == 202
    health_imaging.faults.clear()
    handed_over.store(ref(large), TimeBudget(60))
    answer = client.get(large)
    assert answer.status == 303
    assert requests.get(answer.headers["Location"], timeout=5).content == LARGE


def test_slow_request_gets_what_was_stored_meanwhile(health_imaging, client, large, store, queue):
    health_imaging.faults.arm(SLOW)
    with ThreadPoolExecutor(1) as thread:
        slow = thread.submit(client.get, large, remaining_ms=LITTLE_TIME + 1_000)
        time.sleep(0.3)
        store.store(ref(large), "video/mp4", [LARGE], TimeBudget(60))
    assert slow.result().status == 303
    assert queue.received() == []


def test_marker_goes_when_the_frame_is_stored(s3, large, handover, handed_over):
    handover.hand_over(ref(large), TimeBudget(60))
    handed_over.store(ref(large), TimeBudget(60))
    assert keys(s3) == [f"frames/{SERVED}/{large.image_set_id}/{large.image_frame_id}"]


def test_frame_that_does_not_exist_loses_its_marker(s3, health_imaging, handover, handed_over, large):
    frame = FrameRef(SERVED, large.image_set_id, "0" * 32)
    handover.hand_over(frame, TimeBudget(60))
    with pytest.raises(FrameNotFound):
        handed_over.store(frame, TimeBudget(60))
    assert keys(s3) == []


def test_frame_that_fails_for_now_keeps_its_marker(health_imaging, handover, handed_over, large):
    handover.hand_over(ref(large), TimeBudget(60))
    health_imaging.faults.arm(Fault(error="InternalServerException"))
    with pytest.raises(UpstreamFailed):
        handed_over.store(ref(large), TimeBudget(60))
    assert handover.is_pending(ref(large), TimeBudget(60))


def test_frame_of_an_image_set_that_is_deleted_while_it_is_stored_does_not_stay(s3, health_imaging, handed_over, large):
    health_imaging.faults.arm(Fault(operation="GetImageSetMetadata", error="ResourceNotFoundException"))
    with pytest.raises(FrameNotFound):
        handed_over.store(ref(large), TimeBudget(60))
    assert keys(s3) == []


def test_forgotten_marker_does_not_keep_a_frame_from_being_queued_again(handover, queue, large, monkeypatch):
    handover.hand_over(ref(large), TimeBudget(60))
    assert len(queue.received()) == 1
    monkeypatch.setattr(handover_module, "FORGOTTEN_AFTER", timedelta(seconds=-60))
    assert not handover.is_pending(ref(large), TimeBudget(60))
    handover.hand_over(ref(large), TimeBudget(60))
    assert len(queue.received()) == 1


def test_queue_out_of_reach_is_a_timeout_that_can_be_tried_again(health_imaging, client, large, queue, s3, log_lines):
    def refuse(**_):
        raise botocore.exceptions.EndpointConnectionError(endpoint_url="https://sqs.example")

    queue.client.meta.events.register("before-call.sqs.SendMessage", refuse)
    try:
        health_imaging.faults.arm(SLOW)
        answer = client.get(large, remaining_ms=LITTLE_TIME)
    finally:
        queue.client.meta.events.unregister("before-call.sqs.SendMessage", refuse)
    assert (answer.status, answer.json()["type"]) == (504, "urn:framegate:problem:upstream-timeout")
    assert keys(s3) == []
    assert "frame not handed over" in [line["message"] for line in log_lines()]


def test_small_frame_that_is_too_slow_is_not_handed_over(health_imaging, client, queue):
    frame = health_imaging.add_frame(SERVED, os.urandom(2_000_000), "image/jph")
    health_imaging.faults.arm(SLOW)
    assert client.get(frame, remaining_ms=LITTLE_TIME).status == 504
    assert queue.received() == []


def test_export_function_out_of_time_leaves_no_part_of_the_frame(s3, health_imaging, handed_over, large):
    health_imaging.faults.arm(SLOW)
    with pytest.raises(UpstreamTimeout):
        handed_over.store(ref(large), TimeBudget(0.5))
    assert keys(s3) == []
