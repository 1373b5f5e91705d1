"""The authorizer as API Gateway calls it: what it returns, raises and logs."""

from __future__ import annotations

import json
import re

import pytest

from framegate.entrypoints import authorizer
from framegate.entrypoints.authorizer import AuthorizerError, UnauthorizedError, lambda_handler
from local.token_issuer import KEY_SET, SigningKey

A, B, NOT_SERVED = "a" * 32, "b" * 32, "c" * 32
STAGE = "arn:aws:execute-api:eu-west-1:123456789012:abcdef1234/v1"
ARN = f"{STAGE}/GET/datastore/{A}/imageSet/{A}/imageFrame/{A}"


@pytest.fixture
def key(issuer):
    return issuer.new_key("RS256", "first")


@pytest.fixture
def configured(issuer, monkeypatch):
    """Sets the function's environment and makes the function read it again."""

    def configure(**changed):
        environment = {
            "FRAMEGATE_DATASTORE_IDS": f"{A},{B}",
            "FRAMEGATE_JWT_ISSUER": issuer.url,
            "FRAMEGATE_JWT_AUDIENCE": "framegate",
            "FRAMEGATE_JWT_DATASTORES_CLAIM": "",
            "FRAMEGATE_AUDIT_CLAIM": "sub",
            "FRAMEGATE_JWT_IMAGE_SETS_CLAIM": "",
            "FRAMEGATE_JWT_STUDIES_CLAIM": "",
            "FRAMEGATE_JWT_MAX_LIFETIME_SECONDS": "",
            **changed,
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        for cached in (authorizer._settings, authorizer._checker):
            cached.cache_clear()

    configure()
    yield configure
    for cached in (authorizer._settings, authorizer._checker):
        cached.cache_clear()


@pytest.fixture
def ask(configured):
    """Calls the authorizer with a token, as API Gateway does."""
    return lambda token, scheme="Bearer ": lambda_handler(
        {"type": "TOKEN", "authorizationToken": f"{scheme}{token}", "methodArn": ARN}, None
    )


@pytest.mark.parametrize("changed", [{"methodArn": None}, {"methodArn": 7}, {"authorizationToken": None}])
def test_malformed_event_is_refused(issuer, key, configured, log_lines, changed):
    event = {"type": "TOKEN", "authorizationToken": f"Bearer {key.sign(issuer.claims())}", "methodArn": ARN, **changed}
    with pytest.raises((AuthorizerError, UnauthorizedError)):
        lambda_handler(event, None)
    assert log_lines()[-1]["message"] in ("token not checked", "token refused")


def statement(answer):
    (found,) = answer["policyDocument"]["Statement"]
    assert (found["Action"], answer["policyDocument"]["Version"]) == ("execute-api:Invoke", "2012-10-17")
    return found["Effect"], found["Resource"]


def test_valid_token_allows_the_stage_of_this_api_only(issuer, key, ask):
    assert statement(ask(key.sign(issuer.claims()))) == ("Allow", [f"{STAGE}/*"])


def test_context_has_the_expiry_and_the_data_stores(issuer, key, ask):
    claims = issuer.claims()
    assert ask(key.sign(claims))["context"] == {
        "expiresAt": str(claims["exp"] + 30),
        "datastores": "*",
        "principal": "somebody",
        "issuer": issuer.url,
    }


def test_policy_allows_the_listed_data_stores_that_are_served(issuer, key, configured, ask):
    configured(FRAMEGATE_JWT_DATASTORES_CLAIM="datastores")
    answer = ask(key.sign(issuer.claims(datastores=[B, A, NOT_SERVED])))
    assert statement(answer) == (
        "Allow",
        [f"{STAGE}/{method}/datastore/{each}/*" for each in (A, B) for method in ("GET", "HEAD", "POST")],
    )
    assert answer["context"]["datastores"] == f"{A} {B}"


@pytest.mark.parametrize("claim", [None, [], "", [NOT_SERVED]])
def test_claim_without_a_served_data_store_denies_the_stage(issuer, key, configured, ask, claim):
    configured(FRAMEGATE_JWT_DATASTORES_CLAIM="datastores")
    assert statement(ask(key.sign(issuer.claims(datastores=claim)))) == ("Deny", [f"{STAGE}/*"])


def test_only_the_context_identifies_the_caller_and_only_by_the_audit_claim(issuer, key, ask):
    answer = ask(key.sign(issuer.claims(sub="Mueller^Hans", email="hans@example.org")))
    context = answer.pop("context")
    assert (context["principal"], context["issuer"]) == ("Mueller^Hans", issuer.url)
    assert "Mueller" not in json.dumps(answer)
    assert "hans" not in json.dumps([answer, context])


def test_configured_claim_names_the_caller(issuer, key, configured, ask):
    configured(FRAMEGATE_AUDIT_CLAIM="email")
    context = ask(key.sign(issuer.claims(sub="4d2", email='jörg"\n@example.org')))["context"]
    assert context["principal"] == "j%C3%B6rg%22%0A@example.org"


def test_context_lists_image_sets_and_studies_if_their_claims_are_configured(issuer, key, configured, ask):
    configured(FRAMEGATE_JWT_IMAGE_SETS_CLAIM="imageSets", FRAMEGATE_JWT_STUDIES_CLAIM="studies")
    context = ask(key.sign(issuer.claims(imageSets=[B, A], studies="1.2.3 1.2")))["context"]
    assert (context["imageSets"], context["studies"]) == (f"{A} {B}", "1.2 1.2.3")
    context = ask(key.sign(issuer.claims()))["context"]
    assert (context["imageSets"], context["studies"]) == ("", "")


def test_longest_lifetime_is_configured(issuer, key, configured, ask):
    configured(FRAMEGATE_JWT_MAX_LIFETIME_SECONDS="300")
    with pytest.raises(UnauthorizedError):
        ask(key.sign(issuer.claims()))


def matches(pattern, arn):
    """Whether an ARN matches a pattern in a policy, where `*` stands for any characters, slashes included."""
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), arn, re.DOTALL) is not None


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        (f"GET/datastore/{A}/imageSet/{B}/imageFrames", True),
        (f"POST/datastore/{A}/imageSet/{B}/getImageFrame", True),
        (f"HEAD/datastore/{A}/imageSet/{B}/imageFrames", True),
        (f"GET/datastore/{B}/imageSet/datastore/{A}/imageFrames", False),
        (f"GET/x/datastore/{A}/imageSet/{B}/imageFrames", False),
        (f"GET//datastore/{A}/imageSet/{B}/imageFrames", False),
        (f"GET/datastore/{B}/imageSet/{B}/imageFrame/datastore/{A}/x", False),
        (f"DELETE/datastore/{A}/imageSet/{B}/imageFrames", False),
    ],
)
def test_policy_matches_a_data_store_only_at_the_start_of_the_path(issuer, key, configured, ask, path, allowed):
    configured(FRAMEGATE_JWT_DATASTORES_CLAIM="datastores")
    _, resources = statement(ask(key.sign(issuer.claims(datastores=[A]))))
    assert any(matches(resource, f"{STAGE}/{path}") for resource in resources) is allowed


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER  "])
def test_scheme_bearer_ignores_case(issuer, key, ask, scheme):
    ask(key.sign(issuer.claims()), scheme)


