"""The lists of studies: events list the image sets that are exported, and removals take them off."""

from __future__ import annotations

import json
import time

import pytest

from framegate.bucket_layout import INDEX_PREFIX, STUDY_PREFIX
from framegate.dicomweb import study_lists
from framegate.dicomweb.study_lists import ImageSetVersion, StudyLists
from framegate.dicomweb.uids import SeriesAddress, StudyAddress
from framegate.healthimaging.image_set_metadata import series_of
from framegate.identifiers import ImageSetRef
from framegate.time_budget import TimeBudget
from tests.unit.conftest import BUCKET, SERVED, Client
from tests.unit.dicomweb import DicomWeb, dataset_of
from tests.unit.export_invocations import event, export_function
from tests.unit.exporting import keys

# The tests run long after this module is imported.
BUDGET = TimeBudget(86_400)
STUDY_UID = "1.2.3.77"
ADDRESS = StudyAddress(SERVED, STUDY_UID)
FIRST, SECOND = ImageSetRef(SERVED, "1" * 32), ImageSetRef(SERVED, "2" * 32)


@pytest.fixture
def lists(objects, settings):
    return StudyLists(objects, settings.uid_hash_secret)


@pytest.fixture
def invoke(health_imaging, s3, queue, deferred_store_queue, monkeypatch):
    with export_function(queue, deferred_store_queue, monkeypatch) as invoke:
        yield invoke


@pytest.fixture
def imported(add_datasets, request):
    """A CT slice of a study of its own, and its image set."""
    dataset = dataset_of("CT_small.dcm")
    dataset.StudyInstanceUID = f"1.2.3.78.{abs(hash(request.node.name)) % 10**9}"
    dataset.SeriesInstanceUID = f"{dataset.StudyInstanceUID}.1"
    (image_set,) = add_datasets(dataset)
    return dataset, ImageSetRef(SERVED, image_set.id)


def version(image_set, version_id="1", series_uid=f"{STUDY_UID}.1", *, is_primary=True):
    return ImageSetVersion(image_set, version_id, is_primary, series_uid)


def searches(health_imaging):
    return [call.operation for call in health_imaging.calls if call.operation == "SearchImageSets"]


@pytest.mark.parametrize("kind", ["Image Set Created", "Image Set Updated", "Image Set Copied"])
def test_series_of_an_exported_image_set_opens_without_a_search(invoke, new_api, health_imaging, imported, kind):
    dataset, image_set = imported
    assert invoke(event(kind, image_set)) == []
    health_imaging.calls.clear()
    web = DicomWeb(Client(new_api()), health_imaging)
    assert web.frames(dataset).status == 200
    assert web.get("retrieveSeriesMetadata", dataset).status == 200
    assert web.calls() == ["GetImageFrame", "GetDICOMSeriesMetadata"]


@pytest.mark.parametrize("value", [None, "true", 1])
def test_event_that_does_not_tell_whether_the_image_set_is_primary_lists_nothing(invoke, imported, s3, value):
    _, image_set = imported
    assert invoke(event("Image Set Created", image_set, isPrimary=value)) == []
    assert keys(s3, STUDY_PREFIX) == []


def test_non_primary_image_set_of_an_event_is_used_only_when_chosen(invoke, new_api, health_imaging, imported):
    dataset, image_set = imported
    assert invoke(event("Image Set Created", image_set, isPrimary=False)) == []
    health_imaging.calls.clear()
    web = DicomWeb(Client(new_api()), health_imaging)
    assert web.frames(dataset, query=f"imageSetId={image_set.image_set_id}").status == 200
    assert searches(health_imaging) == []
    # The event alone cannot tell whether the series has a primary image set.
    assert web.frames(dataset).status == 200
    assert searches(health_imaging) == ["SearchImageSets"]


def test_study_metadata_and_other_series_still_search(invoke, new_api, health_imaging, add_datasets):
    datasets = []
    for number in (1, 2):
        dataset = dataset_of("CT_small.dcm")
        dataset.StudyInstanceUID = "1.2.3.79"
        dataset.SeriesInstanceUID, dataset.SOPInstanceUID = f"1.2.3.79.{number}", f"1.2.3.79.{number}.1"
        datasets.append(dataset)
    first, _ = add_datasets(*datasets)
    assert invoke(event("Image Set Created", ImageSetRef(SERVED, first.id))) == []
    health_imaging.calls.clear()
    web = DicomWeb(Client(new_api()), health_imaging)
    assert web.frames(datasets[1]).status == 200
    assert searches(health_imaging) == ["SearchImageSets"]
    assert len(web.get("retrieveStudyMetadata", datasets[0]).json()) == 2


def test_deletion_takes_the_image_set_off_its_list(invoke, health_imaging, imported, s3):
    _, image_set = imported
    assert invoke(event("Image Set Created", image_set)) == []
    assert len(keys(s3, STUDY_PREFIX)) == 1
    health_imaging.delete_image_set(SERVED, image_set.image_set_id)
    assert invoke(event("Image Set Deleted", image_set)) == []
    assert keys(s3, STUDY_PREFIX) == []
    assert keys(s3, f"{INDEX_PREFIX}{SERVED}/{image_set.image_set_id}/") == []


