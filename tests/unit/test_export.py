"""Image sets exported from the HealthImaging emulator to moto's S3, event included."""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
import zlib
from base64 import b64encode
from dataclasses import replace
from pathlib import Path

import boto3
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from framegate.aws.event_bus import EventBus
from framegate.export.copying import ATTEMPTS, FrameCopier
from framegate.export.exporter import Exporter, ExportResult
from framegate.export.pace import Pace
from framegate.export.records import ExportRecords
from framegate.export.verifying import PixelVerifier
from framegate.healthimaging.client import HealthImaging
from framegate.identifiers import FrameRef, ImageSetRef
from framegate.messages import ExportOrder
from framegate.problems import AccessDenied, ExportIncomplete, Problem, Throttled, UpstreamFailed, UpstreamTimeout
from framegate.storage.image_set_remover import ImageSetRemover
from framegate.time_budget import TimeBudget
from local.health_imaging import Fault, GeneratedBody
from tests.unit.conftest import BUCKET, SERVED
from tests.unit.exporting import (
    add_image_set,
    content,
    is_exported,
    keys,
    manifest_lines,
    outcomes,
    stored_frames,
)

# Held back for the end of an export: a quarter of the time.
WHOLE, LITTLE = 60.0, 1.2


@pytest.fixture
def events(moto, sqs_client):
    """Gives the events of Framegate that were put on the default bus, each once."""
    client = boto3.client("events")
    name = f"heard-{uuid.uuid4()}"
    url = sqs_client.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs_client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    client.put_rule(Name=name, EventPattern=json.dumps({"source": ["framegate"]}))
    client.put_targets(Rule=name, Targets=[{"Id": "heard", "Arn": arn}])

    def heard():
        found = []
        while messages := sqs_client.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                sqs_client.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                event = json.loads(message["Body"])
                found.append((event["detail-type"], event["detail"]))
        return found

    yield heard
    client.remove_targets(Rule=name, Ids=["heard"])
    client.delete_rule(Name=name)


@pytest.fixture
def pace():
    return Pace(100_000)


@pytest.fixture
def exporter(health_imaging, objects, store, pace, moto):
    import botocore.session

    source = HealthImaging(botocore.session.Session(), max_connections=4)
    bus = EventBus(lambda: boto3.client("events"), "default")
    copier = FrameCopier(source, store, pace)
    return Exporter(source, store, copier, ExportRecords(objects), ImageSetRemover(objects), bus, workers=4)


def order_for(image_set, **members):
    return ExportOrder(image_set, "version-1", "1", **members)


def finish(exporter, order, seconds=WHOLE):
    """Export to the end, however many invocations that takes; returns the result and their number."""
    for invocation in range(1, 200):
        outcome = exporter.export(order, TimeBudget(seconds))
        if isinstance(outcome, ExportResult):
            return outcome, invocation
        order = outcome
    raise AssertionError("it goes round in circles")


# What is exported


def test_every_frame_is_copied_with_its_media_type_and_checksum(s3, health_imaging, exporter):
    image_set, frames = add_image_set(health_imaging, 7, "image/never-heard-of")
    result, _ = finish(exporter, order_for(image_set))
    assert is_exported(s3, health_imaging, image_set, frames)
    assert result.completed
    assert result.frames == {"copied": 7, "present": 0, "failed": 0}
    assert result.size == sum(len(health_imaging.content(frame)) for frame in frames)
    for line in manifest_lines(s3, image_set):
        stored = s3.get_object(Bucket=BUCKET, Key=line["key"], ChecksumMode="ENABLED")
        body = stored["Body"].read()
        assert (line["contentType"], line["contentLength"]) == (stored["ContentType"], len(body))
        assert line["contentType"] == "image/never-heard-of"
        assert line["checksumCRC32"] == b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
        assert line["checksumCRC32"] == stored["ChecksumCRC32"]
        assert stored["CacheControl"] == "private, max-age=31536000, immutable"


