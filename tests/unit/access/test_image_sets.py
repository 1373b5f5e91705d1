"""Who may read which image set, on every route: by the token's lists, and by the decision function."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest

from framegate.access.caller import caller_context
from framegate.access.decision import DecisionFunction
from framegate.access.principal import Principal
from framegate.access.tokens import Grant
from framegate.identifiers import ImageSetRef
from framegate.rest.routes import FRAME_ROUTE, GET_IMAGE_FRAME_ROUTE, INDEX_ROUTE
from framegate.time_budget import TimeBudget
from tests.unit.conftest import SERVED, filled
from tests.unit.scripted_server import Reply, ScriptedServer
from tests.unit.sessions import new_session

OTHER = "e" * 32
USER = "arn:aws:iam::123456789012:user/reader"


@pytest.fixture
def frames(health_imaging):
    """Frames of two image sets, each of a study of its own."""
    return [health_imaging.add_frame(SERVED, b"pixels", "image/jph") for _ in range(2)]


@pytest.fixture
def study_of(source):
    """The study instance UID of a frame's image set."""

    def read(frame):
        document = source.fetch_metadata(ImageSetRef(SERVED, frame.image_set_id), None, b"".join, TimeBudget(10))
        return json.loads(document)["Study"]["DICOM"]["StudyInstanceUID"]

    return read


class Routes:
    """Requests a frame by each route, or the index of its image set."""

    def __init__(self, api, context):
        self._api = api
        self._context = context

    def request(self, frame, method="GET", route=FRAME_ROUTE, query=None, body=None, **headers):
        values = {
            "datastoreId": frame.datastore_id,
            "imageSetId": frame.image_set_id,
            "imageFrameId": frame.image_frame_id,
        }
        parameters = {name: value for name, value in values.items() if f"{{{name}}}" in route}
        event = {
            "httpMethod": method,
            "resource": route,
            "path": filled(route, parameters),
            "pathParameters": parameters,
            "multiValueHeaders": {name.replace("_", "-"): [value] for name, value in headers.items()},
            "multiValueQueryStringParameters": {name: [value] for name, value in (query or {}).items()},
            "requestContext": {"requestId": "r", **self._context},
            "body": body,
        }
        return self._api.answer(event, 28_000)

    def every_answer(self, frame):
        """The responses of every route, method, delivery and condition."""
        tag = f'"{frame.image_frame_id}.image/jph"'
        by_id = {"imageFrameId": frame.image_frame_id}
        return [
            self.request(frame),
            self.request(frame, "HEAD"),
            self.request(frame, If_None_Match=tag),
            self.request(frame, query={"delivery": "url"}),
            self.request(frame, Range="bytes=0-1"),
            self.request(frame, Accept="application/json"),
            self.request(frame, route=GET_IMAGE_FRAME_ROUTE, query=by_id),
            self.request(frame, "HEAD", GET_IMAGE_FRAME_ROUTE, query=by_id),
            self.request(frame, "POST", GET_IMAGE_FRAME_ROUTE, body=json.dumps(by_id)),
            self.request(frame, route=INDEX_ROUTE),
            self.request(frame, "HEAD", INDEX_ROUTE),
            self.request(frame, route=INDEX_ROUTE, If_None_Match="*"),
        ]


GRANTED = [200, 200, 304, 303, 206, 200, 200, 200, 200, 200, 200, 304]


def statuses(answers):
    return [answer["statusCode"] for answer in answers]


def slug(answer):
    return json.loads(answer["body"])["type"].removeprefix("urn:framegate:problem:")


@pytest.fixture
def with_token(settings, new_api):
    """The API as the holder of a token sees it that lists these image sets and studies."""

    def call(image_sets=None, studies=None):
        lists = [None if each is None else frozenset(each) for each in (image_sets, studies)]
        grant = Grant(int(time.time()) + 60, None, Principal("somebody", "https://login.example.org"), *lists)
        api = new_api(settings=replace(settings, auth="jwt"))
        return Routes(api, {"authorizer": caller_context(grant, None)})

    return call


# Lists


def test_listed_image_set_is_granted_on_every_route(with_token, frames):
    routes = with_token(image_sets=[frames[0].image_set_id])
    assert statuses(routes.every_answer(frames[0])) == GRANTED
    assert statuses(routes.every_answer(frames[1])) == [403] * len(GRANTED)
    assert slug(routes.request(frames[1])) == "image-set-not-granted"


