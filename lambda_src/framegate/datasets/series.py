"""Reads what the DICOM files of an image set are made of: the data set of each instance, and the list of its frames."""

from __future__ import annotations

import codecs
import json
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from framegate.datasets.encoding import BulkData, DatasetError, EncodedDataset, SharedElements, encode_dataset
from framegate.datasets.part10 import FORMAT, PixelLayout, file_head, is_video
from framegate.dicomweb.metadata import DICOM_JSON
from framegate.dicomweb.uids import hash_of, instance_hash
from framegate.healthimaging.client import MAX_METADATA_BYTES, SERVICE
from framegate.healthimaging.image_set_metadata import MetadataError, contents_of
from framegate.healthimaging.media_types import EXPLICIT_LITTLE_ENDIAN
from framegate.problems import UpstreamFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from framegate.healthimaging.client import FrameStream, HealthImaging
    from framegate.healthimaging.image_set_metadata import FrameEntry, ImageSetContents, InstanceEntry
    from framegate.identifiers import ImageSetRef
    from framegate.time_budget import TimeBudget

MAX_INSTANCE_CHARS = 64 * 1024 * 1024
"""Maximum size of the metadata of one instance. HealthImaging allows 50 MB for a whole image set."""

_SOP_CLASS_UID, _SOP_INSTANCE_UID = "00080016", "00080018"
_SAMPLES_PER_PIXEL, _NUMBER_OF_FRAMES = "00280002", "00280008"
_ROWS, _COLUMNS, _BITS_ALLOCATED, _BITS_STORED = "00280010", "00280011", "00280100", "00280101"


@dataclass(frozen=True, slots=True)
class InstanceSource:
    """What the DICOM file of an instance is made of.

    Attributes
    ----------
    path : tuple of str
        The segments of the instance's path in DICOMweb, below the data store.
    sop_class_uid, sop_instance_uid : str
        Its class and its UID.
    name : str
        The keyed hash of its UID, which names the file.
    content_id : str
        A keyed hash of all that the file is made of: it changes when the file would change.
    dataset : EncodedDataset or None
        Its data set without pixel data; None if only HealthImaging can write the file, because the import kept the
        pixel data as it was.
    frames : tuple of FrameEntry
        Its frames.
    transfer_syntax_uid : str or None
        The transfer syntax of the frames, and of the file; None if only a frame itself tells it.
    samples_per_pixel, rows, columns, bits_allocated : int
        The size of a frame in samples, and of a sample in bits.
    is_float : bool
        Whether the samples are floating point numbers, which have no Bits Stored (PS3.3, section C.7.6.24).
    """

    path: tuple[str, ...]
    sop_class_uid: str
    sop_instance_uid: str
    name: str
    content_id: str
    dataset: EncodedDataset | None
    frames: tuple[FrameEntry, ...]
    transfer_syntax_uid: str | None
    samples_per_pixel: int
    rows: int
    columns: int
    bits_allocated: int
    is_float: bool

    @property
    def frame_bits(self) -> int:
        """Bits of an uncompressed frame."""
        return self.rows * self.columns * self.samples_per_pixel * self.bits_allocated

    @property
    def file_syntax(self) -> str | None:
        """The transfer syntax of the file; None if it is unknown."""
        if self.dataset is None:
            return None
        return self.transfer_syntax_uid if self.frames else EXPLICIT_LITTLE_ENDIAN

    @property
    def head(self) -> bytes:
        """The preamble and the file meta information. The transfer syntax must be known."""
        return file_head(self.sop_class_uid, self.sop_instance_uid, self.file_syntax or EXPLICIT_LITTLE_ENDIAN)

    def layout(self) -> PixelLayout | None:
        """Lay out the pixel data; None if the instance has none. Transfer syntax and sizes must be known.

        Raises
        ------
        DatasetError
            If the pixel data is too large for a file.
        """
        if not self.frames:
            return None
        return PixelLayout(
            self.transfer_syntax_uid or "",
            tuple(frame.size or 0 for frame in self.frames),
            self.bits_allocated,
            self.frame_bits,
            self.is_float,
        )

    def size(self, layout: PixelLayout | None) -> int | None:
        """The size of the file in bytes; None if it contains bulk data, whose size is unknown."""
        parts = self.dataset.parts if self.dataset else ()
        if self.dataset is None or any(isinstance(part, BulkData) for part in parts):
            return None
        return len(self.head) + sum(map(len, parts)) + (layout.size if layout else 0)  # type: ignore[arg-type]


