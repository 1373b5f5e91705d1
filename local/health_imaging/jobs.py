"""Import jobs: DICOM files below an S3 prefix become image sets, in the background."""

from __future__ import annotations

import io
import json
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pydicom

from local.health_imaging.datastores import ServiceError, new_identifier

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from local.health_imaging.datastores import DataStores, ImageSet
    from local.health_imaging.events import Events


@dataclass(slots=True)
class ImportJob:
    """An import job, in the words of ``DICOMImportJobProperties``."""

    id: str
    name: str
    datastore_id: str
    role_arn: str
    input_uri: str
    output_uri: str
    status: str = "SUBMITTED"
    submitted_at: float = field(default_factory=time.time)
    ended_at: float | None = None
    message: str | None = None

    def properties(self) -> dict[str, Any]:
        """The job as GetDICOMImportJob answers it."""
        document = {
            "jobId": self.id,
            "jobName": self.name,
            "jobStatus": self.status,
            "datastoreId": self.datastore_id,
            "dataAccessRoleArn": self.role_arn,
            "inputS3Uri": self.input_uri,
            "outputS3Uri": self.output_uri,
            "submittedAt": self.submitted_at,
            "endedAt": self.ended_at,
            "message": self.message,
        }
        return {name: value for name, value in document.items() if value is not None}


