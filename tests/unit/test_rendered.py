"""The routes of pictures: from API Gateway's event to the picture, with frames of the emulator."""

from __future__ import annotations

import io
import json
import time
from dataclasses import replace

import imagecodecs
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from framegate.access.caller import caller_context
from framegate.access.principal import Principal
from framegate.access.tokens import Grant
from framegate.identifiers import ImageSetRef
from framegate.rendering.drawing_process import DrawingProcess, DrawTask
from framegate.rendering.request import PictureRequest
from framegate.rest import rendered
from framegate.rest.routes import PICTURE_ROUTES
from framegate.storage.image_set_remover import ImageSetRemover
from framegate.time_budget import TimeBudget
from local.health_imaging import Fault
from local.health_imaging.frames import FrameContent
from local.health_imaging.image_sets import Frame
from tests.unit.conftest import BUCKET, SERVED, Client
from tests.unit.dicomweb import UNKNOWN_UID, DicomWeb
from tests.unit.htj2k_frames import image

RENDERED, THUMBNAIL = "getRenderedImageFrame", "getImageFrameThumbnail"
OF_INSTANCE, OF_FRAME = "retrieveInstanceRendered", "retrieveFramesRendered"
OPERATIONS = [operation.operation_id for route in PICTURE_ROUTES for operation in route.operations]
READS = ("GetImageFrame", "GetImageSetMetadata", "GetDICOMSeriesMetadata")


@pytest.fixture(scope="module")
def process():
    """The process that draws, shared by the tests."""
    running = DrawingProcess()
    yield running
    running.stop()


@pytest.fixture
def web(new_picture_api, process, health_imaging):
    return DicomWeb(Client(new_picture_api(process)), health_imaging)


@pytest.fixture
def by_id(source, frame_index):
    """The path of a frame of a dataset, by HealthImaging's identifiers."""

    def find(dataset, number=1):
        # Other tests may have imported further series of the study.
        found = next(
            each
            for each in source.search_study(SERVED, dataset.StudyInstanceUID, TimeBudget(10))
            if each.series_instance_uid == dataset.SeriesInstanceUID and each.is_primary
        )
        image_set = ImageSetRef(SERVED, found.image_set_id)
        frame_index.build(image_set, found.version_id, TimeBudget(10))
        lines = map(json.loads, frame_index.stored(image_set, found.version_id, TimeBudget(10)).splitlines())
        (line,) = (
            each for each in lines if (each["sopInstanceUID"], each["frameNumber"]) == (dataset.SOPInstanceUID, number)
        )
        return {"imageSetId": found.image_set_id, "imageFrameId": line["imageFrameId"]}

    return find


def new_dataset(pixels, **attributes):
    """A dataset with these pixels; the emulator stores them in HTJ2K."""
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.preamble = bytes(128)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.PatientID, dataset.Modality = "PATIENT-OF-THE-TEST", "OT"
    dataset.set_pixel_data(np.asarray(pixels), "MONOCHROME2", attributes.pop("bits", 16))
    for name, value in attributes.items():
        setattr(dataset, name, value)
    return dataset


def opened(answer):
    assert answer.status == 200, answer.body
    return Image.open(io.BytesIO(answer.body))


def pixels(answer):
    return np.asarray(opened(answer)).astype(int)


def problem(answer):
    return answer.status, answer.json()["type"].removeprefix("urn:framegate:problem:")


# Formats, sizes and windows


def test_instance_is_a_jpeg_of_its_own_size_by_default(web, ct):
    answer = web.get(OF_INSTANCE, ct)
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert (opened(answer).format, opened(answer).size) == ("JPEG", (128, 128))


@pytest.mark.parametrize("media_type", ["image/jpeg", "image/png", "image/gif", "image/webp"])
@pytest.mark.parametrize("where", ["header", "query"])
def test_client_chooses_the_media_type(web, ct, media_type, where):
    headers, query = ({"Accept": media_type}, "") if where == "header" else (None, f"accept={media_type}")
    answer = web.get(OF_INSTANCE, ct, headers=headers, query=query)
    assert answer.headers["Content-Type"] == media_type
    assert opened(answer).get_format_mimetype() == media_type


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*", "image/jpeg"),
        ("image/*", "image/jpeg"),
        ("image/png;q=0.5, image/gif", "image/gif"),
        ("image/avif, image/webp, image/*, */*;q=0.8", "image/webp"),
    ],
)
def test_accept_header_decides(web, ct, accept, media_type):
    assert web.get(OF_INSTANCE, ct, headers={"Accept": accept}).headers["Content-Type"] == media_type


