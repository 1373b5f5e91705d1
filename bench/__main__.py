"""Measures everything, prints one table, and writes ``bench/results.json`` and ``bench/results.png``."""

from __future__ import annotations

import json
import multiprocessing
import platform
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, cast

from rich.console import Console
from rich.table import Table

from bench import cold, deliveries, dicomweb, exporting, large, pictures, tables, thumbnail, warm
from bench.costs import dollars_per_million
from bench.durations import SIZES, by_key
from bench.plot import draw

if TYPE_CHECKING:
    from bench.durations import Delivery
    from bench.measure import Row

FOLDER = Path(__file__).parent
SECTIONS = (warm, cold, thumbnail, pictures, large, exporting, tables, deliveries, dicomweb)


def main() -> int:
    """Run all sections. A missed target is reported but is not a failure, because machines differ."""
    console = Console()
    rows: list[Row] = []
    started = time.monotonic()
    for section in SECTIONS:
        name = section.__name__.rpartition(".")[2]
        # A separate process for each section keeps loaded modules and clients out of the next one.
        with (
            console.status(f"measuring {name}"),
            ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process,
        ):
            rows += process.submit(section.measure).result()
        console.print(f"{time.monotonic() - started:6.1f} s  {name}", style="dim")
    console.print(_table(rows))
    console.print()
    console.print(_table_of_deliveries(rows))
    console.print()
    _write(rows)
    missed = sum(not each.is_met for each in rows)
    targets = sum(each.target is not None for each in rows)
    console.print(f"{missed} of {targets} targets missed; all results are in bench/results.json and bench/results.png")
    return 0


def _table(rows: list[Row]) -> Table:
    table = Table("measurement", "median", "quartiles", "target", box=None, pad_edge=False)
    for column in (1, 2, 3):
        table.columns[column].justify = "right"
    for each in (each for each in rows if not each.key):
        target = "" if each.target is None else f"{'≤' if each.at_most else '≥'} {each.target:g}"
        colour = "" if each.target is None else "[green]" if each.is_met else "[red]"
        table.add_row(
            each.what,
            f"{colour}{each.value:.3g} {each.unit}",
            f"{each.low:.3g} … {each.high:.3g}",
            target,
        )
    return table


def _table_of_deliveries(rows: list[Row]) -> Table:
    """Make the table of billed time, memory and cost by frame size and delivery."""
    table = Table(
        "delivery of a frame, with 20 ms per AWS call and 75 MB/s",
        "billed",
        "peak memory",
        "cost per million",
        box=None,
        pad_edge=False,
    )
    for column in (1, 2, 3):
        table.columns[column].justify = "right"
    found = by_key(rows)
    for name, size in SIZES.items():
        for delivery, duration in found["ms"][str(size)].items():
            cost = dollars_per_million(size, cast("Delivery", delivery), duration)
            memory = found["mib"][str(size)][delivery]
            what = f"{name}, {delivery.replace('_url', ' request by URL')}"
            table.add_row(what, f"{duration:.0f} ms", f"{memory:.0f} MiB", f"${cost:.2f}")
    return table


def _write(rows: list[Row]) -> None:
    machine = {"python": platform.python_version(), "machine": platform.machine(), "system": platform.system()}
    results = {"machine": machine, "rows": [each.to_json() for each in rows]}
    (FOLDER / "results.json").write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    draw(rows, FOLDER / "results.png")


if __name__ == "__main__":
    sys.exit(main())
