"""Under Cognito, the API's function checks the app client and the groups of the caller's token."""

from __future__ import annotations

from dataclasses import replace

import pytest

from framegate.access.caller import CognitoRules, authorize_caller
from framegate.access.principal import Principal
from framegate.problems import ClientNotAccepted, DatastoreNotGranted
from framegate.rest.routes import FRAME_ROUTE
from tests.unit.conftest import SERVED, filled

OTHER = "e" * 32
SOMEBODY = Principal("somebody", "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbCdEfGhI")
ACCESS, IDENTITY = {"token_use": "access", "client_id": "viewer"}, {"token_use": "id", "aud": "viewer"}


def event(claims, datastore_id=SERVED):
    return {"requestContext": {"authorizer": {"claims": claims}}, "pathParameters": {"datastoreId": datastore_id}}


@pytest.mark.parametrize("claims", [ACCESS, IDENTITY])
def test_token_of_an_accepted_client_is_accepted(claims):
    authorize_caller(event(claims), SOMEBODY, "cognito", CognitoRules(("pipeline", "viewer")))


@pytest.mark.parametrize(
    "claims",
    [
        {"token_use": "access", "client_id": "other"},
        {"token_use": "id", "aud": "other"},
        {"token_use": "access", "aud": "viewer"},
        {"token_use": "access", "client_id": "other", "aud": "viewer"},
        {"token_use": "id", "client_id": "viewer"},
        {"token_use": "access", "client_id": "viewer pipeline"},
        {"token_use": "access"},
        {},
    ],
)
def test_token_of_another_client_is_refused(claims):
    with pytest.raises(ClientNotAccepted):
        authorize_caller(event(claims), SOMEBODY, "cognito", CognitoRules(("pipeline", "viewer")))


@pytest.mark.parametrize("rules", [CognitoRules(("viewer",)), CognitoRules(groups_are_datastores=True)])
def test_request_without_claims_is_an_error(rules):
    with pytest.raises(KeyError):
        authorize_caller({"requestContext": {}}, SOMEBODY, "cognito", rules)


@pytest.mark.parametrize(
    "groups",
    [
        SERVED,
        f"staff,{SERVED}",
        f"{SERVED},{OTHER}",
        f"[{SERVED} {OTHER}]",
        f"[{SERVED}]",
        f"staff, {SERVED}",
        [SERVED],
    ],
)
def test_group_with_the_name_of_a_data_store_grants_it(groups):
    authorize_caller(event({"cognito:groups": groups}), SOMEBODY, "cognito", CognitoRules(groups_are_datastores=True))


@pytest.mark.parametrize("groups", [None, "", "[]", OTHER, f"{SERVED}x", f"x-{SERVED}", "*", f"{SERVED}-{OTHER}", []])
def test_other_groups_grant_nothing(groups):
    with pytest.raises(DatastoreNotGranted):
        authorize_caller(
            event({"cognito:groups": groups}), SOMEBODY, "cognito", CognitoRules(groups_are_datastores=True)
        )


def test_groups_are_ignored_unless_configured():
    authorize_caller(event({"cognito:groups": OTHER}), SOMEBODY, "cognito", CognitoRules())


def test_refused_client_answers_401_before_any_call(new_api, settings, health_imaging):
    frame = health_imaging.add_frame(SERVED, b"pixels", "image/jph")
    path = {"datastoreId": frame.datastore_id, "imageSetId": frame.image_set_id, "imageFrameId": frame.image_frame_id}
    api = new_api(settings=replace(settings, auth="cognito", cognito_client_ids=("viewer",)))

    def answer(client_id):
        return api.answer(
            {
                "httpMethod": "GET",
                "resource": FRAME_ROUTE,
                "path": filled(FRAME_ROUTE, path),
                "pathParameters": path,
                "requestContext": {
                    "requestId": "r",
                    "authorizer": {"claims": {"token_use": "access", "client_id": client_id}},
                },
            },
            28_000,
        )

    refused = answer("other")
    assert refused["statusCode"] == 401
    assert "urn:framegate:problem:client-not-accepted" in refused["body"]
    assert refused["headers"]["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    assert not health_imaging.calls
    assert answer("viewer")["statusCode"] == 200
