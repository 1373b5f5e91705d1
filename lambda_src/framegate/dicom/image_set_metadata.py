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
    """

    image_frame_id: str
    sop_instance_uid: str | None
    frame_number: int | None
    transfer_syntax_uid: str | None = None
    size: int | None = None
    checksum: int | None = None


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
                elif len(path) == IMAGE_FRAMES and _is_instance(path) and path[5] == "ImageFrames":
                    instance.end_frame()
            elif len(path) >= IMAGE_FRAMES and _is_instance(path):
                instance.take(path[5:], value)
    except ijson.JSONError:
        raise MetadataError("The metadata is not whole JSON.") from None


def _is_instance(path: list[Any]) -> bool:
    return [path[0], path[1], path[3]] == ["Study", "Series", "Instances"]


class _Instance:
    """One instance being read; its transfer syntax may come after its frames."""

    def __init__(self) -> None:
        self._syntax: str | None = None
        self._frame: dict[str, Any] = {}
        self._frames: list[dict[str, Any]] = []

    def take(self, names: list[Any], value: Any) -> None:
        match names:
            case ["StoredTransferSyntaxUID"]:
                self._syntax = value
            case ["ImageFrames", "ID" | "FrameSizeInBytes" as name]:
                self._frame[name] = value
            case ["ImageFrames", str(checksums), "Checksum"] if checksums == _CHECKSUMS:
                # Base to full resolution: the last one stays.
                self._frame["Checksum"] = value

    def end_frame(self) -> None:
        self._frames.append(self._frame)
        self._frame = {}

    def end(self, sop_instance_uid: str) -> Iterator[FrameEntry]:
        for number, frame in enumerate(self._frames, start=1):
            if not isinstance(frame.get("ID"), str):
                raise MetadataError("A frame in the metadata has no ID.")
            size, checksum = frame.get("FrameSizeInBytes"), frame.get("Checksum")
            yield FrameEntry(frame["ID"], sop_instance_uid, number, self._syntax, size, checksum)
        self._syntax, self._frames = None, []