def test_accept_parameter_precedes_the_header_as_ohif_sends_both(web, ct):
    accept = 'multipart/related; type="application/octet-stream"'
    answer = web.get("retrieveSeriesThumbnail", ct, query="accept=image/jpeg", headers={"Accept": accept})
    assert answer.headers["Content-Type"] == "image/jpeg"


def test_client_that_accepts_no_picture_is_told_which_there_are(web, ct):
    answer = web.get(OF_INSTANCE, ct, headers={"Accept": "application/dicom"})
    assert problem(answer) == (406, "not-acceptable")
    assert "image/jpeg, image/png, image/gif, image/webp" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("window", "shown"),
    [
        ("40,400,linear", lambda values: (values - 39.5) / 399 + 0.5),
        ("40,400", lambda values: (values - 39.5) / 399 + 0.5),
        ("40,400,linear-exact", lambda values: (values - 40) / 400 + 0.5),
        ("40,400,sigmoid", lambda values: 1 / (1 + np.exp(-4 * (values - 40) / 400))),
    ],
)
def test_png_has_the_pixels_of_the_window(web, ct, window, shown):
    values = ct.pixel_array * float(ct.RescaleSlope) + float(ct.RescaleIntercept)
    found = pixels(web.get(OF_INSTANCE, ct, query=f"accept=image/png&window={window}"))
    assert np.abs(found - np.clip(shown(values), 0, 1) * 255).max() <= 1


def test_image_without_a_window_is_drawn_from_its_least_to_its_greatest_stored_value(web, add_datasets):
    stored = image(600, 900)
    stored[5, 5], stored[6, 6] = 0, 60_000
    dataset = new_dataset(stored)
    add_datasets(dataset)
    found = pixels(web.get("retrieveInstanceThumbnail", dataset, query="accept=image/png&viewport=90,90"))
    # A reduced resolution has neither extreme.
    expected = stored.reshape(60, 10, 90, 10).mean((1, 3)) / 60_000 * 255
    assert np.abs(found - expected).mean() < 1
    assert found.max() < 30


def test_lower_quality_takes_fewer_bytes(web, ct):
    sizes = [len(web.get(OF_INSTANCE, ct, query=f"quality={each}").body) for each in (10, 85, 100)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[2] / 3


@pytest.mark.parametrize(
    ("viewport", "size"),
    [("64,64", (64, 64)), ("64,200", (64, 64)), ("1000,1000", (128, 128)), ("40,20", (20, 20))],
)
def test_picture_fits_into_the_viewport_and_is_not_enlarged(web, ct, viewport, size):
    assert opened(web.get(OF_INSTANCE, ct, query=f"viewport={viewport}")).size == size


def test_region_is_cut_out_enlarged_and_flipped(web, ct):
    whole = pixels(web.get(OF_INSTANCE, ct, query="accept=image/png"))
    region = pixels(web.get(OF_INSTANCE, ct, query="accept=image/png&viewport=32,16,10,20,32,16"))
    assert np.abs(region - whole[20:36, 10:42]).max() == 0
    flipped = pixels(web.get(OF_INSTANCE, ct, query="accept=image/png&viewport=32,16,10,20,-32,-16"))
    assert np.abs(flipped - region[::-1, ::-1]).max() == 0
    assert opened(web.get(OF_INSTANCE, ct, query="viewport=320,160,10,20,32,16")).size == (320, 160)


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("viewport=0,1", "viewport"),
        ("viewport=", "viewport"),
        ("quality=101", "quality"),
        ("window=a,b", "window"),
        ("annotation=patient", "annotation"),
        ("iccprofile=yes", "iccprofile"),
        ("iccprofile=srgb", "iccprofile"),
        ("viewport=9999,9999,0,0,1,1", "viewport"),
    ],
)
def test_invalid_parameter_is_named(web, ct, query, named):
    answer = web.get(OF_INSTANCE, ct, query=query)
    assert problem(answer) == (400, "invalid-request")
    assert answer.json()["detail"].startswith(named)


