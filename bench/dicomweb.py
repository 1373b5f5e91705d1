"""Measures DICOMweb: how fast viewers open series of 500 CT slices, and what that costs HealthImaging."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

import psutil

from bench import first_image
from bench.account import Bucket
from bench.durations import DEFAULT, SIZES, duration_ms, load_measured
from bench.emulated import SLICES, EmulatedHealthImaging, Series
from bench.front_end import STAGE, FrontEnd, api_event, warm_up
from bench.invocations import OURS, event
from bench.measure import Row, ratios, row, silence
from bench.origin import DATASTORE, INSTANCE_UID, SERIES_UID, STUDY_UID, Frame, Origin
from bench.runtime_api import Function
from bench.scaling import ACCOUNT, VIEWERS, VIEWERS_ACCOUNT, VIEWERS_CONFIG
from bench.viewer_load import Viewers, simulate_viewers
from bench.viewers import Opening, Viewer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from infra.config import Config

LATENCY_SECONDS = 0.02
"""Delay of each response of HealthImaging."""

FUNCTIONS = 16
"""Functions behind the front end. More would not be faster on a machine of few cores."""

TURNS = 3
"""Series that are opened, each for the first time."""

WARM_TURNS, WARM_FRAMES = 300, 100

MAX_SECONDS, MAX_SECONDS_TEN = 1.5, 12.0
MIN_SECONDS_HEALTHIMAGING = 8.0

ACCEPT = "Accept: multipart/related; type=application/octet-stream; transfer-syntax=*"
"""The header that OHIF and Cornerstone3D send for frames."""


def measure() -> list[Row]:
    """Open series as viewers do, through HealthImaging's DICOMweb and through Framegate."""
    with silence():
        warm = _by_uid_and_by_id()
        opened = asyncio.run(_series())
    return [*opened, *_simulated(), *warm, *first_image.measure()]


async def _series() -> list[Row]:
    warm_up_series, *series = (Series(0, 1), *(Series(number + 1) for number in range(TURNS)))
    with ExitStack() as stack:
        emulator = stack.enter_context(EmulatedHealthImaging([warm_up_series, *series], LATENCY_SECONDS))
        theirs = await Viewer(emulator.port, [ACCEPT], retries=True).open(
            series[0].metadata_path(), series[0].frame_paths()
        )
        origin = stack.enter_context(Origin({}, tls=False, keeps_objects=True))
        environment = {**origin.environment(), "AWS_ENDPOINT_URL_MEDICAL_IMAGING": emulator.url}
        functions = [stack.enter_context(Function(OURS, environment)) for _ in range(FUNCTIONS)]
        name, _, value = ACCEPT.partition(": ")
        target = f"{STAGE}{warm_up_series.frame_paths()[0]}"
        await warm_up(functions, [api_event("GET", target, {"Host": "127.0.0.1", name: value})])
        emulator.take_calls()
        meter = _Meter(functions)
        async with FrontEnd(functions) as front_end:
            ours = [await _open(front_end, each, retries=False) for each in series]
        used = meter.read()
        calls = emulator.take_calls()
        ten = [
            each
            for retries, config in ((False, VIEWERS_CONFIG), (True, DEFAULT))
            for each in await _ten_viewers(functions, series, config, retries=retries)
        ]
    return [
        row(
            f"series of {SLICES} CT slices: HealthImaging's own DICOMweb",
            [theirs.seconds],
            unit="s",
            target=MIN_SECONDS_HEALTHIMAGING,
            at_most=False,
        ),
        row("  Framegate", [each.seconds for each in ours], unit="s", target=MAX_SECONDS),
        row("  minimum on this machine: processor time of all parts over cores", [used.all_parts / TURNS], unit="s"),
        row("    of which Framegate's functions", [used.functions / TURNS], unit="s"),
        row("  frames missing", [float(sum(each.missing for each in ours))], unit="frames", target=0.0),
        *_call_rows(calls),
        *ten,
    ]


async def _open(front_end: FrontEnd, series: Series, *, retries: bool) -> Opening:
    viewer = Viewer(front_end.port, [ACCEPT], retries=retries)
    return await viewer.open(f"{STAGE}{series.metadata_path()}", [f"{STAGE}{path}" for path in series.frame_paths()])


