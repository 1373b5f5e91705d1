"""Failures of the frame index: missing image sets, faults of HealthImaging and S3, and invalid metadata."""

from __future__ import annotations

import gzip
import time

import pytest

from framegate.healthimaging import client as client_module
from framegate.healthimaging.image_set_metadata import frames_of
from framegate.identifiers import ImageSetRef
from framegate.index import latest_version
from framegate.index.frame_index import FrameIndex
from framegate.storage.image_set_remover import ImageSetRemover
from framegate.time_budget import TimeBudget
from local.health_imaging import Fault
from local.health_imaging.datastores import ImageSet
from tests.unit.conftest import BUCKET, SERVED, Client
from tests.unit.exporting import keys
from tests.unit.indexing import FRAMES, add_indexed_image_set, ask, called


@pytest.fixture
def image_set(health_imaging):
    return add_indexed_image_set(health_imaging)


@pytest.fixture
def another_client(new_api, source, objects):
    """A client of another instance of the function, with an empty cache."""
    return Client(new_api(index=FrameIndex(source, objects)))


# Missing image sets and versions


def test_unknown_image_set_is_404(client, s3):
    answer = ask(client, ImageSetRef(SERVED, "0" * 32))

    assert (answer.status, answer.json()["type"]) == (404, "urn:framegate:problem:image-set-not-found")
    assert not keys(s3)


def test_unknown_version_is_404(client, image_set, s3):
    answer = ask(client, image_set, "versionId=7")

    assert (answer.status, answer.json()["type"]) == (404, "urn:framegate:problem:version-not-found")
    assert not [key for key in keys(s3) if "version-7" in key]


def test_index_of_a_deleted_image_set_is_404_in_every_instance_of_the_function(
    client, another_client, image_set, health_imaging, objects, s3
):
    for each in (client, another_client):
        ask(each, image_set)
    health_imaging.delete_image_set(SERVED, image_set.image_set_id)
    ImageSetRemover(objects).remove(image_set, TimeBudget(60))

    assert not keys(s3)
    for each in (client, another_client):
        assert [ask(each, image_set, query).status for query in ("", "versionId=1")] == [404, 404]
    assert not keys(s3)


def test_other_data_store_is_403(client, health_imaging):
    answer = ask(client, ImageSetRef("e" * 32, "1" * 32))

    assert answer.status == 403
    assert not called(health_imaging)


# Faults and invalid metadata


@pytest.mark.parametrize("operation", ["GetImageSet", "GetImageSetMetadata"])
@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ({"error": "ThrottlingException"}, 429),
        ({"error": "InternalServerException"}, 502),
        ({"error": "AccessDeniedException"}, 403),
        ({"error": "ConflictException"}, 409),
        ({"error": "ValidationException"}, 400),
        ({"error": "ResourceNotFoundException"}, 404),
        ({"error": "ExpiredTokenException"}, 502),
        ({"error": "RequestExpired"}, 502),
        ({"then": "reset"}, 502),
        ({"then": "close", "after": 100}, 502),
        ({"then": "stall", "after": 50}, 504),
    ],
    ids=str,
)
def test_fault_of_healthimaging_has_its_status_and_stores_no_index(
    client, image_set, health_imaging, s3, monkeypatch, operation, fault, status
):
    monkeypatch.setattr(latest_version, "MISSING_TTL_SECONDS", 0)
    health_imaging.faults.arm(Fault(operation=operation, **fault))
    answer = ask(client, image_set, remaining_ms=5_500 if status == 504 else 7_000)
    assert answer.status == status
    assert not [key for key in keys(s3) if key.endswith(".jsonl")]

    health_imaging.faults.clear()
    assert len(ask(client, image_set).json()["imageFrames"]) == FRAMES


@pytest.mark.parametrize("metadata", [b"{", b"[]", b'{"Study": 1}', b"\xff"], ids=repr)
def test_unexpected_metadata_is_502_or_an_empty_index(client, image_set, health_imaging, metadata, monkeypatch):
    monkeypatch.setattr(ImageSet, "metadata", lambda *_: gzip.compress(metadata))
    answer = ask(client, image_set)

    assert (answer.status, answer.json().get("imageFrames", [])) in [(502, []), (200, [])]


def with_metadata(monkeypatch, content):
    """Make HealthImaging return these bytes as metadata."""
    monkeypatch.setattr(ImageSet, "metadata", lambda *_: content)


def test_metadata_of_several_gzip_members_is_read_completely(client, image_set, monkeypatch):
    documents = []

    def in_members(compressed):
        content = gzip.decompress(compressed)
        documents.append(content)
        return b"".join(gzip.compress(content[start : start + 500]) for start in range(0, len(content), 500))

    metadata = ImageSet.metadata
    monkeypatch.setattr(ImageSet, "metadata", lambda *arguments: in_members(metadata(*arguments)) + bytes(512))
    found = [each["imageFrameId"] for each in ask(client, image_set).json()["imageFrames"]]

    assert len(documents[0]) > 1000
    assert found == [each.image_frame_id for each in frames_of(documents[:1])]
    assert len(found) == FRAMES


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (gzip.compress(b"{"), "sent metadata that is not complete JSON"),
        (gzip.compress(b'{"Study": ' + b"9" * 5000 + b"}"), "has a number of more than 640 digits"),
        (gzip.compress(b'{"Study": {}, "Study": {}}'), "sent metadata that has the same member twice"),
        (gzip.compress(b'{"n":' + b"[" * 2000), "sent metadata that has more than 1,000 nested objects and arrays"),
        (
            gzip.compress(b'"' + b"x" * 20_000_000 + b'"'),
            "sent metadata that has a value of more than 16,777,216 bytes",
        ),
        (gzip.compress(b"{}")[:-1], "sent metadata that is truncated"),
        (gzip.compress(b"{}") + b"rest", "sent metadata that has bytes after the gzip data that are not gzip"),
        (b"{}", "sent metadata that is not gzip"),
    ],
    ids=["JSON", "digits", "twice", "depth", "string", "gzip cut off", "gzip and more", "no gzip"],
)
def test_unreadable_metadata_is_502_with_the_reason(client, image_set, s3, monkeypatch, content, reason):
    with_metadata(monkeypatch, content)
    answer = ask(client, image_set)

    assert (answer.status, answer.json()["type"]) == (502, "urn:framegate:problem:upstream-failed")
    assert reason in answer.json()["detail"]
    assert not [key for key in keys(s3) if key.endswith(".jsonl")]


def test_metadata_above_the_maximum_is_502(client, image_set, monkeypatch):
    monkeypatch.setattr(client_module, "MAX_METADATA_BYTES", 1_000_000)
    with_metadata(monkeypatch, gzip.compress(b" " * 1_000_001 + b"{}"))
    answer = ask(client, image_set)

    assert answer.status == 502
    assert "sent metadata that decompresses to more than 1,000,000 bytes" in answer.json()["detail"]


def test_gzip_bomb_ends_when_the_time_runs_out(client, image_set, monkeypatch):
    """Decompression must check the time itself, because it reads little from the network."""
    with_metadata(monkeypatch, gzip.compress(b'{"n": [') + gzip.compress(b"1," * 500_000) * 300)
    began = time.monotonic()
    answer = ask(client, image_set, remaining_ms=5_500)

    assert answer.status == 504
    assert time.monotonic() - began < 15


def test_s3_failure_is_502(client, image_set, s3):
    s3.delete_bucket(Bucket=BUCKET)
    answer = ask(client, image_set)

    assert (answer.status, answer.json()["type"]) == (502, "urn:framegate:problem:upstream-failed")