def test_picture_without_a_colour_profile_may_be_asked_for(web, ct):
    assert web.get(OF_INSTANCE, ct, query="iccprofile=no").status == 200


def test_thumbnail_has_at_most_256_pixels_by_default_and_no_region(web, add_datasets):
    dataset = new_dataset(image(300, 600))
    add_datasets(dataset)
    assert opened(web.get("retrieveSeriesThumbnail", dataset)).size == (256, 128)
    assert problem(web.get("retrieveSeriesThumbnail", dataset, query="viewport=9,9,0,0,9,9"))[0] == 400


def test_colours_come_out_as_they_are(web, dicom_samples):
    dataset = dicom_samples["SC_rgb_rle_2frame.dcm"]
    found = pixels(web.get(OF_FRAME, dataset, frameList="2", query="accept=image/png"))
    assert np.abs(found - dataset.pixel_array[1]).max() <= 1


# What is read


def test_only_the_resolution_that_is_drawn_is_read(web, add_datasets, log_lines):
    y, x = np.mgrid[:1_024, :1_536]
    smooth = 2_000 + 1_500 * np.sin(x / 137) * np.cos(y / 153)
    dataset = new_dataset((smooth + np.random.default_rng(7).normal(0, 20, x.shape)).astype(np.uint16))
    add_datasets(dataset)
    whole = web.get(OF_INSTANCE, dataset, query="accept=image/png")
    small = web.get(OF_INSTANCE, dataset, query="accept=image/png&viewport=192,192")
    whole_line, small_line = (each for each in log_lines() if each.get("delivery") == "rendered")
    assert "resolution" not in whole_line
    assert small_line["resolution"] == 2
    assert small_line["upstream_bytes"] < whole_line["upstream_bytes"] / 8
    assert opened(small).size == (192, 128)
    shrunk = np.asarray(opened(whole).resize((192, 128), Image.Resampling.BOX)).astype(int)
    assert np.abs(pixels(small) - shrunk).mean() < 2


def test_metadata_is_read_once_for_all_pictures_of_a_version(
    web, add_datasets, health_imaging, new_picture_api, process
):
    dataset = new_dataset(image(64, 64))
    add_datasets(dataset)
    assert web.get(OF_INSTANCE, dataset).status == 200
    assert web.calls("GetImageSetMetadata", "GetDICOMSeriesMetadata") == [
        "GetImageSetMetadata",
        "GetDICOMSeriesMetadata",
    ]
    health_imaging.calls.clear()
    another_function = DicomWeb(Client(new_picture_api(process)), health_imaging)
    for each in (web, another_function):
        assert each.get("retrieveInstanceThumbnail", dataset).status == 200
    assert web.calls(*READS) == ["GetImageFrame"] * 2


@pytest.mark.parametrize("operation", [RENDERED, THUMBNAIL])
def test_frame_by_id_is_the_frame_by_uid(web, multiframe, by_id, operation):
    by_uid = {RENDERED: OF_FRAME, THUMBNAIL: "retrieveFramesThumbnail"}[operation]
    expected = web.get(by_uid, multiframe, frameList="7")
    answer = web.get(operation, **by_id(multiframe, 7))
    assert (answer.body, answer.headers["ETag"]) == (expected.body, expected.headers["ETag"])


def test_deleted_image_set_loses_its_indexes_and_large_pictures(web, add_datasets, objects, s3, monkeypatch):
    monkeypatch.setattr(rendered, "INLINE_LIMIT", 100)
    dataset = new_dataset(image(64, 64))
    (image_set,) = add_datasets(dataset)
    assert web.get(OF_INSTANCE, dataset).status == 303
    image_set_id = image_set.id

    def keys():
        found = s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])
        return {each["Key"].partition("/")[0] for each in found if image_set_id in each["Key"]}

    assert keys() == {"indexes", "bodies"}
    ImageSetRemover(objects).remove(ImageSetRef(SERVED, image_set_id), TimeBudget(10))
    assert keys() == set()


# Which frame


def frame_ids(multiframe, by_id, *numbers):
    return [by_id(multiframe, each)["imageFrameId"] for each in numbers]


