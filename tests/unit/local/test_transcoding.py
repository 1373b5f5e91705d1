"""The emulator preserves or transcodes frames, and sends them with the documented media types."""

from __future__ import annotations

import io
import re
import struct
import time
from pathlib import Path

import boto3
import imagecodecs
import numpy as np
import openjpeg
import pytest
from botocore.config import Config
from PIL import Image
from pydicom.data import get_testdata_file

from local.health_imaging import HealthImagingEmulator
from local.health_imaging.frames import CONTENT_TYPES
from tests.unit.local.dicom_builder import PIXELS, dicom_file
from tests.unit.local.test_import import instances_of

HTJ2K, JPEG_2000, UNCOMPRESSED = "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.1"
JPEG_XL = "1.2.840.10008.1.2.4.112"
FORMATS = {"HTJ2K": (HTJ2K, imagecodecs.htj2k_decode), "JPEG_2000_LOSSLESS": (JPEG_2000, imagecodecs.jpeg2k_decode)}


@pytest.fixture(scope="module")
def emulator(aws_environment):
    with HealthImagingEmulator() as running:
        yield running


@pytest.fixture(scope="module")
def boto(emulator):
    config = Config(inject_host_prefix=False, retries={"total_max_attempts": 1}, read_timeout=5)
    return boto3.client("medical-imaging", endpoint_url=emulator.url, config=config)


def imported(emulator, boto, content, storage_format="HTJ2K"):
    """The metadata of a file's only instance, and its frames with their media types."""
    store = emulator.create_datastore("transcoding", lossless_storage_format=storage_format)
    done = emulator.importer.add_files(store, [("file", content)])
    assert (done.failures, done.warnings) == ({}, {})
    (image_set,) = done.image_sets
    (instance,) = instances_of(image_set).values()
    answers = [
        boto.get_image_frame(
            datastoreId=store, imageSetId=image_set.id, imageFrameInformation={"imageFrameId": frame["ID"]}
        )
        for frame in instance["ImageFrames"]
    ]
    return instance, [(answer["imageFrameBlob"].read(), answer["contentType"]) for answer in answers]


def noise(kind, *shape):
    limits = np.iinfo(kind)
    return np.random.default_rng(7).integers(limits.min, limits.max, shape, dtype=kind, endpoint=True)


def jpeg_2000(pixels, **options):
    return imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="j2k", reversible=True, **options)


def subsampled(codestream, *steps):
    """Change a codestream's header to a subsampled grid; ``steps`` has the grid points per sample, by component."""
    content = bytearray(codestream)
    at = content.index(b"\xff\x51")
    column_step, row_step = (max(each) for each in zip(*steps, strict=True)) if len(set(steps)) == 1 else (1, 1)
    for offset, step in ((6, column_step), (10, row_step), (22, column_step), (26, row_step)):
        (size,) = struct.unpack_from(">I", content, at + offset)
        struct.pack_into(">I", content, at + offset, size * step)
    for component, (columns, rows) in enumerate(steps):
        content[at + 41 + 3 * component : at + 43 + 3 * component] = bytes((columns, rows))
    return bytes(content)


# The lossless storage format of a data store


@pytest.mark.parametrize("storage_format", FORMATS)
def test_data_store_is_created_with_a_lossless_storage_format(boto, storage_format):
    created = boto.create_datastore(datastoreName="kind", losslessStorageFormat=storage_format)["datastoreId"]
    assert boto.get_datastore(datastoreId=created)["datastoreProperties"]["losslessStorageFormat"] == storage_format


def test_data_store_stores_htj2k_by_default(boto):
    created = boto.create_datastore(datastoreName="kind")["datastoreId"]
    assert boto.get_datastore(datastoreId=created)["datastoreProperties"]["losslessStorageFormat"] == "HTJ2K"


@pytest.mark.parametrize("storage_format", FORMATS)
@pytest.mark.parametrize(
    "pixels",
    [
        noise(np.uint8, 32, 40),
        noise(np.uint16, 130, 70),
        noise(np.int16, 33, 41),
        noise(np.uint8, 33, 41, 3),
        noise(np.uint16, 1, 1),
        noise(np.uint16, 1, 300),
    ],
    ids=lambda pixels: f"{pixels.dtype}{pixels.shape}",
)
def test_lossless_frame_is_stored_in_the_format_of_its_data_store(emulator, boto, storage_format, pixels):
    syntax, decode = FORMATS[storage_format]
    instance, ((content, content_type),) = imported(emulator, boto, dicom_file(pixels), storage_format)
    assert instance["StoredTransferSyntaxUID"] == syntax
    assert content_type == CONTENT_TYPES[syntax]
    np.testing.assert_array_equal(decode(content), pixels)
    (frame,) = instance["ImageFrames"]
    assert (frame["MinPixelValue"], frame["MaxPixelValue"]) == (pixels.min(), pixels.max())
    whole = frame["PixelDataChecksumFromBaseToFullResolution"][-1]
    assert (whole["Height"], whole["Width"]) == pixels.shape[:2]


