"""The frame index: what there is to fetch of an image set, page by page, and how seldom HealthImaging is asked."""

from __future__ import annotations

import gzip
import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from pathlib import Path

import botocore.session
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from framegate.healthimaging import client as client_module
from framegate.healthimaging.client import HealthImaging
from framegate.healthimaging.image_set_metadata import frames_of
from framegate.identifiers import ImageSetRef
from framegate.index import frame_index as index_module
from framegate.index.frame_index import FrameIndex
from framegate.rest.frame_api import FrameApi
from framegate.rest.routes import INDEX_ROUTE
from framegate.storage.image_set_remover import ImageSetRemover
from framegate.time_budget import TimeBudget
from local.health_imaging import Fault
from local.health_imaging.datastores import ImageSet
from tests.unit.conftest import BUCKET, SERVED, Client
from tests.unit.exporting import keys

FRAMES = 23


@pytest.fixture
def image_set(health_imaging):
    """An image set of 23 frames: three instances of seven, and one of two."""
    frames = health_imaging.add_frames(
        SERVED, [b"x" * size for size in range(1, FRAMES + 1)], "image/jph", per_instance=7
    )
    return ImageSetRef(SERVED, frames[0].image_set_id)


@pytest.fixture
def series(health_imaging, tmp_path):
    """Imports CT slices of one series, one at a time, each of which makes a new version of the same image set."""
    dataset = pydicom.dcmread(sample("CT_small.dcm"))
    dataset.SeriesInstanceUID = generate_uid()

    def add():
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.save_as(tmp_path / "slice.dcm")
        (image_set,) = health_imaging.import_files(SERVED, [tmp_path / "slice.dcm"])
        return ImageSetRef(SERVED, image_set.id)

    return add


def sample(name):
    """A DICOM file that pydicom ships."""
    return Path(get_testdata_file(name))


def ask(client, image_set, query="", headers=None):
    path = {"datastoreId": image_set.datastore_id, "imageSetId": image_set.image_set_id}
    return client.call("GET", INDEX_ROUTE, path, query, headers)


def pages(client, image_set, query):
    """The frames of all pages."""
    token, frames = "", []
    while token is not None:
        document = ask(client, image_set, f"{query}&nextToken={token}" if token else query).json()
        frames += document["imageFrames"]
        token = document.get("nextToken")
    return frames


def called(health_imaging):
    return Counter(call.operation for call in health_imaging.calls)


@pytest.fixture
def another_client(frame_delivery, source, objects, settings):
    """Another copy of the function, with nothing in memory."""
    return Client(FrameApi(settings, frame_delivery, FrameIndex(source, objects)))


# What it says


def test_frame_is_listed_with_all_that_a_viewer_needs_to_fetch_and_draw_it(client, health_imaging):
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


def test_frames_of_an_instance_are_numbered_in_their_order(client, health_imaging):
    (imported,) = health_imaging.import_files(SERVED, [sample("color3d_jpeg_baseline.dcm")])
    frames = ask(client, ImageSetRef(SERVED, imported.id)).json()["imageFrames"]

    assert [frame["frameNumber"] for frame in frames] == list(range(1, 121))
    assert [frame["imageFrameId"] for frame in frames] == list(imported.frames)
    assert {(frame["contentType"], frame["resolutions"]) for frame in frames} == {("image/jpeg", 1)}
    assert {(frame["rows"], frame["columns"]) for frame in frames} == {(480, 640)}


def test_nothing_of_patient_study_or_series_is_in_it_or_kept_with_it(client, health_imaging, s3):
    path = sample("CT_small.dcm")
    (imported,) = health_imaging.import_files(SERVED, [path])
    answer = ask(client, ImageSetRef(SERVED, imported.id))
    stored = b"".join(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys(s3))
    dataset = pydicom.dcmread(path, stop_before_pixels=True)
    # No dates: the UID that this file's maker gave the instance has one in it.
    keywords = "PatientName", "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "InstitutionName", "Manufacturer"
    secrets = [str(dataset.get(keyword)) for keyword in keywords]

    assert all(secrets)
    for secret in secrets:
        assert secret.encode() not in answer.body + stored
        assert not [key for key in keys(s3) if secret in key]


# Pages and filters


