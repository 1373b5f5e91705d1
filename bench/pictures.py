"""Measures thumbnails that the render function draws of a radiograph of 9 MB."""

from __future__ import annotations

import io
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np
import psutil
import pydicom
import urllib3
from PIL import Image
from pydicom.data import get_testdata_file

from bench.invocations import context
from bench.measure import Row, environment, in_turns, ratios, row, silence
from bench.origin import BUCKET, DATASTORE, IMAGE_SET, Frame, Origin
from bench.runtime_api import Function
from framegate.bucket_layout import latest_version_key, picture_index_key
from framegate.identifiers import ImageSetRef

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

RADIOGRAPH = "8" * 32
HANDLER = "framegate.entrypoints.rendering.lambda_handler"
ROUTE = "/datastore/{datastoreId}/imageSet/{imageSetId}/imageFrame/{imageFrameId}/thumbnail"
ROWS, COLUMNS = 4_280, 3_520
STARTS, TURNS, PAGE = 6, 15, 40
FUNCTIONS = 4
"""Functions that draw a page. Lambda starts as many as there are requests; here, all share the processors."""

RESOLUTION_BYTES, SKIPPED_DECOMPOSITIONS = 64 * 1024, 4
"""What a thumbnail reads of the frame: its third resolution, of 220 by 268 pixels."""

WINDOW_CENTER, WINDOW_WIDTH = 2_048, 4_096

NOISE = 3.0
"""Standard deviation of the noise, in stored values of 12 bits. A frame of this size then has 9 MB."""


def measure() -> list[Row]:
    """Compare a thumbnail with decoding the whole frame the usual way; measure memory, cold start and a page."""
    content = radiograph()
    with Origin({RADIOGRAPH: Frame(content)}, keeps_objects=True) as origin:
        with environment(origin.environment()), silence():
            _store_objects(origin)
            seconds, sent, read = _warm(content)
        starts, memory = _functions(origin.environment())
        page, page_minimum = _page(origin.environment())
    size = f"{len(content) / 1e6:.1f} MB"
    return [
        row(
            f"thumbnail of 256 pixels of a radiograph of {size}: read from HealthImaging",
            [read / 1e3],
            unit="kB",
            target=100,
        ),
        row("  bytes of the picture", [sent / 1e3], unit="kB", target=12),
        row(
            "  warm, over decoding the whole frame the usual way",
            ratios(seconds["ours"], seconds["usual"]),
            target=0.05,
        ),
        row(
            "  minimum on this machine: the same without a gateway, plain boto3 that reads 64 kB and draws",
            ratios(seconds["minimum"], seconds["usual"]),
        ),
        row("  warm, ms", [1000 * each for each in seconds["ours"]], unit="ms"),
        row("  peak memory of the function and the process that draws", [memory / 2**20], unit="MiB"),
        row("  cold start until the first picture, ms", [1000 * each for each in starts], unit="ms"),
        row(f"  a page of {PAGE} thumbnails at once from {FUNCTIONS} warm functions, ms", [1000 * page], unit="ms"),
        row("  minimum on this machine: processor time of all parts over cores, ms", [1000 * page_minimum], unit="ms"),
    ]


def _warm(content: bytes) -> tuple[dict[str, list[float]], int, int]:
    """Time both ways; return the seconds, the bytes of the picture, and the bytes that were read."""
    import boto3

    from framegate.entrypoints import rendering
    from framegate.healthimaging.client import FrameStream

    client = boto3.client("medical-imaging")
    answers: list[dict[str, Any]] = []
    call = partial(
        client.get_image_frame,
        datastoreId=DATASTORE,
        imageSetId=IMAGE_SET,
        imageFrameInformation={"imageFrameId": RADIOGRAPH},
    )

    def ours() -> None:
        answers.append(rendering.lambda_handler(event(), context()))

    def usual() -> None:
        _draw(imagecodecs.htj2k_decode(call()["imageFrameBlob"].read()))

    def minimum() -> None:
        body = call()["imageFrameBlob"]
        start = body.read(RESOLUTION_BYTES)
        body.close()
        _draw(imagecodecs.htj2k_decode(start, skipres=SKIPPED_DECOMPOSITIONS))

    seconds = in_turns({"ours": ours, "usual": usual, "minimum": minimum}, TURNS)
    assert answers[-1]["statusCode"] == 200, answers[-1]
    counted: list[int] = []
    original = FrameStream.close

    def close(stream: FrameStream) -> None:
        counted.append(stream.bytes_read)
        original(stream)

    FrameStream.close = close  # type: ignore[method-assign, assignment]
    try:
        ours()
    finally:
        FrameStream.close = original  # type: ignore[method-assign]
    assert counted[-1] < len(content)
    return seconds, len(answers[-1]["body"]) // 4 * 3, counted[-1]


