"""Frames too large for memory, and failures while they are stored."""

from __future__ import annotations

import os
import threading
import time
import zlib

import pytest
import requests

from local.health_imaging import Fault, GeneratedBody

MIB = 1 << 20
BLOCK = os.urandom(MIB)


def generated(mebibytes):
    """A body of this many mebibytes, each of them different."""
    return GeneratedBody(
        mebibytes * MIB, lambda: (number.to_bytes(8, "big") + BLOCK[8:] for number in range(mebibytes))
    )


def crc32_of(pieces):
    checksum = 0
    for piece in pieces:
        checksum = zlib.crc32(piece, checksum)
    return checksum


class PeakMemory:
    """The peak resident memory of any worker process during a ``with`` block, in bytes."""

    def __init__(self, cloud):
        self._cloud = cloud
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.value = 0

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def _watch(self):
        while not self._over.wait(0.02):
            self.value = max([self.value, *(each.memory_info().rss for each in self._cloud.function_processes())])


@pytest.fixture
def nothing_left(s3, deployment):
    """Checks that the bucket has neither an object nor an upload of a frame."""

    def check(frame):
        prefix = f"frames/{frame.datastore_id}/{frame.image_set_id}/{frame.image_frame_id}"
        uploads = s3.list_multipart_uploads(Bucket=deployment.frame_bucket).get("Uploads", [])
        objects = s3.list_objects_v2(Bucket=deployment.frame_bucket, Prefix=prefix).get("Contents", [])
        return not objects and not [upload for upload in uploads if upload["Key"] == prefix]

    return check


def test_frame_of_one_gibibyte_needs_little_memory(api, cloud, emulator, datastore_id):
    small = emulator.add_frame(datastore_id, b"small", "image/jph")
    api.get(small, params={"delivery": "url"})
    with PeakMemory(cloud) as idle:
        time.sleep(0.2)
    frame = emulator.add_frame(datastore_id, generated(1024), "video/mp4")
    with PeakMemory(cloud) as busy:
        # A busy machine may need more than 25 seconds for a gibibyte.
        answers = (api.get(frame) for _ in range(6))
        answer = next((each for each in answers if each.status_code not in (202, 504)), None)
    assert answer is not None
    assert answer.status_code == 303
    assert busy.value - idle.value < 160 * MIB
    with requests.get(answer.headers["Location"], stream=True, timeout=60) as stored:
        assert stored.headers["Content-Type"] == "video/mp4"
        assert int(stored.headers["Content-Length"]) == 1024 * MIB
        assert crc32_of(stored.iter_content(MIB)) == crc32_of(generated(1024).pieces())


@pytest.mark.parametrize("then", ["reset", "close"])
def test_truncated_frame_answers_502_and_leaves_nothing_in_s3(api, emulator, datastore_id, nothing_left, then):
    frame = emulator.add_frame(datastore_id, generated(40), "video/mp4")
    emulator.faults.arm(Fault(then=then, after=33 * MIB))
    answer = api.get(frame)
    assert (answer.status_code, answer.headers["Content-Type"]) == (502, "application/problem+json")
    # The deferred store of an earlier test's frame may still be running.
    assert len([call for call in emulator.calls if call.image_frame_id == frame.image_frame_id]) == 3
    assert nothing_left(frame)
    emulator.faults.clear()
    assert api.get(frame).status_code == 303


@pytest.mark.parametrize("after", [100, 3 * MIB])
def test_short_frame_is_never_delivered(api, emulator, datastore_id, after):
    frame = emulator.add_frame(datastore_id, generated(4), "image/jph")
    emulator.faults.arm(Fault(then="close", after=after))
    answer = api.get(frame)
    assert (answer.status_code, answer.json()["type"]) == (502, "urn:framegate:problem:upstream-failed")