def test_manifest_names_instance_frame_number_and_key(s3, health_imaging, exporter):
    image_set, (frame,) = add_image_set(health_imaging, 1)
    finish(exporter, order_for(image_set))
    (line,) = manifest_lines(s3, image_set)
    assert line.keys() == {
        "sopInstanceUID",
        "frameNumber",
        "imageFrameId",
        "key",
        "contentType",
        "contentLength",
        "checksumCRC32",
        "outcome",
    }
    assert line["key"] == f"frames/{SERVED}/{image_set.image_set_id}/{frame.image_frame_id}"
    assert line["frameNumber"] == 1
    assert line["sopInstanceUID"].startswith("1.2.826")


def test_completion_is_announced_with_the_manifests_place_and_counts(health_imaging, exporter, events):
    image_set, frames = add_image_set(health_imaging, 3)
    finish(exporter, order_for(image_set))
    ((detail_type, detail),) = events()
    assert detail_type == "Frame Export Completed"
    assert detail == {
        "datastoreId": SERVED,
        "imageSetId": image_set.image_set_id,
        "versionId": "1",
        "exportId": "version-1",
        "outcome": "completed",
        "problem": None,
        "manifest": {
            "bucket": BUCKET,
            "key": f"exports/{SERVED}/{image_set.image_set_id}/version-1/manifest.jsonl",
        },
        "frames": {"copied": 3, "present": 0, "failed": 0},
        "bytes": sum(len(health_imaging.content(frame)) for frame in frames),
    }


def test_second_export_copies_nothing_and_says_the_same(s3, health_imaging, exporter):
    image_set, frames = add_image_set(health_imaging, 5)
    finish(exporter, order_for(image_set))
    first = manifest_lines(s3, image_set)
    health_imaging.calls.clear()
    result, _ = finish(exporter, order_for(image_set))
    assert result.frames == {"copied": 0, "present": 5, "failed": 0}
    assert is_exported(s3, health_imaging, image_set, frames)
    assert [{**line, "outcome": "copied"} for line in manifest_lines(s3, image_set)] == first
    # The one that shows that the image set is still there.
    assert [call.operation for call in health_imaging.calls].count("GetImageFrame") == 1


def test_frames_that_are_there_are_not_copied_again(s3, health_imaging, exporter, client):
    image_set, frames = add_image_set(health_imaging, 4)
    assert client.get(frames[2], "delivery=url").status == 303
    result, _ = finish(exporter, order_for(image_set))
    assert result.frames == {"copied": 3, "present": 1, "failed": 0}
    assert is_exported(s3, health_imaging, image_set, frames)


def test_only_the_frames_that_are_asked_for_are_exported(s3, health_imaging, exporter):
    image_set, frames = add_image_set(health_imaging, 5)
    wanted = (frames[3].image_frame_id, frames[1].image_frame_id)
    finish(exporter, order_for(image_set, image_frame_ids=wanted))
    assert set(stored_frames(s3, image_set)) == set(wanted)


def test_frame_that_is_asked_for_and_not_in_the_image_set_is_a_line(s3, health_imaging, exporter, events):
    image_set, frames = add_image_set(health_imaging, 2)
    wanted = (frames[0].image_frame_id, "0" * 32)
    result, _ = finish(exporter, order_for(image_set, image_frame_ids=wanted))
    assert not result.completed
    assert outcomes(manifest_lines(s3, image_set)) == ["copied", "frame-not-found"]
    ((detail_type, detail),) = events()
    assert (detail_type, detail["frames"]) == ("Frame Export Failed", {"copied": 1, "present": 0, "failed": 1})


def test_image_set_without_frames_has_an_empty_manifest(s3, health_imaging, exporter):
    image_set, _ = add_image_set(health_imaging, 1)
    health_imaging.stores.image_set(SERVED, image_set.image_set_id).versions.append(
        {"Patient": {"DICOM": {}}, "Study": {"DICOM": {}, "Series": {}}}
    )
    result, _ = finish(exporter, replace(order_for(image_set), version_id="2"))
    assert result.completed
    assert manifest_lines(s3, image_set) == []


def test_large_frame_is_exported_in_parts(s3, health_imaging, exporter):
    block = os.urandom(1 << 20)
    frame = health_imaging.add_frame(SERVED, GeneratedBody(20 << 20, lambda: (block for _ in range(20))), "video/mp4")
    image_set = ImageSetRef(SERVED, frame.image_set_id)
    finish(exporter, order_for(image_set))
    assert is_exported(s3, health_imaging, image_set, [frame])


# In more than one invocation


