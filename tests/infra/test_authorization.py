"""Authorization: every mode authorizes all methods except preflights."""

from __future__ import annotations

import json
import re

import pytest

from infra.api.authorization import TOKEN_FORM
from tests.infra.cloudformation import function, logical_id, only, properties, role, statements, text
from tests.infra.project import ACCESS, AUTH, DATASTORE_A, DATASTORE_B, DECISION_FUNCTION, USER_POOL

TYPES = {"iam": "AWS_IAM", "cognito": "COGNITO_USER_POOLS", "jwt": "CUSTOM"}


def methods(template):
    return list(properties(template, "AWS::ApiGateway::Method").values())


def gateway_response(template, response_type):
    responses = properties(template, "AWS::ApiGateway::GatewayResponse").values()
    (found,) = (each for each in responses if each["ResponseType"] == response_type)
    return found


@pytest.fixture(scope="module")
def jwt(synthesize):
    return synthesize(**AUTH["jwt"])


@pytest.mark.parametrize("keys", ACCESS.values(), ids=ACCESS)
def test_every_method_except_preflights_uses_the_configured_authorization(synthesize, keys):
    template = synthesize(**keys)
    mode = keys.get("auth", "iam")
    authorizers = [f"${{{name}}}" for name in properties(template, "AWS::ApiGateway::Authorizer")]

    assert len(authorizers) == (0 if mode == "iam" else 1)
    assert {each["HttpMethod"] for each in methods(template)} == {"GET", "HEAD", "POST", "ANY", "OPTIONS"}
    for each in methods(template):
        if each["HttpMethod"] == "OPTIONS":
            assert each["AuthorizationType"] == "NONE"
            assert each["Integration"]["Type"] == "MOCK"
            assert "AuthorizationScopes" not in each
        else:
            assert each["AuthorizationType"] == TYPES[mode]
            named = [text(each["AuthorizerId"])] if "AuthorizerId" in each else []
            assert named == authorizers


@pytest.mark.parametrize("keys", AUTH.values(), ids=AUTH)
def test_api_function_gets_the_authorization_mode(synthesize, keys):
    variables = function(synthesize(**keys), "api")["Environment"]["Variables"]

    assert variables["FRAMEGATE_AUTH"] == keys.get("auth", "iam")


# Cognito


def test_cognito_authorizer_uses_the_configured_user_pool_without_a_cache(synthesize):
    authorizer = only(properties(synthesize(**AUTH["cognito"]), "AWS::ApiGateway::Authorizer"))

    assert authorizer["Type"] == "COGNITO_USER_POOLS"
    assert authorizer["ProviderARNs"] == [USER_POOL]
    assert authorizer["IdentitySource"] == "method.request.header.Authorization"
    assert authorizer["AuthorizerResultTtlInSeconds"] == 0


@pytest.mark.parametrize(
    ("name", "scopes"), [("cognito", None), ("cognito with scopes", ["frames/read", "frames/all"])]
)
def test_configured_scopes_are_required(synthesize, name, scopes):
    guarded = [each for each in methods(synthesize(**AUTH[name])) if each["HttpMethod"] != "OPTIONS"]

    assert [each.get("AuthorizationScopes") for each in guarded] == [scopes] * len(guarded)


def test_api_function_gets_the_clients_and_the_use_of_groups(synthesize):
    variables = function(synthesize(**AUTH["cognito"]), "api")["Environment"]["Variables"]

    assert variables["FRAMEGATE_COGNITO_CLIENT_IDS"] == "1example23456789,2example23456789"
    assert variables["FRAMEGATE_COGNITO_GROUPS_ARE_DATASTORES"] == "true"


# The decision function


def test_api_function_may_invoke_the_decision_function_alone(synthesize):
    template = synthesize(**AUTH["cognito"])
    found = function(template, "api")
    statement = statements(role(template, found["Role"]))["AskDecisionFunction"]

    assert found["Environment"]["Variables"]["FRAMEGATE_AUTHORIZATION_FUNCTION_ARN"] == DECISION_FUNCTION
    assert found["Environment"]["Variables"]["FRAMEGATE_AUTHORIZATION_CACHE_SECONDS"] == "60"
    assert (statement["Effect"], statement["Action"]) == ("Allow", "lambda:InvokeFunction")
    assert statement["Resource"] == DECISION_FUNCTION


def test_only_the_functions_that_check_access_may_invoke_the_decision_function(synthesize):
    template = synthesize(**AUTH["cognito"])
    roles = {name: json.dumps(each) for name, each in properties(template, "AWS::IAM::Role").items()}
    allowed = sorted(name for name, role in roles.items() if DECISION_FUNCTION in role)

    assert [re.sub(r"Role[0-9A-F]{8}$", "", name) for name in allowed] == ["ApiFunction", "RenderFunction"]


# JWT


def test_token_authorizer_calls_the_alias(jwt):
    authorizer = only(properties(jwt, "AWS::ApiGateway::Authorizer"))
    (alias,) = (name for name in properties(jwt, "AWS::Lambda::Alias") if name.startswith("Authorizer"))

    assert authorizer["Type"] == "TOKEN"
    assert authorizer["IdentitySource"] == "method.request.header.Authorization"
    assert authorizer["AuthorizerResultTtlInSeconds"] == 300
    assert f"/functions/${{{alias}}}/invocations" in text(authorizer["AuthorizerUri"])


