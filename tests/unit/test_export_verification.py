"""Exports that verify pixels: mismatched frames are quarantined, reported and replaced."""

from __future__ import annotations

import zlib
from base64 import b64encode
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from framegate.bucket_layout import index_key
from framegate.export.records import ExportRecords
from framegate.export.verifying import PixelVerifier
from framegate.identifiers import FrameRef, ImageSetRef
from framegate.index.builder import FORMAT
from framegate.problems import UpstreamTimeout
from framegate.storage.image_set_remover import ImageSetRemover
from framegate.time_budget import TimeBudget
from tests.unit import exporting
from tests.unit.conftest import BUCKET, SERVED
from tests.unit.exporting import (
    LONG_SECONDS,
    add_image_set,
    content,
    finish,
    keys,
    manifest_lines,
    order_for,
    outcomes,
)

events, pace, exporter = exporting.events, exporting.pace, exporting.exporter


@pytest.fixture(scope="module")
def imported(emulator, tmp_path_factory):
    """Image sets of real DICOM files."""
    from local.samples import write_samples

    folder = tmp_path_factory.mktemp("dicom")
    write_samples(folder)
    return emulator.import_files(SERVED, sorted(folder.iterdir()))


def lossless(imported):
    return next(each for each in imported if any(frame.content_type == "image/jph" for frame in each.frames.values()))


def test_real_lossless_frames_are_verified(s3, exporter, imported):
    for image_set in imported:
        ref = ImageSetRef(SERVED, image_set.id)
        result, _ = finish(exporter, order_for(ref, verify=True))
        assert result.completed
        for line in manifest_lines(s3, ref):
            assert line.get("pixelsVerified", False) == (line["contentType"] == "image/jph")


@pytest.fixture
def scan(emulator, health_imaging):
    """An imported image set with one lossless frame: the references of both."""
    (image_set,) = emulator.import_files(SERVED, [Path(get_testdata_file("CT_small.dcm"))])
    (frame_id,) = image_set.frames
    ref = ImageSetRef(SERVED, image_set.id)
    return ref, FrameRef(SERVED, image_set.id, frame_id)


def keys_for(frame):
    path = f"{frame.datastore_id}/{frame.image_set_id}/{frame.image_frame_id}"
    return f"frames/{path}", f"mismatched/{path}"


