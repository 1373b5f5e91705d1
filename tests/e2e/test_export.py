"""Exports to S3 by events and request manifests, including faults and deletions."""

from __future__ import annotations

import json
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pydicom
import pytest
import requests

from local.health_imaging import Fault
from tests.e2e.test_large_frames import MIB, generated
from tests.e2e.watching import TIMEOUT_SECONDS, Bucket, Queue, wait_for


@pytest.fixture
def bucket(s3, deployment):
    return Bucket(s3, deployment.frame_bucket)


@pytest.fixture(scope="module")
def sqs(cloud):
    return cloud.client("sqs")


@pytest.fixture
def queue(sqs, deployment):
    return Queue(sqs, deployment.export_queue_url)


@pytest.fixture
def deferred_store_queue(sqs, deployment):
    return Queue(sqs, deployment.deferred_store_queue_url)


@pytest.fixture
def dead_letters(sqs, deployment):
    return Queue(sqs, deployment.dead_letter_queue_url)


@pytest.fixture(scope="module")
def events(cloud, sqs):
    """A function that returns the events about an image set that a rule on the default bus has received."""
    client = cloud.client("events")
    url = sqs.create_queue(QueueName="pipeline")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    client.put_rule(Name="pipeline", EventPattern=json.dumps({"source": ["framegate"]}))
    client.put_targets(Rule="pipeline", Targets=[{"Id": "pipeline", "Arn": arn}])
    received = []

    def about(frame):
        while messages := Queue(sqs, url).receive():
            received.extend(json.loads(message["Body"]) for message in messages)
        return [
            (event["detail-type"], event["detail"])
            for event in received
            if event["detail"]["imageSetId"] == frame.image_set_id
        ]

    return about


@pytest.fixture
def is_exported(bucket, emulator):
    """A function that asserts that S3 has exactly these frames, and that the manifest lists each once."""

    def check(frames, export_id="version-1"):
        emulator.faults.clear()
        lines = bucket.manifest(frames[0], export_id)
        assert Counter(line["imageFrameId"] for line in lines) == Counter(frame.image_frame_id for frame in frames)
        assert {line["outcome"] for line in lines} <= {"copied", "present"}
        assert bucket.frames(frames[0]) == {line["key"] for line in lines}
        for frame in frames:
            key = f"frames/{frame.datastore_id}/{frame.image_set_id}/{frame.image_frame_id}"
            assert bucket.read(key) == emulator.content(frame)
        return True

    return check


@pytest.fixture
def add(emulator, datastore_id):
    """A function that adds an image set of `count` frames of `size` bytes, and can announce it by an event."""

    def image_set(count, size=20_000, created=True):
        contents = [os.urandom(size) for _ in range(count)]
        frames = emulator.add_frames(datastore_id, contents, "image/jph", per_instance=5)
        if created:
            emulator.announce("Image Set Created", datastore_id, frames[0].image_set_id)
        return frames

    return image_set


# Events


def test_import_exports_every_frame_to_s3(bucket, imported, health_imaging):
    keys = {f"frames/{each.datastore_id}/{each.image_set_id}/{each.image_frame_id}" for each in imported.frames}
    wait_for(lambda: keys <= bucket.listed("frames/"))
    image_sets = {frame.image_set_id: frame for frame in imported.frames}
    for frame in image_sets.values():
        wait_for(lambda frame=frame: bucket.manifest(frame))
    for frame in imported.frames:
        answer = health_imaging.get_image_frame(
            datastoreId=frame.datastore_id,
            imageSetId=frame.image_set_id,
            imageFrameInformation={"imageFrameId": frame.image_frame_id},
        )
        stored = bucket.s3.get_object(
            Bucket=bucket.name, Key=f"frames/{frame.datastore_id}/{frame.image_set_id}/{frame.image_frame_id}"
        )
        assert stored["Body"].read() == answer["imageFrameBlob"].read()
        assert stored["ContentType"] == answer["contentType"]
    listed = [line for frame in image_sets.values() for line in bucket.manifest(frame)]
    assert Counter((line["sopInstanceUID"], line["frameNumber"]) for line in listed) == Counter(
        (frame.sop_instance_uid, frame.number) for frame in imported.frames
    )


