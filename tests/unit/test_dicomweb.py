"""The DICOMweb routes: from API Gateway's event to the response, against the emulator's own DICOMweb."""

from __future__ import annotations

import gzip
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from urllib.parse import urlencode

import boto3
import pytest
import requests
from botocore.config import Config

from framegate.bucket_layout import BODY_PREFIX, IMAGE_SET_PREFIXES, METADATA_PREFIX
from framegate.identifiers import ImageSetRef
from framegate.rest.routes import MAX_HEADER_LENGTH, ROUTES
from framegate.storage import shared_work
from framegate.storage.image_set_remover import ImageSetRemover
from framegate.time_budget import TimeBudget
from local.health_imaging import Fault
from tests.unit.conftest import BUCKET, SERVED, Client
from tests.unit.dicomweb import AS_STORED, ELE, HTJ2K, JPEG, UNKNOWN_UID, DicomWeb, dataset_of, parts_of


@pytest.fixture
def web(client, health_imaging):
    return DicomWeb(client, health_imaging)


def stored_frames(health_imaging, dataset, web):
    """The frames as HealthImaging's DICOMweb sends them, in their stored form."""
    count = int(dataset.get("NumberOfFrames", 1))
    numbers = ",".join(str(number) for number in range(1, count + 1))
    answer = web.upstream(
        f"studies/{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}"
        f"/instances/{dataset.SOPInstanceUID}/frames/{numbers}",
        AS_STORED,
    )
    boundary = re.search(r"boundary=\"?([^;\"]+)", answer.headers["Content-Type"])[1].encode()
    _, *parts, _ = (b"\r\n" + answer.content).split(b"\r\n--" + boundary)
    return [part.partition(b"\r\n\r\n")[2] for part in parts]


# Frames


@pytest.mark.parametrize(
    ("name", "part_type"),
    [
        ("CT_small.dcm", f"image/jphc; transfer-syntax={HTJ2K}"),
        ("SC_rgb_small_odd_jpeg.dcm", f"image/jpeg; transfer-syntax={JPEG}"),
    ],
)
def test_frame_as_ohif_requests_it_is_a_part_with_its_transfer_syntax(
    web, dicom_samples, health_imaging, name, part_type
):
    answer = web.frames(dicom_samples[name])
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith(
        f'multipart/related; type="{part_type.partition(";")[0]}"; boundary='
    )
    assert parts_of(answer) == [(part_type, stored_frames(health_imaging, dicom_samples[name], web)[0])]


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, f"image/jphc; transfer-syntax={HTJ2K}"),
        ("*/*", f"image/jphc; transfer-syntax={HTJ2K}"),
        ("*", f"image/jphc; transfer-syntax={HTJ2K}"),
        ("image/jphc", f"image/jphc; transfer-syntax={HTJ2K}"),
        ("image/jphc; transfer-syntax=*", f"image/jphc; transfer-syntax={HTJ2K}"),
        ("image/jph", f"image/jph; transfer-syntax={HTJ2K}"),
        ("image/jhc", f"image/jhc; transfer-syntax={HTJ2K}"),
        ("application/octet-stream; transfer-syntax=*", f"application/octet-stream; transfer-syntax={HTJ2K}"),
        (f'application/octet-stream; transfer-syntax="{HTJ2K}"', f"application/octet-stream; transfer-syntax={HTJ2K}"),
        ("image/jpeg;q=0.9, image/jphc;q=0.5", f"image/jphc; transfer-syntax={HTJ2K}"),
        ("image/jls, " * 30 + "image/jphc", f"image/jphc; transfer-syntax={HTJ2K}"),
    ],
)
def test_single_part_is_the_stored_frame_with_its_transfer_syntax(web, ct, health_imaging, accept, content_type):
    answer = web.frames(ct, accept=accept)
    assert (answer.status, answer.headers["Content-Type"]) == (200, content_type)
    assert answer.body == stored_frames(health_imaging, ct, web)[0]


