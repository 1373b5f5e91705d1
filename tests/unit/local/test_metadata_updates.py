"""UpdateImageSetMetadata and ListImageSetVersions behave as AWS documents them."""

import json
import re

import pytest
import requests

from local.health_imaging.protocol import SERVICE
from tests.unit.local.changing import SERIES_UID, document, instance_uids, refusal, update, versions_of
from tests.unit.local.emulated import SIGNED, metadata_of, series_of


def test_update_makes_a_version_and_reports_its_start(boto, datastore_id, image_set_id, bus):
    before = metadata_of(boto, datastore_id, image_set_id)
    answer = update(boto, datastore_id, image_set_id, updates=document(patient={"PatientName": "MX^MX"}))
    assert (answer["datastoreId"], answer["imageSetId"], answer["latestVersionId"]) == (datastore_id, image_set_id, "2")
    assert (answer["imageSetState"], answer["imageSetWorkflowStatus"]) == ("LOCKED", "UPDATING")
    assert answer["createdAt"] <= answer["updatedAt"]
    properties = boto.get_image_set(datastoreId=datastore_id, imageSetId=image_set_id)
    assert (properties["versionId"], properties["imageSetState"]) == ("2", "ACTIVE")
    assert properties["imageSetWorkflowStatus"] == "UPDATED"
    after = metadata_of(boto, datastore_id, image_set_id)
    assert after["Patient"]["DICOM"] == before["Patient"]["DICOM"] | {"PatientName": "MX^MX"}
    assert after["Study"] == before["Study"]
    assert metadata_of(boto, datastore_id, image_set_id, versionId="1") == before
    assert bus.of_image_set(image_set_id) == [
        ("Image Set Created", "1", "ACTIVE", "CREATED"),
        ("Image Set Updating", "2", "LOCKED", "UPDATING"),
        ("Image Set Updated", "2", "ACTIVE", "UPDATED"),
    ]


def test_search_finds_updated_attributes(boto, datastore_id, image_set_id):
    update(boto, datastore_id, image_set_id, updates=document(patient={"PatientID": "new-id"}))
    filters = [{"operator": "EQUAL", "values": [{"DICOMPatientId": "new-id"}]}]
    found = boto.search_image_sets(datastoreId=datastore_id, searchCriteria={"filters": filters})
    (summary,) = found["imageSetsMetadataSummaries"]
    assert (summary["imageSetId"], summary["version"]) == (image_set_id, 2)


def test_attributes_are_updated_and_removed_at_each_level(boto, datastore_id, image_set_id):
    update(boto, datastore_id, image_set_id, updates=document(series={"SeriesDescription": "new"}))
    update(boto, datastore_id, image_set_id, "2", updates=document(instance={"DICOM": {"ImageComments": "new"}}))
    metadata = metadata_of(boto, datastore_id, image_set_id)
    assert series_of(metadata)["DICOM"]["SeriesDescription"] == "new"
    comments = {uid: each["DICOM"].get("ImageComments") for uid, each in series_of(metadata)["Instances"].items()}
    assert comments == {"1.2.1": "new", "1.2.2": "Uncompressed"}
    removals = document(study={"StudyDescription": "whatever was here"})
    update(boto, datastore_id, image_set_id, "3", removals=removals)
    assert "StudyDescription" in metadata["Study"]["DICOM"]
    assert "StudyDescription" not in metadata_of(boto, datastore_id, image_set_id)["Study"]["DICOM"]


def test_frames_of_a_removed_instance_stay_in_the_earlier_version(boto, datastore_id, image_set_id):
    update(boto, datastore_id, image_set_id, removals=document(instance={}))
    assert instance_uids(metadata_of(boto, datastore_id, image_set_id)) == ["1.2.2"]
    earlier = series_of(metadata_of(boto, datastore_id, image_set_id, versionId="1"))
    (frame,) = earlier["Instances"]["1.2.1"]["ImageFrames"]
    answer = boto.get_image_frame(
        datastoreId=datastore_id, imageSetId=image_set_id, imageFrameInformation={"imageFrameId": frame["ID"]}
    )
    assert len(answer["imageFrameBlob"].read()) == frame["FrameSizeInBytes"]


