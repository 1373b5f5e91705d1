"""DICOM files that show what viewers do with a series of large images."""

from __future__ import annotations

import numpy as np
import pydicom
from pydicom.data import get_testdata_file
from pydicom.uid import SecondaryCaptureImageStorage, generate_uid

SERIES = ("large-1.dcm", "large-2.dcm", "large-3.dcm")
"""Three images of one series, of which OHIF shows the first."""


def write_series(folder):
    """Write images of one series, whose frames are several times larger than OHIF's chunks of 64 KiB."""
    study, series = generate_uid(), generate_uid()
    # The middle one is the same by number and by UID.
    uids = sorted(generate_uid() for _ in SERIES)
    for number, (name, uid) in enumerate(zip(SERIES, uids, strict=True), start=1):
        dataset = pydicom.dcmread(get_testdata_file("RG1_UNCR.dcm", download=False))
        pixels = np.roll(dataset.pixel_array[:800, :800], 100 * number, axis=0)
        dataset.Rows, dataset.Columns = pixels.shape
        dataset.PixelData = pixels.tobytes()
        dataset.PixelSpacing = [0.2, 0.2]
        # OHIF shows each image of a radiography series by itself.
        dataset.Modality = "OT"
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
        dataset.InstanceNumber = number
        dataset.PatientName, dataset.PatientID = "Large^Images", "LARGE"
        dataset.save_as(folder / name)
