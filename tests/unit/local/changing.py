"""Requests that change image sets, for tests."""

import json

import pytest
from botocore.exceptions import ClientError

from tests.unit.local.emulated import series_of

SERIES_UID = "1.3.6.1.4.1.5962.1.3.1.1.20040119072730.12322"


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
