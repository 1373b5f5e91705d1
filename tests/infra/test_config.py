"""The configuration: accepted values, rejected values, and the messages about them."""

from __future__ import annotations

from dataclasses import MISSING, FrozenInstanceError, fields

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from infra.config import Config, ConfigError, config_keys, config_table
from tests.infra.project import VPC

A = "a" * 32
B = "0123456789abcdef0123456789abcdef"

DECISION_FUNCTION = "arn:aws:lambda:eu-west-1:123456789012:function:image-access"
USER_POOL = "arn:aws:cognito-idp:eu-west-1:123456789012:userpool/eu-west-1_AbCdEfGhI"
CERTIFICATE = "arn:aws:acm:eu-west-1:123456789012:certificate/12345678-1234-1234-1234-123456789012"
COGNITO = {"auth": "cognito", "cognito_user_pool_arn": USER_POOL, "cognito_client_ids": "1example23456789"}
JWT = {"auth": "jwt", "jwt_issuer": "https://login.example.org/realms/imaging", "jwt_audience": "framegate"}
DOMAIN = {"domain_name": "frames.example.org", "domain_certificate_arn": CERTIFICATE}


def read(**keys):
    return Config.from_context({"datastore_ids": A, **keys})


def config_error(context):
    try:
        Config.from_context(context)
    except ConfigError as error:
        return error
    return None


def faults(**context):
    return config_error(context).faults


def test_only_datastore_ids_is_required():
    assert read() == Config(
        datastore_ids=(A,),
        stack_name="Framegate",
        environment="development",
        gradual_deployment=None,
        alarm_email=None,
        architecture="arm64",
        memory_mb=1769,
        timeout_seconds=28,
        presigned_url_lifetime_seconds=300,
        frame_caching="revalidate",
        cors_origins=("*",),
        cors_request_headers=(),
        auth="iam",
        cognito_user_pool_arn=None,
        cognito_scopes=(),
        cognito_client_ids=(),
        cognito_groups_are_datastores=False,
        jwt_issuer=None,
        jwt_audience=(),
        jwt_datastores_claim=None,
        waf=False,
        waf_rate_limit=20_000,
        audit_claim="sub",
        domain_name=None,
        domain_certificate_arn=None,
        domain_hosted_zone_id=None,
        vpc_endpoint_ids=(),
        s3_vpc_endpoint_ids=(),
        fips_endpoints=False,
        throttle_rate=500,
        throttle_burst=1000,
        export_events=("Created", "Updated", "Copied"),
        export_output="frames",
        export_concurrency=2,
        export_rate=400,
        export_timeout_seconds=300,
        export_memory_mb=1769,
        verify=False,
        event_source="aws.medical-imaging",
        frame_retention_days=None,
        log_retention_days=365,
        audit_retention_days=None,
        log_level="INFO",
        removal_policy="retain",
        api_gateway_account_role=False,
    )


def test_configuration_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        read().memory_mb = 1


@pytest.mark.parametrize("value", [f"{A},{B}", f" {A} , {B} ", [A, B], (A, B)])
def test_datastore_ids_are_text_or_a_json_list(value):
    assert read(datastore_ids=value).datastore_ids == (A, B)


