"""Framegate answers as HealthImaging's own DICOMweb does, where it has the call.

Each request goes to the emulator directly and through Framegate. `DIFFERENCES` lists what is meant to differ.
"""

from __future__ import annotations

import json
import re

import pytest

from local.health_imaging.dicomweb import DICOMWEB_OPERATIONS
from tests.unit.dicomweb import AS_STORED, ELE, HTJ2K, JPEG, UNKNOWN_UID, DicomWeb, dataset_of

NAMES = ["CT_small.dcm", "MR_small.dcm", "SC_rgb_small_odd_jpeg.dcm", "SC_rgb_rle_2frame.dcm", "emri_small.dcm"]

OPERATIONS = {
    "searchStudies": "studies",
    "searchStudySeries": "studies/{study}/series",
    "searchStudyInstances": "studies/{study}/instances",
    "searchSeriesInstances": "studies/{study}/series/{series}/instances",
    "searchSeries": "series",
    "searchInstances": "instances",
    "retrieveSeriesMetadata": "studies/{study}/series/{series}/metadata",
    "retrieveInstanceMetadata": "studies/{study}/series/{series}/instances/{instance}/metadata",
    "retrieveInstanceFrames": "studies/{study}/series/{series}/instances/{instance}/frames/{frames}",
    "retrieveBulkData": "studies/{study}/series/{series}/instances/{instance}/bulkdata/{bulk}",
}
"""Our operations, and the paths of HealthImaging's."""

COMPARED_ELSEWHERE = {"GetDICOMInstance"}
"""Operations of HealthImaging whose answers `test_dicom_retrieval.py` reads: files are compared by their content."""


@pytest.fixture
def web(client, health_imaging):
    return DicomWeb(client, health_imaging)


@pytest.fixture
def pair(web):
    """Sends a request to HealthImaging and through Framegate."""

    def send(operation, dataset, accept, query="", frames="1", bulk="0" * 32, **path):
        values = {
            "study": path.get("studyInstanceUID", dataset.StudyInstanceUID),
            "series": path.get("seriesInstanceUID", dataset.SeriesInstanceUID),
            "instance": path.get("instanceUID", dataset.SOPInstanceUID),
        }
        target = OPERATIONS[operation].format(**values, frames=frames, bulk=bulk)
        theirs = web.upstream(f"{target}?{query}" if query else target, accept)
        headers = {} if accept is None else {"Accept": accept}
        named = {"frameList": frames, "bulkDataId": bulk, **path}
        return theirs, web.get(operation, dataset, query=query, headers=headers, **named)

    return send


def located(body):
    """A JSON body with URIs that begin at the data store."""
    return json.loads(re.sub(rb'(?<=")https?://[^"]*?(?=/datastore/)', b"", body) or b"[]")


def contents(content_type, body):
    """The content of each part of a body, or of the body if it has no parts."""
    found = re.search(r'multipart/.*boundary="?([^;"]+)', content_type)
    if found is None:
        return [body]
    _, *parts, _ = (b"\r\n" + body).split(b"\r\n--" + found[1].encode())
    return [part.partition(b"\r\n\r\n")[2] for part in parts]


def syntax_of(content_type, body):
    """The transfer syntax that a response announces, of its first part or of itself."""
    if content_type.startswith("multipart/"):
        content_type = body.partition(b"\r\n\r\n")[0].decode()
    found = re.search(r'transfer-syntax="?([0-9.]+)', content_type)
    return found and found[1]


def test_every_operation_of_healthimaging_is_compared():
    assert len(DICOMWEB_OPERATIONS) == len(OPERATIONS) + len(COMPARED_ELSEWHERE)
    assert {each.name for each in DICOMWEB_OPERATIONS} >= COMPARED_ELSEWHERE


# Frames

