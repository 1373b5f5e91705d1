"""Adds log alarms.

The alarm exists with its actions and other properties. It stays in INSUFFICIENT_DATA because MiniStack runs no
scheduled queries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ministack.services.cloudformation import provisioners  # type: ignore[import-not-found]

from local.ministack.patching import Patches

if TYPE_CHECKING:
    from collections.abc import Callable


class _LogAlarms(Patches):
    def apply(self) -> None:
        """Put the replacement in place, and let CloudFormation handle log alarms as metric alarms."""
        super().apply()
        handlers = provisioners._RESOURCE_HANDLERS
        handlers["AWS::CloudWatch::LogAlarm"] = handlers["AWS::CloudWatch::Alarm"]


patches = _LogAlarms()


@patches.replaces(
    provisioners,
    "_cw_metric_alarm_record",
    digest="4565fcede1eb",
    why="MiniStack's CloudFormation has no log alarms",
)
def record(original: Callable[..., dict[str, Any]], name: str, properties: dict[str, Any]) -> dict[str, Any]:
    """Make MiniStack's record of an alarm."""
    if "ScheduledQueryConfiguration" not in properties:
        return dict(original(name, properties))
    query = properties["ScheduledQueryConfiguration"]
    others = {key: value for key, value in properties.items() if key != "ScheduledQueryConfiguration"}
    # A metric that never has data.
    metric = {"Namespace": "LogAlarm", "MetricName": query["AggregationExpression"]}
    return dict(original(name, {**others, **metric, "EvaluationPeriods": properties["QueryResultsToEvaluate"]}))
