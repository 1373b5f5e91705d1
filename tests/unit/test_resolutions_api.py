"""Stored resolutions of a frame over the REST API: a first image within kilobytes, and never wrong pixels."""

from __future__ import annotations

import json
from base64 import b64decode

import imagecodecs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from framegate.healthimaging import client as health_imaging_module
from framegate.healthimaging.client import MAX_DRAIN_BYTES
from framegate.rest.http import INLINE_LIMIT
from framegate.rest.routes import GET_IMAGE_FRAME_ROUTE
from framegate.time_budget import TimeBudget
from local.health_imaging import Fault
from tests.unit.codestreams import CHANGE, PLAIN, REAL, SOT, TLM, changed, find, replaced, tile_parts, with_segment
from tests.unit.conftest import BUCKET, SERVED
from tests.unit.test_byte_ranges import ref
from tests.unit.test_levels import BROKEN

DECOMPOSITIONS = 5
ROWS, COLUMNS = 700, 1000
KIB = 1024


def image(rows, columns, seed=7):
    """Pixels with structure at every scale, so that each resolution adds bytes."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :columns]
    smooth = 800 * np.sin(x / 37) * np.cos(y / 53) + (x + y) % 97 * 5
    return (smooth + random.normal(0, 60, (rows, columns)) + 2000).clip(0, 4095).astype(np.uint16)


def encoded(pixels, **options):
    as_the_service_does = {
        "reversible": True,
        "resolutions": DECOMPOSITIONS,
        "tlm": True,
        "tilepart": imagecodecs.HTJ2K.TILEPART.RESOLUTIONS,
    }
    return imagecodecs.htj2k_encode(pixels, **{**as_the_service_does, **options})


PIXELS = image(ROWS, COLUMNS)
CONTENT = encoded(PIXELS)


@pytest.fixture
def frame(health_imaging):
    return health_imaging.add_frame(SERVED, CONTENT, "image/jph")


@pytest.fixture(scope="module")
def large_content():
    content = encoded(image(4_000, 3_000))
    assert len(content) > INLINE_LIMIT
    return content


@pytest.fixture
def large(health_imaging, large_content):
    return health_imaging.add_frame(SERVED, large_content, "image/jph")


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
    assert answer.headers["Content-Type"] == "image/jph"
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


# Levels, as in AWS's sample proxy


def test_levels_join_to_the_frame(client, frame):
    levels = [client.get(frame, f"startLevel={n}&endLevel={n}") for n in range(DECOMPOSITIONS + 1)]

    assert [answer.status for answer in levels] == [200] * 6
    assert b"".join(answer.body for answer in levels) == CONTENT
    assert all(answer.body for answer in levels)


@pytest.mark.parametrize("split", range(DECOMPOSITIONS))
def test_ranges_of_levels_join_to_the_frame(client, frame, split):
    front = client.get(frame, f"endLevel={split}").body
    rest = client.get(frame, f"startLevel={split + 1}").body

    assert front + rest == CONTENT
    assert front == client.get(frame, f"startLevel=0&endLevel={split}").body
    assert np.array_equal(
        imagecodecs.htj2k_decode(front + b"\xff\xd9", skipres=DECOMPOSITIONS - split),
        imagecodecs.htj2k_decode(CONTENT, skipres=DECOMPOSITIONS - split),
    )


def test_levels_above_the_last_one_are_empty(client, frame):
    assert client.get(frame, "startLevel=6").body == b""
    assert client.get(frame, "startLevel=0&endLevel=99").body == CONTENT


def test_levels_above_the_inline_limit_answer_413(client, large):
    answer = client.get(large, "startLevel=5")

    assert answer.status == 413
    assert answer.json()["type"] == "urn:framegate:problem:frame-too-large"
    assert "delivery=url" in answer.json()["detail"]


# Levels of damaged frames


def assert_levels_join(client, frame, content, levels):
    """Check that the responses for successive levels join to the frame and that their headers agree."""
    each = [client.get(frame, f"startLevel={n}&endLevel={n}") for n in range(levels)]
    assert b"".join(answer.body for answer in each) == content
    for split in range(levels - 1):
        front, rest = client.get(frame, f"endLevel={split}"), client.get(frame, f"startLevel={split + 1}")
        assert front.body + rest.body == content
        assert front.body == b"".join(answer.body for answer in each[: split + 1])
        each += [front, rest]
    assert {answer.status for answer in each} == {200}
    assert len({answer.headers.get("Framegate-Resolutions") for answer in each}) == 1
    for answer in each:
        if answer.headers["Framegate-Whole-Frame"] == "true":
            assert answer.body == content


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_levels_of_a_broken_frame_join(client, health_imaging, content):
    frame = health_imaging.add_frame(SERVED, content, "image/jph")

    assert_levels_join(client, frame, content, levels=4)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(REAL), st.lists(CHANGE, min_size=1, max_size=5))
def test_levels_of_any_damaged_frame_join(client, health_imaging, content, changes):
    broken = changed(content, changes)
    frame = health_imaging.add_frame(SERVED, broken, "image/jph")

    assert_levels_join(client, frame, broken, levels=6)


def with_part_number(content, part, number):
    """The codestream with a different number on one of its tile-parts."""
    position = find(content, SOT) + sum(map(len, tile_parts(content)[:part]))
    return replaced(content, position + 10, bytes([number]))


def test_levels_of_a_large_broken_frame_end_before_the_damage(client, health_imaging, large_content):
    content = with_part_number(large_content, 3, 160)
    frame = health_imaging.add_frame(SERVED, content, "image/jph")
    each = [client.get(frame, f"startLevel={n}&endLevel={n}") for n in range(6)]

    # Level 3 is the whole rest, which is too large. The levels above are empty.
    assert [answer.status for answer in each] == [200, 200, 200, 413, 200, 200]
    sound = b"".join(answer.body for answer in each[:3])
    assert sound == content[: len(sound)]
    assert len(sound) == find(content, SOT) + sum(map(len, tile_parts(large_content)[:3]))
    assert [answer.body for answer in each[4:]] == [b"", b""]
    assert client.get(frame, "endLevel=2").body == sound
    assert client.get(frame, "startLevel=2").status == 413
    # From level 0, the rest is the whole frame, which is delivered as a URL.
    assert [client.get(frame, f"endLevel={n}").status for n in (3, 4, 5)] == [303, 303, 303]


def test_declared_length_beyond_the_inline_limit_loses_no_level(client, health_imaging):
    lengths = [len(part) for part in tile_parts(PLAIN)]
    tlm = b"\0\x40" + b"".join(each.to_bytes(4, "big") for each in (lengths[0], INLINE_LIMIT * 2, lengths[2]))
    content = with_segment(PLAIN, TLM, tlm)
    frame = health_imaging.add_frame(SERVED, content, "image/jph")

    assert_levels_join(client, frame, content, levels=4)
    assert client.get(frame, "endLevel=0").body == content[: find(content, SOT) + lengths[0]]


@pytest.mark.parametrize("more", [0, 1])
def test_frame_at_the_inline_limit_has_its_last_level(client, health_imaging, large_content, more):
    content = large_content[: INLINE_LIMIT + more]
    frame = health_imaging.add_frame(SERVED, content, "image/jph")
    last = client.get(frame, "startLevel=5")

    if more:
        assert last.status == 413
    else:
        assert client.get(frame, "endLevel=4").body + last.body == content


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


def test_thumbnail_of_a_large_frame_is_delivered_inline(client, large, large_content, s3):
    answer = client.get(large, "size=128")

    assert answer.status == 200
    assert len(answer.body) < len(large_content) / 100
    assert np.array_equal(shown(answer), imagecodecs.htj2k_decode(large_content, skipres=4))
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
def test_at_most_64_kib_beyond_the_response_is_read(client, large, large_content, log_lines, query):
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


def test_2000_early_stops_leak_no_connection(client, large):
    sizes = {len(client.get(large, "resolution=0").body) for _ in range(2000)}

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
    monkeypatch.setattr(health_imaging_module, "KEEP_TIME", 5.0)
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