@pytest.mark.parametrize(
    ("key", "value", "read_as"),
    [
        ("memory_mb", "3008", 3008),
        ("memory_mb", 3008, 3008),
        ("memory_mb", " 512 ", 512),
        ("timeout_seconds", "29", 29),
        ("presigned_url_lifetime_seconds", "60", 60),
        ("export_events", "Created", ("Created",)),
        ("export_events", " Copied , Created ", ("Created", "Copied")),
        ("export_events", ["Updated", "Copied"], ("Updated", "Copied")),
        ("export_events", "none", ()),
        ("export_events", "", ()),
        ("export_events", [], ()),
        ("export_concurrency", "500", 500),
        ("export_rate", "1", 1),
        ("export_timeout_seconds", "900", 900),
        ("export_memory_mb", "10240", 10240),
        ("verify", "true", True),
        ("event_source", "local.medical-imaging", "local.medical-imaging"),
        ("frame_retention_days", "30", 30),
        ("frame_retention_days", "none", None),
        ("frame_retention_days", "", None),
        ("frame_retention_days", None, None),
        ("log_retention_days", "90", 90),
        ("audit_retention_days", "3653", 3653),
        ("audit_retention_days", "none", None),
        ("api_gateway_account_role", "true", True),
        ("api_gateway_account_role", True, True),
        ("fips_endpoints", "true", True),
        ("cors_request_headers", "X-Viewer-Version, b3", ("X-Viewer-Version", "b3")),
        ("cors_request_headers", ["X-Viewer-Version"], ("X-Viewer-Version",)),
        ("cors_request_headers", "none", ()),
        ("environment", "production", "production"),
        ("gradual_deployment", "true", True),
        ("gradual_deployment", False, False),
        ("gradual_deployment", "none", None),
        ("alarm_email", "on-call+framegate@Example.org", "on-call+framegate@Example.org"),
        ("alarm_email", "none", None),
        ("architecture", "x86_64", "x86_64"),
        ("log_level", "DEBUG", "DEBUG"),
        ("removal_policy", "destroy", "destroy"),
        ("stack_name", "Framegate-2", "Framegate-2"),
        ("cors_origins", "*", ("*",)),
        (
            "cors_origins",
            "https://a.example.org, http://localhost:5173",
            ("https://a.example.org", "http://localhost:5173"),
        ),
        ("cors_origins", ["https://[2001:db8::1]:8443"], ("https://[2001:db8::1]:8443",)),
        ("cors_origins", "app://viewer", ("app://viewer",)),
        ("waf", "true", True),
        ("vpc_endpoint_ids", "vpce-0123456789abcdef0,vpce-01234567", ("vpce-0123456789abcdef0", "vpce-01234567")),
        ("vpc_endpoint_ids", "none", ()),
        ("frame_caching", "immutable", "immutable"),
        ("frame_caching", "no-store", "no-store"),
    ],
)
def test_valid_values_are_accepted(key, value, read_as):
    assert getattr(read(**{key: value}), key) == read_as