FRAME_ACCEPTS = [
    AS_STORED,
    "multipart/related; type=application/octet-stream",
    'multipart/related; type="application/octet-stream"; transfer-syntax="*"',
    f"multipart/related; type=application/octet-stream; transfer-syntax={ELE}",
    f"multipart/related; type=application/octet-stream; transfer-syntax={HTJ2K}",
    f"multipart/related; type=application/octet-stream; transfer-syntax={JPEG}",
    "multipart/related; type=image/jphc",
    "multipart/related; type=image/jpeg",
    "multipart/related; type=image/jls",
    f"multipart/related; type=image/jphc; transfer-syntax={HTJ2K}",
    "application/octet-stream",
    "application/octet-stream; transfer-syntax=*",
    f"application/octet-stream; transfer-syntax={ELE}",
    f"application/octet-stream; transfer-syntax={HTJ2K}",
    f"application/octet-stream; transfer-syntax={JPEG}",
    "image/jphc",
    "image/jph",
    "image/jpeg",
    "image/jls",
    "text/html",
    "image/jls;q=0.9, multipart/related; type=application/octet-stream; transfer-syntax=*;q=0.5",
]


@pytest.mark.parametrize("accept", FRAME_ACCEPTS)
@pytest.mark.parametrize("name", NAMES)
def test_frame_is_that_of_healthimaging(pair, dicom_samples, name, accept):
    theirs, ours = pair("retrieveInstanceFrames", dicom_samples[name], accept)
    assert ours.status == theirs.status_code
    if ours.status == 200:
        ours_type, theirs_type = ours.headers["Content-Type"], theirs.headers["Content-Type"]
        assert contents(ours_type, ours.body) == contents(theirs_type, theirs.content)
        assert ours_type.startswith("multipart/") == theirs_type.startswith("multipart/")
        assert syntax_of(ours_type, ours.body) == syntax_of(theirs_type, theirs.content)


@pytest.mark.parametrize("accept", FRAME_ACCEPTS[:10])
@pytest.mark.parametrize("frames", ["1,2", "2,1"])
def test_several_frames_are_those_of_healthimaging(pair, dicom_samples, frames, accept):
    for name in ("SC_rgb_rle_2frame.dcm", "emri_small.dcm"):
        theirs, ours = pair("retrieveInstanceFrames", dicom_samples[name], accept, frames=frames)
        assert ours.status == theirs.status_code
        if ours.status == 200:
            types = ours.headers["Content-Type"], theirs.headers["Content-Type"]
            assert contents(types[0], ours.body) == contents(types[1], theirs.content)


DIFFERENCES = {
    "*/*": "Framegate sends the stored frame; HealthImaging decodes it, 50 times a second for the account.",
    None: "The same, without an Accept header.",
}


@pytest.mark.parametrize("accept", DIFFERENCES)
def test_intended_difference_exists(pair, dicom_samples, accept):
    theirs, ours = pair("retrieveInstanceFrames", dicom_samples["CT_small.dcm"], accept)
    assert (ours.status, syntax_of(ours.headers["Content-Type"], ours.body)) == (200, HTJ2K)
    assert theirs.status_code == 406 or syntax_of(theirs.headers["Content-Type"], theirs.content) == ELE


@pytest.mark.parametrize("frames", ["0", "1,1", "2", "1,2", "999", "a", "1,", "-1", "01"])
def test_refused_list_of_frames_has_the_status_of_healthimaging(pair, dicom_samples, frames):
    theirs, ours = pair("retrieveInstanceFrames", dicom_samples["CT_small.dcm"], AS_STORED, frames=frames)
    assert ours.status == theirs.status_code >= 400


# Datasets


@pytest.mark.parametrize("accept", ["application/dicom+json", "application/json", "*/*", None, "text/html"])
@pytest.mark.parametrize("operation", ["retrieveSeriesMetadata", "retrieveInstanceMetadata", "searchStudySeries"])
def test_metadata_is_that_of_healthimaging(pair, dicom_samples, operation, accept):
    for name in NAMES:
        theirs, ours = pair(operation, dicom_samples[name], accept)
        assert ours.status == theirs.status_code
        if ours.status == 200:
            assert located(ours.body) == located(theirs.content)
            assert ours.headers["Content-Type"] == theirs.headers["Content-Type"]


