"""Adds ``ReservedConcurrentExecutions`` to the functions of a stack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ministack.services import lambda_svc  # type: ignore[import-not-found]
from ministack.services.cloudformation import provisioners  # type: ignore[import-not-found]

from local.ministack.patching import Patches

if TYPE_CHECKING:
    from collections.abc import Callable

WHY = "MiniStack's CloudFormation ignores ReservedConcurrentExecutions"

_FUNCTION = provisioners._RESOURCE_HANDLERS["AWS::Lambda::Function"]

patches = Patches()


@patches.replaces(_FUNCTION, "create", digest="8b2cf80e961d", why=WHY)
def create_function(original: Callable[..., Any], logical_id: str, properties: dict[str, Any], stack_name: str) -> Any:
    """Create a function of a stack."""
    created = original(logical_id, properties, stack_name)
    _reserve(created[0], properties)
    return created


@patches.replaces(_FUNCTION, "update", digest="4855410e37d7", why=WHY)
def update_function(
    original: Callable[..., Any],
    physical_id: str,
    old: dict[str, Any],
    properties: dict[str, Any],
    *others: Any,
    **more: Any,
) -> Any:
    """Update a function of a stack."""
    updated = original(physical_id, old, properties, *others, **more)
    _reserve(updated[0], properties)
    return updated


def _reserve(name: str, properties: dict[str, Any]) -> None:
    reserved = properties.get("ReservedConcurrentExecutions")
    lambda_svc._functions[name]["concurrency"] = None if reserved is None else int(reserved)
