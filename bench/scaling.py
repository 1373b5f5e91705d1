"""Computes the tables of ``docs/scaling.md`` by simulation: the first limit of requests, and the duration of exports.

``python -m bench.scaling`` prints the tables; the document explains the model. The limits come from the product's code,
the quotas from `bench.account` and the durations from `bench.durations`. Random numbers have a seed, so that the tables
are the same each time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench.account import GET_IMAGE_FRAME, GET_IMAGE_SET, GET_IMAGE_SET_METADATA, Account
from bench.durations import DEFAULT, SIZES, Delivery, duration_ms, worker_limits
from bench.export_load import extrapolated_export, max_waiting, predicted_export, simulate_export
from bench.request_load import Kind, first_wall, simulate_requests
from bench.viewer_load import Viewers, simulate_viewers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from infra.config import Config

ACCOUNT = Account()


def kind(share: float, size: str, delivery: Delivery, slower: float = 0.0) -> Kind:
    """Requests for frames of a size; `slower` is an additional latency of HealthImaging in seconds."""
    calls = () if delivery == "later_url" else (GET_IMAGE_FRAME,)
    return Kind(share, duration_ms(SIZES[size], delivery) / 1000 + slower * len(calls), calls)


INDEX_SECONDS = 0.1
"""Assumed duration of a request for an index: two HealthImaging calls, and three S3 calls."""


def index(share: float, *calls: str) -> Kind:
    """Requests for frame indexes, with these HealthImaging calls."""
    return Kind(share, INDEX_SECONDS, calls)


CHECKED, BUILT = (GET_IMAGE_SET,), (GET_IMAGE_SET, GET_IMAGE_SET_METADATA)
"""HealthImaging calls for a stored index whose version must be checked, and for an index that must be built."""


def mixed(slower: float = 0.0) -> tuple[Kind, ...]:
    """A mix of requests from viewers."""
    return (
        kind(0.30, "20 kB", "inline", slower),
        kind(0.55, "185 kB", "inline", slower),
        kind(0.10, "2.6 MB", "inline", slower),
        kind(0.02, "10 MB", "first_url", slower),
        kind(0.03, "10 MB", "later_url"),
    )


MIXED, FIRST = mixed(), (kind(1.0, "10 MB", "first_url"),)


OPENING = (index(1.0, *BUILT),)
OPENING_EXPORTED = (index(1.0, GET_IMAGE_SET_METADATA),)
OPENING_AGAIN = (index(1.0, *CHECKED),)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A load, a configuration and an account, with their name in the table."""

    name: str
    kinds: tuple[Kind, ...] = MIXED
    config: Config = DEFAULT
    account: Account = ACCOUNT


def throttled_at(rate: int) -> Config:
    """The default configuration with this `throttle_rate`, and a burst of twice that."""
    return replace(DEFAULT, throttle_rate=rate, throttle_burst=2 * rate)


SCENARIOS = (
    Scenario("defaults"),
    Scenario("defaults, every request the first for a frame of 10 MB", FIRST),
    Scenario("defaults, HealthImaging 2.5 s slower", mixed(slower=2.5)),
    Scenario("`throttle_rate=2000`", config=throttled_at(2000)),
    Scenario(
        "`throttle_rate=4000`, HealthImaging's quota 5000",
        config=throttled_at(4000),
        account=replace(ACCOUNT, frame_rate=5000, frame_burst=10_000),
    ),
    Scenario(
        "`throttle_rate=8000`, HealthImaging's quota 10,000, every request the first for a frame of 10 MB",
        FIRST,
        throttled_at(8000),
        replace(ACCOUNT, frame_rate=10_000, frame_burst=20_000),
    ),
)

INDEX_SCENARIOS = (
    Scenario("opened for the first time", OPENING),
    Scenario("opened within five minutes of their export on an event", OPENING_EXPORTED),
    Scenario("opened again, after five minutes or more", OPENING_AGAIN),
    Scenario("opened again, within five minutes", (index(1.0),)),
    Scenario(
        "opened for the first time, `GetImageSet` quota 200",
        OPENING,
        account=replace(ACCOUNT, image_set_rate=200, image_set_burst=400),
    ),
)
"""Viewers that open image sets and request only the index of each."""

STUDIES = {
    "CT, 500 × 185 kB": (500, SIZES["185 kB"]),
    "mammogram, 4 × 10 MB": (4, SIZES["10 MB"]),
    "one frame of 185 kB": (1, SIZES["185 kB"]),
}

MAX_SIMULATED = 10_000
"""Image sets of the largest export that is simulated; larger ones are extrapolated."""

VIEWERS, VIEWER_FRAMES = 10, 500
"""Viewers that open a series each at the same moment, and the frames of a series."""

VIEWERS_CONFIG = replace(throttled_at(2500), throttle_burst=VIEWERS * VIEWER_FRAMES)
VIEWERS_ACCOUNT = replace(ACCOUNT, frame_rate=3000, frame_burst=6000, concurrency=1500)
"""The configuration and the quotas that the document recommends for viewers that do not repeat a refused request."""

GROWTH = ((400, 2), (800, 2), (400, 8), (800, 8), (1600, 8), (4000, 20))
"""Pairs of `export_rate` and `export_concurrency`."""


def table(header: str, rows: Iterable[Iterable[object]]) -> str:
    """Make a Markdown table."""
    rule = " | ".join("---" for _ in header.split(" | "))
    lines = [header, rule, *(" | ".join(map(str, row)) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)


def duration(seconds: float) -> str:
    """Format seconds in a suitable unit."""
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.1f} s"


