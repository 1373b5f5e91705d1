"""Deferred stores: a frame that takes too long for a request is queued once and stored by the export function."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import botocore.exceptions
import pytest
import requests

from framegate.delivery import deferred_store, plan
from framegate.delivery.deferred_store import DeferredStoreWorker
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
def deferred_store_worker(source, store, deferred_stores, objects):
    return DeferredStoreWorker(source, store, deferred_stores, ImageSetRemover(objects))


def ref(frame):
    return FrameRef(frame.datastore_id, frame.image_set_id, frame.image_frame_id)


def keys(s3):
    return [each["Key"] for each in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]


def test_frame_too_slow_for_a_request_answers_202_with_retry_after(health_imaging, client, large, log_lines):
    health_imaging.faults.arm(SLOW)
    answer = client.get(large, remaining_ms=LITTLE_TIME)
    assert (answer.status, answer.headers["Content-Type"]) == (202, "application/json")
    assert (answer.headers["Retry-After"], answer.headers["Cache-Control"]) == ("30", "no-store")
    document = answer.json()
    assert document["type"] == "urn:framegate:frame-queued"
    assert (document["status"], document["requestId"]) == (202, "request-of-the-test")
    assert "Retry-After" in document["detail"]
    assert log_lines()[-1]["delivery"] == "queued"


def test_frame_too_large_for_the_time_left_is_queued_before_it_is_read(
    health_imaging, client, deferred_store_queue, monkeypatch
):
    monkeypatch.setattr(plan, "LAMBDA_BYTES_PER_SECOND", 1e6)
    body = GeneratedBody(60_000_000, lambda: (bytes(1_000_000) for _ in range(60)))
    frame = health_imaging.add_frame(SERVED, body, "video/mp4")
    assert client.get(frame).status == 202
    (call,) = health_imaging.calls
    assert call.aborted
    assert len(deferred_store_queue.received()) == 1


def test_ten_concurrent_requests_queue_a_frame_once(health_imaging, client, large, deferred_store_queue):
    health_imaging.faults.arm(SLOW)
    with ThreadPoolExecutor(10) as threads:
        answers = list(threads.map(lambda _: client.get(large, remaining_ms=LITTLE_TIME), range(10)))
    assert {answer.status for answer in answers} == {202}
    assert deferred_store_queue.received() == [
        {
            "framegate": "store-frame",
            "datastoreId": SERVED,
            "imageSetId": large.image_set_id,
            "imageFrameId": large.image_frame_id,
        }
    ]


def test_request_for_a_queued_frame_does_not_store_it(
    health_imaging, client, large, deferred_stores, deferred_store_queue, monkeypatch
):
    monkeypatch.setattr(plan, "STORE_UNCHECKED_MAX_BYTES", len(LARGE) - 1)
    deferred_stores.enqueue(ref(large), TimeBudget(60))
    deferred_store_queue.received()
    assert client.get(large).status == 202
    assert deferred_store_queue.received() == []


def test_small_queued_frame_is_stored_without_checking_its_marker(client, large, deferred_stores, s3_server):
    deferred_stores.enqueue(ref(large), TimeBudget(60))
    with s3_server.counting("HeadObject") as asked:
        answer = client.get(large)
    assert requests.get(answer.headers["Location"], timeout=5).content == LARGE
    assert len(asked) == 1


def test_unconfirmed_marker_does_not_block_requeueing(
    health_imaging, client, large, deferred_stores, deferred_store_queue, s3_server
):
    with s3_server.answering_nothing("PutObject", times=1), pytest.raises(UpstreamFailed):
        deferred_stores.enqueue(ref(large), TimeBudget(60))
    assert not deferred_stores.is_pending(ref(large), TimeBudget(60))
    deferred_stores.enqueue(ref(large), TimeBudget(60))
    assert len(deferred_store_queue.received()) == 1


def test_deferred_store_serves_the_next_request(health_imaging, client, large, deferred_store_worker):
    health_imaging.faults.arm(SLOW)
    assert client.get(large, remaining_ms=LITTLE_TIME).status == 202
    health_imaging.faults.clear()
    deferred_store_worker.store(ref(large), TimeBudget(60))
    answer = client.get(large)
    assert answer.status == 303
    assert requests.get(answer.headers["Location"], timeout=5).content == LARGE


def test_slow_request_links_to_the_copy_stored_meanwhile(health_imaging, client, large, store, deferred_store_queue):
    health_imaging.faults.arm(SLOW)
    with ThreadPoolExecutor(1) as thread:
        slow = thread.submit(client.get, large, remaining_ms=LITTLE_TIME + 1_000)
        time.sleep(0.3)
        store.store(ref(large), "video/mp4", [LARGE], TimeBudget(60))
    assert slow.result().status == 303
    assert deferred_store_queue.received() == []


def test_deferred_store_is_temporary(large, store, deferred_stores, deferred_store_worker):
    deferred_stores.enqueue(ref(large), TimeBudget(60))
    deferred_store_worker.store(ref(large), TimeBudget(60))
    assert store.look_up(ref(large), TimeBudget(60)).is_temporary


def test_marker_is_removed_once_the_frame_is_stored(s3, large, deferred_stores, deferred_store_worker):
    deferred_stores.enqueue(ref(large), TimeBudget(60))
    deferred_store_worker.store(ref(large), TimeBudget(60))
    assert keys(s3) == [f"frames/{SERVED}/{large.image_set_id}/{large.image_frame_id}"]


def test_marker_of_an_unknown_frame_is_removed(s3, health_imaging, deferred_stores, deferred_store_worker, large):
    frame = FrameRef(SERVED, large.image_set_id, "0" * 32)
    deferred_stores.enqueue(frame, TimeBudget(60))
    with pytest.raises(FrameNotFound):
        deferred_store_worker.store(frame, TimeBudget(60))
    assert keys(s3) == []


def test_marker_stays_after_a_transient_failure(health_imaging, deferred_stores, deferred_store_worker, large):
    deferred_stores.enqueue(ref(large), TimeBudget(60))
    health_imaging.faults.arm(Fault(error="InternalServerException"))
    with pytest.raises(UpstreamFailed):
        deferred_store_worker.store(ref(large), TimeBudget(60))
    assert deferred_stores.is_pending(ref(large), TimeBudget(60))


def test_frame_of_an_image_set_deleted_during_the_store_is_removed(s3, health_imaging, deferred_store_worker, large):
    health_imaging.faults.arm(Fault(operation="GetImageSetMetadata", error="ResourceNotFoundException"))
    with pytest.raises(FrameNotFound):
        deferred_store_worker.store(ref(large), TimeBudget(60))
    assert keys(s3) == []


def test_expired_marker_does_not_block_requeueing(deferred_stores, deferred_store_queue, large, monkeypatch):
    deferred_stores.enqueue(ref(large), TimeBudget(60))
    assert len(deferred_store_queue.received()) == 1
    monkeypatch.setattr(deferred_store, "MARKER_LIFETIME", timedelta(seconds=-60))
    assert not deferred_stores.is_pending(ref(large), TimeBudget(60))
    deferred_stores.enqueue(ref(large), TimeBudget(60))
    assert len(deferred_store_queue.received()) == 1


def test_unreachable_queue_answers_504_and_leaves_no_marker(
    health_imaging, client, large, deferred_store_queue, s3, log_lines
):
    def refuse(**_):
        raise botocore.exceptions.EndpointConnectionError(endpoint_url="https://sqs.example")

    deferred_store_queue.client.meta.events.register("before-call.sqs.SendMessage", refuse)
    try:
        health_imaging.faults.arm(SLOW)
        answer = client.get(large, remaining_ms=LITTLE_TIME)
    finally:
        deferred_store_queue.client.meta.events.unregister("before-call.sqs.SendMessage", refuse)
    assert (answer.status, answer.json()["type"]) == (504, "urn:framegate:problem:upstream-timeout")
    assert keys(s3) == []
    assert "deferred store not queued" in [line["message"] for line in log_lines()]


def test_slow_inline_frame_is_not_deferred(health_imaging, client, deferred_store_queue):
    frame = health_imaging.add_frame(SERVED, os.urandom(2_000_000), "image/jph")
    health_imaging.faults.arm(SLOW)
    assert client.get(frame, remaining_ms=LITTLE_TIME).status == 504
    assert deferred_store_queue.received() == []


def test_deferred_store_that_runs_out_of_time_leaves_nothing_in_s3(s3, health_imaging, deferred_store_worker, large):
    health_imaging.faults.arm(SLOW)
    with pytest.raises(UpstreamTimeout):
        deferred_store_worker.store(ref(large), TimeBudget(0.5))
    assert keys(s3) == []