@pytest.mark.parametrize(
    "accept",
    [
        'multipart/related; type="application/octet-stream"; transfer-syntax="*"',
        'multipart/related; type="*/*"',
        "multipart/related; type=image/jphc",
        f'multipart/related; type="image/jphc"; transfer-syntax={HTJ2K}',
        "multipart/related",
        'multipart/related; type="image/jpeg", multipart/related; type="image/jphc";q=0.5',
    ],
)
def test_multipart_is_sent_for_every_spelling_of_the_request(web, ct, accept):
    answer = web.frames(ct, accept=accept)
    assert [content_type for content_type, _ in parts_of(answer)] == [f"image/jphc; transfer-syntax={HTJ2K}"]


@pytest.mark.parametrize(
    "accept",
    [
        "image/jpeg",
        "image/jphc; transfer-syntax=1.2.840.10008.1.2.4.203",
        "multipart/related; type=image/jp2",
        'multipart/related; type="application/octet-stream"; transfer-syntax=1.2.840.10008.1.2.4.50',
        "video/*",
        "application/dicom",
    ],
)
def test_unavailable_form_is_406_and_names_the_available_ones(web, ct, accept):
    answer = web.frames(ct, accept=accept)
    assert (answer.status, answer.json()["type"]) == (406, "urn:framegate:problem:not-acceptable")
    assert f"image/jphc; transfer-syntax={HTJ2K}" in answer.json()["detail"]
    assert "multipart/related" in answer.json()["detail"]
    assert answer.headers["Vary"] == "Accept"


def test_query_parameter_accept_replaces_the_header(web, ct):
    answer = web.frames(ct, accept=AS_STORED, query="accept=image/jphc")
    assert answer.headers["Content-Type"] == f"image/jphc; transfer-syntax={HTJ2K}"


def test_several_frames_come_in_the_requested_order(web, multiframe, health_imaging):
    expected = stored_frames(health_imaging, multiframe, web)
    for accept in (AS_STORED, 'multipart/related; type="*/*"', "*/*"):
        answer = web.frames(multiframe, "3,1,10", accept=accept)
        assert [content for _, content in parts_of(answer)] == [expected[2], expected[0], expected[9]]


def test_multipart_bodies_are_deterministic(web, multiframe, client):
    for frames in ("1", "2,1"):
        first, second = web.frames(multiframe, frames), web.frames(multiframe, frames)
        assert (first.body, first.headers["ETag"]) == (second.body, second.headers["ETag"])


@pytest.mark.parametrize("frames", ["0", "1,1", "a", "", "1,", "1;2", "-1", "1.0", "9" * 30, ",".join(["1"] * 3000)])
def test_malformed_frame_list_is_400(web, ct, frames):
    assert web.frames(ct, frames).status == 400


@pytest.mark.parametrize("frames", ["2", "1,2", "999999999"])
def test_frame_that_the_instance_lacks_is_404(web, ct, frames):
    answer = web.frames(ct, frames)
    assert (answer.status, answer.json()["type"]) == (404, "urn:framegate:problem:instance-not-found")


@pytest.mark.parametrize("accept", ["application/octet-stream", f"application/octet-stream; transfer-syntax={ELE}"])
def test_uncompressed_pixels_are_decoded_by_healthimaging(web, ct, accept):
    answer = web.frames(ct, accept=accept)
    assert answer.headers["Content-Type"] == f"application/octet-stream; transfer-syntax={ELE}"
    assert answer.body == ct.PixelData
    assert web.calls("GetImageFrame") == []
    assert web.calls("GetDICOMInstanceFrames") == ["GetDICOMInstanceFrames"]


def test_uncompressed_pixels_of_several_frames_are_parts(web, multiframe):
    answer = web.frames(multiframe, "2,1", accept="multipart/related; type=application/octet-stream")
    size = len(multiframe.PixelData) // int(multiframe.NumberOfFrames)
    assert parts_of(answer) == [
        (f"application/octet-stream; transfer-syntax={ELE}", multiframe.PixelData[size : 2 * size]),
        (f"application/octet-stream; transfer-syntax={ELE}", multiframe.PixelData[:size]),
    ]


def test_range_and_resolution_apply_to_a_single_part(web, ct):
    whole = web.frames(ct, accept="image/jphc").body
    part = web.frames(ct, accept="image/jphc", headers={"Range": "bytes=10-99"})
    assert (part.status, part.body) == (206, whole[10:100])
    assert part.headers["Content-Range"] == f"bytes 10-99/{len(whole)}"
    base = web.frames(ct, accept="image/jphc", query="resolution=0")
    assert (base.status, base.headers["Framegate-Resolution"]) == (200, "0")
    assert len(base.body) < len(whole)


