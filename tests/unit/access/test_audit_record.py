"""The audit record of every request and export: who, from where, what, how, and with which result."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framegate.access.audit import MEMBERS, Access
from framegate.access.principal import MAX_NAME_LENGTH, UNKNOWN, name_in, principal_of
from framegate.rest.routes import FRAME_ROUTE, INDEX_ROUTE
from local.health_imaging import Fault
from tests.unit.conftest import SERVED

ARN = "arn:aws:sts::123456789012:assumed-role/Viewer/jane"
ISSUER = "https://login.example/realms/imaging"
CONTENT = b"\x00\xff" * 5000
CONTEXTS = {
    "iam": {"identity": {"userArn": ARN, "sourceIp": "192.0.2.7"}},
    "jwt": {
        "identity": {"sourceIp": "192.0.2.7"},
        "authorizer": {"principal": "jane", "issuer": ISSUER, "expiresAt": "9999999999", "datastores": "*"},
    },
    "cognito": {
        "identity": {"sourceIp": "192.0.2.7"},
        "authorizer": {"claims": {"sub": "jane", "iss": ISSUER, "token_use": "access"}},
    },
}


@pytest.fixture
def frame(health_imaging):
    return health_imaging.add_frame(SERVED, CONTENT, "image/jph")


@pytest.fixture
def records(capsys):
    """Return the audit records since the last call."""
    return lambda: [line for line in map(json.loads, capsys.readouterr().out.splitlines()) if "audit" in line]


def event(frame, *, route=FRAME_ROUTE, method="GET", query=None, headers=None, context=None, **path):
    parameters = {
        "datastoreId": frame.datastore_id,
        "imageSetId": frame.image_set_id,
        "imageFrameId": frame.image_frame_id,
        **path,
    }
    return {
        "httpMethod": method,
        "resource": route,
        "path": route.format(**{name: quote(value, safe="") for name, value in parameters.items()}),
        "pathParameters": parameters,
        "multiValueHeaders": {name: [value] for name, value in (headers or {}).items()},
        "multiValueQueryStringParameters": {name: [value] for name, value in (query or {}).items()},
        "requestContext": {
            "requestId": "8b1d9e",
            "requestTimeEpoch": 1_790_000_000_000,
            **(CONTEXTS["iam"] if context is None else context),
        },
    }


@pytest.fixture
def ask(client):
    return lambda frame, **changed: client.api.answer(event(frame, **changed), 28_000)


@pytest.mark.parametrize("auth", CONTEXTS)
def test_read_leaves_a_record_before_it_starts_and_one_with_the_result(frame, settings, new_api, records, auth):
    api = new_api(settings=replace(settings, auth=auth))
    answer = api.answer(event(frame, context=CONTEXTS[auth]), 28_000)

    who = {"principal": ARN} if auth == "iam" else {"principal": "jane", "issuer": ISSUER}
    common = {
        "service": "framegate",
        "requestId": "8b1d9e",
        "requestTimeEpoch": 1_790_000_000_000,
        **who,
        "sourceIp": "192.0.2.7",
        "httpMethod": "GET",
        "resourcePath": FRAME_ROUTE,
        "datastoreId": SERVED,
        "imageSetId": frame.image_set_id,
        "imageFrameId": frame.image_frame_id,
    }
    assert answer["statusCode"] == 200
    assert records() == [
        {"audit": "request", **common},
        {"audit": "answer", **common, "delivery": "inline", "bytes": len(CONTENT), "status": 200},
    ]


@pytest.mark.parametrize(
    ("changed", "result"),
    [
        ({"query": {"delivery": "url"}}, {"delivery": "url", "bytes": len(CONTENT), "status": 303}),
        ({"headers": {"Accept": "application/json"}}, {"delivery": "json", "bytes": len(CONTENT), "status": 200}),
        ({"method": "HEAD"}, {"delivery": "inline", "bytes": 0, "status": 200}),
        ({"query": {"delivery": "pigeon"}}, {"bytes": 0, "status": 400, "problem": "invalid-request"}),
        ({"headers": {"Accept": "text/html"}}, {"bytes": 0, "status": 406, "problem": "not-acceptable"}),
        ({"datastoreId": "e" * 32}, {"bytes": 0, "status": 403, "problem": "datastore-not-served"}),
        ({"method": "DELETE"}, {"bytes": 0, "status": 405, "problem": "method-not-allowed"}),
    ],
)
def test_last_record_has_delivery_bytes_status_and_problem(frame, ask, records, changed, result):
    ask(frame, **changed)
    last = records()[-1]
    assert last["audit"] == "answer"
    assert {name: last.get(name) for name in ("delivery", "bytes", "status", "problem")} == {
        "delivery": None,
        "problem": None,
        **result,
    }
    assert last["imageFrameId"] == frame.image_frame_id


def test_not_modified_frame_leaves_a_record(frame, ask, records):
    ask(frame, headers={"If-None-Match": f'"{frame.image_frame_id}.image/jph"'})
    (record,) = records()
    assert (record["audit"], record["status"], record["delivery"]) == ("answer", 304, "not-modified")
    assert record["imageFrameId"] == frame.image_frame_id


def test_index_page_leaves_records(frame, ask, records):
    body = ask(frame, route=INDEX_ROUTE)["body"]
    first, last = records()
    assert (first["audit"], first["imageSetId"]) == ("request", frame.image_set_id)
    assert (last["delivery"], last["status"], last["frames"], last["bytes"]) == ("index", 200, 1, len(body))
    assert last["versionId"] == "1"


@pytest.mark.parametrize("level", ["ERROR", "CRITICAL"])
def test_records_do_not_depend_on_the_log_level(level):
    program = (
        "from framegate.access.audit import *\n"
        "Access(EXPORTER, '8b1d9e').write(Stage.REQUEST, {'image_set_id': 'a' * 32})"
    )
    environment = {"POWERTOOLS_LOG_LEVEL": level, "PYTHONPATH": ":".join(sys.path)}
    written = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)
    assert json.loads(written.stdout)["imageSetId"] == "a" * 32


def test_crash_during_a_read_leaves_a_record(frame, ask, records, health_imaging, monkeypatch):
    def crash(*_arguments, **_options):
        raise SystemExit

    monkeypatch.setattr("framegate.healthimaging.client.HealthImaging.fetch", crash)
    with pytest.raises(SystemExit):
        ask(frame)
    (record,) = records()
    assert (record["audit"], record["principal"]) == ("request", ARN)
    assert record["imageFrameId"] == frame.image_frame_id


def test_failed_read_leaves_a_record(frame, ask, records, health_imaging):
    health_imaging.faults.arm(Fault(error="ConflictException"))
    ask(frame)
    last = records()[-1]
    assert (last["status"], last["problem"], last["bytes"]) == (409, "conflict", 0)


@pytest.mark.parametrize("value", ["Mueller^Hans", "1.2.840.113619.2", "../etc", "d" * 32 + "\n"])
def test_record_repeats_no_malformed_identifier(frame, ask, records, value):
    ask(frame, imageSetId=value, imageFrameId=value)
    (record,) = records()
    assert (record["status"], record["datastoreId"]) == (400, SERVED)
    assert value not in record.values()


def test_presigned_url_carries_the_id_of_the_request(frame, ask):
    url = ask(frame, query={"delivery": "url"})["headers"]["Location"]
    query = parse_qs(urlsplit(url).query)
    assert query["x-request-id"] == ["8b1d9e"]
    assert query["X-Amz-SignedHeaders"] == ["host"]


def test_signature_covers_the_id_of_the_request(frame, ask):
    def signed(request_id):
        answer = ask(frame, query={"delivery": "url"}, context={"requestId": request_id})
        query = parse_qs(urlsplit(answer["headers"]["Location"]).query)
        return query["X-Amz-Date"], query["X-Amz-Signature"]

    # The date is part of the signature, too, and has seconds.
    pairs = [(signed("8b1d9e"), signed("8b1d9f")) for _ in range(5)]
    same_second = [(one[1], other[1]) for one, other in pairs if one[0] == other[0]]
    assert same_second
    assert all(one != other for one, other in same_second)


def test_records_have_no_other_members(frame, ask, records):
    ask(frame, query={"size": "64"})
    ask(frame, route=INDEX_ROUTE)
    ask(frame, query={"delivery": "pigeon"})
    general = {
        "audit",
        "service",
        "requestId",
        "requestTimeEpoch",
        "principal",
        "sourceIp",
        "httpMethod",
        "resourcePath",
    }
    assert set().union(*records()) <= general | set(MEMBERS.values())


@pytest.mark.parametrize("context", [{}, {"identity": None}, {"identity": "x", "authorizer": "y"}])
@pytest.mark.parametrize("auth", CONTEXTS)
def test_caller_without_an_identity_is_unknown(auth, context):
    assert principal_of({"requestContext": context}, auth).name == UNKNOWN


def test_cognito_caller_is_named_by_the_configured_claim():
    claims = {"sub": "4d2", "email": "jane@example.org", "iss": ISSUER}
    event = {"requestContext": {"authorizer": {"claims": claims}}}
    assert principal_of(event, "cognito", "email").name == "jane@example.org"
    assert principal_of(event, "cognito", "custom:staff").name == "4d2"


@given(st.dictionaries(st.sampled_from(["sub", "email"]), st.text() | st.integers() | st.none() | st.just("\ud800")))
def test_any_claim_gives_a_name_that_needs_no_escaping(claims):
    name = name_in(claims, "email")
    assert 0 < len(name) <= MAX_NAME_LENGTH
    assert json.loads(f'"{name}"') == name
    assert name.isascii()
    assert name.isprintable()


def test_long_names_stay_distinct():
    names = {name_in({"sub": "a" * 5000 + end}, "sub") for end in "bc"}
    assert len(names) == 2
    assert all(name.startswith("sha256:") for name in names)


def test_access_without_a_time_or_an_address_is_recorded(records):
    event = {"httpMethod": "GET", "resource": "/x", "requestContext": {"requestId": "1", "identity": None}}
    Access.of_request(event, "iam", "sub").write("answer", {"status": 404})
    assert records() == [
        {
            "audit": "answer",
            "service": "framegate",
            "requestId": "1",
            "principal": UNKNOWN,
            "httpMethod": "GET",
            "resourcePath": "/x",
            "status": 404,
        }
    ]