def test_export_goes_on_where_it_stopped(s3, health_imaging, exporter, events):
    image_set, frames = add_image_set(health_imaging, 40)
    health_imaging.faults.arm(Fault(latency=0.1))
    result, invocations = finish(exporter, order_for(image_set), LITTLE)
    assert invocations > 1
    health_imaging.faults.clear()
    assert is_exported(s3, health_imaging, image_set, frames)
    # What was still on its way to S3 when the time ran out may have arrived: then the next invocation finds it present.
    assert result.frames["copied"] + result.frames["present"] == len(frames)
    assert result.frames["failed"] == 0
    assert len(events()) == 1
    assert [key for key in keys(s3) if "progress" in key] == []


def test_invocation_that_is_repeated_loses_and_doubles_nothing(s3, health_imaging, exporter):
    image_set, frames = add_image_set(health_imaging, 40)
    health_imaging.faults.arm(Fault(latency=0.1))
    order = order_for(image_set)
    following = exporter.export(order, TimeBudget(LITTLE))
    # Its end was not noticed, so it is done again; then both chains go on, one after the other.
    again = exporter.export(order, TimeBudget(LITTLE))
    health_imaging.faults.clear()
    for each in (following, again, following):
        result = each if isinstance(each, ExportResult) else finish(exporter, each)[0]
        assert sum(result.frames.values()) == 40
        assert is_exported(s3, health_imaging, image_set, frames)
    assert [key for key in keys(s3) if "progress" in key] == []


