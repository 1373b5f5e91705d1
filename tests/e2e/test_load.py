"""Load: concurrent requests with faults give right bytes and documented errors, and leak no memory."""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from local.health_imaging import Fault
from tests.e2e.conftest import Api
from tests.e2e.test_large_frames import MIB, PeakMemory
from tests.e2e.test_rest_api import problem

REQUESTS, CLIENTS = 1_050, 32
SIZES = {1_000: 30, 50_000: 40, 185_000: 20, 1_500_000: 4, 4_700_000: 1, 9_000_000: 1}
"""Sizes of frames in bytes, and their weights among about a hundred requests."""

FAULTS = [
    Fault(error="ThrottlingException", probability=0.02),
    Fault(error="InternalServerException", probability=0.02),
    Fault(error="ConflictException", probability=0.01),
    Fault(then="reset", probability=0.005),
    Fault(then="close", after=500, probability=0.02),
]
DOCUMENTED = {409: {"conflict"}, 429: {"throttled"}, 502: {"upstream-failed"}, 504: {"upstream-timeout"}}


@pytest.fixture
def frames(emulator, datastore_id):
    return {
        size: emulator.add_frames(datastore_id, [os.urandom(size) for _ in range(2)], "image/jph") for size in SIZES
    }


def test_load_with_faults_gives_complete_frames_documented_errors_and_stable_memory(
    cloud, deployment, emulator, frames
):
    contents = {frame: emulator.content(frame) for each in frames.values() for frame in each}
    chosen = random.Random(20).choices(list(SIZES), weights=list(SIZES.values()), k=REQUESTS)
    work = [frames[size][number % 2] for number, size in enumerate(chosen)]
    local = threading.local()

    def fetch(frame):
        if not hasattr(local, "api"):
            local.api, local.plain = Api(deployment.api_url), requests.Session()
        answer = local.api.get(frame, headers={"Origin": "https://viewer.example"})
        if answer.status_code == 303:
            answer = local.plain.get(answer.headers["Location"], timeout=60)
        if answer.status_code == 200:
            assert answer.content == contents[frame], "The frame differs from that of HealthImaging."
        else:
            assert problem(answer) in DOCUMENTED[answer.status_code]
        return answer.status_code

    for fault in FAULTS:
        emulator.faults.arm(fault)
    statuses, memory = Counter(), []
    with ThreadPoolExecutor(CLIENTS) as threads:
        for batch in _thirds(work):
            with PeakMemory(cloud) as peak:
                statuses.update(threads.map(fetch, batch))
            memory.append(peak.value)

    assert sum(statuses.values()) == REQUESTS
    assert statuses[200] > 0.95 * REQUESTS
    # Some faults must persist through three attempts, or the test would show nothing.
    assert set(statuses) > {200}
    assert memory[2] - memory[0] < 24 * MIB, memory


def _thirds(work):
    size = len(work) // 3
    return [work[:size], work[size : 2 * size], work[2 * size :]]
