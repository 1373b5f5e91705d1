"""Measures billed Lambda time and peak memory per frame, by size and delivery, for the cost model.

``python -m bench.deliveries`` runs this measurement alone, and writes ``bench/durations.json``.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast, get_args

from bench.durations import ASSUMED, DEFAULT, SIZES, Delivery, write_measured
from bench.invocations import context, event
from bench.measure import Row, environment, last_line_of_python, peak_memory, row, silence
from bench.origin import DATASTORE, IMAGE_SET, Frame, Link, Origin
from framegate.entrypoints.export_parts import WORKERS
from framegate.rest.http import INLINE_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable

LATENCY_SECONDS = 0.02
"""Delay of each response of HealthImaging and S3."""

TURNS = 15
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
        found = json.loads(last_line_of_python("-m", "bench.deliveries", delivery, str(count)))
    what = f"{name} {delivery.replace('_', ', ')}"
    return [
        row(f"billed: {what}", found["ms"], unit="ms", key=("ms", str(size), delivery)),
        row(f"  peak memory: {what}", [found["peak_mib"]], unit="MiB", key=("mib", str(size), delivery)),
    ]


def _measure_here(delivery: Delivery, count: int) -> dict[str, Any]:
    with silence():
        task = _exporting(count) if delivery == "export" else _answering(delivery)
        # The first invocation creates clients, so it is not typical.
        turns = [task() for _ in range((3 if delivery == "export" else TURNS) + 1)][1:]
    return {"ms": turns, "peak_mib": peak_memory() / MIB}


def _answering(delivery: Delivery) -> Callable[[], float]:
    from framegate.entrypoints import api

    headers = {"Accept": "application/json" if delivery == "json" else "image/*"}
    request = event("0" * 32, QUERIES.get(delivery, ""), **headers)
    expected = 303 if delivery in QUERIES else 200

    def answer() -> float:
        started = time.perf_counter()
        result = api.lambda_handler(request, context())
        json.dumps(result)
        assert result["statusCode"] == expected, result
        return 1000 * (time.perf_counter() - started)

    return answer


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
    """Measure every delivery; or, with arguments, one delivery in this process."""
    if len(sys.argv) > 1:
        print(json.dumps(_measure_here(cast("Delivery", sys.argv[1]), int(sys.argv[2]))))
        return
    rows = measure()
    for each in rows:
        print(f"{each.what:50} {each.value:8.1f} {each.unit}")
    write_measured(rows)


if __name__ == "__main__":
    main()