def test_worker_that_dies_half_way_is_repeated_from_the_last_record(s3, health_imaging, exporter, monkeypatch):
    image_set, frames = add_image_set(health_imaging, 30)
    copied = []
    original = FrameCopier.copy

    def dies(self, frame, *arguments, **options):
        if len(copied) == 12:
            raise SystemExit
        copied.append(frame)
        return original(self, frame, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(FrameCopier, "copy", dies)
        with pytest.raises(SystemExit):
            exporter.export(order_for(image_set), TimeBudget(WHOLE))
    assert 0 < len(stored_frames(s3, image_set)) < 30
    result, _ = finish(exporter, order_for(image_set))
    assert is_exported(s3, health_imaging, image_set, frames)
    assert result.frames["present"] >= 10


def test_export_that_makes_no_headway_is_a_failure_and_not_a_circle(s3, health_imaging, exporter):
    image_set, _ = add_image_set(health_imaging, 5)
    health_imaging.faults.arm(Fault(then="stall"))
    with pytest.raises(UpstreamTimeout):
        exporter.export(order_for(image_set), TimeBudget(LITTLE))
    assert keys(s3) == []


# What goes wrong


@pytest.mark.parametrize(
    "fault",
    [
        Fault(error="ThrottlingException", probability=0.2),
        Fault(error="InternalServerException", probability=0.15),
        Fault(then="reset", after=500, probability=0.15),
        Fault(then="close", after=900, probability=0.15),
        Fault(then="reset", probability=0.15),
    ],
    ids=lambda fault: f"{fault.error} {fault.then} {fault.after}",
)
def test_faults_that_pass_leave_no_trace(s3, health_imaging, exporter, fault):
    image_set, frames = add_image_set(health_imaging, 30)
    health_imaging.faults.arm(fault)
    try:
        result, _ = finish(exporter, order_for(image_set))
    except ExportIncomplete:
        # By chance, a frame failed every time: it comes again.
        health_imaging.faults.clear()
        result, _ = finish(exporter, order_for(image_set))
    health_imaging.faults.clear()
    assert result.completed
    assert is_exported(s3, health_imaging, image_set, frames)


def test_throttling_slows_down_and_drops_nothing(s3, health_imaging, exporter, pace):
    image_set, frames = add_image_set(health_imaging, 10)
    health_imaging.faults.arm(Fault(error="ThrottlingException", times=20))
    result, _ = finish(exporter, order_for(image_set))
    assert result.frames["copied"] == 10
    assert pace.rate < 100_000
    assert is_exported(s3, health_imaging, image_set, frames)


def test_throttling_without_end_is_tried_again_later(health_imaging, exporter):
    image_set, _ = add_image_set(health_imaging, 3)
    health_imaging.faults.arm(Fault(error="ThrottlingException"))
    with pytest.raises(Throttled):
        exporter.export(order_for(image_set), TimeBudget(LITTLE))


@pytest.mark.parametrize(
    ("error", "slug"),
    [
        ("InternalServerException", "upstream-failed"),
        ("AccessDeniedException", "access-denied"),
        ("ConflictException", "conflict"),
    ],
)
def test_frame_that_fails_for_now_is_a_line_and_comes_again(s3, health_imaging, exporter, events, error, slug):
    image_set, frames = add_image_set(health_imaging, 4)
    health_imaging.faults.arm(Fault(error=error, image_frame_id=frames[2].image_frame_id))
    with pytest.raises(ExportIncomplete):
        exporter.export(order_for(image_set), TimeBudget(WHOLE))
    lines = manifest_lines(s3, image_set)
    assert outcomes(lines) == ["copied", "copied", slug, "copied"]
    assert lines[2]["detail"]
    ((detail_type, detail),) = events()
    assert (detail_type, detail["frames"]["failed"]) == ("Frame Export Failed", 1)

    health_imaging.faults.clear()
    finish(exporter, order_for(image_set))
    assert is_exported(s3, health_imaging, image_set, frames)
    assert [each for each, _ in events()] == ["Frame Export Completed"]


def test_last_attempt_gives_up_what_is_missing(s3, health_imaging, exporter):
    image_set, frames = add_image_set(health_imaging, 2)
    health_imaging.faults.arm(Fault(error="InternalServerException", image_frame_id=frames[0].image_frame_id))
    result = exporter.export(order_for(image_set), TimeBudget(WHOLE), last_attempt=True)
    assert (result.completed, result.frames["failed"]) == (False, 1)
    tried = [call for call in health_imaging.calls if call.image_frame_id == frames[0].image_frame_id]
    assert len(tried) == ATTEMPTS


def test_frame_that_can_never_be_had_is_a_line_and_does_not_come_again(s3, health_imaging, exporter):
    image_set, frames = add_image_set(health_imaging, 3)
    health_imaging.faults.arm(Fault(error="ValidationException", image_frame_id=frames[1].image_frame_id))
    result, _ = finish(exporter, order_for(image_set))
    assert result.frames == {"copied": 2, "present": 0, "failed": 1}
    assert outcomes(manifest_lines(s3, image_set)) == ["copied", "upstream-rejected", "copied"]


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        (Fault(operation="GetImageSetMetadata", error="InternalServerException"), UpstreamFailed),
        (Fault(operation="GetImageSetMetadata", error="ThrottlingException"), Throttled),
        (Fault(operation="GetImageSetMetadata", error="AccessDeniedException"), AccessDenied),
        (Fault(operation="GetImageSetMetadata", then="close", after=40), UpstreamFailed),
    ],
    ids=lambda value: getattr(value, "error", None) or getattr(value, "__name__", "short"),
)
def test_metadata_that_cannot_be_had_for_now_is_tried_again_later(s3, health_imaging, exporter, fault, problem):
    image_set, _ = add_image_set(health_imaging, 3)
    health_imaging.faults.arm(fault)
    with pytest.raises(problem):
        exporter.export(order_for(image_set), TimeBudget(WHOLE))
    assert keys(s3) == []


def test_s3_that_fails_for_now_is_tried_again_later(health_imaging, exporter, s3, new_object_store, store, monkeypatch):
    image_set, _ = add_image_set(health_imaging, 2)
    monkeypatch.setattr(store, "_objects", new_object_store("no-such-bucket-anywhere"))
    with pytest.raises(Problem) as failed:
        exporter.export(order_for(image_set), TimeBudget(WHOLE))
    assert failed.value.evidence["upstream_error"] == "NoSuchBucket"


def test_event_that_is_not_taken_brings_the_export_back(health_imaging, exporter, monkeypatch):
    image_set, _ = add_image_set(health_imaging, 1)
    out_of_reach = boto3.client("events", endpoint_url="http://127.0.0.1:1")
    monkeypatch.setattr(exporter, "_bus", EventBus(lambda: out_of_reach, "default"))
    with pytest.raises(UpstreamFailed, match="EventBridge"):
        exporter.export(order_for(image_set), TimeBudget(WHOLE))


# Deleted image sets


