"""DICOMweb through the deployed stack: with dicomweb-client, unmodified, and compared with HealthImaging's own."""

from __future__ import annotations

import json
import re
import warnings
from types import SimpleNamespace

import pydicom
import pytest
import requests
from dicomweb_client import DICOMwebClient

from local.cloud import ACCESS_KEY, REGION, SECRET_KEY
from local.signing import SigV4
from tests.unit.local.emulated import SigV4 as HealthImagingSigV4

AS_STORED = "multipart/related; type=application/octet-stream; transfer-syntax=*"


@pytest.fixture(scope="module")
def datasets(imported):
    with warnings.catch_warnings(action="ignore"):
        read = [pydicom.dcmread(path) for path in sorted(imported.folder.iterdir())]
    return [dataset for dataset in read if "PixelData" in dataset]


@pytest.fixture(scope="module")
def ct(datasets):
    return next(dataset for dataset in datasets if dataset.get("Modality") == "CT")


@pytest.fixture(scope="module")
def multiframe(datasets):
    return next(dataset for dataset in datasets if 1 < int(dataset.get("NumberOfFrames") or 1) < 200)


@pytest.fixture(scope="module")
def base(deployment, imported):
    return f"{deployment.api_url}/datastore/{imported.datastore_id}"


@pytest.fixture(scope="module")
def upstream(cloud, imported):
    return f"{cloud.health_imaging.url}/datastore/{imported.datastore_id}"


class Session(requests.Session):
    """Sends neither the API's name nor the headers of its signature to S3, as docs/viewers.md recommends."""

    def rebuild_auth(self, prepared_request, response):
        for name in list(prepared_request.headers):
            if name.lower() == "host" or name.lower().startswith("x-amz-"):
                del prepared_request.headers[name]
        super().rebuild_auth(prepared_request, response)


@pytest.fixture(scope="module")
def client(base):
    session = Session()
    session.auth = SigV4(ACCESS_KEY, SECRET_KEY, REGION)
    return DICOMwebClient(url=base, session=session)


def series_path(dataset):
    return f"studies/{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}"


def instance_path(dataset):
    return f"{series_path(dataset)}/instances/{dataset.SOPInstanceUID}"


# dicomweb-client


def test_client_finds_every_study(client, datasets):
    found = client.search_for_studies(get_remaining=True)
    assert {each["0020000D"]["Value"][0] for each in found} >= {dataset.StudyInstanceUID for dataset in datasets}


def test_client_searches_with_filters_and_fields(client, ct):
    (study,) = client.search_for_studies(
        search_filters={"StudyInstanceUID": ct.StudyInstanceUID}, fields=["00081030", "00100030"]
    )
    assert study["00100020"]["Value"] == [ct.PatientID]
    series = client.search_for_series(ct.StudyInstanceUID)
    assert ct.SeriesInstanceUID in {each["0020000E"]["Value"][0] for each in series}
    instances = client.search_for_instances(ct.StudyInstanceUID, ct.SeriesInstanceUID)
    assert ct.SOPInstanceUID in {each["00080018"]["Value"][0] for each in instances}
    assert client.search_for_studies(search_filters={"PatientName": "Nobody^Known"}) == []


def test_client_reads_metadata_of_study_series_and_instance(client, ct):
    for metadata in (
        client.retrieve_study_metadata(ct.StudyInstanceUID),
        client.retrieve_series_metadata(ct.StudyInstanceUID, ct.SeriesInstanceUID),
        [client.retrieve_instance_metadata(ct.StudyInstanceUID, ct.SeriesInstanceUID, ct.SOPInstanceUID)],
    ):
        assert ct.SOPInstanceUID in {each["00080018"]["Value"][0] for each in metadata}
        assert {each["00100020"]["Value"][0] for each in metadata} == {ct.PatientID}


def test_client_reads_one_and_several_frames(client, cloud, imported, multiframe):
    of_instance = {
        frame.number: cloud.health_imaging.content(frame)
        for frame in imported.frames
        if frame.sop_instance_uid == multiframe.SOPInstanceUID
    }
    uids = multiframe.StudyInstanceUID, multiframe.SeriesInstanceUID, multiframe.SOPInstanceUID
    assert client.retrieve_instance_frames(*uids, frame_numbers=[1]) == [of_instance[1]]
    assert client.retrieve_instance_frames(*uids, frame_numbers=[2, 1]) == [of_instance[2], of_instance[1]]


def test_frame_above_the_inline_limit_is_a_multipart_body_in_s3(base, cloud, imported, datasets):
    large = max(imported.frames, key=lambda frame: frame.size)
    assert large.size > 4_712_523
    dataset = next(each for each in datasets if each.SOPInstanceUID == large.sop_instance_uid)
    url = f"{base}/{instance_path(dataset)}/frames/{large.number}"
    answer = through(url, headers={"Accept": AS_STORED}, allow_redirects=False)
    assert answer.status_code == 303
    stored = requests.get(answer.headers["Location"], timeout=60)
    assert stored.headers["Content-Type"].startswith("multipart/related")
    assert cloud.health_imaging.content(large) in stored.content


def test_client_reads_a_frame_above_the_inline_limit(client, cloud, imported, datasets):
    large = max(imported.frames, key=lambda frame: frame.size)
    dataset = next(each for each in datasets if each.SOPInstanceUID == large.sop_instance_uid)
    uids = dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID
    assert client.retrieve_instance_frames(*uids, frame_numbers=[large.number]) == [cloud.health_imaging.content(large)]


