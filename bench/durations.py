"""Provides durations per frame, measured or assumed, for the models of cost and scaling."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from framegate.delivery.plan import LAMBDA_BYTES_PER_SECOND
from framegate.entrypoints.export_parts import WORKERS
from infra.config import Config

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bench.measure import Row

Delivery = Literal["inline", "json", "first_url", "later_url", "export"]
"""``first_url`` stores the frame; ``later_url`` finds it stored. Both are requests with ``delivery=url``."""

MEASURED = Path(__file__).parent / "durations.json"
"""The last results of ``bench.deliveries``: milliseconds (``ms``) and peak MiB (``mib``), by size and delivery."""

DEFAULT = Config.from_context({"datastore_ids": "0" * 32})
SIZES = {"20 kB": 20_000, "185 kB": 185_000, "2.6 MB": 2_600_000, "10 MB": 10_000_000}


@dataclass(frozen=True, slots=True)
class Assumptions:
    """Assumed durations and bandwidths (bytes per second) within a Region, where we have no measurement."""

    own_ms: float = 5.0  # the function's own time: routing, headers, signing, a log line
    healthimaging_ms: float = 20.0  # until the first byte
    s3_head_ms: float = 15.0
    s3_put_ms: float = 40.0
    frame_cpu_ms: float = 3.0  # processor time per exported frame: twice what `make bench` measures
    bandwidth: float = LAMBDA_BYTES_PER_SECOND
    answer_bandwidth: float = 50e6  # base64, and from the function to API Gateway
    json_bandwidth: float = 200e6  # base64 in a document of JSON


ASSUMED = Assumptions()


def frame_latency(size: int, a: Assumptions = ASSUMED) -> float:
    """Seconds in which an otherwise idle worker exports one frame."""
    return (a.healthimaging_ms + a.s3_put_ms + a.frame_cpu_ms) / 1000 + size / a.bandwidth


def worker_limits(size: int, config: Config = DEFAULT, a: Assumptions = ASSUMED) -> dict[str, float]:
    """The limits of one export worker, in frames per second by name. The lowest one applies."""
    return {
        "pace": config.export_rate_per_worker,
        "threads": WORKERS / frame_latency(size, a),
        "processor": 1000 / a.frame_cpu_ms,
        "network": a.bandwidth / size,
    }


def duration_ms(
    size: int,
    delivery: Delivery,
    measured: Mapping[str, Mapping[str, float]] | None = None,
    config: Config = DEFAULT,
    a: Assumptions = ASSUMED,
) -> float:
    """Billed Lambda time for one frame, in milliseconds.

    Parameters
    ----------
    size : int
        Size of the frame in bytes.
    delivery : str
        How it is delivered.
    measured : mapping, optional
        The result of `load_measured`. A missing value is computed from the assumptions.
    config : Config
        Gives the pace of exports.
    a : Assumptions
        The assumed durations.
    """
    if (found := (measured or {}).get(str(size), {}).get(delivery)) is not None:
        return found
    fetched, answered = a.healthimaging_ms + size / a.bandwidth * 1000, size / a.answer_bandwidth * 1000
    match delivery:
        case "inline":
            return a.own_ms + fetched + answered
        case "json":
            return a.own_ms + fetched + answered + size / a.json_bandwidth * 1000
        case "first_url":
            return a.own_ms + a.s3_head_ms + fetched + a.s3_put_ms
        case "later_url":
            return a.own_ms + a.s3_head_ms
        case "export":
            return 1000 / min(worker_limits(size, config, a).values())


def load_measured(path: Path = MEASURED) -> dict[str, dict[str, float]]:
    """Load the measured milliseconds, by size and delivery."""
    found: dict[str, dict[str, float]] = json.loads(path.read_text())["ms"]
    return found


def by_key(rows: Iterable[Row]) -> dict[str, dict[str, dict[str, float]]]:
    """Arrange the rows that have a key by the three parts of the key."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for row in rows:
        if row.key:
            kind, size, delivery = row.key
            found.setdefault(kind, {}).setdefault(size, {})[delivery] = round(row.value, 1)
    return found


def write_measured(rows: Iterable[Row], path: Path = MEASURED) -> None:
    """Save the measured values."""
    path.write_text(json.dumps(by_key(rows), indent=2) + "\n")
