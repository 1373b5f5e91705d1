"""Helpers for the tests of the DICOMweb routes."""

from __future__ import annotations

import re
import warnings

import pydicom
import requests

from framegate.rest.routes import ROUTES
from tests.unit.conftest import SERVED
from tests.unit.local.emulated import SigV4, path_of

TEMPLATES = {operation.operation_id: route.template for route in ROUTES for operation in route.operations}
ELE, HTJ2K, JPEG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.50"
AS_STORED = "multipart/related; type=application/octet-stream; transfer-syntax=*"
UNKNOWN_UID = "1.2.3.4.5.6.7.8.9"


def dataset_of(name):
    with warnings.catch_warnings(action="ignore"):
        return pydicom.dcmread(path_of(name))


class DicomWeb:
    """Calls the DICOMweb routes, and HealthImaging's own for comparison."""

    def __init__(self, client, emulator):
        self.client = client
        self.emulator = emulator

    def get(self, operation, dataset=None, *, method="GET", query="", headers=None, **path):
        values = {"datastoreId": SERVED, **path}
        if dataset is not None:
            values = {
                "studyInstanceUID": dataset.StudyInstanceUID,
                "seriesInstanceUID": dataset.SeriesInstanceUID,
                "instanceUID": dataset.SOPInstanceUID,
                **values,
            }
        template = TEMPLATES[operation]
        named = {name: str(values[name]) for name in re.findall(r"\{(\w+)\}", template)}
        return self.client.call(method, template, named, query, headers)

    def frames(self, dataset, frames="1", accept=AS_STORED, **arguments):
        headers = {"Accept": accept} if accept is not None else {}
        headers |= arguments.pop("headers", {})
        return self.get("retrieveInstanceFrames", dataset, frameList=frames, headers=headers, **arguments)

    def upstream(self, path, accept="application/dicom+json", **query):
        url = f"{self.emulator.url}/datastore/{SERVED}/{path}"
        return requests.get(url, params=query, headers={"Accept": accept}, auth=SigV4(), timeout=10)

    def calls(self, *operations):
        return [call.operation for call in self.emulator.calls if not operations or call.operation in operations]


def parts_of(answer):
    """The Content-Type and the bytes of each part."""
    boundary = re.search(r"boundary=([^;]+)$", answer.headers["Content-Type"])[1].encode()
    first, *parts, last = (b"\r\n" + answer.body).split(b"\r\n--" + boundary)
    assert (first, last) == (b"", b"--\r\n")
    found = []
    for part in parts:
        head, _, content = part.partition(b"\r\n\r\n")
        assert head.startswith(b"\r\nContent-Type: ")
        found.append((head.decode().removeprefix("\r\nContent-Type: "), content))
    return found
