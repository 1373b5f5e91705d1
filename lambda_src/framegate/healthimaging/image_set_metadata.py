"""Reads the frames and the study of an image set from its metadata, as a stream and within bounds."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ijson

from framegate.identifiers import is_uid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

MAX_FRAMES = 500_000
"""Maximum number of frames in an image set, and of members in an object on the path to them.

HealthImaging allows 50 MB of metadata, which list some 125,000 frames.
"""

MAX_TOKEN_BYTES = 16 * 1024 * 1024
"""Maximum size of a string or a number: the parser keeps each in memory.

HealthImaging stores values over 1 MB outside the metadata.
"""

MAX_NUMBER_DIGITS = 640
"""Maximum number of consecutive digits in a number.

Python converts this many to an int whatever its limit is (`sys.int_info.str_digits_check_threshold`). Above the limit,
ijson's C parser (3.6) puts a null pointer into its list of events, and the process crashes.
"""

MAX_NAME_CHARS = 256
"""Maximum length of an identifier, and of a member's name on the path to the frames.

A UID has at most 64 characters (DICOM PS3.5, section 9.1).
"""

MAX_DEPTH = 1000
"""Maximum nesting of objects and arrays."""

_CHECKSUMS = "PixelDataChecksumFromBaseToFullResolution"

_LIMITS = ("MinPixelValue", "MaxPixelValue")

_BLOCK_BYTES = 64 * 1024

# To find long runs of digits, looking at every 64th byte is enough, and 40 times as fast.
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


@dataclass(frozen=True, slots=True)
class InstanceEntry:
    """A SOP instance, as listed in the metadata.

    Attributes
    ----------
    series_instance_uid, sop_instance_uid : str
        The series and the instance.
    transfer_syntax_uid : str or None
        The encoding of the stored frames; None means the data store's own lossless format.
    frames : tuple of FrameEntry
        Its frames; none for an instance without pixels, such as a report.
    value_ranges : tuple
        For each frame, the least and the greatest stored value of a pixel; None if HealthImaging lists none.
    """

    series_instance_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str | None
    frames: tuple[FrameEntry, ...]
    value_ranges: tuple[tuple[int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class ImageSetContents:
    """The study of an image set, and its instances in the order of its metadata."""

    study_instance_uid: str | None
    instances: tuple[InstanceEntry, ...]


class MetadataError(ValueError):
    """The document is not the metadata of an image set, or exceeds a bound; the text completes "The metadata …"."""


@dataclass(frozen=True, slots=True, eq=False)
class _Value:
    """A string or a number.

    Attributes
    ----------
    name : str
        What an error calls it.
    is_strict : bool
        Whether an object or an array in its place is an error; otherwise the value counts as absent.
    """

    name: str
    is_strict: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class _Array:
    """An array of objects."""

    name: str
    item: _Object


@dataclass(frozen=True, slots=True, eq=False)
class _Object:
    """An object.

    Attributes
    ----------
    name : str
        What an error calls it.
    members : mapping
        The members that are read, by name.
    each_member : _Object or None
        What every member is, in an object whose names are UIDs.
    has_unique_names : bool
        Whether a duplicate name is an error.
    """

    name: str
    members: Mapping[str, _Node] = field(default_factory=dict)
    each_member: _Object | None = None
    has_unique_names: bool = True


_Node = _Value | _Array | _Object

_RESOLUTION = _Object("a resolution", {name: _Value(name) for name in ("Width", "Height", "Checksum")})
_FRAME = _Object(
    "an image frame",
    {
        "ID": _Value("ID"),
        "FrameSizeInBytes": _Value("FrameSizeInBytes"),
        # Nobody but HealthImaging writes them, but they only decide how a frame without a window is drawn.
        **{name: _Value(name, is_strict=False) for name in _LIMITS},
        _CHECKSUMS: _Array(_CHECKSUMS, _RESOLUTION),
    },
)
# The attributes come from the imported file, where anything can be wrong. HealthImaging writes all other members.
_DICOM = _Object(
    "DICOM",
    {name: _Value(name, is_strict=False) for name in ("Rows", "Columns")},
    has_unique_names=False,
)
_INSTANCE = _Object(
    "an instance",
    {
        "StoredTransferSyntaxUID": _Value("StoredTransferSyntaxUID"),
        "DICOM": _DICOM,
        "ImageFrames": _Array("ImageFrames", _FRAME),
    },
)
_SERIES = _Object("a series", {"Instances": _Object("Instances", each_member=_INSTANCE)})
_STUDY_DICOM = _Object(
    "DICOM", {"StudyInstanceUID": _Value("StudyInstanceUID", is_strict=False)}, has_unique_names=False
)
_STUDY = _Object("Study", {"DICOM": _STUDY_DICOM, "Series": _Object("Series", each_member=_SERIES)})
_DOCUMENT = _Object("a document", {"Study": _STUDY})

_STUDY_UID_PATH = ["Study", "DICOM", "StudyInstanceUID"]


def frames_of(document: Iterable[bytes]) -> Iterator[FrameEntry]:
    """Yield the frames of an image set in the order of its metadata.

    The result does not depend on how the document is divided into pieces. Memory is bounded, however long the document
    and its strings are. A member that is null counts as absent.

    Parameters
    ----------
    document : iterable of bytes
        The JSON document, in pieces of any size.

    Raises
    ------
    MetadataError
        If the document is not JSON or is truncated, or exceeds a bound of this module. If a frame has no identifier. If
        an object on the path to the frames has duplicate members, or anything on that path has the wrong type, such as
        null in a list of frames, or a list where HealthImaging has one value.

    References
    ----------
    AWS HealthImaging developer guide, "Getting image set metadata" and "Pixel data verification".
    RFC 8259, section 4: parsers differ in how they treat duplicate names in an object.

    Examples
    --------
    >>> instance = b'{"StoredTransferSyntaxUID": "1.2.840.10008.1.2.4.50", "ImageFrames": [{"ID": "f1"}, {"ID": "f2"}]}'
    >>> document = b'{"Study": {"Series": {"1.2": {"Instances": {"1.2.3": ' + instance + b"}}}}}"
    >>> [(frame.image_frame_id, frame.frame_number) for frame in frames_of([document])]
    [('f1', 1), ('f2', 2)]
    """
    for _, instance in _walk(document):
        if instance is not None:
            yield from instance.frames


def contents_of(
    document: Iterable[bytes], observe: Callable[[list[tuple[str, Any]]], None] | None = None
) -> ImageSetContents:
    """Return the study and the instances of an image set; see `frames_of` for the document and the errors.

    `observe`, if given, gets each list of the parser's events, so that another reader needs no second call.

    Examples
    --------
    >>> series = b'{"1.2.3": {"Instances": {"1.2.3.4": {"DICOM": {}, "ImageFrames": []}}}}'
    >>> contents = contents_of([b'{"Study": {"DICOM": {"StudyInstanceUID": "1.2"}, "Series": ' + series + b"}}"])
    >>> contents.study_instance_uid, [each.sop_instance_uid for each in contents.instances]
    ('1.2', ['1.2.3.4'])
    """
    study_uid: str | None = None
    instances = []
    for uid, instance in _walk(document, observe):
        # An import with a warning can have a UID of another form, and DICOMweb finds it by that.
        study_uid = _short(uid) if isinstance(uid, str) else study_uid
        if instance is not None:
            instances.append(instance)
    return ImageSetContents(study_uid, tuple(instances))


def _walk(
    document: Iterable[bytes], observe: Callable[[list[tuple[str, Any]]], None] | None = None
) -> Iterator[tuple[str | None, InstanceEntry | None]]:
    """Yield the UID of the study, wherever it stands, and each instance at its end, as pairs with None."""
    instance = _Instance()
    path: list[_Open] = []
    for events in events_of(document):
        if observe:
            observe(events)
        for event, value in events:
            if event == "map_key":
                path[-1].begin_member(value)
            elif event in ("end_map", "end_array"):
                ended = path.pop().node
                if ended is _INSTANCE:
                    # The path is document, Study, Series, a series, and its instances.
                    yield None, instance.end(path[2].member, path[-1].member)
                elif ended is _FRAME:
                    instance.end_frame()
                elif ended is _RESOLUTION:
                    instance.end_resolution()
            else:
                node = path[-1].child if path else _DOCUMENT
                if event in ("start_map", "start_array"):
                    path.append(_opened(node, is_object=event == "start_map"))
                    check_depth(len(path))
                elif node is not None:
                    _check_value(node, path, is_null=value is None)
                    if path[-1].node is _STUDY_DICOM:
                        yield value, None
                    else:
                        instance.take(path[-1].node, path[-1].member, value)


def study_of(document: Iterable[bytes]) -> str | None:
    """Return the study instance UID of an image set, and read no further than that.

    Parameters
    ----------
    document : iterable of bytes
        The JSON document, in pieces of any size.

    Returns
    -------
    str or None
        The UID; None if the document has none, or anything else in its place.

    Raises
    ------
    MetadataError
        If the document up to the UID is not JSON or exceeds a bound of this module.

    Examples
    --------
    >>> study_of([b'{"Study": {"DICOM": {"StudyInstanceUID": "1.2.3"}, "Series": {}}}'])
    '1.2.3'
    """
    for path, event, value in _located(document):
        if event != "map_key" and path == _STUDY_UID_PATH:
            return value if is_uid(value) else None
    return None


def series_of(document: Iterable[bytes]) -> tuple[str, str] | None:
    """Return the UIDs of the study and of the first series of an image set, and read no further than that.

    HealthImaging writes the attributes of the study before its series.

    Parameters
    ----------
    document : iterable of bytes
        The JSON document, or its beginning, in pieces of any size.

    Returns
    -------
    tuple of two str, or None
        The UIDs; None if one of them is missing or malformed, or if the beginning lacks it.

    Examples
    --------
    >>> series_of([b'{"Study": {"DICOM": {"StudyInstanceUID": "1.2.3"}, "Series": {"1.2.4": {"Inst'])
    ('1.2.3', '1.2.4')
    """
    study_uid: object = None
    try:
        for path, event, value in _located(document):
            if event == "map_key":
                if len(path) == 3 and path[:2] == ["Study", "Series"]:
                    return (str(study_uid), value) if is_uid(study_uid) and is_uid(value) else None
            elif path == _STUDY_UID_PATH:
                study_uid = value
    except MetadataError:
        pass
    return None


def _located(document: Iterable[bytes]) -> Iterator[tuple[list[str | None], str, Any]]:
    """Yield the names of members and the values in a document, with the path of each.

    A path has the names of the members that the parser is in, and None for an array. It changes with the next event.
    """
    path: list[str | None] = []
    for events in events_of(document):
        for event, value in events:
            if event in ("start_map", "start_array"):
                path.append(None)
                check_depth(len(path))
            elif event in ("end_map", "end_array"):
                path.pop()
            else:
                if event == "map_key":
                    path[-1] = value
                yield path, event, value


class _Open:
    """An object or array that the parser is in.

    Attributes
    ----------
    node : _Array, _Object or None
        What it is; None if it is not on the path to the frames.
    member : str
        Name of the current member of an object. ijson would join names with dots, which UIDs are full of.
    """

    __slots__ = ("_names", "member", "node")

    def __init__(self, node: _Array | _Object | None) -> None:
        self.node = node
        self.member = ""
        is_tracked = isinstance(node, _Object) and node.has_unique_names
        self._names: set[str] | None = set() if is_tracked else None

    def begin_member(self, name: str) -> None:
        self.member = name
        if self._names is not None:
            _add_name(self._names, name)

    @property
    def child(self) -> _Node | None:
        """What the current member or item should be; None if it is not on the path to the frames."""
        match self.node:
            case _Array():
                return self.node.item
            case _Object():
                return self.node.each_member or self.node.members.get(self.member)
        return None


def _opened(node: _Node | None, *, is_object: bool) -> _Open:
    """Check that an object or array is where it should be, and open it."""
    match node:
        case None | _Value(is_strict=False):
            return _Open(None)
        case _Object() if is_object:
            return _Open(node)
        case _Array() if not is_object:
            return _Open(node)
    raise _wrong_type(node)


def _check_value(node: _Node, path: list[_Open], *, is_null: bool) -> None:
    """Check that a string, a number or null is where it should be."""
    parent = path[-1].node if path else None
    is_absent_member = is_null and isinstance(parent, _Object) and parent.each_member is None
    if not isinstance(node, _Value) and not is_absent_member:
        raise _wrong_type(node)


def _wrong_type(node: _Node) -> MetadataError:
    if node is _DOCUMENT:
        return MetadataError("is not a JSON object")
    expected = {_Value: "a single value", _Array: "an array", _Object: "an object"}[type(node)]
    return MetadataError(f"has {node.name} that is not {expected}")


def events_of(document: Iterable[bytes]) -> Iterator[list[tuple[str, Any]]]:
    """Yield the events of the JSON parser in lists; each list is valid until the next is requested.

    The sizes of the blocks that the parser gets depend on the document alone. Blocks grow while the parser is within
    one token, because it starts that token again with each block.

    Raises
    ------
    MetadataError
        If the document is not JSON or is truncated, or has a token that exceeds a bound of this module.
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
        # JSON's grammar allows half a surrogate pair in a string and an exponent that is out of range in a number.
        reason = f"has a number of more than {MAX_NUMBER_DIGITS} digits, or " if reader.has_long_number else ""
        raise MetadataError(f"{reason}is not complete JSON") from None
    if events:
        yield events


