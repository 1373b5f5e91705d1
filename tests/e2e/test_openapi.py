"""The API conforms to its OpenAPI document, for valid and for invalid requests."""

from __future__ import annotations

import re
import zlib

import pydicom
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    ignored_auth,
    negative_data_rejection,
    positive_data_acceptance,
    status_code_conformance,
)

from framegate.rest.routes import (
    INSTANCE_FILE_ROUTE,
    MAX_HEADER_LENGTH,
    SERIES_FILES_ROUTE,
    UNSUPPORTED_ROUTES,
)
from local.cloud import ACCESS_KEY, REGION, SECRET_KEY
from local.signing import SigV4
from tests.infra.project import PROJECT

# The API ignores unknown query parameters, such as those of a signature in the query.
config = schemathesis.Config.from_dict({"generation": {"allow-extra-parameters": False}})
schema = schemathesis.openapi.from_path(PROJECT / "docs" / "openapi.json", config=config)


NOT_SUPPORTED = {route.template for route in (*UNSUPPORTED_ROUTES, SERIES_FILES_ROUTE, INSTANCE_FILE_ROUTE)}
"""Paths of retrievals that the deployment does not support: it writes no DICOM files."""

MAX_EXAMPLES = {"HEAD": 8}
"""Examples of an operation, by method. HEAD runs the code of GET."""


@pytest.fixture(scope="session")
def known(imported):
    """Existing identifiers, which replace well-formed ones so that the request reaches a frame."""
    frame = next(frame for frame in imported.frames if 100_000 < frame.size < 1_000_000)
    datasets = (pydicom.dcmread(path, stop_before_pixels=True) for path in imported.folder.iterdir())
    dataset = next(each for each in datasets if each.SOPInstanceUID == frame.sop_instance_uid)
    return {
        "studyInstanceUID": str(dataset.StudyInstanceUID),
        "seriesInstanceUID": str(dataset.SeriesInstanceUID),
        "instanceUID": str(dataset.SOPInstanceUID),
        "frameList": "1",
        "datastoreId": frame.datastore_id,
        "imageSetId": frame.image_set_id,
        "imageFrameId": frame.image_frame_id,
        "sopInstanceUID": frame.sop_instance_uid,
    }


OPERATIONS = {operation.ok().label: operation.ok() for operation in schema.get_all_operations()}


# A test of its own for each operation: pytest-xdist would run only one of Schemathesis' own, which share their id.
@pytest.mark.parametrize("label", OPERATIONS)
def test_every_response_conforms_to_the_openapi_document(label, deployment, known):
    operation = OPERATIONS[label]

    # Each example is a call, so a failure is reported as it was found.
    @settings(
        max_examples=MAX_EXAMPLES.get(operation.method.upper(), 25),
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=st.one_of(operation.as_strategy(generation_mode=mode) for mode in GenerationMode))
    def check(case):
        _call_and_validate(case, deployment, known)

    check()


def _call_and_validate(case, deployment, known):
    # The case itself decides, so that every run is the same.
    if zlib.crc32(repr((case.path_parameters, case.query, case.body)).encode()) % 4:
        _name_what_exists(case, known)
    # The check sends other credentials, which the signature would replace. See test_permissions.py and test_auth.py.
    excluded = [ignored_auth]
    if _has_conflicting_parameters(case) or _has_a_condition(case) or _has_free_text(case):
        excluded.append(positive_data_acceptance)
    if case.operation.path in NOT_SUPPORTED:
        # The operation always answers 501.
        excluded.append(not_a_server_error)
    if any(len(str(value)) > MAX_HEADER_LENGTH for value in (case.headers or {}).values()):
        # API Gateway refuses such a request; the local cloud passes it on.
        excluded.append(negative_data_rejection)
    transport = {
        "base_url": deployment.api_url,
        "auth": SigV4(ACCESS_KEY, SECRET_KEY, REGION),
        "allow_redirects": False,
    }
    answer = case.call(**transport)
    if answer.status_code == requests.codes.header_fields_too_large:
        # The local cloud's web server refuses headers and URLs above 64 KiB, before the API gets the request.
        assert sum(len(str(value)) for value in [answer.request.url, *case.headers.values()]) > MAX_HEADER_LENGTH
        excluded += [status_code_conformance, negative_data_rejection]
    case.validate_response(answer, excluded_checks=excluded, transport_kwargs=transport)


def _has_conflicting_parameters(case):
    """Whether the request may be refused for values that exclude each other, which OpenAPI cannot express."""
    frames = str((case.path_parameters or {}).get("frameList", "")).split(",")
    if len(set(frames)) < len(frames):
        return True
    kinds = ({"size"}, {"resolution"}, {"startLevel", "endLevel"})
    given = set(case.query or {})
    return sum(bool(kind & given) for kind in kinds) > 1 or {"startLevel", "endLevel"} <= given or "nextToken" in given


def _has_free_text(case):
    """Whether a valid request may get 406 or 400 for values whose form OpenAPI does not describe."""
    return bool({"accept", "includefield", "viewport", "window"} & set(case.query or {}))


def _has_a_condition(case):
    """Whether a valid request may get 412, which depends on the current entity tag."""
    given = {name.lower() for name in case.headers or {}}
    return "if-match" in given or (case.method == "POST" and "if-none-match" in given)


def _name_what_exists(case, known):
    for holder in (case.path_parameters, case.query, case.body, _information(case.body)):
        for name, value in known.items():
            if isinstance(holder, dict) and _is_well_formed(name, holder.get(name)):
                holder[name] = value


def _information(body):
    return body.get("imageFrameInformation") if isinstance(body, dict) else None


def _is_well_formed(name, value):
    pattern = r"[0-9.,]{1,256}" if name.endswith("UID") or name == "frameList" else r"[0-9a-z]{32}"
    return isinstance(value, str) and bool(re.fullmatch(pattern, value))
