"""The REST API: routes, authorization, CORS, gateway responses, throttling and access logs."""

from __future__ import annotations

import json
import re

import pytest

from framegate.rest.routes import (
    FRAME_ROUTE,
    GET_IMAGE_FRAME_ROUTE,
    INDEX_ROUTE,
    INSTANCE_METADATA_ROUTE,
    PICTURE_ROUTES,
    ROUTES,
    SEARCH_ROUTES,
    SERIES_METADATA_ROUTE,
    STUDY_METADATA_ROUTE,
)
from infra.api.rest_api import CORS_REQUEST_HEADERS
from tests.infra.cloudformation import logical_id, only, properties, text
from tests.infra.project import PROJECT

TWO_ORIGINS = {"cors_origins": "https://a.example.org,https://b.example.org"}


def methods(template):
    """Return the properties of every method, by path and HTTP method."""
    paths = {}
    parts = properties(template, "AWS::ApiGateway::Resource")
    for name in parts:
        path, each = "", parts[name]
        while each:
            path = f"/{each['PathPart']}{path}"
            each = parts.get(text(each["ParentId"])[2:-1])
        paths[f"${{{name}}}"] = path
    return {
        (paths.get(text(each["ResourceId"]), "/"), each["HttpMethod"]): each
        for each in properties(template, "AWS::ApiGateway::Method").values()
    }


def gateway_responses(template):
    return {each["ResponseType"]: each for each in properties(template, "AWS::ApiGateway::GatewayResponse").values()}


def headers_of(response):
    return {
        name.removeprefix("gatewayresponse.header."): value for name, value in response["ResponseParameters"].items()
    }


@pytest.fixture(scope="module")
def stage(resources):
    return only(resources("AWS::ApiGateway::Stage"))


def test_api_has_these_methods(template):
    own = {
        (route.template, method)
        for route in ROUTES
        for operation in route.operations
        for method in (["GET", "HEAD"] if operation.method == "GET" else [operation.method])
    }
    paths = {"/", "/{proxy+}", *(route.template for route in ROUTES)}

    # The other methods and paths go to the function too; API Gateway answers preflights itself.
    assert methods(template).keys() == own | {(path, method) for path in paths for method in ("ANY", "OPTIONS")}
    assert {
        (FRAME_ROUTE, "GET"),
        (FRAME_ROUTE, "HEAD"),
        (GET_IMAGE_FRAME_ROUTE, "GET"),
        (GET_IMAGE_FRAME_ROUTE, "HEAD"),
        (GET_IMAGE_FRAME_ROUTE, "POST"),
        (INDEX_ROUTE, "GET"),
        (INDEX_ROUTE, "HEAD"),
        (STUDY_METADATA_ROUTE.template, "GET"),
        (STUDY_METADATA_ROUTE.template, "HEAD"),
    } <= own


def test_every_method_except_preflights_requires_iam_and_calls_its_function(template, resources):
    (alias,) = resources("AWS::Lambda::Alias")
    (render,) = (name for name in resources("AWS::Lambda::Function") if name.startswith("RenderFunction"))
    for (path, method), each in methods(template).items():
        function = f"{render}.Arn" if path in {route.template for route in PICTURE_ROUTES} else alias
        if method != "OPTIONS":
            assert each["AuthorizationType"] == "AWS_IAM"
            assert each["Integration"]["Type"] == "AWS_PROXY"
            assert f"/functions/${{{function}}}/invocations" in text(each["Integration"]["Uri"])


def test_api_gateway_answers_preflights_without_authorization(template):
    for (_, method), each in methods(template).items():
        if method == "OPTIONS":
            assert each["AuthorizationType"] == "NONE"
            assert each["Integration"]["Type"] == "MOCK"
            # Without this, an API whose media types are all binary answers 500.
            assert each["Integration"]["ContentHandling"] == "CONVERT_TO_TEXT"
            assert each["Integration"]["IntegrationResponses"][0]["ContentHandling"] == "CONVERT_TO_TEXT"


