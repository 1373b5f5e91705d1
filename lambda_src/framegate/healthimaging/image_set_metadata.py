"""Reads the frames that an image set's metadata lists, within bounds, while the document streams by."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ijson

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_FRAMES = 500_000
"""Frames of an image set, and members of an object on the way to them. 50 MB of metadata list some 125,000 frames."""

MAX_TOKEN_BYTES = 16 * 1024 * 1024
"""Size of a string or a number, which the parser keeps in memory; HealthImaging keeps values over 1 MB elsewhere."""

MAX_NUMBER_DIGITS = 640
"""Digits in a row of a number. Python converts so many to an int whatever its limit is set to
(`sys.int_info.str_digits_check_threshold`). Above the limit, ijson's C parser (3.6) puts a null pointer in its list of
events, and the process ends."""

MAX_NAME_CHARS = 256
"""Length of an identifier or of a member's name on the way to the frames; a UID has 64 (DICOM PS3.5, section 9.1)."""

MAX_DEPTH = 1000
"""Objects and arrays within one another."""

INSTANCE, IMAGE_FRAMES = 5, 6
"""Length of the path to an instance and to its frames: Study, Series, {SeriesInstanceUID}, Instances,
{SOPInstanceUID}, ImageFrames."""

_CHECKSUMS = "PixelDataChecksumFromBaseToFullResolution"

_BLOCK_BYTES = 64 * 1024

