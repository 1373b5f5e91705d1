"""The emulator stores the frames of real DICOM files as HealthImaging does."""

from __future__ import annotations

import zlib

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate

from tests.unit.local.emulated import frame_content, imported, metadata_of, new_client, only_instance, path_of


@pytest.fixture
def boto(health_imaging):
    return new_client(health_imaging.url)


@pytest.fixture
def datastore_id(health_imaging):
    return health_imaging.create_datastore("test")


@pytest.mark.parametrize(
    "name",
    [
        "CT_small.dcm",  # signed 16 bit
        "MR2_UNCR.dcm",  # unsigned 16 bit
        "MR_small_RLE.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "SC_rgb_jpeg_gdcm.dcm",  # JPEG lossless, colour
        "examples_rgb_color.dcm",
        "image_dfl.dcm",  # deflated
        "rtdose_1frame.dcm",  # 32 bit
        "emri_small.dcm",  # 10 frames
    ],
)
def test_lossless_file_is_transcoded_to_htj2k_without_loss(boto, health_imaging, name):
    datastore_id, (image_set_id,) = imported(health_imaging, name)
    instance = only_instance(metadata_of(boto, datastore_id, image_set_id))
    assert instance["StoredTransferSyntaxUID"] == "1.2.840.10008.1.2.4.202"
    frames = [frame_content(boto, datastore_id, image_set_id, entry) for entry in instance["ImageFrames"]]
    assert {content_type for _, content_type in frames} == {"image/jph"}
    decoded = np.stack([imagecodecs.htj2k_decode(content) for content, _ in frames])
    expected = decoded_by_other_means(name)
    np.testing.assert_array_equal(decoded.reshape(expected.shape), expected)


def decoded_by_other_means(name):
    dataset = pydicom.dcmread(path_of(name))
    others = {"1.2.840.10008.1.2.4.70": imagecodecs.ljpeg_decode, "1.2.840.10008.1.2.4.80": imagecodecs.jpegls_decode}
    decode = others.get(dataset.file_meta.TransferSyntaxUID)
    if decode is None:
        return pydicom.pixels.pixel_array(dataset, raw=True)
    return decode(next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1)))


@pytest.mark.parametrize("name", ["693_UNCR.dcm", "RG3_UNCR.dcm", "examples_rgb_color.dcm", "MR_small.dcm"])
def test_transcoded_frame_has_a_tile_part_and_a_checksum_for_each_resolution(boto, health_imaging, name):
    datastore_id, (image_set_id,) = imported(health_imaging, name)
    (entry,) = only_instance(metadata_of(boto, datastore_id, image_set_id))["ImageFrames"]
    content, _ = frame_content(boto, datastore_id, image_set_id, entry)
    resolutions = entry["PixelDataChecksumFromBaseToFullResolution"]
    assert entry["FrameSizeInBytes"] == len(content)
    assert max(resolutions[0]["Width"], resolutions[0]["Height"]) <= 64
    assert b"\xff\x55" in content[:200], "there is no TLM marker in the main header"
    cod = content.index(b"\xff\x52")
    assert content[cod + 5] == 2, "the progression order is not RPCL"
    tile_parts = [at for at in range(len(content)) if content.startswith(b"\xff\x90\x00\x0a", at)]
    assert len(tile_parts) == len(resolutions)
    for number, resolution in enumerate(resolutions):
        end = (*tile_parts[1:], len(content))[number]
        image = imagecodecs.htj2k_decode(content[:end] + b"\xff\xd9", skipres=len(resolutions) - 1 - number)
        assert image.shape[:2] == (resolution["Height"], resolution["Width"])
        assert zlib.crc32(image.tobytes()) == resolution["Checksum"]


@pytest.mark.parametrize(
    ("name", "content_type", "frames"),
    [("color3d_jpeg_baseline.dcm", "image/jpeg", 120), ("MR2_J2KI.dcm", "image/j2c", 1)],
)
def test_lossy_frames_are_preserved(boto, health_imaging, name, content_type, frames):
    datastore_id, (image_set_id,) = imported(health_imaging, name)
    entries = only_instance(metadata_of(boto, datastore_id, image_set_id))["ImageFrames"]
    originals = pydicom.encaps.generate_frames(pydicom.dcmread(path_of(name)).PixelData, number_of_frames=frames)
    assert len(entries) == frames
    for entry, original in zip(entries, originals, strict=True):
        assert frame_content(boto, datastore_id, image_set_id, entry) == (original, content_type)


def test_one_bit_pixels_are_stored_uncompressed(boto, health_imaging):
    datastore_id, (image_set_id,) = imported(health_imaging, "liver_1frame.dcm")
    instance = only_instance(metadata_of(boto, datastore_id, image_set_id))
    assert instance["StoredTransferSyntaxUID"] == "1.2.840.10008.1.2.1"
    content = frame_content(boto, datastore_id, image_set_id, instance["ImageFrames"][0])
    assert content == (pydicom.dcmread(path_of("liver_1frame.dcm")).PixelData, "application/octet-stream")


