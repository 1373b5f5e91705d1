"""Byte ranges of a frame (RFC 9110, section 14): the response, and how much of the frame is read for it."""

from __future__ import annotations

import json
import os

import botocore.exceptions
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from framegate.delivery.portions import ByteRange
from framegate.identifiers import FrameRef
from framegate.problems import RangeNotSatisfiable
from framegate.rest.http import INLINE_LIMIT
from framegate.rest.routes import GET_IMAGE_FRAME_ROUTE
from framegate.time_budget import TimeBudget
from local.health_imaging import Fault, GeneratedBody
from tests.unit.conftest import BUCKET, SERVED

CONTENT = os.urandom(200_000)
LARGE = os.urandom(INLINE_LIMIT + 1_000_000)
MIB = 1024 * 1024


@pytest.fixture
def frame(health_imaging):
    return health_imaging.add_frame(SERVED, CONTENT, "image/jph")


@pytest.fixture
def large(health_imaging):
    return health_imaging.add_frame(SERVED, LARGE, "video/mp4")


def ranged(client, frame, value, **headers):
    return client.get(frame, headers={"Range": value, **headers})


@pytest.mark.parametrize(
    ("value", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=0-65535", 0, 65_535),
        ("bytes=1000-1999", 1_000, 1_999),
        ("bytes=199999-", 199_999, 199_999),
        ("bytes=150000-", 150_000, 199_999),
        ("bytes=-1", 199_999, 199_999),
        ("bytes=-500", 199_500, 199_999),
        ("bytes=-999999", 0, 199_999),
        ("bytes=100-999999", 100, 199_999),
        ("Bytes = 7-8 ", 7, 8),
        ("bytes=0-199999", 0, 199_999),
    ],
)
def test_range_answers_206_with_the_requested_bytes(client, frame, value, first, last):
    answer = ranged(client, frame, value)

    assert answer.status == 206
    assert answer.body == CONTENT[first : last + 1]
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/200000"
    assert answer.headers["Content-Type"] == "image/jph; transfer-syntax=1.2.840.10008.1.2.4.202"
    assert answer.headers["ETag"] == f'"{frame.image_frame_id}.image/jph"'
    assert answer.headers["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize("value", ["bytes=200000-", "bytes=200000-200001", "bytes=-0", "bytes=99999999999999999999-"])
def test_range_beyond_the_frame_answers_416_with_its_size(client, frame, value):
    answer = ranged(client, frame, value)

    assert answer.status == 416
    assert answer.headers["Content-Range"] == "bytes */200000"
    assert answer.json()["type"] == "urn:framegate:problem:range-not-satisfiable"
    assert "200,000" in answer.json()["detail"]


@pytest.mark.parametrize(
    "value",
    [
        "bytes=0-1,4-5",
        "bytes=0-1, 4-5",
        "lines=0-1",
        "bytes=5-2",
        f"bytes={'9' * 5_000}-",
        f"bytes=0-{'9' * 5_000}",
        "bytes=-",
        "bytes=",
        "bytes=a-b",
        "bytes=0x0-0x1",
        "bytes=١-٢",
        "0-1",
        "",
    ],
)
def test_multiple_ranges_other_units_and_malformed_ranges_are_ignored(client, frame, value):
    answer = ranged(client, frame, value)

    assert (answer.status, answer.body) == (200, CONTENT)
    assert "Content-Range" not in answer.headers


def test_whole_frame_advertises_byte_ranges(client, frame):
    assert client.get(frame).headers["Accept-Ranges"] == "bytes"


def test_if_range_applies_the_range_to_the_current_tag_only(client, frame):
    tag = f'"{frame.image_frame_id}.image/jph"'

    assert ranged(client, frame, "bytes=0-9", **{"If-Range": tag}).status == 206
    for other in ('"another"', f"W/{tag}", "Mon, 23 Nov 2026 12:00:00 GMT"):
        answer = ranged(client, frame, "bytes=0-9", **{"If-Range": other})
        assert (answer.status, answer.body) == (200, CONTENT)


def test_held_frame_answers_304_despite_a_range(client, frame):
    answer = ranged(client, frame, "bytes=0-9", **{"If-None-Match": f'"{frame.image_frame_id}.image/jph"'})

    assert answer.status == 304


def test_json_response_ignores_a_range(client, frame):
    answer = ranged(client, frame, "bytes=0-9", Accept="application/json")

    assert answer.status == 200
    assert answer.json()["contentLength"] == len(CONTENT)


def test_range_is_ignored_except_for_get(client, frame):
    path = {"datastoreId": SERVED, "imageSetId": frame.image_set_id}
    body = json.dumps({"imageFrameId": frame.image_frame_id}).encode()
    answer = client.call("POST", GET_IMAGE_FRAME_ROUTE, path, headers={"Range": "bytes=0-9"}, body=body)

    assert (answer.status, answer.body) == (200, CONTENT)


def test_range_of_a_frame_without_content_length_answers_206(client, health_imaging):
    frame = health_imaging.add_frame(SERVED, CONTENT, "image/jph", announce_length=False)
    answer = ranged(client, frame, "bytes=-100")

    assert (answer.status, answer.body) == (206, CONTENT[-100:])


# How much is read


@pytest.mark.parametrize(("value", "read"), [("bytes=0-65535", 65_536), ("bytes=4000-4999", 5_000)])
def test_range_is_read_no_further_than_its_end(client, health_imaging, log_lines, value, read):
    frame = health_imaging.add_frame(SERVED, GeneratedBody(3 * MIB, lambda: (bytes(1024) for _ in range(3072))), "x/y")

    assert ranged(client, frame, value).status == 206
    assert log_lines()[-1]["upstream_bytes"] == read
    (call,) = health_imaging.calls
    assert call.aborted


def test_truncated_range_answers_502(client, health_imaging, frame):
    health_imaging.faults.arm(Fault(then="close", after=30_000))

    assert ranged(client, frame, "bytes=0-20000").status == 206
    assert ranged(client, frame, "bytes=0-65535").status == 502


# Frames above the inline limit


def test_range_at_the_start_of_a_large_frame_is_delivered_inline(client, large, s3):
    answer = ranged(client, large, "bytes=1000-1999")

    assert (answer.status, answer.body) == (206, LARGE[1000:2000])
    assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET)