def test_series_of_an_exported_image_set_opens_without_a_search(api, bucket, imported, emulator):
    datasets = (pydicom.dcmread(path, stop_before_pixels=True) for path in sorted(imported.folder.iterdir()))
    dataset = next(each for each in datasets if each.get("Modality") == "CT")
    frame = next(each for each in imported.frames if each.sop_instance_uid == dataset.SOPInstanceUID)
    wait_for(lambda: bucket.manifest(frame))
    emulator.calls.clear()
    series = f"{api.url}/datastore/{imported.datastore_id}/studies/{dataset.StudyInstanceUID}"
    series += f"/series/{dataset.SeriesInstanceUID}"
    assert api.request("GET", f"{series}/instances/{dataset.SOPInstanceUID}/frames/1").status_code == 200
    assert "SearchImageSets" not in {call.operation for call in emulator.calls}


def test_large_imported_frame_is_stored_before_the_first_request(api, bucket, imported, emulator):
    frame = max(imported.frames, key=lambda each: each.size)
    wait_for(lambda: bucket.manifest(frame))
    emulator.calls.clear()
    answer = api.get(frame, params={"delivery": "url"})
    assert answer.status_code == 303
    assert list(emulator.calls) == []


def test_completion_event_reaches_pipelines(bucket, events, add):
    frames = add(3)
    ((detail_type, detail),) = wait_for(lambda: events(frames[0]))
    assert detail_type == "Frame Export Completed"
    assert detail["frames"] == {"copied": 3, "present": 0, "failed": 0}
    place = detail["manifest"]
    assert place["bucket"] == bucket.name
    assert len(bucket.lines(place["key"])) == 3


def test_repeated_event_copies_each_frame_once(bucket, emulator, events, add, is_exported, datastore_id):
    frames = add(20, created=False)
    for _ in range(5):
        emulator.announce("Image Set Created", datastore_id, frames[0].image_set_id)
    wait_for(lambda: len(events(frames[0])) == 5)
    counts = Counter(call.image_frame_id for call in emulator.calls if call.image_set_id == frames[0].image_set_id)
    assert is_exported(frames)
    # Two workers may copy a frame at the same time. Each of the five exports ends with another call for one frame.
    assert sum(counts[frame.image_frame_id] for frame in frames) <= 2 * 20 + 5


def test_events_of_other_data_stores_are_ignored(bucket, emulator, queue, add):
    other = emulator.create_datastore("not-listed")
    frame = emulator.add_frame(other, b"not listed", "image/jph")
    emulator.announce("Image Set Created", other, frame.image_set_id)
    frames = add(1)
    wait_for(lambda: bucket.manifest(frames[0]))
    assert bucket.frames(frame) == set()


# Deletion


def test_deletion_removes_frames_and_manifests(bucket, health_imaging, events, add, datastore_id):
    frames = add(10)
    kept = add(2)
    wait_for(lambda: events(frames[0]) and events(kept[0]))

    def lists_of(frame):
        return [key for key in bucket.listed("studies/") if frame.image_set_id in bucket.read(key).decode()]

    assert (len(lists_of(frames[0])), len(lists_of(kept[0]))) == (1, 1)
    health_imaging.delete_image_set(datastoreId=datastore_id, imageSetId=frames[0].image_set_id)
    wait_for(lambda: not [key for key in bucket.listed() if frames[0].image_set_id in key])
    assert len(bucket.frames(kept[0])) == 2
    assert (len(lists_of(frames[0])), len(lists_of(kept[0]))) == (0, 1)


def test_deletion_during_an_export_leaves_nothing(bucket, emulator, events, add, datastore_id):
    frames = add(100, created=False)
    emulator.faults.arm(Fault(latency=0.3, image_set_id=frames[0].image_set_id))
    emulator.announce("Image Set Created", datastore_id, frames[0].image_set_id)
    wait_for(lambda: bucket.frames(frames[0]))
    emulator.delete_image_set(datastore_id, frames[0].image_set_id)
    ((detail_type, detail),) = wait_for(lambda: events(frames[0]))
    assert (detail_type, detail["problem"]) == ("Frame Export Failed", "frame-not-found")
    wait_for(lambda: not [key for key in bucket.listed() if frames[0].image_set_id in key])


def test_deletion_before_the_created_event_leaves_nothing(bucket, emulator, events, add, datastore_id):
    frames = add(3, created=False)
    emulator.delete_image_set(datastore_id, frames[0].image_set_id)
    emulator.announce("Image Set Created", datastore_id, frames[0].image_set_id)
    wait_for(lambda: events(frames[0]))
    assert not [key for key in bucket.listed() if frames[0].image_set_id in key]


# Faults


@pytest.mark.parametrize(
    "fault",
    [
        Fault(error="ThrottlingException", probability=0.1),
        Fault(then="reset", after=9_000, probability=0.1),
        Fault(then="close", after=15_000, probability=0.1),
    ],
    ids=["throttling", "resets", "short bodies"],
)
def test_faults_lose_no_frames(emulator, events, add, is_exported, datastore_id, fault):
    frames = add(200, created=False)
    emulator.faults.arm(fault)
    emulator.announce("Image Set Created", datastore_id, frames[0].image_set_id)
    wait_for(lambda: "Frame Export Completed" in [each for each, _ in events(frames[0])])
    assert is_exported(frames)


