"""Measures large frames and DICOM files stored in S3: memory for 1 GiB, and throughput."""

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

# The export of a single small frame loads what every export needs.
PROGRAM_OF_FILES = """
from bench.measure import peak_memory
from bench.origin import DATASTORE, IMAGE_SET
from framegate.entrypoints.export_parts import ExportParts
from framegate.identifiers import ImageSetRef
from framegate.messages import ExportOrder
from framegate.settings import ExportSettings
from framegate.time_budget import TimeBudget

exporter = ExportParts.build(ExportSettings.from_environment()).exporter
image_set = ImageSetRef(DATASTORE, IMAGE_SET)
assert exporter.export(ExportOrder(image_set, "small", image_frame_ids=({small!r},)), TimeBudget(60)).completed
idle = peak_memory()
result = exporter.export(ExportOrder(image_set, "large", output="dicom"), TimeBudget(600))
assert result.completed and result.total_bytes > 1024 * {mib}
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
    single = {GIBIBYTE: Frame(block, 1024), SMALL: Frame(b"small")}
    several = {f"{number:032d}": Frame(block) for number in range(1024)} | {SMALL: Frame(b"small")}
    return [
        row("peak memory above idle for 1 GiB to S3", peaks, unit="MiB", target=64.0),
        row("  for a DICOM file of 1 GiB in one frame", _peaks_of_files(single), unit="MiB", target=64.0),
        row(
            "  for a DICOM file of 1 GiB in 1024 frames",
            _peaks_of_files(several, is_multi_frame=True),
            unit="MiB",
            target=128.0,
        ),
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


def _peaks_of_files(frames: dict[str, Frame], *, is_multi_frame: bool = False) -> list[float]:
    image = {"00280010": {"vr": "US", "Value": [1024]}, "00280011": {"vr": "US", "Value": [1024]}}
    with (
        Origin(frames, dataset=image, is_multi_frame=is_multi_frame) as origin,
        environment(origin.environment()),
    ):
        program = PROGRAM_OF_FILES.format(small=SMALL, mib=MIB)
        return [float(last_line_of_python("-c", program)) for _ in range(2)]


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