@pytest.mark.parametrize("value", ["bytes=-1000", f"bytes={INLINE_LIMIT + 100}-{INLINE_LIMIT + 199}"])
@pytest.mark.parametrize("stored", [False, True])
def test_range_at_the_end_of_a_large_frame_is_read_from_its_copy(client, large, store, health_imaging, value, stored):
    if stored:
        store.store(ref(large), "video/mp4", [LARGE], TimeBudget(60))
    answer = ranged(client, large, value)
    first, _, last = value.removeprefix("bytes=").partition("-")
    expected = LARGE[int(first) : int(last) + 1] if first else LARGE[-int(last) :]

    assert (answer.status, answer.body) == (206, expected)
    assert answer.headers["Content-Range"].endswith(f"/{len(LARGE)}")
    (call,) = health_imaging.calls
    # A stored frame is not read again. Any other frame is stored for later ranges.
    assert call.aborted is stored
    assert store.find(ref(large), TimeBudget(60)).size == len(LARGE)


def test_range_above_the_inline_limit_redirects_to_s3(client, large):
    answer = ranged(client, large, f"bytes=10-{INLINE_LIMIT + 500}")

    assert answer.status == 303
    assert "Content-Range" not in answer.headers


def test_delivery_inline_of_a_range_answers_413_above_the_limit(client, large):
    def forced(value):
        return client.get(large, "delivery=inline", {"Range": value})

    assert forced("bytes=0-99").status == 206
    assert forced(f"bytes=-{99}").status == 206
    assert forced(f"bytes=10-{INLINE_LIMIT + 500}").status == 413


def test_url_delivery_ignores_a_range(client, frame):
    answer = client.get(frame, "delivery=url", {"Range": "bytes=0-9"})

    assert answer.status == 303


# Comparison with S3


def ref(frame):
    return FrameRef(frame.datastore_id, frame.image_set_id, frame.image_frame_id)


positions = st.integers(0, 220_000)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=st.one_of(
        # Sorted, because Framegate and S3 ignore a range that ends before it starts; moto does not.
        st.tuples(positions, positions).map(lambda ends: "bytes={}-{}".format(*sorted(ends))),
        st.builds("bytes={}-".format, positions),
        st.builds("bytes=-{}".format, st.integers(1, 220_000)),
    )
)
def test_any_range_matches_s3s_response_for_the_same_object(client, frame, s3, value):
    s3.put_object(Bucket=BUCKET, Key="same", Body=CONTENT, ContentType="image/jph")
    answer = ranged(client, frame, value)
    body = None if answer.status == 416 else answer.body

    assert (answer.status, answer.headers.get("Content-Range"), body) == range_of_s3(s3, value)


def range_of_s3(s3, value):
    try:
        answer = s3.get_object(Bucket=BUCKET, Key="same", Range=value)
    except botocore.exceptions.ClientError as error:
        # moto omits a part of the error that S3 sends.
        return error.response["ResponseMetadata"]["HTTPStatusCode"], f"bytes */{len(CONTENT)}", None
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer.get("ContentRange"), answer["Body"].read()


@given(first=st.none() | st.integers(0, 100), last=st.none() | st.integers(0, 100), size=st.integers(0, 100))
def test_span_lies_within_the_content(first, last, size):
    try:
        span = ByteRange(first, last).within(size)
    except RangeNotSatisfiable:
        return
    assert 0 <= span.first <= span.last < size
    assert len(span.of(bytes(size))) == span.size