def _draw(samples: NDArray[np.uint16]) -> None:
    grey = np.clip((samples.astype(np.float32) - WINDOW_CENTER) / WINDOW_WIDTH + 0.5, 0, 1) * 255
    picture = Image.fromarray(grey.astype(np.uint8))
    picture.thumbnail((256, 256))
    picture.save(io.BytesIO(), "JPEG", quality=85)


def _functions(variables: Mapping[str, str]) -> tuple[list[float], int]:
    """Return the seconds of cold starts, and the peak memory in bytes."""
    starts = []
    for _ in range(STARTS):
        started = time.perf_counter()
        with Function(HANDLER, variables) as function:
            response = function.invoke(event()).response()
            starts.append(time.perf_counter() - started)
            assert response["statusCode"] == 200, response
    with Function(HANDLER, variables) as function:
        for _ in range(STARTS):
            function.invoke(event())
        memory = function.peak_memory()
    return starts, memory


def _page(variables: Mapping[str, str]) -> tuple[float, float]:
    """Return the seconds of a page whose thumbnails are requested at once, and the least that it can take here."""
    with ExitStack() as stack, ThreadPoolExecutor(PAGE) as clients:
        idle: SimpleQueue[Function] = SimpleQueue()
        for _ in range(FUNCTIONS):
            function = stack.enter_context(Function(HANDLER, variables))
            function.invoke(event())
            idle.put(function)

        def request(_: int) -> None:
            function = idle.get()
            try:
                assert function.invoke(event()).response()["statusCode"] == 200
            finally:
                idle.put(function)

        processor, started = _processor_seconds(), time.perf_counter()
        list(clients.map(request, range(PAGE)))
        seconds = time.perf_counter() - started
        return seconds, (_processor_seconds() - processor) / (os.cpu_count() or 1)


def _processor_seconds() -> float:
    """The processor time of this process, the functions, the processes that draw, and the origin."""
    this = psutil.Process()
    times = [each.cpu_times() for each in (this, *this.children(recursive=True))]
    return float(sum(each.user + each.system for each in times))


def event() -> dict[str, Any]:
    """Make the event of a request for the thumbnail."""
    path = {"datastoreId": DATASTORE, "imageSetId": IMAGE_SET, "imageFrameId": RADIOGRAPH}
    return {
        "httpMethod": "GET",
        "resource": ROUTE,
        "path": ROUTE.format(**path),
        "pathParameters": path,
        "multiValueHeaders": {},
        "multiValueQueryStringParameters": None,
        "requestContext": {"requestId": "bench", "stage": "v1", "path": "/v1"},
        "body": None,
        "isBase64Encoded": False,
    }


def _store_objects(origin: Origin) -> None:
    """Store the objects in the bucket that a request for a known image set reads."""
    http = urllib3.PoolManager(ca_certs=str(origin.ca_bundle))
    for key, content in _objects().items():
        http.request("PUT", f"{origin.url}/{BUCKET}/{key}", body=content)


def _objects() -> dict[str, bytes]:
    image_set = ImageSetRef(DATASTORE, IMAGE_SET)
    numbers = {"00280002": 1, "00280010": ROWS, "00280011": COLUMNS, "00280100": 16, "00280101": 12, "00280103": 0}
    attributes: dict[str, Any] = {tag: {"Value": [number]} for tag, number in numbers.items()}
    attributes["00280004"] = {"Value": ["MONOCHROME2"]}
    attributes |= {"00281050": {"Value": [WINDOW_CENTER]}, "00281051": {"Value": [WINDOW_WIDTH]}}
    instance = {
        "frameCount": 1,
        "sopInstanceUID": "1.2.3",
        "storedTransferSyntaxUID": "1.2.840.10008.1.2.4.202",
        "frames": [[RADIOGRAPH, 0, 4095]],
        "attributes": attributes,
    }
    return {
        latest_version_key(image_set): json.dumps({"versionId": "1", "checkedAt": time.time()}).encode(),
        picture_index_key(image_set, "1", 1): json.dumps(instance, separators=(",", ":")).encode() + b"\n",
    }


def radiograph() -> bytes:
    """Encode a radiograph of pydicom as HealthImaging does, at the size and with the noise of a modern detector."""
    pixels = pydicom.dcmread(str(get_testdata_file("RG1_UNCR.dcm", download=False))).pixel_array.astype(np.float32)
    enlarged = np.asarray(Image.fromarray(pixels).resize((COLUMNS, ROWS), Image.Resampling.BICUBIC))
    scaled = enlarged / enlarged.max() * 3_800
    noisy = scaled + np.random.default_rng(7).normal(0, NOISE, scaled.shape)
    encode = partial(imagecodecs.htj2k_encode, reversible=True, resolutions=6, tlm=True)
    return bytes(encode(noisy.clip(0, 4095).astype(np.uint16), tilepart=imagecodecs.HTJ2K.TILEPART.RESOLUTIONS))