def test_resolution_can_be_multipart(web, ct):
    bare = web.frames(ct, accept="image/jphc", query="size=32")
    ((_, content),) = parts_of(web.frames(ct, query="size=32"))
    assert content == bare.body


def test_response_by_uid_must_be_revalidated(web, ct):
    answer = web.frames(ct)
    assert answer.headers["Cache-Control"] == "private, no-cache"
    web.emulator.calls.clear()
    again = web.frames(ct, headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")
    assert again.headers["Content-Type"] == answer.headers["Content-Type"]
    assert again.headers["Cache-Control"] == answer.headers["Cache-Control"]
    assert web.calls() == []
    assert web.frames(ct, headers={"If-Match": '"other"'}).status == 412


@pytest.mark.parametrize(
    ("caching", "expected"),
    [
        ("revalidate", "private, no-cache"),
        ("immutable", "private, max-age=60, must-revalidate"),
        ("no-store", "no-store"),
    ],
)
def test_no_response_by_uid_is_immutable(new_api, settings, health_imaging, ct, caching, expected):
    web = DicomWeb(Client(new_api(settings=replace(settings, frame_caching=caching))), health_imaging)
    answer = web.frames(ct)
    assert answer.headers["Cache-Control"] == expected
    again = web.frames(ct, headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status, again.headers["Cache-Control"]) == (304, expected)


def test_entity_tags_differ_by_form(web, ct, multiframe):
    accepts = [
        "image/jphc",
        "image/jph",
        AS_STORED,
        "application/octet-stream",
        "application/octet-stream; transfer-syntax=*",
        "multipart/related; type=application/octet-stream",
    ]
    tags = [web.frames(ct, accept=accept).headers["ETag"] for accept in accepts]
    tags += [web.frames(multiframe, frames).headers["ETag"] for frames in ("1", "1,2", "2,1")]
    assert len(set(tags)) == len(tags)
    for accept, tag in zip(accepts, tags, strict=False):
        others = {"If-None-Match": ", ".join(each for each in tags if each != tag)}
        assert web.frames(ct, accept=accept, headers=others).status == 200


def test_head_has_the_headers_of_get(web, ct, multiframe):
    for dataset, frames, accept in ((ct, "1", AS_STORED), (ct, "1", "image/jphc"), (multiframe, "1,2", AS_STORED)):
        get, head = web.frames(dataset, frames, accept), web.frames(dataset, frames, accept, method="HEAD")
        assert (head.status, head.body) == (200, b"")
        assert head.headers.pop("Content-Length") == str(len(get.body))
        assert head.headers == get.headers


@pytest.fixture
def small_limit(new_api, delivery_from, source):
    """A function whose inline limit is smaller than a frame."""
    return Client(new_api(delivery=delivery_from(source, inline_limit=1000)))


def fetched(answer):
    assert (answer.status, answer.headers["Cache-Control"]) == (303, "no-store")
    found = requests.get(answer.headers["Location"], timeout=5)
    assert found.status_code == 200
    return found


def test_multipart_above_the_limit_redirects_to_a_whole_multipart_body(small_limit, health_imaging, ct, s3, client):
    expected = DicomWeb(client, health_imaging).frames(ct)
    small = DicomWeb(small_limit, health_imaging)
    found = fetched(small.frames(ct))
    assert (found.content, found.headers["Content-Type"]) == (expected.body, expected.headers["Content-Type"])
    health_imaging.calls.clear()
    assert fetched(small.frames(ct)).content == expected.body
    (key,) = (each["Key"] for each in s3.list_objects_v2(Bucket=BUCKET, Prefix=BODY_PREFIX)["Contents"])
    assert ct.SOPInstanceUID not in key


def test_single_part_above_the_limit_redirects_to_the_frame_with_its_type(small_limit, health_imaging, ct, client):
    expected = DicomWeb(client, health_imaging).frames(ct, accept="image/jphc")
    found = fetched(DicomWeb(small_limit, health_imaging).frames(ct, accept="image/jphc"))
    assert (found.content, found.headers["Content-Type"]) == (expected.body, f"image/jphc; transfer-syntax={HTJ2K}")


def test_several_frames_above_the_limit_redirect(small_limit, health_imaging, multiframe, client):
    expected = DicomWeb(client, health_imaging).frames(multiframe, "2,1,3")
    found = fetched(DicomWeb(small_limit, health_imaging).frames(multiframe, "2,1,3"))
    assert (found.content, found.headers["Content-Type"]) == (expected.body, expected.headers["Content-Type"])


@pytest.mark.parametrize("accept", ["application/octet-stream", "multipart/related; type=application/octet-stream"])
def test_decoded_frame_above_the_limit_redirects(small_limit, health_imaging, ct, client, accept):
    expected = DicomWeb(client, health_imaging).frames(ct, accept=accept)
    found = fetched(DicomWeb(small_limit, health_imaging).frames(ct, accept=accept))
    assert (found.content, found.headers["Content-Type"]) == (expected.body, expected.headers["Content-Type"])


def test_frame_that_must_be_stored_first_is_503_with_retry_after(
    small_limit, health_imaging, ct, deferred_stores, monkeypatch
):
    monkeypatch.setattr("framegate.delivery.plan.LAMBDA_BYTES_PER_SECOND", 1)
    answer = DicomWeb(small_limit, health_imaging).frames(ct)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "30")
    assert answer.json()["type"] == "urn:framegate:problem:frame-pending"


