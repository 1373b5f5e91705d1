"""An import job, and the result of an import."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from local.health_imaging.image_sets import ImageSet
    from local.health_imaging.import_warnings import InstanceWarning


@dataclass(slots=True)
class ImportJob:
    """An import job, with the members of ``DICOMImportJobProperties``.

    ``output_uri`` is the job's own folder under the requested one. GetDICOMImportJob returns it, and AWS's samples look
    for the manifest there.
    """

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
        """The job, as GetDICOMImportJob returns it."""
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


@dataclass(slots=True)
class Imported:
    """The result of an import.

    Attributes
    ----------
    image_sets : list of ImageSet
        The image sets that were created or updated.
    successes : dict of str to ImageSet
        The image set of each imported file, by file name.
    warnings : dict of str to list of InstanceWarning
        Warnings about imported files, by file name.
    failures : dict of str to str
        Why a file was not imported, by file name.
    """

    image_sets: list[ImageSet] = field(default_factory=list)
    successes: dict[str, ImageSet] = field(default_factory=dict)
    warnings: dict[str, list[InstanceWarning]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
