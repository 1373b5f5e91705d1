"""What a million frames cost, by their size and the way they are delivered.

``PYTHONPATH=lambda_src python -m bench.costs`` prints the table of the README, with the durations of
``bench/durations.json``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from bench.durations import DEFAULT, SIZES, Delivery, duration_ms, load_measured
from framegate.delivery.delivery import SOON_STORED
from framegate.rest.http import INLINE_LIMIT
from framegate.storage.object_writer import LARGEST_PUT, PART_SIZE
from infra.export_functions import BATCH_SIZE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.config import Config

MILLION, GB = 1e6, 1e9


@dataclass(frozen=True, slots=True)
class Prices:
    """List prices of us-east-1 in dollars, of the first tier, without taxes and free tiers."""

    api_request: float = 3.50 / MILLION  # https://aws.amazon.com/api-gateway/pricing/, REST APIs
    lambda_request: float = 0.20 / MILLION  # https://aws.amazon.com/lambda/pricing/
    arm64_gb_second: float = 0.0000133334  # the same
    x86_64_gb_second: float = 0.0000166667  # the same
    # https://aws.amazon.com/healthimaging/pricing/: $0.005 for a thousand API calls, in its examples.
    healthimaging_call: float = 5.00 / MILLION
    s3_put: float = 5.00 / MILLION  # https://aws.amazon.com/s3/pricing/, PUT, COPY, POST, LIST
    s3_get: float = 0.40 / MILLION  # the same, GET and all others
    s3_gb_month: float = 0.023  # the same, S3 Standard
    kms_request: float = 3.00 / MILLION  # https://aws.amazon.com/kms/pricing/
    logs_gb: float = 0.50  # https://aws.amazon.com/cloudwatch/pricing/, ingestion
    trace: float = 5.00 / MILLION  # https://aws.amazon.com/xray/pricing/, traces recorded
    internet_gb: float = 0.09  # https://aws.amazon.com/ec2/pricing/on-demand/, data transfer out
    transition: float = 25.00 / MILLION  # https://aws.amazon.com/step-functions/pricing/, standard workflows
    sqs_request: float = 0.40 / MILLION  # https://aws.amazon.com/sqs/pricing/, standard queues
    event: float = 1.00 / MILLION  # https://aws.amazon.com/eventbridge/pricing/, custom events
    # The same, opt-in events of AWS services: S3 tells EventBridge of each object in the bucket.
    object_event: float = 1.00 / MILLION


@dataclass(frozen=True, slots=True)
class Usage:
    """How much there is of what is not counted by the frame."""

    # A bucket key saves up to 99 % of KMS requests (Amazon S3 user guide, "Reducing the cost of SSE-KMS with Amazon S3
    # Bucket Keys").
    kms_share: float = 0.01
    request_log_bytes: int = 2000  # the access log's line, the function's, and Lambda's START, END and REPORT
    traced: float = 0.05  # of all requests above one a second: X-Ray's default rule
    image_set_frames: int = 500
    on_request: bool = True  # by a request manifest, the dearer way: transitions instead of messages
    transitions: int = 4  # of a line: its start, and three states


PRICES, USAGE = Prices(), Usage()


def dollars_per_million(
    size: int,
    delivery: Delivery,
    duration: float,
    config: Config = DEFAULT,
    prices: Prices = PRICES,
    usage: Usage = USAGE,
) -> float | None:
    """What a million frames cost, without storage and transfer out; None if there is no such delivery of that size.

    Parameters
    ----------
    size : int
        Bytes of a frame.
    delivery : str
        How it is delivered; by URL, the client's GET from S3 is included.
    duration : float
        Milliseconds for which Lambda is paid for one frame.
    config : Config
        Has memory and architecture.
    prices : Prices
        What things cost.
    usage : Usage
        Log lines, traces, and image sets.
    """
    if delivery in ("inline", "json") and size > INLINE_LIMIT:
        return None
    p = prices
    memory = config.export_memory_mb if delivery == "export" else config.memory_mb
    gb_second = p.arm64_gb_second if config.architecture == "arm64" else p.x86_64_gb_second
    cost = duration / 1000 * memory / 1024 * gb_second
    if delivery != "later_url":
        cost += p.healthimaging_call
    if delivery in ("first_url", "export"):
        cost += p.s3_put * puts(size) + p.object_event + usage.kms_share * p.kms_request
    if delivery == "export":
        return MILLION * (cost + _image_set(p, usage) / usage.image_set_frames)
    cost += p.api_request + p.lambda_request + usage.request_log_bytes / GB * p.logs_gb + usage.traced * p.trace
    if delivery in ("first_url", "later_url"):
        # Is it stored, or in other hands?
        heads = 2 if delivery == "first_url" and size > SOON_STORED else 1
        cost += (heads + 1) * p.s3_get + usage.kms_share * p.kms_request
    return MILLION * cost


def puts(size: int) -> int:
    """Calls that store a frame: one; or for a larger one its parts, the call that begins them and the one that ends."""
    return 1 if size <= LARGEST_PUT else 2 + math.ceil(size / PART_SIZE)


def _image_set(p: Prices, usage: Usage) -> float:
    """What an image set costs beside its frames: metadata, the last look, LIST, manifest, event, and who is told."""
    own = 2 * p.healthimaging_call + 2 * p.s3_put + 2 * p.event + p.lambda_request
    # SQS: sent, received and deleted, the last two by the batch.
    return own + (usage.transitions * p.transition if usage.on_request else p.sqs_request * (1 + 2 / BATCH_SIZE))


def table(measured: Mapping[str, Mapping[str, float]] | None = None) -> str:
    """The table, in Markdown: dollars for a million frames."""
    lines = [
        "| a frame of | inline | JSON | URL, first request | URL, later | export "
        "| stored, a month | out to the internet |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, size in SIZES.items():
        costs = [dollars_per_million(size, each, duration_ms(size, each, measured)) for each in get_args(Delivery)]
        costs += [MILLION * size / GB * each for each in (PRICES.s3_gb_month, PRICES.internet_gb)]
        shown = ("–" if cost is None else f"${cost:,.2f}" for cost in costs)
        lines.append(f"| {name} | {' | '.join(shown)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(load_measured()))