def preflight(template):
    integration = methods(template)["/{proxy+}", "OPTIONS"]["Integration"]
    (response,) = integration["IntegrationResponses"]
    prefix = "method.response.header."
    headers = {name.removeprefix(prefix): value for name, value in response["ResponseParameters"].items()}
    return headers, response.get("ResponseTemplates", {}).get("application/json", "")


def test_preflight_allows_the_headers_of_a_signed_conditional_request(template):
    headers, _ = preflight(template)

    assert headers == {
        "Access-Control-Allow-Origin": "'*'",
        "Access-Control-Allow-Methods": "'GET,HEAD,POST,OPTIONS'",
        "Access-Control-Allow-Headers": "'Accept,Authorization,Cache-Control,Content-Type,If-Match,If-None-Match,"
        "If-Range,Range,X-Amz-Date,X-Amz-Security-Token,X-Amz-Content-Sha256,X-Amz-User-Agent,X-Amzn-Trace-Id,"
        "traceparent,tracestate,baggage,sentry-trace'",
        "Access-Control-Max-Age": "'86400'",
        "X-Content-Type-Options": "'nosniff'",
    }


def test_preflight_adds_configured_headers_without_duplicates(synthesize):
    plain, _ = preflight(synthesize())
    more, _ = preflight(synthesize(cors_request_headers="X-Viewer-Version,TraceParent,b3"))
    ours = plain["Access-Control-Allow-Headers"].strip("'")

    assert more == {**plain, "Access-Control-Allow-Headers": f"'{ours},X-Viewer-Version,b3'"}


def test_every_preflight_allows_the_same_headers(template):
    allowed = {
        each["Integration"]["IntegrationResponses"][0]["ResponseParameters"][
            "method.response.header.Access-Control-Allow-Headers"
        ]
        for (_, method), each in methods(template).items()
        if method == "OPTIONS"
    }

    assert len(allowed) == 1


def test_access_page_lists_the_allowed_request_headers():
    page = (PROJECT / "docs" / "access.md").read_text()
    (section,) = re.findall(r"^## From a web page\n(.+?)^## ", page, re.MULTILINE | re.DOTALL)
    (sentence,) = re.findall(r"may send .+?\.", section, re.DOTALL)

    assert re.findall(r"`([^`]+)`", sentence) == list(CORS_REQUEST_HEADERS)


def test_preflight_returns_the_configured_origin(synthesize):
    headers, template = preflight(synthesize(**TWO_ORIGINS))

    assert headers["Access-Control-Allow-Origin"] == "'https://a.example.org'"
    assert headers["Vary"] == "'Origin'"
    assert '$origin == "https://b.example.org"' in template


@pytest.mark.parametrize(
    ("response_type", "status"),
    {
        "ACCESS_DENIED": "403",
        "API_CONFIGURATION_ERROR": "500",
        "AUTHORIZER_CONFIGURATION_ERROR": "500",
        "AUTHORIZER_FAILURE": "500",
        "BAD_REQUEST_BODY": "400",
        "BAD_REQUEST_PARAMETERS": "400",
        "EXPIRED_TOKEN": "403",
        "INTEGRATION_FAILURE": "502",
        "INTEGRATION_TIMEOUT": "504",
        "INVALID_API_KEY": "403",
        "INVALID_SIGNATURE": "403",
        "MISSING_AUTHENTICATION_TOKEN": "403",
        "QUOTA_EXCEEDED": "429",
        "REQUEST_TOO_LARGE": "413",
        "RESOURCE_NOT_FOUND": "404",
        "THROTTLED": "429",
        "UNAUTHORIZED": "401",
        "UNSUPPORTED_MEDIA_TYPE": "415",
        "WAF_FILTERED": "403",
        "DEFAULT_4XX": None,
        "DEFAULT_5XX": None,
    }.items(),
)
def test_gateway_response_is_a_problem_document(template, response_type, status):
    response = gateway_responses(template)[response_type]
    ((_, body),) = response["ResponseTemplates"].items()
    document = json.loads(body)

    assert response.get("StatusCode") == status
    assert document.get("status") == (None if status is None else int(status))
    assert document["type"].startswith("urn:framegate:problem:")
    assert document["title"]
    assert document["detail"]
    assert document["requestId"] == "$context.requestId"


