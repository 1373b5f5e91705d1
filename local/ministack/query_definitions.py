"""Adds saved CloudWatch Logs Insights queries, which MiniStack's CloudFormation does not know.

CloudFormation creates the resource and returns its id. MiniStack has no operation that reads it.
"""

from __future__ import annotations

import uuid
from typing import Any

from ministack.services.cloudformation import provisioners  # type: ignore[import-not-found]

from local.ministack.patching import MiniStackChangedError

TYPE = "AWS::Logs::QueryDefinition"


class _Addition:
    """Adds the type to MiniStack's table of resource types."""

    def apply(self) -> None:
        """Add the type.

        Raises
        ------
        MiniStackChangedError
            If MiniStack has the type by now.
        """
        if TYPE in provisioners._RESOURCE_HANDLERS:
            raise MiniStackChangedError(f"MiniStack has {TYPE} by now. Remove {__name__}.")
        provisioners._RESOURCE_HANDLERS[TYPE] = {"create": _create, "delete": _delete}


patches = _Addition()


def _create(_logical_id: str, properties: dict[str, Any], _stack_name: str) -> tuple[str, dict[str, Any]]:
    """Check the required properties, and return an id as CloudWatch Logs makes it."""
    for name in ("Name", "QueryString"):
        if not properties.get(name):
            raise ValueError(f"{TYPE} requires {name}")
    return str(uuid.uuid4()), {}


def _delete(_physical_id: str, _properties: dict[str, Any]) -> None:
    """Delete nothing: there is only the id."""
