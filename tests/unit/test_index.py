"""The frame index: what it lists, page by page, and what it caches."""

from __future__ import annotations

import json

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from framegate.identifiers import ImageSetRef
from framegate.index import frame_index as index_module
from framegate.index.frame_index import FrameIndex
from framegate.rest.routes import INDEX_ROUTE
from tests.unit.conftest import BUCKET, SERVED, Client
from tests.unit.exporting import keys
from tests.unit.indexing import FRAMES, add_indexed_image_set, all_frames, ask, called, sample


@pytest.fixture
def image_set(health_imaging):
    return add_indexed_image_set(health_imaging)


@pytest.fixture
def another_client(new_api, source, objects):
    """A client of another instance of the function, with an empty cache."""
    return Client(new_api(index=FrameIndex(source, objects)))


# Contents


def test_index_entry_has_everything_that_a_viewer_needs(client, health_imaging):
    (imported,) = health_imaging.import_files(SERVED, [sample("CT_small.dcm")])
    (frame_id,) = imported.frames
    dataset = pydicom.dcmread(sample("CT_small.dcm"))
    answer = ask(client, ImageSetRef(SERVED, imported.id))

    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.json() == {
        "datastoreId": SERVED,
        "imageSetId": imported.id,
        "versionId": "1",
        "imageFrames": [
            {
                "sopInstanceUID": dataset.SOPInstanceUID,
                "frameNumber": 1,
                "imageFrameId": frame_id,
                "storedTransferSyntaxUID": "1.2.840.10008.1.2.4.202",
                "contentType": "image/jph",
                "contentLength": imported.frames[frame_id].content.size,
                "rows": dataset.Rows,
                "columns": dataset.Columns,
                "resolutions": 2,
            }
        ],
    }


def test_frames_of_an_instance_are_numbered_in_order(client, health_imaging):
    (imported,) = health_imaging.import_files(SERVED, [sample("color3d_jpeg_baseline.dcm")])
    frames = ask(client, ImageSetRef(SERVED, imported.id)).json()["imageFrames"]

    assert [frame["frameNumber"] for frame in frames] == list(range(1, 121))
    assert [frame["imageFrameId"] for frame in frames] == list(imported.frames)
    assert {(frame["contentType"], frame["resolutions"]) for frame in frames} == {("image/jpeg", 1)}
    assert {(frame["rows"], frame["columns"]) for frame in frames} == {(480, 640)}


def test_index_contains_no_patient_study_or_series_attributes(client, health_imaging, s3):
    path = sample("CT_small.dcm")
    (imported,) = health_imaging.import_files(SERVED, [path])
    answer = ask(client, ImageSetRef(SERVED, imported.id))
    stored = b"".join(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys(s3))
    dataset = pydicom.dcmread(path, stop_before_pixels=True)
    # Dates are left out, because the SOP instance UID of this file contains one.
    keywords = "PatientName", "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "InstitutionName", "Manufacturer"
    secrets = [str(dataset.get(keyword)) for keyword in keywords]

    assert all(secrets)
    for secret in secrets:
        assert secret.encode() not in answer.body + stored
        assert not [key for key in keys(s3) if secret in key]


# Pages and filters


@pytest.mark.parametrize("size", [1, 2, 7, 22, 23, 24, 1000])
def test_pages_together_list_each_frame_once(client, image_set, size):
    whole = ask(client, image_set).json()

    assert len(whole["imageFrames"]) == FRAMES
    assert "nextToken" not in whole
    assert all_frames(client, image_set, f"maxResults={size}") == whole["imageFrames"]


def test_page_has_the_requested_size_and_the_last_page_has_no_token(client, image_set):
    first = ask(client, image_set, "maxResults=22").json()
    last = ask(client, image_set, f"maxResults=22&nextToken={first['nextToken']}").json()

    assert [len(page["imageFrames"]) for page in (first, last)] == [22, 1]
    assert "nextToken" not in last


def test_index_can_be_filtered_by_instance(client, image_set):
    whole = ask(client, image_set).json()["imageFrames"]
    uid = whole[8]["sopInstanceUID"]
    expected = [frame for frame in whole if frame["sopInstanceUID"] == uid]

    assert len(expected) == 7
    assert all_frames(client, image_set, f"sopInstanceUID={uid}") == expected
    assert all_frames(client, image_set, f"sopInstanceUID={uid}&maxResults=3") == expected
    assert all_frames(client, image_set, f"sopInstanceUID={uid}&frameNumber=3") == expected[2:3]


def test_index_can_be_filtered_by_frame_number(client, image_set):
    whole = ask(client, image_set).json()["imageFrames"]

    assert all_frames(client, image_set, "frameNumber=2&maxResults=2") == [whole[1], whole[8], whole[15], whole[22]]
    assert all_frames(client, image_set, "frameNumber=3&maxResults=2") == [whole[2], whole[9], whole[16]]