def test_image_set_of_a_listed_study_is_granted_on_every_route(with_token, frames, study_of):
    routes = with_token(studies=[study_of(frames[0])])
    assert statuses(routes.every_answer(frames[0])) == GRANTED
    assert statuses(routes.every_answer(frames[1])) == [403] * len(GRANTED)


def test_image_set_is_granted_by_either_list(with_token, frames, study_of):
    routes = with_token([frames[0].image_set_id], [study_of(frames[1])])
    assert statuses(routes.request(frame) for frame in frames) == [200, 200]


@pytest.mark.parametrize(("image_sets", "studies"), [([], None), (None, []), ([], []), ([OTHER], ["1.2.3"])])
def test_empty_and_other_lists_grant_nothing(with_token, frames, image_sets, studies):
    routes = with_token(image_sets, studies)
    assert statuses(routes.every_answer(frames[0])) == [403] * len(GRANTED)


def test_refusal_by_the_image_set_list_needs_no_call_and_reads_nothing(with_token, frames, health_imaging):
    with_token(image_sets=[OTHER]).every_answer(frames[0])
    assert not health_imaging.calls


def test_image_set_that_does_not_exist_is_not_granted_by_a_study(with_token, frames, study_of):
    routes = with_token(studies=[study_of(frames[0])])
    answer = routes.request(replace(frames[0], image_set_id="0" * 32))
    assert (answer["statusCode"], slug(answer)) == (403, "image-set-not-granted")


@pytest.fixture
def records(capsys):
    """Return the audit records since the last call."""
    return lambda: [line for line in map(json.loads, capsys.readouterr().out.splitlines()) if "audit" in line]


def test_data_store_that_is_not_served_is_refused_first(with_token, frames):
    answer = with_token(image_sets=[frames[0].image_set_id]).request(replace(frames[0], datastore_id=OTHER))
    assert (answer["statusCode"], slug(answer)) == (403, "datastore-not-served")


def test_no_record_log_line_error_or_key_has_the_study(with_token, frames, study_of, records, log_lines, s3):
    study = study_of(frames[0])
    routes = with_token(studies=[study])
    answers = [*routes.every_answer(frames[0]), *routes.every_answer(frames[1])]
    keys = [each["Key"] for each in s3.list_objects_v2(Bucket="frames-of-the-test")["Contents"]]
    assert any(key.endswith(".study.json") for key in keys)
    written = records()
    assert {line["imageSetId"] for line in written} == {frame.image_set_id for frame in frames}
    assert study not in json.dumps([answers, written, log_lines(), keys])


# The decision function


@pytest.fixture
def server(monkeypatch):
    """Lambda with a function that allows everything, or what a test makes it answer."""
    with ScriptedServer(lambda _: Reply(body=b'{"allow": true, "reason": "treats the patient"}')) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", running.url)
        yield running


@pytest.fixture
def with_function(settings, new_api, server):
    """The API with a decision function, in each authorization mode."""

    def call(auth="iam", **context):
        arn = "arn:aws:lambda:us-east-1:123456789012:function:image-access"
        function = DecisionFunction(new_session(), arn, 60)
        api = new_api(settings=replace(settings, auth=auth), decision_function=function)
        return Routes(api, context or {"identity": {"userArn": USER}})

    return call


def answer(server, **document):
    server.reply = lambda _: Reply(body=json.dumps(document).encode())


def asked(server):
    return [json.loads(request.body) for request in server.requests]


def test_allowed_caller_reads_on_every_route(with_function, frames, server, study_of):
    assert statuses(with_function().every_answer(frames[0])) == GRANTED
    expected = {
        "principal": USER,
        "issuer": None,
        "datastoreId": SERVED,
        "imageSetId": frames[0].image_set_id,
        "studyInstanceUID": study_of(frames[0]),
    }
    assert asked(server) == [{**expected, "action": "ReadFrame"}, {**expected, "action": "ListFrames"}]


def test_denied_caller_reads_on_no_route(with_function, frames, server, log_lines):
    answer(server, allow=False, reason="not on the ward")
    denied = with_function().every_answer(frames[0])
    assert statuses(denied) == [403] * len(GRANTED)
    assert slug(denied[0]) == "image-set-not-granted"
    assert "not on the ward" not in json.dumps(denied)
    lines = log_lines()
    assert len(lines) == len(GRANTED)
    assert {(line["decision"], line["decisionReason"]) for line in lines} == {("deny", "not on the ward")}


