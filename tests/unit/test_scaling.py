"""The scaling simulation agrees with its formulas, and ``docs/scaling.md`` has its tables."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from bench.account import GET_IMAGE_FRAME, GET_IMAGE_SET, GET_IMAGE_SET_METADATA, Account, Bucket
from bench.costs import PRICES, dollars_per_million, puts
from bench.costs import table as cost_table
from bench.durations import DEFAULT, SIZES, duration_ms, load_measured, worker_limits, write_measured
from bench.export_load import copy_frames, extrapolated_export, max_waiting, predicted_export, simulate_export
from bench.measure import row
from bench.request_load import API, LAMBDA, first_wall, health_imaging, poisson, predicted_walls, simulate_requests
from bench.scaling import (
    ACCOUNT,
    FIRST,
    MIXED,
    OPENING,
    OPENING_AGAIN,
    OPENING_EXPORTED,
    SCENARIOS,
    mixed,
    tables,
    throttled_at,
)
from framegate.storage.object_writer import MAX_PUT_BYTES, PART_BYTES
from infra.queues import RETENTION

DOCUMENT = (Path(__file__).parent.parent.parent / "docs" / "scaling.md").read_text()
CT, MAMMOGRAM, SINGLE = (500, 185_000), (4, 10_000_000), (1, 185_000)


def test_tables_of_the_document_are_those_of_the_simulation():
    assert re.findall(r"<!-- (\w+) -->\n(.+?)\n\n", DOCUMENT, re.DOTALL) == list(tables().items())


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.name)
def test_every_request_is_answered_or_refused_once(scenario):
    above = 1.3 * min(predicted_walls(scenario.kinds, scenario.config, scenario.account).values())
    arrivals = list(poisson(above, 5000 / above))
    traffic = simulate_requests(arrivals, scenario.kinds, scenario.config, scenario.account)
    assert traffic.arrived == len(arrivals) == traffic.answered + traffic.refused.total()
    assert traffic.refused


def test_frame_calls_stay_within_the_quota_of_the_account():
    config = throttled_at(5000)
    traffic = simulate_requests(poisson(3000, 10), MIXED, config, ACCOUNT)
    assert traffic.frame_calls + traffic.export_calls <= 10.5 * ACCOUNT.frame_rate


@pytest.mark.parametrize(
    ("kinds", "account", "operation", "rate"),
    [
        (OPENING, ACCOUNT, GET_IMAGE_SET, 25),
        (OPENING_AGAIN, ACCOUNT, GET_IMAGE_SET, 25),
        (OPENING_EXPORTED, ACCOUNT, GET_IMAGE_SET_METADATA, 50),
        (OPENING, replace(ACCOUNT, image_set_rate=40), GET_IMAGE_SET, 40),
        (OPENING, replace(ACCOUNT, image_set_rate=100), GET_IMAGE_SET_METADATA, 50),
    ],
)
def test_index_requests_are_limited_by_the_quota_of_their_calls(kinds, account, operation, rate):
    predicted = predicted_walls(kinds, DEFAULT, account)
    assert predicted[health_imaging(operation)] == rate == min(predicted.values())
    found, traffic = first_wall(kinds, DEFAULT, account)
    assert traffic.refused.most_common(1)[0][0] == health_imaging(operation)
    assert found == pytest.approx(rate, rel=0.08)


def test_quotas_are_those_of_healthimaging():
    # AWS HealthImaging developer guide, "Throttling limits".
    assert [ACCOUNT.quota(each) for each in (GET_IMAGE_FRAME, GET_IMAGE_SET_METADATA, GET_IMAGE_SET)] == [
        (1000, 2000),
        (50, 100),
        (25, 50),
    ]


@pytest.mark.parametrize(
    ("kinds", "config", "account", "wall"),
    [
        (MIXED, DEFAULT, ACCOUNT, API),
        (mixed(slower=4), DEFAULT, ACCOUNT, LAMBDA),
        (MIXED, replace(throttled_at(2000), export_rate=4), ACCOUNT, health_imaging(GET_IMAGE_FRAME)),
        (FIRST, throttled_at(9000), replace(ACCOUNT, concurrency=500, frame_rate=9000), LAMBDA),
    ],
)
def test_first_limit_agrees_with_the_formula(kinds, config, account, wall):
    predicted = predicted_walls(kinds, config, account)
    rate, traffic = first_wall(kinds, config, account)
    assert min(predicted, key=predicted.get) == wall == traffic.refused.most_common(1)[0][0]
    assert rate == pytest.approx(predicted[wall], rel=0.08)


def test_exports_give_way_to_requests():
    quiet, busy = (
        simulate_requests(poisson(rate, 20), MIXED, throttled_at(2000), ACCOUNT, full=0.5) for rate in (100, 950)
    )
    assert quiet.export_calls / quiet.seconds == pytest.approx(DEFAULT.export_rate, rel=0.02)
    assert busy.export_calls / busy.seconds < 0.6 * DEFAULT.export_rate
    assert busy.share_refused < 0.02


def test_same_seed_gives_the_same_traffic():
    first, second = (simulate_requests(poisson(700, 5), MIXED, DEFAULT, ACCOUNT) for _ in range(2))
    assert first == second


def test_bucket_allows_its_burst_and_then_its_rate():
    bucket = Bucket(rate=10, burst=5, tokens=5)
    assert sum(bucket.take(each / 100) for each in range(1000)) == pytest.approx(5 + 10 * 10, abs=1)


@pytest.mark.parametrize("by_events", [True, False])
@pytest.mark.parametrize("study", [CT, MAMMOGRAM, SINGLE])
@pytest.mark.parametrize("image_sets", [1, 3, 10, 1000, 20_000])
def test_export_duration_agrees_with_the_formula(image_sets, study, by_events):
    run = simulate_export(image_sets, *study, by_events=by_events)
    assert run.seconds == pytest.approx(predicted_export(image_sets, *study, by_events=by_events), rel=0.05)
    assert (run.image_sets, run.frames) == (image_sets, image_sets * study[0])


@pytest.mark.parametrize("by_events", [True, False])
@pytest.mark.parametrize("study", [CT, MAMMOGRAM, SINGLE])
def test_extrapolated_duration_is_that_of_the_simulation(study, by_events):
    simulated = simulate_export(100_000, *study, by_events=by_events).seconds
    assert extrapolated_export(100_000, *study, by_events=by_events) == pytest.approx(simulated, rel=0.002)


@pytest.mark.parametrize("by_events", [True, False])
@pytest.mark.parametrize("image_sets", [1, 7])
def test_exports_longer_than_an_invocation_export_every_frame_once(image_sets, by_events):
    run = simulate_export(image_sets, 60_000, 185_000, by_events=by_events)
    assert (run.image_sets, run.frames) == (image_sets, image_sets * 60_000)
    assert run.invocations > 2 * image_sets / (5 if by_events else 1)
    if image_sets == 1:
        assert run.seconds == pytest.approx(predicted_export(1, 60_000, 185_000, by_events=by_events), rel=0.02)


@pytest.mark.parametrize("size", SIZES.values())
@pytest.mark.parametrize("rate", [40, 400, 4000])
def test_frames_are_copied_at_the_lowest_limit(size, rate):
    config = replace(DEFAULT, export_rate=rate)
    copied, seconds = copy_frames(1000, size, config, float("inf"))
    assert copied / seconds == pytest.approx(min(worker_limits(size, config).values()), rel=0.05)


def test_metadata_quota_bounds_exports_of_single_frames():
    config = replace(DEFAULT, export_concurrency=100)
    run = simulate_export(20_000, *SINGLE, config, by_events=True)
    assert run.image_sets / run.seconds == pytest.approx(Account().metadata_rate, rel=0.03)


def test_longest_export_by_events_fits_the_retention_of_the_queue():
    image_sets = max_waiting(*CT)
    seconds = simulate_export(image_sets, *CT, by_events=True).seconds
    assert seconds == pytest.approx(RETENTION.to_seconds(), rel=0.01)


def test_frame_above_the_inline_limit_has_no_price_inline():
    assert dollars_per_million(10_000_000, "inline", 100) is None
    assert dollars_per_million(10_000_000, "later_url", 100) is not None


def test_price_grows_with_duration_and_memory():
    price = dollars_per_million(185_000, "inline", 100)
    double = dollars_per_million(185_000, "inline", 100, replace(DEFAULT, memory_mb=2 * DEFAULT.memory_mb))
    assert double - price == pytest.approx(0.1 * DEFAULT.memory_mb / 1024 * PRICES.arm64_gb_second * 1e6)
    assert dollars_per_million(185_000, "inline", 200) == pytest.approx(double)


def test_price_includes_one_healthimaging_call_per_frame():
    without = replace(PRICES, healthimaging_call=0)
    whole, rest = (dollars_per_million(185_000, "inline", 30, prices=each) for each in (PRICES, without))
    assert whole - rest == pytest.approx(5.0)


def test_large_frame_is_uploaded_in_parts():
    assert (puts(MAX_PUT_BYTES), puts(MAX_PUT_BYTES + 1), puts(3 * PART_BYTES + 1)) == (1, 5, 6)


def test_measured_duration_replaces_the_assumed_one(tmp_path):
    written = tmp_path / "durations.json"
    write_measured([row("what", [12.5], key=("ms", "185000", "inline")), row("other", [1.0])], written)
    measured = load_measured(written)
    assert measured == {"185000": {"inline": 12.5}}
    assert duration_ms(185_000, "inline", measured) == 12.5
    assert duration_ms(185_000, "json", measured) == duration_ms(185_000, "json")
    assert cost_table(measured) != cost_table()
