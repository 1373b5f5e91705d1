"""The second look at what the authorizer said of a caller."""

from __future__ import annotations

import json
import time

import pytest

from framegate.access.caller import admit, caller_context
from framegate.problems import DatastoreNotGranted, TokenExpired
from framegate.rest.frame_api import FrameApi
from framegate.rest.routes import FRAME_ROUTE
from framegate.settings import Settings
from tests.unit.conftest import BUCKET, SERVED

OTHER = "e" * 32


@pytest.fixture
def api(frame_delivery, frame_index):
    settings = Settings((SERVED, OTHER), BUCKET, 300, "https://sqs.example/queue", ("*",), "jwt")
    return FrameApi(settings, frame_delivery, frame_index)


@pytest.fixture
def frame(health_imaging):
    return health_imaging.add_frame(SERVED, b"pixels", "image/jph")


def event(frame, **context):
    path = {"datastoreId": frame.datastore_id, "imageSetId": frame.image_set_id, "imageFrameId": frame.image_frame_id}
    authorizer = {"authorizer": context} if context else {}
    return {
        "httpMethod": "GET",
        "resource": FRAME_ROUTE,
        "pathParameters": path,
        "requestContext": {"requestId": "request-of-the-test", **authorizer},
    }


def said(expires_in=60, datastore_ids=None):
    """What the authorizer says of a caller."""
    return caller_context(int(time.time()) + expires_in, datastore_ids)


def test_holder_of_a_token_that_lists_no_data_stores_reads_all(api, frame):
    assert api.answer(event(frame, **said()), 28_000)["statusCode"] == 200


def test_holder_reads_the_data_stores_that_the_token_lists(api, frame):
    assert api.answer(event(frame, **said(datastore_ids=[OTHER, SERVED])), 28_000)["statusCode"] == 200


@pytest.mark.parametrize("listed", [[OTHER], []])
def test_data_store_that_the_token_does_not_list_is_403(api, frame, listed):
    answer = api.answer(event(frame, **said(datastore_ids=listed)), 28_000)
    assert (answer["statusCode"], slug(answer)) == (403, "datastore-not-granted")


@pytest.mark.parametrize("expired_for", [0, 3600])
def test_token_that_ended_after_it_was_let_in_is_401(api, frame, health_imaging, expired_for):
    answer = api.answer(event(frame, **said(-expired_for)), 28_000)
    assert (answer["statusCode"], slug(answer)) == (401, "token-expired")
    assert answer["headers"]["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    assert answer["headers"]["Access-Control-Allow-Origin"] == "*"
    assert not health_imaging.calls


def test_end_of_the_token_counts_before_its_data_stores():
    with pytest.raises(TokenExpired):
        admit({"requestContext": {"authorizer": said(-1, [])}, "pathParameters": {"datastoreId": SERVED}}, "jwt")


@pytest.mark.parametrize(
    "context", [{}, {"expiresAt": "9999999999"}, {"datastores": "*"}, {"expiresAt": "never", "datastores": "*"}]
)
def test_request_that_the_authorizer_was_not_asked_about_is_not_answered(api, frame, context):
    answer = api.answer(event(frame, **context), 28_000)
    assert (answer["statusCode"], slug(answer)) == (500, "internal-error")


def test_path_without_a_data_store_is_nobodys(api):
    unknown = {"requestContext": {"requestId": "r", "authorizer": said(datastore_ids=[OTHER])}}
    answer = api.answer({"httpMethod": "GET", "resource": "/{proxy+}", **unknown}, 28_000)
    assert answer["statusCode"] == 404


@pytest.mark.parametrize("listed", ["", f"{SERVED[:-1]}", f"{SERVED}x"])
def test_data_store_is_listed_whole_or_not_at_all(listed):
    with pytest.raises(DatastoreNotGranted):
        admit(
            {"requestContext": {"authorizer": said(datastore_ids=[listed])}, "pathParameters": {"datastoreId": SERVED}},
            "jwt",
        )


@pytest.mark.parametrize("auth", ["iam", "cognito"])
def test_what_iam_and_cognito_let_in_is_let_in(auth):
    admit({"requestContext": {"authorizer": {"claims": {"sub": "somebody"}}}}, auth)
    admit({"requestContext": {}}, auth)


def slug(answer):
    document = json.loads(answer["body"])
    assert answer["headers"]["Content-Type"] == "application/problem+json"
    assert document["status"] == answer["statusCode"]
    return document["type"].removeprefix("urn:framegate:problem:")