def test_revert_makes_a_new_version_from_the_earlier_one(boto, datastore_id, image_set_id):
    first = metadata_of(boto, datastore_id, image_set_id)
    update(boto, datastore_id, image_set_id, updates=document(patient={"PatientID": "new-id"}))
    assert update(boto, datastore_id, image_set_id, "2", revert_to="1")["latestVersionId"] == "3"
    assert metadata_of(boto, datastore_id, image_set_id) == first
    attributes = boto.search_image_sets(datastoreId=datastore_id)["imageSetsMetadataSummaries"][0]["DICOMTags"]
    assert attributes["DICOMPatientId"] == first["Patient"]["DICOM"]["PatientID"]


@pytest.mark.parametrize("version", ["0", "2", "9" * 5_000])
def test_revert_to_an_unknown_version_is_not_found(boto, datastore_id, image_set_id, version):
    assert refusal(update, boto, datastore_id, image_set_id, revert_to=version) == "ResourceNotFoundException"


@pytest.mark.parametrize("latest", ["0", "2", "01"])
def test_update_of_an_earlier_version_raises_conflict_exception(boto, datastore_id, image_set_id, latest):
    new_name = document(patient={"PatientName": "X"})
    assert refusal(update, boto, datastore_id, image_set_id, latest, updates=new_name) == "ConflictException"
    assert refusal(update, boto, datastore_id, image_set_id, latest, revert_to="1") == "ConflictException"
    assert len(versions_of(boto, datastore_id, image_set_id)) == 1


@pytest.mark.parametrize(
    "updates",
    [
        b"{",
        b"[]",
        b"{}",
        b'{"Patient": []}',
        b'{"ImageSetID": "x"}',
        b'{"Study": {"Series": {"1": {"Instances": {"1": {"ImageFrames": []}}}}}}',
        document(patient={"Checksum": 1}),
        document(patient={"StudyDescription": "of another level"}),
        document(study={"PatientName": "of another level"}),
        document(patient={"NoSuchAttribute": "x"}),
        document(study={"StudyID": "needs force"}),
        document(instance={"DICOM": {"SOPInstanceUID": "1.2.9"}}),
        document(instance={"DICOM": {"00091001": "private"}}),
        document(instance={"DICOM": {"Rows": "not a number"}}),
        document(instance={"DICOM": {"Rows": 65_536}}),
        document(instance={"DICOM": {"InstanceNumber": "x"}}),
        document(study={"StudyDate": "yesterday"}),
        document(study={"StudyDescription": 5}),
        document(study={"StudyDescription": True}),
        document(instance={"DICOM": {"ImageType": ["ORIGINAL", "PRIMARY"]}}),
        document(instance={"DICOM": {"ReferencedImageSequence": []}}),
        document(instance={}),
    ],
)
def test_forbidden_update_raises_validation_exception(boto, datastore_id, image_set_id, updates):
    assert refusal(update, boto, datastore_id, image_set_id, updates=updates) == "ValidationException"
    assert len(versions_of(boto, datastore_id, image_set_id)) == 1


@pytest.mark.parametrize(
    "instance",
    [
        {"DICOM": {"00091001": "GE_GENESIS_DD"}, "DICOMVRs": {"00091001": "LO"}},
        {"DICOM": {"ImageType": ["ORIGINAL", "PRIMARY"]}},
        {"DICOM": {"NoSuchAttribute": "x"}},
        {"DICOM": {"Rows": "not a number"}},
    ],
)
def test_force_lifts_the_constraints_of_instances(boto, datastore_id, image_set_id, instance):
    update(boto, datastore_id, image_set_id, updates=document(instance=instance), force=True)
    changed = series_of(metadata_of(boto, datastore_id, image_set_id))["Instances"]["1.2.1"]
    assert instance["DICOM"].items() <= changed["DICOM"].items()
    assert instance.get("DICOMVRs", {}).items() <= changed["DICOMVRs"].items()
    (latest, _) = versions_of(boto, datastore_id, image_set_id)
    assert latest["overrides"] == {"forced": True}


