"""When failed calls are retried."""

from __future__ import annotations

import time

import pytest

from framegate import upstream_time
from framegate.aws import retries
from framegate.aws.errors import is_transient
from framegate.aws.retries import RetryQuota, retry
from framegate.problems import FrameNotFound, Throttled, UpstreamFailed, UpstreamTimeout
from framegate.time_budget import TimeBudget


class Calls:
    """Fails with each of these problems in turn, then succeeds."""

    def __init__(self, *problems):
        self.problems = list(problems)
        self.count = 0

    def __call__(self):
        self.count += 1
        if self.problems:
            raise self.problems.pop(0)
        return "result"


def refused(code, status=403):
    return UpstreamFailed("S3", "rejected the call", evidence={"upstream_status": status, "upstream_error": code})


def made(calls, *, attempts=3, seconds=10.0, refresh=lambda: False, quota=None):
    return retry(
        calls,
        TimeBudget(seconds),
        attempts=attempts,
        is_transient=is_transient,
        refresh_credentials=refresh,
        quota=quota,
    )


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(retries, "pause_after", lambda _: 0.001)


@pytest.mark.parametrize(
    "problem", [Throttled("S3"), UpstreamTimeout("S3"), UpstreamFailed("S3", "broke the connection")], ids=str
)
def test_transient_problem_is_retried(problem):
    calls = Calls(problem, problem)
    assert made(calls) == "result"
    assert calls.count == 3


def test_number_of_attempts_is_limited():
    calls = Calls(*[Throttled("S3")] * 3)
    with pytest.raises(Throttled):
        made(calls)
    assert calls.count == 3


@pytest.mark.parametrize("problem", [FrameNotFound(), refused("AccessDenied"), refused("", 404)], ids=str)
def test_permanent_problem_is_not_retried(problem):
    calls = Calls(problem)
    with pytest.raises(type(problem)):
        made(calls)
    assert calls.count == 1


def test_no_attempt_starts_after_the_time_budget(monkeypatch):
    monkeypatch.setattr(retries, "pause_after", lambda _: 5.0)
    calls = Calls(Throttled("S3"))
    began = time.monotonic()
    with pytest.raises(Throttled):
        made(calls, seconds=2)
    assert (calls.count, time.monotonic() - began < 1) == (1, True)


def test_quota_limits_retries_and_successes_refill_it():
    quota = RetryQuota(1)
    with pytest.raises(Throttled):
        made(Calls(*[Throttled("S3")] * 3), quota=quota)
    calls = Calls(Throttled("S3"))
    with pytest.raises(Throttled):
        made(calls, quota=quota)
    assert calls.count == 1
    made(Calls(), quota=quota)
    assert made(Calls(Throttled("S3")), quota=quota) == "result"


@pytest.mark.parametrize("attempts", [1, 3])
def test_rejected_credentials_are_replaced_once(attempts):
    calls = Calls(refused("ExpiredToken", 400))
    assert made(calls, attempts=attempts, refresh=lambda: True) == "result"
    again = Calls(*[refused("ExpiredToken", 400)] * 3)
    with pytest.raises(UpstreamFailed):
        made(again, attempts=attempts, refresh=lambda: True)
    assert (calls.count, again.count) == (2, 2)


def test_other_problems_do_not_reload_credentials():
    def refresh():
        raise AssertionError

    assert made(Calls(Throttled("S3")), refresh=refresh) == "result"


def test_waiting_time_counts_from_the_last_reset():
    upstream_time.reset()
    with upstream_time.waiting():
        time.sleep(0.02)
    assert 20 <= upstream_time.waited_ms() < 5_000
    upstream_time.reset()
    assert upstream_time.waited_ms() == 0
