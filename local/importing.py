"""Imports DICOM files into HealthImaging as a user does: upload to S3, import job, image set metadata."""

from __future__ import annotations

import gzip
import json
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from local.cloud import ACCOUNT, LocalCloudError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from local.cloud import LocalCloud

IMPORT_BUCKET = "dicom-files"
IMPORT_TIMEOUT_SECONDS = 300


@dataclass(frozen=True, slots=True)
class ImportedFrame:
    """An image frame, as its image set's metadata lists it. ``size`` is in bytes; ``number`` counts from 1."""

    datastore_id: str
    image_set_id: str
    image_frame_id: str
    sop_instance_uid: str
    number: int
    size: int

    @property
    def path(self) -> str:
        """The frame's path in the REST API."""
        return f"/datastore/{self.datastore_id}/imageSet/{self.image_set_id}/imageFrame/{self.image_frame_id}"


def import_folder(cloud: LocalCloud, datastore_id: str, folder: Path) -> list[ImportedFrame]:
    """Import all DICOM files in a folder, and list the frames of the data store.

    Raises
    ------
    LocalCloudError
        If the import job fails or takes too long.
    """
    s3, health_imaging = cloud.client("s3"), cloud.client("medical-imaging")
    s3.create_bucket(Bucket=IMPORT_BUCKET)
    token = uuid.uuid4().hex
    for path in sorted(folder.iterdir()):
        s3.upload_file(str(path), IMPORT_BUCKET, f"input/{token}/{path.name}")
    job = health_imaging.start_dicom_import_job(
        jobName="samples",
        datastoreId=datastore_id,
        dataAccessRoleArn=f"arn:aws:iam::{ACCOUNT}:role/import",
        inputS3Uri=f"s3://{IMPORT_BUCKET}/input/{token}/",
        outputS3Uri=f"s3://{IMPORT_BUCKET}/output/",
        clientToken=token,
    )
    deadline = time.monotonic() + IMPORT_TIMEOUT_SECONDS
    while True:
        properties = health_imaging.get_dicom_import_job(datastoreId=datastore_id, jobId=job["jobId"])["jobProperties"]
        if properties["jobStatus"] == "COMPLETED":
            return list(frames_of(health_imaging, datastore_id))
        if properties["jobStatus"] == "FAILED" or time.monotonic() > deadline:
            raise LocalCloudError(f"The import job did not complete: {properties}")
        time.sleep(0.2)


def frames_of(health_imaging: Any, datastore_id: str) -> Iterator[ImportedFrame]:
    """List all image frames of a data store."""
    for page in health_imaging.get_paginator("search_image_sets").paginate(datastoreId=datastore_id):
        for summary in page["imageSetsMetadataSummaries"]:
            address = {"datastoreId": datastore_id, "imageSetId": summary["imageSetId"]}
            blob = health_imaging.get_image_set_metadata(**address)["imageSetMetadataBlob"].read()
            metadata = json.loads(gzip.decompress(blob))
            for series in metadata["Study"]["Series"].values():
                for sop_instance_uid, instance in series["Instances"].items():
                    for number, frame in enumerate(instance["ImageFrames"], start=1):
                        yield ImportedFrame(
                            datastore_id,
                            summary["imageSetId"],
                            frame["ID"],
                            sop_instance_uid,
                            number,
                            frame["FrameSizeInBytes"],
                        )
