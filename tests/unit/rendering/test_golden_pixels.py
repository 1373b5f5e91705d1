"""Drawn pixels equal those of pydicom for the real files of pydicom and pydicom-data."""

from __future__ import annotations

import warnings
from pathlib import Path

import data_store
import numpy as np
import pydicom
import pydicom.data
import pytest
from pydicom.encaps import generate_frames
from pydicom.pixels import apply_color_lut, apply_modality_lut

from framegate.rendering.decoding import decode
from framegate.rendering.drawing import draw
from framegate.rendering.presentation import Presentation
from framegate.rendering.syntaxes import SYNTAXES, UNCOMPRESSED

UNREADABLE_BY_PYDICOM = "pydicom cannot decode the file"
PIXEL_DATA = "7FE00010"
FOLDERS = [Path(module.__file__).parent for module in (pydicom.data, data_store)]


def files():
    """The paths of the sample files with pixels in a transfer syntax that Framegate draws."""
    for path in sorted(path for folder in FOLDERS for path in folder.rglob("*.dcm")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                dataset = pydicom.dcmread(path, stop_before_pixels=False)
            except Exception:
                # Some sample files are broken on purpose.
                continue
        meta = getattr(dataset, "file_meta", {})
        if "PixelData" in dataset and str(meta.get("TransferSyntaxUID", "")) in SYNTAXES:
            yield path


def first_frame(dataset, presentation):
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    if syntax not in UNCOMPRESSED:
        return next(generate_frames(dataset.PixelData, number_of_frames=int(dataset.get("NumberOfFrames", 1) or 1)))
    bits = presentation.rows * presentation.columns * presentation.samples_per_pixel * presentation.bits_allocated
    if presentation.photometric_interpretation == "YBR_FULL_422":
        bits = presentation.rows * presentation.columns * 16
    return dataset.PixelData[: (bits + 7) // 8]


def expected_pixels(dataset, stored, presentation):
    """The picture that pydicom's values and the equations of PS3.3, section C.11.2, give."""
    if presentation.photometric_interpretation == "PALETTE COLOR":
        colours = apply_color_lut(stored, dataset).astype(float)
        bits = dataset.RedPaletteColorLookupTableDescriptor[2]
        return colours if colours.max() <= 255 else colours / (2**bits - 1) * 255
    if presentation.samples_per_pixel > 1:
        return stored / (2**dataset.BitsStored - 1) * 255 if dataset.BitsStored > 8 else stored.astype(float)
    if presentation.modality_table:
        values = apply_modality_lut(stored, dataset).astype(float)
    else:
        values = stored * presentation.slope + presentation.intercept
    window, table = presentation.window, presentation.voi_table
    if window is None and table is not None:
        indices = np.clip(values - table.first, 0, len(table.entries) - 1).astype(int)
        grey = np.array(table.entries)[indices] / (2**table.bits - 1) * 255
    elif window is None:
        grey = (values - values.min()) / max(np.ptp(values), 1e-9) * 255
    elif window.function == "LINEAR":
        grey = np.clip((values - (window.center - 0.5)) / max(window.width - 1, 1e-9) + 0.5, 0, 1) * 255
    else:
        grey = np.clip((values - window.center) / window.width + 0.5, 0, 1) * 255
    return 255 - grey if presentation.photometric_interpretation == "MONOCHROME1" else grey


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", list(files()), ids=lambda path: path.name)
def test_first_frame_differs_from_pydicoms_by_at_most_one_grey_level(path):
    dataset = pydicom.dcmread(path)
    try:
        stored = dataset.pixel_array
    except Exception:
        pytest.skip(UNREADABLE_BY_PYDICOM)
    if int(dataset.get("NumberOfFrames", 1) or 1) > 1:
        stored = stored[0]
    attributes = dataset.to_json_dict(bulk_data_threshold=10**9)
    attributes.pop(PIXEL_DATA)
    presentation = Presentation.of_frame(attributes, 1)
    content = first_frame(dataset, presentation)
    drawn = draw(decode(content, str(dataset.file_meta.TransferSyntaxUID), presentation), presentation)
    expected = expected_pixels(dataset, stored, presentation)
    assert drawn.shape == expected.shape
    assert np.abs(drawn - expected).max() <= 1