def test_deleted_image_set_is_recorded_and_not_tried_again(s3, health_imaging, exporter, events):
    image_set, _ = add_image_set(health_imaging, 3)
    health_imaging.delete_image_set(SERVED, image_set.image_set_id)
    result, _ = finish(exporter, order_for(image_set))
    assert (result.completed, result.problem.slug, result.manifest) == (False, "frame-not-found", None)
    ((detail_type, detail),) = events()
    assert (detail_type, detail["problem"]) == ("Frame Export Failed", "frame-not-found")
    assert keys(s3) == []


def test_image_set_that_is_deleted_while_it_is_exported_does_not_stay(s3, health_imaging, exporter):
    image_set, _ = add_image_set(health_imaging, 40)
    health_imaging.faults.arm(Fault(latency=0.1))
    deletion = threading.Timer(0.4, health_imaging.delete_image_set, (SERVED, image_set.image_set_id))
    deletion.start()
    result, _ = finish(exporter, order_for(image_set))
    deletion.join()
    assert result.problem.slug == "frame-not-found"
    assert keys(s3) == []
    # Not every one of the 40 was asked for in vain.
    assert sum(call.status == 404 for call in health_imaging.calls) < 20


def test_image_set_that_is_deleted_at_the_very_end_does_not_stay(s3, health_imaging, exporter, monkeypatch):
    image_set, _ = add_image_set(health_imaging, 3)
    original = ExportRecords.write_manifest

    def then_delete(self, *arguments):
        key = original(self, *arguments)
        health_imaging.delete_image_set(SERVED, image_set.image_set_id)
        return key

    monkeypatch.setattr(ExportRecords, "write_manifest", then_delete)
    result, _ = finish(exporter, order_for(image_set))
    assert not result.completed
    assert keys(s3) == []


def test_version_that_does_not_exist_removes_nothing(s3, health_imaging, exporter):
    image_set, frames = add_image_set(health_imaging, 2)
    finish(exporter, order_for(image_set))
    result, _ = finish(exporter, replace(order_for(image_set), version_id="7", export_id="other"))
    assert result.problem.slug == "version-not-found"
    assert is_exported(s3, health_imaging, image_set, frames)


def test_remover_removes_all_of_one_image_set_and_nothing_of_others(s3, health_imaging, exporter, objects, handover):
    (gone, frames), (kept, _) = add_image_set(health_imaging, 3), add_image_set(health_imaging, 2)
    for image_set in (gone, kept):
        finish(exporter, order_for(image_set))
    handover.hand_over(replace_frame(frames[0]), TimeBudget(60))
    assert ImageSetRemover(objects).remove(gone, TimeBudget(60)) == 5
    assert len(keys(s3)) == 3
    assert not [key for key in keys(s3) if gone.image_set_id in key]
    assert ImageSetRemover(objects).remove(gone, TimeBudget(60)) == 0


def replace_frame(frame):
    from framegate.identifiers import FrameRef

    return FrameRef(frame.datastore_id, frame.image_set_id, frame.image_frame_id)


# Pixels


@pytest.fixture(scope="session")
def imported(emulator, tmp_path_factory):
    """Real image sets, in a data store of their own."""
    from local.samples import write_samples

    folder = tmp_path_factory.mktemp("dicom")
    write_samples(folder)
    return emulator.import_files(SERVED, sorted(folder.iterdir()))


def lossless(imported):
    return next(each for each in imported if any(frame.content_type == "image/jph" for frame in each.frames.values()))


def test_pixels_of_real_frames_are_verified(s3, exporter, imported):
    for image_set in imported:
        ref = ImageSetRef(SERVED, image_set.id)
        result, _ = finish(exporter, order_for(ref, verify=True))
        assert result.completed
        for line in manifest_lines(s3, ref):
            assert line.get("pixelsVerified", False) == (line["contentType"] == "image/jph")


@pytest.fixture
def scan(emulator, health_imaging):
    """An imported image set of one lossless frame: its address, and that of the frame."""
    (image_set,) = emulator.import_files(SERVED, [Path(get_testdata_file("CT_small.dcm"))])
    (frame_id,) = image_set.frames
    ref = ImageSetRef(SERVED, image_set.id)
    return ref, FrameRef(SERVED, image_set.id, frame_id)


