"""Who may search for and read what by UID: by the token's lists, and by the decision function."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import replace

import pytest

from framegate.access.caller import caller_context
from framegate.access.decision import DecisionFunction
from framegate.access.principal import Principal
from framegate.access.tokens import Grant
from framegate.time_budget import TimeBudget
from tests.unit.conftest import SERVED, Client
from tests.unit.dicomweb import DicomWeb, dataset_of
from tests.unit.scripted_server import Reply, ScriptedServer
from tests.unit.sessions import new_session

READS = ["retrieveInstanceFrames", "retrieveSeriesMetadata", "retrieveStudyMetadata", "retrieveInstanceMetadata"]


@pytest.fixture
def granted(dicom_samples):
    return dicom_samples["CT_small.dcm"]


@pytest.fixture
def other(dicom_samples):
    return dicom_samples["MR_small.dcm"]


@pytest.fixture
def image_set_of(health_imaging, source):
    """The image set of a dataset."""

    def find(dataset):
        (found,) = source.search_study(SERVED, dataset.StudyInstanceUID, TimeBudget(10))
        return found.image_set_id

    return find


@pytest.fixture
def with_token(new_api, settings, health_imaging):
    """The API as the holder of a token sees it that lists these image sets and studies."""

    def build(image_sets=None, studies=None):
        lists = [None if each is None else frozenset(each) for each in (image_sets, studies)]
        grant = Grant(int(time.time()) + 60, None, Principal("somebody", "https://login.example.org"), *lists)
        api = new_api(settings=replace(settings, auth="jwt"))
        return DicomWeb(Client(api, authorizer=caller_context(grant, None)), health_imaging)

    return build


def studies_found(answer):
    return {record["0020000D"]["Value"][0] for record in answer.json()}


@pytest.mark.parametrize("operation", READS)
def test_study_of_the_token_is_read_and_no_other(with_token, granted, other, operation):
    web = with_token(studies=[granted.StudyInstanceUID])
    assert web.get(operation, granted, frameList="1").status == 200
    answer = web.get(operation, other, frameList="1")
    assert (answer.status, answer.json()["type"]) == (403, "urn:framegate:problem:image-set-not-granted")


@pytest.mark.parametrize("operation", READS)
def test_image_set_of_the_token_is_read_and_no_other(with_token, granted, other, image_set_of, operation):
    web = with_token(image_sets=[image_set_of(granted)])
    assert web.get(operation, granted, frameList="1").status == 200
    assert web.get(operation, other, frameList="1").status == 403


def test_held_entity_tag_grants_nothing(with_token, client, health_imaging, granted):
    tag = DicomWeb(client, health_imaging).frames(granted).headers["ETag"]
    answer = with_token(studies=["1.2.3"]).frames(granted, headers={"If-None-Match": tag})
    assert answer.status == 403


def test_searches_show_only_the_studies_of_the_token(with_token, granted, other):
    web = with_token(studies=[granted.StudyInstanceUID])
    for operation in ("searchStudies", "searchSeries", "searchInstances"):
        assert studies_found(web.get(operation)) == {granted.StudyInstanceUID}
    assert web.get("searchStudies", query=f"PatientID={other.PatientID}").json() == []


@pytest.mark.parametrize("key", ["StudyInstanceUID", "0020000D"])
def test_search_for_another_study_is_refused(with_token, granted, other, key):
    web = with_token(studies=[granted.StudyInstanceUID])
    assert studies_found(web.get("searchStudies", query=f"{key}={granted.StudyInstanceUID}")) == {
        granted.StudyInstanceUID
    }
    assert web.get("searchStudies", query=f"{key}={other.StudyInstanceUID}").status == 403


@pytest.mark.parametrize("operation", ["searchStudySeries", "searchStudyInstances", "searchSeriesInstances"])
def test_search_within_a_study_needs_its_image_sets(with_token, granted, other, image_set_of, operation):
    for web in (
        with_token(studies=[granted.StudyInstanceUID]),
        with_token(image_sets=[image_set_of(granted)]),
    ):
        assert web.get(operation, granted).status == 200
        assert web.get(operation, other).status == 403


def test_token_that_lists_image_sets_cannot_search_a_whole_data_store(with_token, granted, image_set_of):
    web = with_token(image_sets=[image_set_of(granted)])
    assert [web.get(each).status for each in ("searchStudies", "searchSeries", "searchInstances")] == [403] * 3
    assert web.get("searchStudies", query=f"StudyInstanceUID={granted.StudyInstanceUID}").status == 200


@pytest.mark.parametrize("value", ["*", "1.2.*", "{0},{1}", "{0}\\\\{1}", "", "?"])
def test_wildcard_and_list_of_studies_widen_nothing(with_token, granted, other, value):
    web = with_token(studies=[granted.StudyInstanceUID])
    value = value.format(granted.StudyInstanceUID, other.StudyInstanceUID)
    answer = web.get("searchStudies", query=f"StudyInstanceUID={value}")
    assert answer.status in (400, 403) or studies_found(answer) <= {granted.StudyInstanceUID}


@pytest.fixture
def server(monkeypatch):
    with ScriptedServer(lambda _: Reply(body=b'{"allow": true}')) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", running.url)
        yield running


@pytest.fixture
def with_function(new_api, health_imaging, server):
    """The API with a decision function."""
    arn = "arn:aws:lambda:us-east-1:123456789012:function:image-access"
    function = DecisionFunction(new_session(), arn, 60)
    return DicomWeb(Client(new_api(decision_function=function)), health_imaging)


def test_decision_function_is_asked_about_the_image_set_and_the_action(with_function, granted, server):
    with_function.frames(granted)
    with_function.get("retrieveSeriesMetadata", granted)
    with_function.get("searchStudySeries", granted)
    asked = [json.loads(request.body) for request in server.requests]
    assert [each["action"] for each in asked] == ["ReadFrame", "ReadMetadata", "Search"]
    assert {each["studyInstanceUID"] for each in asked} == {granted.StudyInstanceUID}


@pytest.mark.parametrize("operation", [*READS, "searchStudySeries"])
def test_denied_caller_reads_nothing(with_function, granted, server, operation, health_imaging):
    server.reply = lambda _: Reply(body=b'{"allow": false}')
    assert with_function.get(operation, granted, frameList="1").status == 403
    assert with_function.calls("GetImageFrame", "GetDICOMSeriesMetadata", "SearchDICOMSeries") == []


def test_search_of_a_whole_data_store_is_refused_with_a_decision_function(with_function, server):
    assert with_function.get("searchStudies").status == 403
    assert server.requests == []


@pytest.fixture
def records(capsys):
    """Return the audit records since the last call."""
    return lambda: [line for line in map(json.loads, capsys.readouterr().out.splitlines()) if "audit" in line]


@pytest.fixture
def study(add_datasets):
    """The datasets of a study with two series, and their image sets."""
    datasets, root = [], f"2.25.{uuid.uuid4().int % 10**30}"
    for number in (1, 2):
        dataset = dataset_of("CT_small.dcm")
        dataset.StudyInstanceUID = root
        dataset.SeriesInstanceUID, dataset.SOPInstanceUID = f"{root}.{number}", f"{root}.{number}.1"
        datasets.append(dataset)
    return datasets, [each.id for each in add_datasets(*datasets)]


def test_metadata_of_a_study_is_on_record_for_each_image_set(with_token, study, records):
    (dataset, _), image_sets = study
    first = with_token().get("retrieveStudyMetadata", dataset)
    written = records()
    assert sorted((each["audit"], each["imageSetId"]) for each in written) == sorted(
        (stage, image_set) for stage in ("answer", "request") for image_set in image_sets
    )
    answers = [each for each in written if each["audit"] == "answer"]
    assert [(each["status"], each["delivery"]) for each in answers] == [(200, "dicom-json")] * 2
    assert sum(each["bytes"] for each in answers) == len(first.body)
    with_token().get("retrieveStudyMetadata", dataset, headers={"If-None-Match": first.headers["ETag"]})
    answers = [each for each in records() if each["audit"] == "answer"]
    assert {(each["imageSetId"], each["status"], each["delivery"]) for each in answers} == {
        (image_set, 304, "not-modified") for image_set in image_sets
    }


def test_record_of_a_refusal_names_the_image_set_that_is_not_granted(with_token, study, records):
    (dataset, _), image_sets = study
    with_token(image_sets=image_sets[:1]).get("retrieveStudyMetadata", dataset)
    with_token(image_sets=image_sets[1:]).get("retrieveStudyMetadata", dataset)
    refused = records()
    assert [(each["audit"], each["status"], each["bytes"]) for each in refused] == [("answer", 403, 0)] * 2
    assert [each["imageSetId"] for each in refused] == image_sets[::-1]


def test_records_have_the_decision_about_each_image_set(with_function, study, server, records):
    datasets, image_sets = study
    server.reply = lambda request: Reply(
        body=json.dumps({"allow": True, "reason": json.loads(request.body)["imageSetId"]}).encode()
    )
    with_function.get("retrieveStudyMetadata", datasets[0])
    decided = {(each["imageSetId"], each["decision"], each["decisionReason"]) for each in records()}
    assert decided == {(each, "allow", each) for each in image_sets}


def test_record_of_a_frame_names_its_image_set_once(with_token, study, records):
    datasets, image_sets = study
    for dataset in datasets:
        assert with_token().frames(dataset).status == 200
    assert [(each["audit"], each["imageSetId"]) for each in records()] == [
        (stage, image_set) for image_set in image_sets for stage in ("request", "answer")
    ]


def test_redirect_to_metadata_is_on_record_as_a_url(new_api, delivery_from, source, granted, health_imaging, records):
    small = Client(new_api(delivery=delivery_from(source, inline_limit=1000)))
    answer = DicomWeb(small, health_imaging).get("retrieveSeriesMetadata", granted)
    assert answer.status == 303
    last = records()[-1]
    assert (last["audit"], last["delivery"], last["status"]) == ("answer", "url", 303)


def test_records_contain_no_uid_and_no_searched_attribute(with_token, granted, other, records):
    web = with_token(studies=[granted.StudyInstanceUID])
    for dataset in (granted, other):
        for operation in (*READS, "searchStudySeries", "searchSeriesInstances"):
            web.get(operation, dataset, frameList="1", query="PatientName=Mueller^Hans")
        web.get("searchStudies", query=f"StudyInstanceUID={dataset.StudyInstanceUID}&PatientID={dataset.PatientID}")
    web.get("retrieveStudyMetadata", granted, studyInstanceUID="Mueller^Hans")
    written = json.dumps(records())
    uids = [
        uid for each in (granted, other) for uid in (each.StudyInstanceUID, each.SeriesInstanceUID, each.SOPInstanceUID)
    ]
    assert "answer" in written
    assert not [each for each in (*uids, "Mueller", granted.PatientID, other.PatientID) if f'"{each}' in written]
