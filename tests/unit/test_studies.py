"""The study of an image set: read once from the metadata, then known from memory and from the bucket."""

from __future__ import annotations

import json

import boto3
import pytest
from botocore.config import Config
from hypothesis import given
from hypothesis import strategies as st

from framegate.healthimaging.image_set_metadata import MAX_DEPTH, MetadataError, study_of
from framegate.identifiers import ImageSetRef
from framegate.index import studies as module
from framegate.index.frame_index import FrameIndex
from framegate.index.latest_version import LATEST_TTL_SECONDS
from framegate.index.studies import STUDY_TTL_SECONDS
from framegate.problems import UpstreamFailed
from framegate.time_budget import TimeBudget
from local.health_imaging import Fault
from tests.unit.conftest import BUCKET, SERVED
from tests.unit.indexing import ask, called
from tests.unit.local.changing import copy, document, update


@pytest.fixture
def image_set(health_imaging):
    frame = health_imaging.add_frame(SERVED, b"pixels", "image/jph")
    return ImageSetRef(SERVED, frame.image_set_id)


@pytest.fixture
def published_uid(source):
    """The study instance UID in an image set's latest metadata."""

    def read(image_set):
        metadata = source.fetch_metadata(image_set, None, b"".join, TimeBudget(10))
        return json.loads(metadata)["Study"]["DICOM"]["StudyInstanceUID"]

    return read


@pytest.fixture
def clock(monkeypatch):
    """Moves the clock of the product."""

    class Time:
        now = 1_800_000_000.0

        def time(self):
            return self.now

    moved = Time()
    monkeypatch.setattr(module.time, "time", moved.time)
    return moved


def find(index, image_set):
    return index.study(image_set, TimeBudget(10))


def test_study_is_read_from_the_metadata_once(source, objects, image_set, published_uid, health_imaging):
    index = FrameIndex(source, objects)
    assert [find(index, image_set) for _ in range(3)] == [published_uid(image_set)] * 3
    assert called(health_imaging) == {"GetImageSet": 1, "GetImageSetMetadata": 2}  # one call is that of the test


def test_another_function_reads_the_study_from_the_bucket(source, objects, image_set, health_imaging):
    found = find(FrameIndex(source, objects), image_set)
    health_imaging.calls.clear()
    assert find(FrameIndex(source, objects), image_set) == found
    assert not health_imaging.calls