@pytest.mark.parametrize("storage_format", FORMATS)
@pytest.mark.parametrize("kind", [np.uint32, np.int32, np.uint64])
def test_pixels_that_the_codec_would_change_are_stored_uncompressed(emulator, boto, storage_format, kind):
    pixels = noise(kind, 20, 30)
    instance, ((content, content_type),) = imported(emulator, boto, dicom_file(pixels), storage_format)
    syntax, decode = FORMATS[storage_format]
    if instance["StoredTransferSyntaxUID"] == UNCOMPRESSED:
        assert (content, content_type) == (pixels.tobytes(), "application/octet-stream")
    else:
        assert instance["StoredTransferSyntaxUID"] == syntax
        np.testing.assert_array_equal(decode(content), pixels)


def test_lossy_frame_is_preserved_in_both_kinds_of_data_store(emulator, boto):
    content = Path(get_testdata_file("MR2_J2KI.dcm", download=False)).read_bytes()
    frames = [imported(emulator, boto, content, storage_format) for storage_format in FORMATS]
    assert {each["StoredTransferSyntaxUID"] for each, _ in frames} == {"1.2.840.10008.1.2.4.91"}
    assert frames[0][1] == frames[1][1]


@pytest.mark.parametrize("storage_format", FORMATS)
def test_stored_transfer_syntax_can_be_removed_from_the_metadata(emulator, boto, storage_format):
    store = emulator.create_datastore("missing", lossless_storage_format=storage_format)
    (image_set,) = emulator.importer.add_files(store, [("file", dicom_file())]).image_sets
    emulator.omit_stored_transfer_syntax(store, image_set.id)
    (instance,) = instances_of(image_set).values()
    assert "StoredTransferSyntaxUID" not in instance
    # The developer guide: such a frame is in the data store's lossless storage format.
    (frame,) = instance["ImageFrames"]
    answer = boto.get_image_frame(
        datastoreId=store, imageSetId=image_set.id, imageFrameInformation={"imageFrameId": frame["ID"]}
    )
    np.testing.assert_array_equal(FORMATS[storage_format][1](answer["imageFrameBlob"].read()), PIXELS)


# Media types


def test_media_types_are_those_of_the_service_reference(boto):
    output = boto.meta.service_model.operation_model("GetImageFrame").output_shape
    text = output.members["contentType"].documentation
    documented = {}
    for line in re.findall(r"<li>(.*?)</li>", text, re.DOTALL):
        content_type = re.search(r"contentType(?:</code>)? is <code>([^<]+)</code>", line).group(1)
        documented |= dict.fromkeys(re.findall(r"1\.2\.840\.10008[0-9.]*[0-9]", line), content_type)
    assert len(documented) > 20
    default = re.search(r"Default is <code>([^<]+)</code>", text).group(1)
    # The reference lists no media type for JPEG 2000 lossless, so the default applies.
    assert documented | {JPEG_2000: default} == CONTENT_TYPES


# JPEG XL


@pytest.mark.parametrize("storage_format", FORMATS)
def test_jpeg_xl_is_preserved(emulator, boto, storage_format):
    pixels = noise(np.uint8, 32, 40)
    codestream = imagecodecs.jpegxl_encode(pixels, lossless=True)
    content = dicom_file(pixels, frames=[codestream], transfer_syntax_uid=JPEG_XL)
    instance, ((stored, content_type),) = imported(emulator, boto, content, storage_format)
    assert (instance["StoredTransferSyntaxUID"], content_type) == (JPEG_XL, "image/jxl")
    assert stored.rstrip(b"\0") == codestream.rstrip(b"\0")
    (frame,) = instance["ImageFrames"]
    assert (frame["MinPixelValue"], frame["MaxPixelValue"]) == (pixels.min(), pixels.max())


# Unusual JPEG 2000 codestreams


def as_pillow_decodes(codestream):
    return np.asarray(Image.open(io.BytesIO(codestream)))


def transcoded(emulator, boto, content):
    instance, ((stored, _),) = imported(emulator, boto, content)
    assert instance["StoredTransferSyntaxUID"] == HTJ2K
    return imagecodecs.htj2k_decode(stored)