def test_gateway_responses_allow_cross_origin_access_and_no_caching(template):
    for response in gateway_responses(template).values():
        headers = headers_of(response)
        assert headers["Content-Type"] == "'application/problem+json'"
        assert headers["Cache-Control"] == "'no-store'"
        assert headers["Access-Control-Allow-Origin"] == "'*'"
        assert "Vary" not in headers


def test_gateway_responses_and_preflights_forbid_browsers_to_guess_media_types(template):
    responses = gateway_responses(template).values()
    preflights = [each for (_, method), each in methods(template).items() if method == "OPTIONS"]
    name = "method.response.header.X-Content-Type-Options"

    assert {headers_of(each)["X-Content-Type-Options"] for each in responses} == {"'nosniff'"}
    assert preflights
    for each in preflights:
        (response,) = each["Integration"]["IntegrationResponses"]
        (declared,) = each["MethodResponses"]
        assert (response["ResponseParameters"][name], declared["ResponseParameters"][name]) == ("'nosniff'", True)


def test_gateway_problems_of_one_type_share_a_title(template):
    documents = [
        json.loads(each["ResponseTemplates"]["application/json"]) for each in gateway_responses(template).values()
    ]

    assert len({(each["type"], each["title"]) for each in documents}) == len({each["type"] for each in documents})


def test_throttled_response_has_retry_after(template):
    assert headers_of(gateway_responses(template)["THROTTLED"])["Retry-After"] == "'1'"


def test_gateway_response_names_the_single_configured_origin(synthesize):
    for response in gateway_responses(synthesize(cors_origins="https://a.example.org")).values():
        assert headers_of(response)["Access-Control-Allow-Origin"] == "'https://a.example.org'"


def test_gateway_response_returns_the_origin_if_several_are_configured(synthesize):
    for response in gateway_responses(synthesize(**TWO_ORIGINS)).values():
        assert headers_of(response)["Access-Control-Allow-Origin"] == "method.request.header.Origin"
        assert headers_of(response)["Vary"] == "'Origin'"


def test_api_is_regional_dual_stack_and_binary(resources):
    api = only(resources("AWS::ApiGateway::RestApi"))

    assert api["EndpointConfiguration"] == {"Types": ["REGIONAL"], "IpAddressType": "dualstack"}
    assert api["BinaryMediaTypes"] == ["*/*"]


def test_stage_throttles_without_logging_or_tracing_content(stage):
    assert stage["StageName"] == "v1"
    # A trace segment of API Gateway contains the URL, which names patients in searches.
    assert stage["TracingEnabled"] is False
    # The methods that have a throttle of their own follow.
    assert stage["MethodSettings"][:1] == [
        {
            "HttpMethod": "*",
            "ResourcePath": "/*",
            "ThrottlingRateLimit": 500,
            "ThrottlingBurstLimit": 1000,
            # Metrics of each method would cost money, and nothing reads them.
            "MetricsEnabled": False,
            "LoggingLevel": "OFF",
            "DataTraceEnabled": False,
        }
    ]


QUIET = {"MetricsEnabled": False, "LoggingLevel": "OFF", "DataTraceEnabled": False}


