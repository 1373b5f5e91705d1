"""Synthesized stacks for the template tests: each configuration once per session, without building the bundle."""

from __future__ import annotations

import json
from functools import cache

import pytest
from aws_cdk import App
from aws_cdk.assertions import Template

from infra.application import compose
from tests.infra.cloudformation import properties
from tests.infra.project import DATASTORE_A, DATASTORE_B, PROJECT


@pytest.fixture(scope="session", autouse=True)
def without_builtin_validation():
    """Turn the CDK's own validation off, which takes many seconds in each process.

    test_checks.py lints the templates, and test_app.py runs the application with this validation.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CDK_VALIDATION", "false")
        yield


@pytest.fixture(scope="session")
def cdk_context():
    """Return the context that the CDK command line passes to the application, with bundling turned off."""
    flags = json.loads((PROJECT / "cdk.json").read_text())["context"]

    def context(**keys):
        return {**flags, "aws:cdk:bundling-stacks": [], "datastore_ids": f"{DATASTORE_A},{DATASTORE_B}", **keys}

    return context


@pytest.fixture(scope="session")
def synthesize_stack(tmp_path_factory, cdk_context):
    """Synthesize the application with the given configuration keys; the same keys give the same artifact."""
    synthesized = {}

    def artifact(**keys):
        name = json.dumps(keys, sort_keys=True)
        if name not in synthesized:
            app = App(context=cdk_context(**keys), outdir=str(tmp_path_factory.mktemp("cdk.out")))
            stack = compose(app)
            synthesized[name] = app.synth().get_stack_by_name(stack.stack_name)
        return synthesized[name]

    return artifact


@pytest.fixture(scope="session")
def synthesize(synthesize_stack):
    """Return the template of the application with the given configuration keys."""
    return cache(lambda **keys: Template.from_json(synthesize_stack(**keys).template))


@pytest.fixture(scope="session")
def template(synthesize):
    """The template of a deployment with the default configuration."""
    return synthesize()


@pytest.fixture(scope="session")
def resources(template):
    """Return the properties of all resources of a type in that template, by logical id."""
    return lambda resource_type: properties(template, resource_type)
