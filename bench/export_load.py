"""Simulates exports of one to a million image sets, and predicts their duration with formulas."""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass
from functools import lru_cache, partial
from math import ceil
from typing import TYPE_CHECKING

from bench.account import Account, Bucket
from bench.durations import ASSUMED, DEFAULT, frame_latency, worker_limits
from framegate.entrypoints.export_parts import WORKERS
from framegate.export.exporter import FINISH_SHARE, MAX_FINISH_SECONDS
from framegate.export.invocation import RETURN_SECONDS
from framegate.export.worker import MIN_WORK_SECONDS
from infra.export.functions import BATCH_SIZE
from infra.queues import RETENTION

if TYPE_CHECKING:
    from infra.config import Config


@dataclass(frozen=True, slots=True)
class Overheads:
    """Assumed durations of an export apart from its frames, in seconds."""

    before: float = 0.12  # metadata, list of stored frames
    after: float = 0.12  # manifest, final version check, event
    dispatch: float = 0.05  # SQS: until the function has the next batch
    line: float = 0.30  # Step Functions: from the end of a line to the start of the next
    latest: float = 0.05  # S3: stores the event's version for the index
    cold_start: float = 1.5
    lines_a_second: float = 20_000.0  # lines of a request manifest checked per second


OVERHEADS = Overheads()


@dataclass(frozen=True, slots=True)
class Exports:
    """The result of a simulated export."""

    seconds: float
    frames: int
    image_sets: int
    invocations: int


def copy_frames(count: int, size: int, config: Config, available: float) -> tuple[int, float]:
    """Simulate the threads of a worker; return the number of frames stored in time, and the seconds taken."""
    interval = 1 / worker_limits(size, config)["pace"]
    serial = max(ASSUMED.frame_cpu_ms / 1000, size / ASSUMED.bandwidth)
    apart = frame_latency(size) - serial
    threads = [0.0] * min(WORKERS, count)
    turn = line = last = 0.0
    done = 0
    for _ in range(count):
        turn = max(threads[0], turn)
        if turn > available:
            break
        # Latency is per frame; all frames share the processor and the network.
        line = max(turn + apart, line) + serial
        heapq.heapreplace(threads, line)
        turn += interval
        if line <= available:
            done, last = done + 1, line
    return done, last if done == count else available


def invoke(batch: tuple[int, ...], size: int, config: Config, *, by_events: bool) -> tuple[float, int, tuple[int, ...]]:
    """Simulate one invocation of the worker; return seconds, copied frames, and the frames left of each image set."""
    elapsed, copied, left = 0.0, 0, []
    for count in batch:
        remaining = config.export_timeout_seconds - RETURN_SECONDS - elapsed
        done = 0
        if remaining >= MIN_WORK_SECONDS:
            work = remaining - min(MAX_FINISH_SECONDS, FINISH_SHARE * remaining)
            done, seconds = copy_frames(count, size, config, work - OVERHEADS.before)
            elapsed += OVERHEADS.before + seconds + OVERHEADS.after + by_events * OVERHEADS.latest
        copied += done
        left.append(count - done)
    return elapsed, copied, tuple(left)


def simulate_export(
    image_sets: int,
    frames: int,
    size: int,
    config: Config = DEFAULT,
    *,
    by_events: bool,
    account: Account | None = None,
) -> Exports:
    """Simulate the export of image sets that all arrive at once, by events or by the lines of a request manifest."""
    account = account or Account()
    metadata = Bucket(account.metadata_rate, account.metadata_burst, account.metadata_burst)
    # Each line of a manifest is a separate invocation; its remaining frames continue in the same slot.
    max_batch, gap = (BATCH_SIZE, OVERHEADS.dispatch) if by_events else (1, OVERHEADS.line)
    start = 0.0 if by_events else OVERHEADS.line + image_sets / OVERHEADS.lines_a_second
    workers = [start + OVERHEADS.cold_start] * config.export_concurrency
    spend = lru_cache(maxsize=None)(partial(invoke, size=size, config=config, by_events=by_events))
    # The frames left of an image set, and the time from which it is available.
    queue = deque([(frames, 0.0)] * image_sets)
    copied = finished = invocations = 0
    end = start
    while queue:
        now = max(workers[0], queue[0][1]) + gap
        batch = [queue.popleft()[0]]
        while len(batch) < max_batch and queue and queue[0][1] <= now:
            batch.append(queue.popleft()[0])
        now += metadata.reserve(now, len(batch))
        seconds, done, left = spend(tuple(batch))
        now += seconds
        heapq.heapreplace(workers, now)
        again = [(count, now) for count in left if count]
        (queue.extend if by_events else queue.extendleft)(again)
        copied, finished, invocations = copied + done, finished + len(batch) - len(again), invocations + 1
        end = max(end, now)
    return Exports(end, copied, finished, invocations)


def extrapolated_export(image_sets: int, frames: int, size: int, *, by_events: bool) -> float:
    """Extrapolate the duration of the same export in seconds, from a tenth and a fifth of the image sets.

    Each further image set takes the same time, so a simulation of so many would only be slower.
    """
    tenth, fifth = (simulate_export(image_sets // part, frames, size, by_events=by_events).seconds for part in (10, 5))
    return tenth + 9 * (fifth - tenth)


def predicted_export(image_sets: int, frames: int, size: int, config: Config = DEFAULT, *, by_events: bool) -> float:
    """Predict the duration of the same export in seconds, with the formulas of ``docs/scaling.md``."""
    o, workers = OVERHEADS, config.export_concurrency
    rate = min(worker_limits(size, config).values())
    one = o.before + frame_latency(size) + (frames - 1) / rate + o.after
    if by_events:
        around = o.latest + o.dispatch / BATCH_SIZE
        return o.cold_start + max(min(image_sets, BATCH_SIZE), image_sets / workers) * (one + around)
    return o.cold_start + o.line + image_sets / o.lines_a_second + ceil(image_sets / workers) * (one + o.line)


def max_waiting(frames: int, size: int, config: Config = DEFAULT) -> int:
    """Image sets that events can export before the last message exceeds the queue's retention period."""
    one = predicted_export(10_000, frames, size, config, by_events=True) / 10_000
    return int(RETENTION.to_seconds() / one)
