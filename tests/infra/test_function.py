"""The function: size, settings, snapshot start, and that it is the only one."""

from __future__ import annotations

import pytest

from tests.infra.cloudformation import only, properties, text
from tests.infra.project import DATASTORE_A, DATASTORE_B


@pytest.fixture(scope="module")
def function(resources):
    return only(resources("AWS::Lambda::Function"))


def test_stack_has_one_function_and_no_custom_resource(template):
    types = {each["Type"] for each in template.to_json()["Resources"].values()}

    template.resource_count_is("AWS::Lambda::Function", 1)
    assert not [each for each in types if each.startswith("Custom::") or each == "AWS::CloudFormation::CustomResource"]


def test_function_runs_the_api_handler_on_arm(function):
    assert function["Runtime"] == "python3.13"
    assert function["Handler"] == "framegate.handlers.api.lambda_handler"
    assert function["Architectures"] == ["arm64"]
    assert function["MemorySize"] == 1769
    assert function["Timeout"] == 28


def test_size_and_processor_come_from_configuration(synthesize):
    template = synthesize(architecture="x86_64", memory_mb="3008", timeout_seconds="20")
    function = only(properties(template, "AWS::Lambda::Function"))

    assert function["Architectures"] == ["x86_64"]
    assert function["MemorySize"] == 3008
    assert function["Timeout"] == 20


def test_alias_is_a_published_version_that_starts_from_a_snapshot(function, resources):
    (version,) = resources("AWS::Lambda::Version")
    alias = only(resources("AWS::Lambda::Alias"))

    assert function["SnapStart"] == {"ApplyOn": "PublishedVersions"}
    assert alias["Name"] == "live"
    assert text(alias["FunctionVersion"]) == f"${{{version}.Version}}"


def test_settings_reach_the_function(function, resources):
    environment = function["Environment"]["Variables"]
    (bucket,) = (name for name in resources("AWS::S3::Bucket") if "AccessLogs" not in name)

    assert text(environment.pop("FRAMEGATE_FRAME_BUCKET")) == f"${{{bucket}}}"
    assert environment == {
        "FRAMEGATE_DATASTORE_IDS": f"{DATASTORE_A},{DATASTORE_B}",
        "FRAMEGATE_PRESIGNED_URL_LIFETIME_SECONDS": "300",
        "FRAMEGATE_CORS_ORIGINS": "*",
        "POWERTOOLS_LOG_LEVEL": "INFO",
    }


def test_configured_settings_reach_the_function(synthesize):
    template = synthesize(
        presigned_url_lifetime_seconds="900",
        cors_origins="https://a.example.org,https://b.example.org",
        log_level="DEBUG",
    )
    environment = only(properties(template, "AWS::Lambda::Function"))["Environment"]["Variables"]

    assert environment["FRAMEGATE_PRESIGNED_URL_LIFETIME_SECONDS"] == "900"
    assert environment["FRAMEGATE_CORS_ORIGINS"] == "https://a.example.org,https://b.example.org"
    assert environment["POWERTOOLS_LOG_LEVEL"] == "DEBUG"


def test_requests_are_traced(function):
    assert function["TracingConfig"] == {"Mode": "Active"}


def test_function_logs_to_its_own_group(function, resources):
    group = text(function["LoggingConfig"]["LogGroup"])[2:-1]

    assert "ApiFunction" in group
    assert resources("AWS::Logs::LogGroup")[group]["RetentionInDays"] == 365


def test_logs_are_kept_as_long_as_configured(synthesize):
    groups = properties(synthesize(log_retention_days="90"), "AWS::Logs::LogGroup")

    assert len(groups) == 2
    assert {group["RetentionInDays"] for group in groups.values()} == {90}
