"""The sample files of pydicom and pydicom-data with images."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path

import data_store
import numpy as np
import pydicom
import pydicom.data

FOLDERS = [Path(module.__file__).parent for module in (pydicom.data, data_store)]


@cache
def candidates():
    """The sample files with images, in one file for each instance."""
    found = {}
    with warnings.catch_warnings(action="ignore"):
        for path in sorted(path for folder in FOLDERS for path in folder.rglob("*.dcm")):
            try:
                dataset = pydicom.dcmread(path)
                if "PixelData" in dataset and dataset.file_meta.TransferSyntaxUID:
                    found.setdefault(str(dataset.SOPInstanceUID), path)
            except Exception:
                # Some files are broken on purpose.
                continue
    return tuple(found.values())


def sampled(pixels):
    """At most 16 by 16 pixels of a picture, spread evenly."""
    rows, columns = (np.linspace(0, side - 1, min(16, side)).round().astype(int) for side in pixels.shape[:2])
    return pixels[np.ix_(rows, columns)]
