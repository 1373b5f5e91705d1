"""Measures a thumbnail of a large frame over a link of 100 Mbit/s, as a clinic may have."""

from __future__ import annotations

import json

import imagecodecs
import numpy as np
import urllib3

from bench.invocations import context, event
from bench.measure import Row, environment, in_turns, ratios, row, silence
from bench.origin import DATASTORE, IMAGE_SET, Frame, Link, Origin

FRAME = "7" * 32
LINK = Link(0.02, 100e6 / 8)
TURNS = 7

THUMBNAIL_BYTES = 48_000
"""Approximate size of the thumbnail, which the baseline client reads."""


def measure() -> list[Row]:
    """Compare a thumbnail of 128 pixels with the whole frame, which boto3 reads over the same link."""
    content = large_frame()
    with Origin({FRAME: Frame(content)}, LINK) as origin, environment(origin.environment()), silence():
        import boto3

        from framegate.delivery.executor import InlineFrame
        from framegate.delivery.portions import BySize
        from framegate.delivery.request import DeliveryMode, FrameRequest
        from framegate.entrypoints import api
        from framegate.identifiers import FrameRef
        from framegate.rest.negotiation import Accept, FrameNegotiation
        from framegate.time_budget import TimeBudget

        client = boto3.client("medical-imaging")

        def thumbnail() -> None:
            answer = api.lambda_handler(event(FRAME, "size=128"), context())
            json.dumps(answer)
            assert answer["headers"]["Framegate-Whole-Frame"] == "false"

        http = urllib3.PoolManager(maxsize=1, ca_certs=str(origin.ca_bundle))

        def new_connection() -> None:
            answer = http.request(
                "POST",
                f"{origin.url}/datastore/{DATASTORE}/imageSet/{IMAGE_SET}/getImageFrame",
                body=json.dumps({"imageFrameId": FRAME}),
                preload_content=False,
            )
            left = THUMBNAIL_BYTES
            while left:
                left -= len(answer.read1(left))
            answer.close()
            answer.release_conn()

        def whole() -> None:
            client.get_image_frame(
                datastoreId=DATASTORE, imageSetId=IMAGE_SET, imageFrameInformation={"imageFrameId": FRAME}
            )["imageFrameBlob"].read()

        seconds = in_turns({"thumbnail": thumbnail, "new connection": new_connection, "whole": whole}, TURNS, warm_up=1)
        delivered = api._api().frames.delivery.deliver(
            FrameRef(DATASTORE, IMAGE_SET, FRAME),
            FrameRequest(DeliveryMode.AUTO, FrameNegotiation(Accept.parse("*/*")), BySize(128)),
            TimeBudget(20),
        )
        assert isinstance(delivered, InlineFrame)
    size = f"{len(content) / 1e6:.1f} MB"
    return [
        row(
            f"thumbnail of a {size} frame, 100 Mbit/s, 20 ms: time over the whole frame's",
            ratios(seconds["thumbnail"], seconds["whole"]),
            target=0.06,
        ),
        row(
            "  baseline: a new connection that reads as many bytes",
            ratios(seconds["new connection"], seconds["whole"]),
        ),
        row("  Framegate, ms", [1000 * each for each in seconds["thumbnail"]], unit="ms"),
        row(
            "  bytes read from HealthImaging over the frame's size", [delivered.bytes_read / len(content)], target=0.04
        ),
    ]


def large_frame() -> bytes:
    """Make an HTJ2K frame of about 10 MB, encoded as HealthImaging does, with structure at every scale."""
    rows, columns = 2_700, 2_300
    y, x = np.mgrid[:rows, :columns]
    smooth = 800 * np.sin(x / 37) * np.cos(y / 53) + (x + y) % 97 * 5
    noisy = smooth + np.random.default_rng(7).normal(0, 500, (rows, columns)) + 2000
    encoded = imagecodecs.htj2k_encode(
        noisy.clip(0, 4095).astype(np.uint16),
        reversible=True,
        resolutions=6,
        tlm=True,
        tilepart=imagecodecs.HTJ2K.TILEPART.RESOLUTIONS,
    )
    return bytes(encoded)