# From UIDs to frames


def test_opening_a_series_costs_one_search_and_one_metadata_call(new_api, health_imaging, add_datasets, objects):
    datasets = []
    for number in range(20):
        dataset = dataset_of("CT_small.dcm")
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3.20", "1.2.3.20.1"
        dataset.SOPInstanceUID = f"1.2.3.20.1.{number + 1}"
        datasets.append(dataset)
    add_datasets(*datasets)
    health_imaging.calls.clear()
    webs = [DicomWeb(Client(new_api()), health_imaging) for _ in range(5)]

    def open_frame(number):
        return webs[number % len(webs)].frames(datasets[number], accept="image/jphc").status

    with ThreadPoolExecutor(10) as threads:
        assert set(threads.map(open_frame, range(20))) == {200}
    calls = webs[0].calls()
    assert {each: calls.count(each) for each in set(calls)} == {
        "GetImageFrame": 20,
        "SearchImageSets": 1,
        "GetImageSetMetadata": 1,
    }


@pytest.mark.parametrize("operation", ["retrieveInstanceFrames", "retrieveSeriesMetadata", "retrieveStudyMetadata"])
def test_unknown_study_is_searched_for_once_a_minute(new_api, health_imaging, ct, objects, operation):
    path = {"studyInstanceUID": UNKNOWN_UID, "frameList": "1"}
    health_imaging.calls.clear()
    for _ in range(3):
        answer = DicomWeb(Client(new_api()), health_imaging).get(operation, ct, **path)
        assert (answer.status, answer.json()["type"]) == (404, "urn:framegate:problem:instance-not-found")
    assert [call.operation for call in health_imaging.calls] == ["SearchImageSets"]


def test_unknown_study_is_found_after_its_import(new_api, health_imaging, add_datasets, objects, monkeypatch):
    dataset = dataset_of("CT_small.dcm")
    dataset.StudyInstanceUID = "1.2.3.21"
    assert DicomWeb(Client(new_api()), health_imaging).frames(dataset).status == 404
    add_datasets(dataset)
    monkeypatch.setattr(shared_work, "ABSENCE_SECONDS", 0)
    assert DicomWeb(Client(new_api()), health_imaging).frames(dataset).status == 200


def test_unknown_series_of_a_known_study_is_404_without_more_searches(web, ct, health_imaging):
    assert web.frames(ct).status == 200
    health_imaging.calls.clear()
    for _ in range(3):
        assert web.get("retrieveSeriesMetadata", ct, seriesInstanceUID=UNKNOWN_UID).status == 404
    assert web.calls() == []