@pytest.mark.parametrize(
    ("operation", "number"),
    [
        (OF_INSTANCE, 1),
        ("retrieveInstanceThumbnail", 5),
        ("retrieveSeriesThumbnail", 5),
        ("retrieveStudyThumbnail", 5),
    ],
)
def test_instance_shows_its_first_frame_and_thumbnails_the_middle_one(web, multiframe, by_id, operation, number):
    assert multiframe.NumberOfFrames == 10
    (expected,) = frame_ids(multiframe, by_id, number)
    assert web.get(operation, multiframe).headers["ETag"].strip('"').partition(".")[0] == expected


def test_series_thumbnail_is_the_middle_instance_by_number(web, add_datasets):
    first = new_dataset(np.full((8, 8), 1, np.uint8), bits=8, InstanceNumber=30, WindowCenter=127.5, WindowWidth=256)
    others = []
    for number, value in ((10, 100), (20, 200)):
        other = new_dataset(np.full((8, 8), value, np.uint8), bits=8, WindowCenter=127.5, WindowWidth=256)
        other.StudyInstanceUID, other.SeriesInstanceUID = first.StudyInstanceUID, first.SeriesInstanceUID
        other.InstanceNumber = number
        others.append(other)
    add_datasets(first, *others)
    assert pixels(web.get("retrieveSeriesThumbnail", first, query="accept=image/png")).max() == 200


def test_study_thumbnail_skips_series_without_images(web, add_datasets):
    report, picture = new_dataset(np.zeros((4, 4), np.uint8), bits=8), new_dataset(image(32, 48))
    del report.PixelData, report.Rows, report.Columns
    report.StudyInstanceUID = picture.StudyInstanceUID
    report.SeriesNumber, picture.SeriesNumber = 1, 2
    add_datasets(report, picture)
    assert opened(web.get("retrieveStudyThumbnail", picture)).size == (48, 32)
    assert problem(web.get("retrieveSeriesThumbnail", report)) == (404, "instance-not-found")
    assert problem(web.get(OF_INSTANCE, report)) == (404, "instance-not-found")


@pytest.mark.parametrize("operation", [each for each in OPERATIONS if each.startswith("retrieve")])
def test_unknown_uid_is_not_found(web, ct, operation):
    path = {"studyInstanceUID": UNKNOWN_UID, "frameList": "1"}
    assert problem(web.get(operation, ct, **path)) == (404, "instance-not-found")


@pytest.mark.parametrize(("frames", "status"), [("2", 404), ("0", 400), ("1,2", 400), ("a", 400)])
def test_other_frame_numbers_are_refused(web, ct, frames, status):
    assert web.get(OF_FRAME, ct, frameList=frames).status == status


def test_unknown_frame_id_is_not_found(web, ct, by_id):
    answer = web.get(RENDERED, **{**by_id(ct), "imageFrameId": "0" * 32})
    assert problem(answer) == (404, "frame-not-found")
    answer = web.get(RENDERED, imageSetId="0" * 32, imageFrameId="0" * 32)
    assert problem(answer) == (404, "image-set-not-found")
    assert problem(web.get(RENDERED, imageSetId="x", imageFrameId="0" * 32)) == (400, "invalid-identifier")


def test_video_is_refused_by_naming_its_media_type(web, health_imaging):
    frame = health_imaging.add_frame(SERVED, b"\x00\x00\x00\x20ftyp", "video/mp4")
    answer = web.get(RENDERED, imageSetId=frame.image_set_id, imageFrameId=frame.image_frame_id)
    assert problem(answer) == (406, "not-acceptable")
    assert "video/mp4" in answer.json()["detail"]
    assert web.calls("GetImageFrame") == []


# Frames that cannot be drawn


def spoiled(health_imaging, path, content, content_type="image/jph"):
    """Put other bytes in place of a frame."""
    image_set = health_imaging.stores.image_set(SERVED, path["imageSetId"])
    image_set.frames[path["imageFrameId"]] = Frame(FrameContent(content), content_type)


@pytest.mark.parametrize("content", [b"", b"\xff", b"not a codestream" * 100, bytes(10_000)])
def test_damaged_frame_is_a_problem_and_the_next_one_is_drawn(web, ct, add_datasets, by_id, health_imaging, content):
    dataset = new_dataset(image(64, 64))
    add_datasets(dataset)
    path = by_id(dataset)
    spoiled(health_imaging, path, content)
    answer = web.get(RENDERED, **path)
    assert problem(answer) == (406, "frame-not-drawable")
    assert "Retrieve the frame instead." in answer.json()["detail"]
    assert web.get(OF_INSTANCE, ct).status == 200


