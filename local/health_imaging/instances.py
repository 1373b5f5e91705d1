"""Reads an instance completely before anything is stored, so that an import adds all of it or nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from local.health_imaging.attributes import Attributes, read_attributes
from local.health_imaging.dicom_files import read_dicom_file
from local.health_imaging.quiet_pydicom import quiet_pydicom
from local.health_imaging.transcoding import PIXEL_DATA, EncodedFrame, PixelDataError, encode_frames

if TYPE_CHECKING:
    from pydicom import Dataset

    from local.health_imaging.import_warnings import InstanceWarning


@dataclass(frozen=True, slots=True)
class Instance:
    """A SOP instance: its attributes, its frames in the stored transfer syntax, and its warnings.

    `dataset` is the file's data set. Its pixel data is empty if there are frames.
    """

    attributes: Attributes
    transfer_syntax_uid: str
    dataset: Dataset
    frames: list[EncodedFrame] = field(default_factory=list)
    warnings: list[InstanceWarning] = field(default_factory=list)

    @property
    def sop_instance_uid(self) -> str:
        """The SOP Instance UID."""
        return str(self.attributes.instance["SOPInstanceUID"])

    @property
    def series(self) -> tuple[str, str, str]:
        """The key of its series: Patient ID, Study Instance UID and Series Instance UID."""
        attributes = self.attributes
        uids = attributes.study["StudyInstanceUID"], attributes.series["SeriesInstanceUID"]
        return str(attributes.patient.get("PatientID") or ""), *uids


def read_instance(content: bytes, lossless_storage_format: str) -> Instance:
    """Read a DICOM file, and encode its frames in the format of a data store.

    If the pixel data cannot become frames, the instance has a warning and no frames, as in the service (developer
    guide, "HealthImaging Warning Codes").

    Raises
    ------
    InvalidFileError
        If it is not a complete DICOM file.
    UnreadableAttributeError
        If one of its attributes cannot be read, or a UID is missing.
    """
    with quiet_pydicom():
        dataset = read_dicom_file(content)
        attributes = read_attributes(dataset)
        try:
            syntax, frames = encode_frames(dataset, lossless_storage_format)
        except PixelDataError as error:
            # The service stores such pixel data unchanged; its guide does not say that they have frames.
            syntax = str(dataset.file_meta.TransferSyntaxUID)
            return Instance(attributes, syntax, dataset, warnings=[*attributes.warnings, error.warning])
        for tag in PIXEL_DATA:
            if tag in dataset:
                dataset[tag].value = None
        return Instance(attributes, syntax, dataset, frames, attributes.warnings)
