"""Reads CloudFormation values as text, so that a test can say what it expects in one line."""

from __future__ import annotations

import json


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
    """Return the items of a value that CloudFormation writes bare when there is one."""
    return value if isinstance(value, list) else [value]


def only(resources):
    """Return the properties of the one resource there is to be."""
    ((_, found),) = resources.items()
    return found


def properties(template, resource_type):
    """Return the properties of all resources of a type, by logical id."""
    return {name: each.get("Properties", {}) for name, each in template.find_resources(resource_type).items()}


def logical_id(reference):
    """Return the name of the resource that a value refers to, by its ``Ref`` or one of its attributes."""
    return text(reference).removeprefix("${").removesuffix("}").partition(".")[0]


def function(template, handler):
    """Return the properties of the function that runs a module of handlers."""
    name = f"framegate.entrypoints.{handler}.lambda_handler"
    (found,) = (each for each in properties(template, "AWS::Lambda::Function").values() if each["Handler"] == name)
    return found


def role(template, arn):
    """Return the properties of the role with an ARN."""
    return properties(template, "AWS::IAM::Role")[logical_id(arn)]


def statements(found_role):
    """Return the statements of a role by what they are for."""
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