def test_study_is_in_the_content_of_an_object_and_in_no_key(source, objects, image_set, s3):
    found = find(FrameIndex(source, objects), image_set)
    keys = [each["Key"] for each in s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
    prefix = f"indexes/{image_set.datastore_id}/{image_set.image_set_id}/"
    assert sorted(keys) == [f"{prefix}latest.json", f"{prefix}version-1.study.json"]
    content = s3.get_object(Bucket=BUCKET, Key=f"{prefix}version-1.study.json")["Body"].read()
    assert json.loads(content) == {"studyInstanceUID": found}


def test_index_does_not_store_the_study(client, image_set, s3):
    assert ask(client, image_set).status == 200
    keys = [each["Key"] for each in s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
    assert not [key for key in keys if "study" in key]


def test_update_that_moves_an_image_set_to_another_study_is_seen_within_a_minute(source, objects, image_set, clock):
    service = boto3.client("medical-imaging", config=Config(inject_host_prefix=False))
    # The UIDs of a primary image set cannot be changed, so it is copied first.
    copied = copy(service, SERVED, image_set.image_set_id)["destinationImageSetProperties"]
    copied = ImageSetRef(SERVED, copied["imageSetId"])
    index = FrameIndex(source, objects)
    before = find(index, copied)
    update(service, SERVED, copied.image_set_id, updates=document(study={"StudyInstanceUID": "1.2.44"}), force=True)
    index.note_version(copied, "2", TimeBudget(10), confirmed=True)
    clock.now += STUDY_TTL_SECONDS - 1
    assert find(index, copied) == before
    clock.now += 1
    assert find(index, copied) == "1.2.44"


def test_check_for_a_new_version_needs_no_metadata(source, objects, image_set, health_imaging, clock):
    index = FrameIndex(source, objects)
    find(index, image_set)
    clock.now += LATEST_TTL_SECONDS
    health_imaging.calls.clear()
    find(index, image_set)
    assert called(health_imaging) == {"GetImageSet": 1}


def test_image_set_that_does_not_exist_has_no_study(source, objects, health_imaging):
    assert find(FrameIndex(source, objects), ImageSetRef(SERVED, "0" * 32)) is None


def test_failed_read_of_the_metadata_is_an_error_and_is_not_remembered(source, objects, image_set, health_imaging):
    index = FrameIndex(source, objects)
    health_imaging.faults.arm(Fault("GetImageSetMetadata", error="InternalServerException", times=3))
    with pytest.raises(UpstreamFailed):
        find(index, image_set)
    assert find(index, image_set)


def test_cache_of_studies_is_bounded(source, objects, health_imaging, monkeypatch):
    monkeypatch.setattr(module, "CACHE_MAX_STUDIES", 2)
    index = FrameIndex(source, objects)
    added = [health_imaging.add_frame(SERVED, b"pixels", "image/jph").image_set_id for _ in range(3)]
    for each in added:
        find(index, ImageSetRef(SERVED, each))
    assert [each.image_set_id for each in index._studies._cache] == added[1:]


# Reading the document


@pytest.mark.parametrize(
    ("metadata", "study"),
    [
        ({"Study": {"DICOM": {"StudyInstanceUID": "1.2.3"}, "Series": {}}}, "1.2.3"),
        ({"Patient": {"DICOM": {"StudyInstanceUID": "9"}}, "Study": {"DICOM": {"StudyInstanceUID": "1.2"}}}, "1.2"),
        (
            {"Study": {"Series": {"Study": {"DICOM": {"StudyInstanceUID": "9"}}}, "DICOM": {"StudyInstanceUID": "1"}}},
            "1",
        ),
        ({"Study": {"DICOM": {"Nested": {"StudyInstanceUID": "9"}, "StudyInstanceUID": "1"}}}, "1"),
        ({"Study": {"DICOM": [{"StudyInstanceUID": "9"}]}}, None),
        ({"Study": {"DICOM": {"StudyInstanceUID": ["1.2"]}}}, None),
        ({"Study": {"DICOM": {"StudyInstanceUID": {"Value": "1.2"}}}}, None),
        *(
            ({"Study": {"DICOM": {"StudyInstanceUID": each}}}, None)
            for each in (None, 1, True, "", "Mueller", "9" * 257)
        ),
        *((each, None) for each in ({}, [], "1.2.3", None, {"Study": None}, {"Study": {"DICOM": None}})),
    ],
)
def test_study_is_found_at_its_place_alone(metadata, study):
    assert study_of([json.dumps(metadata).encode()]) == study


@pytest.mark.parametrize("metadata", [b"", b"{", b'{"Study": {"DICOM": ', b"\xff", b'{"Study": ' * (MAX_DEPTH + 1)])
def test_document_that_is_not_complete_json_is_an_error(metadata):
    with pytest.raises(MetadataError):
        study_of([metadata])


def test_document_is_read_no_further_than_the_study():
    def metadata():
        yield b'{"Study": {"DICOM": {"StudyInstanceUID": "1.2.3"}, "Series": {' + b" " * 200_000
        raise AssertionError("read on")

    assert study_of(metadata()) == "1.2.3"


@given(
    before=st.dictionaries(st.text().filter(lambda name: name != "Study"), st.none() | st.text() | st.lists(st.text())),
    size=st.integers(1, 50),
)
def test_study_does_not_depend_on_other_members_or_on_the_pieces(before, size):
    metadata = json.dumps({**before, "Study": {"DICOM": {"StudyInstanceUID": "1.2.3"}}}).encode()
    pieces = [metadata[first : first + size] for first in range(0, len(metadata), size)]
    assert study_of(pieces) == "1.2.3"