@pytest.mark.parametrize("scheme", ["", "Basic ", "AWS4-HMAC-SHA256 ", "Bearer", "Bearer\t"])
def test_other_scheme_is_refused(issuer, key, ask, scheme):
    with pytest.raises(UnauthorizedError):
        ask(key.sign(issuer.claims()), scheme)


@pytest.mark.parametrize("event", [{}, {"authorizationToken": None}, {"authorizationToken": ["Bearer x"]}])
def test_event_without_a_token_is_refused(configured, event):
    with pytest.raises(UnauthorizedError):
        lambda_handler(event, None)


def test_refusal_has_the_only_message_that_api_gateway_turns_into_401(issuer, key, ask):
    with pytest.raises(UnauthorizedError) as refused:
        ask(SigningKey("RS256", "first").sign(issuer.claims()))
    assert str(refused.value) == "Unauthorized"
    assert refused.value.__suppress_context__


def test_unreachable_issuer_is_an_error_rather_than_a_refusal(issuer, key, ask, log_lines):
    issuer.answers[KEY_SET] = 503, {}, b""
    with pytest.raises(AuthorizerError) as error:
        ask(key.sign(issuer.claims()))
    assert str(error.value) == "status-503"
    (line,) = log_lines()
    assert (line["level"], line["message"], line["reason"]) == ("ERROR", "token not checked", "status-503")


def test_internal_error_refuses_the_caller_and_its_message_is_not_logged(
    issuer, key, configured, monkeypatch, log_lines
):
    monkeypatch.delenv("FRAMEGATE_JWT_AUDIENCE")
    with pytest.raises(AuthorizerError):
        lambda_handler({"authorizationToken": f"Bearer {key.sign(issuer.claims())}", "methodArn": ARN}, None)
    (line,) = log_lines()
    assert (line["error"], "from_environment" in line["stack"]) == ("KeyError", True)


def test_log_has_outcome_and_reason_but_nothing_of_the_token(issuer, key, ask, log_lines):
    claims = issuer.claims(sub="Mueller^Hans", jti="0000-1111")
    good, late = key.sign(claims), key.sign({**claims, "exp": 1})
    ask(good)
    with pytest.raises(UnauthorizedError):
        ask(late)
    lines = log_lines()
    assert [(line["message"], line.get("reason")) for line in lines] == [
        ("token accepted", None),
        ("token refused", "expired"),
    ]
    written = json.dumps(lines)
    for part in (*good.split("."), *late.split("."), "Mueller", "0000-1111", "first"):
        assert part not in written
