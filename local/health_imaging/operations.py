"""Implements the operations of HealthImaging: one method each, with boto3's name for it.

A method takes the validated members of the operation's input shape by name, and returns the members of the output
shape. `protocol` does the rest: routing, parsing, validation and serialization.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from local.health_imaging.answers import Body
from local.health_imaging.changes import instances_to_copy, version_number
from local.health_imaging.client_tokens import ClientTokens
from local.health_imaging.errors import ServiceError
from local.health_imaging.image_sets import FrameAddress
from local.health_imaging.metadata_updates import MetadataUpdate
from local.health_imaging.protocol import TIMESTAMP_DECIMALS, structure_members

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from local.health_imaging.datastores import DataStore
    from local.health_imaging.image_sets import ImageSet
    from local.health_imaging.service import HealthImagingService

    Members = Mapping[str, Any]
    Result = dict[str, Any]

MAX_PAGE_ITEMS = 50
MAX_TAGS = 50
"""Tags per resource (AWS General Reference, "Tag naming limits and requirements")."""

JOB_SUMMARY_MEMBERS = structure_members("DICOMImportJobSummary")
"""Members of an import job in ListDICOMImportJobs; GetDICOMImportJob returns more."""


class Operations:
    """The operations that the emulator implements.

    Parameters
    ----------
    service : HealthImagingService
        The service, with its data stores, import jobs and image sets.
    """

    def __init__(self, service: HealthImagingService) -> None:
        self._service = service
        self._stores = service.stores
        self._changes = service.changes
        self._tokens = ClientTokens()
        self._tags_lock = threading.Lock()

    # Data stores

    def create_datastore(self, members: Members) -> Result:
        def create() -> Result:
            # The service accepts requests without a name, but the model requires one in its responses.
            datastore_id = self._service.create_datastore(
                members.get("datastoreName", "unnamed"),
                lossless_storage_format=members.get("losslessStorageFormat", "HTJ2K"),
            )
            store = self._stores.get(datastore_id)
            store.tags = dict(members.get("tags", {}))
            store.kms_key_arn = members.get("kmsKeyArn")
            store.lambda_authorizer_arn = members.get("lambdaAuthorizerArn")
            return {"datastoreId": datastore_id, "datastoreStatus": "CREATING"}

        def exists(answer: Result) -> bool:
            return any(store.id == answer["datastoreId"] for store in self._stores.all())

        _check_tag_count(members.get("tags", {}))
        return self._tokens.answer_once("CreateDatastore", members, create, exists)

    def get_datastore(self, members: Members) -> Result:
        store = self._stores.get(members["datastoreId"])
        return {
            "datastoreProperties": {
                **self._datastore(store),
                "losslessStorageFormat": store.lossless_storage_format,
                "kmsKeyArn": store.kms_key_arn,
                "lambdaAuthorizerArn": store.lambda_authorizer_arn,
            }
        }

    def list_datastores(self, members: Members) -> Result:
        # A data store is active as soon as it is created, and disappears when it is deleted.
        stores = self._stores.all() if members.get("datastoreStatus", "ACTIVE") == "ACTIVE" else []
        return _page("datastoreSummaries", [self._datastore(store) for store in stores], members)

    def delete_datastore(self, members: Members) -> Result:
        self._service.delete_datastore(members["datastoreId"])
        return {"datastoreId": members["datastoreId"], "datastoreStatus": "DELETING"}

    def _datastore(self, store: DataStore) -> Result:
        return {
            "datastoreId": store.id,
            "datastoreName": store.name,
            "datastoreStatus": "ACTIVE",
            "datastoreArn": f"{self._service.arn_prefix}datastore/{store.id}",
            "createdAt": store.created_at,
            "updatedAt": store.created_at,
        }

    # Tags

    def tag_resource(self, members: Members) -> Result:
        tags = self._tags(members["resourceArn"])
        with self._tags_lock:
            _check_tag_count({**tags, **members["tags"]})
            tags.update(members["tags"])
        return {}

    def untag_resource(self, members: Members) -> Result:
        tags = self._tags(members["resourceArn"])
        with self._tags_lock:
            for key in members["tagKeys"]:
                tags.pop(key, None)
        return {}

    def list_tags_for_resource(self, members: Members) -> Result:
        tags = self._tags(members["resourceArn"])
        with self._tags_lock:
            return {"tags": dict(tags)}

    def _tags(self, arn: str) -> dict[str, str]:
        prefix = f"{self._service.arn_prefix}datastore/"
        if not arn.startswith(prefix):
            raise ServiceError("ResourceNotFoundException", "There is no such resource in this account and Region")
        datastore_id, _, image_set_id = arn.removeprefix(prefix).partition("/imageset/")
        if image_set_id:
            return self._stores.image_set(datastore_id, image_set_id).tags
        return self._stores.get(datastore_id).tags

    # Import jobs

    def start_dicom_import_job(self, members: Members) -> Result:
        def start() -> Result:
            job = self._service.importer.start(members["datastoreId"], dict(members))
            return {
                "datastoreId": job.datastore_id,
                "jobId": job.id,
                "jobStatus": "SUBMITTED",
                "submittedAt": job.submitted_at,
            }

        return self._tokens.answer_once(f"StartDICOMImportJob {members['datastoreId']}", members, start)

    def get_dicom_import_job(self, members: Members) -> Result:
        job = self._service.importer.job(members["datastoreId"], members["jobId"])
        return {"jobProperties": job.properties()}

    def list_dicom_import_jobs(self, members: Members) -> Result:
        jobs = self._service.importer.jobs(members["datastoreId"], members.get("jobStatus"))
        summaries = [
            {name: value for name, value in job.properties().items() if name in JOB_SUMMARY_MEMBERS} for job in jobs
        ]
        return _page("jobSummaries", summaries, members)

    # Image sets

    def search_image_sets(self, members: Members) -> Result:
        store = self._stores.get(members["datastoreId"])
        criteria = members.get("searchCriteria", {})
        filters = criteria.get("filters", [])
        sort = criteria.get("sort", {"sortField": "updatedAt", "sortOrder": "DESC"})
        # The list is copied because an import may add to it at the same time.
        found = [
            each
            for each in list(store.image_sets.values())
            if each.state == "ACTIVE" and all(_matches(each, search_filter) for search_filter in filters)
        ]
        found.sort(key=_SORT_FIELDS[sort["sortField"]], reverse=sort["sortOrder"] == "DESC")
        summaries = [
            {
                "imageSetId": each.id,
                "version": each.version,
                "createdAt": each.created_at,
                "updatedAt": each.updated_at,
                "isPrimary": each.is_primary,
                "DICOMTags": each.attributes,
            }
            for each in found
        ]
        return {**_page("imageSetsMetadataSummaries", summaries, members), "sort": sort}

    def get_image_set(self, members: Members) -> Result:
        image_set = self._image_set(members)
        version = version_number(image_set, members.get("versionId"))
        properties = self._version(image_set, version)
        return {
            **properties,
            "datastoreId": image_set.datastore_id,
            "imageSetArn": self._image_set_arn(image_set),
        }

    def list_image_set_versions(self, members: Members) -> Result:
        image_set = self._image_set(members)
        versions = [self._version(image_set, version) for version in range(image_set.version, 0, -1)]
        for properties in versions:
            # Only ImageSetProperties spells this member with a capital letter.
            properties["ImageSetWorkflowStatus"] = properties.pop("imageSetWorkflowStatus")
        return _page("imageSetPropertiesList", versions, members)

    def get_image_set_metadata(self, members: Members) -> Result:
        image_set = self._image_set(members)
        blob = image_set.metadata(version_number(image_set, members.get("versionId")))
        return {
            "imageSetMetadataBlob": Body([blob], len(blob)),
            "contentType": "application/json",
            "contentEncoding": "gzip",
        }

    def get_image_frame(self, members: Members) -> Result:
        frame_id = members["imageFrameInformation"]["imageFrameId"]
        frame = self._stores.frame(FrameAddress(members["datastoreId"], members["imageSetId"], frame_id))
        size = frame.content.size if frame.announce_length else None
        return {"imageFrameBlob": Body(frame.content.pieces(), size), "contentType": frame.content_type}

    def update_image_set_metadata(self, members: Members) -> Result:
        where = (members["datastoreId"], members["imageSetId"], members["latestVersionId"])
        updates = members["updateImageSetMetadataUpdates"]
        force, whole_study = members.get("force", False), members.get("includeStudyImageSets", False)
        if "revertToVersionId" in updates:
            if whole_study:
                problem = "includeStudyImageSets cannot be combined with revertToVersionId"
                raise ServiceError("ValidationException", problem)
            image_set = self._changes.revert(*where, updates["revertToVersionId"])
        else:
            dicom = updates["DICOMUpdates"]
            update = MetadataUpdate(dicom.get("updatableAttributes"), dicom.get("removableAttributes"), force=force)
            image_set = self._changes.update(*where, update, force=force, whole_study=whole_study)
        return {
            "datastoreId": image_set.datastore_id,
            "imageSetId": image_set.id,
            "latestVersionId": str(image_set.version),
            "imageSetState": "LOCKED",
            "imageSetWorkflowStatus": "UPDATING",
            "createdAt": image_set.created_at,
            "updatedAt": image_set.updated_at,
        }

    def copy_image_set(self, members: Members) -> Result:
        information = members["copyImageSetInformation"]
        source, destination = information["sourceImageSet"], information.get("destinationImageSet")
        copies = source.get("DICOMCopies")
        copied = self._changes.copy(
            members["datastoreId"],
            members["sourceImageSetId"],
            source["latestVersionId"],
            instances_to_copy(copies["copiableAttributes"]) if copies else None,
            (destination["imageSetId"], destination["latestVersionId"]) if destination else None,
            force=members.get("force", False),
            promote=members.get("promoteToPrimary", False),
        )
        return {
            "datastoreId": members["datastoreId"],
            "sourceImageSetProperties": self._copy_properties(copied.source, "COPYING_WITH_READ_ONLY_ACCESS"),
            "destinationImageSetProperties": self._copy_properties(copied.destination, "COPYING"),
        }

    def delete_image_set(self, members: Members) -> Result:
        image_set = self._service.delete_image_set(members["datastoreId"], members["imageSetId"])
        return {
            "datastoreId": image_set.datastore_id,
            "imageSetId": image_set.id,
            "imageSetState": "LOCKED",
            "imageSetWorkflowStatus": "DELETING",
        }

    def _image_set(self, members: Members) -> ImageSet:
        return self._stores.image_set(members["datastoreId"], members["imageSetId"])

    def _image_set_arn(self, image_set: ImageSet) -> str:
        return f"{self._service.arn_prefix}datastore/{image_set.datastore_id}/imageset/{image_set.id}"

    def _version(self, image_set: ImageSet, version: int) -> Result:
        properties = image_set.properties(version)
        return {
            "imageSetId": image_set.id,
            "versionId": str(version),
            "imageSetState": image_set.state,
            "imageSetWorkflowStatus": properties.workflow_status,
            "createdAt": image_set.created_at,
            "updatedAt": properties.updated_at,
            "message": properties.message,
            "overrides": {"forced": properties.forced} if properties.forced is not None else None,
            "isPrimary": image_set.is_primary,
        }

    def _copy_properties(self, image_set: ImageSet, workflow_status: str) -> Result:
        return {
            "imageSetId": image_set.id,
            "latestVersionId": str(image_set.version),
            "imageSetState": "LOCKED",
            "imageSetWorkflowStatus": workflow_status,
            "createdAt": image_set.created_at,
            "updatedAt": image_set.updated_at,
            "imageSetArn": self._image_set_arn(image_set),
        }


_SORT_FIELDS: dict[str, Callable[[ImageSet], Any]] = {
    "createdAt": lambda image_set: image_set.created_at,
    "updatedAt": lambda image_set: image_set.updated_at,
    "DICOMStudyDateAndTime": lambda image_set: _study_date_and_time(image_set.attributes),
}
_EQUAL = (
    "DICOMPatientId",
    "DICOMAccessionNumber",
    "DICOMStudyId",
    "DICOMStudyInstanceUID",
    "DICOMSeriesInstanceUID",
    "isPrimary",
)


def _study_date_and_time(attributes: Mapping[str, str]) -> str:
    return attributes.get("DICOMStudyDate", "") + attributes.get("DICOMStudyTime", "")


def _matches(image_set: ImageSet, search_filter: Members) -> bool:
    """Whether an image set matches a search filter: EQUAL on attributes, or BETWEEN on times."""
    pairs = [(name, value) for each in search_filter["values"] for name, value in each.items()]
    names = {name for name, _ in pairs}
    if search_filter["operator"] == "EQUAL" and names <= set(_EQUAL):
        known = {**image_set.attributes, "isPrimary": image_set.is_primary}
        return any(known.get(name) == value for name, value in pairs)
    if search_filter["operator"] == "BETWEEN" and len(pairs) == 2 and len(names) == 1 and names <= _SORT_FIELDS.keys():
        (name, low), (_, high) = pairs
        value = _SORT_FIELDS[name](image_set)
        if name == "DICOMStudyDateAndTime":
            low, high = _study_date_and_time(low), _study_date_and_time(high)
        else:
            # Clients compare with the rounded times of earlier responses.
            value = round(value, TIMESTAMP_DECIMALS)
        return bool(low <= value <= high)
    equal, between = ", ".join(_EQUAL), ", ".join(_SORT_FIELDS)
    problem = f"A filter must be EQUAL on one of {equal}, or BETWEEN on one of {between}"
    raise ServiceError("ValidationException", problem)


def _check_tag_count(tags: Mapping[str, str]) -> None:
    if len(tags) > MAX_TAGS:
        raise ServiceError("ValidationException", f"A resource can have at most {MAX_TAGS} tags")


def _page(name: str, items: list[Any], members: Members) -> Result:
    """Make a page of a list, under its name in the response. A token is the position of the next page."""
    size, token = members.get("maxResults", MAX_PAGE_ITEMS), members.get("nextToken", "0")
    if not (token.isascii() and token.isdecimal() and len(token) < 10):
        raise ServiceError("ValidationException", "nextToken must come from an earlier response")
    end = int(token) + size
    return {name: items[int(token) : end], "nextToken": str(end) if end < len(items) else None}