def walls() -> str:
    """Make the table of the limit that is reached first as the request rate grows."""

    def row(scenario: Scenario) -> tuple[object, ...]:
        _, traffic = first_wall(scenario.kinds, scenario.config, scenario.account)
        ((wall, _),) = traffic.refused.most_common(1)
        answered, exported = (each / traffic.seconds for each in (traffic.answered, traffic.export_calls))
        return (
            scenario.name,
            f"{float(f'{answered:.2g}'):,.0f}",
            wall,
            f"{traffic.max_concurrent:,}",
            f"{exported:,.0f}",
        )

    return table(
        "deployment and load | answered, requests/s | more are refused by | functions at once | exports then, frames/s",
        map(row, SCENARIOS),
    )


def indexes() -> str:
    """Make the table of the image sets that viewers can open per second, and the limit above that."""

    def row(scenario: Scenario) -> tuple[object, ...]:
        _, traffic = first_wall(scenario.kinds, scenario.config, scenario.account)
        ((wall, _),) = traffic.refused.most_common(1)
        return scenario.name, f"{float(f'{traffic.answered / traffic.seconds:.2g}'):,.0f}", wall

    return table("image sets | answered, indexes/s | more are refused by", map(row, INDEX_SCENARIOS))


def bursts() -> str:
    """Make the table of requests that arrive all at once after an idle period."""

    def row(count: int) -> tuple[object, ...]:
        traffic = simulate_requests([0.0] * count, MIXED, DEFAULT, ACCOUNT, full=1.0)
        refused = ", ".join(f"{number:,} by {wall}" for wall, number in sorted(traffic.refused.items()))
        return f"{count:,}", f"{traffic.answered:,}", refused or "–"

    return table("at once | answered | refused", map(row, (500, 996, 1000, 2000)))


def viewers() -> str:
    """Make the table of viewers that open a series each at the same moment, by clients with and without retries."""

    def row(name: str, config: Config, account: Account, retries: bool) -> tuple[object, ...]:
        seconds = duration_ms(SIZES["185 kB"], "inline") / 1000
        opened = simulate_viewers(Viewers(VIEWERS, VIEWER_FRAMES, retries), config, account, seconds)
        refused = ", ".join(f"{number:,} by {wall}" for wall, number in sorted(opened.refused.items()))
        client = "repeat" if retries else "do not repeat"
        return name, client, f"{opened.missing:,}", f"{opened.seconds:.1f} s", refused or "–"

    deployments = (
        ("defaults", DEFAULT, ACCOUNT),
        ("only the API's throttle raised", VIEWERS_CONFIG, ACCOUNT),
        ("recommended", VIEWERS_CONFIG, VIEWERS_ACCOUNT),
    )
    rows = [row(*each, retries) for each in deployments for retries in (True, False)]
    return table("deployment | refused requests: the viewers … | frames missing | seconds | refused", rows)


def export_times() -> str:
    """Make the table of export durations, by events and by request manifest, for image sets that arrive at once."""

    def row(count: int) -> tuple[object, ...]:
        seconds = (
            extrapolated_export(count, *study, by_events=by_events)
            if count > MAX_SIMULATED
            else simulate_export(count, *study, by_events=by_events).seconds
            for study in STUDIES.values()
            for by_events in (True, False)
        )
        return f"{count:,}", *map(duration, seconds)

    header = " | ".join(f"{name}: by events | on request" for name in STUDIES)
    waiting = [each for study in STUDIES.values() for each in (f"{max_waiting(*study):,}", "any")]
    rows = [row(10**power) for power in range(7)]
    return table(f"image sets | {header}", [*rows, ("most that the queue keeps", *waiting)])


def growth() -> str:
    """Make the table of throughput, the limit of a worker and export durations, as the two keys grow."""

    def row(rate: int, concurrency: int) -> tuple[object, ...]:
        config = replace(DEFAULT, export_rate=rate, export_concurrency=concurrency)
        cells: list[object] = [f"{rate:,}", concurrency]
        for frames, size in list(STUDIES.values())[:2]:
            limits = worker_limits(size, config)
            bound = min(limits, key=lambda name: limits[name])
            seconds = predicted_export(1_000_000, frames, size, config, by_events=False)
            cells += [f"{limits[bound]:,.3g}, {bound}", duration(seconds)]
        single = simulate_export(10_000, *STUDIES["one frame of 185 kB"], config, by_events=True)
        return (*cells, f"{single.image_sets / single.seconds:,.0f}")

    header = " | ".join(f"{name}: frames/s of a worker | a million on request" for name in list(STUDIES)[:2])
    header += " | single frames by events: image sets/s"
    return table(f"`export_rate` | `export_concurrency` | {header}", (row(*each) for each in GROWTH))


RECOVERY = ((10_000, 2, 400), (100_000, 2, 400), (1_000_000, 2, 400), (1_000_000, 8, 800))
"""Image sets to export again, `export_concurrency` and `export_rate`."""


def recovery() -> str:
    """Make the table of the time that exporting everything again takes, with request manifests."""

    def row(count: int, concurrency: int, rate: int) -> tuple[object, ...]:
        config = replace(DEFAULT, export_rate=rate, export_concurrency=concurrency)
        times = (predicted_export(count, *study, config, by_events=False) for study in STUDIES.values())
        return f"{count:,}", f"{rate:,}", concurrency, *map(duration, times)

    header = f"image sets | `export_rate` | `export_concurrency` | {' | '.join(STUDIES)}"
    return table(header, (row(*each) for each in RECOVERY))


def tables() -> dict[str, str]:
    """The tables of ``docs/scaling.md`` by name."""
    return {
        "walls": walls(),
        "bursts": bursts(),
        "indexes": indexes(),
        "viewers": viewers(),
        "exports": export_times(),
        "growth": growth(),
    }


if __name__ == "__main__":
    print("\n\n".join(tables().values()))