@pytest.mark.parametrize("name", ["studyInstanceUID", "seriesInstanceUID", "instanceUID"])
def test_every_uid_must_belong_to_the_frame(web, dicom_samples, name):
    ct, mr = dicom_samples["CT_small.dcm"], dicom_samples["MR_small.dcm"]
    other = {
        "studyInstanceUID": mr.StudyInstanceUID,
        "seriesInstanceUID": mr.SeriesInstanceUID,
        "instanceUID": mr.SOPInstanceUID,
    }
    assert web.get("retrieveInstanceFrames", ct, frameList="1", **{name: other[name]}).status == 404


@pytest.mark.parametrize(
    "uid", ["..", ".", "1..2", "1.2.", ".1", "a", "1.2/3", "1.2%2e3", "\u0661.\u0662", "1" * 257, "", "1.2\n"]
)
@pytest.mark.parametrize("name", ["studyInstanceUID", "seriesInstanceUID", "instanceUID"])
def test_malformed_uid_is_400_without_a_call(web, ct, health_imaging, name, uid):
    web.frames(ct)
    health_imaging.calls.clear()
    answer = web.get("retrieveInstanceMetadata", ct, **{name: uid})
    assert answer.status == 400
    assert web.calls() == []


@pytest.mark.parametrize("name", ["accept", "includefield"])
def test_value_that_is_longer_than_documented_is_400_without_a_call(web, ct, health_imaging, name):
    health_imaging.calls.clear()
    for length, status in ((MAX_HEADER_LENGTH, 200), (MAX_HEADER_LENGTH + 1, 400)):
        value = "application/json".rjust(length, ",") if name == "accept" else "0" * length
        answer = web.get("searchStudies", ct, query=urlencode({name: value}))
        assert answer.status == status
    assert answer.json()["detail"] == f"{name} must have at most {MAX_HEADER_LENGTH} characters."
    assert len(web.calls()) == 1


def test_no_key_contains_a_uid(web, dicom_samples, s3):
    for dataset in dicom_samples.values():
        assert web.frames(dataset).status == 200
        assert web.get("retrieveSeriesMetadata", dataset).status == 200
    keys = "\n".join(each["Key"] for each in s3.list_objects_v2(Bucket=BUCKET)["Contents"])
    for dataset in dicom_samples.values():
        for uid in (dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID):
            assert uid not in keys


def test_non_primary_image_set_is_chosen_by_its_id(web, health_imaging, add_datasets):
    dataset = dataset_of("CT_small.dcm")
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3.22", "1.2.3.22.1"
    (primary,) = add_datasets(dataset)
    dataset.PatientName = "Other^Name"
    (other,) = add_datasets(dataset)
    assert [each.is_primary for each in (primary, other)] == [True, False]
    of_primary = web.frames(dataset, accept="image/jphc")
    of_other = web.frames(dataset, accept="image/jphc", query=f"imageSetId={other.id}")
    assert (of_primary.status, of_other.status) == (200, 200)
    assert of_primary.headers["ETag"] != of_other.headers["ETag"]
    metadata = web.get("retrieveSeriesMetadata", dataset, query=f"imageSetId={other.id}").json()
    assert metadata[0]["00100010"]["Value"] == [{"Alphabetic": "Other^Name"}]
    assert web.frames(dataset, query=f"imageSetId={'0' * 32}").status == 404
    assert web.frames(dataset, query="imageSetId=x").status == 400


def test_data_store_that_is_not_served_is_403(web, ct, health_imaging):
    for operation in ("searchStudies", "retrieveSeriesMetadata", "retrieveInstanceFrames"):
        answer = web.get(operation, ct, datastoreId="e" * 32, frameList="1")
        assert answer.status == 403
    assert web.calls() == []


# Metadata


@pytest.mark.parametrize("name", ["CT_small.dcm", "emri_small.dcm", "SC_rgb_rle_2frame.dcm"])
def test_metadata_equals_healthimagings(web, dicom_samples, name):
    dataset = dicom_samples[name]
    path = f"studies/{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}"
    expected = web.upstream(f"{path}/metadata").json()
    answer = web.get("retrieveSeriesMetadata", dataset)
    assert (answer.status, answer.headers["Content-Type"], answer.json()) == (200, "application/dicom+json", expected)
    of_instance = web.upstream(f"{path}/instances/{dataset.SOPInstanceUID}/metadata").json()
    assert web.get("retrieveInstanceMetadata", dataset).json() == of_instance


