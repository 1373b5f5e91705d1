"""CopyImageSet behaves as AWS documents it."""

import re

import pytest

from local.health_imaging.protocol import SERVICE
from tests.unit.local.changing import SERIES_UID, copy, document, instance_uids, refusal, subset, update, versions_of
from tests.unit.local.emulated import metadata_of, series_of


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


def test_promotion_that_conflicts_with_the_study_raises_conflict_exception(boto, datastore_id, import_ct):
    import_ct({"SOPInstanceUID": "1.2.1"}, {"SOPInstanceUID": "1.2.2", "SeriesInstanceUID": "1.2.55"})
    (other,) = import_ct({"SOPInstanceUID": "1.2.3", "PatientName": "Another"})
    summaries = boto.search_image_sets(datastoreId=datastore_id)["imageSetsMetadataSummaries"]
    for summary in summaries:
        if summary["isPrimary"] and summary["DICOMTags"]["DICOMSeriesInstanceUID"] == SERIES_UID:
            boto.delete_image_set(datastoreId=datastore_id, imageSetId=summary["imageSetId"])
    assert refusal(copy, boto, datastore_id, other, promoteToPrimary=True) == "ConflictException"


def test_deleted_image_set_cannot_be_changed(boto, datastore_id, image_set_id):
    boto.delete_image_set(datastoreId=datastore_id, imageSetId=image_set_id)
    assert refusal(update, boto, datastore_id, image_set_id, revert_to="1") == "ResourceNotFoundException"
    assert refusal(copy, boto, datastore_id, image_set_id) == "ResourceNotFoundException"
