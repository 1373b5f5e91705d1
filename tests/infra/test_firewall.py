"""AWS WAF in front of the API: its rules, their exceptions, and its log."""

from __future__ import annotations

import json

import pytest

from framegate.problems import Throttled
from tests.infra.cloudformation import only, properties, text
from tests.infra.project import AUTH

# Rules of the common rule set that count matching requests instead of blocking them.
COUNTED = {
    "NoUserAgent_HEADER",
    "SizeRestrictions_QUERYSTRING",
    "SizeRestrictions_Cookie_HEADER",
    "CrossSiteScripting_COOKIE",
    "EC2MetaDataSSRF_COOKIE",
}


@pytest.fixture(scope="module")
def template(synthesize):
    return synthesize(waf="true")


@pytest.fixture(scope="module")
def acl(template):
    return only(properties(template, "AWS::WAFv2::WebACL"))


@pytest.fixture(scope="module")
def rules(acl):
    return {rule["Name"]: rule for rule in acl["Rules"]}


@pytest.fixture(scope="module")
def logging(template):
    return only(properties(template, "AWS::WAFv2::LoggingConfiguration"))


def test_default_stack_has_no_firewall(synthesize):
    assert not [each for each in synthesize().to_json()["Resources"].values() if "WAF" in each["Type"]]


def test_web_acl_is_associated_with_the_stage(template):
    association = only(properties(template, "AWS::WAFv2::WebACLAssociation"))
    (acl,) = properties(template, "AWS::WAFv2::WebACL")
    (api,) = properties(template, "AWS::ApiGateway::RestApi")
    (stage,) = properties(template, "AWS::ApiGateway::Stage")

    assert text(association["WebACLArn"]) == f"${{{acl}.Arn}}"
    assert text(association["ResourceArn"]) == (
        f"arn:${{AWS::Partition}}:apigateway:${{AWS::Region}}::/restapis/${{{api}}}/stages/${{{stage}}}"
    )


def test_web_acl_allows_requests_that_no_rule_blocks(acl):
    assert acl["Scope"] == "REGIONAL"
    assert acl["DefaultAction"] == {"Allow": {}}


def test_web_acl_has_a_rate_limit_and_two_managed_rule_groups(rules):
    assert list(rules) == ["RateLimit", "AWSManagedRulesKnownBadInputsRuleSet", "AWSManagedRulesCommonRuleSet"]
    assert [rule["Priority"] for rule in rules.values()] == [0, 1, 2]


def test_managed_rules_block_except_those_that_valid_requests_match(rules):
    groups = {name: rule for name, rule in rules.items() if name.startswith("AWS")}
    counted = {}
    for name, rule in groups.items():
        group = rule["Statement"]["ManagedRuleGroupStatement"]
        assert (group["VendorName"], group["Name"], rule["OverrideAction"]) == ("AWS", name, {"None": {}})
        counted[name] = {
            each["Name"] for each in group.get("RuleActionOverrides", []) if each["ActionToUse"] == {"Count": {}}
        }

    assert counted == {"AWSManagedRulesKnownBadInputsRuleSet": set(), "AWSManagedRulesCommonRuleSet": COUNTED}


@pytest.mark.parametrize(("keys", "limit"), [({}, 20_000), ({"waf_rate_limit": "500"}, 500)])
def test_address_above_the_rate_limit_is_blocked(synthesize, keys, limit):
    rule = only(properties(synthesize(waf="true", **keys), "AWS::WAFv2::WebACL"))["Rules"][0]
    rate = rule["Statement"]["RateBasedStatement"]

    assert rule["Action"] == {"Block": {}}
    assert (rate["Limit"], rate["EvaluationWindowSec"]) == (limit, 300)


def test_rate_limit_counts_preflights_separately(rules):
    rate = rules["RateLimit"]["Statement"]["RateBasedStatement"]

    assert rate["AggregateKeyType"] == "CUSTOM_KEYS"
    assert rate["CustomKeys"] == [{"IP": {}}, {"HTTPMethod": {}}]


def test_web_acl_writes_metrics_and_keeps_no_sampled_requests(acl, rules):
    for each in (acl, *rules.values()):
        visibility = each["VisibilityConfig"]
        assert visibility["CloudWatchMetricsEnabled"] is True
        assert visibility["SampledRequestsEnabled"] is False


def test_web_acl_metric_names_have_at_most_128_characters(synthesize):
    acl = only(properties(synthesize(waf="true", stack_name="F" * 128), "AWS::WAFv2::WebACL"))
    names = [each["VisibilityConfig"]["MetricName"] for each in (acl, *acl["Rules"])]

    assert len(set(names)) == 4
    assert max(map(len, names)) <= 128


