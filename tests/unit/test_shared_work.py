"""Of several invocations, one does the work and the others get its result."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from framegate.problems import Throttled, UpstreamTimeout
from framegate.storage import shared_work
from framegate.storage.shared_work import AbsentError, SharedWork
from framegate.time_budget import TimeBudget
from tests.unit.conftest import BUCKET

CLAIM, RESULT = "claims/d/work.json", "metadata/d/result"


class Work:
    """Work whose result is an object; counts how often it is done."""

    def __init__(self, objects, seconds=0.0, outcome=b"result"):
        self.objects, self.seconds, self.outcome = objects, seconds, outcome
        self.done = 0

    def find(self):
        try:
            return b"".join(self.objects.read(RESULT, TimeBudget(5)))
        except KeyError:
            return None

    def make(self):
        self.done += 1
        time.sleep(self.seconds)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        self.objects.put(RESULT, "text/plain", [self.outcome], TimeBudget(5))
        return self.outcome

    def result(self, seconds=5):
        return SharedWork(self.objects).result(CLAIM, self.find, self.make, TimeBudget(seconds))


def claims(s3):
    return s3.list_objects_v2(Bucket=BUCKET, Prefix="claims/").get("KeyCount", 0)


def test_work_is_done_once_for_simultaneous_requests(objects, s3):
    work, together = Work(objects, seconds=0.2), Barrier(4)

    def ask(_):
        together.wait()
        return work.result()

    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(ask, range(4))) == {b"result"}
    assert (work.done, claims(s3)) == (1, 0)


def test_existing_result_needs_no_claim(objects, s3):
    objects.put(RESULT, "text/plain", [b"result"], TimeBudget(5))
    work = Work(objects)
    assert (work.result(), work.done, claims(s3)) == (b"result", 0, 0)


def test_absence_is_remembered_for_a_while(objects, s3, monkeypatch):
    work = Work(objects, outcome=AbsentError())
    for _ in range(3):
        with pytest.raises(AbsentError):
            work.result()
    assert work.done == 1
    monkeypatch.setattr(shared_work, "ABSENCE_SECONDS", 0)
    work.outcome = b"result"
    assert (work.result(), work.done) == (b"result", 2)


def test_failed_work_can_be_done_again(objects, s3):
    work = Work(objects, outcome=Throttled("HealthImaging"))
    for _ in range(2):
        with pytest.raises(Throttled):
            work.result()
    assert (work.done, claims(s3)) == (2, 0)


def test_claim_of_a_killed_function_expires(objects, s3, monkeypatch):
    monkeypatch.setattr(shared_work, "CLAIM_LIFETIME_SECONDS", 0.3)
    assert SharedWork(objects)._claim(CLAIM, TimeBudget(5))
    work = Work(objects)
    assert (work.result(), work.done) == (b"result", 1)


def test_wait_ends_with_the_time_of_the_request(objects, s3):
    assert SharedWork(objects)._claim(CLAIM, TimeBudget(5))
    work = Work(objects)
    started = time.monotonic()
    with pytest.raises(UpstreamTimeout):
        work.result(seconds=0.3)
    assert (work.done, time.monotonic() - started < 2) == (0, True)


@pytest.mark.parametrize("content", [b"", b"{}", b"nonsense"])
def test_malformed_claim_blocks_nobody_for_ever(objects, s3, content):
    s3.put_object(Bucket=BUCKET, Key=CLAIM, Body=content)
    with pytest.raises(UpstreamTimeout):
        Work(objects).result(seconds=0.3)
