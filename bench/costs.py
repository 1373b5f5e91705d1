"""Computes the cost of a million frames by size and delivery, and the cost of an idle deployment.

``python -m bench.costs`` prints the tables of the documentation, with the durations of ``bench/durations.json``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, get_args, get_type_hints

from bench.durations import DEFAULT, SIZES, Delivery, duration_ms, load_measured
from framegate.delivery.plan import STORE_UNCHECKED_MAX_BYTES
from framegate.rest.http import INLINE_LIMIT
from framegate.storage.object_writer import MAX_PUT_BYTES, PART_BYTES
from infra.api.authorizer_function import MEMORY_MB as AUTHORIZER_MEMORY_MB
from infra.api.render_function import RENDER_MEMORY_MB
from infra.config import Config
from infra.export.functions import BATCH_SIZE

if TYPE_CHECKING:
    from collections.abc import Mapping

MILLION, GB = 1e6, 1e9
GIB = 1024**3
SECONDS_A_MONTH = 730 * 60 * 60

IMAGE_SETS = {
    "CT, 500 × 185 kB": (500, 185_000),
    "mammogram, 4 × 10 MB": (4, 10_000_000),
    "one frame of 185 kB": (1, 185_000),
}
"""The image sets of docs/scaling.md: number of frames, and bytes per frame."""


@dataclass(frozen=True, slots=True)
class Prices:
    """List prices in us-east-1, in dollars: first paid tier, without taxes and free tiers."""

    api_request: float = 3.50 / MILLION  # https://aws.amazon.com/api-gateway/pricing/, REST APIs
    lambda_request: float = 0.20 / MILLION  # https://aws.amazon.com/lambda/pricing/
    arm64_gb_second: float = 0.0000133334  # the same
    x86_64_gb_second: float = 0.0000166667  # the same
    # https://aws.amazon.com/healthimaging/pricing/: $0.005 for a thousand API calls, in its examples
    healthimaging_call: float = 5.00 / MILLION
    # https://aws.amazon.com/healthimaging/pricing/: storage in its two tiers, by GiB
    frequent_gib_month: float = 0.105
    archive_gib_month: float = 0.006
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
    # the same, opt-in events of AWS services: S3 sends an event for each object in the bucket
    object_event: float = 1.00 / MILLION
    snapshot_gb_second: float = 0.0000015046  # https://aws.amazon.com/lambda/pricing/, SnapStart, cache
    dashboard_month: float = 3.00  # https://aws.amazon.com/cloudwatch/pricing/, above three in an account
    alarm_metric_month: float = 0.10  # the same, standard resolution
    key_month: float = 1.00  # https://aws.amazon.com/kms/pricing/, before its first rotation
    acl_month: float = 5.00  # https://aws.amazon.com/waf/pricing/, a web ACL
    acl_rule_month: float = 1.00  # the same, a rule or a group of managed rules


@dataclass(frozen=True, slots=True)
class Usage:
    """Usage that does not depend on the size of a frame."""

    # A bucket key saves up to 99 % of KMS requests (Amazon S3 user guide, "Reducing the cost of SSE-KMS with Amazon S3
    # Bucket Keys").
    kms_share: float = 0.01
    request_log_bytes: int = (
        3000  # the access log, the function's log and audit records, and Lambda's START, END and REPORT
    )
    traced: float = 0.05  # share of the requests above one per second: X-Ray's default rule
    image_set_frames: int = 500
    on_request: bool = True  # by request manifest, which costs more: transitions instead of messages
    transitions: int = 4  # per line: its start, and three states
    # Smaller image sets are charged at this size (AWS HealthImaging developer guide, "Cost optimization").
    min_image_set_bytes: int = 5_000_000
    # Lambda polls an empty queue with five long polls of 20 s each (AWS Lambda developer guide, "Using Lambda with
    # Amazon SQS").
    polls_a_second: float = 5 / 20


@dataclass(frozen=True, slots=True)
class Deployment:
    """The resources that are billed by the month; a test compares their numbers with the template."""

    dashboards: int = 1
    alarm_metrics: int = 18
    keys: int = 1
    acl_rules: int = 3
    token_rules: int = 1
    polled_queues: int = 2


PRICES, USAGE, DEPLOYMENT = Prices(), Usage(), Deployment()


def dollars_per_million(
    size: int,
    delivery: Delivery,
    duration: float,
    config: Config = DEFAULT,
    prices: Prices = PRICES,
    usage: Usage = USAGE,
) -> float | None:
    """Compute the cost of a million frames, without storage and data transfer out.

    Parameters
    ----------
    size : int
        Size of a frame in bytes.
    delivery : str
        How the frames are delivered. Delivery by URL includes the client's GET from S3.
    duration : float
        Billed Lambda time per frame, in milliseconds.
    config : Config
        Gives memory and architecture.
    prices : Prices
        The prices.
    usage : Usage
        Log lines, traces, and image sets.

    Returns
    -------
    float or None
        Dollars; None if a frame of this size cannot be delivered this way.
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
        # One HEAD looks for the stored frame. For a large frame, another looks for the marker of a queued one.
        heads = 2 if delivery == "first_url" and size > STORE_UNCHECKED_MAX_BYTES else 1
        cost += (heads + 1) * p.s3_get + usage.kms_share * p.kms_request
    return MILLION * cost


