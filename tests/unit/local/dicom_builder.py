"""Builds small valid and invalid DICOM files."""

from __future__ import annotations

import io
import struct

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

PIXELS = np.arange(1024, dtype=np.uint16).reshape(32, 32)
_MPEG2 = "1.2.840.10008.1.2.4.100"
_JPEG_XL = {"1.2.840.10008.1.2.4.110", "1.2.840.10008.1.2.4.111", "1.2.840.10008.1.2.4.112"}
_LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}


def dicom_file(
    pixels=PIXELS,
    *,
    series=None,
    frames=None,
    transfer_syntax_uid=str(ExplicitVRLittleEndian),
    **attributes,
):
    """Build a file with one instance, from pixels or from encoded frames with the shape of these pixels.

    An attribute with the value None is removed.
    """
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    # pydicom does not write JPEG XL, so a UID of the same length is replaced afterwards.
    written_uid = _MPEG2 if transfer_syntax_uid in _JPEG_XL else transfer_syntax_uid
    dataset.file_meta.TransferSyntaxUID = written_uid
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = series or (generate_uid(), generate_uid())
    dataset.PatientID, dataset.PatientName, dataset.Modality = "P", "A^B", "OT"
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 1 if pixels.ndim == 2 else pixels.shape[2]
    dataset.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = pixels.dtype.itemsize * 8
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes() if frames is None else encapsulate(frames)
    dataset["PixelData"].VR = "OW" if frames is None else "OB"
    dataset["PixelData"].is_undefined_length = frames is not None
    for keyword, value in attributes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    file = io.BytesIO()
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue().replace(_MPEG2.encode(), transfer_syntax_uid.encode())


def element(tag, vr, value, length=None):
    """Encode an element in explicit VR little endian; ``length`` overrides its length field."""
    length = len(value) if length is None else length
    header = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr
    return header + (struct.pack("<HI", 0, length) if vr in _LONG else struct.pack("<H", length)) + value


def item(content):
    """Encode a sequence item."""
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content