def test_killed_function_loses_no_frames(cloud, bucket, emulator, add, is_exported, datastore_id, events):
    frames = add(60, created=False)
    emulator.faults.arm(Fault(latency=0.3, image_set_id=frames[0].image_set_id))
    emulator.announce("Image Set Created", datastore_id, frames[0].image_set_id)
    wait_for(lambda: bucket.frames(frames[0]))
    for process in cloud.function_processes():
        process.kill()
    emulator.faults.clear()
    assert len(bucket.frames(frames[0])) < 60
    # The message becomes visible soon after the invocation, and not only after the queue's visibility timeout.
    wait_for(lambda: events(frames[0]))
    assert is_exported(frames)
    assert "present" in {line["outcome"] for line in bucket.manifest(frames[0])}
    assert not [key for key in bucket.listed(f"exports/{datastore_id}/{frames[0].image_set_id}/") if "progress" in key]


def test_slow_frames_take_several_invocations_and_none_is_lost(
    emulator, events, add, is_exported, export_log, datastore_id
):
    frames = add(700, 5_000, created=False)
    # At 24 frames at a time, an invocation of ten seconds copies fewer than 600.
    emulator.faults.arm(Fault(latency=0.4, image_set_id=frames[0].image_set_id))
    emulator.announce("Image Set Created", datastore_id, frames[0].image_set_id)
    ((_, detail),) = wait_for(lambda: events(frames[0]))
    assert sum(detail["frames"].values()) == 700
    of_this = [line for line in export_log() if line.get("image_set_id") == frames[0].image_set_id]
    assert "export continues" in [line["message"] for line in of_this]
    assert is_exported(frames)


def test_failed_message_ends_in_the_dead_letter_queue_with_its_cause_in_the_log(
    emulator, queue, dead_letters, add, datastore_id, export_log
):
    frames = add(1, created=False)
    fault = Fault(operation="GetImageSetMetadata", error="InternalServerException", image_set_id=frames[0].image_set_id)
    emulator.faults.arm(fault)
    policy = queue.get("RedrivePolicy")
    # The deployed value of maxReceiveCount would take half an hour.
    queue.set(RedrivePolicy=json.dumps({**json.loads(policy), "maxReceiveCount": 1}))
    try:
        emulator.announce("Image Set Created", datastore_id, frames[0].image_set_id)
        (message,) = wait_for(dead_letters.receive)
    finally:
        queue.set(RedrivePolicy=policy)
    assert json.loads(message["Body"])["detail"]["imagesetId"] == frames[0].image_set_id
    causes = [line for line in export_log(message["MessageId"]) if line["level"] == "ERROR"]
    assert {(line["problem"], line["upstream_error"]) for line in causes} == {
        ("upstream-failed", "InternalServerException")
    }
    assert dead_letters.is_empty()


# Request manifests


def test_request_manifest_is_processed_line_by_line(bucket, emulator, add, is_exported, datastore_id):
    whole, some = add(5, created=False), add(5, created=False)
    names = {"datastoreId": datastore_id}
    prefix = bucket.put_request(
        {**names, "imageSetId": whole[0].image_set_id},
        "no JSON",
        {**names, "imageSetId": some[0].image_set_id, "imageFrameIds": [some[2].image_frame_id], "versionId": "1"},
        {**names, "imageSetId": "0" * 32},
        {"datastoreId": "0" * 32, "imageSetId": "0" * 32},
        {**names, "imageSetId": "malformed"},
        {**names, "imageSetId": whole[0].image_set_id, "priority": 1},
        {**names, "imageSetId": whole[0].image_set_id, "verify": False},
    )
    summary, folder = wait_for(lambda: bucket.results(prefix))
    assert summary["lines"] == {"accepted": 3, "rejected": 5, "rejectedListed": 5}
    assert summary["exports"] == {"completed": 2, "failed": 1}
    assert summary["frames"] == {"copied": 6, "present": 0, "failed": 0}
    rejected = {line["line"]: line["problem"] for line in bucket.lines(f"{folder}rejected.jsonl")}
    assert rejected == {
        2: "invalid-request",
        5: "datastore-not-served",
        6: "invalid-identifier",
        7: "invalid-request",
        8: "duplicate-request",
    }
    assert bucket.lines(f"{folder}failed.jsonl") == [{**names, "imageSetId": "0" * 32}]
    execution = folder.rstrip("/").rpartition("/")[2]
    assert is_exported(whole, f"{execution}-1")
    assert len(bucket.frames(some[0])) == 1


