"""UpdateImageSetMetadata, CopyImageSet and ListImageSetVersions behave as AWS documents them."""

import json
import re

import pytest
import requests
from botocore.exceptions import ClientError

from local.health_imaging import HealthImagingEmulator
from local.health_imaging.protocol import SERVICE
from tests.unit.local.emulated import SIGNED, Bus, dicom_file, metadata_of, new_client, series_of


@pytest.fixture(scope="module")
def bus():
    return Bus()


@pytest.fixture(scope="module")
def own_emulator(aws_environment, bus):
    with HealthImagingEmulator(events=bus) as running:
        yield running


@pytest.fixture
def boto(own_emulator):
    return new_client(own_emulator.url)


@pytest.fixture
def datastore_id(own_emulator):
    return own_emulator.create_datastore("changes")


@pytest.fixture
def imported(own_emulator, datastore_id, tmp_path):
    """Imports CT files with changed attributes; returns the distinct ids of their image sets."""

    def import_files(*files):
        paths = [dicom_file(tmp_path, **attributes) for attributes in files]
        return [each.id for each in own_emulator.import_files(datastore_id, paths)]

    return import_files


@pytest.fixture
def image_set_id(imported):
    (image_set_id,) = imported({"SOPInstanceUID": "1.2.1"}, {"SOPInstanceUID": "1.2.2"})
    return image_set_id


@pytest.fixture
def not_primary_id(imported):
    """A non-primary image set, whose patient conflicts with that of `image_set_id`."""
    imported({"SOPInstanceUID": "1.2.1"})
    (image_set_id,) = imported({"SOPInstanceUID": "1.2.3", "PatientName": "Another"})
    return image_set_id


def document(patient=None, study=None, series=None, instance=None, uid="1.2.1", series_uid=None):
    """Make an update document in the form of the metadata."""
    result = {"SchemaVersion": 1.1}
    if patient is not None:
        result["Patient"] = {"DICOM": patient}
    if study is not None:
        result["Study"] = {"DICOM": study}
    if series is not None:
        result.setdefault("Study", {})["Series"] = {series_uid or SERIES_UID: {"DICOM": series}}
    if instance is not None:
        result.setdefault("Study", {})["Series"] = {series_uid or SERIES_UID: {"Instances": {uid: instance}}}
    return json.dumps(result).encode()


SERIES_UID = "1.3.6.1.4.1.5962.1.3.1.1.20040119072730.12322"


def update(boto, datastore_id, image_set_id, latest="1", *, updates=None, removals=None, revert_to=None, **parameters):
    if revert_to is not None:
        changes = {"revertToVersionId": revert_to}
    else:
        both = {"updatableAttributes": updates, "removableAttributes": removals}
        changes = {"DICOMUpdates": {name: value for name, value in both.items() if value is not None}}
    return boto.update_image_set_metadata(
        datastoreId=datastore_id,
        imageSetId=image_set_id,
        latestVersionId=latest,
        updateImageSetMetadataUpdates=changes,
        **parameters,
    )


def copy(boto, datastore_id, source_id, latest="1", *, instances=None, into=None, **parameters):
    source = {"latestVersionId": latest}
    if instances is not None:
        source["DICOMCopies"] = {"copiableAttributes": instances}
    information = {"sourceImageSet": source}
    if into is not None:
        information["destinationImageSet"] = {"imageSetId": into[0], "latestVersionId": into[1]}
    return boto.copy_image_set(
        datastoreId=datastore_id, sourceImageSetId=source_id, copyImageSetInformation=information, **parameters
    )


def subset(*uids, series=SERIES_UID):
    return json.dumps({"SchemaVersion": "1.1", "Study": {"Series": {series: {"Instances": {uid: {} for uid in uids}}}}})


def versions_of(boto, datastore_id, image_set_id):
    pages = boto.get_paginator("list_image_set_versions").paginate(
        datastoreId=datastore_id, imageSetId=image_set_id, PaginationConfig={"PageSize": 2}
    )
    return [version for page in pages for version in page["imageSetPropertiesList"]]


def instance_uids(metadata):
    return list(series_of(metadata)["Instances"])


def refusal(act, *arguments, **parameters):
    with pytest.raises(ClientError) as raised:
        act(*arguments, **parameters)
    error = raised.value.response["Error"]
    return error["Code"]