class SeriesReader:
    """Reads the instances of image sets, with one call for the list of frames and one for each series.

    Parameters
    ----------
    source : HealthImaging
        Provides the metadata.
    hash_secret : str
        The key of the hashes that stand for UIDs in keys.
    """

    def __init__(self, source: HealthImaging, hash_secret: str) -> None:
        self._source = source
        self._hash_secret = hash_secret

    def name_of(self, image_set: ImageSetRef, sop_instance_uid: str) -> str:
        """Return the name of an instance's file."""
        return instance_hash(self._hash_secret, image_set, sop_instance_uid)

    def read(
        self,
        image_set: ImageSetRef,
        budget: TimeBudget,
        select: Callable[[str], bool] = lambda _: True,
    ) -> list[InstanceSource]:
        """Return the instances of the latest version of an image set, in the order of its metadata.

        HealthImaging's DICOMweb knows the latest version only.

        Parameters
        ----------
        image_set : ImageSetRef
            The image set.
        budget : TimeBudget
            The time for it.
        select : callable
            Whether to return the instance with a UID.

        Raises
        ------
        FrameNotFound
            If there is no such image set.
        UpstreamFailed
            If the two kinds of metadata do not list the same instances: the image set has just changed.
        Problem
            As `HealthImaging` raises it.
        """
        contents = self._source.fetch_metadata(image_set, None, _contents, budget)
        found: dict[str, InstanceSource] = {}
        for series_uid in dict.fromkeys(each.series_instance_uid for each in contents.instances):
            found |= self._series(image_set, contents, series_uid, select, budget)
        selected = [each.sop_instance_uid for each in contents.instances if select(each.sop_instance_uid)]
        if found.keys() != set(selected):
            raise UpstreamFailed(SERVICE, "sent metadata of different versions")
        return [found[uid] for uid in selected]

    def _series(
        self,
        image_set: ImageSetRef,
        contents: ImageSetContents,
        series_uid: str,
        select: Callable[[str], bool],
        budget: TimeBudget,
    ) -> dict[str, InstanceSource]:
        entries = {each.sop_instance_uid: each for each in contents.instances if each.series_instance_uid == series_uid}
        path = ("studies", contents.study_instance_uid or "", "series", series_uid)

        def read(stream: FrameStream) -> dict[str, InstanceSource]:
            found = {}
            shared: SharedElements = {}
            for text, document in documents_in(stream):
                uid = _text(document, _SOP_INSTANCE_UID)
                if uid in entries and select(uid):
                    found[uid] = self._instance(image_set, path, entries[uid], text, document, shared)
            return found

        def read_checked(stream: FrameStream) -> dict[str, InstanceSource]:
            try:
                return read(stream)
            except DatasetError as error:
                raise UpstreamFailed(SERVICE, f"sent metadata that {error}") from None

        # The parameter also selects a primary image set, and leaves out other image sets of the same series.
        query = (("imageSetId", image_set.image_set_id),)
        return self._source.fetch_dicomweb(
            image_set.datastore_id, (*path, "metadata"), query, DICOM_JSON, read_checked, budget
        )

    def _instance(
        self,
        image_set: ImageSetRef,
        series_path: Sequence[str],
        entry: InstanceEntry,
        text: str,
        document: Mapping[str, Any],
        shared: SharedElements,
    ) -> InstanceSource:
        frames = entry.frames
        content = sha256(text.encode())
        content.update(f"{FORMAT} {entry.transfer_syntax_uid}".encode())
        for frame in frames:
            content.update(f" {frame.image_frame_id} {frame.size}".encode())
        source = InstanceSource(
            (*series_path, "instances", entry.sop_instance_uid),
            _text(document, _SOP_CLASS_UID),
            entry.sop_instance_uid,
            self.name_of(image_set, entry.sop_instance_uid),
            hash_of(self._hash_secret, content.hexdigest()),
            None,
            frames,
            entry.transfer_syntax_uid,
            _number(document, _SAMPLES_PER_PIXEL, 1),
            _number(document, _ROWS, 0),
            _number(document, _COLUMNS, 0),
            _number(document, _BITS_ALLOCATED, 8),
            _BITS_STORED not in document,
        )
        is_image = source.rows > 0 and source.columns > 0
        expected = _number(document, _NUMBER_OF_FRAMES, 1) if is_image else 0
        if is_image and len(frames) != expected and not (frames and is_video(entry.transfer_syntax_uid or "")):
            return source
        # Python takes JSON's true for 1, so an instance that may have truth values shares nothing.
        may_share = "true" not in text and "false" not in text
        try:
            return replace(source, dataset=encode_dataset(document, shared if may_share else None))
        except DatasetError:
            # HealthImaging's own file may still represent what its metadata does not.
            return source


