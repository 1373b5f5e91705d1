"""Levels of a frame over the REST API: they join to the frame, even if it is damaged."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from framegate.rest.http import INLINE_LIMIT
from tests.unit.codestreams import CHANGE, PLAIN, REAL, SOT, TLM, changed, find, replaced, tile_parts, with_segment
from tests.unit.conftest import SERVED
from tests.unit.htj2k_frames import CONTENT, DECOMPOSITIONS, large_content
from tests.unit.test_levels import BROKEN


@pytest.fixture
def frame(health_imaging):
    return health_imaging.add_frame(SERVED, CONTENT, "image/jph")


@pytest.fixture
def large(health_imaging):
    return health_imaging.add_frame(SERVED, large_content(), "image/jph")


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


def test_levels_of_a_large_broken_frame_end_before_the_damage(client, health_imaging):
    content = with_part_number(large_content(), 3, 160)
    frame = health_imaging.add_frame(SERVED, content, "image/jph")
    each = [client.get(frame, f"startLevel={n}&endLevel={n}") for n in range(6)]

    # Level 3 is the whole rest, which is too large. The levels above are empty.
    assert [answer.status for answer in each] == [200, 200, 200, 413, 200, 200]
    sound = b"".join(answer.body for answer in each[:3])
    assert sound == content[: len(sound)]
    assert len(sound) == find(content, SOT) + sum(map(len, tile_parts(large_content())[:3]))
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
def test_frame_at_the_inline_limit_has_its_last_level(client, health_imaging, more):
    content = large_content()[: INLINE_LIMIT + more]
    frame = health_imaging.add_frame(SERVED, content, "image/jph")
    last = client.get(frame, "startLevel=5")

    if more:
        assert last.status == 413
    else:
        assert client.get(frame, "endLevel=4").body + last.body == content
