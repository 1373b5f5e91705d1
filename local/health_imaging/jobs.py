"""Runs import jobs, which turn the DICOM files under an S3 prefix into image sets in the background."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from local.health_imaging.attributes import UnreadableAttributeError
from local.health_imaging.dicom_files import InvalidFileError
from local.health_imaging.errors import ServiceError
from local.health_imaging.identifiers import new_identifier
from local.health_imaging.import_job import Imported, ImportJob
from local.health_imaging.instances import Instance, read_instance
from local.health_imaging.manifests import bucket_and_key, write_manifests

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from local.health_imaging.datastores import DataStores
    from local.health_imaging.events import Events

log = logging.getLogger(__name__)


class Importer:
    """Runs import jobs, each in its own thread.

    Parameters
    ----------
    stores : DataStores
        Receives the image sets.
    events : Events
        Sends the events of image sets and jobs.
    s3 : boto3 S3 client, or None
        The S3 to read from and write to. Without it, every job fails.
    """

    def __init__(self, stores: DataStores, events: Events, s3: Any) -> None:
        self._stores = stores
        self._events = events
        self._s3 = s3
        self._jobs: dict[str, ImportJob] = {}
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def start(self, datastore_id: str, request: dict[str, Any]) -> ImportJob:
        """Submit a job; ``request`` holds the validated members of StartDICOMImportJob."""
        self._stores.get(datastore_id)
        job = _new_job(datastore_id, request)
        with self._lock:
            self._jobs[job.id] = job
        self._events.import_job("Import Job Submitted", job)
        thread = threading.Thread(target=self._run, args=(job,), name=f"import-{job.id[:6]}", daemon=True)
        self._threads.append(thread)
        thread.start()
        return job

    def job(self, datastore_id: str, job_id: str) -> ImportJob:
        """Find a job.

        Raises
        ------
        ServiceError
            ResourceNotFoundException if there is no such data store or job.
        """
        self._stores.get(datastore_id)
        job = self._jobs.get(job_id)
        if job is None or job.datastore_id != datastore_id:
            raise ServiceError("ResourceNotFoundException", "There is no such import job")
        return job

    def jobs(self, datastore_id: str, status: str | None = None) -> list[ImportJob]:
        """The jobs of a data store: all, or those with a status."""
        self._stores.get(datastore_id)
        with self._lock:
            jobs = list(self._jobs.values())
        return [job for job in jobs if job.datastore_id == datastore_id and status in (None, job.status)]

    def add_files(self, datastore_id: str, files: Iterable[tuple[str, bytes]]) -> Imported:
        """Import files, given as pairs of name and content. A file that cannot be imported is a failure in the result.

        Raises
        ------
        ServiceError
            ResourceNotFoundException if there is no such data store.
        """
        storage_format = self._stores.get(datastore_id).lossless_storage_format
        series: dict[tuple[str, ...], dict[str, Instance]] = defaultdict(dict)
        copies: Counter[str] = Counter()
        imported = Imported()
        for name, content in files:
            try:
                instance = read_instance(content, storage_format)
            except (InvalidFileError, UnreadableAttributeError) as error:
                imported.failures[name] = str(error)
                continue
            except Exception:
                # No file may stop a job.
                log.exception("The emulator failed to read a DICOM file")
                imported.failures[name] = "The file cannot be read; see the emulator's log"
                continue
            # A second file of the same instance goes to another image set, and so on.
            copies[instance.sop_instance_uid] += 1
            series[*instance.series, str(copies[instance.sop_instance_uid])][name] = instance
            if instance.warnings:
                imported.warnings[name] = instance.warnings
        for members in series.values():
            image_set, created = self._stores.add_instances(datastore_id, list(members.values()))
            self._events.image_set("Image Set Created" if created else "Image Set Updated", image_set)
            imported.successes |= dict.fromkeys(members, image_set)
        imported.image_sets = list({each.id: each for each in imported.successes.values()}.values())
        return imported

    def _run(self, job: ImportJob) -> None:
        job.status = "IN_PROGRESS"
        self._events.import_job("Import Job In Progress", job)
        try:
            imported = self.add_files(job.datastore_id, self._files(job))
            write_manifests(self._s3, job, imported)
            status = "COMPLETED" if imported.successes or not imported.failures else "FAILED"
        except Exception as error:
            # As in the service, the job reports the failure, for example an unreadable bucket.
            status, job.message = "FAILED", f"{type(error).__name__}: {error}"
        # `ended_at` comes first, so that a client that sees the final status also sees the time.
        job.ended_at = time.time()
        job.status = status
        self._events.import_job("Import Job Completed" if status == "COMPLETED" else "Import Job Failed", job)

    def _files(self, job: ImportJob) -> Iterator[tuple[str, bytes]]:
        if self._s3 is None:
            raise RuntimeError("the emulator runs without S3")
        bucket, prefix = bucket_and_key(job.input_uri)
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for entry in page.get("Contents", []):
                if not entry["Key"].endswith("/"):
                    yield entry["Key"], self._s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()

    def close(self) -> None:
        """Wait for running jobs, up to 10 s each."""
        for thread in self._threads:
            thread.join(timeout=10)


def _new_job(datastore_id: str, request: dict[str, Any]) -> ImportJob:
    job_id = new_identifier()
    folder = f"{request['outputS3Uri'].rstrip('/')}/{datastore_id}-DicomImport-{job_id}/"
    # The service accepts jobs without a name, but the model requires one in its responses.
    name = request.get("jobName") or f"job-{job_id[:8]}"
    return ImportJob(job_id, name, datastore_id, request["dataAccessRoleArn"], request["inputS3Uri"], folder)