def test_video_becomes_one_frame(boto, health_imaging, tmp_path):
    dataset = pydicom.dcmread(path_of("color3d_jpeg_baseline.dcm"))
    stream = b"\x00\x00\x00\x20ftypisom" + bytes(5000)
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"
    dataset.PixelData = pydicom.encaps.encapsulate([stream])
    dataset.save_as(tmp_path / "video.dcm")
    datastore_id = health_imaging.create_datastore("video")
    (image_set,) = health_imaging.import_files(datastore_id, [tmp_path / "video.dcm"])
    (entry,) = only_instance(metadata_of(boto, datastore_id, image_set.id))["ImageFrames"]
    assert frame_content(boto, datastore_id, image_set.id, entry) == (stream, "video/mp4")


def test_metadata_has_attributes_at_their_levels(boto, health_imaging):
    datastore_id, (image_set_id,) = imported(health_imaging, "CT_small.dcm")
    metadata = metadata_of(boto, datastore_id, image_set_id)
    assert (metadata["DatastoreID"], metadata["ImageSetID"]) == (datastore_id, image_set_id)
    assert metadata["Patient"]["DICOM"]["PatientID"] == "1CT1"
    assert "PatientID" not in only_instance(metadata)["DICOM"]
    (series,) = metadata["Study"]["Series"].values()
    assert series["DICOM"]["Modality"] == "CT"
    assert only_instance(metadata)["DICOM"]["Rows"] == 128


def imported_pixels(boto, health_imaging, datastore_id, path):
    """Import a file; return the transfer syntax, the metadata entry and the bytes of its only frame."""
    (image_set,) = health_imaging.import_files(datastore_id, [path])
    instance = only_instance(metadata_of(boto, datastore_id, image_set.id))
    (entry,) = instance["ImageFrames"]
    content, _ = frame_content(boto, datastore_id, image_set.id, entry)
    return instance["StoredTransferSyntaxUID"], entry, content


@pytest.mark.parametrize(
    ("transfer_syntax_uid", "encode"),
    [("1.2.840.10008.1.2.4.80", imagecodecs.jpegls_encode), ("1.2.840.10008.1.2.4.70", imagecodecs.ljpeg_encode)],
)
def test_signed_pixels_survive_a_codec_without_signed_samples(
    boto, health_imaging, datastore_id, tmp_path, transfer_syntax_uid, encode
):
    dataset = pydicom.dcmread(path_of("693_UNCR.dcm"))
    pixels = dataset.pixel_array
    dataset.file_meta.TransferSyntaxUID = transfer_syntax_uid
    dataset.PixelData = encapsulate([encode(pixels.view(np.uint16))])
    dataset.save_as(tmp_path / "signed.dcm")
    _, entry, content = imported_pixels(boto, health_imaging, datastore_id, tmp_path / "signed.dcm")
    np.testing.assert_array_equal(imagecodecs.htj2k_decode(content), pixels)
    assert (entry["MinPixelValue"], entry["MaxPixelValue"]) == (int(pixels.min()), int(pixels.max())) == (-2000, 2492)


def test_dataset_decides_the_sign_when_codestream_differs(boto, health_imaging, datastore_id):
    _, entry, _ = imported_pixels(boto, health_imaging, datastore_id, path_of("J2K_pixelrep_mismatch.dcm"))
    assert (entry["MinPixelValue"], entry["MaxPixelValue"]) == (-2000, 1896)


def test_twelve_bit_jpeg_is_transcoded(boto, health_imaging, datastore_id):
    syntax, entry, content = imported_pixels(boto, health_imaging, datastore_id, path_of("JPGExtended.dcm"))
    assert syntax == "1.2.840.10008.1.2.4.202"
    assert imagecodecs.htj2k_decode(content).shape == (1024, 256)
    assert entry["MaxPixelValue"] == 264


@pytest.mark.parametrize(("keyword", "kind"), [("FloatPixelData", "<f4"), ("DoubleFloatPixelData", "<f8")])
def test_floating_point_pixels_are_stored_uncompressed_even_with_nan(
    boto, health_imaging, datastore_id, tmp_path, keyword, kind
):
    dataset = pydicom.dcmread(path_of("CT_small.dcm"))
    pixels = np.linspace(-1, 1, dataset.Rows * dataset.Columns).astype(kind)
    pixels[0] = np.nan
    for absent in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
        delattr(dataset, absent)
    dataset.BitsAllocated = pixels.itemsize * 8
    setattr(dataset, keyword, pixels.tobytes())
    dataset.save_as(tmp_path / "float.dcm")
    syntax, entry, content = imported_pixels(boto, health_imaging, datastore_id, tmp_path / "float.dcm")
    assert (syntax, content) == ("1.2.840.10008.1.2.1", pixels.tobytes())
    assert "MinPixelValue" not in entry


def test_file_without_pixels_has_no_frames(boto, health_imaging, datastore_id):
    (image_set,) = health_imaging.import_files(datastore_id, [path_of("rtplan.dcm")])
    assert only_instance(metadata_of(boto, datastore_id, image_set.id))["ImageFrames"] == []