def test_image_set_that_was_deleted_during_its_export_is_not_listed(invoke, health_imaging, imported, s3):
    _, image_set = imported
    health_imaging.delete_image_set(SERVED, image_set.image_set_id)
    assert invoke(event("Image Set Created", image_set)) == []
    assert keys(s3, STUDY_PREFIX) == []


def test_no_key_of_a_list_contains_a_uid(invoke, imported, s3):
    dataset, image_set = imported
    assert invoke(event("Image Set Created", image_set)) == []
    text = "\n".join(keys(s3))
    assert STUDY_PREFIX in text
    assert dataset.StudyInstanceUID not in text


def test_forgetting_leaves_the_other_image_sets(lists):
    lists.note(version(FIRST), STUDY_UID, BUDGET)
    lists.note(version(SECOND, series_uid=f"{STUDY_UID}.2"), STUDY_UID, BUDGET)
    lists.forget(FIRST, BUDGET)
    assert [each.image_set for each in lists.read(ADDRESS, BUDGET).image_sets] == [SECOND]
    lists.forget(SECOND, BUDGET)
    assert lists.read(ADDRESS, BUDGET) is None
    lists.forget(SECOND, BUDGET)


def test_older_version_of_a_late_event_is_ignored(lists):
    lists.note(version(FIRST, "10"), STUDY_UID, BUDGET)
    lists.note(version(FIRST, "9"), STUDY_UID, BUDGET)
    assert [each.version_id for each in lists.read(ADDRESS, BUDGET).image_sets] == ["10"]


def test_event_adds_to_the_list_of_a_search(lists):
    searched_at = time.time() - 10
    lists.write(ADDRESS, study_lists.Study((version(FIRST, is_primary=False),), searched_at), BUDGET)
    lists.note(version(SECOND), STUDY_UID, BUDGET)
    study = lists.read(ADDRESS, BUDGET)
    assert [each.image_set for each in study.image_sets] == [SECOND, FIRST]
    assert (study.searched_at, study.is_complete) == (searched_at, True)


def test_entry_of_an_event_expires(lists, monkeypatch):
    lists.note(version(FIRST), STUDY_UID, BUDGET)
    study = lists.read(ADDRESS, BUDGET)
    (found,) = study.of_series(SeriesAddress(ADDRESS, f"{STUDY_UID}.1"))
    assert study.is_listed_recently(found)
    assert not study.is_complete
    later = time.time() + study_lists.STUDY_TTL_SECONDS + 1
    monkeypatch.setattr(study_lists.time, "time", lambda: later)
    assert not study.is_listed_recently(found)


def test_concurrent_change_is_not_lost(lists, objects, monkeypatch):
    put, changes = objects.put_if_unchanged, [version(SECOND, series_uid=f"{STUDY_UID}.2")]

    def put_after_another_function(*arguments):
        if changes:
            lists.note(changes.pop(), STUDY_UID, BUDGET)
        return put(*arguments)

    monkeypatch.setattr(objects, "put_if_unchanged", put_after_another_function)
    lists.note(version(FIRST), STUDY_UID, BUDGET)
    assert {each.image_set for each in lists.read(ADDRESS, BUDGET).image_sets} == {FIRST, SECOND}


def test_list_of_an_earlier_release_is_read(lists, s3):
    lists.note(version(FIRST), STUDY_UID, BUDGET)
    (key,) = keys(s3, STUDY_PREFIX)
    document = json.loads(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
    for each in document["imageSets"]:
        del each["notedAt"]
    s3.put_object(Bucket=BUCKET, Key=key, Body=json.dumps(document))
    assert [each.image_set for each in lists.read(ADDRESS, BUDGET).image_sets] == [FIRST]


# The UIDs in metadata


@pytest.mark.parametrize(
    ("study", "expected"),
    [
        ({"DICOM": {"StudyInstanceUID": "1.2"}, "Series": {"1.2.3": {}}}, ("1.2", "1.2.3")),
        ({"DICOM": {"StudyInstanceUID": "1.2"}, "Series": {"1.2.3": {}, "1.2.4": {}}}, ("1.2", "1.2.3")),
        ({"DICOM": {"StudyInstanceUID": "x"}, "Series": {"1.2.3": {}}}, None),
        ({"DICOM": {"StudyInstanceUID": ["1.2"]}, "Series": {"1.2.3": {}}}, None),
        ({"DICOM": {}, "Series": {"1.2.3": {}}}, None),
        ({"DICOM": {"StudyInstanceUID": "1.2"}, "Series": {"x": {}}}, None),
        ({"DICOM": {"StudyInstanceUID": "1.2"}, "Series": {}}, None),
        ({"Series": {"1.2.3": {}}, "DICOM": {"StudyInstanceUID": "1.2"}}, None),
        ([], None),
    ],
)
def test_series_of_metadata(study, expected):
    document = json.dumps({"Patient": {"DICOM": {"Series": {"9.9": 1}}}, "Study": study}).encode()
    assert series_of([document]) == expected
    assert series_of([document[cut : cut + 7] for cut in range(0, len(document), 7)]) == expected


@pytest.mark.parametrize("document", [b"", b"{", b'{"Study": {"DICOM": {"StudyInstanceUID": "1.2', b"[1, 2", b"\xff"])
def test_beginning_without_a_series_has_none(document):
    assert series_of([document]) is None
