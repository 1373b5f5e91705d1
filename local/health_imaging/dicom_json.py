"""Joins the current metadata of an instance with its DICOM file, and converts it to DICOM JSON and Part 10 files."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom import config
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.pixels.utils import pack_bits, unpack_bits
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID

from local.health_imaging.decoders import decode_frame
from local.health_imaging.frames import EXPLICIT_VR_LITTLE_ENDIAN, JPEG_BASELINE
from local.health_imaging.transcoding import PIXEL_DATA, little_endian

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from local.health_imaging.image_sets import SourceFile

MAX_INLINE_BYTES = 1 << 20
"""Binary attributes above 1 MB are bulk data (developer guide, "Getting DICOM bulkdata from HealthImaging")."""

_BULK_DATA_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_BYTES_PER_WORD = {"OD": 8, "OF": 4, "OL": 4, "OV": 8, "OW": 2}
_PIXEL_DATA_GROUP = 0x7FE0
_CHARACTER_SET = Tag("SpecificCharacterSet")
_UTF_8 = "ISO_IR 192"


def current_dataset(
    file: SourceFile | None, attributes: Mapping[str, Any], tags: Collection[int] | None = None
) -> Dataset:
    """The data set of an instance as its metadata is now, without pixel data.

    An attribute with an unchanged value comes from the file, with everything that the metadata leaves out: private and
    binary attributes, value representations and the digits of decimal strings.

    Parameters
    ----------
    file : SourceFile, optional
        The DICOM file of the instance.
    attributes : mapping
        The current metadata of all levels, by keyword.
    tags : collection of int, optional
        The attributes to return; all by default.
    """
    current = Dataset()
    original = file.attributes.all_levels if file else {}
    for tag, element in _elements(file.dataset, tags) if file else ():
        keyword = keyword_for_tag(tag)
        is_current = keyword not in original or (keyword in attributes and attributes[keyword] == original[keyword])
        if is_current and tag.group != _PIXEL_DATA_GROUP:
            current[tag] = element
    for keyword, value in attributes.items():
        number = tag_for_keyword(keyword)
        if number is not None and (tags is None or number in tags) and number not in current:
            current[number] = _element(BaseTag(number), value)
    if _CHARACTER_SET in current:
        # DICOM JSON is UTF-8 (PS3.18, section F.2.2).
        current[_CHARACTER_SET] = _element(_CHARACTER_SET, _UTF_8)
    if "PlanarConfiguration" in current and (file is None or not file.dataset.get("PixelData")):
        # Frames hold the samples of a pixel together.
        current.PlanarConfiguration = 0
    return current


def _elements(dataset: Dataset, tags: Collection[int] | None) -> Iterator[tuple[BaseTag, DataElement]]:
    for tag in sorted(dataset.keys()):
        if tags is None or tag in tags:
            try:
                element = _in_little_endian(dataset[tag], dataset)
            except Exception:  # noqa: S112 - the import accepts files with unreadable private attributes
                continue
            yield tag, element


def _in_little_endian(element: DataElement, dataset: Dataset) -> DataElement:
    """Swap the bytes of a binary value from a big-endian file; pydicom leaves them as they are."""
    size = _BYTES_PER_WORD.get(element.VR)
    if size is None or dataset.original_encoding[1] is not False or not isinstance(element.value, bytes):
        return element
    words = np.frombuffer(element.value, f">u{size}").astype(f"<u{size}")
    return DataElement(element.tag, element.VR, words.tobytes())


def _element(tag: BaseTag, value: Any) -> DataElement:
    vr = dictionary_VR(tag).partition(" or ")[0]
    several = isinstance(value, list)
    if vr == "SQ":
        value = Sequence([_item(each) for each in value or []])
    elif vr == "AT" and value is not None:
        value = [int(each, 16) for each in value] if several else int(value, 16)
    elif vr in ("FD", "FL") and value is not None:
        value = [float(each) for each in value] if several else float(value)
    return DataElement(tag, vr, value, validation_mode=config.IGNORE)


def _item(attributes: Mapping[str, Any]) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        number = tag_for_keyword(keyword)
        if number is not None:
            item[number] = _element(BaseTag(number), value)
    return item


# DICOM JSON


def to_dicom_json(dataset: Dataset) -> dict[str, Any]:
    """Convert a data set to the DICOM JSON model (PS3.18, annex F).

    Binary values above 1 MB become a ``BulkDataURI`` relative to the instance: ``bulkdata/`` and the id of the value.
    """
    document: dict[str, Any] = dataset.to_json_dict(
        bulk_data_threshold=math.ceil(MAX_INLINE_BYTES / 3) * 4,
        bulk_data_element_handler=lambda element: f"bulkdata/{_bulk_data_id(element.value)}",
        suppress_invalid_tags=True,
    )
    finite: dict[str, Any] = _finite(dict(sorted(document.items())))
    return finite


def absolute_bulk_data(value: Any, instance_url: str) -> Any:
    """Make every ``BulkDataURI`` in a DICOM JSON document absolute."""
    if isinstance(value, dict):
        return {
            name: f"{instance_url}/{each}" if name == "BulkDataURI" else absolute_bulk_data(each, instance_url)
            for name, each in value.items()
        }
    return [absolute_bulk_data(each, instance_url) for each in value] if isinstance(value, list) else value


def bulk_data(dataset: Dataset, bulk_data_id: str) -> bytes | None:
    """The value of the bulk data with an id, at any depth; None if there is none."""
    for element in dataset.iterall():
        value = element.value
        is_bulk = element.VR in _BULK_DATA_VRS and isinstance(value, bytes) and len(value) > MAX_INLINE_BYTES
        if is_bulk and _bulk_data_id(value) == bulk_data_id:
            return bytes(value)
    return None


def _bulk_data_id(value: bytes) -> str:
    return hashlib.blake2b(value, digest_size=16).hexdigest()


def _finite(value: Any) -> Any:
    """Replace NaN and the infinities, for which JSON has no number, by text as in image set metadata."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