@pytest.mark.parametrize(
    ("keys", "rate", "burst"),
    [({}, 16, 32), ({"index_throttle_rate": "100", "index_throttle_burst": "2"}, 100, 2)],
)
def test_frame_index_has_a_throttle_of_its_own_for_get_and_head(synthesize, keys, rate, burst):
    stage = only(properties(synthesize(**keys), "AWS::ApiGateway::Stage"))
    own = {(each["ResourcePath"], each["HttpMethod"]): each for each in stage["MethodSettings"][1:]}
    # CloudFormation, AWS::ApiGateway::Stage MethodSetting: "/resource/subresource must be encoded as
    # /~1resource~1subresource".
    index = "/" + INDEX_ROUTE.replace("/", "~1")

    for method, share in {"GET": 1, "HEAD": 0.25}.items():
        found = own[index, method]
        assert found["ThrottlingRateLimit"] == share * rate
        assert found["ThrottlingBurstLimit"] == max(1, share * burst)
        assert found.items() >= QUIET.items()


def test_default_throttle_of_the_frame_index_stays_below_the_quota_of_its_calls(synthesize):
    # AWS HealthImaging developer guide, "Throttling limits": GetImageSet, 25 a second and 50 at once.
    stage = only(properties(synthesize(), "AWS::ApiGateway::Stage"))
    own = [each for each in stage["MethodSettings"][1:] if each["ResourcePath"].endswith("imageFrames")]

    assert len(own) == 2
    assert sum(each["ThrottlingRateLimit"] for each in own) < 25
    assert sum(each["ThrottlingBurstLimit"] for each in own) < 50


METADATA_ROUTES = (STUDY_METADATA_ROUTE, SERIES_METADATA_ROUTE, INSTANCE_METADATA_ROUTE)


@pytest.mark.parametrize(
    ("keys", "searches", "metadata"),
    [
        ({}, (16, 32), (32, 256)),
        ({"index_throttle_rate": "50", "index_throttle_burst": "100"}, (50, 100), (100, 800)),
        ({"throttle_rate": "20", "throttle_burst": "40"}, (16, 32), (20, 40)),
    ],
)
def test_searches_and_metadata_have_throttles_of_their_own(synthesize, keys, searches, metadata):
    stage = only(properties(synthesize(**keys), "AWS::ApiGateway::Stage"))
    own = {(each["ResourcePath"], each["HttpMethod"]): each for each in stage["MethodSettings"][1:]}

    limits = dict.fromkeys((route.template for route in SEARCH_ROUTES), searches)
    limits |= dict.fromkeys((route.template for route in METADATA_ROUTES), metadata)
    limits[INDEX_ROUTE] = searches
    assert {path for path, _ in own} == {"/" + template.replace("/", "~1") for template in limits}
    for template, (rate, burst) in limits.items():
        for method, share in {"GET": 1, "HEAD": 0.25}.items():
            found = own["/" + template.replace("/", "~1"), method]
            assert (found["ThrottlingRateLimit"], found["ThrottlingBurstLimit"]) == (share * rate, share * burst)
            assert found.items() >= QUIET.items()


def test_default_throttles_of_dicomweb_stay_below_the_quotas_of_their_calls(synthesize):
    # AWS HealthImaging developer guide, "Throttling limits": GetDICOMSeriesMetadata, 50 a second. The guide has no
    # quota for searches of DICOMweb; SearchImageSets has 25 a second.
    stage = only(properties(synthesize(), "AWS::ApiGateway::Stage"))
    rates = {}
    for each in stage["MethodSettings"][1:]:
        rates[each["ResourcePath"]] = rates.get(each["ResourcePath"], 0) + each["ThrottlingRateLimit"]

    assert all(rates["/" + route.template.replace("/", "~1")] < 25 for route in SEARCH_ROUTES)
    assert all(rates["/" + route.template.replace("/", "~1")] < 50 for route in METADATA_ROUTES)


