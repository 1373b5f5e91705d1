"""Measures exports: frames per second of one worker, and processor time per frame."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from bench.measure import Row, environment, ratios, row, silence
from bench.origin import BUCKET, DATASTORE, IMAGE_SET, Frame, Link, Origin

if TYPE_CHECKING:
    from collections.abc import Callable

FRAME_BYTES = 170_000
LATENCY_SECONDS = 0.02
FRAMES, LOOP_FRAMES = 600, 40
"""Number of exported frames, and of those that the sequential loop copies."""

THREADS = 100
TURNS = 5


def measure() -> list[Row]:
    """Compare a worker with a loop of boto3 calls, and with a pool of 100 threads that share two boto3 clients."""
    from pydicom import dcmread
    from pydicom.data import get_testdata_file

    content = os.urandom(FRAME_BYTES)
    ct = dcmread(str(get_testdata_file("CT_small.dcm")), stop_before_pixels=True)
    frames = {f"{number:032d}": Frame(content) for number in range(FRAMES)}
    with (
        Origin(frames, Link(LATENCY_SECONDS), tls=False, dataset=ct.to_json_dict()) as far,
        environment(far.environment()),
        silence(),
    ):
        import boto3
        from botocore.config import Config

        from framegate.entrypoints.export_parts import ExportParts
        from framegate.export.exporter import ExportResult
        from framegate.identifiers import ImageSetRef
        from framegate.messages import ExportOrder
        from framegate.settings import ExportSettings
        from framegate.time_budget import TimeBudget

        parts = ExportParts.build(ExportSettings.from_environment())
        config = Config(max_pool_connections=THREADS)
        source, s3 = boto3.client("medical-imaging", config=config), boto3.client("s3", config=config)

        def copy(frame: str) -> None:
            blob = source.get_image_frame(
                datastoreId=DATASTORE, imageSetId=IMAGE_SET, imageFrameInformation={"imageFrameId": frame}
            )["imageFrameBlob"].read()
            s3.put_object(Bucket=BUCKET, Key=f"frames/{frame}", Body=blob, ContentType="image/jph")

        def ours() -> None:
            order = ExportOrder(ImageSetRef(DATASTORE, IMAGE_SET), "bench")
            result = parts.exporter.export(order, TimeBudget(120))
            assert isinstance(result, ExportResult)
            assert result.frames["copied"] == FRAMES

        def dicom() -> None:
            order = ExportOrder(ImageSetRef(DATASTORE, IMAGE_SET), "bench", output="dicom")
            result = parts.exporter.export(order, TimeBudget(120))
            assert isinstance(result, ExportResult)
            assert result.instances == {"copied": FRAMES, "present": 0, "failed": 0}

        def pool() -> None:
            with ThreadPoolExecutor(THREADS) as threads:
                list(threads.map(copy, frames))

        def loop() -> None:
            for frame in list(frames)[:LOOP_FRAMES]:
                copy(frame)

        done = {"ours": (ours, FRAMES), "dicom": (dicom, FRAMES), "pool": (pool, FRAMES), "loop": (loop, LOOP_FRAMES)}
        rates: dict[str, list[float]] = {name: [] for name in done}
        costs: dict[str, list[float]] = {name: [] for name in done}
        for turn in range(-1, TURNS):
            for name, (task, count) in done.items():
                rate, cost = _timed(task, count)
                if turn >= 0:
                    rates[name].append(rate)
                    costs[name].append(cost)
    return [
        row(
            "export of 170 kB frames, 20 ms per call: frames/s over a boto3 loop",
            ratios(rates["ours"], rates["loop"]),
            target=12,
            at_most=False,
        ),
        row("  over 100 threads with boto3", ratios(rates["ours"], rates["pool"]), target=1.1, at_most=False),
        row("  Framegate, frames/s", rates["ours"], unit="/s"),
        row("  processor time over a boto3 loop's", ratios(costs["ours"], costs["loop"]), target=1.15),
        row("  Framegate, processor ms per frame", [1000 * each for each in costs["ours"]], unit="ms"),
        row("export of CT instances as DICOM files: instances/s", rates["dicom"], target=200, at_most=False, unit="/s"),
        row("  processor time over that of frames", ratios(costs["dicom"], costs["ours"]), target=1.3),
    ]


def _timed(task: Callable[[], object], count: int) -> tuple[float, float]:
    """Run a task that processes `count` frames; return frames per second, and processor seconds per frame."""
    started, used = time.perf_counter(), time.process_time()
    task()
    return count / (time.perf_counter() - started), (time.process_time() - used) / count
