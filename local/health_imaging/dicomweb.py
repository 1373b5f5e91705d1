"""Routes HealthImaging's DICOMweb services: QIDO-RS searches and WADO-RS retrieval.

Paths, parameters, order of results and transfer syntaxes follow the developer guide ("Using DICOMweb with AWS
HealthImaging"). The guide does not define a few things. There, the emulator follows the DICOM standard (PS3.18).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from botocore import xform_name

from local.health_imaging.dicomweb_retrieval import DICOMwebRetrieval
from local.health_imaging.dicomweb_searches import DICOMwebSearches

if TYPE_CHECKING:
    from local.health_imaging.answers import Answer
    from local.health_imaging.datastores import DataStores
    from local.health_imaging.dicomweb_instances import DICOMwebRequest

HOST_PREFIX = "dicom-"
"""The prefix of the service's host for DICOMweb."""

_STUDY = "/datastore/{datastoreId}/studies/{studyInstanceUid}"
_SERIES = f"{_STUDY}/series/{{seriesInstanceUid}}"
_INSTANCE = f"{_SERIES}/instances/{{sopInstanceUid}}"
_PATHS = {
    "SearchDICOMStudies": "/datastore/{datastoreId}/studies",
    "SearchDICOMSeries": f"{_STUDY}/series",
    "SearchDICOMInstances": f"{_SERIES}/instances",
    "SearchDICOMStudyInstances": f"{_STUDY}/instances",
    "SearchDICOMAllSeries": "/datastore/{datastoreId}/series",
    "SearchDICOMAllInstances": "/datastore/{datastoreId}/instances",
    "GetDICOMSeriesMetadata": f"{_SERIES}/metadata",
    "GetDICOMInstance": _INSTANCE,
    "GetDICOMInstanceMetadata": f"{_INSTANCE}/metadata",
    "GetDICOMInstanceFrames": f"{_INSTANCE}/frames/{{frameList}}",
    "GetDICOMBulkdata": f"{_INSTANCE}/bulkdata/{{bulkdataUriHash}}",
}


@dataclass(frozen=True)
class DICOMwebOperation:
    """An operation of DICOMweb, in the form of `protocol.Operation`; botocore's model has none of them."""

    name: str

    method = "GET"
    host_prefix = HOST_PREFIX

    @property
    def python_name(self) -> str:
        """The operation's name in Python, such as ``get_dicom_instance``."""
        return xform_name(self.name)

    @cached_property
    def path(self) -> re.Pattern[str]:
        """The pattern of the percent-encoded path, with a group for each label."""
        return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", _PATHS[self.name]))


DICOMWEB_OPERATIONS = [DICOMwebOperation(name) for name in _PATHS]


class DICOMweb:
    """The DICOMweb operations.

    Parameters
    ----------
    stores : DataStores
        Holds the image sets.
    """

    def __init__(self, stores: DataStores) -> None:
        self._implementations = (DICOMwebSearches(stores), DICOMwebRetrieval(stores))

    def answer(self, operation: DICOMwebOperation, request: DICOMwebRequest) -> Answer:
        """Answer a request.

        Raises
        ------
        ServiceError
            ResourceNotFoundException for an unknown resource, ValidationException for an invalid parameter,
            NotAcceptableException if the Accept header allows no form of the response.
        """
        name = operation.python_name
        implementation = next(each for each in self._implementations if hasattr(each, name))
        answer: Answer = getattr(implementation, name)(request)
        return answer
