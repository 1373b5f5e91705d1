"""Measures requests to a warm function, from the event to the serialised response."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from bench.invocations import context, event
from bench.measure import Row, environment, in_turns, ratios, row, silence
from bench.origin import DATASTORE, IMAGE_SET, Frame, Origin

if TYPE_CHECKING:
    from collections.abc import Callable

CT, LARGE = "c" * 32, "a" * 32
CT_BYTES, LARGE_BYTES = 185_000, 2_600_000
TURNS, MANY_TURNS = 300, 500


def measure() -> list[Row]:
    """Compare the API function with plain boto3 and with the usual handler."""
    frames = {CT: Frame(os.urandom(CT_BYTES)), LARGE: Frame(os.urandom(LARGE_BYTES))}
    with Origin(frames) as origin, environment(origin.environment()), silence():
        import boto3

        from bench import usual_handler
        from framegate.entrypoints import api

        client = boto3.client("medical-imaging")

        def raw(frame: str) -> Callable[[], object]:
            return lambda: client.get_image_frame(
                datastoreId=DATASTORE, imageSetId=IMAGE_SET, imageFrameInformation={"imageFrameId": frame}
            )["imageFrameBlob"].read()

        def answered(handler: Any, request: dict[str, Any]) -> Callable[[], object]:
            return lambda: json.dumps(handler(request, context()))

        ct = in_turns(
            {
                "raw": raw(CT),
                "ours": answered(api.lambda_handler, event(CT)),
                "usual": answered(usual_handler.lambda_handler, event(CT)),
            },
            TURNS,
        )
        large = in_turns(
            {
                "raw": raw(LARGE),
                "ours": answered(api.lambda_handler, event(LARGE)),
                "usual": answered(usual_handler.lambda_handler, event(LARGE)),
            },
            TURNS // 3,
        )
        short = in_turns(
            {
                "304": answered(api.lambda_handler, event(CT, If_None_Match=f'"{CT}.image/jph"')),
                "a malformed id": answered(api.lambda_handler, event("no-identifier")),
                "a refused data store": answered(api.lambda_handler, event(CT, datastore="e" * 32)),
            },
            MANY_TURNS,
        )
    return [
        row("warm, CT frame of 185 kB: time over plain boto3's", ratios(ct["ours"], ct["raw"]), target=1.6),
        row("  the usual handler's time over plain boto3's", ratios(ct["usual"], ct["raw"])),
        row("  Framegate, ms", [1000 * each for each in ct["ours"]], unit="ms"),
        row("warm, frame of 2.6 MB: time over the usual handler's", ratios(large["ours"], large["usual"]), target=0.9),
        row("  Framegate, ms", [1000 * each for each in large["ours"]], unit="ms"),
        *(
            row(f"warm, {name}", [1000 * each for each in seconds], unit="ms", target=0.3)
            for name, seconds in short.items()
        ),
        row(
            "the emulated origin: plain boto3, 2.6 MB frames",
            [LARGE_BYTES / each / 1e6 for each in large["raw"]],
            unit="MB/s",
        ),
    ]