@pytest.mark.parametrize(
    ("other_keys", "key", "value", "read_as"),
    [
        (COGNITO, "cognito_scopes", "frames/read, frames/write", ("frames/read", "frames/write")),
        (COGNITO, "cognito_scopes", ["https://example.org/frames.read"], ("https://example.org/frames.read",)),
        (JWT, "jwt_issuer", "https://example.eu.auth0.com/", "https://example.eu.auth0.com/"),
        (JWT, "jwt_issuer", "https://localhost:8443", "https://localhost:8443"),
        (JWT, "jwt_audience", "framegate,https://frames.example.org", ("framegate", "https://frames.example.org")),
        (JWT, "jwt_datastores_claim", "https://example.org/datastores", "https://example.org/datastores"),
        (JWT, "jwt_datastores_claim", "none", None),
        (COGNITO, "cognito_client_ids", "a1,b2", ("a1", "b2")),
        (COGNITO, "cognito_groups_are_datastores", "true", True),
        (JWT, "jwt_image_sets_claim", "image_sets", "image_sets"),
        (JWT, "jwt_studies_claim", "https://example.org/studies", "https://example.org/studies"),
        (JWT, "jwt_max_lifetime_seconds", "60", 60),
        (JWT, "jwt_max_lifetime_seconds", "none", None),
        ({}, "authorization_function_arn", DECISION_FUNCTION, DECISION_FUNCTION),
        ({}, "authorization_function_arn", f"{DECISION_FUNCTION}:live", f"{DECISION_FUNCTION}:live"),
        ({"authorization_function_arn": DECISION_FUNCTION}, "authorization_cache_seconds", "0", 0),
        ({"waf": "true"}, "waf_rate_limit", "100", 100),
        (DOMAIN, "domain_name", "xn--bcher-kva.example.org", "xn--bcher-kva.example.org"),
        (DOMAIN, "domain_hosted_zone_id", "Z0123456789ABCDEFGHIJ", "Z0123456789ABCDEFGHIJ"),
    ],
)
def test_valid_values_that_need_another_key_are_accepted(other_keys, key, value, read_as):
    assert getattr(read(**{**other_keys, key: value}), key) == read_as


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("datastore_ids", ""),
        ("datastore_ids", []),
        ("datastore_ids", "short"),
        ("datastore_ids", A.upper()),
        ("datastore_ids", [f"{A}\n"]),
        ("datastore_ids", f"{A},"),
        ("datastore_ids", f"{A},{A}"),
        ("datastore_ids", [12]),
        ("datastore_ids", {"id": A}),
        ("stack_name", "1-framegate"),
        ("stack_name", "frame gate"),
        ("stack_name", "f" * 129),
        ("environment", "Production"),
        ("environment", "prod"),
        ("gradual_deployment", "yes"),
        ("alarm_email", "example.org"),
        ("alarm_email", "on call@example.org"),
        ("alarm_email", "a@example.org,b@example.org"),
        ("alarm_email", "on-call@localhost"),
        ("architecture", "arm"),
        ("memory_mb", "511"),
        ("memory_mb", 10241),
        ("memory_mb", "1769.0"),
        ("memory_mb", 1769.5),
        ("memory_mb", True),
        ("memory_mb", "-1769"),
        ("memory_mb", "١٧٦٩"),
        ("memory_mb", "9" * 5000),
        ("timeout_seconds", 30),
        ("presigned_url_lifetime_seconds", 59),
        ("throttle_rate", 0),
        ("throttle_burst", "many"),
        ("export_events", "Deleted"),
        ("export_events", "created"),
        ("export_events", "Created,Created"),
        ("export_events", "none,Created"),
        ("export_output", "files"),
        ("export_events", {"Created": True}),
        ("export_concurrency", 1),
        ("export_concurrency", 501),
        ("export_rate", 0),
        ("export_timeout_seconds", 9),
        ("export_timeout_seconds", 901),
        ("export_memory_mb", 128),
        ("verify", "yes"),
        ("event_source", ""),
        ("event_source", "aws medical-imaging"),
        ("event_source", "a" * 257),
        ("frame_retention_days", 0),
        ("log_retention_days", 31),
        ("audit_retention_days", 2190),
        ("audit_claim", "two words"),
        ("log_level", "info"),
        ("removal_policy", "snapshot"),
        ("api_gateway_account_role", "yes"),
        ("api_gateway_account_role", 1),
        ("cors_origins", ""),
        ("cors_origins", "*,https://a.example.org"),
        ("cors_origins", "https://a.example.org/"),
        ("cors_origins", "https://a.example.org/viewer"),
        ("cors_origins", "https://A.example.org"),
        ("cors_origins", "a.example.org"),
        ("cors_origins", "https://a.example.org:443"),
        ("cors_origins", "http://a.example.org:99999"),
        ("cors_origins", "https://*.example.org"),
        ("cors_origins", "https://a.example.org,https://a.example.org"),
        ("cors_origins", "https://a'b.example.org"),
        ("cors_origins", "null"),
        ("cors_request_headers", "*"),
        ("cors_request_headers", "X Viewer"),
        ("cors_request_headers", "X-Viewer:"),
        ("cors_request_headers", "X-Viewer's"),
        ("cors_request_headers", ["X-Viewer\n"]),
        ("cors_request_headers", "X-Größe"),
        ("cors_request_headers", "X" * 129),
        ("cors_request_headers", "X-Viewer,x-viewer"),
        ("cors_request_headers", [1]),
        ("fips_endpoints", "yes"),
        ("auth", "none"),
        ("auth", "open"),
        ("auth", ""),
        ("auth", "JWT"),
        ("auth", ["jwt"]),
        ("cognito_user_pool_arn", "eu-west-1_AbCdEfGhI"),
        ("cognito_user_pool_arn", "arn:aws:cognito-identity:eu-west-1:123456789012:identitypool/eu-west-1:1-2"),
        ("cognito_user_pool_arn", f"{USER_POOL}\n"),
        ("cognito_scopes", "frames read"),
        ("cognito_scopes", 'frames"read'),
        ("cognito_client_ids", "a b"),
        ("cognito_groups_are_datastores", "yes"),
        ("jwt_image_sets_claim", "image sets"),
        ("jwt_studies_claim", "studies\n"),
        ("jwt_max_lifetime_seconds", "59"),
        ("authorization_function_arn", "image-access"),
        ("authorization_function_arn", f"{DECISION_FUNCTION}\n"),
        ("authorization_function_arn", "arn:aws:lambda:eu-west-1:123456789012:function:*"),
        ("authorization_function_arn", "arn:aws:lambda:eu-west-1:123456789012:layer:image-access"),
        ("authorization_cache_seconds", "3601"),
        ("jwt_issuer", "http://login.example.org"),
        ("jwt_issuer", "login.example.org"),
        ("jwt_issuer", "https://"),
        ("jwt_issuer", "https://login.example.org?tenant=1"),
        ("jwt_issuer", "https://login.example.org#part"),
        ("jwt_issuer", "https://user:secret@login.example.org"),
        ("jwt_issuer", "https://login.example.org/{tenantid}/v2.0"),
        ("jwt_audience", "frame gate"),
        ("jwt_audience", "a,,b"),
        ("jwt_audience", [1]),
        ("jwt_datastores_claim", "data stores"),
        ("jwt_datastores_claim", ["datastores"]),
        ("waf", "on"),
        ("waf_rate_limit", 99),
        ("waf_rate_limit", "none"),
        ("domain_name", "https://frames.example.org"),
        ("domain_name", "frames.example.org."),
        ("domain_name", "*.example.org"),
        ("domain_name", "frames"),
        ("domain_name", "Frames.example.org"),
        ("domain_name", f"{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 63}.org"),
        ("domain_name", "192.0.2.1"),
        ("domain_certificate_arn", "12345678-1234-1234-1234-123456789012"),
        ("domain_hosted_zone_id", "example.org"),
        ("vpc_endpoint_ids", "vpc-0123456789abcdef0"),
        ("s3_vpc_endpoint_ids", "vpc-0123456789abcdef0"),
        ("frame_caching", "private"),
        ("frame_caching", "none"),
        ("datastore_ids", ",".join(f"{number:032}" for number in range(11))),
        ("vpc_endpoint_ids", "vpce-0123456789abcdef0,vpce-0123456789abcdef0"),
    ],
)
def test_invalid_value_is_reported_with_its_key_and_an_example(key, value):
    found = faults(**{"datastore_ids": A, key: value})

    assert list(found) == [key]
    assert found[key].endswith(f"For example: -c {key}={config_keys()[key].example}")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("datastore_ids", "short", "'short' is not a data store id, 32 digits and lower-case letters"),
        ("datastore_ids", f"{A},short", "'short' is not a data store id, 32 digits and lower-case letters"),
        ("datastore_ids", [], "[] is not a list of data store ids"),
        ("datastore_ids", {"id": A}, f"{{'id': '{A}'}} is not a list of data store ids"),
        ("datastore_ids", f"{A},{A}", f"'{A}' is given more than once"),
        (
            "datastore_ids",
            [f"{number:032}" for number in range(11)],
            "lists 11 data stores, but a deployment can serve 6: deploy a second stack",
        ),
        ("environment", "prod", "'prod' is not one of development, production"),
        ("memory_mb", "511", "511 is not a whole number from 512 to 10240"),
        ("memory_mb", "1769.0", "'1769.0' is not a whole number from 512 to 10240"),
        ("memory_mb", True, "True is not a whole number from 512 to 10240"),
        ("frame_retention_days", "0", "0 is not a whole number from 1 to 36500"),
        ("gradual_deployment", "yes", "'yes' is not true or false"),
        ("verify", 1, "1 is not true or false"),
        ("alarm_email", 7, "7 is not an e-mail address"),
        ("export_events", "Deleted", "'Deleted' is not one of Created, Updated, Copied"),
        ("export_events", 1, "1 is not a list of Created, Updated, Copied"),
        (
            "cors_origins",
            "*,https://a.example.org",
            "'*' already allows every origin: give either '*' or a list of origins",
        ),
        (
            "cors_origins",
            ["https://a.example.org:443"],
            "'https://a.example.org:443' names the default port, which browsers omit: remove it",
        ),
        ("cors_request_headers", "X-A,x-a", "'X-A', 'x-a' name the same header: case does not matter"),
    ],
)
def test_message_shows_the_value_and_what_the_key_accepts(key, value, message):
    found = faults(**{"datastore_ids": A, key: value})

    assert found == {key: f"{message}. For example: -c {key}={config_keys()[key].example}"}


