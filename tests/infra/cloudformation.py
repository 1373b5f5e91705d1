"""Helpers that read CloudFormation templates, so that tests can compare values as text."""

from __future__ import annotations

import json
import re


def text(value):
    """Render a value with its intrinsic functions as ``${Name}`` or ``${Name.Attribute}``."""
    match value:
        case str():
            return value
        case {"Ref": name}:
            return f"${{{name}}}"
        case {"Fn::GetAtt": [name, attribute]}:
            return f"${{{name}.{attribute}}}"
        case {"Fn::Join": [separator, parts]}:
            return separator.join(map(text, parts))
        case {"Fn::Select": [index, {"Fn::Split": [separator, whole]}]}:
            return f"${{{text(whole)} {separator} {index}}}"
    raise AssertionError(f"not a text value: {value}")


def listed(value):
    """Return a value as a list. CloudFormation writes a list of one item as the bare item."""
    return value if isinstance(value, list) else [value]


def only(resources):
    """Return the properties of the only resource."""
    ((_, found),) = resources.items()
    return found


def properties(template, resource_type):
    """Return the properties of all resources of a type, by logical id."""
    return {name: each.get("Properties", {}) for name, each in template.find_resources(resource_type).items()}


def logical_id(reference):
    """Return the logical id of the resource that a ``Ref`` or ``Fn::GetAtt`` refers to."""
    return text(reference).removeprefix("${").removesuffix("}").partition(".")[0]


def function(template, handler):
    """Return the properties of the function with this handler module."""
    name = f"framegate.entrypoints.{handler}.lambda_handler"
    (found,) = (each for each in properties(template, "AWS::Lambda::Function").values() if each["Handler"] == name)
    return found


def role(template, arn):
    """Return the properties of the role with an ARN."""
    return properties(template, "AWS::IAM::Role")[logical_id(arn)]


def statements(found_role):
    """Return the statements of a role by their ``Sid``."""
    (policy,) = found_role["Policies"]
    return {each["Sid"]: each for each in policy["PolicyDocument"]["Statement"]}


def frame_bucket(template):
    """Return the logical id and the properties of the bucket that holds frames."""
    (bucket,) = (
        (name, each) for name, each in properties(template, "AWS::S3::Bucket").items() if "LoggingConfiguration" in each
    )
    return bucket


def state_machine(template):
    """Return the properties of the state machine, and its definition."""
    found = only(properties(template, "AWS::StepFunctions::StateMachine"))
    return found, json.loads(text(found["DefinitionString"]))


def queue_id(queues, construct=""):
    """Return the logical id of the queue with a construct id: the export queue, or ``DeferredStores``."""
    (found,) = (name for name in queues if re.fullmatch(rf"ExportQueue{construct}[0-9A-F]{{8}}", name))
    return found
