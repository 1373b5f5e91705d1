"""The API checks of ``make smoke`` pass against the product's own code, and call every route with every method."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from urllib.parse import parse_qs

import pytest
from pydicom.uid import generate_uid
from rich.console import Console

from framegate.rendering.drawing_process import DrawingProcess
from framegate.rest.routes import PICTURE_ROUTES, ROUTES
from smoke import api_checks
from smoke.deployment import Deployment
from smoke.dicomweb_checks import DicomWebChecks
from smoke.report import Outcome, Report
from tests.unit.conftest import BUCKET, SERVED
from tests.unit.dicomweb import dataset_of
from tests.unit.scripted_server import Reply, ScriptedServer

AT_API_GATEWAY = {"no credentials", "CORS preflight"}
"""Checks of requests that API Gateway answers itself."""

ONLY_IN_AWS = {"pre-signed URL of mismatched/…"}


def route_of(path):
    """The template of the route of a path, and the path's parameters; None for an unknown path."""
    for route in ROUTES:
        if match := re.fullmatch(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", route.template), path):
            return route.template, match.groupdict()
    return None, None


@pytest.fixture(scope="module")
def process():
    """The process that draws."""
    running = DrawingProcess()
    yield running
    running.stop()


@pytest.fixture
def api(client, new_picture_api, process):
    """The product's APIs over HTTP, as API Gateway calls them."""
    pictures = new_picture_api(process)

    def reply(request):
        template, parameters = route_of(request.path)
        event = {
            "httpMethod": request.method,
            "resource": template,
            "path": request.path,
            "pathParameters": parameters,
            "multiValueHeaders": {name: [value] for name, value in request.headers.items()},
            "multiValueQueryStringParameters": parse_qs(request.query, keep_blank_values=True) or None,
            "requestContext": {"requestId": "request-of-the-test"},
            "body": b64encode(request.body).decode() if request.body else None,
            "isBase64Encoded": bool(request.body),
        }
        is_picture = template in {route.template for route in PICTURE_ROUTES}
        answer = (pictures if is_picture else client.api).answer(event, 28_000)
        body = b64decode(answer["body"]) if answer["isBase64Encoded"] else answer["body"].encode()
        return Reply(answer["statusCode"], answer["headers"], body)

    with ScriptedServer(reply) as server:
        yield server


@pytest.fixture
def deployment(api):
    found = Deployment("Framegate", token="any", api_url=api.url)
    outputs = {"Auth": "jwt", "DatastoreIds": SERVED, "FrameBucketName": BUCKET}
    # In place of CloudFormation's answer, which the property caches.
    found.stack = {"Outputs": [{"OutputKey": name, "OutputValue": value} for name, value in outputs.items()]}
    return found


@pytest.fixture
def checks_of(deployment, monkeypatch):
    """Returns the API checks for an image set."""
    monkeypatch.setenv("AWS_DISABLE_HOST_PREFIX_INJECTION", "true")
    monkeypatch.setattr(api_checks, "EMULATED", True)
    return lambda image_set_id: api_checks.ApiChecks(deployment, f"{SERVED}/{image_set_id}")


@pytest.fixture
def checks(checks_of, health_imaging):
    """The API checks for an image set with two small frames."""
    frames = health_imaging.add_frames(SERVED, [b"0123456789", b"01234567890"], "image/jph")
    return checks_of(frames[0].image_set_id)


@pytest.fixture
def checks_of_imported(checks_of, add_datasets):
    """The API checks for an image set of two imported instances, which searches find."""
    datasets = [dataset_of("CT_small.dcm") for _ in range(2)]
    study, series = generate_uid(), generate_uid()
    for each in datasets:
        each.StudyInstanceUID, each.SeriesInstanceUID, each.SOPInstanceUID = study, series, generate_uid()
        each.file_meta.MediaStorageSOPInstanceUID = each.SOPInstanceUID
    (image_set,) = add_datasets(*datasets)
    return checks_of(image_set.id)


def test_checks_pass_and_call_every_method_of_every_route(checks_of_imported, api):
    checks = checks_of_imported
    report = Report(Console(soft_wrap=True))
    assert report.check("find", checks.find) is Outcome.PASSED
    every = {**checks.by_name(), **DicomWebChecks(checks).by_name()}
    outcomes = {name: report.check(name, check) for name, check in every.items()}
    assert {name for name, outcome in outcomes.items() if outcome is Outcome.FAILED} == AT_API_GATEWAY
    assert {name for name, outcome in outcomes.items() if outcome is Outcome.SKIPPED} == ONLY_IN_AWS
    called = {(request.method, route_of(request.path)[0]) for request in api.requests}
    assert called == {(method, route.template) for route in ROUTES for method in route.operation_by_method}


def test_line_of_head_has_its_content_length(checks):
    checks.find()
    assert checks.frame_head() == "200 without a body, Content-Length 10 (GET: 10 bytes)"
