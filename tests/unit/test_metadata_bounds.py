"""Metadata that is built to exhaust memory or time, or to crash the process, causes a clear error."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

import framegate
from framegate.healthimaging import image_set_metadata
from framegate.healthimaging.image_set_metadata import MetadataError, frames_of

MIB = 1024 * 1024
MAX_MEMORY_MIB = 512
"""Half of the memory of the smallest function."""

PROGRAM = """
import itertools, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
from framegate.healthimaging.image_set_metadata import MetadataError, frames_of
START = b'{"Study":{"Series":{"1.2":{"Instances":{"1.2.3":{'
HEAD, TAIL = START + b'"DICOM":{"Rows":', b'}' * 7
def sized(content, size):
    return (content[start : start + size] for start in range(0, len(content), size))
try:
    print([(frame.image_frame_id, frame.size) for frame in frames_of(PIECES)])
except MetadataError as error:
    print("error:", error)
"""


def outcome(pieces):
    """Read a document in a process with limited memory; return what it prints. `pieces` is Python code."""
    program = PROGRAM.replace("MEMORY", str(MAX_MEMORY_MIB * MIB)).replace("PIECES", pieces)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(Path(framegate.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


CHUNKINGS = [
    "[HEAD + VALUE + TAIL]",
    "[HEAD, VALUE, TAIL]",
    "[HEAD + VALUE, TAIL]",
    "[HEAD, VALUE + TAIL]",
    "[HEAD, VALUE[:99], VALUE[99:], TAIL]",
    "sized(HEAD + VALUE + TAIL, 1)",
    "[b' ' * (65536 - 3000) + HEAD + VALUE + TAIL]",
    "[b' ' * (65536 - len(HEAD) - 1), HEAD + VALUE + TAIL]",
    "[b' ' * (65536 - len(HEAD) - 640), HEAD + VALUE + TAIL]",
]


@pytest.mark.parametrize("pieces", CHUNKINGS)
@pytest.mark.parametrize("value", ["b'9' * 5000", "b'-' + b'9' * 5000", "b'9' * 200000", "b'9' * 641"])
def test_number_with_thousands_of_digits_is_an_error(value, pieces):
    assert outcome(pieces.replace("VALUE", f"({value})")).startswith("error: has a number of more than 640 digits")


@pytest.mark.parametrize("pieces", CHUNKINGS)
@pytest.mark.parametrize(
    "value", ["b'9' * 640", "b'\"' + b'9' * 5000 + b'\"'", "b'\"' + b'0, ' + b'9' * 200000 + b', 1\"'", "b'1e-99'"]
)
def test_number_of_640_digits_and_longer_digits_in_a_string_are_read(value, pieces):
    assert outcome(pieces.replace("VALUE", f"({value})")) == "[]"


@pytest.mark.parametrize("pieces", ["[HEAD + VALUE + TAIL]", "[HEAD, VALUE, TAIL]", "sized(HEAD + VALUE + TAIL, 1)"])
@pytest.mark.parametrize(
    "value",
    [
        pytest.param("b'1e9999999999999999999'", id="exponent"),
        pytest.param("b'\"' + bytes([92]) + b'udc00x\"'", id="half a surrogate pair"),
        pytest.param(r"b'\"\xed\xa0\x80\"'", id="half a surrogate pair in UTF-8"),
        pytest.param(r"b'\"\xff\"'", id="not UTF-8"),
        pytest.param("b'NaN'", id="NaN"),
        pytest.param("b'01'", id="leading zero"),
    ],
)
def test_unreadable_value_is_an_error(value, pieces):
    assert outcome(pieces.replace("VALUE", f"({value})")) == "error: is not complete JSON"


ENDLESS = {
    "string": "[HEAD + b'\"'], itertools.repeat(b'x' * 2**20, 300), [b'\"' + TAIL]",
    "string of escapes": "[HEAD + b'\"'], itertools.repeat(bytes([92]) * 2**20, 300), [b'\"' + TAIL]",
    "string of digits": "[HEAD + b'\"'], itertools.repeat(b'7' * 2**20, 300), [b'\"' + TAIL]",
    "string in tiny pieces": "[HEAD + b'\"'], itertools.repeat(b'x' * 100, 300 * 2**20 // 100), [b'\"' + TAIL]",
    "name": "[b'{\"'], itertools.repeat(b'x' * 2**20, 300), [b'\": 1}']",
    "decimal": "[HEAD + b'1.'], itertools.repeat(b'1 '.strip() * 500 + b'e' * 2**20, 300), [TAIL]",
    "spaces": "[HEAD], itertools.repeat(b' ' * 2**20, 300), [b'1' + TAIL]",
    "unterminated string": "[HEAD + b'\"'], itertools.repeat(b'x' * 2**20, 300)",
}


@pytest.mark.parametrize("pieces", ENDLESS.values(), ids=ENDLESS)
def test_value_of_hundreds_of_megabytes_fails_in_bounded_memory_and_time(pieces):
    began = time.monotonic()
    found = outcome(f"itertools.chain({pieces})")

    assert (
        found.startswith("error: has a value of more than 16,777,216 bytes") or found == "error: is not complete JSON"
    )
    # About two seconds here; quadratic time would be hours.
    assert time.monotonic() - began < 60


def test_string_of_16_megabytes_is_read():
    assert outcome("[HEAD + b'\"' + b'x' * (16 * 2**20 - 2**17) + b'\"' + TAIL]") == "[]"


@pytest.mark.parametrize(
    "pieces",
    [
        "itertools.chain([HEAD], itertools.repeat(b'[' * 2**20, 300))",
        "itertools.repeat(b'{\"a\":' * 2**18, 300)",
        "itertools.chain([b'{\"a\":'], itertools.repeat(b'[{\"a\":' * 2**18, 300))",
        "[b'{\"a\":' + b'[' * 1000 + b']' * 1000 + b'}']",
        "[b'{\"a\":' * 1001 + b'1' + b'}' * 1001]",
    ],
)
def test_endless_nesting_is_an_error(pieces):
    assert outcome(pieces) == "error: has more than 1,000 nested objects and arrays"


@pytest.mark.parametrize(
    "pieces", ["[b'{\"a\":' + b'[' * 999 + b']' * 999 + b'}']", "[b'{\"a\":' * 1000 + b'1' + b'}' * 1000]"]
)
def test_thousand_nested_containers_are_read(pieces):
    assert outcome(pieces) == "[]"


def test_endless_frames_are_an_error():
    frames = 'itertools.repeat(b\'{"ID":"f"},\' * 2**16, 300)'

    assert outcome(f"itertools.chain([START + b'\"ImageFrames\":['], {frames})") == (
        "error: lists more than 500,000 frames"
    )


@pytest.mark.parametrize(
    "start", [b'{"n":1', b'{"Study":{"Series":{"1.2":{"Instances":{"1.2.3":{"n":1'], ids=["top", "instance"]
)
def test_endless_members_are_an_error(start, monkeypatch):
    monkeypatch.setattr(image_set_metadata, "MAX_FRAMES", 1000)
    members = (b',"%d":0' % number for number in range(100_000))
    with pytest.raises(MetadataError, match="has an object with more than 1,000 members"):
        list(frames_of(itertools.chain([start], members)))


@pytest.mark.parametrize(
    "member",
    [
        '"StoredTransferSyntaxUID": "LONG"',
        '"ImageFrames": [{"ID": "LONG"}]',
        '"LONG": 1',
    ],
)
def test_identifier_of_megabytes_is_an_error(member):
    content = json.dumps(member.replace("LONG", "f" * 257))

    found = outcome(f"[START + {content}.encode() + b'}}'*6]")
    assert found.startswith(("error: has an identifier of more than 256", "error: has a name of more than 256"))
