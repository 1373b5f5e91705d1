"""The emulator serves metadata, frames, files and bulk data as HealthImaging's WADO-RS does."""

import io
import json
import warnings
import zlib

import numpy as np
import pydicom
import pytest
import requests
from pydicom.uid import generate_uid

from local.health_imaging import Fault, HealthImagingEmulator
from local.health_imaging.decoders import decode_frame
from tests.unit.local import changing
from tests.unit.local.dicom_builder import dicom_file
from tests.unit.local.emulated import SIGNED, dicomweb_get, new_client, parts_of, path_of

ELE, HTJ2K, JPEG, J2K = "1.2.840.10008.1.2.1", *(f"1.2.840.10008.1.2.4.{each}" for each in ("202", "50", "91"))
AS_STORED = "multipart/related; type=application/octet-stream; transfer-syntax=*"
FILES = {
    "ct": "CT_small.dcm",
    "rgb": "SC_rgb_rle_2frame.dcm",
    "big endian": "MR_small_bigendian.dcm",
    "jpeg": "SC_rgb_small_odd_jpeg.dcm",
    "lossy": "JPEG2000.dcm",
    "bits": "liver_1frame.dcm",
}


@pytest.fixture(scope="module")
def emulator(aws_environment):
    with HealthImagingEmulator() as running:
        yield running


@pytest.fixture(scope="module")
def base(emulator):
    datastore_id = emulator.create_datastore("retrieval")
    with warnings.catch_warnings(action="ignore"):
        emulator.import_files(datastore_id, [path_of(name) for name in FILES.values()])
    return f"{emulator.url}/datastore/{datastore_id}"


@pytest.fixture
def add(emulator, tmp_path):
    """Imports files into a new data store; returns its base URL and the image sets."""

    def add_files(*contents, **options):
        datastore_id = emulator.create_datastore("own", **options)
        image_sets = []
        for number, content in enumerate(contents):
            path = tmp_path / f"{number}.dcm"
            path.write_bytes(content)
            image_sets += emulator.import_files(datastore_id, [path])
        return f"{emulator.url}/datastore/{datastore_id}", image_sets

    return add_files


def source(name):
    with warnings.catch_warnings(action="ignore"):
        return pydicom.dcmread(path_of(FILES.get(name, name)))


def series_url(base, dataset):
    return f"{base}/studies/{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}"


def instance_url(base, dataset):
    return f"{series_url(base, dataset)}/instances/{dataset.SOPInstanceUID}"


def read(content):
    return pydicom.dcmread(io.BytesIO(content))


# Metadata


@pytest.mark.parametrize("name", FILES)
def test_metadata_equals_the_file_without_its_pixels(base, name):
    file = source(name)
    response = dicomweb_get(f"{instance_url(base, file)}/metadata", "application/dicom+json")
    assert response.headers["Content-Type"] == "application/dicom+json"
    (document,) = response.json()
    expected = file.to_json_dict()
    for tag in ("7FE00010", "FFFCFFFC"):
        expected.pop(tag, None)
    del document["00083002"]
    assert list(document) == sorted(document)
    for tag, element in expected.items():
        if tag not in ("00080005", "00280006"):
            assert document[tag] == json.loads(json.dumps(element)), tag
    assert set(document) == set(expected)


def test_metadata_names_the_stored_transfer_syntax(base):
    for name, syntax in {"ct": HTJ2K, "jpeg": JPEG, "lossy": J2K, "bits": ELE}.items():
        (document,) = dicomweb_get(f"{instance_url(base, source(name))}/metadata").json()
        assert document["00083002"] == {"vr": "UI", "Value": [syntax]}


def test_metadata_says_utf_8_and_interleaved_samples(add):
    file = dicom_file(
        np.zeros((4, 4, 3), np.uint8), PlanarConfiguration=1, SpecificCharacterSet="ISO_IR 100", PatientName="M\xfcller"
    )
    base, _ = add(file)
    (document,) = dicomweb_get(f"{instance_url(base, read(file))}/metadata").json()
    assert document["00080005"]["Value"] == ["ISO_IR 192"]
    assert document["00100010"]["Value"] == [{"Alphabetic": "M\xfcller"}]
    assert document["00280006"]["Value"] == [0]