@pytest.mark.parametrize("is_padded", [False, True])
@pytest.mark.parametrize("samples", [(), (3,)], ids=["grey", "colour"])
def test_codestream_without_its_end_marker_is_transcoded(emulator, boto, samples, is_padded):
    # A fragment with an odd number of bytes is padded with a zero.
    for columns in range(40, 60):
        pixels = noise(np.uint8, 31, columns, *samples)
        codestream = jpeg_2000(pixels).removesuffix(b"\xff\xd9")
        if len(codestream) % 2 == is_padded:
            break
    content = dicom_file(pixels, frames=[codestream], transfer_syntax_uid=JPEG_2000)
    np.testing.assert_array_equal(transcoded(emulator, boto, content), pixels)


@pytest.mark.parametrize("step", [(2, 2), (2, 1), (1, 3)])
def test_rows_and_columns_may_count_the_samples_of_a_subsampled_grid(emulator, boto, step):
    pixels = noise(np.uint16, 31, 41)
    codestream = subsampled(jpeg_2000(pixels), step)
    content = dicom_file(pixels, frames=[codestream], transfer_syntax_uid=JPEG_2000)
    np.testing.assert_array_equal(transcoded(emulator, boto, content), pixels)


def test_rows_and_columns_may_count_the_points_of_a_subsampled_grid(emulator, boto):
    codestream = subsampled(jpeg_2000(noise(np.uint16, 31, 41)), (2, 2))
    grid = np.zeros((62, 82), np.uint16)
    content = dicom_file(grid, frames=[codestream], transfer_syntax_uid=JPEG_2000)
    np.testing.assert_array_equal(transcoded(emulator, boto, content), openjpeg.decode(codestream))


def test_subsampled_colour_is_decoded_like_pillow_decodes_it(emulator, boto):
    pixels = np.full((32, 40, 3), 128, np.uint8)
    pixels[..., 0] = noise(np.uint8, 32, 40)
    codestream = subsampled(jpeg_2000(pixels, mct=False), (1, 1), (2, 2), (2, 2))
    content = dicom_file(pixels, frames=[codestream], transfer_syntax_uid=JPEG_2000)
    decoded = transcoded(emulator, boto, content)
    np.testing.assert_array_equal(decoded, openjpeg.decode(codestream))
    np.testing.assert_array_equal(decoded, as_pillow_decodes(codestream))


@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_truncated_codestream_is_never_imported_as_complete(emulator, kept):
    pixels = noise(np.uint16, 32, 40)
    codestream = jpeg_2000(pixels)
    content = dicom_file(pixels, frames=[codestream[: int(len(codestream) * kept)]], transfer_syntax_uid=JPEG_2000)
    done = emulator.importer.add_files(emulator.create_datastore("cut"), [("file", content)])
    assert "damaged or cut off" in done.warnings["file"][0].message


# Codestreams with a wrong size


@pytest.mark.parametrize("declared", [(20_000, 20_000), (32, 20_000), (31, 41)])
@pytest.mark.parametrize("transfer_syntax_uid", [JPEG_2000, "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.80"])
def test_frame_whose_size_differs_from_the_attributes_is_not_decoded(emulator, transfer_syntax_uid, declared):
    pixels = noise(np.uint16, 32, 40)
    rows, columns = declared
    if transfer_syntax_uid.endswith("80"):
        codestream = bytearray(imagecodecs.jpegls_encode(pixels))
        at = codestream.index(b"\xff\xf7")
        struct.pack_into(">2H", codestream, at + 5, rows, columns)
    else:
        codestream = bytearray(jpeg_2000(pixels))
        at = codestream.index(b"\xff\x51")
        struct.pack_into(">2I", codestream, at + 6, columns, rows)
        struct.pack_into(">2I", codestream, at + 22, columns, rows)
    content = dicom_file(pixels, frames=[bytes(codestream)], transfer_syntax_uid=transfer_syntax_uid)
    started = time.monotonic()
    done = emulator.importer.add_files(emulator.create_datastore("bomb"), [("file", content)])
    assert time.monotonic() - started < 1
    (instance,) = instances_of(done.image_sets[0]).values()
    if transfer_syntax_uid.endswith("91"):
        # A lossy frame is preserved in any case; its metadata then does not describe the pixels.
        assert set(instance["ImageFrames"][0]) == {"ID", "FrameSizeInBytes"}
    else:
        assert f"A frame has {rows} rows, {columns} columns" in done.warnings["file"][0].message
        assert instance["ImageFrames"] == []