@pytest.mark.parametrize(
    ("keys", "missing", "needed_by"),
    [
        ({"auth": "cognito", "cognito_scopes": "frames/read"}, "cognito_user_pool_arn", "auth=cognito"),
        ({**JWT, "jwt_issuer": None}, "jwt_issuer", "auth=jwt"),
        ({**JWT, "jwt_audience": None}, "jwt_audience", "auth=jwt"),
        ({**JWT, "jwt_audience": []}, "jwt_audience", "auth=jwt"),
        ({**DOMAIN, "domain_certificate_arn": "none"}, "domain_certificate_arn", "domain_name"),
    ],
)
def test_key_required_by_another_is_reported_with_an_example(keys, missing, needed_by):
    example = config_keys()[missing].example

    assert faults(datastore_ids=A, **keys) == {
        missing: f"is missing, and {needed_by} requires it. For example: -c {missing}={example}"
    }


@pytest.mark.parametrize(
    "given", [{}, {"cognito_scopes": ""}, {"cognito_scopes": "none", "cognito_client_ids": "none"}]
)
def test_cognito_needs_scopes_or_client_ids(given):
    (fault,) = faults(datastore_ids=A, auth="cognito", cognito_user_pool_arn=USER_POOL, **given).values()

    assert "auth=cognito requires one of the two" in fault
    assert "cognito_client_ids" in fault
    assert "-c cognito_scopes=frames/read" in fault