def test_metadata_is_compressed_for_clients_that_accept_gzip(web, ct):
    plain = web.get("retrieveSeriesMetadata", ct)
    packed = web.get("retrieveSeriesMetadata", ct, headers={"Accept-Encoding": "br, gzip"})
    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.headers["Vary"] == plain.headers["Vary"] == "Accept, Accept-Encoding"
    assert gzip.decompress(packed.body) == plain.body
    assert packed.headers["ETag"] != plain.headers["ETag"]
    refused = web.get("retrieveSeriesMetadata", ct, headers={"Accept-Encoding": "gzip;q=0"})
    assert refused.body == plain.body


def test_metadata_is_fetched_once_for_each_version(new_api, health_imaging, ct, objects):
    health_imaging.calls.clear()
    answers = [DicomWeb(Client(new_api()), health_imaging).get("retrieveSeriesMetadata", ct) for _ in range(3)]
    assert len({answer.body for answer in answers}) == 1
    assert [call.operation for call in health_imaging.calls] == ["SearchImageSets", "GetDICOMSeriesMetadata"]


def test_metadata_is_revalidated_without_healthimaging(web, ct, health_imaging):
    first = web.get("retrieveSeriesMetadata", ct)
    assert first.headers["Cache-Control"] == "private, no-cache"
    health_imaging.calls.clear()
    again = web.get("retrieveSeriesMetadata", ct, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status, again.body, web.calls()) == (304, b"", [])


def test_study_metadata_has_every_series(web, health_imaging, add_datasets):
    datasets = []
    for number in (1, 2, 3):
        dataset = dataset_of("CT_small.dcm")
        dataset.StudyInstanceUID = "1.2.3.23"
        dataset.SeriesInstanceUID, dataset.SOPInstanceUID = f"1.2.3.23.{number}", f"1.2.3.23.{number}.1"
        datasets.append(dataset)
    add_datasets(*datasets)
    health_imaging.calls.clear()
    for encoding in ("identity", "gzip"):
        answer = web.get("retrieveStudyMetadata", datasets[0], headers={"Accept-Encoding": encoding})
        body = gzip.decompress(answer.body) if encoding == "gzip" else answer.body
        found = {each["00080018"]["Value"][0] for each in json.loads(body)}
        assert found == {dataset.SOPInstanceUID for dataset in datasets}
    assert sorted(web.calls()) == ["GetDICOMSeriesMetadata"] * 3 + ["SearchImageSets"]


@pytest.mark.parametrize("operation", ["retrieveSeriesMetadata", "retrieveStudyMetadata"])
@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_metadata_above_the_limit_redirects(small_limit, health_imaging, multiframe, client, operation, encoding):
    expected = DicomWeb(client, health_imaging).get(operation, multiframe).json()
    small = DicomWeb(small_limit, health_imaging)
    answer = small.get(operation, multiframe, headers={"Accept-Encoding": encoding})
    found = fetched(answer)
    assert (found.json(), found.headers["Content-Type"]) == (expected, "application/dicom+json")
    assert found.headers.get("Content-Encoding", "identity") == encoding


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("application/dicom+json", "application/dicom+json"),
        ("application/dicom+json, application/json", "application/dicom+json"),
        ("application/json", "application/json"),
        ("*/*", "application/dicom+json"),
    ],
)
def test_datasets_have_the_requested_media_type(web, ct, accept, content_type):
    for operation in ("retrieveSeriesMetadata", "searchStudies"):
        assert web.get(operation, ct, headers={"Accept": accept}).headers["Content-Type"] == content_type


def test_datasets_are_json_or_406(web, ct):
    for operation in ("retrieveSeriesMetadata", "searchStudies"):
        headers = {"Accept": 'multipart/related; type="application/dicom+xml"'}
        answer = web.get(operation, ct, headers=headers)
        assert answer.status == 406
        assert "application/dicom+json" in answer.json()["detail"]


