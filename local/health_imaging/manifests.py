"""Writes the output of an import job to S3 (developer guide, "Understanding import jobs")."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from local.health_imaging.image_sets import ImageSet
    from local.health_imaging.import_job import Imported, ImportJob


def write_manifests(s3: Any, job: ImportJob, imported: Imported) -> None:
    """Write a job's manifest and its lists of successes, warnings and failures; empty lists are not written."""
    bucket, folder = bucket_and_key(job.output_uri)

    def put(name: str, text: str) -> None:
        s3.put_object(Bucket=bucket, Key=f"{folder}{name}", Body=text.encode())

    successes = [
        {"inputFile": name, "importResponse": {"imageSetId": image_set.id, "isPrimary": image_set.is_primary}}
        for name, image_set in imported.successes.items()
    ]
    warnings = [
        {
            "inputFile": name,
            "importResponse": {
                "imageSetId": imported.successes[name].id,
                "imageSetVersion": imported.successes[name].version,
                "isPrimary": imported.successes[name].is_primary,
                "warnings": [each.to_json() for each in of_file],
            },
        }
        for name, of_file in imported.warnings.items()
    ]
    failures = [
        {"inputFile": name, "exception": {"exceptionType": "ValidationException", "message": problem}}
        for name, problem in imported.failures.items()
    ]
    put("job-output-manifest.json", json.dumps(_summary(job, imported)))
    for name, lines in (("SUCCESS/success", successes), ("WARNING/warning", warnings), ("FAILURE/failure", failures)):
        if lines:
            put(f"{name}.ndjson", _ndjson(lines))


def bucket_and_key(uri: str) -> tuple[str, str]:
    """Split an ``s3://`` URI into the bucket and the key or prefix."""
    parts = urlsplit(uri)
    return parts.netloc, parts.path.lstrip("/")


def _summary(job: ImportJob, imported: Imported) -> dict[str, Any]:
    instances = Counter(image_set.id for image_set in imported.successes.values())
    return {
        "jobSummary": {
            "jobId": job.id,
            "datastoreId": job.datastore_id,
            "inputS3Uri": job.input_uri,
            "outputS3Uri": job.output_uri,
            "successOutputS3Uri": f"{job.output_uri}SUCCESS/",
            "failureOutputS3Uri": f"{job.output_uri}FAILURE/",
            "warningsOutputS3Uri": f"{job.output_uri}WARNING/",
            "numberOfScannedFiles": len(imported.successes) + len(imported.failures),
            "numberOfImportedFiles": len(imported.successes),
            "numberOfFilesWithCustomerError": len(imported.failures),
            "numberOfFilesWithServerError": 0,
            "numberOfGeneratedImageSets": len(imported.image_sets),
            "imageSetsSummary": [_image_set(each, instances[each.id]) for each in imported.image_sets],
        }
    }


def _image_set(image_set: ImageSet, instances: int) -> dict[str, Any]:
    return {
        "imageSetId": image_set.id,
        "imageSetVersion": image_set.version,
        "isPrimary": image_set.is_primary,
        "numberOfMatchedSOPInstances": instances,
    }


def _ndjson(lines: Iterable[dict[str, Any]]) -> str:
    return "\n".join(json.dumps(line) for line in lines)