def test_series_metadata_has_every_instance_in_order(add):
    series = generate_uid(), generate_uid()
    base, _ = add(*(dicom_file(series=series, InstanceNumber=number) for number in (3, 1, 2)))
    response = dicomweb_get(f"{base}/studies/{series[0]}/series/{series[1]}/metadata")
    assert [each["00200013"]["Value"] for each in response.json()] == [[1], [2], [3]]


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, "application/dicom+json"),
        ("*/*", "application/dicom+json"),
        ("application/*;q=0.1", "application/dicom+json"),
        ("application/json", "application/json"),
        ("application/dicom+json, application/json", "application/dicom+json"),
        ("text/html, application/json;q=0.5", "application/json"),
        ("application/dicom+xml", None),
        ("application/dicom+json;q=0", None),
        ('multipart/related; type="application/dicom+json"', None),
    ],
)
def test_metadata_has_an_acceptable_type_or_is_refused(base, accept, content_type):
    response = dicomweb_get(f"{instance_url(base, source('ct'))}/metadata", accept)
    assert response.status_code == (200 if content_type else 406)
    assert response.headers.get("x-amzn-ErrorType") == (None if content_type else "NotAcceptableException")
    if content_type:
        assert response.headers["Content-Type"] == content_type


def test_metadata_follows_updates(emulator, add):
    file = dicom_file(PatientWeight="70.50", StudyDescription="before")
    base, (image_set,) = add(file)
    url = f"{instance_url(base, read(file))}/metadata"
    assert dicomweb_get(url).json()[0]["00081030"]["Value"] == ["before"]
    updates = changing.document(study={"StudyDescription": "after"})
    changing.update(new_client(emulator.url), image_set.datastore_id, image_set.id, updates=updates)
    (document,) = dicomweb_get(url).json()
    assert document["00081030"] == {"vr": "LO", "Value": ["after"]}
    assert document["00101030"] == {"vr": "DS", "Value": [70.5]}
    assert read(dicomweb_get(instance_url(base, read(file))).content).StudyDescription == "after"


def test_numbers_that_json_lacks_become_text(add):
    file = dicom_file(RealWorldValueIntercept=float("nan"), RealWorldValueSlope=float("-inf"))
    base, _ = add(file)
    response = dicomweb_get(f"{instance_url(base, read(file))}/metadata")
    document = json.loads(response.text, parse_constant=pytest.fail)[0]
    assert (document["00409224"]["Value"], document["00409225"]["Value"]) == (["NaN"], ["-Infinity"])


def test_binary_values_of_a_big_endian_file_become_little_endian(add):
    file = source("big endian")
    file.add_new(0x60003000, "OW", b"\x01\x02\x03\x04")
    content = io.BytesIO()
    file.save_as(content)
    base, _ = add(content.getvalue())
    (document,) = dicomweb_get(f"{instance_url(base, file)}/metadata").json()
    assert document["60003000"]["InlineBinary"] == "AgEEAw=="


# Frames


@pytest.mark.parametrize(("name", "syntax"), [("ct", HTJ2K), ("jpeg", JPEG), ("lossy", J2K), ("bits", ELE)])
def test_stored_frame_names_its_transfer_syntax(emulator, base, name, syntax):
    response = dicomweb_get(f"{instance_url(base, source(name))}/frames/1", AS_STORED)
    ((content_type, content),) = parts_of(response)
    assert content_type == f"application/octet-stream; transfer-syntax={syntax}"
    assert response.headers["Content-Type"].startswith('multipart/related; type="application/octet-stream"; boundary=')
    assert int(response.headers["Content-Length"]) == len(response.content)
    pixels = source(name).pixel_array
    if syntax == HTJ2K:
        assert np.array_equal(decode_frame(syntax, content), pixels)


@pytest.mark.parametrize(
    "accept", [None, "*/*", "multipart/related", 'multipart/related; type="*/*"', AS_STORED.replace("*", ELE)]
)
def test_frame_without_a_transfer_syntax_is_uncompressed(base, accept):
    file = source("ct")
    ((content_type, content),) = parts_of(dicomweb_get(f"{instance_url(base, file)}/frames/1", accept))
    assert content_type == f"application/octet-stream; transfer-syntax={ELE}"
    assert content == file.PixelData


def test_colour_frame_is_decoded_with_interleaved_samples(base):
    file = source("rgb")
    parts = parts_of(dicomweb_get(f"{instance_url(base, file)}/frames/1,2"))
    assert [content for _, content in parts] == [frame.tobytes() for frame in file.pixel_array]