@pytest.mark.parametrize("size", [1, 2, 7, 22, 23, 24, 1000])
def test_pages_joined_are_all_frames_once(client, image_set, size):
    whole = ask(client, image_set).json()

    assert len(whole["imageFrames"]) == FRAMES
    assert "nextToken" not in whole
    assert pages(client, image_set, f"maxResults={size}") == whole["imageFrames"]


def test_page_holds_what_is_asked_for_and_the_last_one_has_no_token(client, image_set):
    first = ask(client, image_set, "maxResults=22").json()
    last = ask(client, image_set, f"maxResults=22&nextToken={first['nextToken']}").json()

    assert [len(page["imageFrames"]) for page in (first, last)] == [22, 1]
    assert "nextToken" not in last


def test_frames_of_one_instance(client, image_set):
    whole = ask(client, image_set).json()["imageFrames"]
    uid = whole[8]["sopInstanceUID"]
    expected = [frame for frame in whole if frame["sopInstanceUID"] == uid]

    assert len(expected) == 7
    assert pages(client, image_set, f"sopInstanceUID={uid}") == expected
    assert pages(client, image_set, f"sopInstanceUID={uid}&maxResults=3") == expected
    assert pages(client, image_set, f"sopInstanceUID={uid}&frameNumber=3") == expected[2:3]


def test_frames_of_one_number(client, image_set):
    whole = ask(client, image_set).json()["imageFrames"]

    assert pages(client, image_set, "frameNumber=2&maxResults=2") == [whole[1], whole[8], whole[15], whole[22]]
    assert pages(client, image_set, "frameNumber=3&maxResults=2") == [whole[2], whole[9], whole[16]]


@pytest.mark.parametrize("query", ["sopInstanceUID=1.2.3", "frameNumber=99", "sopInstanceUID=1"])
def test_filter_that_fits_nothing_is_an_empty_page(client, image_set, query):
    answer = ask(client, image_set, query)

    assert (answer.status, answer.json()["imageFrames"]) == (200, [])
    assert "nextToken" not in answer.json()


# Versions and entity tags


def test_latest_version_is_listed_and_earlier_ones_where_they_are_named(client, series):
    series()
    image_set = series()

    assert ask(client, image_set).json()["versionId"] == "2"
    for version, count in {"1": 1, "2": 2}.items():
        document = ask(client, image_set, f"versionId={version}").json()
        assert (document["versionId"], len(document["imageFrames"])) == (version, count)


def test_entity_tag_is_that_of_the_version(client, series, health_imaging):
    series()
    image_set = series()
    tag = ask(client, image_set).headers["ETag"]
    health_imaging.calls.clear()

    assert ask(client, image_set, headers={"If-None-Match": f'"other", W/{tag}'}).status == 304
    assert ask(client, image_set, "versionId=2").headers["ETag"] == tag
    assert ask(client, image_set, "versionId=1").headers["ETag"] != tag
    assert ask(client, image_set, "versionId=1", {"If-None-Match": tag}).status == 200
    assert called(health_imaging) == {"GetImageSetMetadata": 1}


def test_answer_is_asked_for_again_each_time(client, image_set):
    answer = ask(client, image_set)

    assert answer.headers["Cache-Control"] == "private, no-cache"
    not_modified = ask(client, image_set, headers={"If-None-Match": answer.headers["ETag"]})
    assert (not_modified.status, not_modified.body) == (304, b"")
    assert not_modified.headers["ETag"] == answer.headers["ETag"]


def test_pages_go_on_in_the_version_that_they_began_with(client, series, frame_index):
    series()
    image_set = series()
    first = ask(client, image_set, "maxResults=1").json()
    series()
    frame_index.note_version(image_set, None, TimeBudget(60))
    second = ask(client, image_set, f"nextToken={first['nextToken']}").json()

    assert (second["versionId"], len(second["imageFrames"])) == ("2", 1)
    assert ask(client, image_set).json()["versionId"] == "3"


# How seldom HealthImaging is asked


def test_healthimaging_is_asked_once_however_many_ask(client, another_client, image_set, health_imaging):
    answers = [ask(each, image_set, "maxResults=5").body for each in (client, client, another_client)]
    for page in ("versionId=1", "frameNumber=2"):
        ask(another_client, image_set, page)

    assert len(set(answers)) == 1
    assert called(health_imaging) == {"GetImageSet": 1, "GetImageSetMetadata": 1}