# Parity


def through(url, **arguments):
    auth = HealthImagingSigV4() if "/_aws/" not in url else SigV4(ACCESS_KEY, SECRET_KEY, REGION)
    return requests.get(url, auth=auth, timeout=60, **arguments)


@pytest.fixture(scope="module")
def pair(base, upstream):
    """Sends a request to HealthImaging and through Framegate."""

    def send(path, accept, **query):
        headers = {"Accept": accept}
        found = [through(f"{each}/{path}", headers=headers, params=query) for each in (upstream, base)]
        return SimpleNamespace(upstream=found[0], ours=found[1])

    return send


def located(answer):
    """The JSON of an answer, with URIs that begin at the data store."""
    return json.loads(re.sub(rb'(?<=")https?://[^"]*?(?=/datastore/)', b"", answer.content))


def parts_of(answer):
    boundary = re.search(r'boundary="?([^;"]+)', answer.headers["Content-Type"])[1].encode()
    _, *parts, _ = (b"\r\n" + answer.content).split(b"\r\n--" + boundary)
    return [part.partition(b"\r\n\r\n")[2] for part in parts]


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("studies", {}),
        ("studies", {"limit": "3", "offset": "2"}),
        ("studies", {"ModalitiesInStudy": "CT"}),
        ("studies", {"PatientName": "*a*"}),
        ("studies", {"includefield": "all"}),
        ("series", {"Modality": "MR"}),
        ("instances", {"limit": "10"}),
        ("{study}/series", {}),
        ("{study}/instances", {}),
        ("{series}/instances", {}),
        ("{series}/metadata", {}),
        ("{instance}/metadata", {}),
        ("studies", {"PatientName": "Nobody^Known"}),
    ],
)
def test_datasets_are_those_of_healthimaging(pair, ct, path, query):
    path = path.format(study=f"studies/{ct.StudyInstanceUID}", series=series_path(ct), instance=instance_path(ct))
    answers = pair(path, "application/dicom+json", **query)
    assert (answers.ours.status_code, located(answers.ours)) == (
        answers.upstream.status_code,
        located(answers.upstream),
    )


@pytest.mark.parametrize("accept", [AS_STORED, "multipart/related; type=application/octet-stream"])
def test_frames_are_those_of_healthimaging(pair, datasets, accept):
    for dataset in datasets[:12]:
        answers = pair(f"{instance_path(dataset)}/frames/1", accept)
        assert answers.ours.status_code == answers.upstream.status_code, dataset.SOPClassUID
        if answers.ours.status_code == 200:
            assert parts_of(answers.ours) == parts_of(answers.upstream)


@pytest.mark.parametrize(
    ("path", "accept"),
    [
        ("{series}/metadata", "text/html"),
        ("{instance}/frames/1", "multipart/related; type=image/jls"),
        ("{instance}/frames/0", AS_STORED),
        ("{instance}/frames/1,1", AS_STORED),
        ("{instance}/frames/999", AS_STORED),
        ("studies/1.2.3/series/1.2.3/metadata", "application/dicom+json"),
        ("studies/1.2.3/series/1.2.3/instances/1.2.3/frames/1", AS_STORED),
        ("{instance}/bulkdata/00000000000000000000000000000000", "application/octet-stream"),
    ],
)
def test_refusals_have_the_status_of_healthimaging(pair, ct, path, accept):
    answers = pair(path.format(series=series_path(ct), instance=instance_path(ct)), accept)
    assert answers.ours.status_code == answers.upstream.status_code >= 400
    assert answers.ours.json()["type"].startswith("urn:framegate:problem:")


# URLs and pages


def test_uris_in_datasets_lead_to_this_deployment(base, ct):
    (study,) = through(f"{base}/studies", params={"StudyInstanceUID": ct.StudyInstanceUID}).json()
    (url,) = study["00081190"]["Value"]
    assert url == f"{base}/studies/{ct.StudyInstanceUID}"


def test_pages_of_the_configured_origin_may_read_everything(base, ct):
    for path in ("studies", f"{series_path(ct)}/metadata", f"{instance_path(ct)}/frames/1", "studies/1.2.3/metadata"):
        answer = through(f"{base}/{path}", headers={"Origin": "https://viewer.example", "Accept": "*/*"})
        assert answer.headers["Access-Control-Allow-Origin"] == "https://viewer.example"
        assert "Framegate-Skip-Decompositions" in answer.headers["Access-Control-Expose-Headers"]
        assert "Accept" in answer.headers["Vary"]
        preflight = requests.options(
            f"{base}/{path}",
            headers={
                "Origin": "https://viewer.example",
                "Access-Control-Request-Method": "GET",
                "Access-Control-Request-Headers": "accept,authorization,range",
            },
            timeout=60,
        )
        allowed = preflight.headers["Access-Control-Allow-Headers"].lower().split(",")
        assert {"accept", "authorization", "range"} <= {each.strip() for each in allowed}


def test_dicom_files_are_501_and_name_the_key_that_switches_them_on(base, ct):
    for path in (instance_path(ct), series_path(ct)):
        answer = through(f"{base}/{path}")
        assert answer.status_code == 501
        assert "export_output=dicom" in answer.json()["detail"]


def test_unsupported_retrieval_is_501(base, ct):
    study = f"studies/{ct.StudyInstanceUID}"
    for path in (study, f"{study}/rendered", f"{series_path(ct)}/rendered"):
        assert through(f"{base}/{path}").status_code == 501