def test_frame_that_is_larger_than_its_attributes_say_is_not_decoded(web, add_datasets, by_id, health_imaging):
    from tests.unit.htj2k_frames import encoded

    dataset = new_dataset(image(64, 64))
    add_datasets(dataset)
    path = by_id(dataset)
    spoiled(health_imaging, path, encoded(image(128, 128)))
    answer = web.get(RENDERED, **path)
    assert problem(answer) == (406, "frame-not-drawable")
    assert "another size" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("syntax", "content"),
    [
        ("1.2.840.10008.1.2.4.50", imagecodecs.jpeg8_encode(np.zeros((64, 128), np.uint8))),
        ("1.2.840.10008.1.2.4.70", imagecodecs.ljpeg_encode(np.zeros((64, 128), np.uint8))),
        ("1.2.840.10008.1.2.4.80", imagecodecs.jpegls_encode(np.zeros((64, 128), np.uint8))),
        ("1.2.840.10008.1.2.4.112", imagecodecs.jpegxl_encode(np.zeros((64, 128), np.uint8))),
        ("1.2.840.10008.1.2.4.112", imagecodecs.jpegxl_encode(np.zeros((20_000, 20_000), np.uint8), effort=1)),
    ],
    ids=["JPEG", "lossless JPEG", "JPEG-LS", "JPEG XL", "JPEG XL of 400 million pixels"],
)
def test_frame_of_another_declared_size_is_not_decoded(process, syntax, content):
    numbers = {"00280002": 1, "00280010": 64, "00280011": 64, "00280100": 8, "00280103": 0}
    attributes = {tag: {"Value": [number]} for tag, number in numbers.items()}
    started = time.monotonic()
    drawing = process.draw(content, DrawTask(syntax, attributes, None, PictureRequest(), 64), 15)
    assert (drawing.status.name, drawing.reason) == ("DAMAGED", "The frame has another size than its attributes say")
    assert time.monotonic() - started < 5


def test_first_picture_of_an_animation_is_the_frame(process):
    still, moved = np.zeros((64, 64), np.uint8), np.full((64, 64), 200, np.uint8)
    content = imagecodecs.jpegxl_encode(np.stack([moved, *[still] * 9]), lossless=True)
    numbers = {"00280002": 1, "00280010": 64, "00280011": 64, "00280100": 8, "00280103": 0}
    attributes = {tag: {"Value": [number]} for tag, number in numbers.items()}
    attributes |= {"00281050": {"Value": [127.5]}, "00281051": {"Value": [256]}}
    task = DrawTask("1.2.840.10008.1.2.4.112", attributes, None, PictureRequest("image/png"), 64)
    drawing = process.draw(content, task, 15)
    assert np.asarray(Image.open(io.BytesIO(drawing.picture))).min() == 200


@pytest.mark.parametrize(
    ("shape", "attributes", "query", "fits"),
    [
        ((2, 17_000), {}, "accept=image/webp", False),
        ((2, 17_000), {}, "accept=image/webp&viewport=256,256", True),
        ((2, 17_000), {}, "accept=image/png", True),
        ((1_000, 1_000), {"PixelAspectRatio": [100, 1]}, "accept=image/jpeg", False),
        ((1_000, 1_000), {"PixelAspectRatio": [100, 1]}, "accept=image/jpeg&viewport=64,64", True),
        ((8, 8), {}, "accept=image/webp&viewport=16384,1,1,,,", True),
    ],
)
def test_picture_that_its_format_does_not_allow_is_refused_before_the_frame_is_read(
    web, add_datasets, shape, attributes, query, fits
):
    dataset = new_dataset(np.zeros(shape, np.uint8), bits=8, **attributes)
    add_datasets(dataset)
    answer = web.get(OF_INSTANCE, dataset, query=query)
    if fits:
        assert opened(answer).format
    else:
        assert problem(answer) == (406, "frame-not-drawable")
        assert "request a smaller viewport" in answer.json()["detail"]
        assert web.calls("GetImageFrame") == []


