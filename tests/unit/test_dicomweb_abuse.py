"""Attackers' requests to the DICOMweb routes, and failures of HealthImaging: nothing leaks or is served wrong."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from itertools import count
from urllib.parse import quote

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from framegate.access.caller import caller_context
from framegate.access.principal import Principal
from framegate.access.tokens import Grant
from framegate.bucket_layout import METADATA_PREFIX, STUDY_PREFIX
from framegate.dicomweb import study_lists
from framegate.dicomweb.searches import studies_in
from framegate.healthimaging.media_types import STORED, dicom_names, essence, stored_syntax
from framegate.problems import InvalidRequest
from framegate.rest.http import HttpRequest
from framegate.rest.negotiation import Accept, Representation, dicomweb_forms_of
from framegate.rest.parameters import frame_numbers
from local.health_imaging import Fault
from tests.unit.conftest import SERVED, Client
from tests.unit.dicomweb import AS_STORED, ELE, HTJ2K, UNKNOWN_UID, DicomWeb, dataset_of
from tests.unit.exporting import keys

MARK = "canary7Q"
"""Part of everything that is sent. No response may have it."""

NUMBERS = count(1)

READS = ["retrieveInstanceFrames", "retrieveSeriesMetadata", "retrieveStudyMetadata", "retrieveInstanceMetadata"]


@pytest.fixture
def web(client, health_imaging):
    return DicomWeb(client, health_imaging)


@pytest.fixture
def ct(dicom_samples):
    return dicom_samples["CT_small.dcm"]


@pytest.fixture
def mr(dicom_samples):
    return dicom_samples["MR_small.dcm"]


def is_refusal(answer, *statuses):
    """Whether the response is a problem document with one of these statuses that repeats nothing of the request."""
    document = answer.json()
    assert answer.status in statuses
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert set(document) == {"type", "title", "status", "detail", "requestId"}
    assert MARK not in answer.body.decode() + str(answer.headers)
    return True


# Addresses


@pytest.mark.parametrize(
    "uid",
    [
        f"{MARK}",
        "1.2.3\r\nSet-Cookie: a=b",
        "1.2.3\x00",
        "1.2.3 ",
        "1.2..3",
        "-1.2",
        "1.2.3/../1.2.4",
        "..%2f..%2fetc",
        "1%2E2%2E3",
        "\uff11.\uff12",
        "1.2.3?imageSetId=x",
        "*",
        "1.2.3\\1.2.4",
        "1.2.3,1.2.4",
        "9" * 300,
        ".".join(["1"] * 200),
    ],
)
@pytest.mark.parametrize("name", ["studyInstanceUID", "seriesInstanceUID", "instanceUID"])
def test_odd_uid_is_refused_without_a_call(web, ct, health_imaging, name, uid):
    health_imaging.calls.clear()
    for operation in ("retrieveInstanceFrames", "retrieveInstanceMetadata", "retrieveBulkData"):
        answer = web.get(operation, ct, frameList="1", bulkDataId="a", **{name: uid})
        assert is_refusal(answer, 400)
    assert web.calls() == []


@pytest.mark.parametrize(
    "identifier",
    ["..", ".", "../metadata", "%2e%2e", "..%2fmetadata", "a/b", "a?b", "", "a\r\nb", MARK + "!", "a" * 300],
)
def test_odd_identifier_of_bulk_data_is_refused_without_a_call(web, ct, health_imaging, identifier):
    web.frames(ct)
    health_imaging.calls.clear()
    assert is_refusal(web.get("retrieveBulkData", ct, bulkDataId=identifier), 400)
    assert web.calls() == []


@pytest.mark.parametrize(
    "frames",
    [
        ",".join(map(str, range(1, 10_001))),
        ",".join(["1"] * 10_000),
        "1,2,1",
        "0",
        "-1",
        "1,-1",
        "+1",
        "01",
        "1e3",
        "0x1",
        "1 ,2",
        "1%2C0",
        "\u0661",
        "9" * 10,
        "9" * 5_000,
        ",",
        MARK,
    ],
)
def test_odd_list_of_frames_is_refused_without_a_call(web, ct, health_imaging, frames):
    health_imaging.calls.clear()
    assert is_refusal(web.frames(ct, frames), 400)
    assert web.calls() == []


@settings(max_examples=300)
@given(
    st.one_of(
        st.text(alphabet="0123456789,-+ .", max_size=40),
        st.lists(st.integers(-2, 10**10), max_size=12).map(lambda numbers: ",".join(map(str, numbers))),
        st.lists(st.integers(1, 999_999_999), min_size=1, max_size=12, unique=True).map(
            lambda numbers: ",".join(map(str, numbers))
        ),
    )
)
def test_list_of_frames_is_read_exactly_or_refused(text):
    request = HttpRequest.from_event(
        {
            "httpMethod": "GET",
            "resource": "/{frameList}",
            "path": "/",
            "pathParameters": {"frameList": text},
            "requestContext": {"requestId": "r"},
        }
    )
    parts = text.split(",")
    is_valid = all(part.isdecimal() and part[0] != "0" and len(part) <= 9 for part in parts)
    try:
        found = frame_numbers(request)
    except InvalidRequest:
        assert not is_valid or len(set(parts)) < len(parts)
    else:
        assert ",".join(map(str, found)) == text
        assert is_valid
        assert len(set(found)) == len(found)


# Made-up UIDs


@pytest.mark.parametrize("name", ["seriesInstanceUID", "instanceUID"])
def test_made_up_uids_in_a_known_study_cost_at_most_one_search_a_minute(
    new_api, web, ct, health_imaging, name, objects
):
    web.frames(ct)
    health_imaging.calls.clear()
    for number in range(5):
        other = DicomWeb(Client(new_api()), health_imaging)
        assert other.frames(ct, **{name: f"{UNKNOWN_UID}.{number}"}).status == 404
    assert web.calls("SearchImageSets", "GetImageFrame", "GetImageSetMetadata") == []


def test_made_up_study_is_searched_for_once_whatever_is_requested(new_api, health_imaging, ct, objects):
    health_imaging.calls.clear()
    for operation in READS:
        for series in (ct.SeriesInstanceUID, UNKNOWN_UID):
            web = DicomWeb(Client(new_api()), health_imaging)
            path = {"studyInstanceUID": f"{UNKNOWN_UID}.1", "seriesInstanceUID": series}
            assert is_refusal(web.get(operation, ct, frameList="1", **path), 404)
    assert [call.operation for call in health_imaging.calls] == ["SearchImageSets"]


# Queries


@pytest.mark.parametrize(
    "query",
    [
        "PatientName=" + quote("a\r\nX-Injected: b"),
        "PatientName=" + quote("Müller^Jürgen"),
        "PatientName=" + quote("日本^太郎=\\"),
        "PatientName=" + "a" * 5_000,
        "PatientName=%00",
        "PatientName=a&PatientName=b",
        "includefield=all",
        "includefield=all,00080060",
        "includefield=" + ",".join(["00080060"] * 500),
        "includefield=,,,",
        "includefield=notAnAttribute",
        "limit=1&limit=2",
        "limit=0",
        "limit=1e9",
        "limit=99999999999999999999",
        "offset=-1",
        "fuzzymatching=perhaps",
        "StudyDate=99999999-",
        "%0d%0aX=1",
        "=",
        "a%5B%5D=1",
        "imageSetId=" + "0" * 32,
    ],
)
def test_odd_search_gets_the_status_of_healthimaging(web, query):
    upstream = requests.get(
        f"{web.emulator.url}/datastore/{SERVED}/studies?{query.replace('all,', 'all&includefield=')}",
        headers={"Accept": "application/dicom+json", "Authorization": "AWS4-HMAC-SHA256 test"},
        timeout=10,
    )
    answer = web.get("searchStudies", query=query)
    # Framegate splits lists of attributes, which HealthImaging refuses.
    expected = (200,) if query.startswith("includefield=") and "," in query else (upstream.status_code,)
    assert answer.status in (*expected, 400)
    if upstream.status_code == 200 and answer.status == 200:
        assert len(answer.json()) == len(upstream.json())


def test_header_in_a_query_value_stays_a_value(web, health_imaging):
    answer = web.get("searchStudies", query="PatientName=" + quote(f"a HTTP/1.1\r\nHost: {MARK}\r\n\r\n"))
    assert answer.status in (200, 400)
    assert MARK not in answer.body.decode() + str(answer.headers)
    assert web.calls() in ([], ["SearchDICOMStudies"])


@pytest.mark.parametrize(
    "accept",
    [
        f"text/{MARK}",
        "image/jphc\r\nSet-Cookie: a=b",
        f"{MARK};;;,,,",
        "/",
        ";q=1",
        "multipart/related;type=",
        "*/*;q=0",
    ],
)
def test_nonsense_in_accept_is_406_in_the_header_and_in_the_query(web, ct, accept):
    for answer in (web.frames(ct, accept=accept), web.frames(ct, query=f"accept={quote(accept)}")):
        assert answer.status in (200, 406)
        assert answer.status == 406 or accept == "multipart/related;type="
        assert MARK not in answer.body.decode(errors="replace") + str(answer.headers)
        assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("length", [5_000, 60_000])
def test_long_accept_header_is_read_to_its_end_in_time(web, ct, length):
    filler = "image/x-unknown;q=0.9, "
    started = time.monotonic()
    answer = web.frames(ct, accept=filler * (length // len(filler)) + AS_STORED)
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("multipart/related")
    quotes = web.frames(ct, accept='multipart/related; type="' + '\\"' * (length // 2))
    assert quotes.status == 406
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "header",
    ["bytes=0-1,4-5", "bytes=-", "bytes=5-1", "lines=0-1", f"bytes={'9' * 500}-", "bytes=0-1\r\nX: y", "bytes"],
)
def test_odd_range_is_ignored(web, ct, header):
    whole = web.frames(ct, accept="image/jphc")
    answer = web.frames(ct, accept="image/jphc", headers={"Range": header})
    assert (answer.status, answer.body) == (200, whole.body)


def test_range_of_a_multipart_body_is_ignored(web, ct, dicom_samples):
    for dataset, frames in ((ct, "1"), (dicom_samples["emri_small.dcm"], "1,2")):
        whole = web.frames(dataset, frames)
        answer = web.frames(dataset, frames, headers={"Range": "bytes=0-9"})
        assert (answer.status, answer.body) == (200, whole.body)


# Access


def with_token(new_api, settings, health_imaging, image_sets=None, studies=None):
    lists = [None if each is None else frozenset(each) for each in (image_sets, studies)]
    grant = Grant(int(time.time()) + 60, None, Principal("somebody", "https://login.example.org"), *lists)
    api = new_api(settings=replace(settings, auth="jwt"))
    return DicomWeb(Client(api, authorizer=caller_context(grant, None)), health_imaging)


@pytest.fixture
def two_image_sets(add_datasets):
    """A dataset, and the primary and the other image set of its series."""
    dataset = dataset_of("CT_small.dcm")
    dataset.StudyInstanceUID = f"1.2.3.30.{next(NUMBERS)}"
    dataset.SeriesInstanceUID = f"{dataset.StudyInstanceUID}.1"
    (primary,) = add_datasets(dataset)
    dataset.PatientName = "Other^Name"
    (other,) = add_datasets(dataset)
    return dataset, primary.id, other.id


@pytest.mark.parametrize("operation", READS)
def test_image_set_in_the_query_gives_no_access_beyond_the_token(
    new_api, settings, health_imaging, two_image_sets, operation
):
    dataset, primary, other = two_image_sets
    web = with_token(new_api, settings, health_imaging, image_sets=[primary])
    assert web.get(operation, dataset, frameList="1").status == 200
    if operation != "retrieveStudyMetadata":
        answer = web.get(operation, dataset, frameList="1", query=f"imageSetId={other}")
        assert is_refusal(answer, 403)
    web = with_token(new_api, settings, health_imaging, image_sets=[other])
    assert is_refusal(web.get(operation, dataset, frameList="1"), 403)


def test_image_set_of_another_study_is_404_even_if_it_is_granted(new_api, settings, health_imaging, ct, two_image_sets):
    dataset, _, other = two_image_sets
    for web in (
        with_token(new_api, settings, health_imaging, studies=[ct.StudyInstanceUID, dataset.StudyInstanceUID]),
        with_token(new_api, settings, health_imaging, studies=[ct.StudyInstanceUID]),
    ):
        for operation in ("retrieveInstanceFrames", "retrieveSeriesMetadata", "retrieveInstanceMetadata"):
            assert is_refusal(web.get(operation, ct, frameList="1", query=f"imageSetId={other}"), 404)


def test_image_set_of_another_data_store_is_404(web, health_imaging, ct, tmp_path):
    store = health_imaging.create_datastore("another")
    dataset = dataset_of("CT_small.dcm")
    dataset.save_as(tmp_path / "ct.dcm")
    (foreign,) = health_imaging.import_files(store, [tmp_path / "ct.dcm"])
    answer = web.frames(ct, query=f"imageSetId={foreign.id}")
    assert is_refusal(answer, 404)
    assert is_refusal(web.frames(ct, datastoreId=store), 403)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["StudyInstanceUID", "studyinstanceuid", "0020000D", "0020000d", "PatientID"]),
            st.sampled_from(["1.2.3", "1.2.*", "*", "", "1.2.3,1.2.4", "1.2.3\\1.2.4", "1.2.4"]),
        ),
        max_size=4,
    )
)
def test_search_counts_as_limited_to_complete_uids_only(query):
    found = studies_in(["studies"], query)
    matched = [value for name, value in query if name.lower() in ("studyinstanceuid", "0020000d")]
    assert found <= {"1.2.3", "1.2.4"}
    assert found == (frozenset(matched) if all(value in ("1.2.3", "1.2.4") for value in matched) else frozenset())


def test_repeated_study_in_a_search_shows_no_other_study(new_api, settings, health_imaging, ct, mr):
    web = with_token(new_api, settings, health_imaging, studies=[ct.StudyInstanceUID])
    for query in (
        f"StudyInstanceUID={ct.StudyInstanceUID}&StudyInstanceUID={mr.StudyInstanceUID}",
        f"StudyInstanceUID={mr.StudyInstanceUID}&0020000D={ct.StudyInstanceUID}",
        f"0020000d={mr.StudyInstanceUID}",
        f"StudyInstanceUID={ct.StudyInstanceUID}&includefield=all&PatientName=*",
        "includefield=0020000D&limit=1000",
    ):
        answer = web.get("searchStudies", query=query)
        assert answer.status in (200, 400, 403)
        if answer.status == 200:
            assert {each["0020000D"]["Value"][0] for each in answer.json()} <= {ct.StudyInstanceUID}


# Keys


def test_studies_whose_hashes_collide_are_not_mixed_up(new_api, health_imaging, ct, mr, monkeypatch, objects):
    monkeypatch.setattr(study_lists, "hash_of", lambda *_: "0" * 40)
    bodies = {}
    for _ in range(2):
        for dataset in (ct, mr):
            web = DicomWeb(Client(new_api()), health_imaging)
            answer = web.frames(dataset, accept="application/octet-stream")
            # A list that another study has just written may hide a study for a minute, but never replaces it.
            assert answer.status in (200, 404)
            if answer.status == 200:
                bodies.setdefault(dataset.StudyInstanceUID, set()).add(answer.body)
    assert bodies[ct.StudyInstanceUID] == {ct.PixelData}
    assert bodies.get(mr.StudyInstanceUID, {mr.PixelData}) == {mr.PixelData}


def test_series_with_the_same_uid_in_two_studies_are_not_mixed_up(new_api, health_imaging, add_datasets):
    datasets = []
    for number in (1, 2):
        dataset = dataset_of("CT_small.dcm")
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"1.2.3.31.{number}", "1.2.3.31.9"
        dataset.PixelData = bytes([number]) * len(dataset.PixelData)
        datasets.append(dataset)
    add_datasets(*datasets)
    web = DicomWeb(Client(new_api()), health_imaging)
    for _ in range(2):
        for dataset in datasets:
            assert web.frames(dataset, accept="application/octet-stream").body == dataset.PixelData


# A HealthImaging that fails

FAULTS = {
    "429": (Fault(operation=None, error="ThrottlingException"), (429,), "throttled"),
    "500": (Fault(operation=None, error="InternalServerException"), (502,), "upstream-failed"),
    "reset": (Fault(operation=None, then="reset"), (502, 504), None),
    "cut": (Fault(operation=None, then="close", after=100), (502, 504), None),
    "silence": (Fault(operation=None, then="stall"), (504,), "upstream-timeout"),
}
UPSTREAM = {
    "retrieveInstanceFrames": "GetImageFrame",
    "retrieveSeriesMetadata": "GetDICOMSeriesMetadata",
    "retrieveStudyMetadata": "GetDICOMSeriesMetadata",
    "retrieveInstanceMetadata": "GetDICOMSeriesMetadata",
    "searchStudies": "SearchDICOMStudies",
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("operation", UPSTREAM)
def test_failure_of_healthimaging_is_a_problem_and_leaves_nothing(
    new_api, health_imaging, add_datasets, s3, operation, fault
):
    dataset = dataset_of("CT_small.dcm")
    dataset.StudyInstanceUID = f"1.2.3.32.{list(UPSTREAM).index(operation)}.{list(FAULTS).index(fault)}"
    dataset.PatientName = f"{MARK}^Name"
    add_datasets(dataset)
    armed, statuses, slug = FAULTS[fault]
    health_imaging.faults.arm(replace(armed, operation=UPSTREAM[operation]))
    client = Client(new_api())
    call = client.call
    client.call = lambda *arguments: call(*arguments, remaining_ms=9_500)
    answer = DicomWeb(client, health_imaging).get(operation, dataset, frameList="1")
    assert is_refusal(answer, *statuses)
    assert slug is None or answer.json()["type"] == f"urn:framegate:problem:{slug}"
    assert keys(s3, METADATA_PREFIX) == []
    health_imaging.faults.clear()
    assert DicomWeb(Client(new_api()), health_imaging).get(operation, dataset, frameList="1").status == 200


def test_failed_search_for_a_study_is_no_absence(new_api, health_imaging, ct, s3, objects):
    health_imaging.faults.arm(Fault(operation="SearchImageSets", error="InternalServerException"))
    assert is_refusal(DicomWeb(Client(new_api()), health_imaging).frames(ct), 502)
    health_imaging.faults.clear()
    assert DicomWeb(Client(new_api()), health_imaging).frames(ct).status == 200
    assert len(keys(s3, STUDY_PREFIX)) == 1


@pytest.mark.parametrize("fault", ["429", "500", "cut"])
def test_failure_while_decoding_sends_no_part_of_a_frame(web, ct, health_imaging, fault):
    web.frames(ct)
    armed, statuses, _ = FAULTS[fault]
    health_imaging.faults.arm(replace(armed, operation="GetDICOMInstanceFrames"))
    assert is_refusal(web.frames(ct, accept="application/octet-stream"), *statuses)


# Negotiation

_TYPES = st.sampled_from(
    ["*/*", "image/*", "image/jph", "image/jphc", "image/jpeg", "application/octet-stream", "text/html", "video/*"]
)
_SYNTAXES = st.sampled_from([None, "*", ELE, HTJ2K, "1.2.840.10008.1.2.4.50"])
_WEIGHTS = st.sampled_from([None, "1", "0.5", "0", "0.001"])


@st.composite
def media_ranges(draw):
    media_type, syntax, weight = draw(_TYPES), draw(_SYNTAXES), draw(_WEIGHTS)
    is_quoted = draw(st.booleans())
    quoted = f'"{media_type}"' if is_quoted else media_type
    parts = [f"multipart/related; type={quoted}" if draw(st.booleans()) else media_type]
    if syntax is not None:
        parts.append(f'transfer-syntax="{syntax}"' if is_quoted else f"transfer-syntax={syntax}")
    if weight is not None:
        parts.append(f"q={weight}")
    return ";".join(parts)


@settings(max_examples=500, suppress_health_check=list(HealthCheck))
@given(st.lists(media_ranges(), min_size=1, max_size=5), st.sampled_from(sorted(set(STORED.values()))))
def test_chosen_form_is_one_that_the_client_named(ranges, content_type):
    header = ", ".join(ranges)
    syntax = stored_syntax(None, content_type)
    forms = dicomweb_forms_of(content_type, syntax)
    form = Accept.parse(header).form_among(forms)
    if form is None:
        return
    wants_multipart = any(each.startswith("multipart/related") for each in ranges)
    if form.representation is Representation.MULTIPART:
        assert wants_multipart
    # No stored frame is announced as decoded, and no decoded one as stored.
    assert form.is_decoded == (form.transfer_syntax == ELE and syntax != ELE)
    if form.is_decoded:
        assert ELE in header or "application/octet-stream" in header or "*/*" in header
    else:
        assert form.transfer_syntax == syntax
        names = {*dicom_names(syntax, content_type), essence(content_type), "application/octet-stream"}
        assert form.media_type in names
    assert f"q=0.{'0' * 9}" not in header


@settings(max_examples=300)
@given(st.text(max_size=200))
def test_any_accept_header_is_parsed(text):
    accept = Accept.parse(text)
    form = accept.form_among(dicomweb_forms_of("image/jph", HTJ2K))
    assert form is None or form in dicomweb_forms_of("image/jph", HTJ2K)


@settings(max_examples=200)
@given(st.lists(media_ranges(), min_size=1, max_size=4), st.permutations(range(4)))
def test_order_of_media_ranges_does_not_matter(ranges, order):
    forms = dicomweb_forms_of("image/jph", HTJ2K)
    reordered = [ranges[position] for position in order if position < len(ranges)]
    first = Accept.parse(", ".join(ranges)).form_among(forms)
    assert Accept.parse(", ".join(reordered)).form_among(forms) == first


def test_problem_documents_are_json_without_uids(web, ct):
    answer = web.frames(ct, "7")
    text = json.dumps(answer.json())
    for uid in (ct.StudyInstanceUID, ct.SeriesInstanceUID, ct.SOPInstanceUID):
        assert uid not in text
