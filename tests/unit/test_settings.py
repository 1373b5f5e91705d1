"""The environment of the functions."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framegate import settings as module
from framegate.settings import (
    ALLOCATOR,
    AuthorizerSettings,
    ExportQueueSettings,
    ExportSettings,
    LoggingSettings,
    Settings,
    TableSettings,
)

ENVIRONMENT = {
    "FRAMEGATE_DATASTORE_IDS": "a, b,",
    "FRAMEGATE_FRAME_BUCKET": "bucket",
    "FRAMEGATE_PRESIGNED_URL_LIFETIME_SECONDS": "300",
    "FRAMEGATE_DEFERRED_STORE_QUEUE_URL": "https://sqs.example/queue",
    "FRAMEGATE_CORS_ORIGINS": "https://viewer.example",
    "FRAMEGATE_AUTH": "jwt",
    "FRAMEGATE_UID_HASH_SECRET": "secret",
    "FRAMEGATE_FRAME_CACHING": "no-store",
    "FRAMEGATE_AUDIT_CLAIM": "sub",
    "FRAMEGATE_COGNITO_CLIENT_IDS": "viewer,pipeline",
    "FRAMEGATE_COGNITO_GROUPS_ARE_DATASTORES": "true",
    "FRAMEGATE_AUTHORIZATION_FUNCTION_ARN": "arn:aws:lambda:eu-west-1:123456789012:function:image-access",
    "FRAMEGATE_AUTHORIZATION_CACHE_SECONDS": "60",
    "FRAMEGATE_DICOM_FILES": "true",
}
AUTHORIZER_ENVIRONMENT = {
    "FRAMEGATE_DATASTORE_IDS": "a,b",
    "FRAMEGATE_JWT_ISSUER": "https://login.example/",
    "FRAMEGATE_JWT_AUDIENCE": "framegate,https://frames.example",
    "FRAMEGATE_JWT_DATASTORES_CLAIM": "https://example.org/datastores",
    "FRAMEGATE_AUDIT_CLAIM": "sub",
    "FRAMEGATE_JWT_IMAGE_SETS_CLAIM": "https://example.org/image-sets",
    "FRAMEGATE_JWT_STUDIES_CLAIM": "https://example.org/studies",
    "FRAMEGATE_JWT_MAX_LIFETIME_SECONDS": "3600",
}
EXPORT_ENVIRONMENT = {
    "FRAMEGATE_DATASTORE_IDS": "a",
    "FRAMEGATE_FRAME_BUCKET": "bucket",
    "FRAMEGATE_EVENT_BUS": "default",
    "FRAMEGATE_EXPORT_RATE": "16.6667",
    "FRAMEGATE_VERIFY": "true",
    "FRAMEGATE_EXPORT_EVENTS": "Created,Copied",
    "FRAMEGATE_EXPORT_OUTPUT": "dicom",
    "FRAMEGATE_UID_HASH_SECRET": "secret",
}
QUEUE_ENVIRONMENT = {
    "FRAMEGATE_EXPORT_QUEUE_URL": "https://sqs.example/queue",
    "FRAMEGATE_DEFERRED_STORE_QUEUE_URL": "https://sqs.example/deferred",
    "FRAMEGATE_REMOVAL_RECHECK_SECONDS": "33",
}
TABLE_ENVIRONMENT = {
    "FRAMEGATE_DATASTORE_IDS": "a",
    "FRAMEGATE_FRAME_BUCKET": "bucket",
    "FRAMEGATE_TABLE_QUEUE_URL": "https://sqs.example/tables",
    "FRAMEGATE_UID_HASH_SECRET": "secret",
    "FRAMEGATE_DATASET_COLUMNS": "PatientID,StudyInstanceUID",
}
REQUIRED = [
    (Settings, ENVIRONMENT),
    (AuthorizerSettings, AUTHORIZER_ENVIRONMENT),
    (ExportSettings, EXPORT_ENVIRONMENT),
    (ExportQueueSettings, QUEUE_ENVIRONMENT),
    (TableSettings, TABLE_ENVIRONMENT),
]


def test_settings_come_from_the_environment():
    assert Settings.from_environment(ENVIRONMENT) == Settings(
        datastore_ids=("a", "b"),
        frame_bucket="bucket",
        presigned_url_lifetime_seconds=300,
        deferred_store_queue_url="https://sqs.example/queue",
        cors_origins=("https://viewer.example",),
        auth="jwt",
        uid_hash_secret="secret",
        frame_caching="no-store",
        cognito_client_ids=("viewer", "pipeline"),
        cognito_groups_are_datastores=True,
        authorization_function_arn="arn:aws:lambda:eu-west-1:123456789012:function:image-access",
        authorization_cache_seconds=60,
        dicom_files=True,
    )


def test_authorizer_settings_come_from_the_environment():
    assert AuthorizerSettings.from_environment(AUTHORIZER_ENVIRONMENT) == AuthorizerSettings(
        datastore_ids=("a", "b"),
        issuer="https://login.example/",
        audiences=("framegate", "https://frames.example"),
        datastores_claim="https://example.org/datastores",
        image_sets_claim="https://example.org/image-sets",
        studies_claim="https://example.org/studies",
        max_lifetime_seconds=3600,
    )


def test_export_settings_come_from_the_environment():
    assert ExportSettings.from_environment(EXPORT_ENVIRONMENT) == ExportSettings(
        datastore_ids=("a",),
        frame_bucket="bucket",
        event_bus="default",
        calls_per_second=16.6667,
        verify=True,
        events=("Created", "Copied"),
        output="dicom",
        uid_hash_secret="secret",
    )


def test_export_queue_settings_come_from_the_environment():
    assert ExportQueueSettings.from_environment(QUEUE_ENVIRONMENT) == ExportQueueSettings(
        queue_url="https://sqs.example/queue",
        deferred_store_queue_url="https://sqs.example/deferred",
        removal_recheck_seconds=33,
    )


def test_logging_settings_have_defaults():
    assert LoggingSettings.from_environment({}) == LoggingSettings(service="framegate", level="INFO")
    found = LoggingSettings.from_environment({"POWERTOOLS_SERVICE_NAME": "Research", "POWERTOOLS_LOG_LEVEL": "DEBUG"})
    assert found == LoggingSettings(service="Research", level="DEBUG")


def test_claim_that_is_not_configured_is_none():
    environment = {**AUTHORIZER_ENVIRONMENT, "FRAMEGATE_JWT_DATASTORES_CLAIM": ""}
    assert AuthorizerSettings.from_environment(environment).datastores_claim is None


@pytest.mark.parametrize(
    ("name", "attribute"),
    [
        ("FRAMEGATE_JWT_IMAGE_SETS_CLAIM", "image_sets_claim"),
        ("FRAMEGATE_JWT_STUDIES_CLAIM", "studies_claim"),
        ("FRAMEGATE_JWT_MAX_LIFETIME_SECONDS", "max_lifetime_seconds"),
    ],
)
def test_authorizer_setting_that_is_not_configured_is_none(name, attribute):
    assert getattr(AuthorizerSettings.from_environment({**AUTHORIZER_ENVIRONMENT, name: ""}), attribute) is None


def test_decision_function_that_is_not_configured_is_none():
    environment = {**ENVIRONMENT, "FRAMEGATE_AUTHORIZATION_FUNCTION_ARN": ""}
    assert Settings.from_environment(environment).authorization_function_arn is None


@pytest.mark.parametrize(
    ("settings", "environment", "name"),
    [(settings, environment, name) for settings, environment in REQUIRED for name in environment],
)
def test_missing_variable_is_named(settings, environment, name):
    with pytest.raises(KeyError, match=name):
        settings.from_environment({key: value for key, value in environment.items() if key != name})


@pytest.mark.parametrize("settings", [each for each, _ in REQUIRED])
def test_settings_are_read_from_the_process_by_default(settings, monkeypatch):
    environment = dict(REQUIRED)[settings]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert settings.from_environment() == settings.from_environment(environment)


_NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
_ITEMS = st.lists(
    _NAMES.map(str.strip).filter(lambda each: each and "," not in each and each == each.strip()), max_size=4
).map(tuple)
_SETTINGS = st.one_of(
    st.builds(
        Settings,
        datastore_ids=_ITEMS,
        frame_bucket=_NAMES,
        presigned_url_lifetime_seconds=st.integers(),
        deferred_store_queue_url=_NAMES,
        cors_origins=_ITEMS,
        auth=st.sampled_from(["iam", "cognito", "jwt"]),
        cognito_client_ids=_ITEMS,
        cognito_groups_are_datastores=st.booleans(),
        authorization_function_arn=st.none() | _NAMES,
        authorization_cache_seconds=st.integers(),
    ),
    st.builds(
        AuthorizerSettings,
        datastore_ids=_ITEMS,
        issuer=_NAMES,
        audiences=_ITEMS,
        datastores_claim=st.none() | _NAMES,
        image_sets_claim=st.none() | _NAMES,
        studies_claim=st.none() | _NAMES,
        max_lifetime_seconds=st.none() | st.integers(1),
    ),
    st.builds(
        ExportSettings,
        datastore_ids=_ITEMS,
        frame_bucket=_NAMES,
        event_bus=_NAMES,
        calls_per_second=st.floats(allow_nan=False),
        verify=st.booleans(),
        events=_ITEMS,
        uid_hash_secret=_NAMES,
        output=st.sampled_from(["frames", "dicom"]),
    ),
    st.builds(
        ExportQueueSettings,
        queue_url=_NAMES,
        deferred_store_queue_url=_NAMES,
        removal_recheck_seconds=st.integers(),
    ),
    st.builds(
        TableSettings,
        datastore_ids=_ITEMS,
        frame_bucket=_NAMES,
        queue_url=_NAMES,
        uid_hash_secret=_NAMES,
        identifying_columns=_ITEMS,
    ),
    st.builds(LoggingSettings, service=_NAMES, level=_NAMES),
)


@given(_SETTINGS)
def test_environment_gives_the_same_settings_again(settings):
    environment = settings.to_environment()
    assert all(isinstance(value, str) for value in environment.values())
    assert type(settings).from_environment(environment) == settings


@pytest.mark.parametrize("item", ["a,b", "", " a", "a\n"])
@pytest.mark.parametrize(
    "settings",
    [
        lambda items: Settings(items, "bucket", 300, "https://sqs.example/queue", ("*",), "iam", "secret"),
        lambda items: Settings(("a",), "bucket", 300, "https://sqs.example/queue", items, "iam", "secret"),
        lambda items: AuthorizerSettings(("a",), "https://login.example", items, None),
        lambda items: ExportSettings(("a",), "bucket", "default", 1.0, verify=False, events=items),
    ],
)
def test_item_that_a_list_cannot_hold_is_refused(settings, item):
    with pytest.raises(ValueError, match="cannot be an item"):
        settings((item,)).to_environment()


@pytest.mark.parametrize(("value", "is_snapshot"), [("snap-start", True), ("on-demand", False), (None, False)])
def test_snapshot_start_is_recognized(monkeypatch, value, is_snapshot):
    monkeypatch.delenv("AWS_LAMBDA_INITIALIZATION_TYPE", raising=False)
    if value:
        monkeypatch.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", value)
    assert module.is_snapshot_start() is is_snapshot


@pytest.mark.parametrize(
    ("value", "is_sampled"), [("Root=1;Sampled=1", True), ("Root=1;Sampled=0", False), ("", False)]
)
def test_sampled_invocation_is_recognized(monkeypatch, value, is_sampled):
    monkeypatch.setenv("_X_AMZN_TRACE_ID", value)
    assert module.is_sampled() is is_sampled


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has other settings")
def test_allocator_keeps_the_memory_of_large_bodies():
    program = """
import resource
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
# Two blocks at once, as a body and the document with it.
use = lambda: bytes(3_000_000) + bytes(1_000_000)
use()
before = faults()
for _ in range(10):
    use()
print(faults() - before)
"""
    kept, returned = (
        int(subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True, check=True).stdout)
        for variables in (ALLOCATOR, {})
    )
    assert kept < returned / 20
