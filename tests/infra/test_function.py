"""The API function: size, settings and snapshots; and properties of every function."""

from __future__ import annotations

import pytest

from infra.api.rest_function import unreserved_concurrency_reason
from infra.config import Config
from tests.infra.cloudformation import frame_bucket, logical_id, only, properties, queue_id, text
from tests.infra.cloudformation import function as function_of
from tests.infra.project import AUTH, DATASTORE_A, DATASTORE_B


@pytest.fixture(scope="module")
def function(template):
    return function_of(template, "api")


def test_stack_has_four_functions_and_no_custom_resource(template):
    types = {each["Type"] for each in template.to_json()["Resources"].values()}

    template.resource_count_is("AWS::Lambda::Function", 4)
    assert not [each for each in types if each.startswith("Custom::") or each == "AWS::CloudFormation::CustomResource"]


def test_api_function_runs_its_handler_on_arm(function):
    assert function["Runtime"] == "python3.13"
    assert function["Handler"] == "framegate.entrypoints.api.lambda_handler"
    assert function["Architectures"] == ["arm64"]
    assert function["MemorySize"] == 1769
    assert function["Timeout"] == 28


def test_api_function_has_the_configured_memory_timeout_and_architecture(synthesize):
    template = synthesize(architecture="x86_64", memory_mb="3008", timeout_seconds="20")
    function = function_of(template, "api")
    every = properties(template, "AWS::Lambda::Function").values()

    assert {tuple(each["Architectures"]) for each in every} == {("x86_64",)}
    assert function["MemorySize"] == 3008
    assert function["Timeout"] == 20


def test_alias_points_to_a_version_with_a_snapshot(function, resources):
    (version,) = resources("AWS::Lambda::Version")
    alias = only(resources("AWS::Lambda::Alias"))

    assert function["SnapStart"] == {"ApplyOn": "PublishedVersions"}
    assert alias["Name"] == "live"
    assert text(alias["FunctionVersion"]) == f"${{{version}.Version}}"


def test_api_function_gets_its_default_settings(function, template, resources):
    bucket, _ = frame_bucket(template)
    queue = queue_id(resources("AWS::SQS::Queue"), "DeferredStores")

    assert {name: text(value) for name, value in function["Environment"]["Variables"].items()} == {
        "FRAMEGATE_FRAME_BUCKET": f"${{{bucket}}}",
        "FRAMEGATE_DEFERRED_STORE_QUEUE_URL": f"${{{queue}}}",
        "FRAMEGATE_DATASTORE_IDS": f"{DATASTORE_A},{DATASTORE_B}",
        "FRAMEGATE_PRESIGNED_URL_LIFETIME_SECONDS": "300",
        "FRAMEGATE_CORS_ORIGINS": "*",
        "FRAMEGATE_AUTH": "iam",
        # The random part of the stack's id.
        "FRAMEGATE_UID_HASH_SECRET": "${${AWS::StackId} / 2}",
        "FRAMEGATE_AUDIT_CLAIM": "sub",
        "FRAMEGATE_FRAME_CACHING": "revalidate",
        "FRAMEGATE_COGNITO_CLIENT_IDS": "",
        "FRAMEGATE_COGNITO_GROUPS_ARE_DATASTORES": "false",
        "FRAMEGATE_AUTHORIZATION_FUNCTION_ARN": "",
        "FRAMEGATE_AUTHORIZATION_CACHE_SECONDS": "60",
        "FRAMEGATE_DICOM_FILES": "false",
        "GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=67108864",
        "POWERTOOLS_LOG_LEVEL": "INFO",
        "POWERTOOLS_SERVICE_NAME": "Framegate",
    }


def test_api_function_gets_its_configured_settings(synthesize):
    template = synthesize(
        presigned_url_lifetime_seconds="900",
        cors_origins="https://a.example.org,https://b.example.org",
        log_level="DEBUG",
    )
    environment = function_of(template, "api")["Environment"]["Variables"]

    assert environment["FRAMEGATE_PRESIGNED_URL_LIFETIME_SECONDS"] == "900"
    assert environment["FRAMEGATE_CORS_ORIGINS"] == "https://a.example.org,https://b.example.org"
    assert environment["POWERTOOLS_LOG_LEVEL"] == "DEBUG"


@pytest.mark.parametrize(("fips", "value"), [("true", "true"), ("false", None)])
def test_every_function_uses_fips_endpoints_if_configured(synthesize, fips, value):
    functions = properties(synthesize(**AUTH["jwt"], fips_endpoints=fips), "AWS::Lambda::Function").values()

    assert len(functions) == 5
    for each in functions:
        assert each["Environment"]["Variables"].get("AWS_USE_FIPS_ENDPOINT") == value


def test_api_function_has_no_layer_and_no_reserved_concurrency(function):
    assert "Layers" not in function
    assert "ReservedConcurrentExecutions" not in function


def test_every_function_is_traced(resources):
    assert [each["TracingConfig"] for each in resources("AWS::Lambda::Function").values()] == [{"Mode": "Active"}] * 4


def test_each_function_has_its_own_log_group(resources):
    groups = [logical_id(each["LoggingConfig"]["LogGroup"]) for each in resources("AWS::Lambda::Function").values()]

    assert len(set(groups)) == 4
    assert {resources("AWS::Logs::LogGroup")[group]["RetentionInDays"] for group in groups} == {365}


def test_all_functions_share_one_bundle_and_runtime(resources):
    functions = resources("AWS::Lambda::Function").values()

    assert {each["Runtime"] for each in functions} == {"python3.13"}
    assert len({each["Code"]["S3Key"] for each in functions}) == 1


def test_api_function_shares_the_concurrency_of_the_account_by_default(function):
    assert "ReservedConcurrentExecutions" not in function


@pytest.mark.parametrize("handler", ["api", "rendering"])
def test_functions_behind_the_api_reserve_the_configured_concurrency(synthesize, handler):
    found = function_of(synthesize(api_concurrency="100"), handler)

    assert found["ReservedConcurrentExecutions"] == 100


def test_render_function_has_one_vcpu_and_a_layer_of_its_own(template, resources):
    found = function_of(template, "rendering")
    (layer,) = map(logical_id, found["Layers"])

    assert (found["MemorySize"], found["Timeout"]) == (1769, 28)
    assert "ReservedConcurrentExecutions" not in found
    assert layer.startswith("Rendering")
    assert resources("AWS::Lambda::LayerVersion")[layer]["CompatibleArchitectures"] == found["Architectures"]
    assert [name for each in resources("AWS::Lambda::Function").values() for name in each.get("Layers", [])].count(
        found["Layers"][0]
    ) == 1


def test_render_function_gets_the_settings_of_the_api_without_a_queue(template):
    of_api, of_rendering = (
        {name: text(value) for name, value in function_of(template, each)["Environment"]["Variables"].items()}
        for each in ("api", "rendering")
    )

    assert of_rendering == {**of_api, "FRAMEGATE_DEFERRED_STORE_QUEUE_URL": ""}


@pytest.mark.parametrize(
    ("keys", "figures"),
    [
        ({}, ["500 requests", "of 100 if", "of 14,000 if", "28 s"]),
        ({"throttle_rate": "2000", "timeout_seconds": "10"}, ["2,000 requests", "of 400 if", "of 20,000 if", "10 s"]),
    ],
)
def test_acknowledgment_of_unreserved_concurrency_follows_littles_law(keys, figures):
    reason = unreserved_concurrency_reason(Config.from_context({"datastore_ids": DATASTORE_A, **keys}))

    for figure in figures:
        assert figure in reason