@pytest.mark.parametrize("token", ["Bearer e30.e30.AA-_", "bearer e30.e30.", "BEARER  a.b.c"])
def test_bearer_tokens_of_three_parts_reach_the_authorizer(token):
    assert re.fullmatch(TOKEN_FORM, token)


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "e30.e30.AA", "Basic e30.e30.AA", "Bearer a.b", "Bearer a.b.c.d.e", "Bearer a.b.c,"],
)
def test_other_headers_do_not_reach_the_authorizer(header):
    assert not re.fullmatch(TOKEN_FORM, header)


def test_only_the_authorizer_may_invoke_the_alias_of_its_function(jwt):
    ((_, permission),) = (
        (name, each)
        for name, each in properties(jwt, "AWS::Lambda::Permission").items()
        if name.startswith("AuthorizerFunction")
    )
    (alias,) = (name for name in properties(jwt, "AWS::Lambda::Alias") if name.startswith("Authorizer"))
    (api,) = properties(jwt, "AWS::ApiGateway::RestApi")
    (authorizer,) = properties(jwt, "AWS::ApiGateway::Authorizer")

    assert permission["Principal"] == "apigateway.amazonaws.com"
    assert text(permission["FunctionName"]) == f"${{{alias}}}"
    assert text(permission["SourceArn"]) == (
        "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:"
        f"${{{api}}}/authorizers/${{{authorizer}}}"
    )


def test_authorizer_gets_its_settings(jwt):
    assert function(jwt, "authorizer")["Environment"]["Variables"] == {
        "FRAMEGATE_DATASTORE_IDS": f"{DATASTORE_A},{DATASTORE_B}",
        "FRAMEGATE_JWT_ISSUER": "https://login.example.org/realms/imaging",
        "FRAMEGATE_JWT_AUDIENCE": "framegate,https://frames.example.org",
        "FRAMEGATE_JWT_DATASTORES_CLAIM": "https://example.org/datastores",
        "FRAMEGATE_AUDIT_CLAIM": "sub",
        "FRAMEGATE_JWT_IMAGE_SETS_CLAIM": "https://example.org/image-sets",
        "FRAMEGATE_JWT_STUDIES_CLAIM": "https://example.org/studies",
        "FRAMEGATE_JWT_MAX_LIFETIME_SECONDS": "3600",
        "POWERTOOLS_LOG_LEVEL": "INFO",
        "POWERTOOLS_SERVICE_NAME": "Framegate",
    }


def test_authorizer_starts_from_a_snapshot_with_a_layer_of_its_own(jwt):
    found = function(jwt, "authorizer")
    layers = [logical_id(each) for each in found["Layers"]]
    others = [
        logical_id(layer)
        for each in properties(jwt, "AWS::Lambda::Function").values()
        if each["Handler"] != found["Handler"]
        for layer in each.get("Layers", [])
    ]

    assert found["SnapStart"] == {"ApplyOn": "PublishedVersions"}
    assert len(layers) == 1
    assert layers[0] not in others
    assert properties(jwt, "AWS::Lambda::LayerVersion")[layers[0]]["CompatibleArchitectures"] == found["Architectures"]


def test_authorizer_timeout_is_below_that_of_api_gateway(jwt):
    assert function(jwt, "authorizer")["Timeout"] == 10


def test_authorizer_may_only_log_and_trace(jwt):
    found = function(jwt, "authorizer")
    allowed = statements(role(jwt, found["Role"]))
    group = logical_id(found["LoggingConfig"]["LogGroup"])

    assert set(allowed) == {"WriteLogs", "WriteTraces"}
    assert sorted(allowed["WriteLogs"]["Action"]) == ["logs:CreateLogStream", "logs:PutLogEvents"]
    assert text(allowed["WriteLogs"]["Resource"]) == f"${{{group}.Arn}}"
    assert sorted(allowed["WriteTraces"]["Action"]) == ["xray:PutTelemetryRecords", "xray:PutTraceSegments"]


def test_other_authorization_modes_have_no_authorizer_function_and_no_layer_for_it(template, synthesize):
    for each in (template, synthesize(**AUTH["cognito"])):
        for resource_type in ("AWS::Lambda::Function", "AWS::Lambda::LayerVersion"):
            assert not [name for name in properties(each, resource_type) if "Authorizer" in name]


# Rejected requests


@pytest.mark.parametrize("name", ["cognito", "jwt"])
def test_refused_token_gets_401_with_www_authenticate(synthesize, name):
    response = gateway_response(synthesize(**AUTH[name]), "UNAUTHORIZED")
    document = json.loads(response["ResponseTemplates"]["application/json"])

    assert response["StatusCode"] == "401"
    assert response["ResponseParameters"]["gatewayresponse.header.WWW-Authenticate"] == "'Bearer'"
    assert "Bearer in the header Authorization" in document["detail"]


def test_iam_responses_have_no_www_authenticate(template):
    assert "WWW-Authenticate" not in json.dumps(list(properties(template, "AWS::ApiGateway::GatewayResponse").values()))


@pytest.mark.parametrize("name", ["cognito", "jwt"])
def test_token_modes_do_not_mention_signatures(synthesize, name):
    for response_type in ("ACCESS_DENIED", "MISSING_AUTHENTICATION_TOKEN", "UNAUTHORIZED"):
        response = gateway_response(synthesize(**AUTH[name]), response_type)
        assert not re.search(
            "sign|execute-api", json.loads(response["ResponseTemplates"]["application/json"])["detail"]
        )


@pytest.mark.parametrize("name", AUTH)
def test_refusals_allow_cross_origin_access_in_every_mode(synthesize, name):
    for response in properties(synthesize(**AUTH[name]), "AWS::ApiGateway::GatewayResponse").values():
        assert response["ResponseParameters"]["gatewayresponse.header.Access-Control-Allow-Origin"] == "'*'"
