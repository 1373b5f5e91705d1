"""The frames that metadata lists, read as it streams by."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from contextlib import suppress

import pytest
from hypothesis import given
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


def test_frame_is_read_with_all_that_is_known_of_it():
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


def test_size_in_pixels_is_the_instances_where_no_resolutions_are_listed():
    instance = {"ImageFrames": [{"ID": "f1"}], "DICOM": {"Rows": 480, "Columns": 640}}
    (frame,) = frames_of(pieces(image_set(("1.2.3.4", instance))))

    assert (frame.rows, frame.columns, frame.resolutions) == (480, 640, None)


def test_frame_has_nothing_of_the_one_before_it():
    full = {"ID": "f1", "FrameSizeInBytes": 9, "PixelDataChecksumFromBaseToFullResolution": [{"Width": 1, "Height": 2}]}
    _, bare = frames_of(pieces(image_set(("1.2", {"ImageFrames": [full, {"ID": "f2"}]}))))

    assert bare == FrameEntry("f2", "1.2", 2)


def test_dicom_attributes_are_not_taken_for_frames():
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
def test_every_frame_is_read_in_order_whatever_the_pieces(counts, size):
    instances = [
        (uid, {"ImageFrames": [{"ID": f"{uid}/{number}"} for number in range(count)]}) for uid, count in counts.items()
    ]
    expected = [(uid, number) for uid, count in counts.items() for number in range(1, count + 1)]
    found = list(frames_of(pieces(image_set(*instances), size)))
    assert [(frame.sop_instance_uid, frame.frame_number) for frame in found] == expected


@given(st.binary(max_size=200))
def test_anything_else_is_an_error_or_no_frames(content):
    with suppress(MetadataError):
        assert list(frames_of([content])) == []


@pytest.mark.parametrize("cut", [1, 50, 150])
def test_metadata_that_breaks_off_is_an_error(cut):
    content = json.dumps(image_set(("1.2", {"ImageFrames": [{"ID": "f1"}]}))).encode()
    with pytest.raises(MetadataError):
        list(frames_of([content[:-cut]]))


def test_frame_without_an_identifier_is_an_error():
    with pytest.raises(MetadataError, match="no ID"):
        list(frames_of(pieces(image_set(("1.2", {"ImageFrames": [{}]})))))


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
        # The document has 18 MB.
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