def test_frames_come_in_the_requested_order(base):
    file = source("rgb")
    one, two = (parts_of(dicomweb_get(f"{instance_url(base, file)}/frames/{n}", AS_STORED)) for n in (1, 2))
    assert parts_of(dicomweb_get(f"{instance_url(base, file)}/frames/2,1", AS_STORED)) == [*two, *one]
    assert parts_of(dicomweb_get(f"{instance_url(base, file)}/frames/2%2C1", AS_STORED)) == [*two, *one]


@pytest.mark.parametrize(
    ("name", "accept", "content_type"),
    [
        ("ct", "image/jphc", f"image/jphc; transfer-syntax={HTJ2K}"),
        ("ct", f'image/jph; transfer-syntax="{HTJ2K}"', f"image/jph; transfer-syntax={HTJ2K}"),
        ("ct", "application/octet-stream; transfer-syntax=*", f"application/octet-stream; transfer-syntax={HTJ2K}"),
        ("ct", "image/jpeg, image/*;q=0.2", f"image/jphc; transfer-syntax={HTJ2K}"),
        ("jpeg", "image/jpeg", f"image/jpeg; transfer-syntax={JPEG}"),
        ("lossy", "image/j2c", f"image/j2c; transfer-syntax={J2K}"),
    ],
)
def test_single_frame_can_come_without_multipart(base, name, accept, content_type):
    response = dicomweb_get(f"{instance_url(base, source(name))}/frames/1", accept)
    assert response.headers["Content-Type"] == content_type
    assert response.content == parts_of(dicomweb_get(response.url, AS_STORED))[0][1]


def test_multipart_names_the_requested_image_type(base):
    response = dicomweb_get(f"{instance_url(base, source('ct'))}/frames/1", "multipart/related; type=image/jphc")
    assert parts_of(response)[0][0] == f"image/jphc; transfer-syntax={HTJ2K}"


@pytest.mark.parametrize(
    ("name", "accept"),
    [
        ("ct", "multipart/related; type=image/jpeg"),
        ("ct", f"multipart/related; type=application/octet-stream; transfer-syntax={JPEG}"),
        ("ct", f"multipart/related; type=application/octet-stream; transfer-syntax={HTJ2K}1"),
        ("ct", "multipart/related; type=application/octet-stream; transfer-syntax="),
        ("ct", "image/png"),
        ("ct", "text/html, not a media type"),
        ("jpeg", f"multipart/related; type=application/octet-stream; transfer-syntax={HTJ2K}"),
        ("lossy", f"image/j2c; transfer-syntax={ELE}"),
    ],
)
def test_unavailable_form_of_a_frame_is_refused(base, name, accept):
    response = dicomweb_get(f"{instance_url(base, source(name))}/frames/1", accept)
    assert (response.status_code, response.headers["x-amzn-ErrorType"]) == (406, "NotAcceptableException")
    assert "retry with transfer-syntax=*" in response.json()["message"]


def test_several_frames_need_multipart(base):
    assert dicomweb_get(f"{instance_url(base, source('rgb'))}/frames/1,2", "image/jphc").status_code == 406


def test_data_store_of_jpeg_2000_offers_no_htj2k(add):
    file = dicom_file()
    base, _ = add(file, lossless_storage_format="JPEG_2000_LOSSLESS")
    url = f"{instance_url(base, read(file))}/frames/1"
    ((content_type, content),) = parts_of(dicomweb_get(url, AS_STORED))
    assert content_type.endswith("1.2.840.10008.1.2.4.90")
    assert decode_frame("1.2.840.10008.1.2.4.90", content).tobytes() == read(file).PixelData
    assert dicomweb_get(url, f"image/jphc; transfer-syntax={HTJ2K}").status_code == 406
    assert parts_of(dicomweb_get(url))[0][1] == read(file).PixelData


def test_video_is_never_decoded(add):
    mpeg2 = "1.2.840.10008.1.2.4.100"
    file = dicom_file(frames=[b"\0\0\1\xb3 video"], transfer_syntax_uid=mpeg2)
    base, _ = add(file)
    url = f"{instance_url(base, read(file))}/frames/1"
    expected = f"application/octet-stream; transfer-syntax={mpeg2}"
    assert {parts_of(dicomweb_get(url, accept))[0][0] for accept in (None, AS_STORED)} == {expected}
    assert dicomweb_get(url, "video/mpeg").headers["Content-Type"] == f"video/mpeg; transfer-syntax={mpeg2}"
    assert dicomweb_get(url, AS_STORED.replace("*", ELE)).status_code == 406


