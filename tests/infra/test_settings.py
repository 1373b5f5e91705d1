"""The environment that the stack gives a function is the one that the function reads."""

from __future__ import annotations

import re

import pytest

from framegate.settings import (
    ALLOCATOR,
    AuthorizerSettings,
    ExportQueueSettings,
    ExportSettings,
    LoggingSettings,
    Settings,
    TableSettings,
)
from tests.infra.cloudformation import function, properties, text
from tests.infra.project import ACCESS, AUTH, DATASTORE_A, DATASTORE_B

SETTINGS_BY_HANDLER = {
    "api": (Settings,),
    "rendering": (Settings,),
    "authorizer": (AuthorizerSettings,),
    "export": (ExportSettings, ExportQueueSettings),
    "export_requests": (ExportSettings,),
    "tables": (TableSettings,),
}
CONFIGURATIONS = {
    **ACCESS,
    "everything else": {
        "export_events": "none",
        "export_output": "dicom",
        "dataset_tables": "true",
        "dataset_columns": "PatientID,StudyInstanceUID",
        "export_rate": "100",
        "export_concurrency": "3",
        "verify": "true",
        "fips_endpoints": "true",
        "log_level": "DEBUG",
        "stack_name": "Research",
        "cors_origins": "https://a.example.org,https://b.example.org",
    },
}


def handlers(template):
    return [each["Handler"].split(".")[2] for each in properties(template, "AWS::Lambda::Function").values()]


def environment(template, handler):
    return {name: text(value) for name, value in function(template, handler)["Environment"]["Variables"].items()}


@pytest.mark.parametrize("keys", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_every_function_reads_all_of_its_environment(synthesize, keys):
    template = synthesize(**keys)
    found = handlers(template)

    absent = {"authorizer"} if keys.get("auth") != "jwt" else set()
    absent |= set() if keys.get("dataset_tables") else {"tables"}
    assert set(found) == set(SETTINGS_BY_HANDLER) - absent
    for handler in found:
        variables = environment(template, handler)
        expected = {"AWS_USE_FIPS_ENDPOINT": "true"} if keys.get("fips_endpoints") else {}
        # The C library reads this one.
        expected |= ALLOCATOR if handler in ("api", "rendering") else {}
        for settings in (*SETTINGS_BY_HANDLER[handler], LoggingSettings):
            expected |= settings.from_environment(variables).to_environment()
        assert variables == expected, handler


def test_settings_are_those_of_the_configuration(synthesize):
    template = synthesize(**AUTH["jwt"], export_rate="100", export_concurrency="3", verify="true")
    api = Settings.from_environment(environment(template, "api"))
    authorizer = AuthorizerSettings.from_environment(environment(template, "authorizer"))
    export = ExportSettings.from_environment(environment(template, "export"))

    assert api.datastore_ids == authorizer.datastore_ids == export.datastore_ids == (DATASTORE_A, DATASTORE_B)
    assert (api.auth, api.presigned_url_lifetime_seconds) == ("jwt", 300)
    assert authorizer.audiences == ("framegate", "https://frames.example.org")
    assert (export.calls_per_second, export.verify) == (16.6667, True)
    assert re.fullmatch(r"\$\{\w+\}", api.frame_bucket)
    assert export.frame_bucket == api.frame_bucket
