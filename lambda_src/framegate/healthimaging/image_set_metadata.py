"""The frames that an image set's metadata lists, read as the document streams by: it can be hundreds of megabytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ijson

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

INSTANCE, IMAGE_FRAMES = 5, 6
"""Names on the path Study, Series, {SeriesInstanceUID}, Instances, {SOPInstanceUID}, ImageFrames: down to where."""

_CHECKSUMS = "PixelDataChecksumFromBaseToFullResolution"


@dataclass(frozen=True, slots=True)
class FrameEntry:
    """An image frame as the metadata lists it.

    Attributes
    ----------
    image_frame_id : str
        HealthImaging's identifier.
    sop_instance_uid : str or None
        The DICOM instance that the frame is of; None if the metadata does not list it.
    frame_number : int or None
        Its place in that instance, from 1 (DICOM PS3.3, section C.7.6.6).
    transfer_syntax_uid : str or None
        What the stored frame is encoded with; HealthImaging leaves it out for its own HTJ2K.
    size : int or None
        Bytes of the stored frame.
    checksum : int or None
        CRC32 of the decoded pixels at full resolution.
    rows, columns : int or None
        Pixels of the frame, down and across.
    resolutions : int or None
        How many the frame is stored with; None where HealthImaging lists none.
    """

    image_frame_id: str
    sop_instance_uid: str | None
    frame_number: int | None
    transfer_syntax_uid: str | None = None
    size: int | None = None
    checksum: int | None = None
    rows: int | None = None
    columns: int | None = None
    resolutions: int | None = None


class MetadataError(ValueError):
    """The document is not the metadata of an image set."""


def frames_of(document: Iterable[bytes]) -> Iterator[FrameEntry]:
    """The frames of an image set, in the order of its metadata.

    Parameters
    ----------
    document : iterable of bytes
        The JSON document, in pieces of any size.

    Raises
    ------
    MetadataError
        If it is not JSON, breaks off, or has a frame without an identifier.

    References
    ----------
    AWS HealthImaging developer guide, "Getting image set metadata" and "Pixel data verification".

    Examples
    --------
    >>> instance = b'{"StoredTransferSyntaxUID": "1.2.840.10008.1.2.4.50", "ImageFrames": [{"ID": "f1"}, {"ID": "f2"}]}'
    >>> document = b'{"Study": {"Series": {"1.2": {"Instances": {"1.2.3": ' + instance + b"}}}}}"
    >>> [(frame.image_frame_id, frame.frame_number) for frame in frames_of([document])]
    [('f1', 1), ('f2', 2)]
    """
    instance = _Instance()
    path: list[Any] = []
    try:
        # Events, and the path followed by hand: ijson's own prefixes are joined by dots, which UIDs are full of.
        for event, value in ijson.basic_parse(ijson.from_iter(iter(document))):
            if event == "map_key":
                path[-1] = value
            elif event == "start_map":
                path.append(None)
            elif event == "end_map":
                path.pop()
                if len(path) == INSTANCE and _is_instance(path):
                    yield from instance.end(path[4])
                elif len(path) >= IMAGE_FRAMES and _is_instance(path):
                    instance.end_of(path[5:])
            elif len(path) >= IMAGE_FRAMES and _is_instance(path):
                instance.take(path[5:], value)
    except ijson.JSONError:
        raise MetadataError("The metadata is not whole JSON.") from None


def _is_instance(path: list[Any]) -> bool:
    return [path[0], path[1], path[3]] == ["Study", "Series", "Instances"]


@dataclass(slots=True)
class _Frame:
    """What was read of a frame; there can be tens of thousands in an instance."""

    id: Any = None
    size: int | None = None
    checksum: int | None = None
    rows: int | None = None
    columns: int | None = None
    resolutions: int | None = None


class _Instance:
    """One instance being read; its transfer syntax and size may come after its frames."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._syntax: str | None = None
        self._size: dict[str, int | None] = {}
        self._frame = _Frame()
        self._frames: list[_Frame] = []
        self._resolution: dict[str, int | None] = {}

    def take(self, names: list[Any], value: Any) -> None:
        match names:
            case ["StoredTransferSyntaxUID"]:
                self._syntax = value if isinstance(value, str) else None
            case ["DICOM", "Rows" | "Columns" as name]:
                self._size[name] = _whole_number(value)
            case ["ImageFrames", "ID"]:
                self._frame.id = value
            case ["ImageFrames", "FrameSizeInBytes"]:
                self._frame.size = _whole_number(value)
            case ["ImageFrames", str(checksums), "Width" | "Height" | "Checksum" as name] if checksums == _CHECKSUMS:
                self._resolution[name] = _whole_number(value)

    def end_of(self, names: list[Any]) -> None:
        """An object has ended that was below the instance."""
        match names:
            case ["ImageFrames"]:
                self._frames.append(self._frame)
                self._frame = _Frame()
            case ["ImageFrames", str(checksums)] if checksums == _CHECKSUMS:
                # Base to full resolution: the last one stays.
                frame, resolution = self._frame, self._resolution
                frame.resolutions = (frame.resolutions or 0) + 1
                frame.rows, frame.columns = resolution.get("Height"), resolution.get("Width")
                frame.checksum = resolution.get("Checksum")
                self._resolution = {}

    def end(self, sop_instance_uid: str) -> Iterator[FrameEntry]:
        for number, frame in enumerate(self._frames, start=1):
            if not isinstance(frame.id, str):
                raise MetadataError("A frame in the metadata has no ID.")
            yield FrameEntry(
                frame.id,
                sop_instance_uid,
                number,
                self._syntax,
                frame.size,
                frame.checksum,
                frame.rows or self._size.get("Rows"),
                frame.columns or self._size.get("Columns"),
                frame.resolutions,
            )
        self._begin()


def _whole_number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
