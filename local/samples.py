"""Provides the DICOM files that the demo imports: real files from pydicom and pydicom-data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from pydicom.data import get_testdata_file
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

SAMPLES = {
    "693_UNCR.dcm": "CT",
    "CT_small.dcm": "CT",
    "eCT_Supplemental.dcm": "CT",
    "MR_small.dcm": "MR",
    "MR2_UNCR.dcm": "MR",
    "emri_small.dcm": "MR",
    "RG1_UNCR.dcm": "radiograph",
    "RG3_UNCR.dcm": "radiograph",
    "examples_rgb_color.dcm": "ultrasound",
    "US1_J2KI.dcm": "ultrasound",
    "color3d_jpeg_baseline.dcm": "ultrasound",
    "liver_1frame.dcm": "segmentation",
}

MAMMOGRAM = "mammogram-sized.dcm"

RADIOGRAPH_SPACING_MM = 0.2
"""Distance between the pixels of a computed radiograph, about 43 cm on 2,000 pixels."""


def write_samples(folder: Path) -> dict[str, str]:
    """Write the sample files to a folder.

    Returns
    -------
    dict
        A short description of each file, by file name.
    """
    for name in SAMPLES:
        (folder / name).write_bytes(_path_of(name).read_bytes())
    radiograph = _radiograph()
    radiograph.save_as(folder / _RADIOGRAPH)
    _write_mammogram_sized(radiograph, folder / MAMMOGRAM)
    return SAMPLES | {MAMMOGRAM: "radiographs"}


_RADIOGRAPH = "RG1_UNCR.dcm"


def _radiograph() -> pydicom.Dataset:
    """Read a radiograph, and correct its pixel spacing: with 0, viewers show a black image."""
    dataset = pydicom.dcmread(_path_of(_RADIOGRAPH))
    dataset.PixelSpacing = [RADIOGRAPH_SPACING_MM] * 2
    return dataset


def _path_of(name: str) -> Path:
    path = get_testdata_file(name, download=False)
    if path is None:
        raise FileNotFoundError(f"{name} is in neither pydicom nor pydicom-data; run: make setup")
    return Path(str(path))


def _write_mammogram_sized(dataset: pydicom.Dataset, path: Path) -> None:
    """Tile a radiograph to the size of a mammogram, because no free sample has a frame above the inline limit."""
    pixels = np.tile(dataset.pixel_array, (2, 2))
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.PixelData = pixels.tobytes()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.SeriesInstanceUID = generate_uid()
    dataset.save_as(path)
