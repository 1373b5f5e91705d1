"""Adds alarms on metric math expressions.

The alarm exists with its actions and other properties. It stays in INSUFFICIENT_DATA because MiniStack computes no
expressions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ministack.services.cloudformation import provisioners  # type: ignore[import-not-found]

from local.ministack.patching import Patches

if TYPE_CHECKING:
    from collections.abc import Callable

patches = Patches()


@patches.replaces(
    provisioners,
    "_cw_metric_alarm_record",
    digest="4565fcede1eb",
    why="MiniStack's CloudFormation rejects alarms on expressions",
)
def record(original: Callable[..., dict[str, Any]], name: str, properties: dict[str, Any]) -> dict[str, Any]:
    """Make MiniStack's record of an alarm."""
    if "Metrics" not in properties:
        return dict(original(name, properties))
    others = {key: value for key, value in properties.items() if key != "Metrics"}
    (result,) = (each for each in properties["Metrics"] if each.get("ReturnData", True))
    # A metric that never has data.
    return dict(original(name, {**others, "Namespace": "Expression", "MetricName": result["Expression"]}))