# Pixels and files


def uncompressed(frame: bytes, transfer_syntax_uid: str, attributes: Mapping[str, Any]) -> bytes:
    """Decode a frame to little-endian samples, with the samples of a pixel together.

    Raises
    ------
    DecodeError
        If the frame cannot be decoded: it is damaged, or a video.
    """
    if transfer_syntax_uid == EXPLICIT_VR_LITTLE_ENDIAN:
        return frame
    image = decode_frame(transfer_syntax_uid, frame)
    bits = attributes.get("BitsAllocated")
    if image.dtype.kind in "iu" and bits in (8, 16, 32):
        image = image.astype(f"{'i' if attributes.get('PixelRepresentation') == 1 else 'u'}{bits // 8}")
    return little_endian(image)


def part_10_file(
    dataset: Dataset, file: SourceFile | None, frames: list[bytes], stored_uid: str, transfer_syntax_uid: str
) -> bytes:
    """Write a DICOM file (PS3.10) in explicit VR little endian or in the stored transfer syntax.

    Parameters
    ----------
    dataset : Dataset
        The current data set, from `current_dataset`. It is changed.
    file : SourceFile, optional
        The DICOM file of the instance.
    frames : list of bytes
        The frames in the transfer syntax of the new file.
    stored_uid, transfer_syntax_uid : str
        The transfer syntaxes of the stored frames and of the new file.
    """
    tag = next((each for each in PIXEL_DATA if file and each in file.dataset), PIXEL_DATA[0])
    is_compressed = transfer_syntax_uid != EXPLICIT_VR_LITTLE_ENDIAN
    if frames:
        pixels = encapsulate(frames) if is_compressed else _native(dataset, frames)
        if not is_compressed:
            _describe_decoded(dataset, stored_uid)
        dataset[tag] = DataElement(tag, _pixel_vr(tag, dataset, is_compressed=is_compressed), pixels)
    elif file is not None and file.dataset.get(tag):
        # The import kept pixel data that could not become frames.
        dataset[tag] = _in_little_endian(file.dataset[tag], file.dataset)
    if tag in dataset:
        dataset[tag].is_undefined_length = is_compressed
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", "")
    meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", "")
    meta.TransferSyntaxUID = UID(transfer_syntax_uid)
    # pydicom's own `dcmwrite` refuses transfer syntaxes that it does not know, such as JPEG XL.
    content = DicomBytesIO()
    content.is_little_endian, content.is_implicit_VR = True, False
    content.write(bytes(128) + b"DICM")
    write_file_meta_info(content, meta)
    write_dataset(content, dataset)
    return content.getvalue()


def _native(dataset: Dataset, frames: list[bytes]) -> bytes:
    if dataset.get("BitsAllocated") == 1 and len(frames) > 1:
        # Frames of single bits follow each other without padding (PS3.5, section 8.1.1).
        bits = dataset.Rows * dataset.Columns * dataset.get("SamplesPerPixel", 1)
        return bytes(pack_bits(np.concatenate([unpack_bits(frame)[:bits] for frame in frames])))
    content = b"".join(frames)
    return content + bytes(len(content) % 2)


def _pixel_vr(tag: BaseTag, dataset: Dataset, *, is_compressed: bool) -> str:
    if tag != PIXEL_DATA[0]:
        return "OF" if tag == PIXEL_DATA[1] else "OD"
    return "OB" if is_compressed or dataset.get("BitsAllocated", 8) <= 8 else "OW"


def _describe_decoded(dataset: Dataset, stored_uid: str) -> None:
    """Set the Photometric Interpretation of decoded pixels: decoders undo the colour transform of a codestream."""
    photometric = str(dataset.get("PhotometricInterpretation", ""))
    is_transformed = photometric in ("YBR_RCT", "YBR_ICT") or stored_uid == JPEG_BASELINE
    if photometric.startswith("YBR") and is_transformed:
        dataset.PhotometricInterpretation = "RGB"
    elif photometric == "YBR_FULL_422":
        dataset.PhotometricInterpretation = "YBR_FULL"
