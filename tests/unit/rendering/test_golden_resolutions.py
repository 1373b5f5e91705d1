"""Pictures that are drawn from resolutions equal those of other decoders, for every sample file.

OpenJPEG, which Pillow calls, decodes the same resolution of the stored frame. The wavelet transformation of the whole
frame (`wavelets`) is another independent implementation, and the only one for samples that Pillow does not support.
pydicom's functions then make pictures of both.
"""

from __future__ import annotations

import io
import re

import imagecodecs
import numpy as np
import pydicom
import pytest
from PIL import Image

from tests.unit.conftest import SERVED, Client
from tests.unit.dicomweb import DicomWeb
from tests.unit.rendering.pixels import expected_pixels
from tests.unit.rendering.samples import candidates
from tests.unit.rendering.wavelets import resolution

OF_INSTANCE = "retrieveInstanceRendered"
MAX_BASE_PIXELS = 64

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.xdist_group("golden pictures")]


def possible_values(dataset):
    bits = dataset.BitsStored
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if dataset.PixelRepresentation else (0, 2**bits - 1)


def by_openjpeg(content, dataset, skip):
    """The resolution that OpenJPEG decodes; None if Pillow does not support such samples."""
    if dataset.BitsAllocated > 16 or (dataset.SamplesPerPixel == 3 and dataset.BitsAllocated > 8):
        return None
    sides = np.array([dataset.Rows, dataset.Columns])
    if (sides + (1 << skip - 1) >> skip != -(-sides >> skip)).any():
        # Pillow rounds the size of a resolution down, and OpenJPEG up.
        return None
    image = Image.open(io.BytesIO(content))
    image.reduce = skip
    samples = np.asarray(image).astype(np.int64)
    if dataset.PixelRepresentation:
        # Pillow makes samples unsigned by half of their range.
        samples -= 2 ** (dataset.BitsAllocated - 1)
    return samples.clip(*possible_values(dataset))


@pytest.mark.parametrize("path", candidates(), ids=lambda path: path.name)
def test_picture_of_each_resolution_is_that_of_other_decoders(path, new_picture_api, process, health_imaging):
    dataset = pydicom.dcmread(path)
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)*", dataset.SOPInstanceUID):
        pytest.skip("its UID cannot be part of a path")
    longer = max(dataset.Rows, dataset.Columns)
    if longer <= MAX_BASE_PIXELS:
        pytest.skip("the frame has one resolution")
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        pytest.skip("frames of palette colours are decoded whole")
    image_sets = health_imaging.import_files(SERVED, [path])
    if not image_sets:
        pytest.skip("HealthImaging does not import the file")
    web = DicomWeb(Client(new_picture_api(process)), health_imaging)
    tag = web.get(OF_INSTANCE, dataset, query="viewport=1,1").headers["ETag"]
    frame_id = tag.strip('"').partition(".")[0]
    frame = next(each.frames[frame_id] for each in image_sets if frame_id in each.frames)
    if frame.content_type != "image/jph":
        pytest.skip("HealthImaging stores the frame in another transfer syntax, without resolutions")
    content = b"".join(frame.content.pieces())
    whole = imagecodecs.htj2k_decode(content)
    for skip in range(1, 6):
        rows, columns = -(-dataset.Rows >> skip), -(-dataset.Columns >> skip)
        if max(rows, columns) <= MAX_BASE_PIXELS // 2:
            break
        samples = by_openjpeg(content, dataset, skip)
        lifted = resolution(whole, skip).clip(*possible_values(dataset))
        if samples is None:
            samples = lifted
        assert (samples == lifted).all()
        answer = web.get(OF_INSTANCE, dataset, query=f"accept=image/png&viewport={columns},{rows}")
        assert answer.status == 200, answer.body
        found = np.asarray(Image.open(io.BytesIO(answer.body))).astype(float)
        expected = expected_pixels(dataset, samples, whole)
        if found.shape != expected.shape:
            # The size of an odd frame or of pixels that are not square is not that of the resolution.
            drawn = Image.fromarray(expected.round().clip(0, 255).astype(np.uint8))
            expected = np.asarray(drawn.resize(found.shape[1::-1], Image.Resampling.LANCZOS)).astype(float)
        assert np.abs(found - expected).max() <= 1