class _Reader:
    """Reads a document in blocks of exact sizes that hold no overlong number.

    Only the parser knows whether digits belong to a number or to a string. The reader therefore inserts a letter into
    each overlong run of digits. That turns a number into an error, and changes only strings that nobody reads.

    Attributes
    ----------
    has_long_number : bool
        Whether the reader found an overlong run of digits.
    """

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._content = bytearray()
        self._digits = b""
        self.has_long_number = False

    def read(self, size: int) -> bytes:
        """Return about `size` bytes; none at the end of the document."""
        while len(self._content) < size and (piece := next(self._pieces, None)) is not None:
            self._content += piece
        is_last = len(self._content) < size
        block = self._digits + self._content[:size]
        del self._content[:size]
        if _RUN_OF_DIGITS.search(block[::_STEP]):
            block, count = _LONG_RUN_OF_DIGITS.subn(rb"\g<0>x", block)
            self.has_long_number |= count > 0
        # A run of digits at the end may continue in the next block.
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


def check_depth(depth: int) -> None:
    """Raise MetadataError if objects and arrays are nested too deeply."""
    if depth > MAX_DEPTH:
        raise MetadataError(f"has more than {MAX_DEPTH:,} nested objects and arrays")


@dataclass(slots=True)
class _Frame:
    """The values read so far for one frame. Slots, because an instance can have tens of thousands of frames."""

    id: str | None = None
    size: int | None = None
    checksum: int | None = None
    rows: int | None = None
    columns: int | None = None
    resolutions: int | None = None
    limits: dict[str, int] | None = None

    @property
    def value_range(self) -> tuple[int, int] | None:
        low, high = ((self.limits or {}).get(name) for name in _LIMITS)
        return None if low is None or high is None or low > high else (low, high)


