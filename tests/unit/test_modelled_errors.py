"""Every error in botocore's model, and the problem that Framegate raises for it."""

from __future__ import annotations

import json
import os
from http import HTTPStatus

import botocore.session
import pytest

from framegate.aws.errors import CREDENTIAL_CODES
from framegate.export.copying import FrameCopier
from framegate.export.manifest import TRANSIENT, ExportedFrame
from framegate.export.pace import Pace
from framegate.healthimaging.client import API, MAX_ATTEMPTS, HealthImaging
from framegate.healthimaging.image_set_metadata import FrameEntry
from framegate.identifiers import FrameRef
from framegate.problems import Problem, UpstreamFailed, UpstreamRefused
from framegate.rest.problem_documents import STATUS, problem_response
from framegate.time_budget import TimeBudget
from tests.unit.conftest import SERVED, Client
from tests.unit.scripted_server import Reply, ScriptedServer
from tests.unit.sessions import new_session

FRAME = FrameRef(SERVED, "5" * 32, "f" * 32)

MODEL = botocore.session.Session().get_service_model(API)

CALLS = {
    "GetImageFrame": lambda source: source.fetch(FRAME, lambda stream: b"".join(stream), TimeBudget(10)),
    "GetImageSet": lambda source: source.image_set_version(FRAME, TimeBudget(10)),
    "GetImageSetMetadata": lambda source: source.fetch_metadata(FRAME, None, list, TimeBudget(10)),
}

EXPECTED = {
    "ThrottlingException": (429, "throttled", MAX_ATTEMPTS),
    "ConflictException": (409, "conflict", 1),
    "AccessDeniedException": (403, "access-denied", 1),
    "ValidationException": (400, "upstream-rejected", 1),
    "BadRequestException": (400, "upstream-rejected", 1),
    "InternalServerException": (502, "upstream-failed", MAX_ATTEMPTS),
    "ResourceNotFoundException": (404, "frame-not-found", 1),
    "NotAcceptableException": (406, "not-acceptable", 1),
}
"""Status and problem that the client gets, and the attempts that HealthImaging sees."""

MODELLED = [
    (operation, shape.name, shape.metadata["error"]["httpStatusCode"])
    for operation in CALLS
    for shape in MODEL.operation_model(operation).error_shapes
]


@pytest.fixture
def server(monkeypatch):
    with ScriptedServer() as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL_MEDICAL_IMAGING", running.url)
        yield running


@pytest.fixture
def source(server):
    return HealthImaging(new_session())


def error(status, code, *, in_body=False):
    document = {"message": "no", **({"__type": f"aws.medicalimaging#{code}"} if in_body else {})}
    headers = {"Content-Type": "application/json"} | ({} if in_body else {"x-amzn-ErrorType": f"{code}:http://x/"})
    return Reply(status, headers, json.dumps(document).encode())


def test_expected_errors_are_exactly_the_modelled_ones():
    assert {name for _, name, _ in MODELLED} == set(EXPECTED)


@pytest.mark.parametrize("in_body", [False, True], ids=["named in the header", "named in the body"])
@pytest.mark.parametrize(("operation", "name", "status"), MODELLED)
def test_each_modelled_error_has_its_problem_and_attempts(server, source, operation, name, status, in_body):
    server.reply = lambda _: error(status, name, in_body=in_body)
    with pytest.raises(Problem) as raised:
        CALLS[operation](source)
    problem = raised.value
    assert (STATUS[type(problem)], problem.slug, len(server.requests)) == EXPECTED[name]
    assert (problem.evidence["upstream_status"], problem.evidence["upstream_error"]) == (status, name)


@pytest.mark.parametrize("name", ["NotAcceptableException", "BadRequestException"])
def test_permanent_error_reaches_the_client_without_a_retry(server, source, delivery_from, new_api, name):
    status, slug, _ = EXPECTED[name]
    server.reply = lambda _: error(status, name)
    client = Client(new_api(delivery=delivery_from(source)))
    answer = client.get(FRAME)
    assert (answer.status, answer.json()["type"]) == (status, f"urn:framegate:problem:{slug}")
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("status", "name", "is_final"),
    [
        (400, "BadRequestException", True),
        (406, "NotAcceptableException", True),
        (402, "ServiceQuotaExceededException", True),
        (403, "InvalidSignatureException", True),
        (415, "UnsupportedMediaTypeException", True),
        (403, "AccessDeniedException", False),
        (403, "ExpiredTokenException", False),
        (408, "RequestTimeoutException", False),
        (500, "InternalServerException", False),
    ],
)
def test_export_does_not_retry_a_frame_with_a_permanent_error(server, source, store, status, name, is_final):
    server.reply = lambda _: error(status, name)
    frame = ExportedFrame(FrameEntry(FRAME.image_frame_id, None, None), "key")
    FrameCopier(source, store, Pace(1000)).copy(
        frame, FRAME, TimeBudget(10), may_be_stored=False, is_mismatched=False, verify=False
    )
    assert (frame.outcome not in TRANSIENT) == is_final
    assert frame.is_unfinished is not is_final
    if is_final:
        assert len(server.requests) == 1


