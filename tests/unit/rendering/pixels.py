"""The pictures that pydicom's functions give, which are one independent implementation."""

from __future__ import annotations

import numpy as np
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut


def flattened(dataset):
    """The dataset with the attributes of its first frame at the top, where pydicom looks for them."""
    groups = [dataset.get("PerFrameFunctionalGroupsSequence"), dataset.get("SharedFunctionalGroupsSequence")]
    for group in (each[0] for each in groups if each):
        for macro in ("FrameVOILUTSequence", "PixelValueTransformationSequence"):
            for element in (group.get(macro) or [[]])[0]:
                if element.tag not in dataset:
                    dataset[element.tag] = element
    return dataset


def stored_pixels(dataset):
    """The samples of the first frame. pydicom has converted YBR colours to RGB with ``convert_color_space``."""
    stored = dataset.pixel_array
    return stored[0] if int(dataset.get("NumberOfFrames") or 1) > 1 else stored


def expected_pixels(dataset, stored, whole=None):
    """The picture of the first frame that pydicom gives, in grey levels or colours from 0 to 255.

    Parameters
    ----------
    dataset : Dataset
        The file.
    stored : array
        Its samples, or those of a resolution.
    whole : array, optional
        Its samples, if `stored` are those of a resolution.
    """
    dataset = flattened(dataset)
    interpretation = dataset.PhotometricInterpretation
    if interpretation == "PALETTE COLOR":
        colours = apply_color_lut(stored, dataset).astype(float)
        bits = dataset.RedPaletteColorLookupTableDescriptor[2]
        return colours if colours.max() <= 255 else colours / (2**bits - 1) * 255
    if dataset.SamplesPerPixel > 1:
        return stored / (2**dataset.BitsStored - 1) * 255 if dataset.BitsStored > 8 else stored.astype(float)
    values, whole = (
        apply_modality_lut(each, dataset).astype(float) for each in (stored, stored if whole is None else whole)
    )
    if "WindowCenter" not in dataset and "VOILUTSequence" not in dataset:
        # pydicom leaves the values as they are, so the rule is that of DCMTK's +Wm.
        grey = ((values - whole.min()) / max(np.ptp(whole), 1e-9)).clip(0, 1) * 255
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
