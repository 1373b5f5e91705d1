"""The columns of the tables of exported instances and frames.

The function that writes the tables, the Glue catalog, the configuration and docs/datasets.md take them from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

SCHEMA = 1
"""Version of the schema. Keys contain it, so files of another version are never read as files of this one.

A new column does not need a new version, because files without it read as null. A change of a column's meaning or type
does.
"""

ColumnType = Literal[
    "string", "int", "bigint", "double", "boolean", "date", "timestamp", "array<string>", "array<double>"
]
"""The types of columns, as Athena names them."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Parameters
    ----------
    name : str
        Its name: the words of the DICOM keyword where it holds an attribute, with the unit of a number that has one.
    type : ColumnType
        Its type.
    meaning : str
        What it holds, for the documentation and the catalog.
    keyword : str or None
        The DICOM attribute that it holds; None for what HealthImaging or Framegate says.
    value : int or None
        The index of the attribute's value that it holds; None for the first value, or for all values of an array.
    group : str or None
        The functional group that holds the attribute of a multi-frame instance (DICOM PS3.3, section C.7.6.16).
    length : int or None
        The number of elements that an array must have; None for any number.
    """

    name: str
    type: ColumnType
    meaning: str
    keyword: str | None = None
    value: int | None = None
    group: str | None = None
    length: int | None = None


IDENTIFIERS = (
    Column("image_set_id", "string", "HealthImaging's identifier of the image set, which is a series"),
    Column("image_set_version", "bigint", "Version of the image set that the attributes come from"),
    Column(
        "instance_hash", "string", "Keyed hash of the SOP instance UID; it joins the tables, and names the DICOM file"
    ),
    Column("exported_at", "timestamp", "Time of the latest export of the image set, in UTC"),
)
"""The first columns of both tables."""

DICOM_FILE_KEY = Column("dicom_key", "string", "Key of the instance's DICOM file in the bucket; null if none is stored")

INSTANCE_FILES = (
    DICOM_FILE_KEY,
    Column("dicom_size_bytes", "bigint", "Size of that file"),
    Column("dicom_checksum_crc32", "string", "CRC32 of that file, in base64 as S3 has it; null if unknown"),
    Column("stored_frames", "int", "Number of the instance's frames that are stored as single objects"),
)
"""What the bucket has of an instance."""

FRAME_FILES = (
    Column("image_frame_id", "string", "HealthImaging's identifier of the frame"),
    Column("frame_number", "int", "Number of the frame in its instance, from 1"),
    Column("frame_key", "string", "Key of the frame in the bucket; null if it is only in the DICOM file"),
    Column("frame_content_type", "string", "Media type of that object"),
    Column("frame_size_bytes", "bigint", "Size of the encoded frame"),
    Column("frame_checksum_crc32", "string", "CRC32 of that object, in base64 as S3 has it; null if unknown"),
    Column("pixels_checksum_crc32", "bigint", "CRC32 of the decoded pixels, from HealthImaging; null if it has none"),
    DICOM_FILE_KEY,
)
"""What the bucket has of a frame."""

_MEASURES = "PixelMeasuresSequence"
_VALUES, _WINDOW = "PixelValueTransformationSequence", "FrameVOILUTSequence"

ATTRIBUTES = (
    Column("transfer_syntax_uid", "string", "Encoding of the stored frames; null if HealthImaging does not list it"),
    Column("modality", "string", "Modality", "Modality"),
    Column("sop_class_uid", "string", "SOP class", "SOPClassUID"),
    Column("body_part_examined", "string", "Body part", "BodyPartExamined"),
    Column("laterality", "string", "Side of a paired body part: L or R", "Laterality"),
    Column("view_position", "string", "View of a radiograph, such as PA or MLO", "ViewPosition"),
    Column("image_type", "array<string>", "Image type, such as ORIGINAL, PRIMARY, AXIAL", "ImageType"),
    Column("instance_number", "bigint", "Number of the instance in its series", "InstanceNumber"),
    Column("number_of_frames", "int", "Number of frames of the instance", "NumberOfFrames"),
    Column("rows", "int", "Height in pixels", "Rows"),
    Column("columns", "int", "Width in pixels", "Columns"),
    Column("samples_per_pixel", "int", "Samples of a pixel: 1 for grey, 3 for colour", "SamplesPerPixel"),
    Column("photometric_interpretation", "string", "Meaning of the samples", "PhotometricInterpretation"),
    Column("bits_allocated", "int", "Bits allocated for a sample", "BitsAllocated"),
    Column("bits_stored", "int", "Bits stored of a sample", "BitsStored"),
    Column("is_signed", "boolean", "Whether samples are signed", "PixelRepresentation"),
    Column("pixel_spacing_row_mm", "double", "Distance between rows", "PixelSpacing", 0, _MEASURES),
    Column("pixel_spacing_column_mm", "double", "Distance between columns", "PixelSpacing", 1, _MEASURES),
    Column("imager_pixel_spacing_row_mm", "double", "Distance between rows at the detector", "ImagerPixelSpacing", 0),
    Column(
        "imager_pixel_spacing_column_mm", "double", "Distance between columns at the detector", "ImagerPixelSpacing", 1
    ),
    Column("slice_thickness_mm", "double", "Slice thickness", "SliceThickness", group=_MEASURES),
    Column("spacing_between_slices_mm", "double", "Distance between slices", "SpacingBetweenSlices", group=_MEASURES),
    Column("convolution_kernel", "array<string>", "Kernel", "ConvolutionKernel", group="CTReconstructionSequence"),
    Column(
        "image_orientation_patient",
        "array<double>",
        "Direction cosines of the first row and the first column",
        "ImageOrientationPatient",
        group="PlaneOrientationSequence",
        length=6,
    ),
    Column(
        "image_position_patient_mm",
        "array<double>",
        "Position of the first pixel: x, y and z",
        "ImagePositionPatient",
        group="PlanePositionSequence",
        length=3,
    ),
    Column("rescale_slope", "double", "Factor from stored to output values", "RescaleSlope", group=_VALUES),
    Column("rescale_intercept", "double", "Offset from stored to output values", "RescaleIntercept", group=_VALUES),
    Column("rescale_type", "string", "Unit of output values, such as HU", "RescaleType", group=_VALUES),
    Column("window_center", "array<double>", "Centre of each window", "WindowCenter", group=_WINDOW),
    Column("window_width", "array<double>", "Width of each window", "WindowWidth", group=_WINDOW),
    Column("manufacturer", "string", "Manufacturer", "Manufacturer"),
    Column("manufacturer_model_name", "string", "Model", "ManufacturerModelName"),
)
"""The attributes that select data, in both tables. None of them identifies a patient, a visit or a person."""

IDENTIFYING = (
    Column("patient_id", "string", "Patient ID", "PatientID"),
    Column("patient_name", "string", "Patient name", "PatientName"),
    Column("patient_birth_date", "date", "Date of birth", "PatientBirthDate"),
    Column("patient_sex", "string", "Sex", "PatientSex"),
    Column("patient_age", "string", "Age, such as 045Y", "PatientAge"),
    Column("patient_size_m", "double", "Height of the patient", "PatientSize"),
    Column("patient_weight_kg", "double", "Weight of the patient", "PatientWeight"),
    Column("study_instance_uid", "string", "Study instance UID", "StudyInstanceUID"),
    Column("study_id", "string", "Study ID", "StudyID"),
    Column("study_date", "date", "Date of the study", "StudyDate"),
    Column("study_time", "string", "Time of the study, as in DICOM", "StudyTime"),
    Column("study_description", "string", "Description of the study", "StudyDescription"),
    Column("accession_number", "string", "Accession number", "AccessionNumber"),
    Column("referring_physician_name", "string", "Referring physician", "ReferringPhysicianName"),
    Column("series_instance_uid", "string", "Series instance UID", "SeriesInstanceUID"),
    Column("series_number", "bigint", "Number of the series", "SeriesNumber"),
    Column("series_date", "date", "Date of the series", "SeriesDate"),
    Column("series_time", "string", "Time of the series, as in DICOM", "SeriesTime"),
    Column("series_description", "string", "Description of the series", "SeriesDescription"),
    Column("protocol_name", "string", "Protocol", "ProtocolName"),
    Column("sop_instance_uid", "string", "SOP instance UID", "SOPInstanceUID"),
    Column("frame_of_reference_uid", "string", "Frame of reference UID", "FrameOfReferenceUID"),
    Column("acquisition_date", "date", "Date of the acquisition", "AcquisitionDate"),
    Column("acquisition_time", "string", "Time of the acquisition, as in DICOM", "AcquisitionTime"),
    Column("content_date", "date", "Date of the content", "ContentDate"),
    Column("content_time", "string", "Time of the content, as in DICOM", "ContentTime"),
    Column("institution_name", "string", "Institution", "InstitutionName"),
    Column("station_name", "string", "Station", "StationName"),
    Column("device_serial_number", "string", "Serial number of the device", "DeviceSerialNumber"),
)
"""The columns that a deployment must ask for by keyword: they identify people, visits or places, or may do so."""

IDENTIFYING_KEYWORDS = tuple(column.keyword or "" for column in IDENTIFYING)

MEANINGS = {
    "instances": "One row for each DICOM instance of which the bucket has the file or a frame",
    "frames": "One row for each frame that the bucket has, as a single object or in a DICOM file",
}
"""What a row of each table stands for."""

TABLES = tuple(MEANINGS)


def columns_of(table: str, identifying: Iterable[str] = ()) -> tuple[Column, ...]:
    """Return the columns of a table, in the order of its files.

    Parameters
    ----------
    table : str
        One of `TABLES`.
    identifying : iterable of str
        The keywords of the identifying columns, from `IDENTIFYING_KEYWORDS`.

    Examples
    --------
    >>> [column.name for column in columns_of("frames", ["PatientID"])][:2]
    ['image_set_id', 'image_set_version']
    """
    wanted = set(identifying)
    files = INSTANCE_FILES if table == "instances" else FRAME_FILES
    return (*IDENTIFIERS, *files, *ATTRIBUTES, *(each for each in IDENTIFYING if each.keyword in wanted))