def test_decision_and_reason_are_in_the_records(with_function, frames, server, study_of, records, log_lines):
    with_function().every_answer(frames[0])
    written = records()
    assert {line["audit"] for line in written} == {"request", "answer"}
    for lines in (written, log_lines()):
        assert {(line["decision"], line["decisionReason"]) for line in lines} == {("allow", "treats the patient")}
    answer(server, allow=False, reason=f"no access to {study_of(frames[1])}")
    with_function().every_answer(frames[1])
    assert {(line["status"], line["decision"], line["decisionReason"]) for line in records()} == {
        (403, "deny", "no access to (study UID)")
    }


def test_failed_function_answers_503_on_every_route(with_function, frames, server):
    server.reply = lambda _: Reply(200, {"X-Amz-Function-Error": "Unhandled"}, b'{"allow": true}')
    failed = with_function().every_answer(frames[0])
    assert statuses(failed) == [503] * len(GRANTED)
    assert slug(failed[0]) == "authorization-unavailable"
    assert failed[0]["headers"]["Retry-After"] == "1"
    assert len(server.requests) == len(GRANTED)


def test_frames_of_an_image_set_share_a_decision(with_function, health_imaging, server):
    routes = with_function()
    for frame in health_imaging.add_frames(SERVED, [b"1", b"22", b"333"], "image/jph"):
        assert routes.request(frame)["statusCode"] == 200
    assert len(server.requests) == 1
    operations = [call.operation for call in health_imaging.calls]
    assert operations.count("GetImageSetMetadata") == 1


@pytest.mark.parametrize(
    ("auth", "context", "principal"),
    [
        ("iam", {"identity": {"userArn": USER}}, (USER, None)),
        (
            "cognito",
            {"authorizer": {"claims": {"sub": "1-2-3", "iss": "https://cognito-idp.example"}}},
            ("1-2-3", "https://cognito-idp.example"),
        ),
        (
            "jwt",
            {
                "authorizer": {
                    "expiresAt": "9999999999",
                    "datastores": "*",
                    "principal": "somebody",
                    "issuer": "https://login.example.org",
                }
            },
            ("somebody", "https://login.example.org"),
        ),
    ],
)
def test_function_is_asked_about_the_principal_of_each_mode(with_function, frames, server, auth, context, principal):
    assert with_function(auth, **context).request(frames[0])["statusCode"] == 200
    (question,) = asked(server)
    assert (question["principal"], question["issuer"]) == principal


def test_lists_are_checked_before_the_function(with_function, frames, server):
    context = {"expiresAt": "9999999999", "datastores": "*", "principal": "p", "issuer": "i", "imageSets": OTHER}
    assert with_function("jwt", authorizer=context).request(frames[0])["statusCode"] == 403
    assert not server.requests


def test_function_can_deny_what_the_lists_grant(with_function, frames, server):
    answer(server, allow=False)
    lists = {"imageSets": frames[0].image_set_id}
    context = {"expiresAt": "9999999999", "datastores": "*", "principal": "p", "issuer": "i", **lists}
    assert with_function("jwt", authorizer=context).request(frames[0])["statusCode"] == 403


def test_image_set_that_does_not_exist_is_asked_about_without_a_study(with_function, frames, server):
    assert with_function().request(replace(frames[0], image_set_id="0" * 32))["statusCode"] == 404
    assert [question["studyInstanceUID"] for question in asked(server)] == [None]


def test_function_is_not_asked_about_data_stores_that_are_not_served(with_function, frames, server):
    assert with_function().request(replace(frames[0], datastore_id=OTHER))["statusCode"] == 403
    assert not server.requests


def test_latency_of_the_decision_is_a_metric(with_function, frames, capsys):
    routes = with_function()
    routes.request(frames[0])
    routes.request(frames[0])
    written = [json.loads(line) for line in capsys.readouterr().out.splitlines() if "_aws" in line]
    latencies = [each["AuthorizationLatency"] for each in written if "AuthorizationLatency" in each]
    # Only the first request asks the function.
    assert len(latencies) == 1
    assert latencies[0][0] > 0
