"""The function's environment."""

import pytest

from framegate.settings import Settings

ENVIRONMENT = {
    "FRAMEGATE_DATASTORE_IDS": "a, b,",
    "FRAMEGATE_FRAME_BUCKET": "bucket",
    "FRAMEGATE_PRESIGNED_URL_LIFETIME_SECONDS": "300",
    "FRAMEGATE_EXPORT_QUEUE_URL": "https://sqs.example/queue",
    "FRAMEGATE_CORS_ORIGINS": "https://viewer.example",
}


def test_settings_come_from_the_environment():
    assert Settings.from_environment(ENVIRONMENT) == Settings(
        datastore_ids=frozenset({"a", "b"}),
        frame_bucket="bucket",
        presigned_url_lifetime=300,
        export_queue_url="https://sqs.example/queue",
        cors_origins=("https://viewer.example",),
    )


@pytest.mark.parametrize("name", ENVIRONMENT)
def test_missing_variable_is_named(name):
    with pytest.raises(KeyError, match=name):
        Settings.from_environment({key: value for key, value in ENVIRONMENT.items() if key != name})
