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


SLICES, SLICE_PIXELS = 10, 256
"""Number of slices of the generated series, and their width and height."""


def write_series(folder: Path) -> np.ndarray:
    """Write a series of CT slices to a folder, because no free sample is a series of a useful size.

    The slices show a phantom of a chest, with the header of a real slice.

    Returns
    -------
    numpy.ndarray
        The Hounsfield units of the slices.
    """
    dataset = pydicom.dcmread(_path_of("CT_small.dcm"))
    dataset.SeriesInstanceUID, dataset.StudyInstanceUID = generate_uid(), generate_uid()
    dataset.PatientID = "phantom"
    dataset.Rows = dataset.Columns = SLICE_PIXELS
    dataset.SliceThickness, dataset.PixelSpacing = 2.5, [1.5, 1.5]
    units = np.stack([_phantom(number / (SLICES - 1)) for number in range(SLICES)])
    for number, pixels in enumerate(units, start=1):
        dataset.InstanceNumber = number
        dataset.ImagePositionPatient = [-192.0, -192.0, 2.5 * number]
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.PixelData = (pixels - int(dataset.RescaleIntercept)).astype("<i2").tobytes()
        dataset.save_as(folder / f"phantom-{number:02d}.dcm")
    return units


def _phantom(height: float) -> np.ndarray:
    """Draw a slice of the phantom in Hounsfield units; `height` goes from 0 to 1."""
    y, x = np.mgrid[-1 : 1 : SLICE_PIXELS * 1j, -1 : 1 : SLICE_PIXELS * 1j]
    noise = np.random.default_rng(int(height * 1000)).normal(0, 12, x.shape)
    units = np.full(x.shape, -1000.0)

    def ellipse(center_x: float, center_y: float, radius_x: float, radius_y: float, value: float) -> None:
        units[((x - center_x) / radius_x) ** 2 + ((y - center_y) / radius_y) ** 2 < 1] = value

    lung = 0.15 + 0.2 * np.sin(np.pi * (0.1 + 0.8 * height))
    ellipse(0, 0, 0.85, 0.6, 40)
    ellipse(-0.4, -0.02, lung, 1.3 * lung, -820)
    ellipse(0.4, -0.02, lung, 1.3 * lung, -820)
    ellipse(0.12, -0.1, 0.32 - 0.3 * height, 0.27 - 0.25 * height, 55)
    ellipse(0, 0.36, 0.12, 0.12, 600)
    ellipse(0.45, 0.1 - 0.2 * height, 0.05, 0.05, 30)
    return np.asarray((units + noise).round(), np.float32)
