"""Frames of imported DICOM files, compared with HealthImaging's answers and with the files."""

from __future__ import annotations

import numpy as np
import pydicom
import requests
from imagecodecs import htj2k_decode

from tests.e2e.conftest import CONTENT_TYPES


def from_health_imaging(health_imaging, frame):
    answer = health_imaging.get_image_frame(
        datastoreId=frame.datastore_id,
        imageSetId=frame.image_set_id,
        imageFrameInformation={"imageFrameId": frame.image_frame_id},
    )
    return answer["imageFrameBlob"].read(), answer["contentType"]


def test_every_frame_is_byte_identical_to_that_of_healthimaging(imported, api, health_imaging):
    content_types = set()
    for frame in imported.frames:
        answer = api.get(frame)
        if answer.status_code == 303:
            answer = requests.get(answer.headers["Location"], timeout=60)
        content, media_type = from_health_imaging(health_imaging, frame)
        assert (answer.content, answer.headers["Content-Type"]) == (content, CONTENT_TYPES[media_type])
        content_types.add(answer.headers["Content-Type"])
    assert content_types == set(CONTENT_TYPES.values())


def test_frames_decode_to_the_pixels_of_the_files(imported, api):
    for name in ("CT_small.dcm", "MR2_UNCR.dcm", "emri_small.dcm"):
        dataset = pydicom.dcmread(imported.folder / name)
        frames = [frame for frame in imported.frames if frame.sop_instance_uid == dataset.SOPInstanceUID]
        pixels = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
        assert len(frames) == len(pixels)
        for frame, expected in zip(frames, pixels, strict=True):
            np.testing.assert_array_equal(htj2k_decode(api.get(frame).content), expected)