@pytest.mark.parametrize(
    "value",
    [b"NaN", b"-Infinity", b"1e999", b"[" * 150 + b"]" * 150, b"9" * 5_000, b"'x'"],
    ids=lambda value: value[:9],
)
def test_metadata_stays_strict_json_even_with_force(boto, datastore_id, image_set_id, value):
    updates = document(instance={"DICOM": {"NoSuchAttribute": "VALUE"}}).replace(b'"VALUE"', value)
    assert refusal(update, boto, datastore_id, image_set_id, updates=updates, force=True) == "ValidationException"


@pytest.mark.parametrize("uid", [None, "", 1, ["1.2.3"], "x", {"a": 1}, "1." * 40])
def test_uid_can_only_be_replaced_by_a_uid(boto, datastore_id, non_primary_id, uid):
    updates = document(instance={"DICOM": {"SOPInstanceUID": uid}}, uid="1.2.3")
    assert refusal(update, boto, datastore_id, non_primary_id, updates=updates, force=True) == "ValidationException"


@pytest.mark.parametrize("keyword", ["Checksum", "Width", "DatastoreID", "FrameSizeInBytes"])
def test_force_does_not_allow_changes_to_generated_members(boto, datastore_id, image_set_id, keyword):
    updates = document(instance={"DICOM": {keyword: 1}})
    assert refusal(update, boto, datastore_id, image_set_id, updates=updates, force=True) == "ValidationException"


def test_force_allows_uid_changes_in_a_non_primary_image_set(boto, datastore_id, non_primary_id):
    updates = document(instance={"DICOM": {"SOPInstanceUID": "1.2.99"}}, uid="1.2.3")
    update(boto, datastore_id, non_primary_id, updates=updates, force=True)
    updates = document(series={"SeriesInstanceUID": "1.2.88"})
    update(boto, datastore_id, non_primary_id, "2", updates=updates, force=True)
    metadata = metadata_of(boto, datastore_id, non_primary_id)
    assert list(metadata["Study"]["Series"]) == ["1.2.88"]
    assert instance_uids(metadata) == ["1.2.99"]
    filters = [{"operator": "EQUAL", "values": [{"DICOMSeriesInstanceUID": "1.2.88"}]}]
    found = boto.search_image_sets(datastoreId=datastore_id, searchCriteria={"filters": filters})
    assert [each["imageSetId"] for each in found["imageSetsMetadataSummaries"]] == [non_primary_id]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"updates": document(series={"Modality": "MR"}, series_uid="1.2.77")}, "no such series"),
        ({"updates": document(instance={"DICOM": {"Rows": 1}}, uid="1.2.77")}, "no such SOP instance"),
        ({"removals": document(instance={}, uid="1.2.77")}, "no such SOP instance"),
        ({"removals": json.dumps({"Study": {"Series": {SERIES_UID: {}}}}).encode()}, "cannot be removed"),
        ({"updates": document(instance={"DICOM": {"SOPInstanceUID": "1.2.9"}}), "force": True}, "primary image set"),
    ],
)
def test_update_that_does_not_fit_the_image_set_makes_a_failed_version(
    boto, datastore_id, image_set_id, bus, changes, message
):
    before = metadata_of(boto, datastore_id, image_set_id)
    assert update(boto, datastore_id, image_set_id, **changes)["imageSetWorkflowStatus"] == "UPDATING"
    properties = boto.get_image_set(datastoreId=datastore_id, imageSetId=image_set_id)
    assert (properties["versionId"], properties["imageSetState"]) == ("2", "ACTIVE")
    assert properties["imageSetWorkflowStatus"] == "UPDATE_FAILED"
    assert message in properties["message"]
    assert re.fullmatch(SERVICE.shape_for("Message").metadata["pattern"], properties["message"])
    assert metadata_of(boto, datastore_id, image_set_id) == before
    assert bus.of_image_set(image_set_id)[1:] == [
        ("Image Set Updating", "2", "LOCKED", "UPDATING"),
        ("Image Set Update Failed", "2", "ACTIVE", "UPDATE_FAILED"),
    ]


