"""How long frames take, as measured or else as assumed: what the models of cost and of scaling rest on."""

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
"""``first_url`` stores the frame, ``later_url`` finds it stored; both with ``delivery=url``."""

MEASURED = Path(__file__).parent / "durations.json"
"""What ``bench.deliveries`` measured last: milliseconds (``ms``) and peak memory (``mib``), by size and delivery."""

DEFAULT = Config.from_context({"datastore_ids": "0" * 32})
SIZES = {"20 kB": 20_000, "185 kB": 185_000, "2.6 MB": 2_600_000, "10 MB": 10_000_000}


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What calls are taken to last within a Region, where nothing was measured there."""

    own_ms: float = 5.0  # the function's own time: routing, headers, signing, a log line
    healthimaging_ms: float = 20.0  # until the first byte
    s3_head_ms: float = 15.0
    s3_put_ms: float = 40.0
    frame_cpu_ms: float = 3.0  # of an exported frame, twice what `make bench` measures
    bandwidth: float = LAMBDA_BYTES_PER_SECOND
    answer_bandwidth: float = 50e6  # base64, and from the function to API Gateway
    json_bandwidth: float = 200e6  # base64 in a document of JSON


ASSUMED = Assumptions()


def frame_latency(size: int, a: Assumptions = ASSUMED) -> float:
    """Seconds that one frame takes a worker that has nothing else to do."""
    return (a.healthimaging_ms + a.s3_put_ms + a.frame_cpu_ms) / 1000 + size / a.bandwidth


def worker_limits(size: int, config: Config = DEFAULT, a: Assumptions = ASSUMED) -> dict[str, float]:
    """Frames a second that one export worker copies, by what bounds it; the least of them counts."""
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
    """Milliseconds for which Lambda is paid for one frame.

    Parameters
    ----------
    size : int
        Bytes of the frame.
    delivery : str
        How it is delivered.
    measured : mapping, optional
        What `load_measured` gives; what is not in it is assumed.
    config : Config
        Decides the pace of exports.
    a : Assumptions
        What is assumed.
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
    """The milliseconds that were measured, by size and delivery."""
    found: dict[str, dict[str, float]] = json.loads(path.read_text())["ms"]
    return found


def by_key(rows: Iterable[Row]) -> dict[str, dict[str, dict[str, float]]]:
    """The figures that have a key, by its three parts."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for row in rows:
        if row.key:
            kind, size, delivery = row.key
            found.setdefault(kind, {}).setdefault(size, {})[delivery] = round(row.value, 1)
    return found


def write_measured(rows: Iterable[Row], path: Path = MEASURED) -> None:
    """Keep what was measured."""
    path.write_text(json.dumps(by_key(rows), indent=2) + "\n")
