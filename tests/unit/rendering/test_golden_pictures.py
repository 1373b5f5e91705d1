"""Pictures of every sample file, through the emulator and the routes, equal those of pydicom and of DCMTK.

pydicom's ``apply_modality_lut``, ``apply_voi_lut`` and ``apply_color_lut`` are one independent implementation, and
DCMTK's ``dcmj2pnm`` another. Samples of DCMTK's pixels are kept in ``dcmtk.json``, so that the test runs without it:
``python -m tests.unit.rendering.dcmtk`` writes them.
"""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from tests.unit.conftest import SERVED, Client
from tests.unit.dicomweb import DicomWeb
from tests.unit.rendering.pixels import expected_pixels, stored_pixels
from tests.unit.rendering.samples import candidates, sampled

DCMTK = json.loads(Path(__file__).with_name("dcmtk.json").read_text())
OF_INSTANCE = "retrieveInstanceRendered"

WITHOUT_DCMTK = {
    "eCT_Supplemental.dcm": "dcmj2pnm does not apply the window of functional groups",
    "liver.dcm": "DCMTK reads a segmentation of one bit as if it had two grey levels out of 256",
}
"""Files whose pixels are compared with pydicom's alone."""

# pydicom warns about some of the files, which do not conform to DICOM.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.xdist_group("golden pictures")]


@pytest.fixture
def picture_of(new_picture_api, process, health_imaging):
    """Returns the picture of the first frame of a file as PNG, as an array; None if it is not imported."""
    web = DicomWeb(Client(new_picture_api(process)), health_imaging)

    def draw(path, dataset):
        if not health_imaging.import_files(SERVED, [path]):
            return None
        answer = web.get(OF_INSTANCE, dataset, query="accept=image/png")
        assert answer.status == 200, answer.body
        return np.asarray(Image.open(io.BytesIO(answer.body))).astype(float)

    return draw


@pytest.mark.parametrize("path", candidates(), ids=lambda path: path.name)
def test_picture_differs_by_at_most_one_level(path, picture_of):
    dataset = pydicom.dcmread(path)
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)*", dataset.SOPInstanceUID):
        pytest.skip("its UID cannot be part of a path")
    found = picture_of(path, dataset)
    if found is None:
        pytest.skip("HealthImaging does not import the file")
    try:
        expected = expected_pixels(dataset, stored_pixels(dataset))
    except Exception as error:
        expected = None
        reason = str(error)
    if expected is not None and found.shape != expected.shape:
        # Pixels that are not square are stretched, which neither pydicom nor DCMTK does here.
        rows, columns = dataset.PixelSpacing if "PixelSpacing" in dataset else dataset.PixelAspectRatio
        assert found.shape[1] / found.shape[0] == pytest.approx(dataset.Columns / dataset.Rows * columns / rows, 0.02)
        return
    if expected is not None:
        assert np.abs(found - expected).max() <= 1
    if path.name in DCMTK and path.name not in WITHOUT_DCMTK:
        assert list(found.shape[:2]) == DCMTK[path.name]["shape"][:2]
        assert np.abs(sampled(found) - np.array(DCMTK[path.name]["sample"])).max() <= 1
    elif expected is None:
        pytest.skip(f"neither pydicom nor DCMTK draws the file: {reason}")