def test_failed_update_changes_no_attribute(boto, datastore_id, image_set_id):
    both = json.loads(document(instance={"DICOM": {"Rows": 1}}, uid="1.2.77"))
    both["Patient"] = {"DICOM": {"PatientName": "X"}}
    before = metadata_of(boto, datastore_id, image_set_id)
    update(boto, datastore_id, image_set_id, updates=json.dumps(both).encode())
    assert metadata_of(boto, datastore_id, image_set_id) == before


def test_whole_study_is_updated_at_once(boto, datastore_id, import_ct, bus):
    ct, other_series, other_study = import_ct(
        {"SOPInstanceUID": "1.2.1"},
        {"SOPInstanceUID": "1.2.2", "SeriesInstanceUID": "1.2.55"},
        {"SOPInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.66", "StudyInstanceUID": "1.2.44"},
    )
    new_name = document(patient={"PatientName": "MX^MX"})
    update(boto, datastore_id, ct, updates=new_name, includeStudyImageSets=True)
    names = {
        image_set_id: metadata_of(boto, datastore_id, image_set_id)["Patient"]["DICOM"]["PatientName"]
        for image_set_id in (ct, other_series, other_study)
    }
    assert names == {ct: "MX^MX", other_series: "MX^MX", other_study: "CompressedSamples^CT1"}
    assert bus.of_image_set(other_series)[1:] == [
        ("Image Set Updating", "2", "LOCKED", "UPDATING_FOR_STUDY_CONSISTENCY"),
        ("Image Set Updated", "2", "ACTIVE", "UPDATED"),
    ]
    assert len(versions_of(boto, datastore_id, other_study)) == 1
    assert refusal(update, boto, datastore_id, ct, "2", revert_to="1", includeStudyImageSets=True) == (
        "ValidationException"
    )


def test_request_with_updates_and_a_revert_is_rejected(boto, datastore_id, image_set_id, own_emulator):
    url = f"{own_emulator.url}/datastore/{datastore_id}/imageSet/{image_set_id}/updateImageSetMetadata?latestVersion=1"
    for body in ({}, {"revertToVersionId": "1", "DICOMUpdates": {"updatableAttributes": "e30="}}):
        answer = requests.post(url, json=body, headers=SIGNED, timeout=5)
        assert (answer.status_code, answer.headers["x-amzn-ErrorType"]) == (400, "ValidationException")


def test_import_after_an_update_keeps_the_update(boto, datastore_id, image_set_id, import_ct):
    update(boto, datastore_id, image_set_id, updates=document(instance={"DICOM": {"ImageComments": "new"}}))
    assert import_ct({"SOPInstanceUID": "1.2.7"}) == [image_set_id]
    instances = series_of(metadata_of(boto, datastore_id, image_set_id))["Instances"]
    assert list(instances) == ["1.2.1", "1.2.2", "1.2.7"]
    assert instances["1.2.1"]["DICOM"]["ImageComments"] == "new"


def test_versions_are_listed_in_pages_with_their_outcome(boto, datastore_id, image_set_id):
    update(boto, datastore_id, image_set_id, updates=document(patient={"PatientName": "X"}))
    update(boto, datastore_id, image_set_id, "2", removals=document(instance={}, uid="1.2.77"))
    update(boto, datastore_id, image_set_id, "3", revert_to="1")
    versions = versions_of(boto, datastore_id, image_set_id)
    assert [(each["versionId"], each["ImageSetWorkflowStatus"]) for each in versions] == [
        ("4", "UPDATED"),
        ("3", "UPDATE_FAILED"),
        ("2", "UPDATED"),
        ("1", "CREATED"),
    ]
    assert [each["versionId"] for each in versions if "message" in each] == ["3"]
    times = [each["updatedAt"] for each in versions]
    assert times == sorted(times, reverse=True)
    assert {each["createdAt"] for each in versions} == {versions[-1]["createdAt"]}
    second = boto.get_image_set(datastoreId=datastore_id, imageSetId=image_set_id, versionId="2")
    assert (second["imageSetWorkflowStatus"], second["updatedAt"]) == ("UPDATED", versions[2]["updatedAt"])
