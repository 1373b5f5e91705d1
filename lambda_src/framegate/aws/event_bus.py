"""Sends Framegate's events to EventBridge."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from framegate.aws.errors import botocore_problems, is_throttling
from framegate.messages import EVENT_SOURCE
from framegate.problems import Throttled, UpstreamFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_events.type_defs import PutEventsRequestEntryTypeDef

SERVICE = "EventBridge"


class EventBus:
    """An event bus.

    Parameters
    ----------
    client : callable
        Returns the EventBridge client; called on first use.
    name : str
        Name or ARN of the bus.
    """

    def __init__(self, client: Callable[[], EventBridgeClient], name: str) -> None:
        self._client = client
        self._name = name

    def announce(self, detail_type: str, detail: dict[str, Any]) -> None:
        """Send an event from the source ``framegate``.

        Raises
        ------
        Throttled, UpstreamFailed
            If EventBridge does not accept the event.
        """
        entry: PutEventsRequestEntryTypeDef = {
            "EventBusName": self._name,
            "Source": EVENT_SOURCE,
            "DetailType": detail_type,
            "Detail": json.dumps(detail),
        }
        with botocore_problems(SERVICE):
            answer = self._client().put_events(Entries=[entry])
        if answer["FailedEntryCount"]:
            code = answer["Entries"][0].get("ErrorCode", "")
            evidence = {"upstream_error": code}
            if is_throttling(code):
                raise Throttled(SERVICE, evidence=evidence)
            raise UpstreamFailed(SERVICE, "did not accept an event", evidence=evidence)
