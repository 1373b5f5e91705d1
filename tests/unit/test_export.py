"""Exports of image sets from the HealthImaging emulator to moto's S3, including the events that announce them."""

from __future__ import annotations

import os
import time
import warnings
import zlib
from base64 import b64encode
from dataclasses import replace

import boto3
import pytest

from framegate.aws.event_bus import EventBus
from framegate.bucket_layout import frame_key, index_key
from framegate.export.copying import MAX_FRAME_ATTEMPTS, FrameCopier
from framegate.export.exporter import ExportResult
from framegate.export.pace import Pace
from framegate.identifiers import FrameRef, ImageSetRef
from framegate.index.builder import FORMAT
from framegate.problems import AccessDenied, ExportIncomplete, Problem, Throttled, UpstreamFailed, UpstreamTimeout
from framegate.time_budget import TimeBudget
from local.health_imaging import Fault, GeneratedBody
from tests.unit import exporting
from tests.unit.conftest import BUCKET, SERVED
from tests.unit.exporting import (
    LONG_SECONDS,
    SHORT_SECONDS,
    add_image_set,
    finish,
    is_exported,
    keys,
    manifest_lines,
    new_exporter,
    order_for,
    outcomes,
    stored_frames,
)
from tests.unit.indexing import sample

events, pace, exporter = exporting.events, exporting.pace, exporting.exporter


# Contents of an export


def test_every_frame_is_copied_with_its_media_type_and_checksum(s3, health_imaging, exporter):
    image_set, frames = add_image_set(health_imaging, 7, "image/unknown-format")
    result, _ = finish(exporter, order_for(image_set))
    assert is_exported(s3, health_imaging, image_set, frames)
    assert result.completed
    assert result.frames == {"copied": 7, "present": 0, "failed": 0}
    assert result.total_bytes == sum(len(health_imaging.content(frame)) for frame in frames)
    for line in manifest_lines(s3, image_set):
        stored = s3.get_object(Bucket=BUCKET, Key=line["key"], ChecksumMode="ENABLED")
        body = stored["Body"].read()
        assert (line["contentType"], line["contentLength"]) == (stored["ContentType"], len(body))
        assert line["contentType"] == "image/unknown-format"
        assert line["checksumCRC32"] == b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
        assert line["checksumCRC32"] == stored["ChecksumCRC32"]
        assert stored["CacheControl"] == "private, no-cache"


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


def test_completion_event_has_manifest_location_and_counts(health_imaging, exporter, events):
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


def test_repeated_export_copies_nothing_and_writes_the_same_manifest(s3, health_imaging, exporter):
    image_set, frames = add_image_set(health_imaging, 5)
    finish(exporter, order_for(image_set))
    first = manifest_lines(s3, image_set)
    health_imaging.calls.clear()
    result, _ = finish(exporter, order_for(image_set))
    assert result.frames == {"copied": 0, "present": 5, "failed": 0}
    assert is_exported(s3, health_imaging, image_set, frames)
    assert [{**line, "outcome": "copied"} for line in manifest_lines(s3, image_set)] == first
    # The only call shows that the image set still exists.
    assert [call.operation for call in health_imaging.calls].count("GetImageFrame") == 1


def test_stored_frames_are_not_copied_again(s3, health_imaging, exporter, client):
    image_set, frames = add_image_set(health_imaging, 4)
    assert client.get(frames[2], "delivery=url").status == 303
    result, _ = finish(exporter, order_for(image_set))
    assert result.frames == {"copied": 3, "present": 1, "failed": 0}
    assert is_exported(s3, health_imaging, image_set, frames)


def test_export_makes_the_copy_of_a_request_permanent(s3, health_imaging, exporter, client):
    image_set, frames = add_image_set(health_imaging, 2)
    assert client.get(frames[0], "delivery=url").status == 303
    key = frame_key(FrameRef(SERVED, image_set.image_set_id, frames[0].image_frame_id))
    assert s3.get_object_tagging(Bucket=BUCKET, Key=key)["TagSet"] == [{"Key": "framegate-copy", "Value": "temporary"}]
    finish(exporter, order_for(image_set))
    assert s3.get_object_tagging(Bucket=BUCKET, Key=key)["TagSet"] == []


def test_request_after_an_export_leaves_its_copy_permanent(s3, health_imaging, exporter, client):
    image_set, frames = add_image_set(health_imaging, 2)
    finish(exporter, order_for(image_set))
    assert client.get(frames[0], "delivery=url").status == 303
    key = frame_key(FrameRef(SERVED, image_set.image_set_id, frames[0].image_frame_id))
    assert s3.get_object_tagging(Bucket=BUCKET, Key=key)["TagSet"] == []


