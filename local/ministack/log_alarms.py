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

LOG_ALARM, METRIC_ALARM = "AWS::CloudWatch::LogAlarm", "AWS::CloudWatch::Alarm"
WHY = "MiniStack's CloudFormation has no log alarms"

patches = Patches()


@patches.replaces(provisioners, "_provision_resource", digest="3b8f01fb1871", why=WHY)
def provision(original: Callable[..., Any], kind: str, logical_id: str, properties: dict[str, Any], stack: str) -> Any:
    """Create a log alarm as a metric alarm, and any other resource as it is."""
    if kind != LOG_ALARM:
        return original(kind, logical_id, properties, stack)
    return original(METRIC_ALARM, logical_id, _as_metric_alarm(properties), stack)


@patches.replaces(provisioners, "_update_resource", digest="21b9b1207f59", why=WHY)
def update(
    original: Callable[..., Any],
    kind: str,
    physical_id: str,
    old: dict[str, Any],
    new: dict[str, Any],
    *arguments: Any,
    **options: Any,
) -> Any:
    """Update a log alarm as a metric alarm, and any other resource as it is."""
    if kind != LOG_ALARM:
        return original(kind, physical_id, old, new, *arguments, **options)
    return original(METRIC_ALARM, physical_id, _as_metric_alarm(old), _as_metric_alarm(new), *arguments, **options)


@patches.replaces(provisioners, "_delete_resource", digest="9e9ba54fb428", why=WHY)
def delete(original: Callable[..., None], kind: str, *arguments: Any, **options: Any) -> None:
    """Delete a log alarm as a metric alarm, and any other resource as it is."""
    original(METRIC_ALARM if kind == LOG_ALARM else kind, *arguments, **options)


def _as_metric_alarm(properties: dict[str, Any]) -> dict[str, Any]:
    """Return the properties of an alarm on a metric that never has data."""
    configuration = properties.get("ScheduledQueryConfiguration", {})
    others = {key: value for key, value in properties.items() if key != "ScheduledQueryConfiguration"}
    return {
        **others,
        "Namespace": "LogAlarm",
        "MetricName": configuration.get("AggregationExpression"),
        "EvaluationPeriods": properties.get("QueryResultsToEvaluate", 1),
    }