REFUSALS = [each.value for each in HTTPStatus if 400 <= each < 500 and each not in (408, 429)]


@pytest.mark.parametrize("status", REFUSALS)
def test_unknown_client_error_is_final(server, source, status):
    server.reply = lambda _: Reply(status, {"Content-Type": "text/html"}, b"<html>no</html>")
    with pytest.raises(UpstreamRefused) as raised:
        CALLS["GetImageFrame"](source)
    assert len(server.requests) == 1
    assert raised.value.evidence["upstream_status"] == status
    assert "try again" not in json.loads(problem_response(raised.value, "id").body)["detail"]


@pytest.mark.parametrize(("status", "slug"), [(408, "upstream-failed"), (429, "throttled"), (503, "upstream-failed")])
def test_unknown_transient_error_is_retried(server, source, status, slug):
    replies = iter([Reply(status), Reply(status), Reply(200, {"Content-Type": "image/jph"}, b"frame")])
    server.reply = lambda _: next(replies)
    assert CALLS["GetImageFrame"](source) == b"frame"
    server.reply = lambda _: Reply(status)
    with pytest.raises(Problem) as raised:
        CALLS["GetImageFrame"](source)
    assert raised.value.slug == slug


def accept_only(key, code, success):
    """Reply that rejects every access key but one."""
    return lambda request: success if f"Credential={key}/" in request.headers["authorization"] else error(403, code)


@pytest.mark.parametrize("code", sorted(CREDENTIAL_CODES))
@pytest.mark.parametrize("attempts", [1, MAX_ATTEMPTS])
def test_rejected_credentials_are_replaced(server, source, monkeypatch, code, attempts):
    server.reply = accept_only("new", code, Reply(200, {}, b"frame"))
    source_call = lambda: source.fetch(FRAME, lambda stream: b"".join(stream), TimeBudget(10), attempts)  # noqa: E731
    with pytest.raises(UpstreamFailed):
        source_call()
    # There are no new credentials yet.
    assert len(server.requests) == 1
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "new")
    assert source_call() == b"frame"
    assert len(server.requests) == 3
    # The client keeps the new ones.
    assert source_call() == b"frame"
    assert len(server.requests) == 4


def test_credentials_that_are_rejected_twice_are_replaced_once(server, source, monkeypatch):
    def refuse(request):
        os.environ["AWS_ACCESS_KEY_ID"] = f"key-{len(server.requests)}"
        return error(403, "ExpiredTokenException")

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "old")
    server.reply = refuse
    with pytest.raises(UpstreamFailed):
        CALLS["GetImageFrame"](source)
    assert len(server.requests) == 2


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidAccessKeyId", "InvalidToken"])
@pytest.mark.parametrize("condition", [None, '"etag"'], ids=["if none exists", "if unchanged"])
def test_credentials_that_s3_rejects_are_replaced_even_for_a_conditional_put(
    server, new_object_store, monkeypatch, code, condition
):
    objects = new_object_store("bucket")
    put = objects._bucket.put
    put._base = server.url
    document = f"<Error><Code>{code}</Code></Error>".encode()
    refusal = Reply(400, {"Content-Type": "application/xml"}, document)
    server.reply = lambda request: Reply() if "Credential=new/" in request.headers["authorization"] else refusal
    with pytest.raises(UpstreamFailed):
        objects.put_if_unchanged("key", b"{}", condition, TimeBudget(10))
    assert len(server.requests) == 1
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "new")
    assert objects.put_if_unchanged("key", b"{}", condition, TimeBudget(10))
    assert len(server.requests) == 3


def test_region_without_healthimaging_is_logged(monkeypatch, log_lines):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    HealthImaging(new_session())
    (line,) = log_lines()
    assert (line["level"], line["region"]) == ("WARNING", "eu-central-1")


def test_unresolvable_endpoint_is_a_clear_problem(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_MEDICAL_IMAGING", "http://medical-imaging.invalid")
    source = HealthImaging(new_session())
    with pytest.raises(UpstreamFailed, match="host name does not resolve") as raised:
        source.fetch(FRAME, lambda stream: b"".join(stream), TimeBudget(10), attempts=1)
    assert raised.value.evidence == {"upstream_error": "NameResolutionError"}