def _contents(document: Iterator[bytes]) -> ImageSetContents:
    try:
        return contents_of(document)
    except MetadataError as error:
        raise UpstreamFailed(SERVICE, f"sent metadata that {error}") from None


def documents_in(pieces: Iterable[bytes]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the objects in a JSON array that comes in pieces: the text of each, and the object.

    Memory is bounded by the largest object. Numbers with a fraction stay text, which keeps their digits.

    Raises
    ------
    DatasetError
        If the document is not an array of objects, is incomplete, or has an object that is too large.

    Examples
    --------
    >>> list(documents_in([b'[{"a": 0.50},', b'{"b": 2}]']))
    [('{"a": 0.50}', {'a': '0.50'}), ('{"b": 2}', {'b': 2})]
    """
    reader = _TextReader(pieces)
    decoder = json.JSONDecoder(parse_float=str)
    opening = "["
    while True:
        character = reader.next_character()
        if character == "]" and opening != "[":
            break
        if character != opening:
            raise DatasetError("is not complete JSON" if not character else "is not an array of objects")
        reader.position += 1
        if opening == "[" and reader.next_character() == "]":
            break
        if reader.next_character() != "{":
            raise DatasetError("is not an array of objects")
        yield reader.read_object(decoder)
        opening = ","


class _TextReader:
    """Reads text that comes in pieces of UTF-8."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._size = 0
        self.position = 0

    def next_character(self) -> str:
        """Return the next character that is not white space, and move to it; empty at the end."""
        while True:
            while self.position < len(self._text) and self._text[self.position] in " \t\r\n":
                self.position += 1
            if self.position < len(self._text):
                return self._text[self.position]
            if not self._read_more(1):
                return ""

    def read_object(self, decoder: json.JSONDecoder) -> tuple[str, dict[str, Any]]:
        """Read the object at the position, and move behind it."""
        while True:
            try:
                document, end = decoder.raw_decode(self._text, self.position)
            except RecursionError:
                raise DatasetError("has too many nested objects") from None
            except ValueError:
                held = len(self._text) - self.position
                if held > MAX_INSTANCE_CHARS:
                    raise DatasetError("has an instance that is too large") from None
                # An object is parsed again with each piece, so the pieces grow with it.
                if not self._read_more(held):
                    raise DatasetError("is not complete JSON") from None
                continue
            text = self._text[self.position : end]
            self.position = end
            return text, document

    def _read_more(self, chars: int) -> bool:
        """Read at least `chars` characters if there are as many; return whether there was any."""
        held = [self._text[self.position :]]
        read = 0
        try:
            while read < chars and (piece := next(self._pieces, None)) is not None:
                self._size += len(piece)
                if self._size > MAX_METADATA_BYTES:
                    raise DatasetError("is too large")
                held.append(self._decoder.decode(piece))
                read += len(held[-1])
        except UnicodeError:
            raise DatasetError("is not UTF-8") from None
        self._text, self.position = "".join(held), 0
        return read > 0


def _first(document: Mapping[str, Any], tag: str) -> Any:
    try:
        return document[tag]["Value"][0]
    except (KeyError, IndexError, TypeError):
        return None


def _text(document: Mapping[str, Any], tag: str) -> str:
    value = _first(document, tag)
    return value if isinstance(value, str) else ""


def _number(document: Mapping[str, Any], tag: str, default: int) -> int:
    try:
        return int(_first(document, tag))
    except (TypeError, ValueError):
        return default