# Long runs of digits are found by looking at every 64th byte only, which is 40 times as fast.
_STEP = 64
_RUN_OF_DIGITS = re.compile(rb"[0-9]{%d}" % (MAX_NUMBER_DIGITS // _STEP))
_LONG_RUN_OF_DIGITS = re.compile(rb"[0-9]{%d}(?=[0-9])" % MAX_NUMBER_DIGITS)


@dataclass(frozen=True, slots=True)
class FrameEntry:
    """An image frame, as listed in the metadata.

    Attributes
    ----------
    image_frame_id : str
        HealthImaging's identifier.
    sop_instance_uid : str or None
        The DICOM instance that the frame belongs to; None if the metadata does not list the frame.
    frame_number : int or None
        The frame's number in that instance, from 1 (DICOM PS3.3, section C.7.6.6).
    transfer_syntax_uid : str or None
        The encoding of the stored frame; None means the data store's own lossless format.
    size : int or None
        Size of the stored frame in bytes.
    checksum : int or None
        CRC32 of the decoded pixels at full resolution.
    rows, columns : int or None
        Height and width of the frame in pixels.
    resolutions : int or None
        Number of stored resolutions; None if HealthImaging lists none.
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
    """The document is not the metadata of an image set, or exceeds a bound; the text completes "The metadata …"."""


def frames_of(document: Iterable[bytes]) -> Iterator[FrameEntry]:
    """The frames of an image set, in the order of its metadata.

    The result does not depend on how the document is divided into pieces. Memory is bounded, however long the document
    and its strings are.

    Parameters
    ----------
    document : iterable of bytes
        The JSON document, in pieces of any size.

    Raises
    ------
    MetadataError
        If the document is not JSON or breaks off, has a frame without an identifier, has the same member twice in an
        object on the way to the frames, or exceeds a bound of this module.

    References
    ----------
    AWS HealthImaging developer guide, "Getting image set metadata" and "Pixel data verification".
    RFC 8259, section 4: readers differ in what they make of an object with the same name twice.

    Examples
    --------
    >>> instance = b'{"StoredTransferSyntaxUID": "1.2.840.10008.1.2.4.50", "ImageFrames": [{"ID": "f1"}, {"ID": "f2"}]}'
    >>> document = b'{"Study": {"Series": {"1.2": {"Instances": {"1.2.3": ' + instance + b"}}}}}"
    >>> [(frame.image_frame_id, frame.frame_number) for frame in frames_of([document])]
    [('f1', 1), ('f2', 2)]
    """
    instance = _Instance()
    # The path is kept here: ijson joins the names of its own with dots, which UIDs are full of.
    path: list[Any] = []
    # The names that each object on the path has had; None for an object that holds no frames.
    names: list[set[str] | None] = []
    arrays = 0
    for events in _events_of(document):
        for event, value in events:
            if event == "map_key":
                path[-1] = value
                if (known := names[-1]) is not None:
                    _add_name(known, value)
            elif event == "start_map":
                names.append(set() if _holds_frames(path) else None)
                path.append(None)
                _check_depth(len(path) + arrays)
            elif event == "end_map":
                path.pop()
                names.pop()
                if len(path) == INSTANCE and _is_instance(path):
                    yield from instance.end(path[4])
                elif len(path) >= IMAGE_FRAMES and _is_instance(path):
                    instance.end_of(path[5:])
            elif event == "start_array":
                arrays += 1
                _check_depth(len(path) + arrays)
            elif event == "end_array":
                arrays -= 1
            elif len(path) >= IMAGE_FRAMES and _is_instance(path):
                instance.take(path[5:], value)


def _events_of(document: Iterable[bytes]) -> Iterator[list[tuple[str, Any]]]:
    """The events of the JSON parser, some at a time; each list is valid until the next is asked for.

    Blocks of the document have sizes that depend on the document alone. They grow while the parser is within one token:
    it starts a token again with each block.
    """
    reader = _Reader(document)
    events = ijson.sendable_list()
    try:
        parser = ijson.basic_parse_coro(events)
        silent_bytes = 0
        while block := reader.read(max(_BLOCK_BYTES, min(silent_bytes, MAX_TOKEN_BYTES - silent_bytes))):
            parser.send(block)
            if events:
                silent_bytes = 0
                yield events
                events.clear()
            else:
                silent_bytes += len(block)
                if silent_bytes > MAX_TOKEN_BYTES:
                    raise MetadataError(f"has a value of more than {MAX_TOKEN_BYTES:,} bytes")
        parser.close()
    except (ijson.JSONError, UnicodeError, ArithmeticError):
        # Text with half a surrogate pair, and numbers with an exponent that is out of range, are JSON by its grammar.
        reason = f"has a number of more than {MAX_NUMBER_DIGITS} digits, or " if reader.has_long_number else ""
        raise MetadataError(f"{reason}is not whole JSON") from None
    if events:
        yield events


class _Reader:
    """Reads a document in blocks of exact sizes, with no number in them that is too long.

    Only the parser knows whether digits are in a number or in a string. So a letter is put into each run of digits that
    is too long: a number is an error then, and a string so long holds nothing that is read here.

    Attributes
    ----------
    has_long_number : bool
        Whether there was such a run.
    """

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._content = bytearray()
        self._digits = b""
        self.has_long_number = False

    def read(self, size: int) -> bytes:
        """The next bytes of the document, about `size` of them; none at its end."""
        while len(self._content) < size and (piece := next(self._pieces, None)) is not None:
            self._content += piece
        is_last = len(self._content) < size
        block = self._digits + self._content[:size]
        del self._content[:size]
        if _RUN_OF_DIGITS.search(block[::_STEP]):
            block, count = _LONG_RUN_OF_DIGITS.subn(rb"\g<0>x", block)
            self.has_long_number |= count > 0
        # Digits at the end may go on in the next block.
        end = len(block) if is_last else len(block.rstrip(b"0123456789"))
        self._digits = block[end:]
        return block[:end]


def _add_name(known: set[str], name: str) -> None:
    if name in known:
        raise MetadataError("has the same member twice")
    if len(name) > MAX_NAME_CHARS:
        raise MetadataError(f"has a name of more than {MAX_NAME_CHARS} characters")
    if len(known) == MAX_FRAMES:
        raise MetadataError(f"has an object with more than {MAX_FRAMES:,} members")
    known.add(name)


def _check_depth(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise MetadataError(f"has more than {MAX_DEPTH:,} objects and arrays within one another")


def _holds_frames(path: list[Any]) -> bool:
    """Whether an object is on the way to the frames, or a frame, or in its list of resolutions."""
    fixed = ("Study", "Series", None, "Instances", None, "ImageFrames", _CHECKSUMS)
    return len(path) <= len(fixed) and all(wanted in (None, name) for wanted, name in zip(fixed, path, strict=False))


def _is_instance(path: list[Any]) -> bool:
    return [path[0], path[1], path[3]] == ["Study", "Series", "Instances"]


@dataclass(slots=True)
class _Frame:
    """The values read so far for one frame; an instance can have tens of thousands of frames."""

    id: str | None = None
    size: int | None = None
    checksum: int | None = None
    rows: int | None = None
    columns: int | None = None
    resolutions: int | None = None


class _Instance:
    """The instance that is being read. Its transfer syntax and size may come after its frames."""

    def __init__(self) -> None:
        self._count = 0
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
                self._syntax = _short(value) if isinstance(value, str) else None
            case ["DICOM", "Rows" | "Columns" as name]:
                self._size[name] = _whole_number(value)
            case ["ImageFrames", "ID"]:
                self._frame.id = _short(value) if isinstance(value, str) else None
            case ["ImageFrames", "FrameSizeInBytes"]:
                self._frame.size = _whole_number(value)
            case ["ImageFrames", str(checksums), "Width" | "Height" | "Checksum" as name] if checksums == _CHECKSUMS:
                self._resolution[name] = _whole_number(value)

    def end_of(self, names: list[Any]) -> None:
        """Handle the end of an object within the instance."""
        match names:
            case ["ImageFrames"]:
                self._count += 1
                if self._count > MAX_FRAMES:
                    raise MetadataError(f"lists more than {MAX_FRAMES:,} frames")
                self._frames.append(self._frame)
                self._frame = _Frame()
            case ["ImageFrames", str(checksums)] if checksums == _CHECKSUMS:
                # The list goes from base to full resolution, so the last entry wins.
                frame, resolution = self._frame, self._resolution
                frame.resolutions = (frame.resolutions or 0) + 1
                frame.rows, frame.columns = resolution.get("Height"), resolution.get("Width")
                frame.checksum = resolution.get("Checksum")
                self._resolution = {}

    def end(self, sop_instance_uid: str) -> Iterator[FrameEntry]:
        for number, frame in enumerate(self._frames, start=1):
            if frame.id is None:
                raise MetadataError("lists a frame with no ID")
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


def _short(text: str) -> str:
    if len(text) > MAX_NAME_CHARS:
        raise MetadataError(f"has an identifier of more than {MAX_NAME_CHARS} characters")
    return text


def _whole_number(value: Any) -> int | None:
    """A size or a checksum; None is a value that cannot be one."""
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63
    return value if is_count else None
