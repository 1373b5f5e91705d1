"""Versions of image sets in the frame index: which one is the latest, and how often HealthImaging is called."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations

import pydicom
import pytest
from pydicom.uid import generate_uid

from framegate.healthimaging.client import HealthImaging
from framegate.identifiers import ImageSetRef
from framegate.index import latest_version
from framegate.index.frame_index import FrameIndex
from framegate.index.latest_version import MEMORY_SECONDS, RecentVersions
from framegate.time_budget import TimeBudget
from local.health_imaging import Fault
from tests.unit.conftest import BUCKET, SERVED, Client
from tests.unit.indexing import add_indexed_image_set, ask, called, sample
from tests.unit.sessions import new_session


@pytest.fixture
def image_set(health_imaging):
    return add_indexed_image_set(health_imaging)


@pytest.fixture
def another_client(new_api, source, objects):
    """A client of another instance of the function, with an empty cache."""
    return Client(new_api(index=FrameIndex(source, objects)))


@pytest.fixture
def series(health_imaging, tmp_path):
    """A function that imports another CT slice of one series, which creates a new version of its image set."""
    dataset = pydicom.dcmread(sample("CT_small.dcm"))
    dataset.SeriesInstanceUID = generate_uid()

    def add():
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.save_as(tmp_path / "slice.dcm")
        (image_set,) = health_imaging.import_files(SERVED, [tmp_path / "slice.dcm"])
        return ImageSetRef(SERVED, image_set.id)

    return add


# Versions and entity tags


def test_latest_version_is_the_default_and_earlier_ones_can_be_requested(client, series):
    series()
    image_set = series()

    assert ask(client, image_set).json()["versionId"] == "2"
    for version, count in {"1": 1, "2": 2}.items():
        document = ask(client, image_set, f"versionId={version}").json()
        assert (document["versionId"], len(document["imageFrames"])) == (version, count)


def test_entity_tag_identifies_the_version(client, series, health_imaging):
    series()
    image_set = series()
    tag = ask(client, image_set).headers["ETag"]
    health_imaging.calls.clear()

    assert ask(client, image_set, headers={"If-None-Match": f'"other", W/{tag}'}).status == 304
    assert ask(client, image_set, "versionId=2").headers["ETag"] == tag
    assert ask(client, image_set, "versionId=1").headers["ETag"] != tag
    assert ask(client, image_set, "versionId=1", {"If-None-Match": tag}).status == 200
    assert called(health_imaging) == {"GetImageSetMetadata": 1}


def test_response_must_be_revalidated(client, image_set):
    answer = ask(client, image_set)

    assert answer.headers["Cache-Control"] == "private, no-cache"
    not_modified = ask(client, image_set, headers={"If-None-Match": answer.headers["ETag"]})
    assert (not_modified.status, not_modified.body) == (304, b"")
    assert not_modified.headers["ETag"] == answer.headers["ETag"]


def test_following_pages_belong_to_the_version_of_the_first_page(client, series, frame_index):
    series()
    image_set = series()
    first = ask(client, image_set, "maxResults=1").json()
    series()
    frame_index.note_version(image_set, None, TimeBudget(60))
    second = ask(client, image_set, f"nextToken={first['nextToken']}").json()

    assert (second["versionId"], len(second["imageFrames"])) == ("2", 1)
    assert ask(client, image_set).json()["versionId"] == "3"


def test_new_version_is_found_within_five_minutes_without_an_event(client, series, monkeypatch):
    series()
    image_set = series()
    assert ask(client, image_set).json()["versionId"] == "2"
    series()
    assert ask(client, image_set).json()["versionId"] == "2"
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 301)
    assert ask(client, image_set).json()["versionId"] == "3"


def test_change_event_makes_the_next_request_check_the_version(client, another_client, series, frame_index):
    series()
    image_set = series()
    assert {ask(each, image_set).json()["versionId"] for each in (client, another_client)} == {"2"}
    series()
    frame_index.note_version(image_set, None, TimeBudget(60))
    assert {ask(each, image_set).json()["versionId"] for each in (client, another_client)} == {"3"}


def test_version_found_seconds_ago_is_used_without_looking_into_the_bucket(frame_index, series, monkeypatch):
    versions = RecentVersions(frame_index.latest)
    image_set, budget = series(), TimeBudget(60)
    assert versions.find(image_set, budget) == "1"
    series()
    frame_index.note_version(image_set, "2", budget)
    assert versions.find(image_set, budget) == "1"
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + MEMORY_SECONDS)
    assert versions.find(image_set, budget) == "2"
    monkeypatch.setattr(time, "time", lambda: now - 60)
    series()
    frame_index.note_version(image_set, "3", budget)
    assert versions.find(image_set, budget) == "3"


def test_few_recent_versions_are_remembered(frame_index, health_imaging, monkeypatch):
    monkeypatch.setattr(latest_version, "MAX_REMEMBERED_VERSIONS", 2)
    versions, budget = RecentVersions(frame_index.latest), TimeBudget(60)
    frames = [health_imaging.add_frame(SERVED, b"pixels", "image/jph") for _ in range(3)]
    for each in frames:
        assert versions.find(ImageSetRef(SERVED, each.image_set_id), budget) == "1"
    assert len(versions._found) == 2


def test_get_image_set_is_signed(health_imaging, image_set):
    """GetImageSet has neither a body nor a query."""
    version = HealthImaging(new_session()).image_set_version(image_set, TimeBudget(60))

    assert version == "1"


# Versions from events


def latest_key(image_set):
    return f"indexes/{SERVED}/{image_set.image_set_id}/latest.json"


def noted(s3, image_set):
    return json.loads(s3.get_object(Bucket=BUCKET, Key=latest_key(image_set))["Body"].read())["versionId"]


def test_confirmed_version_is_used_without_a_check(client, image_set, frame_index, health_imaging):
    frame_index.note_version(image_set, "1", TimeBudget(60), confirmed=True)

    assert ask(client, image_set).json()["versionId"] == "1"
    assert called(health_imaging) == {"GetImageSetMetadata": 1}


def test_unconfirmed_version_is_checked(client, series, frame_index, health_imaging):
    series()
    image_set = series()
    frame_index.note_version(image_set, "1", TimeBudget(60))

    assert ask(client, image_set).json()["versionId"] == "2"
    assert called(health_imaging)["GetImageSet"] == 1


@pytest.mark.parametrize("confirmed", [False, True])
@pytest.mark.parametrize("order", list(permutations(["2", "9", "10"])))
def test_newest_version_stays_noted_in_any_order_of_events(s3, image_set, frame_index, order, confirmed):
    for version in order:
        frame_index.note_version(image_set, version, TimeBudget(60), confirmed=confirmed)

    assert noted(s3, image_set) == "10"


def test_repeated_event_does_not_cause_a_check(client, image_set, frame_index, health_imaging):
    ask(client, image_set)
    frame_index.note_version(image_set, "1", TimeBudget(60))
    health_imaging.calls.clear()

    assert ask(client, image_set).status == 200
    assert called(health_imaging) == {}


@pytest.mark.parametrize("known", [b"{}", None])
def test_version_is_noted_in_any_previous_state(s3, image_set, frame_index, known):
    if known is not None:
        s3.put_object(Bucket=BUCKET, Key=latest_key(image_set), Body=known)
    frame_index.note_version(image_set, "3", TimeBudget(60), confirmed=True)

    assert noted(s3, image_set) == "3"


def test_concurrent_notes_leave_the_newest_version(s3, image_set, frame_index):
    with ThreadPoolExecutor(4) as threads:
        list(
            threads.map(
                lambda version: frame_index.note_version(image_set, str(version), TimeBudget(60), confirmed=True),
                range(1, 25),
            )
        )

    assert noted(s3, image_set) == "24"


def test_version_from_an_event_is_not_replaced_by_an_older_answer(
    client, series, frame_index, health_imaging, monkeypatch
):
    series()
    image_set = series()
    answer = HealthImaging.image_set_version

    def overtaken(*arguments):
        version = answer(*arguments)
        series()
        frame_index.note_version(image_set, "3", TimeBudget(60), confirmed=True)
        return version

    monkeypatch.setattr(HealthImaging, "image_set_version", overtaken)
    assert ask(client, image_set).json()["versionId"] == "3"
    assert ask(client, image_set).json()["versionId"] == "3"


def test_wrong_version_from_an_event_is_corrected_by_the_next_request(client, s3, image_set, frame_index):
    frame_index.note_version(image_set, "4000000000", TimeBudget(60))

    assert ask(client, image_set).json()["versionId"] == "1"
    assert noted(s3, image_set) == "1"


def test_noted_version_is_used_while_healthimaging_throttles(client, image_set, health_imaging, monkeypatch):
    body = ask(client, image_set).body
    monkeypatch.setattr(latest_version, "LATEST_TTL_SECONDS", 0)
    health_imaging.calls.clear()
    health_imaging.faults.arm(Fault(operation="GetImageSet", error="ThrottlingException"))

    assert (ask(client, image_set).status, ask(client, image_set).body) == (200, body)
    # Each request makes one call and no retries, which would add to the load of the service.
    assert called(health_imaging) == {"GetImageSet": 2}


# Made-up versions and image sets


def test_made_up_versions_need_no_metadata(client, image_set, health_imaging, monkeypatch):
    assert ask(client, image_set).status == 200
    health_imaging.calls.clear()
    # On a slow machine, the requests could take more than the five seconds until the next check.
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)

    queries = [f"versionId={number}" for number in range(2, 100)]
    queries += [f"nextToken={number}-100" for number in range(2, 100)]
    answers = [ask(client, image_set, query, {"If-None-Match": "*"}) for query in queries]
    assert {answer.json()["type"] for answer in answers} == {"urn:framegate:problem:version-not-found"}
    assert called(health_imaging) == {}


def test_made_up_versions_cause_one_check_in_five_seconds(
    client, another_client, image_set, health_imaging, monkeypatch
):
    ask(client, image_set)
    health_imaging.calls.clear()
    now = time.time()
    for seconds in (6, 7, 8, 12):
        monkeypatch.setattr(time, "time", lambda seconds=seconds: now + seconds)
        for each in (client, another_client):
            assert [ask(each, image_set, f"versionId={number}").status for number in range(2, 20)] == [404] * 18
    assert called(health_imaging) == {"GetImageSet": 2}


def test_new_version_can_be_requested_after_five_seconds_without_an_event(client, series, monkeypatch):
    series()
    image_set = series()
    assert ask(client, image_set).json()["versionId"] == "2"
    series()
    assert ask(client, image_set, "versionId=3").status == 404
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 6)
    assert ask(client, image_set, "versionId=3").json()["versionId"] == "3"


def test_new_version_is_not_missing_while_healthimaging_throttles(client, image_set, health_imaging, monkeypatch):
    ask(client, image_set)
    monkeypatch.setattr(latest_version, "UNKNOWN_VERSION_RECHECK_SECONDS", 0)
    health_imaging.faults.arm(Fault(operation="GetImageSet", error="ThrottlingException"))

    assert ask(client, image_set, "versionId=2").status == 429
    assert ask(client, image_set, "versionId=1").status == 200


def test_missing_image_set_is_asked_for_once(client, health_imaging, monkeypatch):
    missing = ImageSetRef(SERVED, "0" * 32)
    statuses = [ask(client, missing, query).status for query in ("", "versionId=1", "versionId=2", "maxResults=1") * 10]
    assert (set(statuses), called(health_imaging)) == ({404}, {"GetImageSet": 1})

    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + latest_version.MISSING_TTL_SECONDS + 1)
    assert ask(client, missing).status == 404
    assert called(health_imaging) == {"GetImageSet": 2}


def test_image_set_is_found_ten_seconds_after_it_was_missing(client, image_set, health_imaging, monkeypatch):
    health_imaging.faults.arm(Fault(operation="GetImageSet", error="ResourceNotFoundException"))
    assert ask(client, image_set).status == 404
    health_imaging.faults.clear()
    assert ask(client, image_set).status == 404

    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 10)
    assert ask(client, image_set).status == 200


def test_bounded_number_of_missing_image_sets_is_remembered(client, health_imaging, monkeypatch):
    monkeypatch.setattr(latest_version, "MAX_MISSING_IMAGE_SETS", 10)
    missing = [ImageSetRef(SERVED, f"{number:032}") for number in range(30)]
    for each in missing:
        ask(client, each)
    health_imaging.calls.clear()
    for each in missing[-10:]:
        ask(client, each)
    assert called(health_imaging) == {}
    ask(client, missing[0])
    assert called(health_imaging) == {"GetImageSet": 1}
