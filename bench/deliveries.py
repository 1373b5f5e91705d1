"""Measures billed Lambda time and peak memory per frame, by size and delivery, for the cost model.

``python -m bench.deliveries`` runs this measurement alone, and writes ``bench/durations.json``.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

from bench.durations import ASSUMED, DEFAULT, SIZES, Delivery, write_measured
from bench.invocations import OURS, event
from bench.measure import Row, environment, last_line_of_python, peak_memory, row, silence
from bench.origin import DATASTORE, IMAGE_SET, Frame, Link, Origin
from bench.runtime_api import Function
from framegate.entrypoints.export_parts import WORKERS
from framegate.rest.http import INLINE_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LATENCY_SECONDS = 0.02
"""Delay of each response of HealthImaging and S3."""

TURNS, EXPORTS = 15, 3
EXPORTED = {20_000: 300, 185_000: 300, 2_600_000: 60, 10_000_000: 24}
"""Number of exported frames, by their size."""

QUERIES: dict[Delivery, str] = {"first_url": "delivery=url", "later_url": "delivery=url"}
MIB = 1024 * 1024


def measure() -> list[Row]:
    """Measure each possible size and delivery in its own process, because peak memory is per process."""
    return [
        each
        for name, size in SIZES.items()
        for delivery in get_args(Delivery)
        if size <= INLINE_LIMIT or delivery not in ("inline", "json")
        for each in _measure_one(name, size, delivery)
    ]


def _measure_one(name: str, size: int, delivery: Delivery) -> list[Row]:
    count = EXPORTED[size] if delivery == "export" else 1
    content = os.urandom(size)
    frames = {f"{number:032d}": Frame(content, stored=delivery == "later_url") for number in range(count)}
    # The threads of an export share one link; a single request has it for itself.
    bandwidth = ASSUMED.bandwidth / (WORKERS if delivery == "export" else 1)
    with (
        Origin(frames, Link(LATENCY_SECONDS, bandwidth), tls=delivery != "export") as origin,
        environment(origin.environment()),
    ):
        if delivery == "export":
            found = json.loads(last_line_of_python("-m", "bench.deliveries", str(count)))
        else:
            found = _answered(delivery, origin.environment())
    what = f"{name} {delivery.replace('_', ', ')}"
    return [
        row(f"billed: {what}", found["ms"], unit="ms", key=("ms", str(size), delivery)),
        row(f"  peak memory: {what}", [found["peak_mib"]], unit="MiB", key=("mib", str(size), delivery)),
    ]


def _answered(delivery: Delivery, environment: Mapping[str, str]) -> dict[str, Any]:
    headers = {"Accept": "application/json" if delivery == "json" else "image/*"}
    request = event("0" * 32, QUERIES.get(delivery, ""), **headers)
    expected = 303 if delivery in QUERIES else 200
    with Function(OURS, environment) as function:
        # The first invocation creates clients, so it is not typical.
        assert function.invoke(request).response()["statusCode"] == expected
        milliseconds = [1000 * function.invoke(request).seconds for _ in range(TURNS)]
        return {"ms": milliseconds, "peak_mib": function.peak_memory() / MIB}


def _exported(count: int) -> dict[str, Any]:
    with silence():
        export = _exporting(count)
        milliseconds = [export() for _ in range(EXPORTS + 1)][1:]
    return {"ms": milliseconds, "peak_mib": peak_memory() / MIB}


def _exporting(count: int) -> Callable[[], float]:
    from framegate.entrypoints.export_parts import ExportParts
    from framegate.export.exporter import ExportResult
    from framegate.identifiers import ImageSetRef
    from framegate.messages import ExportOrder
    from framegate.settings import ExportSettings
    from framegate.time_budget import TimeBudget

    settings = replace(ExportSettings.from_environment(), calls_per_second=DEFAULT.export_rate_per_worker)
    exporter = ExportParts.build(settings).exporter
    order = ExportOrder(ImageSetRef(DATASTORE, IMAGE_SET), "bench")

    def export() -> float:
        started = time.perf_counter()
        result = exporter.export(order, TimeBudget(120))
        assert isinstance(result, ExportResult)
        assert result.frames["copied"] == count
        return 1000 * (time.perf_counter() - started) / count

    return export


def main() -> None:
    """Measure every delivery; or, with an argument, an export of that many frames in this process."""
    if len(sys.argv) > 1:
        print(json.dumps(_exported(int(sys.argv[1]))))
        return
    rows = measure()
    for each in rows:
        print(f"{each.what:50} {each.value:8.1f} {each.unit}")
    write_measured(rows)


if __name__ == "__main__":
    main()