def test_pixel_data_that_cannot_be_transcoded_is_one_blob(add):
    unsupported = "1.2.840.10008.1.2.4.81"
    file = dicom_file(frames=[b"not a codestream"], transfer_syntax_uid=unsupported)
    base, _ = add(file)
    url = f"{instance_url(base, read(file))}/frames/1"
    for accept in (None, AS_STORED):
        ((content_type, content),) = parts_of(dicomweb_get(url, accept))
        assert content_type == f"application/octet-stream; transfer-syntax={unsupported}"
        assert content == read(file).PixelData
    assert dicomweb_get(url, AS_STORED.replace("*", ELE)).status_code == 406
    part_10 = read(dicomweb_get(instance_url(base, read(file)), "application/dicom; transfer-syntax=*").content)
    assert (part_10.PixelData, part_10.file_meta.TransferSyntaxUID) == (read(file).PixelData, unsupported)


@pytest.mark.parametrize("frames", ["0", "-1", "1,1", "1,", ",1", "1,,2", "one", "1.0", "%00", "01", "9" * 5000])
def test_invalid_frame_list_is_refused(base, frames):
    response = dicomweb_get(f"{instance_url(base, source('jpeg'))}/frames/{frames}")
    assert (response.status_code, response.headers["x-amzn-ErrorType"]) == (400, "ValidationException")


# Files


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("accept", ["application/dicom; transfer-syntax=*", "application/dicom", None])
def test_file_has_the_pixels_and_attributes_of_the_import(base, name, accept):
    original = source(name)
    response = dicomweb_get(instance_url(base, original), accept)
    file = read(response.content)
    syntax = file.file_meta.TransferSyntaxUID
    assert response.headers["Content-Type"] == f"application/dicom; transfer-syntax={syntax}"
    assert file.PatientID == original.PatientID
    assert {each.tag for each in file} - {0x00280006} == {each.tag for each in original} - {0x00280006, 0xFFFCFFFC}
    if accept != "application/dicom; transfer-syntax=*":
        assert syntax == ELE
    if syntax != HTJ2K:
        assert np.array_equal(file.pixel_array, original.pixel_array)


def test_stored_file_has_the_stored_frames(base):
    original = source("rgb")
    file = read(dicomweb_get(instance_url(base, original), "application/dicom; transfer-syntax=*").content)
    frames = list(pydicom.encaps.generate_frames(file.PixelData, number_of_frames=2))
    stored = parts_of(dicomweb_get(f"{instance_url(base, original)}/frames/1,2", AS_STORED))
    assert [each.rstrip(b"\0") for each in frames] == [content.rstrip(b"\0") for _, content in stored]


def test_decoded_file_describes_its_colours(base):
    file = read(dicomweb_get(instance_url(base, source("jpeg"))).content)
    assert (file.PhotometricInterpretation, file.PlanarConfiguration) == ("RGB", 0)


def test_frames_of_single_bits_are_packed_without_gaps(add):
    bits = np.random.default_rng(0).integers(0, 2, (3, 5, 7), dtype=np.uint8)
    file = dicom_file(
        np.zeros((5, 7), np.uint8), NumberOfFrames=3, BitsAllocated=1, BitsStored=1, HighBit=0,
        PixelData=bytes(pydicom.pixels.utils.pack_bits(bits)),
    )  # fmt: skip
    base, _ = add(file)
    assert np.array_equal(read(dicomweb_get(instance_url(base, read(file))).content).pixel_array, bits)


def test_unknown_transfer_syntax_can_be_in_a_file(add):
    syntax = "1.2.840.10008.1.2.4.112"
    file = dicom_file(frames=[b"jpeg xl"], transfer_syntax_uid=syntax)
    base, _ = add(file)
    url = instance_url(base, read(file))
    assert read(dicomweb_get(url, "application/dicom; transfer-syntax=*").content).file_meta.TransferSyntaxUID == syntax


def test_file_can_be_multipart(base):
    url = instance_url(base, source("ct"))
    response = dicomweb_get(url, 'multipart/related; type="application/dicom"; transfer-syntax=*')
    ((content_type, content),) = parts_of(response)
    assert content_type == f"application/dicom; transfer-syntax={HTJ2K}"
    assert read(content).SOPInstanceUID == source("ct").SOPInstanceUID


@pytest.mark.parametrize("accept", [f"application/dicom; transfer-syntax={JPEG}", "image/jpeg", "application/json"])
def test_unavailable_form_of_a_file_is_refused(base, accept):
    assert dicomweb_get(instance_url(base, source("ct")), accept).status_code == 406


# Bulk data