def test_export_copies_a_frame_again_whose_temporary_copy_is_about_to_expire(
    s3, health_imaging, exporter, client, monkeypatch
):
    image_set, frames = add_image_set(health_imaging, 2)
    assert client.get(frames[0], "delivery=url").status == 303
    # moto takes the time of an object from the clock, so the test makes the lifetime shorter instead.
    monkeypatch.setattr("framegate.storage.frame_store.TEMPORARY_DAYS", 1)
    result, _ = finish(exporter, order_for(image_set))
    assert result.frames == {"copied": 2, "present": 0, "failed": 0}
    key = frame_key(FrameRef(SERVED, image_set.image_set_id, frames[0].image_frame_id))
    assert s3.get_object_tagging(Bucket=BUCKET, Key=key)["TagSet"] == []
    assert is_exported(s3, health_imaging, image_set, frames)


def test_only_requested_frames_are_exported(s3, health_imaging, exporter):
    image_set, frames = add_image_set(health_imaging, 5)
    requested = (frames[3].image_frame_id, frames[1].image_frame_id)
    finish(exporter, order_for(image_set, image_frame_ids=requested))
    assert set(stored_frames(s3, image_set)) == set(requested)


def test_requested_frame_outside_the_image_set_is_listed_as_not_found(s3, health_imaging, exporter, events):
    image_set, frames = add_image_set(health_imaging, 2)
    requested = (frames[0].image_frame_id, "0" * 32)
    result, _ = finish(exporter, order_for(image_set, image_frame_ids=requested))
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


def test_workers_copy_in_parallel(health_imaging, exporter):
    image_set, _ = add_image_set(health_imaging, 12)
    health_imaging.faults.arm(Fault(latency=0.3))
    started = time.monotonic()
    finish(exporter, order_for(image_set))
    assert time.monotonic() - started < 12 * 0.3


def test_copying_keeps_the_pace(health_imaging, store, objects, moto):
    image_set, _ = add_image_set(health_imaging, 10)
    exporter = new_exporter(store, objects, Pace(20))
    started = time.monotonic()
    finish(exporter, order_for(image_set))
    assert time.monotonic() - started >= 9 / 20


# Several invocations


def test_next_invocation_continues_where_the_last_one_stopped(s3, health_imaging, exporter, events):
    image_set, frames = add_image_set(health_imaging, 40)
    health_imaging.faults.arm(Fault(latency=0.1))
    result, invocations = finish(exporter, order_for(image_set), SHORT_SECONDS)
    assert invocations > 1
    health_imaging.faults.clear()
    assert is_exported(s3, health_imaging, image_set, frames)
    # A frame may reach S3 just after the time runs out. The next invocation then finds it present.
    assert result.frames["copied"] + result.frames["present"] == len(frames)
    assert result.frames["failed"] == 0
    assert len(events()) == 1
    assert [key for key in keys(s3) if "progress" in key] == []


def test_repeated_invocation_neither_loses_nor_duplicates_frames(s3, health_imaging, exporter):
    image_set, frames = add_image_set(health_imaging, 40)
    health_imaging.faults.arm(Fault(latency=0.1))
    order = order_for(image_set)
    following = exporter.export(order, TimeBudget(SHORT_SECONDS))
    # SQS delivers the first message again, and both chains of invocations continue, one after the other.
    again = exporter.export(order, TimeBudget(SHORT_SECONDS))
    health_imaging.faults.clear()
    for each in (following, again, following):
        result = each if isinstance(each, ExportResult) else finish(exporter, each)[0]
        assert sum(result.frames.values()) == 40
        assert is_exported(s3, health_imaging, image_set, frames)
    assert [key for key in keys(s3) if "progress" in key] == []


def test_export_after_a_crash_copies_only_missing_frames(s3, health_imaging, exporter, monkeypatch):
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
            exporter.export(order_for(image_set), TimeBudget(LONG_SECONDS))
    assert 0 < len(stored_frames(s3, image_set)) < 30
    result, _ = finish(exporter, order_for(image_set))
    assert is_exported(s3, health_imaging, image_set, frames)
    assert result.frames["present"] >= 10


def test_export_without_progress_fails_instead_of_continuing(s3, health_imaging, exporter):
    image_set, _ = add_image_set(health_imaging, 5)
    health_imaging.faults.arm(Fault(then="stall"))
    with pytest.raises(UpstreamTimeout):
        exporter.export(order_for(image_set), TimeBudget(SHORT_SECONDS))
    # The frame index comes from the metadata alone.
    assert keys(s3) == [index_key(image_set, "1", FORMAT)]


# Failures


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
def test_transient_faults_do_not_affect_the_result(s3, health_imaging, exporter, fault):
    image_set, frames = add_image_set(health_imaging, 30)
    health_imaging.faults.arm(fault)
    try:
        result, _ = finish(exporter, order_for(image_set))
    except ExportIncomplete:
        # All attempts at one frame failed by chance, so SQS would deliver the message again.
        health_imaging.faults.clear()
        result, _ = finish(exporter, order_for(image_set))
    health_imaging.faults.clear()
    assert result.completed
    assert is_exported(s3, health_imaging, image_set, frames)


