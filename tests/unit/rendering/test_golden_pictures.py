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
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut

from framegate.rendering.drawing_process import DrawingProcess
from tests.unit.conftest import SERVED, Client
from tests.unit.dicomweb import DicomWeb
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


def flattened(dataset):
    """The dataset with the attributes of its first frame at the top, where pydicom looks for them."""
    groups = [dataset.get("PerFrameFunctionalGroupsSequence"), dataset.get("SharedFunctionalGroupsSequence")]
    for group in (each[0] for each in groups if each):
        for macro in ("FrameVOILUTSequence", "PixelValueTransformationSequence"):
            for element in (group.get(macro) or [[]])[0]:
                if element.tag not in dataset:
                    dataset[element.tag] = element
    return dataset


def expected_pixels(dataset):
    """The picture of the first frame that pydicom gives, in grey levels or colours from 0 to 255.

    pydicom's ``pixel_array`` has converted YBR colours to RGB with ``convert_color_space``.
    """
    stored = flattened(dataset).pixel_array
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        stored = stored[0]
    interpretation = dataset.PhotometricInterpretation
    if interpretation == "PALETTE COLOR":
        colours = apply_color_lut(stored, dataset).astype(float)
        bits = dataset.RedPaletteColorLookupTableDescriptor[2]
        return colours if colours.max() <= 255 else colours / (2**bits - 1) * 255
    if dataset.SamplesPerPixel > 1:
        return stored / (2**dataset.BitsStored - 1) * 255 if dataset.BitsStored > 8 else stored.astype(float)
    values = apply_modality_lut(stored, dataset).astype(float)
    if "WindowCenter" not in dataset and "VOILUTSequence" not in dataset:
        # pydicom leaves the values as they are, so the rule is that of DCMTK's +Wm.
        grey = (values - values.min()) / max(np.ptp(values), 1e-9) * 255
    else:
        shown = apply_voi_lut(apply_modality_lut(stored, dataset), dataset, prefer_lut=False)
        low, high = voi_range(dataset, values)
        grey = (shown - low) / (high - low) * 255
    return 255 - grey if interpretation == "MONOCHROME1" else grey


def voi_range(dataset, values):
    """The range to which ``apply_voi_lut`` maps values (pydicom, "apply_windowing")."""
    if "WindowCenter" not in dataset and "VOILUTSequence" in dataset:
        return 0, 2 ** dataset.VOILUTSequence[0].LUTDescriptor[2] - 1
    low, high = (-(2 ** (dataset.BitsStored - 1)), 2 ** (dataset.BitsStored - 1) - 1)
    if dataset.PixelRepresentation == 0:
        low, high = 0, 2**dataset.BitsStored - 1
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    if slope is not None and intercept is not None:
        low, high = low * slope + intercept, high * slope + intercept
    return float(low), float(high)


@pytest.fixture(scope="module")
def process():
    """The process that draws, shared by the tests."""
    running = DrawingProcess()
    yield running
    running.stop()


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
        expected = expected_pixels(dataset)
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