def test_stage_has_the_configured_throttling(synthesize):
    stage = only(properties(synthesize(throttle_rate="200", throttle_burst="400"), "AWS::ApiGateway::Stage"))

    assert stage["MethodSettings"][0]["ThrottlingRateLimit"] == 200
    assert stage["MethodSettings"][0]["ThrottlingBurstLimit"] == 400


def test_access_log_is_json_without_free_text_of_clients(stage):
    entry = json.loads(stage["AccessLogSetting"]["Format"])

    assert {
        "requestId",
        "status",
        "responseLatency",
        "integrationLatency",
        "responseLength",
        "callerArn",
    } <= entry.keys()
    assert entry["resourcePath"] == "$context.resourcePath"
    assert not [
        value
        for value in entry.values()
        if value in ("$context.path", "$context.customDomain.basePathMatched")
        or value.startswith(("$context.identity.userAgent", "$context.requestOverride", "$input"))
    ]


@pytest.mark.parametrize(
    ("keys", "principal", "issuer"),
    [
        ({}, "$context.identity.userArn", None),
        (
            {
                "auth": "jwt",
                "jwt_issuer": "https://login.example.org/realms/imaging",
                "jwt_audience": "framegate",
                "jwt_datastores_claim": "https://example.org/datastores",
            },
            "$context.authorizer.principal",
            "$context.authorizer.issuer",
        ),
        (
            {
                "auth": "cognito",
                "cognito_user_pool_arn": "arn:aws:cognito-idp:eu-west-1:123456789012:userpool/eu-west-1_AbCdEfGhI",
                "cognito_scopes": "frames/read",
                "audit_claim": "email",
            },
            # Users choose the values of other claims, and API Gateway does not escape them.
            "$context.authorizer.claims.sub",
            "$context.authorizer.claims.iss",
        ),
    ],
    ids=["iam", "jwt", "cognito"],
)
def test_access_log_names_the_caller_and_the_address(synthesize, keys, principal, issuer):
    stage = only(properties(synthesize(**keys), "AWS::ApiGateway::Stage"))
    entry = json.loads(stage["AccessLogSetting"]["Format"])

    assert entry["sourceIp"] == "$context.identity.sourceIp"
    assert (entry["principal"], entry.get("issuer")) == (principal, issuer)


def test_access_log_has_its_own_log_group(stage, resources):
    (group,) = (name for name in resources("AWS::Logs::LogGroup") if "AccessLogs" in name)

    assert text(stage["AccessLogSetting"]["DestinationArn"]).endswith(f":log-group:${{{group}}}")


def test_default_stack_does_not_touch_the_account_logging_role(template):
    template.resource_count_is("AWS::ApiGateway::Account", 0)


def test_account_logging_role_outlives_the_stack_and_a_failed_first_deployment(synthesize):
    resources = synthesize(api_gateway_account_role="true", removal_policy="destroy").to_json()["Resources"]
    (account,) = (each for each in resources.values() if each["Type"] == "AWS::ApiGateway::Account")
    role = resources[logical_id(account["Properties"]["CloudWatchRoleArn"])]

    # RetainExceptOnCreate would delete the role when a first deployment is rolled back, and all APIs log with it.
    assert {each["DeletionPolicy"] for each in (account, role)} == {"Retain"}
    assert {each["UpdateReplacePolicy"] for each in (account, role)} == {"Retain"}


def test_stage_depends_on_the_account_logging_role(synthesize):
    template = synthesize(api_gateway_account_role="true")
    (account,) = template.find_resources("AWS::ApiGateway::Account")
    (stage,) = template.find_resources("AWS::ApiGateway::Stage").values()

    assert account in stage["DependsOn"]


def test_api_url_output_is_the_base_url(template, resources):
    (api,) = resources("AWS::ApiGateway::RestApi")
    outputs = template.to_json()["Outputs"]

    assert text(outputs["ApiUrl"]["Value"]) == f"https://${{{api}}}.execute-api.${{AWS::Region}}.${{AWS::URLSuffix}}/v1"
