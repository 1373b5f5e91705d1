"""Data sets and pixel data of DICOM files, encoded by hand."""

from __future__ import annotations

import io
import json
import struct

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.encaps import parse_basic_offsets

from framegate.datasets.encoding import (
    BulkData,
    DatasetError,
    encode_dataset,
    number_text,
)
from framegate.datasets.part10 import PixelLayout, file_head, joined_bits
from framegate.datasets.series import SeriesReader, documents_in
from framegate.healthimaging.image_set_metadata import InstanceEntry
from framegate.identifiers import ImageSetRef

EXPLICIT_LITTLE_ENDIAN, JPEG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.50"


def read(document):
    """Encode a document, and read it with pydicom."""
    parts = encode_dataset(document).parts
    head = file_head("1.2.840.10008.5.1.4.1.1.2", "1.2.3", EXPLICIT_LITTLE_ENDIAN)
    return pydicom.dcmread(io.BytesIO(head + b"".join(parts)))


@pytest.mark.parametrize(
    ("vr", "values", "expected"),
    [
        ("DS", ["0.50", 3], [0.5, 3]),
        ("IS", [-7], -7),
        ("US", [0, 65535], [0, 65535]),
        ("SS", [-32768], -32768),
        ("FD", ["0.1"], 0.1),
        ("FL", ["Infinity"], float("inf")),
        ("AT", ["00280010"], 0x00280010),
        ("PN", [{"Alphabetic": "A^B", "Phonetic": "C^D"}], "A^B==C^D"),
        ("LO", ["Größe", None, "x"], ["Größe", "", "x"]),
        ("UI", ["1.2.3"], "1.2.3"),
        ("CS", [], ""),
    ],
)
def test_values_come_back(vr, values, expected):
    dataset = read({"00990010": {"vr": "LO", "Value": ["TEST"]}, "00991001": {"vr": vr, "Value": values}})
    found = dataset[0x00991001].value
    assert (list(found) if isinstance(expected, list) else found or "") == expected


def test_other_characters_declare_utf_8():
    assert read({"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Größe"}]}}).SpecificCharacterSet == "ISO_IR 192"
    assert "SpecificCharacterSet" not in read({"00100010": {"vr": "PN", "Value": [{"Alphabetic": "A"}]}})


def test_value_that_is_too_long_for_its_vr_becomes_un():
    values = list(range(40_000))
    element = read({"00283006": {"vr": "US", "Value": values}}).get_item(0x00283006)
    assert (element.VR, np.frombuffer(element.value, "<u2").tolist()) == ("UN", values)


def test_pixel_data_of_an_icon_stays():
    pixels = {"7FE00010": {"vr": "OB", "InlineBinary": "AQI="}}
    dataset = read({"00880200": {"vr": "SQ", "Value": [pixels]}, **pixels})
    assert dataset.IconImageSequence[0].PixelData == b"\1\2"
    assert "PixelData" not in dataset


def test_sequence_with_bulk_data_has_undefined_lengths():
    item = {"00420011": {"vr": "OB", "BulkDataURI": "https://h/d"}, "00420010": {"vr": "ST", "Value": ["x"]}}
    parts = encode_dataset({"00081140": {"vr": "SQ", "Value": [item]}}).parts
    (bulk,) = (part for part in parts if isinstance(part, BulkData))
    content = b"".join(b"" if isinstance(part, bytes) is False else part for part in parts[:1])
    whole = content + bulk.header(4) + b"abcd" + b"".join(parts[2:])
    head = file_head("1.2.840.10008.5.1.4.1.1.2", "1.2.3", EXPLICIT_LITTLE_ENDIAN)
    (found,) = pydicom.dcmread(io.BytesIO(head + whole)).ReferencedImageSequence
    assert (found.EncapsulatedDocument, found.DocumentTitle) == (b"abcd", "x")


@pytest.mark.parametrize(
    "document",
    [
        {"00280010": {"vr": "US", "Value": [-1]}},
        {"00280010": {"vr": "US", "Value": ["x"]}},
        {"00280010": {"vr": "XX", "Value": [1]}},
        {"00280010": {"Value": [1]}},
        {"00280010": []},
        {"Rows": {"vr": "US", "Value": [1]}},
        {"00280010": {"vr": "US", "InlineBinary": "AAAA"}},
        {"7FDF0010": {"vr": "OB", "InlineBinary": "not base64"}},
    ],
)
def test_invalid_document_is_refused_without_its_values(document):
    with pytest.raises(DatasetError) as raised:
        encode_dataset(document)
    assert "x" not in str(raised.value).split()


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**15), max_value=10**15))
def test_decimal_strings_fit_and_are_close(number):
    text = number_text(str(float(number)), "DS")
    assert len(text) <= 16
    assert float(text) == pytest.approx(float(number), rel=1e-8, abs=1e-300)


@given(
    st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=30), max_size=3), max_size=5),
    st.integers(1, 40),
)
def test_documents_do_not_depend_on_the_pieces(documents, size):
    content = json.dumps(documents, ensure_ascii=False).encode()
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    assert [document for _, document in documents_in(pieces)] == documents