@pytest.mark.parametrize("given", [{"cognito_scopes": "frames/read"}, {"cognito_client_ids": "a1"}])
def test_cognito_needs_only_one_of_scopes_and_client_ids(given):
    read(auth="cognito", cognito_user_pool_arn=USER_POOL, **given)


def test_invalid_scopes_are_reported_once():
    found = faults(datastore_ids=A, auth="cognito", cognito_user_pool_arn=USER_POOL, cognito_scopes='a"b')

    assert list(found) == ["cognito_scopes"]
    assert "is not a scope" in found["cognito_scopes"]


@pytest.mark.parametrize(
    ("keys", "idle", "what_it_needs"),
    [
        ({"cognito_user_pool_arn": USER_POOL}, "cognito_user_pool_arn", "auth=cognito"),
        ({**JWT, "cognito_scopes": "frames/read"}, "cognito_scopes", "auth=cognito"),
        ({**JWT, "cognito_client_ids": "a1"}, "cognito_client_ids", "auth=cognito"),
        ({**JWT, "cognito_groups_are_datastores": "true"}, "cognito_groups_are_datastores", "auth=cognito"),
        ({"jwt_image_sets_claim": "image_sets"}, "jwt_image_sets_claim", "auth=jwt"),
        ({**COGNITO, "jwt_studies_claim": "studies"}, "jwt_studies_claim", "auth=jwt"),
        ({"jwt_max_lifetime_seconds": "3600"}, "jwt_max_lifetime_seconds", "auth=jwt"),
        ({**COGNITO, "jwt_issuer": JWT["jwt_issuer"]}, "jwt_issuer", "auth=jwt"),
        ({"auth": "iam", "jwt_audience": "framegate"}, "jwt_audience", "auth=jwt"),
        ({"jwt_datastores_claim": "datastores"}, "jwt_datastores_claim", "auth=jwt"),
        ({"waf_rate_limit": "500"}, "waf_rate_limit", "waf=true"),
    ],
)
def test_key_without_effect_is_reported(keys, idle, what_it_needs):
    assert faults(datastore_ids=A, **keys) == {
        idle: f"has no effect without {what_it_needs}. Remove it, or add: -c {what_it_needs}"
    }