def _call_rows(calls: dict[tuple[str, int], int]) -> Iterator[Row]:
    """Rows of the calls for a series, from the calls for all of them."""
    maximums = {
        "GetImageFrame": SLICES,
        "GetDICOMSeriesMetadata": 1,
        "GetImageSetMetadata": 1,  # the frame index, which leads from UIDs to frames
        "SearchImageSets": 1,
    }
    counts = dict.fromkeys(maximums, 0)
    others = 0
    for (operation, _), count in calls.items():
        if operation in counts:
            counts[operation] += count
        else:
            others += count
    for operation, maximum in maximums.items():
        yield row(
            f"  calls of {operation} for a series", [counts[operation] / TURNS], unit="calls", target=float(maximum)
        )
    yield row("  other calls of HealthImaging", [others / TURNS], unit="calls", target=0.0)


async def _ten_viewers(
    functions: Sequence[Function], series: Sequence[Series], config: Config, *, retries: bool
) -> list[Row]:
    """Let ten viewers open a series each, as many at a time as there are connections."""
    throttle = Bucket(config.throttle_rate, config.throttle_burst, config.throttle_burst, time.monotonic())
    meter = _Meter(functions)
    async with FrontEnd(functions, throttle) as front_end:
        opened = await asyncio.gather(
            *(_open(front_end, series[number % len(series)], retries=retries) for number in range(VIEWERS))
        )
    used = meter.read()
    kind = "repeat a refused request" if retries else "do not repeat a refused request"
    seconds = max(each.seconds for each in opened)
    return [
        row(f"{VIEWERS} viewers that {kind}", [seconds], unit="s", target=MAX_SECONDS_TEN),
        row("  minimum on this machine: processor time of all parts over cores", [used.all_parts], unit="s"),
        row("  frames missing", [float(sum(each.missing for each in opened))], unit="frames", target=0.0),
    ]


def _simulated() -> Iterator[Row]:
    """Simulate the same viewers with as many functions as Lambda starts, and measured durations."""
    seconds = duration_ms(SIZES["185 kB"], "inline", load_measured()) / 1000
    for retries, config, account in ((False, VIEWERS_CONFIG, VIEWERS_ACCOUNT), (True, DEFAULT, ACCOUNT)):
        found = simulate_viewers(Viewers(VIEWERS, SLICES, retries), config, account, seconds)
        kind = "repeat a refused request" if retries else "do not repeat a refused request"
        yield row(f"{VIEWERS} viewers that {kind}, simulated", [found.seconds], unit="s", target=MAX_SECONDS_TEN)
        yield row("  frames missing", [float(found.missing)], unit="frames", target=0.0)


class _Used(NamedTuple):
    """Processor time in seconds, divided by the number of cores: of all parts, and of the functions."""

    all_parts: float
    functions: float


class _Meter:
    """Measures the processor time of this process, of its children, and of the functions."""

    def __init__(self, functions: Sequence[Function]) -> None:
        self._functions = functions
        self._before = self._now()

    def read(self) -> _Used:
        """The processor time since the meter was made, divided by the number of cores."""
        cores = os.cpu_count() or 1
        every, functions = ((after - before) / cores for before, after in zip(self._before, self._now(), strict=True))
        return _Used(every, functions)

    def _now(self) -> tuple[float, float]:
        functions = sum(each.processor_seconds() for each in self._functions)
        this = psutil.Process()
        times = [each.cpu_times() for each in (this, *this.children(recursive=True))]
        return float(sum(each.user + each.system for each in times)), functions


def _by_uid_and_by_id() -> list[Row]:
    """Compare a warm frame by UID with the same frame by its identifier, in turns."""
    frames = {f"{number:032d}": Frame(os.urandom(SIZES["185 kB"])) for number in range(WARM_FRAMES)}
    base = f"{STAGE}/datastore/{DATASTORE}/studies/{STUDY_UID}/series/{SERIES_UID}/instances/{INSTANCE_UID}/frames"
    media_type = "image/jphc"
    seconds: dict[str, list[float]] = {"uid": [], "id": []}
    with Origin(frames, keeps_objects=True) as origin, Function(OURS, origin.environment()) as function:
        for turn in range(-10, WARM_TURNS):
            number = turn % WARM_FRAMES
            requests = {
                "id": event(f"{number:032d}", Accept=media_type),
                "uid": api_event("GET", f"{base}/{number + 1}", {"Host": "127.0.0.1", "Accept": media_type}),
            }
            for name, request in requests.items():
                invocation = function.invoke(request)
                if turn < 0:
                    assert invocation.response()["statusCode"] == 200
                else:
                    seconds[name].append(invocation.seconds)
    return [
        row("warm, CT frame of 185 kB by UID: time over the same frame by id", ratios(*seconds.values()), target=1.15),
        row("  by UID, ms", [1000 * each for each in seconds["uid"]], unit="ms"),
    ]