@pytest.mark.parametrize("query", ["sopInstanceUID=1.2.3", "frameNumber=99", "sopInstanceUID=1"])
def test_filter_without_a_match_returns_an_empty_page(client, image_set, query):
    answer = ask(client, image_set, query)

    assert (answer.status, answer.json()["imageFrames"]) == (200, [])
    assert "nextToken" not in answer.json()


# Invalid requests


@pytest.mark.parametrize(
    "query",
    [
        "maxResults=0",
        "maxResults=1001",
        "maxResults=-1",
        "maxResults=many",
        "maxResults=1&maxResults=2",
        "frameNumber=0",
        "frameNumber=1.0",
        "frameNumber=99999999999",
        "sopInstanceUID=",
        "sopInstanceUID=1.2.x",
        'sopInstanceUID=1",%20"',
        "sopInstanceUID=" + "1" * 257,
        "versionId=0",
        "versionId=latest",
        "versionId=../1",
        "versionId=99999999999",
        "nextToken=",
        "nextToken=1",
        "nextToken=1-0",
        "nextToken=1--5",
        "nextToken=1-٣",
        "nextToken=2-100&versionId=1",
    ],
)
def test_invalid_parameter_is_400_without_a_call_of_healthimaging(client, image_set, health_imaging, query):
    answer = ask(client, image_set, query)

    assert (answer.status, answer.json()["type"]) == (400, "urn:framegate:problem:invalid-request")
    assert not called(health_imaging)


def test_malformed_identifier_is_400(client):
    path = {"datastoreId": SERVED, "imageSetId": "../etc"}

    assert client.call("GET", INDEX_ROUTE, path).status == 400


def test_another_method_is_405(client):
    answer = client.call("POST", INDEX_ROUTE, {"datastoreId": SERVED, "imageSetId": "0" * 32})

    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(1, 10_000), kept=st.booleans())
def test_made_up_token_is_400_unless_a_response_could_have_given_it(client, another_client, image_set, position, kept):
    lines = [json.dumps(frame, separators=(",", ":")) for frame in ask(client, image_set).json()["imageFrames"]]
    ends = [sum(len(line) + 1 for line in lines[:number]) for number in range(1, FRAMES + 1)]
    answer = ask(client if kept else another_client, image_set, f"nextToken=1-{position}")
    if position in ends:
        assert len(answer.json()["imageFrames"]) == FRAMES - 1 - ends.index(position)
    else:
        assert (answer.status, answer.json()["type"]) == (400, "urn:framegate:problem:invalid-request")


# Cache


def test_healthimaging_is_called_once_for_many_requests(client, another_client, image_set, health_imaging):
    answers = [ask(each, image_set, "maxResults=5").body for each in (client, client, another_client)]
    for page in ("versionId=1", "frameNumber=2"):
        ask(another_client, image_set, page)

    assert len(set(answers)) == 1
    assert called(health_imaging) == {"GetImageSet": 1, "GetImageSetMetadata": 1}


def test_small_index_is_cached_in_memory(client, image_set, s3):
    body = ask(client, image_set, "maxResults=5").body
    (index,) = [key for key in keys(s3) if key.endswith(".jsonl")]
    # Without the stored index, the next page can only come from memory.
    s3.delete_object(Bucket=BUCKET, Key=index)

    assert ask(client, image_set, "maxResults=5").body == body
    assert keys(s3) == [f"indexes/{SERVED}/{image_set.image_set_id}/latest.json"]


def test_number_of_cached_indexes_is_bounded(client, health_imaging, frame_index, monkeypatch, s3):
    monkeypatch.setattr(index_module, "CACHE_MAX_INDEXES", 3)
    for _ in range(5):
        frame = health_imaging.add_frame(SERVED, b"x", "image/jph")
        ask(client, ImageSetRef(SERVED, frame.image_set_id))

    assert len(frame_index._cache._contents) == 3


def test_large_index_is_not_cached(client, image_set, monkeypatch, frame_index):
    monkeypatch.setattr(index_module, "CACHE_MAX_INDEX_BYTES", 100)
    whole = ask(client, image_set).json()["imageFrames"]

    assert all_frames(client, image_set, "maxResults=4") == whole
    assert not frame_index._cache._contents


def test_partly_read_index_does_not_use_up_connections(client, image_set, monkeypatch):
    """A page of a large index leaves the rest of S3's response unread."""
    monkeypatch.setattr(index_module, "CACHE_MAX_INDEX_BYTES", 0)

    assert {ask(client, image_set, "maxResults=1").status for _ in range(50)} == {200}


# Logs and metrics


def test_log_and_metrics_describe_the_page_without_the_query(client, image_set, log_lines, capsys):
    uid = ask(client, image_set).json()["imageFrames"][0]["sopInstanceUID"]
    ask(client, image_set, f"sopInstanceUID={uid}")
    line = log_lines()[-1]
    printed = capsys.readouterr().out

    assert (line["status"], line["frames"], line["version_id"]) == (200, 7, "1")
    assert uid not in json.dumps(log_lines()) + printed
    assert json.loads(printed.splitlines()[-1])["IndexPages"] == [1.0]