def test_throttling_slows_the_export_and_loses_no_frame(s3, health_imaging, exporter, pace):
    image_set, frames = add_image_set(health_imaging, 10)
    health_imaging.faults.arm(Fault(error="ThrottlingException", times=20))
    result, _ = finish(exporter, order_for(image_set))
    assert result.frames["copied"] == 10
    assert pace.rate < 100_000
    assert is_exported(s3, health_imaging, image_set, frames)


def test_lasting_throttling_fails_the_invocation(health_imaging, exporter):
    image_set, _ = add_image_set(health_imaging, 3)
    health_imaging.faults.arm(Fault(error="ThrottlingException"))
    with pytest.raises(Throttled):
        exporter.export(order_for(image_set), TimeBudget(SHORT_SECONDS))


@pytest.mark.parametrize(
    ("error", "slug"),
    [
        ("InternalServerException", "upstream-failed"),
        ("AccessDeniedException", "access-denied"),
        ("ConflictException", "conflict"),
    ],
)
def test_frame_with_a_transient_problem_is_listed_and_retried(s3, health_imaging, exporter, events, error, slug):
    image_set, frames = add_image_set(health_imaging, 4)
    health_imaging.faults.arm(Fault(error=error, image_frame_id=frames[2].image_frame_id))
    with pytest.raises(ExportIncomplete):
        exporter.export(order_for(image_set), TimeBudget(LONG_SECONDS))
    lines = manifest_lines(s3, image_set)
    assert outcomes(lines) == ["copied", "copied", slug, "copied"]
    assert lines[2]["detail"]
    ((detail_type, detail),) = events()
    assert (detail_type, detail["frames"]["failed"]) == ("Frame Export Failed", 1)

    health_imaging.faults.clear()
    finish(exporter, order_for(image_set))
    assert is_exported(s3, health_imaging, image_set, frames)
    assert [each for each, _ in events()] == ["Frame Export Completed"]


def test_last_attempt_returns_a_result_despite_missing_frames(s3, health_imaging, exporter):
    image_set, frames = add_image_set(health_imaging, 2)
    health_imaging.faults.arm(Fault(error="InternalServerException", image_frame_id=frames[0].image_frame_id))
    result = exporter.export(order_for(image_set), TimeBudget(LONG_SECONDS), last_attempt=True)
    assert (result.completed, result.frames["failed"]) == (False, 1)
    tried = [call for call in health_imaging.calls if call.image_frame_id == frames[0].image_frame_id]
    assert len(tried) == MAX_FRAME_ATTEMPTS


def test_frame_with_a_permanent_problem_is_listed_and_not_retried(s3, health_imaging, exporter):
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
def test_transient_metadata_problem_fails_the_invocation(s3, health_imaging, exporter, fault, problem):
    image_set, _ = add_image_set(health_imaging, 3)
    health_imaging.faults.arm(fault)
    with pytest.raises(problem):
        exporter.export(order_for(image_set), TimeBudget(LONG_SECONDS))
    assert keys(s3) == []


def test_s3_failure_fails_the_invocation(health_imaging, exporter, s3, new_object_store, store, monkeypatch):
    image_set, _ = add_image_set(health_imaging, 2)
    monkeypatch.setattr(store, "_objects", new_object_store("no-such-bucket-anywhere"))
    with pytest.raises(Problem) as failed:
        exporter.export(order_for(image_set), TimeBudget(LONG_SECONDS))
    assert failed.value.evidence["upstream_error"] == "NoSuchBucket"


def test_unreachable_event_bus_fails_the_invocation(health_imaging, exporter, monkeypatch):
    image_set, _ = add_image_set(health_imaging, 1)
    out_of_reach = boto3.client("events", endpoint_url="http://127.0.0.1:1")
    monkeypatch.setattr(exporter, "_bus", EventBus(lambda: out_of_reach, "default"))
    with pytest.raises(UpstreamFailed, match="EventBridge"):
        exporter.export(order_for(image_set), TimeBudget(LONG_SECONDS))


def test_export_stores_the_frame_index_of_the_version(exporter, health_imaging, frame_index, source, s3, objects):
    with warnings.catch_warnings(action="ignore"):
        (imported,) = health_imaging.import_files(SERVED, [sample("CT_small.dcm")])
    image_set = ImageSetRef(SERVED, imported.id)
    finish(exporter, order_for(image_set))
    exported = frame_index.stored(image_set, "1", TimeBudget(10))
    frame_index.build(image_set, "1", TimeBudget(10))
    assert exported == frame_index.stored(image_set, "1", TimeBudget(10)) != b""