@pytest.fixture
def with_bulk_data(add):
    large, small = bytes(range(256)) * 4097, b"\1\2"
    file = read(dicom_file())
    file.add_new(0x00420011, "OB", large)
    file.add_new(0x00282000, "OB", small)
    block = file.private_block(0x0045, "MAKER", create=True)
    block.add_new(0x26, "UN", large[::-1])
    content = io.BytesIO()
    file.save_as(content)
    base, (image_set,) = add(content.getvalue())
    return instance_url(base, file), large, image_set


def test_large_binary_values_are_bulk_data(with_bulk_data):
    url, large, _ = with_bulk_data
    (document,) = dicomweb_get(f"{url}/metadata").json()
    assert document["00282000"] == {"vr": "OB", "InlineBinary": "AQI="}
    assert document["00420011"].keys() == document["00451026"].keys() == {"vr", "BulkDataURI"}
    for tag, content in {"00420011": large, "00451026": large[::-1]}.items():
        uri = document[tag]["BulkDataURI"]
        assert uri.startswith(f"{url}/bulkdata/")
        response = dicomweb_get(uri, "application/octet-stream")
        assert (response.content, response.headers["Content-Type"]) == (content, "application/octet-stream")
        assert parts_of(dicomweb_get(uri, 'multipart/related; type="*/*"')) == [("application/octet-stream", content)]
        assert dicomweb_get(uri, "image/jpeg").status_code == 406
    assert read(dicomweb_get(url).content).EncapsulatedDocument == large


def test_unknown_bulk_data_does_not_exist(with_bulk_data):
    assert dicomweb_get(f"{with_bulk_data[0]}/bulkdata/{'0' * 32}").status_code == 404


# Image sets


@pytest.mark.parametrize("resource", ["metadata", "frames/1", ""])
def test_other_image_sets_need_the_parameter(add, resource):
    first = dicom_file(PatientName="First")
    second = read(first)
    second.PatientName = "Second"
    content = io.BytesIO()
    second.save_as(content)
    base, (primary, other) = add(first, content.getvalue())
    assert (primary.is_primary, other.is_primary) == (True, False)
    url = f"{instance_url(base, second)}/{resource}".rstrip("/")
    answers = [dicomweb_get(url, imageSetId=each) for each in ([], primary.id, other.id)]
    assert [each.status_code for each in answers] == [200] * 3
    if resource == "metadata":
        names = [each.json()[0]["00100010"]["Value"][0]["Alphabetic"] for each in answers]
        assert names == ["First", "First", "Second"]
    if not resource:
        assert [str(read(each.content).PatientName) for each in answers] == ["First", "First", "Second"]


def test_image_set_of_another_series_does_not_have_the_instance(add):
    one, other = dicom_file(), dicom_file()
    base, image_sets = add(one, other)
    url = f"{instance_url(base, read(one))}/metadata"
    assert [dicomweb_get(url, imageSetId=each.id).status_code for each in image_sets] == [200, 404]
    assert dicomweb_get(url, imageSetId="short").status_code == 400
    assert dicomweb_get(url, imageSetId="0" * 32).status_code == 404


def test_deleted_image_set_is_gone(emulator, add):
    file = dicom_file()
    base, (image_set,) = add(file)
    url = instance_url(base, read(file))
    assert dicomweb_get(f"{url}/metadata").status_code == 200
    emulator.delete_image_set(image_set.datastore_id, image_set.id)
    assert [dicomweb_get(each).status_code for each in (url, f"{url}/metadata", f"{url}/frames/1")] == [404] * 3


def test_copied_instance_keeps_its_content(emulator, add):
    file = dicom_file(PatientComments="copied")
    base, (image_set,) = add(file)
    copied = changing.copy(new_client(emulator.url), image_set.datastore_id, image_set.id)
    copy_id = copied["destinationImageSetProperties"]["imageSetId"]
    response = dicomweb_get(instance_url(base, read(file)), imageSetId=copy_id)
    assert (read(response.content).PatientComments, read(response.content).PixelData) == (
        "copied",
        read(file).PixelData,
    )


