"""Adds alarms on an expression of several metrics.

MiniStack creates such an alarm, with its actions and everything else that a description shows. It stays without data:
nothing is computed.
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
    why="MiniStack's CloudFormation refuses alarms on expressions",
)
def record(original: Callable[..., dict[str, Any]], name: str, properties: dict[str, Any]) -> dict[str, Any]:
    """What MiniStack keeps of an alarm."""
    if "Metrics" not in properties:
        return dict(original(name, properties))
    others = {key: value for key, value in properties.items() if key != "Metrics"}
    (result,) = (each for each in properties["Metrics"] if each.get("ReturnData", True))
    # A metric that nothing is ever put into.
    return dict(original(name, {**others, "Namespace": "Expression", "MetricName": result["Expression"]}))
