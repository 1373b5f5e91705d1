"""Reads CloudFormation values as text, so that a test can say what it expects in one line."""

from __future__ import annotations


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