def test_small_index_is_kept_in_memory(client, image_set, s3):
    body = ask(client, image_set, "maxResults=5").body
    (index,) = [key for key in keys(s3) if key.endswith(".jsonl")]
    # Nobody takes it away behind the function's back; it only shows that it is not read again.
    s3.delete_object(Bucket=BUCKET, Key=index)

    assert ask(client, image_set, "maxResults=5").body == body
    assert keys(s3) == [f"indexes/{SERVED}/{image_set.image_set_id}/latest.json"]


def test_memory_holds_a_bounded_number_of_indexes(client, health_imaging, frame_index, monkeypatch, s3):
    monkeypatch.setattr(index_module, "KEPT_INDEXES", 3)
    for _ in range(5):
        frame = health_imaging.add_frame(SERVED, b"x", "image/jph")
        ask(client, ImageSetRef(SERVED, frame.image_set_id))

    assert len(frame_index._kept._contents) == 3


def test_large_index_is_read_from_the_store_each_time(client, image_set, monkeypatch, frame_index):
    monkeypatch.setattr(index_module, "KEPT_SIZE", 100)
    whole = ask(client, image_set).json()["imageFrames"]

    assert pages(client, image_set, "maxResults=4") == whole
    assert not frame_index._kept._contents


def test_new_version_is_seen_after_five_minutes_at_the_latest(client, series, monkeypatch):
    series()
    image_set = series()
    assert ask(client, image_set).json()["versionId"] == "2"
    series()
    assert ask(client, image_set).json()["versionId"] == "2"
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 301)
    assert ask(client, image_set).json()["versionId"] == "3"


def test_change_makes_the_next_request_look_for_the_version(client, another_client, series, frame_index):
    series()
    image_set = series()
    assert {ask(each, image_set).json()["versionId"] for each in (client, another_client)} == {"2"}
    series()
    frame_index.note_version(image_set, None, TimeBudget(60))
    assert {ask(each, image_set).json()["versionId"] for each in (client, another_client)} == {"3"}


# Versions that events name


def latest_key(image_set):
    return f"indexes/{SERVED}/{image_set.image_set_id}/latest.json"


def noted(s3, image_set):
    return json.loads(s3.get_object(Bucket=BUCKET, Key=latest_key(image_set))["Body"].read())["versionId"]


def test_confirmed_version_needs_no_look_at_the_image_set(client, image_set, frame_index, health_imaging):
    frame_index.note_version(image_set, "1", TimeBudget(60), confirmed=True)

    assert ask(client, image_set).json()["versionId"] == "1"
    assert called(health_imaging) == {"GetImageSetMetadata": 1}


def test_version_that_is_not_confirmed_is_checked(client, series, frame_index, health_imaging):
    series()
    image_set = series()
    frame_index.note_version(image_set, "1", TimeBudget(60))

    assert ask(client, image_set).json()["versionId"] == "2"
    assert called(health_imaging)["GetImageSet"] == 1


@pytest.mark.parametrize("confirmed", [False, True])
@pytest.mark.parametrize("order", list(permutations(["2", "9", "10"])))
def test_newest_version_stays_noted_in_whatever_order_events_come(s3, image_set, frame_index, order, confirmed):
    for version in order:
        frame_index.note_version(image_set, version, TimeBudget(60), confirmed=confirmed)

    assert noted(s3, image_set) == "10"


def test_event_that_comes_again_does_not_end_what_is_known(client, image_set, frame_index, health_imaging):
    ask(client, image_set)
    frame_index.note_version(image_set, "1", TimeBudget(60))
    health_imaging.calls.clear()

    assert ask(client, image_set).status == 200
    assert called(health_imaging) == {}


@pytest.mark.parametrize("known", [b"{}", None])
def test_version_is_noted_whatever_was_there(s3, image_set, frame_index, known):
    if known is not None:
        s3.put_object(Bucket=BUCKET, Key=latest_key(image_set), Body=known)
    frame_index.note_version(image_set, "3", TimeBudget(60), confirmed=True)

    assert noted(s3, image_set) == "3"


