"""The emulator imports valid files, and describes what is wrong with others."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zlib

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import generate_uid

from local.health_imaging.emulator import HealthImagingEmulator
from local.health_imaging.import_warnings import WarningReason
from tests.unit.local.dicom_builder import PIXELS, dicom_file, element, item

EXPLICIT, IMPLICIT, DEFLATED = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99"


@pytest.fixture(scope="module")
def emulator(aws_environment):
    with HealthImagingEmulator() as running:
        yield running


@pytest.fixture
def store(emulator):
    return emulator.create_datastore("import")


def strict_json(image_set):
    """Read the metadata of an image set with a strict JSON parser."""

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    text = gzip.decompress(image_set.metadata()).decode()
    return json.loads(text, parse_constant=refuse)


def instances_of(image_set):
    (series,) = strict_json(image_set)["Study"]["Series"].values()
    return series["Instances"]


def imported(emulator, store, **files):
    return emulator.importer.add_files(store, files.items())


def only_instance(emulator, store, content):
    done = imported(emulator, store, file=content)
    assert done.failures == {}
    (instance,) = instances_of(done.image_sets[0]).values()
    return instance


# Attributes

NESTED = item(element(0x00189087, b"FD", bytes(4)))
UNREADABLE = {
    "number of the wrong length": (element(0x00189087, b"FD", bytes(4)), "DiffusionBValue (0018,9087) has 4 bytes"),
    "short of the wrong length": (element(0x00280106, b"US", bytes(3)), "SmallestImagePixelValue (0028,0106) has 3"),
    "tag of the wrong length": (element(0x00280009, b"AT", bytes(6)), "FrameIncrementPointer (0028,0009) has 6 bytes"),
    "decimal string that is none": (element(0x00180050, b"DS", b"thin"), "(0018,0050) is not a decimal number"),
    "integer string that is none": (element(0x00200012, b"IS", b"one "), "(0020,0012) is not a whole number"),
    "integer string of 5000 digits": (element(0x00200012, b"IS", b"9" * 5000), "(0020,0012) is not a whole number"),
    "VR that does not exist": (element(0x00080080, b"XY", b"text"), "(0008,0080) has the value representation 'XY'"),
    "unknown character set": (
        element(0x00080005, b"CS", b"ISO_IR 999"),
        "SpecificCharacterSet (0008,0005) is not a character set that DICOM defines",
    ),
    "sequence that is cut off": (
        element(0x00081140, b"SQ", item(element(0x00081150, b"UI", b"1.2.3.45", length=80))),
        "ReferencedImageSequence (0008,1140)[0].ReferencedSOPClassUID (0008,1150) is cut off",
    ),
    "sequence of no items": (element(0x00081140, b"SQ", bytes(7)), "(0008,1140) is not a sequence of items"),
    "number within a sequence": (
        element(0x00189117, b"SQ", NESTED),
        "(0018,9117)[0].DiffusionBValue (0018,9087) has 4",
    ),
    "UID of two values": (element(0x00080018, b"UI", b"1.2.3\\1.2.4 "), "SOPInstanceUID must have one value"),
    "UID that is empty": (element(0x0020000E, b"UI", b""), "SeriesInstanceUID does not exist"),
}


def deep_sequence(levels):
    content = b""
    for _ in range(levels):
        content = element(0x00081140, b"SQ", item(content))
    return content


@pytest.mark.parametrize("name", UNREADABLE)
def test_unreadable_attribute_fails_only_its_file_and_is_named(emulator, store, name):
    odd, message = UNREADABLE[name]
    series = generate_uid(), generate_uid()
    good = {f"good{number}": dicom_file(series=series) for number in range(3)}
    done = imported(emulator, store, bad=dicom_file(series=series) + odd, **good)
    assert set(done.successes) == set(good)
    assert set(done.failures) == {"bad"}
    assert done.failures["bad"].startswith("DICOM attribute ")
    assert message in done.failures["bad"]
    assert imported(emulator, store, later=dicom_file(series=series)).failures == {}
    (image_set,) = emulator.stores.get(store).image_sets.values()
    assert (image_set.version, len(instances_of(image_set))) == (2, 4)


@pytest.mark.parametrize("name", UNREADABLE)
def test_rejected_file_leaves_nothing_behind(emulator, store, name):
    done = imported(emulator, store, bad=dicom_file() + UNREADABLE[name][0])
    assert (done.image_sets, done.successes) == ([], {})
    assert emulator.stores.get(store).image_sets == {}


@pytest.mark.parametrize("levels", [101, 400, 900])
def test_file_with_too_deeply_nested_sequences_is_rejected(emulator, store, levels):
    done = imported(emulator, store, bad=dicom_file() + deep_sequence(levels), good=dicom_file())
    assert set(done.successes) == {"good"}
    assert "is nested in more than 100 sequences" in done.failures["bad"]


def test_deeply_nested_sequence_does_not_block_later_imports(emulator, store):
    series = generate_uid(), generate_uid()
    for name in ("deep", "later"):
        assert imported(emulator, store, **{name: dicom_file(series=series) + deep_sequence(100)}).failures == {}


def test_messages_contain_no_attribute_value(emulator, store):
    done = imported(emulator, store, bad=dicom_file() + element(0x00101020, b"DS", b"Surname "))
    assert "Surname" not in done.failures["bad"]


def test_private_attributes_may_have_any_form(emulator, store):
    odd = element(0x00291010, b"FD", bytes(3)) + element(0x00291011, b"XY", b"??") + element(0x00291012, b"IS", b"none")
    assert imported(emulator, store, file=dicom_file() + odd).failures == {}


def test_attributes_become_json_types_by_vr(emulator, store):
    odd = (
        element(0x00280009, b"AT", struct.pack("<HH", 0x0018, 0x1063))
        + element(0x00189087, b"FD", struct.pack("<d", 0.5))
        + element(0x00080008, b"CS", b"ORIGINAL\\PRIMARY ")
        + element(0x00200012, b"IS", b"7 ")
        + element(0x00180050, b"DS", b"1.25")
        + element(0x00280120, b"SS", struct.pack("<h", -1000))
        + element(0x00189073, b"FD", b"")
    )
    attributes = only_instance(emulator, store, dicom_file() + odd)["DICOM"]
    assert attributes["FrameIncrementPointer"] == "00181063"
    assert (attributes["DiffusionBValue"], attributes["SliceThickness"]) == (0.5, 1.25)
    assert attributes["ImageType"] == ["ORIGINAL", "PRIMARY"]
    assert (attributes["AcquisitionNumber"], attributes["PixelPaddingValue"]) == (7, -1000)
    assert attributes["AcquisitionDuration"] is None


@pytest.mark.parametrize(
    ("vr", "value", "json_value"),
    [
        (b"FD", struct.pack("<d", float("nan")), "NaN"),
        (b"FD", struct.pack("<d", float("inf")), "Infinity"),
        (b"FD", struct.pack("<2d", 1.5, float("-inf")), [1.5, "-Infinity"]),
        (b"FL", struct.pack("<f", float("nan")), "NaN"),
        (b"DS", b"nan ", "NaN"),
        (b"DS", b"1e400 ", "1e400"),
        (b"IS", b"9" * 30, "9" * 30),
    ],
)
@pytest.mark.parametrize("level", ["instance", "series", "sequence"])
def test_number_without_a_json_form_becomes_a_string(emulator, store, level, vr, value, json_value):
    tag, keyword = (0x00200011, "SeriesNumber") if level == "series" else (0x00189087, "DiffusionBValue")
    odd = element(tag, vr, value)
    if level == "sequence":
        odd = element(0x00189117, b"SQ", item(odd))
    done = imported(emulator, store, file=dicom_file() + odd)
    (series,) = strict_json(done.image_sets[0])["Study"]["Series"].values()
    (instance,) = series["Instances"].values()
    found = {
        "series": lambda: series["DICOM"],
        "instance": lambda: instance["DICOM"],
        "sequence": lambda: instance["DICOM"]["MRDiffusionSequence"][0],
    }[level]()
    assert found[keyword] == json_value


@pytest.mark.parametrize(
    ("odd", "reason", "message"),
    [
        (element(0x00080014, b"UI", b"1.2..3"), WarningReason.INVALID_UID_FORMAT, "InstanceCreatorUID"),
        (element(0x00200010, b"SH", b"x" * 20), WarningReason.INVALID_DICOM_VALUE_LENGTH, "StudyID (0020,0010) has 20"),
        (
            element(0x00080005, b"CS", b"ISO_IR 192") + element(0x00081030, b"LO", b"caf\xe9"),
            WarningReason.COERCION_OF_DATA_ELEMENTS,
            "StudyDescription (0008,1030) has bytes outside its character set",
        ),
    ],
)
def test_nonconforming_attribute_is_imported_with_a_warning(emulator, store, odd, reason, message):
    done = imported(emulator, store, file=dicom_file() + odd)
    assert done.failures == {}
    (warning,) = done.warnings["file"]
    assert warning.reason == reason
    assert message in warning.message
    (instance,) = instances_of(done.image_sets[0]).values()
    assert len(instance["ImageFrames"]) == 1


# Files


def without(content, tag_bytes, length):
    at = content.index(tag_bytes)
    return content[:at] + content[at + length :]


def without_transfer_syntax():
    content = dicom_file()
    at = content.index(b"\x02\x00\x10\x00UI")
    length = 8 + struct.unpack_from("<H", content, at + 6)[0]
    (group_length,) = struct.unpack_from("<I", content, 140)
    content = content[:140] + struct.pack("<I", group_length - length) + content[144:]
    return without(content, b"\x02\x00\x10\x00UI", length)


WHOLE = dicom_file()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "The file is empty"),
        (b"Dear colleague, please find the images below.\n" * 20, "not a DICOM Part 10 file"),
        (WHOLE[:100], "not a DICOM Part 10 file"),
        (WHOLE[:200], "The file is cut off: it ends in the file meta information"),
        (WHOLE[:-100], "The file is cut off: PixelData (7FE0,0010) should have 2048 bytes, and has 1948"),
        (WHOLE[:-2050], "The file is cut off or damaged"),
        (without_transfer_syntax(), "DICOM attribute TransferSyntaxUID does not exist"),
        (dicom_file(StudyInstanceUID=None), "DICOM attribute StudyInstanceUID does not exist"),
        (dicom_file(transfer_syntax_uid=DEFLATED)[:-40], "The file is cut off: its deflated data set does not end"),
        (dicom_file(frames=[b"x" * 50], transfer_syntax_uid="1.2.840.10008.1.2.4.50")[:-20], "The file is cut off"),
    ],
)
def test_message_describes_the_problem_of_a_file(emulator, store, content, message):
    done = imported(emulator, store, file=content)
    assert message in done.failures["file"]
    assert "Error" not in done.failures["file"]
    assert emulator.stores.get(store).image_sets == {}


@pytest.mark.parametrize("transfer_syntax_uid", [EXPLICIT, IMPLICIT, DEFLATED, "1.2.840.10008.1.2.4.50"])
def test_truncated_file_is_never_imported_as_complete(emulator, store, transfer_syntax_uid):
    frames = [b"\xff\xd8" + b"x" * 60] if transfer_syntax_uid.endswith("4.50") else None
    whole = dicom_file(PIXELS[:4, :4], frames=frames, transfer_syntax_uid=transfer_syntax_uid)
    assert imported(emulator, store, whole=whole).warnings == {}
    # A deflated file may end in a byte of padding (PS3.5, section A.5).
    complete = {len(whole) - 1} if transfer_syntax_uid == DEFLATED else ends_of_elements_before_rows(whole)
    for size in range(len(whole)):
        done = imported(emulator, store, file=whole[:size])
        # A cut between two elements cannot be detected, unless the file has rows and columns but no pixels.
        assert done.failures or "file" in done.warnings or size in complete, size


def ends_of_elements_before_rows(content):
    dataset = pydicom.dcmread(io.BytesIO(content))
    # Iterating over the data set converts the values, which then have no position in the file.
    elements = [dataset.get_item(tag) for tag in dataset.keys() if tag < 0x00280011]  # noqa: SIM118
    return {each.value_tell + each.length for each in elements}


@pytest.mark.parametrize("transfer_syntax_uid", [EXPLICIT, IMPLICIT, DEFLATED])
def test_pixels_are_imported_from_every_native_transfer_syntax(emulator, store, transfer_syntax_uid):
    instance = only_instance(emulator, store, dicom_file(transfer_syntax_uid=transfer_syntax_uid))
    (frame,) = instance["ImageFrames"]
    assert frame["PixelDataChecksumFromBaseToFullResolution"][-1]["Checksum"] == zlib.crc32(PIXELS)


def test_trailing_padding_is_accepted(emulator, store):
    assert imported(emulator, store, file=WHOLE + element(0xFFFCFFFC, b"OB", bytes(100))).failures == {}


# Pixel data that cannot become frames

JPEG = "1.2.840.10008.1.2.4.50"


def with_offset_table(content, *offsets):
    """Replace the offsets in the basic offset table of a file."""
    at = content.index(b"\xfe\xff\x00\xe0")
    (length,) = struct.unpack_from("<I", content, at + 4)
    table = struct.pack(f"<{len(offsets)}I", *offsets)
    return content[: at + 4] + struct.pack("<I", len(table)) + table + content[at + 8 + length :]


NOT_FRAMES = {
    "empty": (dicom_file(PixelData=b""), "FRAMES_EXTRACTION_FAILURE", "PixelData (7FE0,0010) is empty"),
    "absent": (dicom_file(PixelData=None), "FRAMES_EXTRACTION_FAILURE", "no pixel data"),
    "too short": (dicom_file(PixelData=bytes(1000)), "FRAMES_EXTRACTION_FAILURE", "call for 2048"),
    "too few frames": (dicom_file(NumberOfFrames=2), "FRAMES_EXTRACTION_FAILURE", "call for 4096"),
    "not encapsulated": (
        dicom_file().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0"),
        "FRAMES_EXTRACTION_FAILURE",
        "no sequence of fragments",
    ),
    "fewer fragments than frames": (
        dicom_file(frames=[b"x" * 20], transfer_syntax_uid=JPEG, NumberOfFrames=3),
        "INVALID_OFFSET_TABLE",
        "offset table",
    ),
    "fewer fragments than frames, no offset table": (
        with_offset_table(dicom_file(frames=[b"x" * 20], transfer_syntax_uid=JPEG, NumberOfFrames=3)),
        "FRAME_NUMBER_MISMATCH",
        "NumberOfFrames is 3, and PixelData has 1 fragments",
    ),
    "offsets that are no fragments": (
        with_offset_table(dicom_file(frames=[b"x" * 20] * 2, transfer_syntax_uid=JPEG, NumberOfFrames=2), 0, 17),
        "INVALID_OFFSET_TABLE",
        "offset table does not fit",
    ),
    "unsupported transfer syntax": (
        dicom_file(frames=[b"x" * 20], transfer_syntax_uid="1.2.840.10008.1.2.4.110"),
        "UNSUPPORTED_TRANSFER_SYNTAX",
        "does not support the transfer syntax 1.2.840.10008.1.2.4.110",
    ),
    "damaged codestream": (
        dicom_file(frames=[b"no codestream at all"], transfer_syntax_uid="1.2.840.10008.1.2.4.90"),
        "TRANSCODING_EXCEPTION",
        "is not a codestream of its transfer syntax",
    ),
    "rows that are no number": (
        dicom_file(Rows=None) + element(0x00280010, b"LO", b"abc "),
        "TRANSCODING_EXCEPTION",
        "Rows must be a whole number from 1 to 65535",
    ),
    "frames that are no number": (
        dicom_file() + element(0x00280008, b"LO", b"many"),
        "TRANSCODING_EXCEPTION",
        "NumberOfFrames must be a whole number",
    ),
    "no columns": (dicom_file(Columns=0), "TRANSCODING_EXCEPTION", "Columns must be a whole number"),
    "no bits": (dicom_file(BitsAllocated=None), "TRANSCODING_EXCEPTION", "BitsAllocated must be a whole number"),
    "bits that do not fit": (dicom_file(BitsStored=17), "TRANSCODING_EXCEPTION", "BitsStored must be a whole number"),
    "huge frame of few bytes": (
        dicom_file(frames=[bytes(64)], transfer_syntax_uid="1.2.840.10008.1.2.5", Rows=65535, Columns=65535),
        "TRANSCODING_EXCEPTION",
        "too short for Rows, Columns",
    ),
}


@pytest.mark.parametrize("name", NOT_FRAMES)
def test_pixel_data_without_valid_frames_is_imported_with_a_warning(emulator, store, name):
    content, reason, message = NOT_FRAMES[name]
    done = imported(emulator, store, file=content, good=dicom_file())
    assert done.failures == {}
    (warning,) = done.warnings["file"]
    assert (warning.reason.name, message in warning.message) == (reason, True), warning.message
    (instance,) = instances_of(done.successes["file"]).values()
    assert instance["ImageFrames"] == []
    assert instance["StoredTransferSyntaxUID"] != "1.2.840.10008.1.2.4.202"
    (good,) = instances_of(done.successes["good"]).values()
    assert len(good["ImageFrames"]) == 1


# The output of a job


def test_job_writes_the_result_of_each_file(moto, s3):
    s3.create_bucket(Bucket="dicom")
    files = {"good.dcm": WHOLE, "empty.dcm": dicom_file(PixelData=b""), "notes.txt": b"Notes\n"}
    for name, content in files.items():
        s3.put_object(Bucket="dicom", Key=f"in/{name}", Body=content)
    with HealthImagingEmulator(s3=s3) as emulator:
        store = emulator.create_datastore("job")
        request = {
            "dataAccessRoleArn": "arn:aws:iam::000000000000:role/import",
            "inputS3Uri": "s3://dicom/in/",
            "outputS3Uri": "s3://dicom/out/",
            "clientToken": "a",
        }
        job = emulator.importer.start(store, request)
        emulator.importer.close()
        assert job.status == "COMPLETED"
        image_sets = emulator.stores.get(store).image_sets

    def read(name):
        key = f"{job.output_uri.removeprefix('s3://dicom/')}{name}"
        return [json.loads(line) for line in s3.get_object(Bucket="dicom", Key=key)["Body"].read().splitlines()]

    ((manifest,), successes, (warning,), (failure,)) = map(
        read, ("job-output-manifest.json", "SUCCESS/success.ndjson", "WARNING/warning.ndjson", "FAILURE/failure.ndjson")
    )
    summary = manifest["jobSummary"]
    assert (summary["numberOfScannedFiles"], summary["numberOfImportedFiles"]) == (3, 2)
    assert summary["numberOfFilesWithCustomerError"] == 1
    assert summary["warningsOutputS3Uri"] == f"{job.output_uri}WARNING/"
    assert {each["inputFile"] for each in successes} == {"in/good.dcm", "in/empty.dcm"}
    assert {each["importResponse"]["imageSetId"] for each in successes} == set(image_sets)
    assert warning["inputFile"] == "in/empty.dcm"
    response = warning["importResponse"]
    assert (response["imageSetVersion"], response["isPrimary"]) == (1, True)
    assert response["warnings"] == [
        {
            "warning_reason_code": 45328,
            "type": "FramesExtractionFailure",
            "message": "PixelData (7FE0,0010) is empty",
        }
    ]
    assert failure["inputFile"] == "in/notes.txt"


# Any file

SEEDS = [
    dicom_file(PIXELS[:4, :4]),
    dicom_file(PIXELS[:4, :4], transfer_syntax_uid=IMPLICIT) + b"",
    dicom_file(PIXELS[:4, :4], frames=[b"\xff\xd8" + b"x" * 60] * 2, transfer_syntax_uid=JPEG, NumberOfFrames=2),
    dicom_file(PIXELS[:4, :4]) + UNREADABLE["number within a sequence"][0],
    dicom_file(PIXELS[:4, :4]) + deep_sequence(3) + element(0x00189087, b"FD", struct.pack("<d", float("nan"))),
]


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_damaged_file_never_breaks_an_import(emulator, data):
    content = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(132, len(content) - 1))
        damage = data.draw(st.binary(min_size=1, max_size=4))
        match data.draw(st.sampled_from(["replace", "insert", "remove"])):
            case "replace":
                content[at : at + len(damage)] = damage
            case "insert":
                content[at:at] = damage
            case "remove":
                del content[at : at + len(damage)]
        if len(content) < 200:
            break
    store = emulator.create_datastore("any")
    done = imported(emulator, store, damaged=bytes(content), good=WHOLE)
    assert ("damaged" in done.successes) != ("damaged" in done.failures)
    assert "good" in done.successes
    assert not any("see the emulator's log" in message for message in done.failures.values())
    image_sets = emulator.stores.get(store).image_sets
    assert {each.id for each in done.successes.values()} == set(image_sets)
    for image_set in image_sets.values():
        for instance in instances_of(image_set).values():
            for frame in instance["ImageFrames"]:
                assert image_set.frames[frame["ID"]].content.size == frame["FrameSizeInBytes"]