# Updates


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
def test_uid_can_only_be_replaced_by_a_uid(boto, datastore_id, not_primary_id, uid):
    updates = document(instance={"DICOM": {"SOPInstanceUID": uid}}, uid="1.2.3")
    assert refusal(update, boto, datastore_id, not_primary_id, updates=updates, force=True) == "ValidationException"


@pytest.mark.parametrize("keyword", ["Checksum", "Width", "DatastoreID", "FrameSizeInBytes"])
def test_force_does_not_allow_changes_to_generated_members(boto, datastore_id, image_set_id, keyword):
    updates = document(instance={"DICOM": {keyword: 1}})
    assert refusal(update, boto, datastore_id, image_set_id, updates=updates, force=True) == "ValidationException"


def test_force_allows_uid_changes_in_a_non_primary_image_set(boto, datastore_id, not_primary_id):
    updates = document(instance={"DICOM": {"SOPInstanceUID": "1.2.99"}}, uid="1.2.3")
    update(boto, datastore_id, not_primary_id, updates=updates, force=True)
    updates = document(series={"SeriesInstanceUID": "1.2.88"})
    update(boto, datastore_id, not_primary_id, "2", updates=updates, force=True)
    metadata = metadata_of(boto, datastore_id, not_primary_id)
    assert list(metadata["Study"]["Series"]) == ["1.2.88"]
    assert instance_uids(metadata) == ["1.2.99"]
    filters = [{"operator": "EQUAL", "values": [{"DICOMSeriesInstanceUID": "1.2.88"}]}]
    found = boto.search_image_sets(datastoreId=datastore_id, searchCriteria={"filters": filters})
    assert [each["imageSetId"] for each in found["imageSetsMetadataSummaries"]] == [not_primary_id]


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


