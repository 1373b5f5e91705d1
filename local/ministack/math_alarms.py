"""Alarms that watch an expression of several metrics, which MiniStack's CloudFormation refuses.

They are created, with their actions and all else that a description shows, and stay without data: nothing is computed.
"""

from __future__ import annotations

from typing import Any

from ministack.services.cloudformation import provisioners  # type: ignore[import-not-found]

_record = provisioners._cw_metric_alarm_record


def extend() -> None:
    """Let stacks have alarms on expressions."""
    provisioners._cw_metric_alarm_record = record


def record(name: str, properties: dict[str, Any]) -> dict[str, Any]:
    """What MiniStack keeps of an alarm."""
    if "Metrics" not in properties:
        return dict(_record(name, properties))
    others = {key: value for key, value in properties.items() if key != "Metrics"}
    (result,) = (each for each in properties["Metrics"] if each.get("ReturnData", True))
    # A metric that nothing is ever put into.
    return dict(_record(name, {**others, "Namespace": "Expression", "MetricName": result["Expression"]}))