class _Instance:
    """The instance that is being read. Its transfer syntax and size may follow its frames."""

    def __init__(self) -> None:
        self._count = 0
        self._begin()

    def _begin(self) -> None:
        self._syntax: str | None = None
        self._size: dict[str, int | None] = {}
        self._frame = _Frame()
        self._frames: list[_Frame] = []
        self._resolution: dict[str, int | None] = {}

    def take(self, parent: _Array | _Object | None, name: str, value: Any) -> None:
        """Take the value of a member that is read; null in place of an object or an array says nothing."""
        if parent is _FRAME and name == "ID":
            self._frame.id = _short(value) if isinstance(value, str) else None
        elif parent is _FRAME and name == "FrameSizeInBytes":
            self._frame.size = _whole_number(value)
        elif parent is _FRAME and isinstance(value, int) and abs(value) < 1 << 63:
            self._frame.limits = {**(self._frame.limits or {}), name: int(value)}
        elif parent is _RESOLUTION:
            self._resolution[name] = _whole_number(value)
        elif parent is _DICOM:
            self._size[name] = _whole_number(value)
        elif parent is _INSTANCE and name == "StoredTransferSyntaxUID":
            self._syntax = _short(value) if isinstance(value, str) else None

    def end_frame(self) -> None:
        self._count += 1
        if self._count > MAX_FRAMES:
            raise MetadataError(f"lists more than {MAX_FRAMES:,} frames")
        self._frames.append(self._frame)
        self._frame = _Frame()

    def end_resolution(self) -> None:
        # The list goes from base to full resolution, so the last entry wins.
        frame, resolution = self._frame, self._resolution
        frame.resolutions = (frame.resolutions or 0) + 1
        frame.rows, frame.columns = resolution.get("Height"), resolution.get("Width")
        frame.checksum = resolution.get("Checksum")
        self._resolution = {}

    def end(self, series_instance_uid: str, sop_instance_uid: str) -> InstanceEntry:
        for frame in self._frames:
            if frame.id is None:
                raise MetadataError("lists a frame with no ID")
        frames = (
            FrameEntry(
                str(frame.id),
                sop_instance_uid,
                number,
                self._syntax,
                frame.size,
                frame.checksum,
                frame.rows or self._size.get("Rows"),
                frame.columns or self._size.get("Columns"),
                frame.resolutions,
            )
            for number, frame in enumerate(self._frames, start=1)
        )
        ranges = tuple(frame.value_range for frame in self._frames)
        entry = InstanceEntry(series_instance_uid, sop_instance_uid, self._syntax, tuple(frames), ranges)
        self._begin()
        return entry


def _short(text: str) -> str:
    """Return an identifier if it is short enough."""
    if len(text) > MAX_NAME_CHARS:
        raise MetadataError(f"has an identifier of more than {MAX_NAME_CHARS} characters")
    return text


def _whole_number(value: Any) -> int | None:
    """Return a size or a checksum; None for a value that cannot be one."""
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63
    return value if is_count else None