class Importer:
    """Runs import jobs, each in a thread of its own.

    Parameters
    ----------
    stores : DataStores
        Where image sets go.
    events : Events
        Told of image sets and jobs.
    s3 : boto3 S3 client, or None
        Where files come from; without one, a job fails.
    """

    def __init__(self, stores: DataStores, events: Events, s3: Any) -> None:
        self._stores = stores
        self._events = events
        self._s3 = s3
        self._jobs: dict[str, ImportJob] = {}
        self._threads: list[threading.Thread] = []

    def start(self, datastore_id: str, request: dict[str, Any]) -> ImportJob:
        """Submit a job."""
        self._stores.get(datastore_id)
        for name in ("dataAccessRoleArn", "inputS3Uri", "outputS3Uri"):
            if not isinstance(request.get(name), str):
                raise ServiceError("ValidationException", f"{name} must be given")
        for name in ("inputS3Uri", "outputS3Uri"):
            if not request[name].startswith("s3://"):
                raise ServiceError("ValidationException", f"{name} must be an S3 URI")
        job = ImportJob(
            new_identifier(),
            request.get("jobName") or "",
            datastore_id,
            request["dataAccessRoleArn"],
            request["inputS3Uri"],
            request["outputS3Uri"],
        )
        self._jobs[job.id] = job
        thread = threading.Thread(target=self._run, args=(job,), name=f"import-{job.id[:6]}", daemon=True)
        self._threads.append(thread)
        thread.start()
        return job

    def job(self, datastore_id: str, job_id: str) -> ImportJob:
        """The job of that id, or the service's refusal."""
        job = self._jobs.get(job_id)
        if job is None or job.datastore_id != datastore_id:
            raise ServiceError("ResourceNotFoundException", "There is no such import job")
        return job

    def jobs(self, datastore_id: str) -> list[ImportJob]:
        """All jobs of a data store."""
        return [job for job in self._jobs.values() if job.datastore_id == datastore_id]

    def add_files(
        self, datastore_id: str, files: Iterable[tuple[str, bytes]]
    ) -> tuple[list[ImageSet], dict[str, str], int]:
        """Import files now.

        Returns
        -------
        image sets, failures, instances
            What came of them; the cause of each failure by the file's name; how many files became instances.
        """
        series: dict[tuple[str, ...], list[tuple[str, pydicom.Dataset]]] = defaultdict(list)
        copies: Counter[str] = Counter()
        failures: dict[str, str] = {}
        scanned = 0
        for name, content in files:
            scanned += 1
            try:
                dataset = pydicom.dcmread(io.BytesIO(content))
                # The second file of the same instance goes to an image set of its own, and so on.
                copies[str(dataset.SOPInstanceUID)] += 1
                identity = (str(dataset.get("PatientID", "")), str(dataset.StudyInstanceUID))
                number = str(copies[str(dataset.SOPInstanceUID)])
                series[*identity, str(dataset.SeriesInstanceUID), number].append((name, dataset))
            except Exception as error:
                failures[name] = type(error).__name__
        touched: dict[str, ImageSet] = {}
        for members in series.values():
            for image_set in self._add_series(datastore_id, members, failures):
                touched[image_set.id] = image_set
        return list(touched.values()), failures, scanned - len(failures)

    def _add_series(
        self, datastore_id: str, members: list[tuple[str, pydicom.Dataset]], failures: dict[str, str]
    ) -> Iterator[ImageSet]:
        """Add all instances of a series as one version; those that cannot be decoded are left out and reported."""
        try:
            image_set, created = self._stores.add_instances(datastore_id, [dataset for _, dataset in members])
        except Exception as error:
            if len(members) == 1:
                failures[members[0][0]] = type(error).__name__
                return
            for member in members:
                yield from self._add_series(datastore_id, [member], failures)
            return
        self._events.image_set("Image Set Created" if created else "Image Set Updated", image_set)
        yield image_set

    def _run(self, job: ImportJob) -> None:
        job.status = "IN_PROGRESS"
        try:
            image_sets, failures, instances = self.add_files(job.datastore_id, self._files(job))
            self._write_manifests(job, image_sets, failures, instances)
            job.status = "COMPLETED" if instances or not failures else "FAILED"
        except Exception as error:
            # The service reports a bucket that it cannot read in the job, not in a call.
            job.status, job.message = "FAILED", f"{type(error).__name__}: {error}"
        job.ended_at = time.time()
        outcome = "Import Job Completed" if job.status == "COMPLETED" else "Import Job Failed"
        self._events.import_job(outcome, job.datastore_id, job.id, job.name, job.status)

    def _files(self, job: ImportJob) -> Iterator[tuple[str, bytes]]:
        if self._s3 is None:
            raise RuntimeError("the emulator was started without S3")
        bucket, prefix = _bucket_and_key(job.input_uri)
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for entry in page.get("Contents", []):
                if not entry["Key"].endswith("/"):
                    yield entry["Key"], self._s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()

    def _write_manifests(
        self, job: ImportJob, image_sets: list[ImageSet], failures: dict[str, str], instances: int
    ) -> None:
        bucket, prefix = _bucket_and_key(job.output_uri)
        folder = f"{prefix.rstrip('/')}/{job.datastore_id}-DicomImport-{job.id}".lstrip("/")
        summary = {
            "jobSummary": {
                "jobId": job.id,
                "datastoreId": job.datastore_id,
                "inputS3Uri": job.input_uri,
                "outputS3Uri": job.output_uri,
                "successOutputS3Uri": f"s3://{bucket}/{folder}/SUCCESS/",
                "failureOutputS3Uri": f"s3://{bucket}/{folder}/FAILURE/",
                "numberOfScannedFiles": instances + len(failures),
                "numberOfImportedFiles": instances,
                "numberOfFilesWithCustomerError": len(failures),
                "numberOfFilesWithServerError": 0,
                "numberOfGeneratedImageSets": len(image_sets),
                "imageSetsSummary": [
                    {"imageSetId": each.id, "imageSetVersion": each.version, "isPrimary": each.is_primary}
                    for each in image_sets
                ],
            }
        }
        self._s3.put_object(Bucket=bucket, Key=f"{folder}/job-output-manifest.json", Body=json.dumps(summary).encode())
        if failures:
            lines = [
                json.dumps({"inputFile": name, "exception": {"exceptionType": cause, "message": "not imported"}})
                for name, cause in failures.items()
            ]
            self._s3.put_object(Bucket=bucket, Key=f"{folder}/FAILURE/failure.ndjson", Body="\n".join(lines).encode())

    def close(self) -> None:
        """Wait for the jobs under way."""
        for thread in self._threads:
            thread.join(timeout=10)


def _bucket_and_key(uri: str) -> tuple[str, str]:
    parts = urlsplit(uri)
    return parts.netloc, parts.path.lstrip("/")