def test_threads_that_note_versions_at_once_leave_the_newest(s3, image_set, frame_index):
    with ThreadPoolExecutor(4) as threads:
        list(
            threads.map(
                lambda version: frame_index.note_version(image_set, str(version), TimeBudget(60), confirmed=True),
                range(1, 25),
            )
        )

    assert noted(s3, image_set) == "24"


def test_answer_older_than_an_event_does_not_replace_it(client, series, frame_index, health_imaging, monkeypatch):
    series()
    image_set = series()
    answer = type(frame_index._source).image_set_version

    def overtaken(*arguments):
        version = answer(*arguments)
        series()
        frame_index.note_version(image_set, "3", TimeBudget(60), confirmed=True)
        return version

    monkeypatch.setattr(type(frame_index._source), "image_set_version", overtaken)
    assert ask(client, image_set).json()["versionId"] == "3"
    assert ask(client, image_set).json()["versionId"] == "3"


def test_wrong_version_of_an_event_is_corrected_by_the_next_request(client, s3, image_set, frame_index):
    frame_index.note_version(image_set, "4000000000", TimeBudget(60))

    assert ask(client, image_set).json()["versionId"] == "1"
    assert noted(s3, image_set) == "1"


def test_old_answer_is_better_than_none_while_healthimaging_throttles(client, image_set, health_imaging, monkeypatch):
    body = ask(client, image_set).body
    monkeypatch.setattr(index_module, "LATEST_TTL_SECONDS", 0)
    health_imaging.calls.clear()
    health_imaging.faults.arm(Fault(error="ThrottlingException"))

    assert (ask(client, image_set).status, ask(client, image_set).body) == (200, body)
    # Once for each of the two: nothing is added to the load of a service in trouble.
    assert called(health_imaging) == {"GetImageSet": 2}


# What is not there


def test_image_set_that_does_not_exist_is_404(client, s3):
    answer = ask(client, ImageSetRef(SERVED, "0" * 32))

    assert (answer.status, answer.json()["type"]) == (404, "urn:framegate:problem:image-set-not-found")
    assert not keys(s3)


def test_version_that_does_not_exist_is_404(client, image_set, s3):
    answer = ask(client, image_set, "versionId=7")

    assert (answer.status, answer.json()["type"]) == (404, "urn:framegate:problem:version-not-found")
    assert not [key for key in keys(s3) if "version-7" in key]


def test_deleted_image_set_is_gone_in_every_copy_of_the_function(
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


def test_data_store_that_is_not_served_is_403(client, health_imaging):
    answer = ask(client, ImageSetRef("e" * 32, "1" * 32))

    assert answer.status == 403
    assert not called(health_imaging)


# Nonsense


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
def test_parameter_that_makes_no_sense_is_400_and_nothing_is_asked(client, image_set, health_imaging, query):
    answer = ask(client, image_set, query)

    assert (answer.status, answer.json()["type"]) == (400, "urn:framegate:problem:invalid-request")
    assert not called(health_imaging)


def test_identifier_that_is_none_is_400(client):
    path = {"datastoreId": SERVED, "imageSetId": "../etc"}

    assert client.call("GET", INDEX_ROUTE, path).status == 400


def test_another_method_is_405(client):
    answer = client.call("POST", INDEX_ROUTE, {"datastoreId": SERVED, "imageSetId": "0" * 32})

    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(1, 10_000), kept=st.booleans())
def test_token_that_somebody_made_up_is_400_or_one_that_an_answer_could_have_given(
    client, another_client, image_set, position, kept
):
    lines = [json.dumps(frame, separators=(",", ":")) for frame in ask(client, image_set).json()["imageFrames"]]
    ends = [sum(len(line) + 1 for line in lines[:number]) for number in range(1, FRAMES + 1)]
    answer = ask(client if kept else another_client, image_set, f"nextToken=1-{position}")
    if position in ends:
        assert len(answer.json()["imageFrames"]) == FRAMES - 1 - ends.index(position)
    else:
        assert (answer.status, answer.json()["type"]) == (400, "urn:framegate:problem:invalid-request")