def test_whole_study_is_updated_at_once(boto, datastore_id, imported, bus):
    ct, other_series, other_study = imported(
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


def test_import_after_an_update_keeps_the_update(boto, datastore_id, image_set_id, imported):
    update(boto, datastore_id, image_set_id, updates=document(instance={"DICOM": {"ImageComments": "new"}}))
    assert imported({"SOPInstanceUID": "1.2.7"}) == [image_set_id]
    instances = series_of(metadata_of(boto, datastore_id, image_set_id))["Instances"]
    assert list(instances) == ["1.2.1", "1.2.2", "1.2.7"]
    assert instances["1.2.1"]["DICOM"]["ImageComments"] == "new"


# Versions


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


# Copies


def test_copy_without_a_destination_makes_a_non_primary_image_set(boto, datastore_id, image_set_id, bus):
    answer = copy(boto, datastore_id, image_set_id)
    source, destination = answer["sourceImageSetProperties"], answer["destinationImageSetProperties"]
    assert (source["imageSetId"], source["latestVersionId"]) == (image_set_id, "1")
    assert (source["imageSetState"], source["imageSetWorkflowStatus"]) == ("LOCKED", "COPYING_WITH_READ_ONLY_ACCESS")
    assert (destination["latestVersionId"], destination["imageSetWorkflowStatus"]) == ("1", "COPYING")
    copy_id = destination["imageSetId"]
    properties = boto.get_image_set(datastoreId=datastore_id, imageSetId=copy_id)
    assert properties["imageSetArn"] == destination["imageSetArn"]
    assert properties["imageSetArn"].endswith(f":datastore/{datastore_id}/imageset/{copy_id}")
    assert (properties["imageSetWorkflowStatus"], properties["isPrimary"]) == ("COPIED", False)
    original, copied = (metadata_of(boto, datastore_id, each) for each in (image_set_id, copy_id))
    assert copied == original | {"ImageSetID": copy_id}
    assert bus.of_image_set(copy_id) == [
        ("Image Set Copying", "1", "LOCKED", "COPYING"),
        ("Image Set Copied", "1", "ACTIVE", "COPIED"),
    ]
    assert bus.of_image_set(image_set_id)[1:] == [
        ("Image Set Copying With Read Only Access", "1", "LOCKED", "COPYING_WITH_READ_ONLY_ACCESS")
    ]
    (copying,) = [
        detail for name, detail in bus.received if name == "Image Set Copying" and detail["imagesetId"] == copy_id
    ]
    assert copying["sourceImageSetArn"] == source["imageSetArn"]


def test_frames_of_a_copy_outlive_the_source(boto, datastore_id, image_set_id):
    copy_id = copy(boto, datastore_id, image_set_id)["destinationImageSetProperties"]["imageSetId"]
    boto.delete_image_set(datastoreId=datastore_id, imageSetId=image_set_id)
    for instance in series_of(metadata_of(boto, datastore_id, copy_id))["Instances"].values():
        (frame,) = instance["ImageFrames"]
        answer = boto.get_image_frame(
            datastoreId=datastore_id, imageSetId=copy_id, imageFrameInformation={"imageFrameId": frame["ID"]}
        )
        assert len(answer["imageFrameBlob"].read()) == frame["FrameSizeInBytes"]


def test_update_of_a_copy_does_not_change_the_source(boto, datastore_id, image_set_id):
    before = metadata_of(boto, datastore_id, image_set_id)
    copy_id = copy(boto, datastore_id, image_set_id)["destinationImageSetProperties"]["imageSetId"]
    update(boto, datastore_id, copy_id, updates=document(patient={"PatientName": "X"}))
    assert metadata_of(boto, datastore_id, image_set_id) == before


@pytest.mark.parametrize("series", [SERIES_UID, "imageSetId"])
def test_copy_can_be_limited_to_instances(boto, datastore_id, image_set_id, series):
    answer = copy(boto, datastore_id, image_set_id, instances=subset("1.2.2", series=series))
    copied = metadata_of(boto, datastore_id, answer["destinationImageSetProperties"]["imageSetId"])
    assert instance_uids(copied) == ["1.2.2"]


@pytest.mark.parametrize("instances", ["{", "[]", "{}", subset(), subset("1.2.77"), '{"Study": {"Series": {"1": []}}}'])
def test_copy_of_unknown_instances_raises_validation_exception(boto, datastore_id, image_set_id, instances):
    assert refusal(copy, boto, datastore_id, image_set_id, instances=instances) == "ValidationException"


@pytest.fixture
def parts(boto, datastore_id, image_set_id):
    """Two image sets of the same series, with one instance each."""
    answers = [copy(boto, datastore_id, image_set_id, instances=subset(uid)) for uid in ("1.2.1", "1.2.2")]
    return [each["destinationImageSetProperties"]["imageSetId"] for each in answers]


def test_copy_into_an_image_set_makes_a_version_there(boto, datastore_id, parts, bus):
    one, two = parts
    answer = copy(boto, datastore_id, one, into=(two, "1"))
    destination = answer["destinationImageSetProperties"]
    assert (destination["imageSetId"], destination["latestVersionId"]) == (two, "2")
    assert instance_uids(metadata_of(boto, datastore_id, two)) == ["1.2.2", "1.2.1"]
    assert instance_uids(metadata_of(boto, datastore_id, two, versionId="1")) == ["1.2.2"]
    statuses = [each["ImageSetWorkflowStatus"] for each in versions_of(boto, datastore_id, two)]
    assert statuses == ["COPIED", "COPIED"]
    (frame,) = series_of(metadata_of(boto, datastore_id, two))["Instances"]["1.2.1"]["ImageFrames"]
    assert boto.get_image_frame(
        datastoreId=datastore_id, imageSetId=two, imageFrameInformation={"imageFrameId": frame["ID"]}
    )["imageFrameBlob"].read()
    assert bus.of_image_set(two)[2:] == [
        ("Image Set Copying", "2", "LOCKED", "COPYING"),
        ("Image Set Copied", "2", "ACTIVE", "COPIED"),
    ]


@pytest.mark.parametrize(
    ("attributes", "level"),
    [
        ({"patient": {"PatientName": "X"}}, "Patient"),
        ({"study": {"StudyDescription": "X"}}, "Study"),
        ({"series": {"SeriesDescription": "X"}}, "Series"),
    ],
)
def test_copy_between_inconsistent_image_sets_fails_without_force(boto, datastore_id, parts, bus, attributes, level):
    one, two = parts
    update(boto, datastore_id, two, updates=document(**attributes))
    before = metadata_of(boto, datastore_id, two)
    copy(boto, datastore_id, one, into=(two, "2"))
    properties = boto.get_image_set(datastoreId=datastore_id, imageSetId=two)
    assert (properties["versionId"], properties["imageSetWorkflowStatus"]) == ("3", "COPY_FAILED")
    message = f"INVALID_REQUEST: {level} of SourceImageSet and DestinationImageSet don't match."
    assert properties["message"] == message
    assert re.fullmatch(SERVICE.shape_for("Message").metadata["pattern"], message)
    assert metadata_of(boto, datastore_id, two) == before
    assert bus.of_image_set(two)[-1] == ("Image Set Copy Failed", "3", "ACTIVE", "COPY_FAILED")
    copy(boto, datastore_id, one, into=(two, "3"), force=True)
    after = metadata_of(boto, datastore_id, two)
    assert instance_uids(after) == ["1.2.2", "1.2.1"]
    assert after["Patient"] == before["Patient"]
    assert series_of(after)["DICOM"] == series_of(before)["DICOM"]
    assert versions_of(boto, datastore_id, two)[0]["overrides"] == {"forced": True}


def test_copy_of_an_existing_instance_fails_even_with_force(boto, datastore_id, image_set_id, parts):
    copy(boto, datastore_id, image_set_id, into=(parts[0], "1"), force=True)
    properties = boto.get_image_set(datastoreId=datastore_id, imageSetId=parts[0])
    assert properties["imageSetWorkflowStatus"] == "COPY_FAILED"
    assert "unique" in properties["message"]


def test_copy_of_an_earlier_version_raises_conflict_exception(boto, datastore_id, parts):
    one, two = parts
    assert refusal(copy, boto, datastore_id, one, "2") == "ConflictException"
    assert refusal(copy, boto, datastore_id, one, into=(two, "2")) == "ConflictException"


def test_copy_into_itself_or_an_unknown_image_set_is_rejected(boto, datastore_id, image_set_id):
    assert refusal(copy, boto, datastore_id, image_set_id, into=(image_set_id, "1")) == "ValidationException"
    assert refusal(copy, boto, datastore_id, image_set_id, into=("0" * 32, "1")) == "ResourceNotFoundException"
    assert refusal(copy, boto, datastore_id, "0" * 32) == "ResourceNotFoundException"


def test_promotion_makes_a_new_primary_image_set(boto, datastore_id, image_set_id, parts):
    assert refusal(copy, boto, datastore_id, parts[0], promoteToPrimary=True) == "ConflictException"
    boto.delete_image_set(datastoreId=datastore_id, imageSetId=image_set_id)
    answer = copy(boto, datastore_id, parts[0], promoteToPrimary=True)
    promoted_id = answer["destinationImageSetProperties"]["imageSetId"]
    assert promoted_id not in parts
    primary = {
        each: boto.get_image_set(datastoreId=datastore_id, imageSetId=each)["isPrimary"]
        for each in (promoted_id, *parts)
    }
    assert primary == {promoted_id: True, parts[0]: False, parts[1]: False}
    assert refusal(copy, boto, datastore_id, promoted_id, promoteToPrimary=True) == "ValidationException"
    assert refusal(copy, boto, datastore_id, parts[0], into=(parts[1], "1"), promoteToPrimary=True) == (
        "ValidationException"
    )


def test_promotion_that_conflicts_with_the_study_raises_conflict_exception(boto, datastore_id, imported):
    imported({"SOPInstanceUID": "1.2.1"}, {"SOPInstanceUID": "1.2.2", "SeriesInstanceUID": "1.2.55"})
    (other,) = imported({"SOPInstanceUID": "1.2.3", "PatientName": "Another"})
    summaries = boto.search_image_sets(datastoreId=datastore_id)["imageSetsMetadataSummaries"]
    for summary in summaries:
        if summary["isPrimary"] and summary["DICOMTags"]["DICOMSeriesInstanceUID"] == SERIES_UID:
            boto.delete_image_set(datastoreId=datastore_id, imageSetId=summary["imageSetId"])
    assert refusal(copy, boto, datastore_id, other, promoteToPrimary=True) == "ConflictException"


def test_deleted_image_set_cannot_be_changed(boto, datastore_id, image_set_id):
    boto.delete_image_set(datastoreId=datastore_id, imageSetId=image_set_id)
    assert refusal(update, boto, datastore_id, image_set_id, revert_to="1") == "ResourceNotFoundException"
    assert refusal(copy, boto, datastore_id, image_set_id) == "ResourceNotFoundException"
