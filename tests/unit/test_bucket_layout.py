"""The keys of the bucket are an interface: consumers read frames and manifests by them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from framegate import bucket_layout
from framegate.bucket_layout import (
    EXPORT_PREFIX,
    FRAME_PREFIX,
    IMAGE_SET_PREFIXES,
    INDEX_PREFIX,
    JSON_LINES,
    MISMATCH_TAG,
    MISMATCHED_PREFIX,
    QUEUED_PREFIX,
    REQUEST_PREFIX,
    RESULT_PREFIX,
)
from framegate.identifiers import FrameRef, ImageSetRef

PROJECT = Path(__file__).parents[2]
IMAGE_SET = ImageSetRef("d" * 32, "5" * 32)
FRAME = FrameRef("d" * 32, "5" * 32, "f" * 32)
REFERENCE = f"{'d' * 32}/{'5' * 32}"
RESULTS = "exports/requests/monday.jsonl/run-1"
PREFIXES = {FRAME_PREFIX, MISMATCHED_PREFIX, INDEX_PREFIX, QUEUED_PREFIX, EXPORT_PREFIX, REQUEST_PREFIX, RESULT_PREFIX}

KEYS = {
    f"frames/{REFERENCE}/{'f' * 32}": lambda: bucket_layout.frame_key(FRAME),
    f"mismatched/{REFERENCE}/{'f' * 32}": lambda: bucket_layout.mismatched_key(FRAME),
    f"queued/{REFERENCE}/{'f' * 32}": lambda: bucket_layout.queued_key(FRAME),
    f"indexes/{REFERENCE}/version-7.1.jsonl": lambda: bucket_layout.index_key(IMAGE_SET, "7", 1),
    f"indexes/{REFERENCE}/latest.json": lambda: bucket_layout.latest_version_key(IMAGE_SET),
    f"exports/{REFERENCE}/version-7/manifest.jsonl": lambda: bucket_layout.manifest_key(IMAGE_SET, "version-7"),
    f"exports/{REFERENCE}/progress/": lambda: bucket_layout.progress_prefix(IMAGE_SET),
    f"exports/{REFERENCE}/progress/x.jsonl": lambda: bucket_layout.progress_key(IMAGE_SET, "x"),
    f"metadata/{REFERENCE}/name.json.gz": lambda: bucket_layout.metadata_key(IMAGE_SET, "name"),
    f"instances/{REFERENCE}/hash.dcm": lambda: bucket_layout.instance_key(IMAGE_SET, "hash"),
    f"bodies/{REFERENCE}/name": lambda: bucket_layout.body_key(IMAGE_SET, "name"),
    f"studies/{IMAGE_SET.datastore_id}/hash.json": lambda: bucket_layout.study_list_key(IMAGE_SET.datastore_id, "hash"),
    f"claims/{IMAGE_SET.datastore_id}/name.json": lambda: bucket_layout.claim_key(IMAGE_SET.datastore_id, "name"),
    RESULTS: lambda: bucket_layout.results_prefix("export-requests/monday.jsonl", "run-1"),
    f"{RESULTS}/accepted.jsonl": lambda: bucket_layout.accepted_key(RESULTS),
    f"{RESULTS}/rejected.jsonl": lambda: bucket_layout.rejected_key(RESULTS),
    f"{RESULTS}/failed.jsonl": lambda: bucket_layout.failed_key(RESULTS),
    f"{RESULTS}/summary.json": lambda: bucket_layout.summary_key(RESULTS),
    f"{RESULTS}/results": lambda: bucket_layout.map_results_prefix(RESULTS),
}


@pytest.mark.parametrize(("key", "of_layout"), KEYS.items(), ids=KEYS)
def test_keys_keep_their_form(key, of_layout):
    assert of_layout() == key


def test_prefixes_tag_and_media_type_keep_their_values():
    assert (FRAME_PREFIX, MISMATCHED_PREFIX, INDEX_PREFIX) == ("frames/", "mismatched/", "indexes/")
    assert (QUEUED_PREFIX, EXPORT_PREFIX, REQUEST_PREFIX) == ("queued/", "exports/", "export-requests/")
    assert RESULT_PREFIX == "exports/requests/"
    assert MISMATCH_TAG == {"framegate-pixels": "mismatch"}
    assert JSON_LINES == "application/jsonl"


def test_every_key_of_an_image_set_is_under_a_prefix_that_removal_covers():
    of_image_set = [key for key in KEYS if REFERENCE in key]
    removed = {bucket_layout.image_set_prefix(each, IMAGE_SET) for each in IMAGE_SET_PREFIXES}
    assert all(key.startswith(tuple(removed)) for key in of_image_set)
    assert {key.partition("/")[0] + "/" for key in of_image_set} == set(IMAGE_SET_PREFIXES)


def texts(path):
    """The string literals of a module, docstrings left out."""
    tree = ast.parse(path.read_text())
    documentation = {
        id(each.value) for each in ast.walk(tree) if isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant)
    }
    return [
        each.value
        for each in ast.walk(tree)
        if isinstance(each, ast.Constant) and isinstance(each.value, str) and id(each) not in documentation
    ]


@pytest.mark.parametrize("folder", ["lambda_src", "infra"])
def test_prefixes_and_tags_stand_in_the_layout_alone(folder):
    names = {key.rpartition("/")[2] for key in KEYS if key.endswith((".json", ".jsonl"))} - {"x.jsonl"}
    parts = {*names, *MISMATCH_TAG, "progress/"}
    found = {
        (path.name, text)
        for path in (PROJECT / folder).rglob("*.py")
        if path.name != "bucket_layout.py"
        for text in texts(path)
        if text in {*PREFIXES, JSON_LINES} or any(text.endswith(part) for part in parts)
    }
    assert not found


def documented_keys():
    """The keys in the first column of a documented table, in the form ``prefix/{name}/…``."""
    pages = [PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")]
    rows = (re.findall(r"^\| `([a-z-]+/[^`]*)` \|", page.read_text(), re.MULTILINE) for page in pages)
    # A row about a path of the API has UIDs.
    return sorted({key for found in rows for key in found if "{" in key and "{uid}" not in key})


def test_documented_keys_are_those_of_the_layout():
    names = {"{datastoreId}": "d" * 32, "{imageSetId}": "5" * 32, "{imageFrameId}": "f" * 32, "{n}": "7"}
    names |= {"{execution}": "run-1", "{line}": "1", "{name}": "monday.jsonl", "{hash}": "hash"}
    manifests = {bucket_layout.manifest_key(IMAGE_SET, each) for each in ("run-1-1", "version-7-dicom")}
    made = {*KEYS, *manifests, f"{RESULTS}/"}
    keys = [re.sub(r"\{\w+\}", lambda name: names[name[0]], key) for key in documented_keys()]

    assert {key.partition("/")[0] + "/" for key in keys} >= {
        FRAME_PREFIX,
        MISMATCHED_PREFIX,
        INDEX_PREFIX,
        EXPORT_PREFIX,
    }
    for key in keys:
        assert key in made or (key.endswith("/") and any(each.startswith(key) for each in made)), key