def test_s3_endpoints_without_a_private_api_are_reported():
    example = config_keys()["vpc_endpoint_ids"].example

    assert faults(datastore_ids=A, s3_vpc_endpoint_ids="vpce-0123456789abcdef0") == {
        "s3_vpc_endpoint_ids": "has no effect without vpc_endpoint_ids. "
        f"Remove it, or add: -c vpc_endpoint_ids={example}"
    }


@pytest.mark.parametrize("key", ["domain_certificate_arn", "domain_hosted_zone_id"])
def test_domain_key_without_domain_name_is_reported(key):
    assert faults(datastore_ids=A, **{key: config_keys()[key].example}) == {
        key: "has no effect without domain_name. Remove it, or add: -c domain_name=frames.example.org"
    }


def test_private_api_with_a_domain_name_is_reported():
    found = faults(datastore_ids=A, **DOMAIN, vpc_endpoint_ids="vpce-0123456789abcdef0")

    assert list(found) == ["vpc_endpoint_ids"]
    assert "Remove one of the two" in found["vpc_endpoint_ids"]


def test_invalid_value_hides_faults_that_depend_on_it():
    assert list(faults(datastore_ids=A, auth="open", jwt_issuer=JWT["jwt_issuer"])) == ["auth"]
    assert list(faults(datastore_ids=A, **{**JWT, "jwt_issuer": "http://login.example.org"})) == ["jwt_issuer"]


def test_missing_datastore_ids_are_reported_with_an_example():
    assert faults() == {"datastore_ids": f"is missing. For example: -c datastore_ids={B}"}


def test_unknown_key_is_reported_with_the_closest_key():
    found = faults(datastore_ids=A, memory="512")

    assert found == {"memory": "is not a configuration key. Did you mean: -c memory_mb=3008"}


def test_unknown_key_without_a_close_match_is_reported_with_all_keys():
    found = faults(datastore_ids=A, zzz="1")

    assert all(key in found["zzz"] for key in config_keys())


def test_all_faults_are_reported_together():
    error = config_error({"datastore_id": A, "memory_mb": "64", "log_level": "TRACE"})

    assert list(error.faults) == ["datastore_id", "memory_mb", "log_level", "datastore_ids"]
    assert len(str(error).splitlines()) == 5


def test_long_value_is_shortened_in_the_message():
    assert len(faults(datastore_ids="x" * 10_000)["datastore_ids"]) < 250


@pytest.mark.parametrize(
    ("keys", "gradually"),
    [
        ({}, False),
        ({"environment": "production"}, True),
        ({"environment": "production", "gradual_deployment": "false"}, False),
        ({"gradual_deployment": "true"}, True),
    ],
)
def test_production_deploys_gradually_unless_configured_otherwise(keys, gradually):
    assert read(**keys).deploys_gradually is gradually


@pytest.mark.parametrize(
    "key",
    [
        "aws:cdk:bundling-stacks",
        "aws-cdk:enableDiffNoFail",
        "@aws-cdk/core:checkSecretUsage",
        "@aws-cdk-containers/ecs-service-extensions:enableDefaultLogDriver",
        "availability-zones:account=123456789012:region=eu-west-1",
        "acknowledged-issue-numbers",
        "cdk-migrate",
    ],
)
def test_keys_of_the_cdk_are_ignored(key):
    assert read(**{key: "anything"}) == read()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(key=st.sampled_from(sorted(config_keys())), value=json_values)
def test_any_value_of_any_key_is_accepted_or_reported_by_name(key, value):
    error = config_error({"datastore_ids": A, key: value})

    assert error is None or list(error.faults) == [key]


@given(key=st.text(), value=json_values)
def test_any_unknown_key_is_reported_by_name_on_one_line(key, value):
    assume(key not in config_keys() and key != "cdk-migrate" and ":" not in key and "/" not in key)
    error = config_error({"datastore_ids": A, key: value})

    assert list(error.faults) == [key]
    assert len(str(error).splitlines()) == 2