def test_updated_image_set_has_new_metadata_after_its_event(
    new_api, health_imaging, add_datasets, frame_index, objects
):
    dataset = dataset_of("CT_small.dcm")
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3.24", "1.2.3.24.1"
    (image_set,) = add_datasets(dataset)
    before = DicomWeb(Client(new_api()), health_imaging).get("retrieveSeriesMetadata", dataset)
    update(health_imaging, image_set, PatientName="New^Name")
    frame_index.note_version(ImageSetRef(SERVED, image_set.id), "2", TimeBudget(10))
    after = DicomWeb(Client(new_api()), health_imaging).get("retrieveSeriesMetadata", dataset)
    assert before.headers["ETag"] != after.headers["ETag"]
    assert after.json()[0]["00100010"]["Value"] == [{"Alphabetic": "New^Name"}]


def update(health_imaging, image_set, **attributes):
    client = boto3.client("medical-imaging", endpoint_url=health_imaging.url, config=Config(inject_host_prefix=False))
    changes = json.dumps({"SchemaVersion": "1.1", "Patient": {"DICOM": attributes}}).encode()
    client.update_image_set_metadata(
        datastoreId=SERVED,
        imageSetId=image_set.id,
        latestVersionId="1",
        updateImageSetMetadataUpdates={"DICOMUpdates": {"updatableAttributes": changes}},
    )
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        found = client.get_image_set(datastoreId=SERVED, imageSetId=image_set.id)
        if found["versionId"] == "2" and found["imageSetState"] == "ACTIVE":
            return
        time.sleep(0.02)
    pytest.fail("the update did not finish")


def test_deleted_image_set_is_removed_from_the_bucket_and_not_found(new_api, health_imaging, add_datasets, objects, s3):
    dataset = dataset_of("CT_small.dcm")
    dataset.StudyInstanceUID = "1.2.3.25"
    (image_set,) = add_datasets(dataset)
    web = DicomWeb(Client(new_api()), health_imaging)
    assert web.get("retrieveSeriesMetadata", dataset).status == 200
    assert s3.list_objects_v2(Bucket=BUCKET, Prefix=METADATA_PREFIX)["KeyCount"] == 1
    ImageSetRemover(objects).remove(ImageSetRef(SERVED, image_set.id), TimeBudget(10))
    assert s3.list_objects_v2(Bucket=BUCKET, Prefix=METADATA_PREFIX)["KeyCount"] == 0
    assert METADATA_PREFIX in IMAGE_SET_PREFIXES


# Bulk data


@pytest.fixture
def with_bulk_data(add_datasets):
    large = bytes(range(256)) * 4097
    dataset = dataset_of("CT_small.dcm")
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3.26", "1.2.3.26.1"
    dataset.add_new(0x00420011, "OB", large)
    (image_set,) = add_datasets(dataset)
    return dataset, large, image_set


def test_bulk_data_uris_lead_to_this_api(web, with_bulk_data):
    dataset, large, _ = with_bulk_data
    (metadata,) = web.get("retrieveSeriesMetadata", dataset).json()
    uri = metadata["00420011"]["BulkDataURI"]
    prefix = (
        f"https://api.example/v1/datastore/{SERVED}/studies/{dataset.StudyInstanceUID}"
        f"/series/{dataset.SeriesInstanceUID}/instances/{dataset.SOPInstanceUID}/bulkdata/"
    )
    assert uri.startswith(prefix)
    identifier = uri.removeprefix(prefix)
    for accept, is_multipart in (
        ("application/octet-stream", False),
        ("*/*", False),
        ('multipart/related; type="*/*"', True),
        ('multipart/related; type="application/pdf", multipart/related; type="application/octet-stream"', True),
    ):
        answer = web.get("retrieveBulkData", dataset, bulkDataId=identifier, headers={"Accept": accept})
        assert answer.status == 200
        assert (parts_of(answer)[0][1] if is_multipart else answer.body) == large
    assert web.get("retrieveBulkData", dataset, bulkDataId="0" * 32).status == 404
    assert web.get("retrieveBulkData", dataset, bulkDataId="a/b").status == 400


def test_bulk_data_uris_name_the_chosen_image_set(web, with_bulk_data):
    dataset, _, image_set = with_bulk_data
    (metadata,) = web.get("retrieveSeriesMetadata", dataset, query=f"imageSetId={image_set.id}").json()
    assert metadata["00420011"]["BulkDataURI"].endswith(f"?imageSetId={image_set.id}")
    (metadata,) = web.get("retrieveSeriesMetadata", dataset).json()
    assert "imageSetId" not in metadata["00420011"]["BulkDataURI"]


