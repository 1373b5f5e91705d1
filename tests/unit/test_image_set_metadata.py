"""Reading the frames that an image set's metadata lists, while the document streams."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framegate.healthimaging.image_set_metadata import FrameEntry, MetadataError, frames_of
from local.samples import write_samples


def pieces(document, size=100):
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    return (content[start : start + size] for start in range(0, len(content), size))


def image_set(*instances):
    """Metadata with one series whose instances these are, by SOP instance UID."""
    series = {"DICOM": {"Modality": "CT"}, "Instances": dict(instances)}
    return {"SchemaVersion": "1.1", "Patient": {"DICOM": {}}, "Study": {"DICOM": {}, "Series": {"1.2.3": series}}}


def test_frame_entry_has_all_listed_values():
    frame = {
        "ID": "f1",
        "FrameSizeInBytes": 185_238,
        "MinPixelValue": -2048,
        "PixelDataChecksumFromBaseToFullResolution": [
            {"Width": 64, "Height": 48, "Checksum": 1},
            {"Width": 512, "Height": 384, "Checksum": 4_294_967_295},
        ],
    }
    instance = {"DICOM": {}, "ImageFrames": [frame], "StoredTransferSyntaxUID": "1.2.840.10008.1.2.4.202"}
    assert list(frames_of(pieces(image_set(("1.2.3.4", instance))))) == [
        FrameEntry(
            image_frame_id="f1",
            sop_instance_uid="1.2.3.4",
            frame_number=1,
            transfer_syntax_uid="1.2.840.10008.1.2.4.202",
            size=185_238,
            checksum=4_294_967_295,
            rows=384,
            columns=512,
            resolutions=2,
        )
    ]


def test_frame_dimensions_fall_back_to_those_of_the_instance():
    instance = {"ImageFrames": [{"ID": "f1"}], "DICOM": {"Rows": 480, "Columns": 640}}
    (frame,) = frames_of(pieces(image_set(("1.2.3.4", instance))))

    assert (frame.rows, frame.columns, frame.resolutions) == (480, 640, None)


def test_frame_keeps_no_value_of_the_previous_frame():
    full = {"ID": "f1", "FrameSizeInBytes": 9, "PixelDataChecksumFromBaseToFullResolution": [{"Width": 1, "Height": 2}]}
    _, bare = frames_of(pieces(image_set(("1.2", {"ImageFrames": [full, {"ID": "f2"}]}))))

    assert bare == FrameEntry("f2", "1.2", 2)


def test_dicom_attributes_are_not_mistaken_for_frames():
    nested = {"ImageFrames": [{"ID": "no"}], "Instances": {"9": {"ImageFrames": [{"ID": "no"}]}}}
    instance = {"DICOM": {"Sequence": [nested], **nested}, "DICOMVRs": nested, "ImageFrames": [{"ID": "f1"}]}
    document = image_set(("1.2", instance))
    document["Study"]["DICOM"] = {"a": {"b": {"c": nested}}}
    document["Patient"]["DICOM"] = {"a": {"Instances": {"c": nested}}}
    assert [frame.image_frame_id for frame in frames_of(pieces(document))] == ["f1"]


@pytest.mark.parametrize("frames", [{}, {"ImageFrames": []}, {"ImageFrames": None}])
def test_instance_without_frames_has_none(frames):
    assert list(frames_of(pieces(image_set(("1.2", {"DICOM": {}, **frames}))))) == []


@given(
    st.dictionaries(st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,5}){1,5}", fullmatch=True), st.integers(0, 5), max_size=8),
    st.integers(1, 300),
)
def test_frames_are_read_in_order_for_any_piece_size(counts, size):
    instances = [
        (uid, {"ImageFrames": [{"ID": f"{uid}/{number}"} for number in range(count)]}) for uid, count in counts.items()
    ]
    expected = [(uid, number) for uid, count in counts.items() for number in range(1, count + 1)]
    found = list(frames_of(pieces(image_set(*instances), size)))
    assert [(frame.sop_instance_uid, frame.frame_number) for frame in found] == expected


@given(st.binary(max_size=200))
def test_arbitrary_bytes_yield_an_error_or_no_frames(content):
    with suppress(MetadataError):
        assert list(frames_of([content])) == []


@pytest.mark.parametrize("cut", [1, 50, 150])
def test_truncated_metadata_is_an_error(cut):
    content = json.dumps(image_set(("1.2", {"ImageFrames": [{"ID": "f1"}]}))).encode()
    with pytest.raises(MetadataError):
        list(frames_of([content[:-cut]]))


@pytest.mark.parametrize("frame", [{}, {"ID": 1}, {"ID": None}], ids=str)
def test_frame_without_an_identifier_is_an_error(frame):
    with pytest.raises(MetadataError, match="no ID"):
        list(frames_of(pieces(image_set(("1.2", {"ImageFrames": [frame]})))))


@pytest.mark.parametrize("value", [0, 2**31, 2**53 + 1, 2**63 - 1])
def test_whole_number_is_read_exactly(value):
    resolution = {"Width": value, "Height": value, "Checksum": value}
    frame = {"ID": "f1", "FrameSizeInBytes": value, "PixelDataChecksumFromBaseToFullResolution": [resolution]}
    (found,) = frames_of(pieces(image_set(("1.2", {"ImageFrames": [frame]}))))

    assert (found.size, found.checksum) == (value, value)
    # A frame without pixels takes the dimensions of its instance, which has none here.
    assert (found.rows, found.columns) == (value or None, value or None)


@pytest.mark.parametrize("value", [-1, 2**63, 10**600, 1.5, 1e5, "12", True, None])
def test_invalid_frame_size_is_unknown(value):
    (found,) = frames_of(pieces(image_set(("1.2", {"ImageFrames": [{"ID": "f1", "FrameSizeInBytes": value}]}))))

    assert found.size is None


@pytest.mark.parametrize("value", [-(2**63), 2**53 + 1, 2**63, 2**64 - 1, 10**600, 1.5e-300])
def test_large_number_elsewhere_is_harmless(value):
    frame = {"ID": "f1", "MinPixelValue": value, "MaxPixelValue": value, "FrameSizeInBytes": 7}
    (found,) = frames_of(pieces(image_set(("1.2", {"DICOM": {"Rows": 5, "Other": value}, "ImageFrames": [frame]}))))

    assert (found.size, found.rows) == (7, 5)


def replaced(path, value):
    """Metadata of one frame in which the member or item at this path has another value."""
    resolution = {"Width": 64, "Height": 48, "Checksum": 1}
    frame = {"ID": "f1", "FrameSizeInBytes": 9, "PixelDataChecksumFromBaseToFullResolution": [resolution]}
    instance = {"DICOM": {"Rows": 5}, "StoredTransferSyntaxUID": "1.2", "ImageFrames": [frame]}
    document = image_set(("1.2.3.4", instance))
    *parents, last = path
    target = document
    for name in parents:
        target = target[name]
    target[last] = value
    return document


SERIES = ("Study", "Series", "1.2.3")
INSTANCE = (*SERIES, "Instances", "1.2.3.4")
IMAGE_FRAME = (*INSTANCE, "ImageFrames", 0)
CHECKSUMS = (*IMAGE_FRAME, "PixelDataChecksumFromBaseToFullResolution")

OBJECTS = {
    ("Study",): "Study",
    ("Study", "Series"): "Series",
    SERIES: "a series",
    (*SERIES, "Instances"): "Instances",
    INSTANCE: "an instance",
    (*INSTANCE, "DICOM"): "DICOM",
    IMAGE_FRAME: "an image frame",
    (*CHECKSUMS, 0): "a resolution",
}
ARRAYS = {(*INSTANCE, "ImageFrames"): "ImageFrames", CHECKSUMS: "PixelDataChecksumFromBaseToFullResolution"}
SINGLE_VALUES = {
    (*INSTANCE, "StoredTransferSyntaxUID"): "StoredTransferSyntaxUID",
    (*IMAGE_FRAME, "ID"): "ID",
    (*IMAGE_FRAME, "FrameSizeInBytes"): "FrameSizeInBytes",
    (*CHECKSUMS, 0, "Width"): "Width",
    (*CHECKSUMS, 0, "Height"): "Height",
    (*CHECKSUMS, 0, "Checksum"): "Checksum",
}

WRONG_TYPES = [
    *(
        (path, value, f"has {name} that is not an object")
        for path, name in OBJECTS.items()
        for value in ([], [{}], "x", 1)
    ),
    *(
        (path, value, f"has {name} that is not an array")
        for path, name in ARRAYS.items()
        for value in ({}, "x", 1, True)
    ),
    *(
        (path, value, f"has {name} that is not a single value")
        for path, name in SINGLE_VALUES.items()
        for value in ([], ["f1"], [1], {}, {"ID": "f1"})
    ),
]


@pytest.mark.parametrize(("path", "value", "message"), WRONG_TYPES)
def test_wrong_json_type_on_the_path_to_the_frames_is_an_error(path, value, message):
    with pytest.raises(MetadataError, match=f"^{message}$"):
        list(frames_of(pieces(replaced(path, value))))


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([None, {"ID": "f2"}], "has an image frame that is not an object"),
        ([{"ID": "f1"}, "f2"], "has an image frame that is not an object"),
        ([[{"ID": "f1"}]], "has an image frame that is not an object"),
        ([{"ID": ["f1"]}], "has ID that is not a single value"),
        ([{"ID": "f1"}, {"ID": {"ID": "f2"}}], "has ID that is not a single value"),
    ],
)
def test_list_with_a_frame_of_another_form_is_an_error(frames, message):
    """Skipping such an entry would give all later frames of the instance wrong numbers."""
    with pytest.raises(MetadataError, match=f"^{message}$"):
        list(frames_of(pieces(replaced((*INSTANCE, "ImageFrames"), frames))))


@pytest.mark.parametrize("path", [SERIES, INSTANCE, IMAGE_FRAME, (*CHECKSUMS, 0)])
def test_null_for_a_listed_object_is_an_error(path):
    with pytest.raises(MetadataError, match=f"^has {OBJECTS[path]} that is not an object$"):
        list(frames_of(pieces(replaced(path, None))))


@pytest.mark.parametrize(
    "path", [("Study",), ("Study", "Series"), (*SERIES, "Instances"), (*INSTANCE, "ImageFrames")], ids=str
)
def test_null_member_on_the_path_to_the_frames_counts_as_absent(path):
    assert list(frames_of(pieces(replaced(path, None)))) == []


@pytest.mark.parametrize("path", [(*INSTANCE, "DICOM"), CHECKSUMS], ids=str)
def test_null_member_beside_the_path_counts_as_absent(path):
    (frame,) = frames_of(pieces(replaced(path, None)))

    assert (frame.image_frame_id, frame.size) == ("f1", 9)


@pytest.mark.parametrize("value", [[512], [512, 512], {"Value": 512}, [], "512", None])
def test_odd_dicom_attribute_is_unknown_and_does_not_hide_the_frames(value):
    document = image_set(("1.2", {"DICOM": {"Rows": value, "Columns": 640}, "ImageFrames": [{"ID": "f1"}]}))
    (frame,) = frames_of(pieces(document))

    assert (frame.rows, frame.columns) == (None, 640)


@pytest.mark.parametrize("document", [b"null", b"[]", b"1", b'"x"', b'[{"Study": {}}]'])
def test_document_that_is_not_an_object_is_an_error(document):
    with pytest.raises(MetadataError, match=r"^is not a JSON object$"):
        list(frames_of([document]))


# JSON does not define what a duplicate member means; frames that are counted twice would have wrong numbers.


def doubled(member, other=None):
    """Metadata in which a member is duplicated, with another value if there is one."""
    frame = '{"ID": "f1", "FrameSizeInBytes": 7, "PixelDataChecksumFromBaseToFullResolution": [{"Width": 1}]}'
    instance = f'{{"DICOM": {{"Rows": 5}}, "StoredTransferSyntaxUID": "1.2", "ImageFrames": [{frame}]}}'
    document = f'{{"Patient": {{}}, "Study": {{"Series": {{"1.2": {{"Instances": {{"1.2.3": {instance}}}}}}}}}}}'
    assert document.count(member) == 1
    return document.replace(member, f"{member}, {other or member}").encode()


@pytest.mark.parametrize(
    "content",
    [
        doubled('"ID": "f1"', '"ID": "f2"'),
        doubled('"FrameSizeInBytes": 7'),
        doubled('"Width": 1', '"Width": 2'),
        doubled('"StoredTransferSyntaxUID": "1.2"'),
        doubled('"DICOM": {"Rows": 5}'),
        doubled('"Patient": {}', '"Patient": {}'),
        doubled('"Patient": {}', '"Study": {"Series": {}}'),
        doubled('"StoredTransferSyntaxUID": "1.2"', '"ImageFrames": []'),
        doubled('"Patient": {}').replace(b'"1.2.3": {', b'"1.2.3": {}, "1.2.3": {').replace(b'"Patient": {}, ', b""),
    ],
    ids=["ID", "size", "width", "syntax", "DICOM", "patient", "study", "frames", "instance"],
)
def test_duplicate_member_on_the_path_to_the_frames_is_an_error(content):
    with pytest.raises(MetadataError, match="same member twice"):
        list(frames_of([content]))


def test_duplicate_dicom_attribute_is_accepted():
    (frame,) = frames_of([doubled('"Rows": 5', '"Rows": 6')])

    assert frame.rows == 6


# Chunks


def outcome(chunks):
    try:
        return list(frames_of(chunks))
    except MetadataError as error:
        return str(error)


VALUES = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.integers(600, 700).map(lambda digits: 10**digits),
    st.integers(600, 1400).map(lambda digits: "7" * digits),
    st.sampled_from([None, True, [], {}, "\\", '"', "\ud800", "é", "\U0001f469"]),
)


@st.composite
def documents(draw):
    """Metadata with odd values everywhere, damaged or not, about as long as the blocks that the parser gets."""
    frame = st.fixed_dictionaries(
        {"ID": st.sampled_from(["f1", "f2"])}, optional={"FrameSizeInBytes": VALUES, "x": VALUES}
    )
    instance = {
        "DICOM": draw(st.dictionaries(st.text(max_size=5), VALUES, max_size=4)),
        "ImageFrames": draw(st.lists(frame)),
    }
    document = json.dumps(image_set(("1.2", instance)), ensure_ascii=draw(st.booleans()))
    content = bytearray(document.encode(errors="surrogatepass"))
    for position, new in draw(st.lists(st.tuples(st.integers(0, 3000), st.binary(max_size=3)), max_size=2)):
        content[position % len(content) : position % len(content)] = new
    return b" " * draw(st.sampled_from([0, 64 * 1024 - len(content) // 2, 64 * 1024 - 650])) + bytes(content)


@settings(max_examples=200)
@given(documents(), st.lists(st.integers(0, 70_000), max_size=6), st.sampled_from([1, 7, 641, 65_536, 1_000_000]))
def test_chunking_does_not_change_the_result(content, cuts, size):
    cuts = sorted({0, len(content), *(cut for cut in cuts if cut < len(content))})
    expected = outcome([content])

    assert outcome(content[start:end] for start, end in pairwise(cuts)) == expected
    assert outcome(content[start : start + size] for start in range(0, len(content), size)) == expected
    assert outcome([b"", content, b""]) == expected


def test_large_metadata_takes_little_memory():
    attributes = {f"Attribute{number}": "x" * 100 for number in range(50)}
    instance = json.dumps({"DICOM": attributes, "ImageFrames": [{"ID": "f" * 32}]})

    def document():
        yield b'{"Study": {"Series": {"1": {"Instances": {'
        for number in range(3000):
            yield f'{"," if number else ""}"1.2.{number}": {instance}'.encode()
        yield b"}}}}}"

    tracemalloc.start()
    try:
        assert sum(1 for _ in frames_of(document())) == 3000
        # The document is 18 MB long.
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


def test_metadata_of_real_files_lists_their_frames(emulator, tmp_path):
    write_samples(tmp_path)
    datastore_id = emulator.create_datastore("metadata")
    for image_set_ in emulator.import_files(datastore_id, sorted(tmp_path.iterdir())):
        found = list(frames_of([gzip.decompress(image_set_.metadata())]))
        assert {frame.image_frame_id for frame in found} == set(image_set_.frames)
        assert {frame.size for frame in found} == {frame.content.size for frame in image_set_.frames.values()}
