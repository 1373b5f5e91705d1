"""Request manifests: every line is accepted, or rejected with a reason that repeats nothing of the line."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framegate.export import request_manifest
from framegate.export.request_manifest import (
    MAX_FRAME_IDS,
    MAX_KEY_BYTES,
    MAX_LINE_BYTES,
    MAX_LINES,
    MAX_MANIFEST_BYTES,
    RequestManifests,
    numbered_lines,
    parse_line,
)
from framegate.problems import InvalidIdentifier, InvalidRequest, InvalidRequestManifest, Problem
from framegate.storage.object_store import StoredObject
from framegate.time_budget import TimeBudget
from tests.unit.conftest import BUCKET, SERVED
from tests.unit.exporting import keys

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


def test_valid_lines_are_accepted_with_their_numbers(s3, manifests):
    full = {**GOOD, "imageFrameIds": ["f" * 32], "versionId": "2", "verify": True}
    content = json.dumps(GOOD) + "\n\n  \r\n" + json.dumps(full)
    checked, accepted, rejected = check(s3, manifests, content.encode())
    assert accepted == [{"line": 1, **GOOD}, {"line": 4, **full}]
    assert rejected == []
    assert (checked.accepted, checked.rejected) == (2, 0)


def test_results_prefix_contains_the_manifest_name(s3, manifests):
    checked, _, _ = check(s3, manifests, b"", "export-requests/study 7/monday.jsonl")
    assert checked.prefix == "exports/requests/study 7/monday.jsonl/execution-1"


REJECTED = {
    "not JSON": ("Mueller^Hans", "JSON"),
    "broken JSON": ('{"datastoreId": ', "JSON"),
    "not UTF-8": (b"\xff\xfe\x00", "UTF-8"),
    "a list": ("[]", "object"),
    "a number": ("7", "object"),
    "deep nesting": ("[" * 100_000, "JSON"),
    "no members": ("{}", "datastoreId must be 32 characters"),
    "missing image set": ({"datastoreId": SERVED}, "imageSetId must be 32 characters"),
    "malformed id": ({**GOOD, "imageSetId": "Mueller^Hans"}, "imageSetId must be 32 characters"),
    "id of another type": ({**GOOD, "imageSetId": 7}, "imageSetId must be 32 characters"),
    "unknown member": ({**GOOD, "patientName": "Mueller^Hans"}, "a member other than datastoreId"),
    "other data store": ({**GOOD, "datastoreId": "f" * 32}, "does not serve that data store"),
    "frames not in a list": ({**GOOD, "imageFrameIds": "f" * 32}, "must be a list"),
    "empty list of frames": ({**GOOD, "imageFrameIds": []}, "leave it out to export all"),
    "malformed frame id": ({**GOOD, "imageFrameIds": ["x"]}, "imageFrameId must be 32 characters"),
    "too many frames": ({**GOOD, "imageFrameIds": ["f" * 32] * (MAX_FRAME_IDS + 1)}, "use several lines"),
    "version that is not a number": ({**GOOD, "versionId": "latest"}, "versionId must be the number"),
    "version zero": ({**GOOD, "versionId": 0}, "versionId must be the number"),
    "version true": ({**GOOD, "versionId": True}, "versionId must be the number"),
    "verify as text": ({**GOOD, "verify": "yes"}, "verify must be true or false"),
    "line above the limit": ("x" * (MAX_LINE_BYTES + 1), "longer than"),
}


@pytest.mark.parametrize(("line", "reason"), REJECTED.values(), ids=REJECTED)
def test_invalid_line_is_rejected_with_a_reason_and_the_others_are_accepted(s3, manifests, line, reason):
    bad = line if isinstance(line, bytes) else (line if isinstance(line, str) else json.dumps(line)).encode()
    good, other = (json.dumps(each).encode() for each in (GOOD, {**GOOD, "imageSetId": "6" * 32}))
    checked, accepted, rejected = check(s3, manifests, b"\n".join([good, bad, other]))
    assert [each["line"] for each in accepted] == [1, 3]
    ((number, text),) = ((each["line"], each["reason"]) for each in rejected)
    assert number == 2
    assert reason in text
    assert "Mueller" not in json.dumps(rejected)
    assert (checked.accepted, checked.rejected) == (2, 1)


def test_maximum_frame_list_fits_into_a_line_and_a_state_input():
    frame_ids = [f"{number:032d}" for number in range(MAX_FRAME_IDS)]
    line = json.dumps({**GOOD, "imageFrameIds": frame_ids}).encode()
    assert len(line) < MAX_LINE_BYTES
    assert parse_line(line)["imageFrameIds"] == frame_ids
    # Step Functions developer guide, "Quotas": 256 KiB.
    assert len(line) < 256 * 1024 - 10_000


def test_duplicate_frame_ids_are_removed():
    line = json.dumps({**GOOD, "imageFrameIds": ["a" * 32, "b" * 32, "a" * 32]}).encode()
    assert parse_line(line)["imageFrameIds"] == ["a" * 32, "b" * 32]


def test_byte_order_mark_is_ignored():
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
def test_every_valid_request_is_parsed_unchanged(request_):
    assert parse_line(json.dumps(request_).encode()) == request_


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text() | st.sampled_from(list(GOOD)), children),
)


@given(_JSON.map(lambda value: json.dumps(value).encode()) | st.binary())
def test_arbitrary_line_raises_no_other_error(line):
    with suppress(InvalidRequest, InvalidIdentifier):
        assert {"datastoreId", "imageSetId"} <= parse_line(line).keys()


@given(st.lists(st.binary(max_size=30)), st.integers(1, 20))
def test_lines_do_not_depend_on_how_pieces_are_cut(parts, size):
    content = b"\n".join(parts)
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    expected = [(number, line) for number, line in enumerate(content.split(b"\n"), 1) if line.strip()]
    assert list(numbered_lines(pieces)) == expected


def test_endless_line_is_cut_off(s3, manifests):
    pieces = (b"x" * 100_000 for _ in range(1000))
    assert [line for _, line in numbered_lines(pieces)] == [None]


def test_100000_lines_are_checked(s3, manifests):
    count = 100_000
    requests = ({**GOOD, "imageSetId": f"{number:032d}"} for number in range(count))
    checked, accepted, _ = check(s3, manifests, "".join(json.dumps(each) + "\n" for each in requests).encode())
    assert checked.accepted == len(accepted) == count


def test_missing_manifest_is_rejected_as_a_whole(s3, manifests):
    with pytest.raises(InvalidRequestManifest, match="no longer exists"):
        manifests.check("export-requests/gone.jsonl", "execution-1", TimeBudget(60))
    assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET)


def test_manifest_with_too_long_a_key_is_rejected(manifests):
    with pytest.raises(InvalidRequestManifest, match="at most 800 bytes"):
        manifests.check("export-requests/" + "x" * 800, "execution-1", TimeBudget(60))


def test_failed_check_leaves_no_partial_lists(s3, manifests):
    with pytest.raises(Problem):
        manifests.check("export-requests/monday.jsonl", "execution-1", TimeBudget(0))
    assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET)


# Blank lines


@pytest.mark.parametrize("blank", [b" ", b"\t", b"\r", b"\x00"])
@pytest.mark.parametrize("count", [MAX_LINE_BYTES, MAX_LINE_BYTES + 1, 3_000_000])
def test_request_after_too_many_blanks_is_rejected(s3, manifests, blank, count):
    checked, _, rejected = check(s3, manifests, blank * count + json.dumps(GOOD).encode())
    assert (checked.accepted, checked.rejected) == (0, 1)
    assert rejected[0]["line"] == 1
    assert "longer than 200,000 bytes" in rejected[0]["reason"]


def test_request_after_blanks_within_the_line_limit_is_accepted(s3, manifests):
    line = json.dumps(GOOD).encode()
    checked, accepted, _ = check(s3, manifests, b" " * (MAX_LINE_BYTES - len(line)) + line)
    assert (checked.accepted, checked.rejected) == (1, 0)
    assert accepted == [{"line": 1, **GOOD}]


def test_blank_line_above_the_line_limit_is_rejected(s3, manifests):
    checked, _, _ = check(s3, manifests, b" " * (MAX_LINE_BYTES + 1) + b"\n" + b" " * MAX_LINE_BYTES)
    assert (checked.accepted, checked.rejected) == (0, 1)


def test_line_with_only_a_byte_order_mark_is_blank(s3, manifests):
    checked, accepted, _ = check(s3, manifests, b"\xef\xbb\xbf\r\n" + json.dumps(GOOD).encode())
    assert ([each["line"] for each in accepted], checked.rejected) == ([2], 0)


_PART = st.one_of(
    st.just(json.dumps(GOOD).encode()),
    st.just(b"x"),
    st.integers(0, 2 * MAX_LINE_BYTES).map(lambda size: b" " * size),
    st.just(b"\xef\xbb\xbf"),
)


@settings(max_examples=30)
@given(st.lists(st.lists(_PART, max_size=3).map(b"".join), max_size=4), st.integers(1, 300_000))
def test_every_line_that_is_not_blank_is_counted(parts, size):
    content = b"\n".join(parts)
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    numbers = {number for number, _ in numbered_lines(pieces)}
    assert {number for number, line in enumerate(parts, 1) if line.strip(b" \xef\xbb\xbf")} <= numbers


# Duplicate requests


FULL = {**GOOD, "imageFrameIds": ["a" * 32, "b" * 32], "versionId": "7", "verify": True}

SAME = {
    "the same text": (GOOD, GOOD),
    "members in another order": (GOOD, dict(reversed(GOOD.items()))),
    "frames in another order": (FULL, {**FULL, "imageFrameIds": ["b" * 32, "a" * 32]}),
    "a frame twice": (FULL, {**FULL, "imageFrameIds": ["a" * 32, "b" * 32, "a" * 32]}),
    "version as a number": (FULL, {**FULL, "versionId": 7}),
    "version with leading zeros": (FULL, {**FULL, "versionId": "007"}),
    "verify absent": ({**GOOD, "verify": False}, GOOD),
    "null for an absent member": (GOOD, {**GOOD, "versionId": None, "imageFrameIds": None, "verify": None}),
}

DIFFERENT = {
    "another image set": (GOOD, {**GOOD, "imageSetId": "6" * 32}),
    "another version": (FULL, {**FULL, "versionId": "8"}),
    "the latest version": (FULL, {name: FULL[name] for name in FULL if name != "versionId"}),
    "fewer frames": (FULL, {**FULL, "imageFrameIds": ["a" * 32]}),
    "all frames": (FULL, {name: FULL[name] for name in FULL if name != "imageFrameIds"}),
    "verified": (GOOD, {**GOOD, "verify": True}),
}


@pytest.mark.parametrize(("first", "second"), SAME.values(), ids=SAME)
def test_duplicate_request_is_rejected_with_the_number_of_the_earlier_line(s3, manifests, first, second):
    content = "\n".join(["", json.dumps(first), "x", json.dumps(second)])
    checked, accepted, rejected = check(s3, manifests, content.encode())
    assert [each["line"] for each in accepted] == [2]
    assert rejected[1] == {
        "line": 4,
        "problem": "duplicate-request",
        "reason": "Line 2 of this manifest asks for the same export.",
    }
    assert (checked.accepted, checked.rejected) == (1, 2)


@pytest.mark.parametrize(("first", "second"), DIFFERENT.values(), ids=DIFFERENT)
def test_different_request_for_the_same_image_set_is_accepted(s3, manifests, first, second):
    checked, _, _ = check(s3, manifests, f"{json.dumps(first)}\n{json.dumps(second)}".encode())
    assert (checked.accepted, checked.rejected) == (2, 0)


# Bounds


@pytest.mark.parametrize("ending", [b"", b"\n"])
def test_manifest_with_the_maximum_number_of_lines_is_read(ending):
    assert list(numbered_lines([b"\n" * (MAX_LINES - 1) + b"x" + ending])) == [(MAX_LINES, b"x")]


@pytest.mark.parametrize("content", [b"\n" * MAX_LINES + b"x", b"\n" * MAX_LINES + b"\n"])
def test_manifest_with_too_many_lines_is_rejected(content):
    with pytest.raises(InvalidRequestManifest, match="more than 1,000,000 lines"):
        list(numbered_lines([content]))


def test_manifest_with_too_many_bytes_is_rejected_unread(s3, manifests, objects, monkeypatch):
    size = MAX_MANIFEST_BYTES + 1
    monkeypatch.setattr(type(objects), "head", lambda *_: replace(HEAD, size=size))
    with pytest.raises(InvalidRequestManifest, match=r"2,147,483,649 bytes\. The maximum is 2,147,483,648"):
        manifests.check("export-requests/monday.jsonl", "execution-1", TimeBudget(60))


HEAD = StoredObject("application/jsonl", 0, None, '"etag"', datetime.now(UTC))


def test_rejected_manifest_leaves_no_lists(s3, manifests, monkeypatch):
    monkeypatch.setattr(request_manifest, "MAX_LINES", 2)
    with pytest.raises(InvalidRequestManifest, match="more than 2 lines"):
        check(s3, manifests, b"1\n2\n3\n")
    assert keys(s3) == ["export-requests/monday.jsonl"]


def test_rejected_lines_are_counted_beyond_the_listing_limit(s3, manifests, monkeypatch):
    monkeypatch.setattr(request_manifest, "MAX_LISTED_REJECTIONS", 3)
    checked, accepted, rejected = check(s3, manifests, b"x\n" * 5 + json.dumps(GOOD).encode())
    assert (checked.accepted, checked.rejected, checked.listed) == (1, 5, 3)
    assert [each["line"] for each in rejected] == [1, 2, 3]
    assert [each["line"] for each in accepted] == [6]


# Keys


@pytest.mark.parametrize(
    "key",
    ["export-requests/", "export-requests/monday/", "export-requests/a/b/", "exports/requests/x", "monday.jsonl", ""],
)
def test_folders_and_other_keys_are_not_manifests(s3, manifests, key):
    with pytest.raises(InvalidRequestManifest):
        manifests.check(key, "execution-1", TimeBudget(60))
    assert keys(s3) == []


@pytest.mark.parametrize(
    "name",
    [
        "study 7/monday.jsonl",
        "a//b",
        "..",
        "über/日本.jsonl",
        "a+b%20c&d=e?.jsonl",
        ".DS_Store",
        "x" * (MAX_KEY_BYTES - 16),
    ],
)
def test_manifest_can_have_any_name(s3, manifests, name):
    checked, accepted, _ = check(s3, manifests, json.dumps(GOOD).encode(), f"export-requests/{name}")
    assert len(accepted) == 1
    assert checked.prefix == f"exports/requests/{name}/execution-1"


def test_empty_manifest_has_no_lines(s3, manifests):
    checked, accepted, rejected = check(s3, manifests, b"")
    assert (checked.accepted, checked.rejected, accepted, rejected) == (0, 0, [], [])