CALL_MS, DRAW_MS = 20.0, 20.0
"""Billed time of a thumbnail: for each call of an AWS service, and for drawing (``bench/pictures.py``)."""


def thumbnail_table(config: Config = DEFAULT, prices: Prices = PRICES, usage: Usage = USAGE) -> str:
    """Return the table of dollars for a million thumbnails, drawn each time or kept in the bucket, in Markdown."""
    p = prices
    gb_second = p.arm64_gb_second if config.architecture == "arm64" else p.x86_64_gb_second
    every = p.api_request + p.lambda_request + usage.request_log_bytes / GB * p.logs_gb + usage.traced * p.trace

    def lambda_cost(milliseconds: float) -> float:
        return milliseconds / 1000 * RENDER_MEMORY_MB / 1024 * gb_second

    # Each request reads the latest version of the image set.
    drawn = every + p.s3_get + p.healthimaging_call + lambda_cost(2 * CALL_MS + DRAW_MS)
    stored = drawn + p.s3_get + p.s3_put + p.object_event + usage.kms_share * p.kms_request + lambda_cost(2 * CALL_MS)
    later = every + 2 * p.s3_get + usage.kms_share * p.kms_request + lambda_cost(2 * CALL_MS)
    rows = {
        "drawn each time, as Framegate does": drawn,
        "kept in the bucket, first request": stored,
        "kept in the bucket, later requests": later,
        "held by the browser (`304`)": every + p.s3_get + lambda_cost(CALL_MS),
    }
    lines = [f"| {what} | ${MILLION * cost:.2f} |" for what, cost in rows.items()]
    return "\n".join(["| a million thumbnails | cost |", "| --- | --- |", *lines])


def puts(size: int) -> int:
    """The S3 calls that store a frame: one PUT, or the parts of a multipart upload with its start and completion."""
    return 1 if size <= MAX_PUT_BYTES else 2 + math.ceil(size / PART_BYTES)


def archive_dollars(
    size: int, frames: int = USAGE.image_set_frames, prices: Prices = PRICES, usage: Usage = USAGE
) -> float:
    """Compute the extra storage cost, in dollars, of the month after a million frames of archived image sets are read.

    HealthImaging archives an image set that nobody has read for 30 days, and moves it back when somebody reads a frame
    or the metadata (AWS HealthImaging developer guide, "Cost optimization"). It is archived again after another 30
    days.

    Parameters
    ----------
    size : int
        Size of a frame in bytes.
    frames : int
        Frames per image set.
    prices : Prices
        The storage price of both tiers.
    usage : Usage
        Gives the minimum billed size of an image set.
    """
    gib = MILLION / frames * billed_gib(size, frames, usage)
    return gib * (prices.frequent_gib_month - prices.archive_gib_month)


def billed_gib(size: int, frames: int, usage: Usage = USAGE) -> float:
    """Return the billed GiB of an image set with this number of frames of this size in bytes."""
    return max(size * frames, usage.min_image_set_bytes) / GIB