@pytest.mark.parametrize(
    "query",
    [
        "",
        "limit=2",
        "limit=2&offset=1",
        "offset=1000",
        "limit=0",
        "limit=-1",
        "limit=1001",
        "offset=x",
        "includefield=all",
        "includefield=00081030&includefield=00100030",
        "includefield=StudyDescription",
        "includefield=nonsense",
        "PatientName=*",
        "PatientName=Nobody^Known",
        "PatientName=comp*&fuzzymatching=true",
        "fuzzymatching=maybe",
        "Modality=CT",
        "ModalitiesInStudy=CT",
        "StudyDate=19000101-20991231",
        "StudyDate=tomorrow",
        "00100020=*",
        "nonsense=1",
    ],
)
@pytest.mark.parametrize("operation", [each for each in OPERATIONS if each.startswith("search")])
def test_search_is_that_of_healthimaging(pair, dicom_samples, operation, query):
    theirs, ours = pair(operation, dicom_samples["CT_small.dcm"], "application/dicom+json", query)
    # Nothing found: HealthImaging may answer 204, and Framegate always has an array.
    assert ours.status == (200 if theirs.status_code == 204 else theirs.status_code)
    if ours.status == 200:
        assert located(ours.body) == located(theirs.content)


@pytest.mark.parametrize("name", ["studyInstanceUID", "seriesInstanceUID", "instanceUID"])
@pytest.mark.parametrize(
    "operation", ["retrieveSeriesMetadata", "retrieveInstanceMetadata", "retrieveInstanceFrames", "retrieveBulkData"]
)
def test_unknown_address_has_the_status_of_healthimaging(pair, dicom_samples, operation, name):
    if operation == "retrieveSeriesMetadata" and name == "instanceUID":
        pytest.skip("the path has no such UID")
    theirs, ours = pair(operation, dicom_samples["CT_small.dcm"], "*/*", **{name: UNKNOWN_UID})
    assert ours.status == theirs.status_code == 404


@pytest.mark.parametrize("operation", ["retrieveSeriesMetadata", "retrieveInstanceMetadata", "retrieveInstanceFrames"])
def test_chosen_image_set_is_that_of_healthimaging(pair, add_datasets, operation):
    dataset = dataset_of("CT_small.dcm")
    dataset.StudyInstanceUID = f"1.2.3.40.{list(OPERATIONS).index(operation)}"
    dataset.SeriesInstanceUID = f"{dataset.StudyInstanceUID}.1"
    (primary,) = add_datasets(dataset)
    dataset.PatientName, dataset.PixelData = "Other^Name", bytes(len(dataset.PixelData))
    (other,) = add_datasets(dataset)
    accept = AS_STORED if operation == "retrieveInstanceFrames" else "application/dicom+json"
    for image_set_id in (primary.id, other.id, "0" * 32):
        theirs, ours = pair(operation, dataset, accept, f"imageSetId={image_set_id}")
        assert ours.status == theirs.status_code
        if ours.status == 200 and operation == "retrieveInstanceFrames":
            types = ours.headers["Content-Type"], theirs.headers["Content-Type"]
            assert contents(types[0], ours.body) == contents(types[1], theirs.content)
        elif ours.status == 200:
            assert located(ours.body) == located(theirs.content)


@pytest.mark.parametrize(
    "accept",
    [
        "application/octet-stream",
        "*/*",
        "multipart/related; type=application/octet-stream",
        'multipart/related; type="*/*"',
        "text/html",
    ],
)
def test_bulk_data_is_that_of_healthimaging(pair, add_datasets, web, accept):
    dataset = dataset_of("CT_small.dcm")
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3.41", "1.2.3.41.1"
    dataset.add_new(0x00420011, "OB", bytes(range(256)) * 4097)
    add_datasets(dataset)
    (metadata,) = web.get("retrieveSeriesMetadata", dataset).json()
    bulk = metadata["00420011"]["BulkDataURI"].partition("?")[0].rpartition("/")[2]
    theirs, ours = pair("retrieveBulkData", dataset, accept, bulk=bulk)
    assert ours.status == theirs.status_code
    if ours.status == 200:
        types = ours.headers["Content-Type"], theirs.headers["Content-Type"]
        assert contents(types[0], ours.body) == contents(types[1], theirs.content)
        assert types[0].startswith("multipart/") == types[1].startswith("multipart/")