def test_thumbnail_of_a_palette_has_no_colours_between_those_of_the_palette(web, add_datasets):
    stored = np.zeros((512, 512), np.uint8)
    stored[::2, ::3], stored[100:200, 100:200] = 255, 255
    dataset = new_dataset(stored, bits=8)
    dataset.PhotometricInterpretation = "PALETTE COLOR"
    # Numbers 0 and 255 are black, and those between them are red.
    for colour, entries in (("Red", [0, *[255] * 254, 0]), ("Green", [0] * 256), ("Blue", [0] * 256)):
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 8])
        setattr(dataset, f"{colour}PaletteColorLookupTableData", bytes(entries))
    add_datasets(dataset)
    assert pixels(web.get("retrieveInstanceThumbnail", dataset, query="accept=image/png")).max() == 0


@pytest.mark.parametrize(
    ("shape", "viewport", "size"),
    [
        ((300, 600), "64,64", (64, 32)),
        ((600, 300), "64,64", (32, 64)),
        ((600, 300), "64,32", (16, 32)),
        ((1, 600), "64,64", (64, 1)),
        ((600, 1), "64,64", (1, 64)),
    ],
)
def test_thumbnail_keeps_the_proportions_of_its_frame(web, add_datasets, shape, viewport, size):
    dataset = new_dataset(image(*shape))
    add_datasets(dataset)
    assert opened(web.get("retrieveInstanceThumbnail", dataset, query=f"viewport={viewport}")).size == size


@pytest.mark.parametrize("window", ["40,0", "40,-1", "nan,1", "1,nan", "1e300,1", "1,1e300", "inf,1", "1,1e-400"])
def test_absurd_window_is_refused(web, ct, window):
    assert problem(web.get(OF_INSTANCE, ct, query=f"window={window}")) == (400, "invalid-request")


@pytest.mark.parametrize(("center", "width"), [(40, 0), (40, -1), (1e300, 1), (-1e300, 1e300), (0, 1e-300)])
def test_absurd_window_of_the_instance_is_drawn_without_failing(web, add_datasets, center, width):
    dataset = new_dataset(image(64, 64), WindowCenter=f"{center:.6g}", WindowWidth=f"{width:.6g}")
    add_datasets(dataset)
    assert opened(web.get(OF_INSTANCE, dataset)).size == (64, 64)


def test_failure_of_healthimaging_is_reported_as_on_frames(web, add_datasets, health_imaging):
    dataset = new_dataset(image(64, 64))
    add_datasets(dataset)
    health_imaging.faults.arm(Fault(error="ThrottlingException"))
    answer = web.get(OF_INSTANCE, dataset)
    assert problem(answer) == (429, "throttled")
    assert answer.headers["Retry-After"]


# Caching


def test_picture_that_the_client_holds_is_not_drawn_again(web, ct):
    tag = web.get(OF_INSTANCE, ct).headers["ETag"]
    web.emulator.calls.clear()
    answer = web.get(OF_INSTANCE, ct, headers={"If-None-Match": tag})
    assert (answer.status, answer.body, answer.headers["ETag"]) == (304, b"", tag)
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert web.calls("GetImageFrame") == []
    assert web.get(OF_INSTANCE, ct, headers={"If-None-Match": "*"}).status == 304
    assert web.get(OF_INSTANCE, ct, headers={"If-Match": '"other"'}).status == 412
    assert web.get(OF_INSTANCE, ct, headers={"If-Match": tag}).status == 200


def test_other_pictures_of_a_frame_have_other_tags(web, ct):
    queries = ["", "quality=50", "accept=image/png", "viewport=64,64", "viewport=64,64,1,,,", "window=1,2"]
    queries += ["window=1,2,sigmoid", "viewport=64,65"]
    assert len({web.get(OF_INSTANCE, ct, query=each).headers["ETag"] for each in queries}) == len(queries)


@pytest.mark.parametrize(
    ("caching", "expected"),
    [
        ("revalidate", "private, no-cache"),
        ("immutable", "private, max-age=60, must-revalidate"),
        ("no-store", "no-store"),
    ],
)
def test_cache_control_follows_frame_caching(new_picture_api, process, settings, health_imaging, ct, caching, expected):
    web = DicomWeb(Client(new_picture_api(process, settings=replace(settings, frame_caching=caching))), health_imaging)
    assert web.get(OF_INSTANCE, ct).headers["Cache-Control"] == expected


