"""Stored resolutions of a frame over the REST API: a first image within kilobytes, and never wrong pixels."""

from __future__ import annotations

import json
from base64 import b64decode

import imagecodecs
import numpy as np
import pytest

from framegate.healthimaging import client as health_imaging_module
from framegate.healthimaging.client import MAX_DRAIN_BYTES
from framegate.rest.http import INLINE_LIMIT
from framegate.rest.routes import GET_IMAGE_FRAME_ROUTE
from framegate.time_budget import TimeBudget
from local.health_imaging import Fault
from tests.unit.conftest import BUCKET, SERVED
from tests.unit.htj2k_frames import COLUMNS, CONTENT, DECOMPOSITIONS, PIXELS, ROWS, encoded, image, large_content
from tests.unit.test_byte_ranges import ref

KIB = 1024


@pytest.fixture
def frame(health_imaging):
    return health_imaging.add_frame(SERVED, CONTENT, "image/jph")


@pytest.fixture
def large(health_imaging):
    return health_imaging.add_frame(SERVED, large_content(), "image/jph")


def shown(answer):
    """The pixels of a response, decoded as its headers say."""
    return imagecodecs.htj2k_decode(answer.body, skipres=int(answer.headers["Framegate-Skip-Decompositions"]))


@pytest.mark.parametrize("number", range(DECOMPOSITIONS + 1))
def test_resolution_decodes_to_the_whole_frame_at_that_resolution(client, frame, number):
    answer = client.get(frame, f"resolution={number}")
    skip = DECOMPOSITIONS - number

    assert answer.status == 200
    assert answer.body.endswith(b"\xff\xd9")
    assert np.array_equal(shown(answer), imagecodecs.htj2k_decode(CONTENT, skipres=skip))
    assert answer.headers["Content-Type"] == "image/jph; transfer-syntax=1.2.840.10008.1.2.4.202"
    told = {name: value for name, value in answer.headers.items() if name.startswith("Framegate-")}
    assert told == {
        "Framegate-Whole-Frame": "true" if skip == 0 else "false",
        "Framegate-Resolution": str(number),
        "Framegate-Resolutions": str(DECOMPOSITIONS + 1),
        "Framegate-Rows": str(-(-ROWS // 2**skip)),
        "Framegate-Columns": str(-(-COLUMNS // 2**skip)),
        "Framegate-Skip-Decompositions": str(skip),
    }


@pytest.mark.parametrize(
    ("size", "number"), [(1, 0), (32, 0), (33, 1), (63, 1), (64, 2), (128, 3), (500, 4), (501, 5), (1000, 5), (9999, 5)]
)
def test_size_selects_the_smallest_resolution_that_is_large_enough(client, frame, size, number):
    answer = client.get(frame, f"size={size}")

    assert answer.headers["Framegate-Resolution"] == str(number)
    assert answer.body == client.get(frame, f"resolution={number}").body


def test_resolution_above_the_highest_is_the_whole_frame(client, frame):
    answer = client.get(frame, "resolution=32")

    assert answer.body == CONTENT
    assert answer.headers["Framegate-Whole-Frame"] == "true"
    assert answer.headers["Framegate-Resolution"] == str(DECOMPOSITIONS)


def test_request_without_a_selection_has_no_portion_headers(client, frame):
    assert not [name for name in client.get(frame).headers if name.startswith("Framegate-")]


def test_every_route_accepts_a_selection(client, frame):
    path = {"datastoreId": SERVED, "imageSetId": frame.image_set_id}
    body = json.dumps({"imageFrameId": frame.image_frame_id}).encode()
    expected = client.get(frame, "size=64").body
    by_query = client.call("GET", GET_IMAGE_FRAME_ROUTE, path, f"imageFrameId={frame.image_frame_id}&size=64")
    by_body = client.call("POST", GET_IMAGE_FRAME_ROUTE, path, "size=64", body=body)

    assert by_query.body == by_body.body == expected
    assert len(expected) < len(CONTENT) / 10


def test_json_answer_has_the_same_bytes_and_describes_them(client, frame):
    raw = client.get(frame, "size=64")
    document = client.get(frame, "size=64", {"Accept": "application/json"}).json()

    assert b64decode(document.pop("imageFrameBlob")) == raw.body
    assert document == {
        "datastoreId": SERVED,
        "imageSetId": frame.image_set_id,
        "imageFrameId": frame.image_frame_id,
        "contentType": "image/jph",
        "contentLength": len(raw.body),
        "wholeFrame": False,
        "resolution": 2,
        "resolutions": 6,
        "rows": 88,
        "columns": 125,
        "skipDecompositions": 3,
    }


def test_each_selection_has_its_own_entity_tag(client, frame, health_imaging):
    queries = ["", "resolution=0", "resolution=1", "size=64", "size=128", "startLevel=0&endLevel=1", "startLevel=1"]
    tags = [client.get(frame, query).headers["ETag"] for query in queries]
    assert len(set(tags)) == len(queries)
    health_imaging.calls.clear()
    for query in queries:
        answers = [client.get(frame, query, {"If-None-Match": tag}).status for tag in tags]
        assert answers == [304 if tag == tags[queries.index(query)] else 200 for tag in tags]
    assert len(health_imaging.calls) == len(queries) * (len(queries) - 1)


def test_portion_headers_are_exposed_to_browsers(client, frame):
    exposed = client.get(frame, "size=64").headers["Access-Control-Expose-Headers"].split(", ")

    assert {"Framegate-Resolution", "Framegate-Whole-Frame", "Content-Range", "Accept-Ranges"} <= set(exposed)


# Frames without resolutions


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        pytest.param(encoded(PIXELS, tilepart=None), "image/jph", id="one tile-part"),
        pytest.param(imagecodecs.jpeg2k_encode(PIXELS, level=0), "image/j2c", id="another progression"),
        pytest.param(encoded(PIXELS, tile=(256, 256)), "image/jph", id="several tiles"),
        pytest.param(imagecodecs.jpeg8_encode((PIXELS >> 4).astype(np.uint8)), "image/jpeg", id="JPEG"),
        pytest.param(PIXELS.tobytes(), "application/octet-stream", id="raw"),
        pytest.param(b"\x00\x00\x00\x20ftypisom" + bytes(5000), "video/mp4", id="video"),
        pytest.param(b"", "image/jph", id="nothing"),
        pytest.param(CONTENT[:300], "image/jph", id="broken off in the header"),
        pytest.param(b"\xff\x4f\xff\x51", "image/jph", id="a beginning"),
    ],
)
def test_frame_without_resolutions_is_delivered_whole(client, health_imaging, content, content_type):
    frame = health_imaging.add_frame(SERVED, content, content_type)
    for query in ("resolution=0", "size=64", "endLevel=1"):
        answer = client.get(frame, query)
        assert (answer.status, answer.body) == (200, content)
        assert answer.headers["Framegate-Whole-Frame"] == "true"
    # Higher levels add nothing.
    assert client.get(frame, "startLevel=1").body == b""


def test_large_frame_without_resolutions_is_redirected(client, health_imaging):
    frame = health_imaging.add_frame(SERVED, bytes(INLINE_LIMIT + 1), "video/mp4")
    answer = client.get(frame, "size=64")

    assert (answer.status, answer.headers["Framegate-Whole-Frame"]) == (303, "true")


# Large frames


def test_thumbnail_of_a_large_frame_is_delivered_inline(client, large, s3):
    answer = client.get(large, "size=128")

    assert answer.status == 200
    assert len(answer.body) < len(large_content()) / 100
    assert np.array_equal(shown(answer), imagecodecs.htj2k_decode(large_content(), skipres=4))
    assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET)


def test_resolution_above_the_inline_limit_redirects_to_the_whole_frame(client, large, store):
    answer = client.get(large, "resolution=5")
    assert (answer.status, answer.headers["Framegate-Whole-Frame"]) == (303, "true")
    assert store.find(ref(large), TimeBudget(60))
    assert client.get(large, "resolution=5&delivery=inline").status == 413


def test_url_delivery_ignores_the_selection(client, frame):
    answer = client.get(frame, "size=64&delivery=url")
    document = client.get(frame, "size=64&delivery=url", {"Accept": "application/json"}).json()

    assert (answer.status, answer.headers["Framegate-Whole-Frame"]) == (303, "true")
    assert (document["wholeFrame"], document["contentLength"]) == (True, len(CONTENT))


# Ranges of a resolution


def test_byte_range_applies_to_the_bytes_of_the_resolution(client, frame):
    body = client.get(frame, "resolution=1").body
    answer = client.get(frame, "resolution=1", {"Range": "bytes=-2"})

    assert (answer.status, answer.body) == (206, b"\xff\xd9")
    assert answer.headers["Content-Range"] == f"bytes {len(body) - 2}-{len(body) - 1}/{len(body)}"


# Bytes read


@pytest.mark.parametrize("query", ["resolution=0", "size=128", "size=512", "resolution=3", "endLevel=2"])
def test_at_most_64_kib_beyond_the_response_is_read(client, large, log_lines, query):
    answer = client.get(large, query)

    assert log_lines()[-1]["upstream_bytes"] <= len(answer.body) + 64 * KIB
    assert log_lines()[-1]["bytes"] == len(answer.body)


def test_healthimaging_sends_little_more_than_is_delivered(client, large, health_imaging):
    """Measured at HealthImaging, which sends slowly so that few bytes are in flight."""
    health_imaging.faults.arm(Fault(bytes_per_second=500_000))
    answer = client.get(large, "size=128")
    (call,) = health_imaging.calls

    assert call.aborted
    assert call.bytes_sent <= len(answer.body) + 64 * KIB


def test_early_stops_leak_no_connection(client, large):
    # HealthImaging's pool has one connection, so a leak would block the next requests.
    sizes = {len(client.get(large, "resolution=0").body) for _ in range(200)}

    assert len(sizes) == 1


def test_connection_is_kept_if_the_unread_rest_is_short(client, health_imaging, source):
    content = encoded(image(200, 200))
    assert len(content) < MAX_DRAIN_BYTES
    frame = health_imaging.add_frame(SERVED, content, "image/jph")
    for _ in range(5):
        client.get(frame, "resolution=1")
    calls = list(health_imaging.calls)

    assert not any(call.aborted for call in calls)
    assert len(calls) == 5


@pytest.mark.parametrize(("rest", "kept"), [(MAX_DRAIN_BYTES, True), (MAX_DRAIN_BYTES + 1, False)])
def test_connection_is_dropped_if_the_unread_rest_is_long(client, health_imaging, rest, kept, monkeypatch):
    # A busy machine takes longer than those 20 ms.
    monkeypatch.setattr(health_imaging_module, "MAX_DRAIN_SECONDS", 5.0)
    frame = health_imaging.add_frame(SERVED, bytes(1000 + rest), "image/jph")
    # HealthImaging sends slowly, so that few bytes are in flight when the client disconnects.
    health_imaging.faults.arm(Fault(bytes_per_second=1_000_000))
    assert client.get(frame, headers={"Range": "bytes=0-999"}).status == 206
    (call,) = health_imaging.calls
    call.done.wait(5)

    assert call.aborted is not kept


# Invalid requests


@pytest.mark.parametrize(
    "query",
    [
        "size=0",
        "size=-1",
        "size=big",
        "size=",
        "size=1e3",
        "size=99999999999",
        "resolution=-1",
        "resolution=33",
        "resolution=1.5",
        "startLevel=x",
        "endLevel=-1",
        "startLevel=2&endLevel=1",
        "size=1&resolution=1",
        "size=1&endLevel=1",
        "resolution=1&startLevel=0",
        "size=1&size=2",
    ],
)
def test_invalid_parameter_answers_400_without_an_upstream_call(client, frame, health_imaging, query):
    answer = client.get(frame, query)

    assert answer.status == 400
    assert answer.json()["type"] == "urn:framegate:problem:invalid-request"
    assert len(health_imaging.calls) == 0


def test_truncated_resolution_answers_502(client, large, health_imaging):
    health_imaging.faults.arm(Fault(then="close", after=10_000))

    assert client.get(large, "size=512").status == 502
