"""Request manifests: every line is accepted or rejected with a reason, and none of what it says comes out again."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framegate.export.request_manifest import (
    LONGEST_LINE,
    MOST_FRAME_IDS,
    RequestManifests,
    numbered_lines,
    parse_line,
)
from framegate.problems import InvalidIdentifier, InvalidRequest, InvalidRequestManifest, Problem
from framegate.time_budget import TimeBudget
from tests.unit.conftest import BUCKET, SERVED

IMAGE_SET = "5" * 32
GOOD = {"datastoreId": SERVED, "imageSetId": IMAGE_SET}
IDENTIFIERS = st.from_regex(r"[0-9a-z]{32}", fullmatch=True)


@pytest.fixture
def manifests(objects):
    return RequestManifests(objects, frozenset({SERVED}))


def check(s3, manifests, content, key="export-requests/monday.jsonl"):
    s3.put_object(Bucket=BUCKET, Key=key, Body=content)
    checked = manifests.check(key, "execution-1", TimeBudget(60))
    return checked, lines(s3, checked.accepted_key), lines(s3, checked.rejected_key)


def lines(s3, key):
    body = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    return [json.loads(line) for line in body.splitlines()]


def test_good_lines_are_accepted_with_their_numbers(s3, manifests):
    full = {**GOOD, "imageFrameIds": ["f" * 32], "versionId": "2", "verify": True}
    content = json.dumps(GOOD) + "\n\n  \r\n" + json.dumps(full)
    checked, accepted, rejected = check(s3, manifests, content.encode())
    assert accepted == [{"line": 1, **GOOD}, {"line": 4, **full}]
    assert rejected == []
    assert (checked.accepted, checked.rejected) == (2, 0)


def test_results_are_found_by_the_name_of_the_manifest(s3, manifests):
    checked, _, _ = check(s3, manifests, b"", "export-requests/study 7/monday.jsonl")
    assert checked.prefix == "exports/requests/study 7/monday.jsonl/execution-1"


REJECTED = {
    "no JSON": ("Mueller^Hans", "JSON"),
    "broken JSON": ('{"datastoreId": ', "JSON"),
    "not UTF-8": (b"\xff\xfe\x00", "UTF-8"),
    "a list": ("[]", "object"),
    "a number": ("7", "object"),
    "deep nesting": ("[" * 100_000, "JSON"),
    "nothing in it": ("{}", "datastoreId must be 32 characters"),
    "no image set": ({"datastoreId": SERVED}, "imageSetId must be 32 characters"),
    "malformed id": ({**GOOD, "imageSetId": "Mueller^Hans"}, "imageSetId must be 32 characters"),
    "id of another type": ({**GOOD, "imageSetId": 7}, "imageSetId must be 32 characters"),
    "unknown member": ({**GOOD, "patientName": "Mueller^Hans"}, "a member other than datastoreId"),
    "foreign data store": ({**GOOD, "datastoreId": "f" * 32}, "does not serve that data store"),
    "no list of frames": ({**GOOD, "imageFrameIds": "f" * 32}, "must be a list"),
    "empty list of frames": ({**GOOD, "imageFrameIds": []}, "leave it out to export all"),
    "malformed frame id": ({**GOOD, "imageFrameIds": ["x"]}, "imageFrameId must be 32 characters"),
    "too many frames": ({**GOOD, "imageFrameIds": ["f" * 32] * (MOST_FRAME_IDS + 1)}, "use several lines"),
    "no number of a version": ({**GOOD, "versionId": "latest"}, "versionId must be the number"),
    "version zero": ({**GOOD, "versionId": 0}, "versionId must be the number"),
    "version true": ({**GOOD, "versionId": True}, "versionId must be the number"),
    "verify as text": ({**GOOD, "verify": "yes"}, "verify must be true or false"),
    "a line without end": ("x" * (LONGEST_LINE + 1), "longer than"),
}


@pytest.mark.parametrize(("line", "reason"), REJECTED.values(), ids=REJECTED)
def test_bad_line_is_rejected_with_a_reason_and_the_rest_goes_on(s3, manifests, line, reason):
    bad = line if isinstance(line, bytes) else (line if isinstance(line, str) else json.dumps(line)).encode()
    good = json.dumps(GOOD).encode()
    checked, accepted, rejected = check(s3, manifests, b"\n".join([good, bad, good]))
    assert [each["line"] for each in accepted] == [1, 3]
    ((number, text),) = ((each["line"], each["reason"]) for each in rejected)
    assert number == 2
    assert reason in text
    assert "Mueller" not in json.dumps(rejected)
    assert (checked.accepted, checked.rejected) == (2, 1)


def test_longest_list_of_frames_fits_a_line_and_the_data_of_a_state():
    frame_ids = [f"{number:032d}" for number in range(MOST_FRAME_IDS)]
    line = json.dumps({**GOOD, "imageFrameIds": frame_ids}).encode()
    assert len(line) < LONGEST_LINE
    assert parse_line(line)["imageFrameIds"] == frame_ids
    # Step Functions developer guide, "Quotas": 256 KiB.
    assert len(line) < 256 * 1024 - 10_000


def test_frame_that_is_named_twice_is_exported_once():
    line = json.dumps({**GOOD, "imageFrameIds": ["a" * 32, "b" * 32, "a" * 32]}).encode()
    assert parse_line(line)["imageFrameIds"] == ["a" * 32, "b" * 32]


def test_byte_order_mark_is_no_fault():
    assert parse_line(b"\xef\xbb\xbf" + json.dumps(GOOD).encode()) == GOOD


@given(
    st.fixed_dictionaries(
        {"datastoreId": IDENTIFIERS, "imageSetId": IDENTIFIERS},
        optional={
            "imageFrameIds": st.lists(IDENTIFIERS, min_size=1, max_size=5, unique=True),
            "versionId": st.integers(1, 10_000).map(str),
            "verify": st.booleans(),
        },
    )
)
def test_every_valid_request_is_read_as_it_is(request_):
    assert parse_line(json.dumps(request_).encode()) == request_


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text() | st.sampled_from(list(GOOD)), children),
)


@given(_JSON.map(lambda value: json.dumps(value).encode()) | st.binary())
def test_any_line_is_a_request_or_a_problem(line):
    with suppress(InvalidRequest, InvalidIdentifier):
        assert {"datastoreId", "imageSetId"} <= parse_line(line).keys()


@given(st.lists(st.binary(max_size=30)), st.integers(1, 20))
def test_lines_are_the_same_whatever_the_pieces(parts, size):
    content = b"\n".join(parts)
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    expected = [(number, line) for number, line in enumerate(content.split(b"\n"), 1) if line.strip()]
    assert list(numbered_lines(pieces)) == expected


def test_endless_line_is_read_in_little_memory(s3, manifests):
    pieces = (b"x" * 100_000 for _ in range(1000))
    assert [line for _, line in numbered_lines(pieces)] == [None]


def test_many_lines_are_checked(s3, manifests):
    count = 100_000
    checked, accepted, _ = check(s3, manifests, (json.dumps(GOOD) + "\n").encode() * count)
    assert checked.accepted == len(accepted) == count


def test_manifest_that_is_gone_is_an_error_of_the_whole(s3, manifests):
    with pytest.raises(InvalidRequestManifest, match="not there any more"):
        manifests.check("export-requests/gone.jsonl", "execution-1", TimeBudget(60))
    assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET)


def test_key_that_leaves_no_room_for_results_is_an_error_of_the_whole(manifests):
    with pytest.raises(InvalidRequestManifest, match="at most 800 bytes"):
        manifests.check("export-requests/" + "x" * 800, "execution-1", TimeBudget(60))


def test_s3_that_fails_in_the_middle_leaves_no_half_of_a_list(s3, manifests):
    with pytest.raises(Problem):
        manifests.check("export-requests/monday.jsonl", "execution-1", TimeBudget(0))
    assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET)