@pytest.mark.parametrize("missing", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
def test_unknown_uid_does_not_exist(base, missing):
    file = source("ct")
    setattr(file, missing, "1.2.3.4")
    for resource in ("", "/metadata", "/frames/1", "/bulkdata/0"):
        response = dicomweb_get(instance_url(base, file) + resource)
        assert (response.status_code, response.headers["x-amzn-ErrorType"]) == (404, "ResourceNotFoundException")


def test_frame_without_a_file_has_metadata(emulator):
    datastore_id = emulator.create_datastore("frames")
    emulator.add_frames(datastore_id, [b"one", b"two"], "image/jph", per_instance=2)
    base = f"{emulator.url}/datastore/{datastore_id}"
    (found,) = dicomweb_get(f"{base}/instances").json()
    url = found["00081190"]["Value"][0]
    (document,) = dicomweb_get(f"{url}/metadata").json()
    assert document["00280008"] == {"vr": "IS", "Value": [2]}
    assert document["00083002"]["Value"] == [HTJ2K]
    assert [content for _, content in parts_of(dicomweb_get(f"{url}/frames/2,1", AS_STORED))] == [b"two", b"one"]


def test_image_set_without_a_file_is_found_by_its_study(own_emulator, boto):
    datastore_id = own_emulator.create_datastore("searched")
    frames = [own_emulator.add_frame(datastore_id, content, "image/jph") for content in (b"one", b"two")]
    studies = dicomweb_get(f"{own_emulator.url}/datastore/{datastore_id}/studies").json()
    found = set()
    for study in studies:
        value = {"DICOMStudyInstanceUID": study["0020000D"]["Value"][0]}
        criteria = {"filters": [{"values": [value], "operator": "EQUAL"}]}
        (summary,) = boto.search_image_sets(datastoreId=datastore_id, searchCriteria=criteria)[
            "imageSetsMetadataSummaries"
        ]
        assert summary["isPrimary"]
        found.add(summary["imageSetId"])
    assert found == {frame.image_set_id for frame in frames}


# HTTP


def test_unsigned_request_is_refused(base):
    response = requests.get(f"{base}/studies", timeout=5)
    assert (response.status_code, response.headers["x-amzn-ErrorType"]) == (403, "AccessDeniedException")


@pytest.mark.parametrize(
    "path",
    ["studies/1.2", "studies/1.2/metadata", "studies/1.2/series/1.3", "studies/1.2/series/1.3/instances/1.4/rendered",
     "studies/1.2/series/1.3/thumbnail", "studies/1.2/rendered", "studies/1.2/series/1.3/instances/1.4/frames"],
)  # fmt: skip
def test_paths_that_healthimaging_lacks_are_unknown(base, path):
    response = dicomweb_get(f"{base}/{path}")
    assert (response.status_code, response.headers["x-amzn-ErrorType"]) == (404, "UnknownOperationException")


def test_each_host_serves_its_own_operations(base):
    def status(url, host):
        return requests.get(url, headers={**SIGNED, "Host": host}, timeout=5).status_code

    domain = "medical-imaging.us-east-1.amazonaws.com"
    assert status(f"{base}/studies", f"dicom-{domain}") == 200
    assert status(f"{base}/studies", f"runtime-{domain}") == 404
    assert status(base, f"dicom-{domain}") == 404
    assert status(base, domain) == 200


def test_urls_name_the_emulator_for_any_host_header(base):
    # dicomweb-client sends a Host header without the port.
    for host in ("127.0.0.1", "dicom-medical-imaging.us-east-1.amazonaws.com"):
        found = requests.get(f"{base}/studies", headers={**SIGNED, "Host": host}, timeout=5).json()
        assert found[0]["00081190"]["Value"][0].startswith(f"{base}/studies/")


def test_call_is_recorded_and_can_fail(emulator, add):
    file = dicom_file()
    base, (image_set,) = add(file)
    url = f"{instance_url(base, read(file))}/frames/1"
    emulator.calls.clear()
    emulator.faults.arm(Fault(operation="GetDICOMInstanceFrames", error="InternalServerException", times=1))
    statuses = [dicomweb_get(url, imageSetId=image_set.id).status_code for _ in range(2)]
    assert statuses == [500, 200]
    recorded = [(each.operation, each.image_set_id, each.status) for each in emulator.calls]
    assert recorded == [("GetDICOMInstanceFrames", image_set.id, status) for status in statuses]


def test_pixels_have_the_checksum_of_the_image_set_metadata(emulator, base):
    datastore_id = base.rpartition("/")[2]
    file = source("ct")
    ((_, content),) = parts_of(dicomweb_get(f"{instance_url(base, file)}/frames/1"))
    store = emulator.stores.get(datastore_id)
    instances = [each.instances().get(file.SOPInstanceUID) for each in store.image_sets.values()]
    (entry,) = next(each for each in instances if each)["ImageFrames"]
    assert zlib.crc32(content) == entry["PixelDataChecksumFromBaseToFullResolution"][-1]["Checksum"]
