"""Measures requests to a warm function: in awslambdaric's loop, from the event to the last byte of the response."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.invocations import OURS, USUAL, context, event
from bench.measure import Row, environment, in_turns, last_line_of_python, ratios, row, silence
from bench.origin import DATASTORE, IMAGE_SET, Frame, Origin
from bench.runtime_api import Function

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MIB = 1024 * 1024
SMALL_FRAME = "5" * 32


@dataclass(frozen=True, slots=True)
class Size:
    """A frame size, the number of turns, and the targets of its rows."""

    name: str
    frame: str
    size_bytes: int
    turns: int
    max_over_raw: float | None = None
    max_over_usual: float | None = None
    max_peak_mib: float | None = None


CT = Size("CT frame of 185 kB", "c" * 32, 185_000, 300, max_over_raw=1.25)
LARGE = Size("frame of 2.6 MB", "a" * 32, 2_600_000, 100, max_over_usual=0.75)
LARGEST = Size("frame of 4.6 MB", "e" * 32, 4_600_000, 60, max_over_usual=0.75, max_peak_mib=20.0)
SIZES = (CT, LARGE, LARGEST)

READY = "bench.ready_handler.lambda_handler"
SHORT_TURNS = 500
PEAK_TURNS = 5

# Peak memory is per process, so plain boto3 has its own process too.
RAW_PEAK = """
import boto3
from bench.measure import peak_memory

client = boto3.client("medical-imaging")


def get(frame):
    information = {{"imageFrameId": frame}}
    address = {{"datastoreId": {datastore!r}, "imageSetId": {image_set!r}}}
    return client.get_image_frame(**address, imageFrameInformation=information)["imageFrameBlob"].read()


get({small!r})
idle = peak_memory()
for _ in range({turns}):
    get({frame!r})
print((peak_memory() - idle) / {mib})
"""


@dataclass(slots=True)
class Times:
    """The seconds of each turn, and the processor time of all turns in seconds, by contender."""

    elapsed: dict[str, list[float]] = field(default_factory=dict)
    processor: dict[str, float] = field(default_factory=dict)


def measure() -> list[Row]:
    """Compare the API function with plain boto3 and with the usual handler."""
    frames = {each.frame: Frame(os.urandom(each.size_bytes)) for each in SIZES}
    frames[SMALL_FRAME] = Frame(b"small")
    with Origin(frames) as origin, environment(origin.environment()), silence():
        get_raw = _raw_boto3()
        with Function(OURS, origin.environment()) as ours, Function(USUAL, origin.environment()) as usual:
            times = {each: _in_turns(each, get_raw, ours, usual) for each in SIZES}
        peaks = {each: _peaks(each, origin.environment()) for each in SIZES}
        short = _short_requests()
    raw_ct = times[CT].elapsed["raw"]
    rows = [row for each in SIZES for row in _rows(each, times[each], peaks[each])]
    for name, seconds in short.items():
        over_raw = [each / sorted(raw_ct)[len(raw_ct) // 2] for each in seconds]
        rows.append(row(f"warm, {name}: the handler's time over plain boto3's CT frame", over_raw, target=0.3))
        rows.append(row("  Framegate, ms", [1000 * each for each in seconds], unit="ms"))
    speeds = [LARGE.size_bytes / each / 1e6 for each in times[LARGE].elapsed["raw"]]
    return [*rows, row("the emulated origin: plain boto3, 2.6 MB frames", speeds, unit="MB/s")]


def _rows(size: Size, times: Times, peaks: Mapping[str, float]) -> list[Row]:
    ours, usual, raw = (times.elapsed[each] for each in ("ours", "usual", "raw"))
    processor = times.processor
    return [
        row(f"warm, {size.name}: time over plain boto3's", ratios(ours, raw), target=size.max_over_raw),
        row("  time over the usual handler's", ratios(ours, usual), target=size.max_over_usual),
        row("  the usual handler's time over plain boto3's", ratios(usual, raw)),
        row("  a ready document's time over plain boto3's", ratios(times.elapsed["ready"], raw)),
        row("  Framegate, ms", [1000 * each for each in ours], unit="ms"),
        row("  processor time over plain boto3's", [processor["ours"] / processor["raw"]]),
        row("  processor time over the usual handler's", [processor["ours"] / processor["usual"]]),
        row("  peak memory above idle", [peaks["ours"]], unit="MiB", target=size.max_peak_mib),
        row("  the usual handler's", [peaks["usual"]], unit="MiB"),
        row("  plain boto3's", [peaks["raw"]], unit="MiB"),
    ]


def _raw_boto3() -> Callable[[str], object]:
    import boto3

    client = boto3.client("medical-imaging")

    def get(frame: str) -> object:
        return client.get_image_frame(
            datastoreId=DATASTORE, imageSetId=IMAGE_SET, imageFrameInformation={"imageFrameId": frame}
        )["imageFrameBlob"].read()

    return get


def _in_turns(size: Size, get_raw: Callable[[str], object], ours: Function, usual: Function) -> Times:
    with Function(READY, {"BENCH_READY_BYTES": str(size.size_bytes)}) as ready:
        return _time(size, get_raw, {"ours": ours, "usual": usual, "ready": ready})


def _time(size: Size, get_raw: Callable[[str], object], functions: Mapping[str, Function]) -> Times:
    request = event(size.frame)
    times = Times({name: [] for name in ("raw", *functions)})
    for _ in range(3):
        get_raw(size.frame)
        for function in functions.values():
            assert function.invoke(request).response()["statusCode"] == 200
    before = {name: function.processor_seconds() for name, function in functions.items()}
    processor = 0.0
    for _ in range(size.turns):
        started, processor_started = time.perf_counter(), time.thread_time()
        get_raw(size.frame)
        times.elapsed["raw"].append(time.perf_counter() - started)
        processor += time.thread_time() - processor_started
        for name, function in functions.items():
            times.elapsed[name].append(function.invoke(request).seconds)
    times.processor = {name: function.processor_seconds() - before[name] for name, function in functions.items()}
    times.processor["raw"] = processor
    return times


def _peaks(size: Size, variables: Mapping[str, str]) -> dict[str, float]:
    """The peak memory above idle in MiB, by contender."""
    program = RAW_PEAK.format(
        datastore=DATASTORE, image_set=IMAGE_SET, small=SMALL_FRAME, frame=size.frame, turns=PEAK_TURNS, mib=MIB
    )
    return {
        "ours": _peak_of_function(OURS, size, variables),
        "usual": _peak_of_function(USUAL, size, variables),
        "raw": float(last_line_of_python("-c", program)),
    }


def _peak_of_function(handler: str, size: Size, variables: Mapping[str, str]) -> float:
    with Function(handler, variables) as function:
        function.invoke(event(SMALL_FRAME))
        idle = function.peak_memory()
        for _ in range(PEAK_TURNS):
            function.invoke(event(size.frame))
        return (function.peak_memory() - idle) / MIB


def _short_requests() -> dict[str, list[float]]:
    """Time the handler alone, because the loop would take longer than these requests do."""
    from framegate.entrypoints import api

    def answered(request: dict[str, Any]) -> Callable[[], object]:
        return lambda: json.dumps(api.lambda_handler(request, context()))

    return in_turns(
        {
            "304": answered(event(CT.frame, If_None_Match=f'"{CT.frame}.image/jph"')),
            "a malformed id": answered(event("no-identifier")),
            "a refused data store": answered(event(CT.frame, datastore="e" * 32)),
        },
        SHORT_TURNS,
    )
