"""Measures large frames stored in S3: memory for a frame of 1 GiB, and throughput."""

from __future__ import annotations

import os

from bench.measure import Row, environment, in_turns, last_line_of_python, ratios, row, silence
from bench.origin import BUCKET, DATASTORE, IMAGE_SET, Frame, Origin

MIB = 1024 * 1024
GIBIBYTE, QUARTER, SMALL = "1" * 32, "4" * 32, "5" * 32
TURNS = 5

# Peak memory is per process, so each measurement has its own process.
PROGRAM = """
from bench.invocations import context, event
from bench.measure import peak_memory
from framegate.entrypoints.api import lambda_handler

assert lambda_handler(event({small!r}, "delivery=url"), context())["statusCode"] == 303
idle = peak_memory()
assert lambda_handler(event({large!r}), context())["statusCode"] == 303
print((peak_memory() - idle) / {mib})
"""


def measure() -> list[Row]:
    """Deliver a frame of 1 GiB, and compare the upload of 256 MiB with boto3's ``upload_fileobj``."""
    block = os.urandom(MIB)
    frames = {GIBIBYTE: Frame(block, 1024), QUARTER: Frame(block, 256), SMALL: Frame(b"small")}
    with Origin(frames) as origin, environment(origin.environment()):
        peaks = [_peak() for _ in range(2)]
        with silence():
            seconds = _uploads()
    return [
        row("peak memory above idle for 1 GiB to S3", peaks, unit="MiB", target=64.0),
        row(
            "throughput of 256 MiB to S3 over boto3's upload_fileobj",
            ratios(seconds["boto3"], seconds["ours"]),
            target=0.95,
            at_most=False,
        ),
        row("  Framegate, MB/s", [256 * MIB / each / 1e6 for each in seconds["ours"]], unit="MB/s"),
    ]


def _peak() -> float:
    return float(last_line_of_python("-c", PROGRAM.format(small=SMALL, large=GIBIBYTE, mib=MIB)))


def _uploads() -> dict[str, list[float]]:
    import boto3

    from framegate.entrypoints import api
    from framegate.identifiers import FrameRef
    from framegate.time_budget import TimeBudget

    source, s3 = boto3.client("medical-imaging"), boto3.client("s3")
    delivery = api._api().frames.delivery
    frame = FrameRef(DATASTORE, IMAGE_SET, QUARTER)

    def ours() -> None:
        budget = TimeBudget(60)
        delivery._source.fetch(
            frame, lambda stream: delivery._store.store(frame, stream.content_type, stream, budget), budget
        )

    def of_boto3() -> None:
        blob = source.get_image_frame(
            datastoreId=DATASTORE, imageSetId=IMAGE_SET, imageFrameInformation={"imageFrameId": QUARTER}
        )["imageFrameBlob"]
        s3.upload_fileobj(blob, BUCKET, "frame")

    return in_turns({"ours": ours, "boto3": of_boto3}, TURNS, warm_up=1)
