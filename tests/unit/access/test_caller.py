"""The API's function checks the authorizer's context again: expiry and data stores."""

from __future__ import annotations

import json
import time

import pytest

from framegate.access.caller import authorize_caller, caller_context
from framegate.access.principal import Principal
from framegate.access.tokens import Grant
from framegate.problems import DatastoreNotGranted, TokenExpired
from framegate.rest.routes import FRAME_ROUTE
from framegate.settings import Settings
from tests.unit.conftest import BUCKET, SERVED, filled

OTHER = "e" * 32
SOMEBODY = Principal("somebody", "https://login.example.org")


@pytest.fixture
def api(new_api):
    settings = Settings((SERVED, OTHER), BUCKET, 300, "https://sqs.example/queue", ("*",), "jwt", "secret")
    return new_api(settings=settings)


@pytest.fixture
def frame(health_imaging):
    return health_imaging.add_frame(SERVED, b"pixels", "image/jph")


def event(frame, **context):
    path = {"datastoreId": frame.datastore_id, "imageSetId": frame.image_set_id, "imageFrameId": frame.image_frame_id}
    authorizer = {"authorizer": context} if context else {}
    return {
        "httpMethod": "GET",
        "resource": FRAME_ROUTE,
        "path": filled(FRAME_ROUTE, path),
        "pathParameters": path,
        "requestContext": {"requestId": "request-of-the-test", **authorizer},
    }


def said(expires_in=60, datastore_ids=None, **listed):
    """The context that the authorizer returns for a caller."""
    grant = Grant(int(time.time()) + expires_in, None, SOMEBODY, **listed)
    return caller_context(grant, datastore_ids)


def test_token_without_a_data_store_list_reads_every_data_store(api, frame):
    assert api.answer(event(frame, **said()), 28_000)["statusCode"] == 200


def test_token_reads_the_listed_data_stores(api, frame):
    assert api.answer(event(frame, **said(datastore_ids=[OTHER, SERVED])), 28_000)["statusCode"] == 200


@pytest.mark.parametrize("listed", [[OTHER], []])
def test_unlisted_data_store_answers_403(api, frame, listed):
    answer = api.answer(event(frame, **said(datastore_ids=listed)), 28_000)
    assert (answer["statusCode"], slug(answer)) == (403, "datastore-not-granted")


@pytest.mark.parametrize("expired_for", [0, 3600])
def test_token_that_expired_after_the_authorizers_check_answers_401(api, frame, health_imaging, expired_for):
    answer = api.answer(event(frame, **said(-expired_for)), 28_000)
    assert (answer["statusCode"], slug(answer)) == (401, "token-expired")
    assert answer["headers"]["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    assert answer["headers"]["Access-Control-Allow-Origin"] == "*"
    assert not health_imaging.calls


def test_expiry_is_checked_before_the_data_store():
    with pytest.raises(TokenExpired):
        authorize_caller(
            {"requestContext": {"authorizer": said(-1, [])}, "pathParameters": {"datastoreId": SERVED}}, SOMEBODY, "jwt"
        )


@pytest.mark.parametrize(
    "context", [{}, {"expiresAt": "9999999999"}, {"datastores": "*"}, {"expiresAt": "never", "datastores": "*"}]
)
def test_request_without_authorizer_context_answers_500(api, frame, context):
    answer = api.answer(event(frame, **context), 28_000)
    assert (answer["statusCode"], slug(answer)) == (500, "internal-error")


def test_unknown_path_answers_404_whatever_the_token_lists(api):
    unknown = {"requestContext": {"requestId": "r", "authorizer": said(datastore_ids=[OTHER])}}
    answer = api.answer({"httpMethod": "GET", "resource": "/{proxy+}", "path": "/nothing", **unknown}, 28_000)
    assert answer["statusCode"] == 404


@pytest.mark.parametrize("listed", ["", f"{SERVED[:-1]}", f"{SERVED}x"])
def test_listed_data_store_must_match_exactly(listed):
    with pytest.raises(DatastoreNotGranted):
        authorize_caller(
            {"requestContext": {"authorizer": said(datastore_ids=[listed])}, "pathParameters": {"datastoreId": SERVED}},
            SOMEBODY,
            "jwt",
        )


@pytest.mark.parametrize("auth", ["iam", "cognito"])
def test_callers_of_iam_and_cognito_are_not_checked_again(auth):
    authorize_caller({"requestContext": {"authorizer": {"claims": {"sub": "somebody"}}}}, SOMEBODY, auth)
    authorize_caller({"requestContext": {}}, SOMEBODY, auth)


def slug(answer):
    document = json.loads(answer["body"])
    assert answer["headers"]["Content-Type"] == "application/problem+json"
    assert document["status"] == answer["statusCode"]
    return document["type"].removeprefix("urn:framegate:problem:")