def damage(s3, key):
    """Replace a stored frame by one with wrong pixels; return its bytes."""
    damaged = bytearray(content(s3, key))
    damaged[len(damaged) // 2] ^= 0x55
    s3.put_object(Bucket=BUCKET, Key=key, Body=bytes(damaged), ContentType="image/jph")
    return bytes(damaged)


def export(exporter, ref, **members):
    return finish(exporter, order_for(ref, **members))[0]


@pytest.fixture
def mismatched(s3, exporter, scan):
    """A frame that was damaged in the bucket, so that a verifying export quarantined it; with the damaged bytes."""
    ref, frame = scan
    export(exporter, ref)
    damaged = damage(s3, keys_for(frame)[0])
    assert export(exporter, ref, verify=True).frames == {"copied": 0, "present": 0, "failed": 1}
    return ref, frame, damaged


def test_mismatched_frame_is_quarantined_and_its_export_fails(s3, events, mismatched):
    ref, frame, damaged = mismatched
    key, quarantine_key = keys_for(frame)
    assert [key for key in keys(s3) if not key.startswith("exports/")] == [index_key(ref, "1", FORMAT), quarantine_key]
    assert content(s3, quarantine_key) == damaged
    assert s3.get_object_tagging(Bucket=BUCKET, Key=quarantine_key)["TagSet"] == [
        {"Key": "framegate-pixels", "Value": "mismatch"}
    ]
    (line,) = manifest_lines(s3, ref)
    assert (line["outcome"], line["key"]) == ("pixel-mismatch", key)
    assert (line["contentType"], line["contentLength"], line["checksumCRC32"]) == (None, None, None)
    assert "mismatched/" in line["detail"]
    assert "pixelsVerified" not in line
    assert [each for each, _ in events()] == ["Frame Export Completed", "Frame Export Failed"]


def test_mismatched_frame_is_logged(log_lines, mismatched):
    _, frame, _ = mismatched
    (line,) = [line for line in log_lines() if line["message"] == "pixel mismatch"]
    assert (line["level"], line["image_frame_id"]) == ("ERROR", frame.image_frame_id)


def test_export_without_verification_reports_a_known_mismatch(s3, exporter, mismatched, events, health_imaging):
    ref, *_ = mismatched
    events()
    health_imaging.calls.clear()
    for _ in range(2):
        result = export(exporter, ref)
        assert (result.completed, result.frames["failed"]) == (False, 1)
        assert outcomes(manifest_lines(s3, ref)) == ["pixel-mismatch"]
    assert {each for each, _ in events()} == {"Frame Export Failed"}
    assert "GetImageFrame" not in [call.operation for call in health_imaging.calls]


def test_requests_for_a_mismatched_frame_are_served_from_healthimaging(s3, exporter, mismatched, client, emulator):
    ref, frame, _ = mismatched
    right = emulator.content(frame)
    assert client.get(frame).body == right
    location = client.get(frame, "delivery=url").headers["Location"]
    assert f"/{keys_for(frame)[0]}?" in location
    assert content(s3, keys_for(frame)[0]) == right
    # No export has verified that copy.
    assert export(exporter, ref).frames["failed"] == 1
    assert export(exporter, ref, verify=True).completed


@pytest.mark.parametrize("stored_by_a_request", [False, True])
def test_verifying_export_replaces_a_mismatched_frame(s3, exporter, mismatched, client, emulator, stored_by_a_request):
    ref, frame, _ = mismatched
    if stored_by_a_request:
        client.get(frame, "delivery=url")
    result = export(exporter, ref, verify=True)
    assert result.frames == {"copied": 1, "present": 0, "failed": 0}
    (line,) = manifest_lines(s3, ref)
    assert line["pixelsVerified"]
    key, quarantine_key = keys_for(frame)
    stored = s3.get_object(Bucket=BUCKET, Key=key, ChecksumMode="ENABLED")
    assert stored["Body"].read() == emulator.content(frame)
    assert (stored["ContentType"], stored["CacheControl"]) == ("image/jph", "private, no-cache")
    assert line["checksumCRC32"] == b64encode(zlib.crc32(emulator.content(frame)).to_bytes(4, "big")).decode()
    assert s3.get_object_tagging(Bucket=BUCKET, Key=key)["TagSet"] == []
    assert quarantine_key not in keys(s3)
    assert export(exporter, ref).frames == {"copied": 0, "present": 1, "failed": 0}


def test_mismatch_at_healthimaging_itself_stays_quarantined(s3, exporter, scan, client, emulator):
    ref, frame = scan
    emulator.spoil_checksum(frame)
    for _ in range(2):
        assert export(exporter, ref, verify=True).frames["failed"] == 1
        stored = [key for key in keys(s3) if not key.startswith("exports/")]
        assert stored == [index_key(ref, "1", FORMAT), keys_for(frame)[1]]
        # A request gets what HealthImaging sends, and stores it. The next verifying export removes that copy.
        assert client.get(frame, "delivery=url").status == 303
    assert export(exporter, ref).frames["failed"] == 1


def test_frame_tagged_by_an_older_release_counts_as_mismatched(s3, exporter, scan, client, emulator):
    ref, frame = scan
    export(exporter, ref)
    key, quarantine_key = keys_for(frame)
    damage(s3, key)
    tag_set = [{"Key": "scanned", "Value": "yes"}, {"Key": "framegate-pixels", "Value": "mismatch"}]
    s3.put_object_tagging(Bucket=BUCKET, Key=key, Tagging={"TagSet": tag_set})
    assert export(exporter, ref).frames["failed"] == 1
    assert outcomes(manifest_lines(s3, ref)) == ["pixel-mismatch"]
    assert export(exporter, ref, verify=True).frames == {"copied": 1, "present": 0, "failed": 0}
    assert (content(s3, key), quarantine_key in keys(s3)) == (emulator.content(frame), False)


def test_request_replaces_a_tagged_frame(s3, exporter, scan, client, emulator):
    ref, frame = scan
    export(exporter, ref)
    key, _ = keys_for(frame)
    damage(s3, key)
    s3.put_object_tagging(
        Bucket=BUCKET, Key=key, Tagging={"TagSet": [{"Key": "framegate-pixels", "Value": "mismatch"}]}
    )
    assert client.get(frame, "delivery=url").status == 303
    assert content(s3, key) == emulator.content(frame)


def test_other_tags_have_no_effect(s3, exporter, scan, client, health_imaging):
    ref, frame = scan
    export(exporter, ref)
    s3.put_object_tagging(
        Bucket=BUCKET, Key=keys_for(frame)[0], Tagging={"TagSet": [{"Key": "scanned", "Value": "yes"}]}
    )
    health_imaging.calls.clear()
    assert client.get(frame, "delivery=url").status == 303
    assert list(health_imaging.calls) == []
    assert export(exporter, ref).frames["present"] == 1


@pytest.mark.parametrize("step", ["copy", "remove_if_unchanged"])
def test_mismatched_frame_stays_quarantined_if_the_export_dies(
    s3, exporter, scan, client, emulator, objects, monkeypatch, step
):
    ref, frame = scan
    export(exporter, ref)
    damage(s3, keys_for(frame)[0])

    def die(*_):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(type(objects), step, die)
        with pytest.raises(SystemExit):
            export(exporter, ref, verify=True)
    assert export(exporter, ref).frames["failed"] == 1
    # SQS delivers the message again.
    assert export(exporter, ref, verify=True).frames == {"copied": 1, "present": 0, "failed": 0}
    assert content(s3, keys_for(frame)[0]) == emulator.content(frame)
    assert client.get(frame, "delivery=url").status == 303


def test_frame_replaced_before_quarantine_is_verified_again(s3, exporter, scan, emulator, store, monkeypatch):
    ref, frame = scan
    export(exporter, ref)
    key, quarantine_key = keys_for(frame)
    damage(s3, key)
    quarantine = type(store).quarantine

    def replaced_first(self, *arguments):
        monkeypatch.setattr(type(store), "quarantine", quarantine)
        s3.put_object(Bucket=BUCKET, Key=key, Body=emulator.content(frame), ContentType="image/jph")
        quarantine(self, *arguments)

    monkeypatch.setattr(type(store), "quarantine", replaced_first)
    assert export(exporter, ref, verify=True).completed
    assert content(s3, key) == emulator.content(frame)
    assert s3.get_object_tagging(Bucket=BUCKET, Key=key)["TagSet"] == []
    assert quarantine_key not in keys(s3)


def test_frame_replaced_during_verification_is_verified_again(s3, exporter, scan, emulator, store, monkeypatch):
    ref, frame = scan
    export(exporter, ref)
    key, _ = keys_for(frame)
    find = type(store).find

    def then_replaced(self, *arguments):
        monkeypatch.setattr(type(store), "find", find)
        found = find(self, *arguments)
        damage(s3, key)
        return found

    monkeypatch.setattr(type(store), "find", then_replaced)
    assert export(exporter, ref, verify=True).frames["failed"] == 1
    assert outcomes(manifest_lines(s3, ref)) == ["pixel-mismatch"]


def test_removal_includes_mismatched_frames(s3, mismatched, objects):
    ref, *_ = mismatched
    ImageSetRemover(objects).remove(ref, TimeBudget(60))
    assert keys(s3) == []


def test_deletion_while_a_frame_is_quarantined_leaves_nothing(s3, exporter, mismatched, emulator, monkeypatch):
    ref, *_ = mismatched
    original = ExportRecords.write_manifest

    def then_delete(self, *arguments):
        key = original(self, *arguments)
        emulator.delete_image_set(SERVED, ref.image_set_id)
        return key

    emulator.spoil_checksum(mismatched[1])
    monkeypatch.setattr(ExportRecords, "write_manifest", then_delete)
    export(exporter, ref, verify=True)
    assert keys(s3) == []


def test_unverifiable_frame_is_exported_with_the_reason(s3, health_imaging, exporter):
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


def test_export_fails_if_time_runs_out_before_verification(s3, exporter, scan, monkeypatch):
    ref, _ = scan
    monkeypatch.setattr("framegate.export.verifying.MIN_DECODE_SECONDS", 1000)
    with pytest.raises(UpstreamTimeout):
        exporter.export(order_for(ref, verify=True), TimeBudget(LONG_SECONDS))
    monkeypatch.undo()


def test_pixels_are_verified_only_on_request(s3, exporter, imported, monkeypatch):
    monkeypatch.setattr(PixelVerifier, "verify", None)
    ref = ImageSetRef(SERVED, lossless(imported).id)
    result, _ = finish(exporter, order_for(ref))
    assert result.completed
    assert not [line for line in manifest_lines(s3, ref) if "pixelsVerified" in line]