# Faults


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
def test_fault_of_healthimaging_has_its_status_and_nothing_is_kept(
    client, image_set, health_imaging, s3, operation, fault, status
):
    health_imaging.faults.arm(Fault(operation=operation, **fault))
    path = {"datastoreId": SERVED, "imageSetId": image_set.image_set_id}
    answer = client.call("GET", INDEX_ROUTE, path, remaining_ms=5_500 if status == 504 else 7_000)
    assert answer.status == status
    assert not [key for key in keys(s3) if key.endswith(".jsonl")]

    health_imaging.faults.clear()
    assert len(ask(client, image_set).json()["imageFrames"]) == FRAMES


@pytest.mark.parametrize("metadata", [b"{", b"[]", b'{"Study": 1}', b"\xff"], ids=repr)
def test_metadata_that_makes_no_sense_is_no_fault_of_ours(client, image_set, health_imaging, metadata, monkeypatch):
    monkeypatch.setattr(ImageSet, "metadata", lambda *_: gzip.compress(metadata))
    answer = ask(client, image_set)

    assert (answer.status, answer.json().get("imageFrames", [])) in [(502, []), (200, [])]


def with_metadata(monkeypatch, content):
    """Have HealthImaging send this as metadata, compressed or not."""
    monkeypatch.setattr(ImageSet, "metadata", lambda *_: content)


def test_metadata_of_several_gzip_members_is_read_whole(client, image_set, monkeypatch):
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
        (gzip.compress(b"{"), "sent metadata that is not whole JSON"),
        (gzip.compress(b'{"Study": ' + b"9" * 5000 + b"}"), "has a number of more than 640 digits"),
        (gzip.compress(b'{"Study": 1, "Study": 1}'), "sent metadata that has the same member twice"),
        (gzip.compress(b"[" * 2000), "sent metadata that has more than 1,000 objects and arrays within one another"),
        (
            gzip.compress(b'"' + b"x" * 20_000_000 + b'"'),
            "sent metadata that has a value of more than 16,777,216 bytes",
        ),
        (gzip.compress(b"{}")[:-1], "sent metadata that ends too early"),
        (gzip.compress(b"{}") + b"rest", "sent metadata that has bytes behind the gzip data that are no gzip"),
        (b"{}", "sent metadata that is not gzip"),
    ],
    ids=["JSON", "digits", "twice", "depth", "string", "gzip cut off", "gzip and more", "no gzip"],
)
def test_metadata_that_cannot_be_read_is_502_and_says_why(client, image_set, s3, monkeypatch, content, reason):
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


def test_gzip_bomb_ends_with_the_time_of_the_request(client, image_set, monkeypatch):
    """It is read without a byte from the network, where else the time is looked at."""
    with_metadata(monkeypatch, gzip.compress(b"[") + gzip.compress(b"1," * 500_000) * 300)
    began = time.monotonic()
    path = {"datastoreId": SERVED, "imageSetId": image_set.image_set_id}
    answer = client.call("GET", INDEX_ROUTE, path, remaining_ms=5_500)

    assert answer.status == 504
    assert time.monotonic() - began < 15


def test_store_that_fails_is_502(client, image_set, s3):
    s3.delete_bucket(Bucket=BUCKET)
    answer = ask(client, image_set)

    assert (answer.status, answer.json()["type"]) == (502, "urn:framegate:problem:upstream-failed")


# What is logged


def test_log_line_and_metric_tell_of_the_page_and_not_of_what_was_asked_for(client, image_set, log_lines, capsys):
    uid = ask(client, image_set).json()["imageFrames"][0]["sopInstanceUID"]
    ask(client, image_set, f"sopInstanceUID={uid}")
    line = log_lines()[-1]
    printed = capsys.readouterr().out

    assert (line["status"], line["frames"], line["version_id"]) == (200, 7, "1")
    assert uid not in json.dumps(log_lines()) + printed
    assert json.loads(printed.splitlines()[-1])["IndexPages"] == [1.0]


def test_early_end_of_a_page_leaves_the_store_usable(client, image_set, monkeypatch):
    """Of a large index, a page is the beginning of what S3 sends: the rest must not take a connection with it."""
    monkeypatch.setattr(index_module, "KEPT_SIZE", 0)

    assert {ask(client, image_set, "maxResults=1").status for _ in range(50)} == {200}


def test_source_signs_what_it_asks_for(health_imaging, image_set):
    """GetImageSet has neither body nor query: it is signed all the same."""
    version = HealthImaging(botocore.session.Session()).image_set_version(image_set, TimeBudget(60))

    assert version == "1"
