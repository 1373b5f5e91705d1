"""Shows the audit records of what the demo did."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from local.cloud import LocalCloud

_LOGS = ("ApiFunction", "RenderFunction", "ExportFunction", "RequestFunction")
"""The functions whose logs have audit records."""


class AuditDemo:
    """The part of the demo that shows audit records.

    Parameters
    ----------
    console : Console
        Prints the table.
    cloud : LocalCloud
        The running local cloud.
    """

    def __init__(self, console: Console, cloud: LocalCloud) -> None:
        self._console = console
        self._logs = cloud.client("logs")
        self.failures = 0

    def show(self) -> None:
        """Print the audit records, counted by all that they have in common; a demo without records has failed."""
        records = list(self._records())
        self.failures += {each["audit"] for each in records} != {"request", "answer"}
        counts: Counter[tuple[Any, ...]] = Counter()
        sizes: Counter[tuple[Any, ...]] = Counter()
        for each in records:
            if each["audit"] == "answer":
                group = (each["principal"], *map(each.get, _COLUMNS))
                counts[group] += 1
                sizes[group] += each["bytes"]
        headers = ("who", "from", "what", "delivery", "status", "problem", "records", "bytes")
        table = Table(*headers, box=None, pad_edge=False)
        for group, count in counts.most_common():
            who, address, route, *rest = group
            what = str(route or "export").rpartition("/imageSet/{imageSetId}/")[2]
            shown = ["" if each is None else str(each) for each in (address, what, *rest)]
            table.add_row(str(who).rpartition(":")[2], *shown, str(count), f"{sizes[group]:,}")
        self._console.print(table)

    def _records(self) -> Iterator[dict[str, Any]]:
        pages = self._logs.get_paginator("describe_log_groups").paginate()
        for name in (group["logGroupName"] for page in pages for group in page["logGroups"]):
            if any(function in name for function in _LOGS):
                for event in self._logs.filter_log_events(logGroupName=name)["events"]:
                    for line in event["message"].splitlines():
                        if line.startswith('{"audit"'):
                            yield json.loads(line)


_COLUMNS = ("sourceIp", "resourcePath", "delivery", "status", "problem")