def archive_table(prices: Prices = PRICES) -> str:
    """Make the Markdown table of monthly storage cost of a million image sets, archived and after an export."""
    lines = ["| a million archived image sets | before | in the month after | more |", "| --- | --- | --- | --- |"]
    for name, (frames, size) in IMAGE_SETS.items():
        gib = MILLION * billed_gib(size, frames)
        before, after = gib * prices.archive_gib_month, gib * prices.frequent_gib_month
        lines.append(f"| {name} | ${before:,.0f} | ${after:,.0f} | ${after - before:,.0f} |")
    return "\n".join(lines)


def idle_dollars(
    config: Config = DEFAULT, prices: Prices = PRICES, usage: Usage = USAGE, deployment: Deployment = DEPLOYMENT
) -> dict[str, float]:
    """Compute the monthly cost of an idle deployment, in dollars by item.

    Parameters
    ----------
    config : Config
        Tells whether there are an authorizer and a firewall, and gives the memory of the API function.
    prices : Prices
        The prices.
    usage : Usage
        Gives the rate at which Lambda polls each queue.
    deployment : Deployment
        The resources that are billed by the month.
    """
    snapshot = prices.snapshot_gb_second * SECONDS_A_MONTH / 1024
    polls = usage.polls_a_second * SECONDS_A_MONTH * deployment.polled_queues
    costs = {"SnapStart's snapshot of the API function": snapshot * config.memory_mb}
    if config.auth == "jwt":
        costs["SnapStart's snapshot of the authorizer"] = snapshot * AUTHORIZER_MEMORY_MB
    costs |= {
        "dashboard (the first three of an account are free)": prices.dashboard_month * deployment.dashboards,
        f"alarms ({deployment.alarm_metrics} metrics)": prices.alarm_metric_month * deployment.alarm_metrics,
        "KMS key": prices.key_month * deployment.keys,
        "polls of the two queues (the first million requests are free)": prices.sqs_request * polls,
    }
    if config.waf:
        rules = deployment.acl_rules + (0 if config.auth == "iam" else deployment.token_rules)
        costs["AWS WAF"] = prices.acl_month + prices.acl_rule_month * rules
    return costs


def idle_table() -> str:
    """Make the Markdown table of the monthly cost of an idle deployment, by value of ``auth``."""
    modes = get_args(get_type_hints(Config)["auth"])
    costs = {mode: idle_dollars(replace(DEFAULT, auth=mode)) for mode in modes}
    lines = [
        f"| idle, a month | {' | '.join(f'`auth={mode}`' for mode in modes)} |",
        f"| --- |{' --- |' * len(modes)}",
    ]
    for what in max(costs.values(), key=len):
        shown = (f"${costs[mode][what]:.2f}" if what in costs[mode] else "–" for mode in modes)
        lines.append(f"| {what} | {' | '.join(shown)} |")
    together = (f"**${sum(costs[mode].values()):.2f}**" for mode in modes)
    return "\n".join([*lines, f"| together | {' | '.join(together)} |"])


def _image_set(p: Prices, usage: Usage) -> float:
    """The cost of exporting an image set apart from its frames: two metadata calls, LIST, manifest, events, trigger."""
    own = 2 * p.healthimaging_call + 2 * p.s3_put + 2 * p.event + p.lambda_request
    # An SQS message is sent alone, and received and deleted in batches.
    return own + (usage.transitions * p.transition if usage.on_request else p.sqs_request * (1 + 2 / BATCH_SIZE))


def table(measured: Mapping[str, Mapping[str, float]] | None = None) -> str:
    """Make the Markdown table of the cost of a million frames."""
    lines = [
        "| a frame of | inline | JSON | URL, first request | URL, later | export "
        "| stored, a month | archived before, a month | out to the internet |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, size in SIZES.items():
        costs = [dollars_per_million(size, each, duration_ms(size, each, measured)) for each in get_args(Delivery)]
        stored, out = (MILLION * size / GB * each for each in (PRICES.s3_gb_month, PRICES.internet_gb))
        costs += [stored, archive_dollars(size), out]
        shown = ("–" if cost is None else f"${cost:,.2f}" for cost in costs)
        lines.append(f"| {name} | {' | '.join(shown)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(load_measured()), idle_table(), archive_table(), sep="\n\n")
