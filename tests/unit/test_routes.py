"""The declared routes are complete, consistent, and cheap to import."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from framegate.rest import frame_api
from framegate.rest.problem_documents import STATUS
from framegate.rest.routes import API_ROUTES, FRAME_INDEX, METHODS, ROUTES, Choice, Identifier, Integer, Route, Text

LAMBDA_SRC = Path(__file__).parents[2] / "lambda_src"
OPERATIONS = [operation for route in ROUTES for operation in route.operations]


def fits(type_, value):
    match type_:
        case Integer(minimum, maximum):
            return minimum <= value <= maximum
        case Choice(values):
            return value in values
        case Text(max_length, pattern):
            return len(value) <= max_length and (pattern is None or re.fullmatch(pattern, value))
        case Identifier():
            return re.fullmatch(r"[0-9a-z]{32}", value)


def test_routes_import_only_the_standard_library_and_pure_modules():
    program = "import sys; import framegate.rest.routes; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", program], env={"PYTHONPATH": str(LAMBDA_SRC)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    ours = {name for name in done.stdout.split() if name.startswith("framegate")}
    others = {name.partition(".")[0] for name in done.stdout.split()} - {"framegate", "__main__"}
    assert others <= sys.stdlib_module_names | set(sys.builtin_module_names)
    assert not {name for name in ours if name.startswith(("framegate.aws", "framegate.storage"))}


def test_every_parameter_of_a_template_is_declared():
    for route in ROUTES:
        assert [each.name for each in route.parameters] == re.findall(r"\{(\w+)\}", route.template)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.operation_id)
def test_examples_of_parameters_are_valid(operation):
    for parameter in operation.parameters:
        assert fits(parameter.type, parameter.example), parameter.name


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.operation_id)
def test_every_declared_problem_has_a_status(operation):
    assert set(operation.problems) <= set(STATUS)


def test_operations_and_templates_are_declared_once():
    ids = [operation.operation_id for operation in OPERATIONS]
    assert len(set(ids)) == len(ids)
    assert len({route.template for route in ROUTES}) == len(ROUTES)


def test_head_runs_the_operation_of_get():
    for route in ROUTES:
        by_method = route.operation_by_method
        assert by_method.get("HEAD") is by_method.get("GET")
    assert set(METHODS) == {"GET", "HEAD", "POST"}


def test_operation_without_a_handler_fails_before_the_first_request(monkeypatch, settings):
    unhandled = Route("/unhandled", (), (replace(FRAME_INDEX, operation_id="unhandled"),))
    monkeypatch.setattr(frame_api, "API_ROUTES", (*API_ROUTES, unhandled))
    with pytest.raises(KeyError, match="unhandled"):
        frame_api.FrameApi(settings, None, None, None, dict)