def test_every_key_has_an_example_that_is_accepted():
    other_keys = {
        "audit_claim": JWT,
        "authorization": {"authorization_function_arn": DECISION_FUNCTION},
        "cognito": COGNITO,
        "jwt": JWT,
        "waf": {**JWT, "waf": True},
        "domain": DOMAIN,
        "vpc": VPC,
        "dataset": {"dataset_tables": True},
        "s3": {"vpc_endpoint_ids": config_keys()["vpc_endpoint_ids"].example},
    }
    for name, key in config_keys().items():
        keys = other_keys.get(name) or other_keys.get(key.example if name == "auth" else name.partition("_")[0], {})
        assert getattr(read(**{**keys, name: key.example}), name) is not None


@pytest.mark.parametrize(
    ("columns", "fault"),
    [
        ("PatientId", "did you mean PatientID"),
        ("patient_id", "did you mean PatientID"),
        ("Xyz", "the keywords are PatientID, "),
        ("Modality", "is always a column, because it identifies nobody"),
        ("PatientID,PatientID", "is given more than once"),
    ],
)
def test_dataset_columns_are_keywords_of_identifying_columns(columns, fault):
    assert fault in faults(dataset_tables="true", dataset_columns=columns)["dataset_columns"]
    found = read(dataset_tables="true", dataset_columns="PatientID,StudyInstanceUID")
    assert found.dataset_columns == ("PatientID", "StudyInstanceUID")


@pytest.mark.parametrize(("name", "value"), [("dataset_columns", "PatientID"), ("dataset_catalog", "true")])
def test_dataset_keys_need_tables(name, value):
    assert "has no effect without dataset_tables=true" in faults(**{name: value})[name]


def test_audit_claim_needs_tokens():
    assert read(**JWT, audit_claim="email").audit_claim == read(**COGNITO, audit_claim="email").audit_claim == "email"
    assert "auth=iam" in faults(audit_claim="email")["audit_claim"]


@pytest.mark.parametrize(
    ("keys", "days"),
    [
        ({}, 365),
        ({"log_retention_days": 30}, 30),
        ({"environment": "production"}, 2192),
        ({"environment": "production", "log_retention_days": 3653}, 3653),
        ({"environment": "production", "audit_retention_days": 2557}, 2557),
        ({"audit_retention_days": 2192, "log_retention_days": 30}, 2192),
        ({"audit_retention_days": 7}, 365),
    ],
)
def test_audit_records_are_kept_for_six_years_in_production(keys, days):
    assert read(**keys).audit_log_retention_days == days


def test_every_default_is_accepted():
    for field in fields(Config):
        if field.default is not MISSING:
            assert read(**{field.name: field.default}) == read()


PRODUCTION = {"environment": "production"}


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"event_source": "local.medical-imaging"}, "announce deletions"),
        ({"removal_policy": "destroy"}, "destroys frames and logs"),
        ({"log_retention_days": "180"}, "shorter than the 365 days"),
        ({"log_retention_days": "1"}, "-c log_retention_days=365"),
    ],
)
def test_production_refuses_settings_that_development_allows(keys, words):
    (name,) = keys
    error = config_error({"datastore_ids": A, **PRODUCTION, **keys})

    assert read(**keys)
    assert list(error.faults) == [name]
    assert words in error.faults[name]


@pytest.mark.parametrize("keys", [{}, {"log_retention_days": "365"}, {"log_retention_days": "2192"}])
def test_production_accepts_its_minimum_retention(keys):
    assert read(**PRODUCTION, **keys).environment == "production"


def test_token_rate_limit_needs_tokens():
    error = config_error({"datastore_ids": A, "waf": "true", "waf_token_rate_limit": "100"})

    assert "auth=iam" in error.faults["waf_token_rate_limit"]
    for tokens in (JWT, COGNITO):
        assert read(**tokens, waf="true", waf_token_rate_limit="100").waf_token_rate_limit == 100


def test_reference_table_has_a_row_for_each_key():
    rows = config_table().splitlines()

    assert [row.split("`")[1] for row in rows[2:]] == [field.name for field in fields(Config)]
    assert all(row.count("|") == 5 for row in rows)


def test_reference_table_shows_lists_as_the_command_line_takes_them():
    (row,) = (row for row in config_table().splitlines() if row.startswith("| `export_events` |"))

    assert row.split(" | ")[1] == "`Created,Updated,Copied`"