@pytest.mark.parametrize("content", [b"", b"{}", b"[{}", b"[1]", b'[{"a": 1} {"a": 2}]', b'["a"]', b"[{},]", b"[\xff]"])
def test_what_is_no_array_of_objects_is_refused(content):
    with pytest.raises(DatasetError):
        list(documents_in([content]))


@given(st.lists(st.integers(1, 50), min_size=1, max_size=6), st.booleans())
def test_size_is_known_in_advance(sizes, is_encapsulated):
    layout = PixelLayout(JPEG if is_encapsulated else EXPLICIT_LITTLE_ENDIAN, tuple(sizes), 16)
    frames = [bytes(size) for size in sizes]
    written = layout.head + b"".join(
        layout.before_frame(number) + frame + layout.after_frame(number) for number, frame in enumerate(frames, 1)
    )
    assert len(written + layout.tail) == layout.size
    assert layout.size % 2 == 0


@given(st.lists(st.lists(st.integers(0, 1), min_size=9, max_size=9), min_size=1, max_size=6))
def test_frames_of_single_bits_follow_each_other(frames):
    packed = [np.packbits(each, bitorder="little").tobytes() for each in frames]
    joined = b"".join(joined_bits(packed, 9))
    bits = np.unpackbits(np.frombuffer(joined, np.uint8), bitorder="little")
    assert bits[: 9 * len(frames)].tolist() == [bit for each in frames for bit in each]


@pytest.mark.parametrize(
    ("sizes", "is_extended"),
    [
        # The last offset is 2 bytes below 4 GiB, and 4 GiB. Odd sizes are padded.
        ((2**31 - 11, 2**31 - 8, 3), False),
        ((2**31 - 8, 2**31 - 8, 3), True),
        ((2**31, 2**31, 5), True),
    ],
)
def test_offset_table_is_extended_only_above_4_gib(sizes, is_extended):
    layout = PixelLayout(JPEG, sizes)
    head = layout.head + layout.before_frame(1)
    padded = [size + size % 2 for size in sizes]
    offsets = [0, padded[0] + 8, padded[0] + padded[1] + 16]
    pixel_data = head.index(b"\xe0\x7f\x10\x00OB")
    meta = file_head("1.2.840.10008.5.1.4.1.1.2", "1.2.3", JPEG)
    tables = pydicom.dcmread(io.BytesIO(meta + head[:pixel_data]))
    basic = parse_basic_offsets(head[pixel_data + 12 :])
    if is_extended:
        assert struct.unpack("<3Q", tables.ExtendedOffsetTable) == tuple(offsets)
        assert struct.unpack("<3Q", tables.ExtendedOffsetTableLengths) == tuple(padded)
        assert basic == []
    else:
        assert len(tables) == 0
        assert basic == offsets


def test_shared_attributes_do_not_change_the_files():
    shared = {}
    documents = [
        {
            "00080018": {"vr": "UI", "Value": [f"1.2.{number}"]},
            "00080060": {"vr": "CS", "Value": ["CT"]},
            "00081030": {"vr": "LO", "Value": ["Thorax" if number % 2 else "Schädel"]},
            "00200013": {"vr": "IS", "Value": [number]},
            "00280010": {"vr": "US", "Value": [1 if number % 2 else "1"]},
            "00281053": {"vr": "DS", "Value": [1]},
            "00400275": {"vr": "SQ", "Value": [{"00400007": {"vr": "LO", "Value": [f"step {number % 3}"]}}]},
        }
        for number in range(12)
    ]
    for document in documents:
        assert encode_dataset(document, shared) == encode_dataset(document)
        assert shared.keys() <= document.keys()


def test_only_the_previous_instance_is_held_in_memory():
    shared = {}
    for number in range(100):
        encode_dataset({f"0009{number:04X}": {"vr": "UN", "InlineBinary": "AAAA"}}, shared)
        assert len(shared) <= 1


def test_character_set_follows_text_that_only_the_previous_instance_has():
    shared = {}
    texts = ["Schädel", "Schädel", "Thorax", "Schädel"]
    documents = [{"00081030": {"vr": "LO", "Value": [text]}} for text in texts]
    assert [encode_dataset(each, shared) for each in documents] == [encode_dataset(each) for each in documents]


@pytest.mark.parametrize("vr", ["US", "DS", "LO", "FD", "PN"])
def test_truth_value_is_refused(vr):
    with pytest.raises(DatasetError):
        encode_dataset({"00091001": {"vr": vr, "Value": [True]}})


def test_truth_value_is_refused_whatever_the_previous_instance_has():
    reader, shared = SeriesReader(None, "secret"), {}
    entry = InstanceEntry("1.2.3.1", "1.2.3.1.1", None, (), ())
    image_set = ImageSetRef("d" * 32, "5" * 32)
    texts = [json.dumps({"00091001": {"vr": "US", "Value": [value]}}) for value in (1, True, 1)]
    instances = [reader._instance(image_set, (), entry, text, json.loads(text), shared) for text in texts]
    assert [each.dataset is None for each in instances] == [False, True, False]