def keys_of(frame):
    path = f"{frame.datastore_id}/{frame.image_set_id}/{frame.image_frame_id}"
    return f"frames/{path}", f"mismatched/{path}"


def damage(s3, key):
    """Replace a stored frame by one that decodes to other pixels, or not at all; return its bytes."""
    damaged = bytearray(content(s3, key))
    damaged[len(damaged) // 2] ^= 0x55
    s3.put_object(Bucket=BUCKET, Key=key, Body=bytes(damaged), ContentType="image/jph")
    return bytes(damaged)


def export(exporter, ref, **members):
    return finish(exporter, order_for(ref, **members))[0]


@pytest.fixture
def found_wrong(s3, exporter, scan):
    """A frame that was damaged in the bucket, and found wrong by a verifying export; gives the damaged bytes too."""
    ref, frame = scan
    export(exporter, ref)
    damaged = damage(s3, keys_of(frame)[0])
    assert export(exporter, ref, verify=True).frames == {"copied": 0, "present": 0, "failed": 1}
    return ref, frame, damaged


def test_wrong_frame_is_moved_out_of_reach_and_not_announced_as_good(s3, events, found_wrong):
    ref, frame, damaged = found_wrong
    good, apart = keys_of(frame)
    assert [key for key in keys(s3) if not key.startswith("exports/")] == [apart]
    assert content(s3, apart) == damaged
    assert s3.get_object_tagging(Bucket=BUCKET, Key=apart)["TagSet"] == [
        {"Key": "framegate-pixels", "Value": "mismatch"}
    ]
    (line,) = manifest_lines(s3, ref)
    assert (line["outcome"], line["key"]) == ("pixel-mismatch", good)
    assert (line["contentType"], line["contentLength"], line["checksumCRC32"]) == (None, None, None)
    assert "mismatched/" in line["detail"]
    assert "pixelsVerified" not in line
    assert [each for each, _ in events()] == ["Frame Export Completed", "Frame Export Failed"]


def test_wrong_frame_is_on_record_in_the_log(log_lines, found_wrong):
    _, frame, _ = found_wrong
    (line,) = [line for line in log_lines() if line["message"] == "frame found wrong"]
    assert (line["level"], line["image_frame_id"]) == ("ERROR", frame.image_frame_id)


def test_export_that_does_not_verify_never_calls_a_wrong_frame_good(s3, exporter, found_wrong, events, health_imaging):
    ref, *_ = found_wrong
    events()
    health_imaging.calls.clear()
    for _ in range(2):
        result = export(exporter, ref)
        assert (result.completed, result.frames["failed"]) == (False, 1)
        assert outcomes(manifest_lines(s3, ref)) == ["pixel-mismatch"]
    assert {each for each, _ in events()} == {"Frame Export Failed"}
    assert "GetImageFrame" not in [call.operation for call in health_imaging.calls]


def test_requests_get_a_frame_that_was_found_wrong_from_health_imaging(s3, exporter, found_wrong, client, emulator):
    ref, frame, _ = found_wrong
    right = emulator.content(frame)
    assert client.get(frame).body == right
    location = client.get(frame, "delivery=url").headers["Location"]
    assert f"/{keys_of(frame)[0]}?" in location
    assert content(s3, keys_of(frame)[0]) == right
    # Nobody has verified that copy.
    assert export(exporter, ref).frames["failed"] == 1
    assert export(exporter, ref, verify=True).completed


@pytest.mark.parametrize("stored_by_a_request", [False, True])
def test_verifying_export_replaces_a_wrong_frame_by_a_right_one(
    s3, exporter, found_wrong, client, emulator, stored_by_a_request
):
    ref, frame, _ = found_wrong
    if stored_by_a_request:
        client.get(frame, "delivery=url")
    result = export(exporter, ref, verify=True)
    assert result.frames == {"copied": 1, "present": 0, "failed": 0}
    (line,) = manifest_lines(s3, ref)
    assert line["pixelsVerified"]
    good, apart = keys_of(frame)
    stored = s3.get_object(Bucket=BUCKET, Key=good, ChecksumMode="ENABLED")
    assert stored["Body"].read() == emulator.content(frame)
    assert (stored["ContentType"], stored["CacheControl"]) == ("image/jph", "private, max-age=31536000, immutable")
    assert line["checksumCRC32"] == b64encode(zlib.crc32(emulator.content(frame)).to_bytes(4, "big")).decode()
    assert s3.get_object_tagging(Bucket=BUCKET, Key=good)["TagSet"] == []
    assert apart not in keys(s3)
    assert export(exporter, ref).frames == {"copied": 0, "present": 1, "failed": 0}


def test_wrong_pixels_of_health_imagings_own_stay_out_of_the_store(s3, exporter, scan, client, emulator):
    ref, frame = scan
    emulator.spoil_checksum(frame)
    for _ in range(2):
        assert export(exporter, ref, verify=True).frames["failed"] == 1
        assert [key for key in keys(s3) if not key.startswith("exports/")] == [keys_of(frame)[1]]
        # A request gets what HealthImaging sends; the next verifying export takes its copy away again.
        assert client.get(frame, "delivery=url").status == 303
    assert export(exporter, ref).frames["failed"] == 1


def test_frame_that_an_older_version_tagged_is_out_of_reach_too(s3, exporter, scan, client, emulator):
    ref, frame = scan
    export(exporter, ref)
    good, apart = keys_of(frame)
    damage(s3, good)
    tag_set = [{"Key": "scanned", "Value": "yes"}, {"Key": "framegate-pixels", "Value": "mismatch"}]
    s3.put_object_tagging(Bucket=BUCKET, Key=good, Tagging={"TagSet": tag_set})
    assert export(exporter, ref).frames["failed"] == 1
    assert outcomes(manifest_lines(s3, ref)) == ["pixel-mismatch"]
    assert export(exporter, ref, verify=True).frames == {"copied": 1, "present": 0, "failed": 0}
    assert (content(s3, good), apart in keys(s3)) == (emulator.content(frame), False)


def test_request_replaces_a_tagged_frame(s3, exporter, scan, client, emulator):
    ref, frame = scan
    export(exporter, ref)
    good, _ = keys_of(frame)
    damage(s3, good)
    s3.put_object_tagging(
        Bucket=BUCKET, Key=good, Tagging={"TagSet": [{"Key": "framegate-pixels", "Value": "mismatch"}]}
    )
    assert client.get(frame, "delivery=url").status == 303
    assert content(s3, good) == emulator.content(frame)


def test_tags_of_others_change_nothing(s3, exporter, scan, client, health_imaging):
    ref, frame = scan
    export(exporter, ref)
    s3.put_object_tagging(
        Bucket=BUCKET, Key=keys_of(frame)[0], Tagging={"TagSet": [{"Key": "scanned", "Value": "yes"}]}
    )
    health_imaging.calls.clear()
    assert client.get(frame, "delivery=url").status == 303
    assert list(health_imaging.calls) == []
    assert export(exporter, ref).frames["present"] == 1


@pytest.mark.parametrize("step", ["copy", "remove_if_unchanged"])
def test_frame_is_out_of_reach_from_the_first_step_on(s3, exporter, scan, client, emulator, objects, monkeypatch, step):
    ref, frame = scan
    export(exporter, ref)
    damage(s3, keys_of(frame)[0])

    def die(*_):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(type(objects), step, die)
        with pytest.raises(SystemExit):
            export(exporter, ref, verify=True)
    assert export(exporter, ref).frames["failed"] == 1
    # The message comes again.
    assert export(exporter, ref, verify=True).frames == {"copied": 1, "present": 0, "failed": 0}
    assert content(s3, keys_of(frame)[0]) == emulator.content(frame)
    assert client.get(frame, "delivery=url").status == 303


def test_frame_that_a_request_replaced_meanwhile_is_verified_again(s3, exporter, scan, emulator, store, monkeypatch):
    ref, frame = scan
    export(exporter, ref)
    good, apart = keys_of(frame)
    damage(s3, good)
    condemn = type(store).condemn

    def replaced_first(self, *arguments):
        monkeypatch.setattr(type(store), "condemn", condemn)
        s3.put_object(Bucket=BUCKET, Key=good, Body=emulator.content(frame), ContentType="image/jph")
        condemn(self, *arguments)

    monkeypatch.setattr(type(store), "condemn", replaced_first)
    assert export(exporter, ref, verify=True).completed
    assert content(s3, good) == emulator.content(frame)
    assert s3.get_object_tagging(Bucket=BUCKET, Key=good)["TagSet"] == []
    assert apart not in keys(s3)


def test_frame_that_is_replaced_while_it_is_read_is_verified_again(s3, exporter, scan, emulator, store, monkeypatch):
    ref, frame = scan
    export(exporter, ref)
    good, _ = keys_of(frame)
    find = type(store).find

    def then_replaced(self, *arguments):
        monkeypatch.setattr(type(store), "find", find)
        found = find(self, *arguments)
        damage(s3, good)
        return found

    monkeypatch.setattr(type(store), "find", then_replaced)
    assert export(exporter, ref, verify=True).frames["failed"] == 1
    assert outcomes(manifest_lines(s3, ref)) == ["pixel-mismatch"]


def test_removal_takes_wrong_frames_too(s3, found_wrong, objects):
    ref, *_ = found_wrong
    ImageSetRemover(objects).remove(ref, TimeBudget(60))
    assert keys(s3) == []


def test_image_set_that_is_deleted_while_a_wrong_frame_is_moved_does_not_stay(
    s3, exporter, found_wrong, emulator, monkeypatch
):
    ref, *_ = found_wrong
    original = ExportRecords.write_manifest

    def then_delete(self, *arguments):
        key = original(self, *arguments)
        emulator.delete_image_set(SERVED, ref.image_set_id)
        return key

    emulator.spoil_checksum(found_wrong[1])
    monkeypatch.setattr(ExportRecords, "write_manifest", then_delete)
    export(exporter, ref, verify=True)
    assert keys(s3) == []


def test_frame_of_which_nothing_can_be_said_is_exported_with_the_reason(s3, health_imaging, exporter):
    image_set, _ = add_image_set(health_imaging, 2)
    assert export(exporter, image_set, verify=True).completed
    for line in manifest_lines(s3, image_set):
        assert (line["outcome"], line["pixelsNotVerified"]) == ("copied", "no-checksum")
        assert "pixelsVerified" not in line


def test_32_bit_frame_is_verified(s3, exporter, emulator, health_imaging, tmp_path):
    dataset = dcmread(get_testdata_file("CT_small.dcm"))
    dose = (np.arange(128 * 128, dtype="u4") * 250_001).reshape(128, 128)
    dataset.BitsAllocated = dataset.BitsStored = 32
    dataset.HighBit, dataset.PixelRepresentation, dataset.PixelData = 31, 0, dose.tobytes()
    dataset.save_as(tmp_path / "dose.dcm")
    (image_set,) = emulator.import_files(SERVED, [tmp_path / "dose.dcm"])
    ref = ImageSetRef(SERVED, image_set.id)
    assert export(exporter, ref, verify=True).completed
    (line,) = manifest_lines(s3, ref)
    assert (line["contentType"], line["pixelsVerified"]) == ("image/jph", True)


def test_unverified_frame_is_left_to_do_when_the_time_ends(s3, exporter, scan, monkeypatch):
    ref, _ = scan
    monkeypatch.setattr("framegate.export.verifying.MIN_DECODE_SECONDS", 1000)
    with pytest.raises(UpstreamTimeout):
        exporter.export(order_for(ref, verify=True), TimeBudget(WHOLE))
    monkeypatch.undo()


def test_pixels_are_not_looked_at_unless_asked_for(s3, exporter, imported, monkeypatch):
    monkeypatch.setattr(PixelVerifier, "verify", None)
    ref = ImageSetRef(SERVED, lossless(imported).id)
    result, _ = finish(exporter, order_for(ref))
    assert result.completed
    assert not [line for line in manifest_lines(s3, ref) if "pixelsVerified" in line]


# What it looks like from outside


def test_workers_copy_at_the_same_time(health_imaging, exporter):
    image_set, _ = add_image_set(health_imaging, 12)
    health_imaging.faults.arm(Fault(latency=0.3))
    started = time.monotonic()
    finish(exporter, order_for(image_set))
    assert time.monotonic() - started < 12 * 0.3


def test_pace_is_kept(health_imaging, exporter, store, objects):
    image_set, _ = add_image_set(health_imaging, 10)
    exporter._copier = FrameCopier(exporter._source, store, Pace(20))
    started = time.monotonic()
    finish(exporter, order_for(image_set))
    assert time.monotonic() - started >= 9 / 20
