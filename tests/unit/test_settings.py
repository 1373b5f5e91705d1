"""The function's environment."""

import pytest

from framegate.settings import AuthorizerSettings, Settings

ENVIRONMENT = {
    "FRAMEGATE_DATASTORE_IDS": "a, b,",
    "FRAMEGATE_FRAME_BUCKET": "bucket",
    "FRAMEGATE_PRESIGNED_URL_LIFETIME_SECONDS": "300",
    "FRAMEGATE_EXPORT_QUEUE_URL": "https://sqs.example/queue",
    "FRAMEGATE_CORS_ORIGINS": "https://viewer.example",
    "FRAMEGATE_AUTH": "jwt",
}
AUTHORIZER_ENVIRONMENT = {
    "FRAMEGATE_DATASTORE_IDS": "a,b",
    "FRAMEGATE_JWT_ISSUER": "https://login.example/",
    "FRAMEGATE_JWT_AUDIENCE": "framegate,https://frames.example",
    "FRAMEGATE_JWT_DATASTORES_CLAIM": "https://example.org/datastores",
}


def test_settings_come_from_the_environment():
    assert Settings.from_environment(ENVIRONMENT) == Settings(
        datastore_ids=frozenset({"a", "b"}),
        frame_bucket="bucket",
        presigned_url_lifetime=300,
        export_queue_url="https://sqs.example/queue",
        cors_origins=("https://viewer.example",),
        auth="jwt",
    )


def test_settings_of_the_authorizer_come_from_the_environment():
    assert AuthorizerSettings.from_environment(AUTHORIZER_ENVIRONMENT) == AuthorizerSettings(
        datastore_ids=frozenset({"a", "b"}),
        issuer="https://login.example/",
        audiences=("framegate", "https://frames.example"),
        datastores_claim="https://example.org/datastores",
    )


def test_claim_that_is_not_configured_is_none():
    environment = {**AUTHORIZER_ENVIRONMENT, "FRAMEGATE_JWT_DATASTORES_CLAIM": ""}
    assert AuthorizerSettings.from_environment(environment).datastores_claim is None


@pytest.mark.parametrize(
    ("settings", "environment", "name"),
    [
        *((Settings, ENVIRONMENT, name) for name in ENVIRONMENT),
        *((AuthorizerSettings, AUTHORIZER_ENVIRONMENT, name) for name in AUTHORIZER_ENVIRONMENT),
    ],
)
def test_missing_variable_is_named(settings, environment, name):
    with pytest.raises(KeyError, match=name):
        settings.from_environment({key: value for key, value in environment.items() if key != name})