def test_bulk_data_above_the_limit_redirects(small_limit, health_imaging, with_bulk_data, client):
    dataset, large, _ = with_bulk_data
    (metadata,) = DicomWeb(client, health_imaging).get("retrieveSeriesMetadata", dataset).json()
    identifier = metadata["00420011"]["BulkDataURI"].rpartition("/")[2]
    answer = DicomWeb(small_limit, health_imaging).get("retrieveBulkData", dataset, bulkDataId=identifier)
    assert fetched(answer).content == large


# Searches


@pytest.mark.parametrize(
    ("operation", "path", "query"),
    [
        ("searchStudies", "studies", {"limit": "2", "offset": "1"}),
        ("searchStudies", "studies", {"PatientName": "*"}),
        ("searchSeries", "series", {"Modality": "CT"}),
        ("searchInstances", "instances", {"limit": "5"}),
        ("searchStudySeries", "studies/{S}/series", {}),
        ("searchStudyInstances", "studies/{S}/instances", {}),
        ("searchSeriesInstances", "studies/{S}/series/{E}/instances", {}),
    ],
)
def test_search_finds_what_healthimaging_finds(web, ct, operation, path, query):
    path = path.replace("{S}", ct.StudyInstanceUID).replace("{E}", ct.SeriesInstanceUID)
    expected = web.upstream(path, **query)
    answer = web.get(operation, ct, query="&".join(f"{name}={value}" for name, value in query.items()))
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")
    assert answer.json() == json.loads(
        re.sub(rb'(?<=")https?://[^/"]+(?=/datastore/)', b"https://api.example/v1", expected.content)
    )
    assert answer.json()


def test_joined_include_fields_are_repeated(web, ct):
    joined = web.get(
        "searchStudies", query=f"StudyInstanceUID={ct.StudyInstanceUID}&includefield=00081030,00080060,00100030"
    )
    expected = web.upstream(
        "studies", StudyInstanceUID=ct.StudyInstanceUID, includefield=["00081030", "00080060", "00100030"]
    )
    assert joined.json()[0].keys() == expected.json()[0].keys()


def test_nothing_found_is_an_empty_array(web):
    answer = web.get("searchStudies", query=f"StudyInstanceUID={UNKNOWN_UID}")
    assert (answer.status, answer.json()) == (200, [])


def test_signature_in_the_query_is_not_passed_on(web, ct):
    answer = web.get("searchStudies", query=f"StudyInstanceUID={ct.StudyInstanceUID}&X-Amz-Signature=abc&accept=*/*")
    assert (answer.status, len(answer.json())) == (200, 1)


def test_search_that_healthimaging_rejects_is_400(web):
    assert web.get("searchStudies", query="limit=-1").status == 400


# Privacy


def test_log_lines_contain_routes_and_no_uid_or_name(web, ct, log_lines, health_imaging):
    name = "Doe^Jane"
    web.get("searchStudies", query=f"PatientName={name}")
    web.get("searchStudies", query=f"limit=-1&PatientName={name}")
    web.frames(ct)
    web.frames(ct, "7")
    web.get("retrieveStudyMetadata", ct)
    web.get("retrieveInstanceMetadata", ct)
    health_imaging.faults.arm(Fault(operation="SearchDICOMStudies", error="InternalServerException", times=5))
    web.get("searchStudies", query=f"PatientName={name}")
    text = json.dumps(log_lines())
    assert "studies/{studyInstanceUID}" in text
    for secret in (name, ct.StudyInstanceUID, ct.SeriesInstanceUID, ct.SOPInstanceUID, str(ct.PatientName)):
        assert secret not in text


# Retrievals that are not supported


@pytest.mark.parametrize(
    "operation",
    [operation.operation_id for route in ROUTES for operation in route.operations if operation.returns == "Nothing"],
)
def test_unsupported_retrieval_is_501(web, ct, operation):
    answer = web.get(operation, ct, frameList="1")
    assert (answer.status, answer.json()["type"]) == (501, "urn:framegate:problem:not-supported")