def test_request_longer_than_an_invocation_continues_in_its_workflow(bucket, emulator, add, is_exported, datastore_id):
    frames = add(200, 2_000, created=False)
    emulator.faults.arm(Fault(latency=1.0, image_set_id=frames[0].image_set_id))
    prefix = bucket.put_request({"datastoreId": datastore_id, "imageSetId": frames[0].image_set_id})
    summary, folder = wait_for(lambda: bucket.results(prefix))
    # Where an invocation ends right after S3 stored a frame, the next one finds the frame present.
    copied, present = summary["frames"]["copied"], summary["frames"]["present"]
    assert (copied + present, summary["frames"]["failed"]) == (200, 0)
    assert copied > 150
    assert is_exported(frames, f"{folder.rstrip('/').rpartition('/')[2]}-1")


def test_pixels_are_verified_on_request(bucket, emulator, imported):
    # HealthImaging has checksums for the frames that it transcoded.
    wait_for(lambda: all(bucket.manifest(frame) for frame in imported.frames))
    good, bad = [frame for frame in imported.frames if bucket.head(frame)["ContentType"] == "image/jph"][:2]
    emulator.spoil_checksum(bad)
    prefix = bucket.put_request(
        *(
            {
                "datastoreId": frame.datastore_id,
                "imageSetId": frame.image_set_id,
                "imageFrameIds": [frame.image_frame_id],
                "verify": True,
            }
            for frame in (good, bad)
        )
    )
    summary, folder = wait_for(lambda: bucket.results(prefix))
    emulator.spoil_checksum(bad)
    assert summary["exports"] == {"completed": 1, "failed": 1}
    execution = folder.rstrip("/").rpartition("/")[2]
    (line,) = bucket.manifest(good, f"{execution}-1")
    assert line["pixelsVerified"]
    (line,) = bucket.manifest(bad, f"{execution}-2")
    assert line["outcome"] == "pixel-mismatch"
    assert (bucket.where(good), bucket.where(bad)) == ({"frames"}, {"mismatched"})


# Frames that take longer than a request


def test_frame_too_slow_for_a_request_is_queued_once_and_stored(api, bucket, emulator, datastore_id, export_log):
    # Unit tests have more requests at a time. Here, each starts a function, which takes long on a small machine.
    frame = emulator.add_frame(datastore_id, generated(60), "video/mp4")
    emulator.faults.arm(Fault(bytes_per_second=MIB, image_frame_id=frame.image_frame_id, times=3))
    with ThreadPoolExecutor(3) as clients:
        answers = list(clients.map(lambda _: api.get(frame, timeout=TIMEOUT_SECONDS), range(3)))
    queued = [answer for answer in answers if answer.status_code == 202]
    # A slow request may find the frame stored that a quick one queued.
    assert queued
    assert {answer.status_code for answer in answers} <= {202, 303}
    for answer in queued:
        assert answer.headers["Content-Type"] == "application/json"
        assert (answer.json()["type"], answer.headers["Retry-After"]) == ("urn:framegate:frame-queued", "30")
    answer = wait_for(lambda: (found := api.get(frame)).status_code == 303 and found)
    with requests.get(answer.headers["Location"], stream=True, timeout=60) as stored:
        assert int(stored.headers["Content-Length"]) == 60 * MIB
    # The function removes the marker after it has stored the frame.
    assert wait_for(lambda: bucket.listed("queued/") == set())
    assert not [each for each in bucket.uploads() if frame.image_frame_id in each["Key"]]

    def stored_lines():
        return [line for line in export_log() if line.get("image_frame_id") == frame.image_frame_id]

    assert [line["message"] for line in wait_for(stored_lines)] == ["frame stored"]


def test_forged_messages_change_nothing(bucket, events, add, queue, export_log, emulator):
    frames = add(3)
    wait_for(lambda: events(frames[0]))
    names = {"datastoreId": frames[0].datastore_id, "imageSetId": frames[0].image_set_id}
    queue.send({"framegate": "remove", **names, "again": True})
    wait_for(lambda: "image set exists, nothing removed" in [line.get("message") for line in export_log()])
    assert len(bucket.frames(frames[0])) == 3
    assert len(bucket.manifest(frames[0])) == 3


# Queues


def test_queues_are_empty_at_the_end(queue, deferred_store_queue, dead_letters):
    wait_for(queue.is_empty, 60)
    wait_for(deferred_store_queue.is_empty, 60)
    assert dead_letters.is_empty()