def test_web_acl_log_redacts_tokens_query_and_path(logging):
    assert logging["RedactedFields"] == [
        {"SingleHeader": {"Name": "authorization"}},
        {"SingleHeader": {"Name": "x-amz-security-token"}},
        {"SingleHeader": {"Name": "cookie"}},
        {"QueryString": {}},
        {"UriPath": {}},
    ]


def test_web_acl_log_keeps_only_matched_requests(logging):
    assert logging["LoggingFilter"]["DefaultBehavior"] == "DROP"
    (kept,) = logging["LoggingFilter"]["Filters"]
    assert (kept["Behavior"], kept["Requirement"]) == ("KEEP", "MEETS_ANY")
    assert kept["Conditions"] == [{"ActionCondition": {"Action": "BLOCK"}}, {"ActionCondition": {"Action": "COUNT"}}]


def test_web_acl_log_group_has_the_name_prefix_of_waf_and_the_configured_retention(synthesize):
    template = synthesize(waf="true", log_retention_days="90")
    ((group, found),) = (
        (name, each) for name, each in properties(template, "AWS::Logs::LogGroup").items() if "Firewall" in name
    )
    (destination,) = only(properties(template, "AWS::WAFv2::LoggingConfiguration"))["LogDestinationConfigs"]

    assert text(found["LogGroupName"]).startswith("aws-waf-logs-Framegate-")
    assert found["RetentionInDays"] == 90
    assert text(destination).endswith(f":log-group:${{{group}}}")


# The rate limit of a token

TOKENS = ["cognito", "cognito with scopes", "jwt"]


def token_rule(template):
    acl = only(properties(template, "AWS::WAFv2::WebACL"))
    (rule,) = (each for each in acl["Rules"] if each["Name"] == "TokenRateLimit")
    return rule, acl


@pytest.mark.parametrize("auth", TOKENS)
@pytest.mark.parametrize(("keys", "limit"), [({}, 10_000), ({"waf_token_rate_limit": "100"}, 100)])
def test_each_token_has_a_rate_limit(synthesize, auth, keys, limit):
    rule, _ = token_rule(synthesize(waf="true", **keys, **AUTH[auth]))
    rate = rule["Statement"]["RateBasedStatement"]

    assert (rate["Limit"], rate["EvaluationWindowSec"], rate["AggregateKeyType"]) == (limit, 300, "CUSTOM_KEYS")
    (key,) = rate["CustomKeys"]
    assert key["Header"]["Name"] == "authorization"


def test_spelling_of_bearer_does_not_start_another_count_and_tokens_are_not_logged(synthesize):
    rule, _ = token_rule(synthesize(waf="true", **AUTH["jwt"]))
    (key,) = rule["Statement"]["RateBasedStatement"]["CustomKeys"]
    transformations = sorted(key["Header"]["TextTransformations"], key=lambda each: each["Priority"])

    # WAF logs the beginning of the aggregation key, so the last transformation hashes it.
    assert [each["Type"] for each in transformations] == ["COMPRESS_WHITE_SPACE", "LOWERCASE", "MD5"]


@pytest.mark.parametrize(
    ("keys", "origin"),
    [
        ({}, "*"),
        ({"cors_origins": "https://a.example.org"}, "https://a.example.org"),
        ({"cors_origins": "https://a.example.org,https://b.example.org"}, "*"),
    ],
)
def test_token_above_its_limit_gets_429_as_a_problem_that_pages_can_read(synthesize, keys, origin):
    rule, acl = token_rule(synthesize(waf="true", **keys, **AUTH["jwt"]))
    response = rule["Action"]["Block"]["CustomResponse"]
    body = acl["CustomResponseBodies"][response["CustomResponseBodyKey"]]
    problem = json.loads(body["Content"])

    assert response["ResponseCode"] == problem["status"] == 429
    assert (problem["type"], problem["title"]) == ("urn:framegate:problem:throttled", Throttled.title)
    assert "token" in problem["detail"]
    # WAF accepts three media types, and no Content-Type among the headers.
    assert body["ContentType"] == "APPLICATION_JSON"
    assert {each["Name"]: each["Value"] for each in response["ResponseHeaders"]} == {
        "Retry-After": "60",
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Expose-Headers": "Retry-After",
    }


def test_signed_requests_have_no_token_rule(acl):
    assert "TokenRateLimit" not in {each["Name"] for each in acl["Rules"]}
    assert "CustomResponseBodies" not in acl
