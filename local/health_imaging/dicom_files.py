"""Reads DICOM Part 10 files, and describes what is wrong with a file that it cannot read."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from local.health_imaging.attributes import name_of

if TYPE_CHECKING:
    from pydicom import Dataset

_PREFIX = b"DICM"
_PREAMBLE_BYTES = 128
_HEADER_BYTES = (8, 12)
"""Bytes before the value of an element, with a short and with a long length field (PS3.5, section 7.1)."""
_PADDING = BaseTag(0xFFFCFFFC)
_UNDEFINED_LENGTH = 0xFFFFFFFF
_MAX_INFLATED_BYTES = 4 << 30
"""HealthImaging's quota for a file (developer guide, "Endpoints and quotas")."""


class InvalidFileError(ValueError):
    """A file is not a complete DICOM file; the message says what is wrong."""


def read_dicom_file(content: bytes) -> Dataset:
    """Read a DICOM Part 10 file (PS3.10, section 7). pydicom converts attributes when they are first accessed.

    Raises
    ------
    InvalidFileError
        If it is another kind of file, names no transfer syntax, or ends in the middle of an element.
    """
    if not content:
        raise InvalidFileError("The file is empty")
    start = _PREAMBLE_BYTES + len(_PREFIX)
    if content[_PREAMBLE_BYTES:start] != _PREFIX:
        raise InvalidFileError(
            f"The file is not a DICOM Part 10 file: it has no prefix DICM after a preamble of {_PREAMBLE_BYTES} bytes"
        )
    transfer_syntax_uid, data_set_at = _file_meta_information(content)
    if transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
        content = _inflated(content, data_set_at)
    # pydicom reads a truncated file without an error. So we append an element, which pydicom finds at the end only if
    # everything before it is complete.
    try:
        dataset = pydicom.dcmread(io.BytesIO(content + _padding(transfer_syntax_uid)))
    except Exception as error:
        raise InvalidFileError("The file is cut off or damaged: it cannot be read to its end") from error
    end = dataset.get_item(_PADDING) if _PADDING in dataset else None
    if not isinstance(end, RawDataElement) or end.value_tell - len(content) not in _HEADER_BYTES:
        raise InvalidFileError(_where_cut_off(dataset, len(content)))
    del dataset[_PADDING]
    return dataset


def _file_meta_information(content: bytes) -> tuple[str, int]:
    """Read the transfer syntax UID and the offset of the data set."""
    source = io.BytesIO(content)
    source.seek(_PREAMBLE_BYTES + len(_PREFIX))
    try:
        meta = read_dataset(source, False, True, stop_when=lambda tag, *_: tag.group != 2)
        group_length = meta.get("FileMetaInformationGroupLength", 0)
        uid = meta.get("TransferSyntaxUID")
    except Exception as error:
        raise InvalidFileError("The file meta information is cut off or damaged") from error
    # The group length counts from the end of its own element, the first one.
    if isinstance(group_length, int) and _PREAMBLE_BYTES + len(_PREFIX) + 12 + group_length > len(content):
        raise InvalidFileError("The file is cut off: it ends in the file meta information")
    if not uid:
        raise InvalidFileError("DICOM attribute TransferSyntaxUID does not exist")
    if not isinstance(uid, str):
        raise InvalidFileError("DICOM attribute TransferSyntaxUID must have one value")
    return uid, source.tell()


def _inflated(content: bytes, data_set_at: int) -> bytes:
    """Convert a deflated file (PS3.5, section A.5) to explicit VR little endian."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data_set = inflater.decompress(content[data_set_at:], _MAX_INFLATED_BYTES)
    except zlib.error as error:
        raise InvalidFileError("The deflated data set is damaged") from error
    if not inflater.eof:
        raise InvalidFileError("The file is cut off: its deflated data set does not end")
    uid = DeflatedExplicitVRLittleEndian.encode()
    meta = content[:data_set_at].replace(uid, ExplicitVRLittleEndian.encode().ljust(len(uid), b"\0"))
    return meta + data_set


def _padding(transfer_syntax_uid: str) -> bytes:
    """Make a Data Set Trailing Padding element of two bytes (PS3.10, section 7.2)."""
    group, element = _PADDING.group, _PADDING.element
    if transfer_syntax_uid == ImplicitVRLittleEndian:
        return struct.pack("<HHI", group, element, 2) + bytes(2)
    order = ">" if transfer_syntax_uid == ExplicitVRBigEndian else "<"
    return struct.pack(f"{order}HH2sHI", group, element, b"OB", 0, 2) + bytes(2)


def _where_cut_off(dataset: Dataset, size: int) -> str:
    """Describe where a file that cannot be read to its end is cut off."""
    read: list[RawDataElement] = []
    for tag in dataset.keys():  # noqa: SIM118 - iterating over a Dataset converts its values
        try:
            element = dataset.get_item(tag)
        except Exception:  # noqa: S112 - we look for the last readable element
            continue
        if isinstance(element, RawDataElement) and element.value_tell <= size:
            read.append(element)
    if not read:
        return "The file is cut off or damaged: it cannot be read to its end"
    last = max(read, key=lambda each: each.value_tell)
    left = size - last.value_tell
    if last.length != _UNDEFINED_LENGTH and last.length > left:
        return f"The file is cut off: {name_of(last.tag)} should have {last.length} bytes, and has {left}"
    return f"The file is cut off or damaged: it cannot be read beyond {name_of(last.tag)}"
