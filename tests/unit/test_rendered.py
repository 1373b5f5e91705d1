"""The routes of pictures: from API Gateway's event to the picture, with frames of the emulator."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from framegate.bucket_layout import INDEX_PREFIX
from framegate.identifiers import FrameRef
from framegate.rendering.drawing_process import DrawingProcess
from framegate.rest.http import INLINE_LIMIT
from tests.unit.conftest import BUCKET, SERVED, Client
from tests.unit.dicomweb import TEMPLATES, UNKNOWN_UID, DicomWeb

RENDERED, THUMBNAIL = "getRenderedImageFrame", "getImageFrameThumbnail"
OF_INSTANCE, OF_FRAME = "retrieveInstanceRendered", "retrieveFramesRendered"


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
def ct(dicom_samples):
    return dicom_samples["CT_small.dcm"]


@pytest.fixture
def multiframe(dicom_samples):
    return dicom_samples["emri_small.dcm"]


def opened(answer):
    assert answer.status == 200, answer.body
    return Image.open(io.BytesIO(answer.body))


def pixels(answer):
    return np.asarray(opened(answer)).astype(int)


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


def test_png_has_the_pixels_of_the_windowed_image(web, ct):
    stored = ct.pixel_array * float(ct.RescaleSlope) + float(ct.RescaleIntercept)
    expected = np.clip((stored - 39.5) / 399 + 0.5, 0, 1) * 255
    found = pixels(web.get(OF_INSTANCE, ct, query="accept=image/png&window=40,400,linear"))
    assert np.abs(found - expected).max() <= 1
