"""``ReservedConcurrentExecutions`` of a function in a template, which MiniStack's CloudFormation leaves out."""

from __future__ import annotations

from typing import Any

from ministack.services import lambda_svc  # type: ignore[import-not-found]
from ministack.services.cloudformation import provisioners  # type: ignore[import-not-found]

_FUNCTION = provisioners._RESOURCE_HANDLERS["AWS::Lambda::Function"]

_create_function = _FUNCTION["create"]
_update_function = _FUNCTION["update"]


def extend() -> None:
    """Let stacks reserve concurrency for their functions."""
    _FUNCTION["create"] = create_function
    _FUNCTION["update"] = update_function


def create_function(logical_id: str, properties: dict[str, Any], stack_name: str) -> Any:
    """Create a function of a stack."""
    created = _create_function(logical_id, properties, stack_name)
    _reserve(created[0], properties)
    return created


def update_function(
    physical_id: str, old: dict[str, Any], properties: dict[str, Any], *others: Any, **more: Any
) -> Any:
    """Update a function of a stack."""
    updated = _update_function(physical_id, old, properties, *others, **more)
    _reserve(updated[0], properties)
    return updated


def _reserve(name: str, properties: dict[str, Any]) -> None:
    reserved = properties.get("ReservedConcurrentExecutions")
    lambda_svc._functions[name]["concurrency"] = None if reserved is None else int(reserved)
