"""The pace at which exports call HealthImaging."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from framegate.export import pace as pace_module
from framegate.export.pace import Pace
from framegate.time_budget import TimeBudget


@pytest.fixture
def clock(monkeypatch):
    """A clock that only advances when the test sets it or the code sleeps."""

    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

        def sleep(self, seconds):
            self.now += seconds

    clock = Clock()
    monkeypatch.setattr(pace_module, "time", clock)
    return clock


def calls_within(pace, clock, seconds):
    start, count = clock.now, 0
    while clock.now - start < seconds:
        pace.wait(TimeBudget(60))
        count += 1
    return count


def test_calls_do_not_exceed_the_rate(clock):
    assert calls_within(Pace(50), clock, 10) == pytest.approx(500, abs=2)


def test_idle_time_does_not_allow_a_burst(clock):
    pace = Pace(10)
    clock.now += 100
    assert calls_within(pace, clock, 1) == pytest.approx(10, abs=2)


def test_throttling_halves_the_rate(clock):
    pace = Pace(100)
    pace.slow_down()
    assert pace.rate == pytest.approx(50)


def test_calls_throttled_together_halve_the_rate_once(clock):
    pace = Pace(100)
    for _ in range(20):
        pace.slow_down()
    assert pace.rate == pytest.approx(50)


def test_rate_recovers_steadily(clock):
    pace = Pace(100)
    pace.slow_down()
    clock.now += pace_module.RECOVERY_SECONDS / 4
    assert pace.rate == pytest.approx(75)
    clock.now += 1000
    assert pace.rate == pytest.approx(100)


def test_lasting_throttling_reduces_the_rate_to_its_minimum(clock):
    pace = Pace(4)
    for _ in range(50):
        pace.slow_down()
        clock.now += pace_module.REACTION_SECONDS
    assert pace_module.MIN_CALLS_PER_SECOND <= pace.rate < 1


def test_threads_share_the_rate():
    pace = Pace(200)
    started = time.monotonic()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: pace.wait(TimeBudget(60)), range(41)))
    assert time.monotonic() - started >= 0.2


def test_wait_ends_when_the_time_runs_out():
    pace = Pace(0.01)
    pace.wait(TimeBudget(60))
    started = time.monotonic()
    pace.wait(TimeBudget(0.05))
    assert time.monotonic() - started < 5