def test_head_has_the_headers_of_get_and_no_body(web, ct):
    get, head = (web.get(OF_INSTANCE, ct, method=method) for method in ("GET", "HEAD"))
    assert (head.status, head.body) == (200, b"")
    assert head.headers == {**get.headers, "Content-Length": str(len(get.body))}


def test_picture_above_the_inline_limit_is_redirected_and_drawn_once(web, ct, health_imaging, monkeypatch):
    expected = web.get(OF_INSTANCE, ct, query="accept=image/png").body
    monkeypatch.setattr(rendered, "INLINE_LIMIT", 100)
    first = web.get(OF_INSTANCE, ct, query="accept=image/png")
    health_imaging.calls.clear()
    second = web.get(OF_INSTANCE, ct, query="accept=image/png")
    assert web.calls("GetImageFrame") == []
    for answer in (first, second):
        assert (answer.status, answer.headers["Cache-Control"]) == (303, "no-store")
        assert "/bodies/" in answer.headers["Location"]
    assert expected


# Access and records


@pytest.mark.parametrize("operation", OPERATIONS)
def test_holder_of_a_token_sees_granted_images_only(
    new_picture_api, settings, process, health_imaging, dicom_samples, ct, by_id, operation
):
    grant = Grant(
        int(time.time()) + 60,
        None,
        Principal("somebody", "https://login.example.org"),
        None,
        frozenset([ct.StudyInstanceUID]),
    )
    api = new_picture_api(process, settings=replace(settings, auth="jwt"))
    web = DicomWeb(Client(api, authorizer=caller_context(grant, None)), health_imaging)
    other = dicom_samples["MR_small.dcm"]
    assert web.get(operation, ct, frameList="1", **by_id(ct)).status == 200
    path = by_id(other)
    health_imaging.calls.clear()
    answer = web.get(operation, other, frameList="1", **path)
    assert problem(answer) == (403, "image-set-not-granted")
    assert web.calls("GetImageFrame") == []


@pytest.mark.parametrize("operation", OPERATIONS)
def test_other_data_store_is_not_served(web, ct, by_id, operation):
    answer = web.get(operation, ct, frameList="1", **{**by_id(ct), "datastoreId": "0" * 32})
    assert problem(answer) == (403, "datastore-not-served")


def test_read_is_on_record_as_rendered_before_and_after(web, ct, by_id, capsys):
    path = by_id(ct)
    answer = web.get("retrieveSeriesThumbnail", ct)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith('{"audit"')]
    assert [line["audit"] for line in lines] == ["request", "answer"]
    for line in lines:
        assert line["delivery"] == "rendered"
        assert {name: line[name] for name in path} == path
    assert (lines[1]["status"], lines[1]["bytes"]) == (200, len(answer.body))


def test_picture_that_is_not_modified_is_on_record(web, ct, capsys):
    tag = web.get(OF_INSTANCE, ct).headers["ETag"]
    capsys.readouterr()
    web.get(OF_INSTANCE, ct, headers={"If-None-Match": tag})
    (line,) = (json.loads(each) for each in capsys.readouterr().out.splitlines() if each.startswith('{"audit"'))
    assert (line["audit"], line["delivery"], line["bytes"], line["status"]) == ("answer", "not-modified", 0, 304)


def test_log_lines_and_keys_contain_no_uid_or_name(web, ct, log_lines, s3):
    web.get(OF_INSTANCE, ct)
    web.get(OF_INSTANCE, ct, query="window=a,b")
    web.get(OF_FRAME, ct, frameList="9")
    keys = [each["Key"] for each in s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
    text = json.dumps(log_lines()) + json.dumps(keys)
    for secret in (ct.StudyInstanceUID, ct.SeriesInstanceUID, ct.SOPInstanceUID, str(ct.PatientName)):
        assert secret not in text


def test_browser_may_read_pictures_of_an_allowed_origin(web, ct):
    headers = web.get(OF_INSTANCE, ct, headers={"Origin": "https://viewer.example"}).headers
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert "ETag" in headers["Access-Control-Expose-Headers"]
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_other_methods_are_405(web, ct, by_id, operation):
    answer = web.get(operation, ct, method="DELETE", frameList="1", **by_id(ct))
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
