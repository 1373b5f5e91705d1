"""Builds the rows of an image set for both tables, from its metadata and from the files that exports have stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from framegate.healthimaging.attributes import AttributeReader
from framegate.healthimaging.image_set_metadata import contents_of
from framegate.table_schema import ATTRIBUTES, IDENTIFYING, TABLES, columns_of
from framegate.tables.values import value_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from framegate.healthimaging.attributes import InstanceAttributes
    from framegate.healthimaging.image_set_metadata import FrameEntry, InstanceEntry
    from framegate.table_schema import Column, ColumnType
    from framegate.tables.stored import ExportState, StoredFile, StoredFiles

ARROW_TYPES: Mapping[ColumnType, pa.DataType] = {
    "string": pa.string(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("ms", tz="UTC"),
    "array<string>": pa.list_(pa.string()),
    "array<double>": pa.list_(pa.float64()),
}

_FROM_METADATA = tuple(each for each in (*ATTRIBUTES, *IDENTIFYING) if each.keyword)
_KEYWORDS = frozenset(each.keyword or "" for each in _FROM_METADATA)
_ROWS, _COLUMNS = (next(each for each in ATTRIBUTES if each.name == name) for name in ("rows", "columns"))
_GROUPS = frozenset(each.group for each in _FROM_METADATA if each.group)


def schema_of(table: str, identifying: Sequence[str]) -> pa.Schema:
    """Return the Arrow schema of a table; see `columns_of`."""
    return pa.schema([(each.name, ARROW_TYPES[each.type]) for each in columns_of(table, identifying)])


@dataclass(frozen=True, slots=True)
class ImageSetMetadata:
    """What the tables take from the metadata of an image set: its instances, and their attributes."""

    instances: tuple[tuple[InstanceEntry, InstanceAttributes], ...]

    @classmethod
    def read(cls, document: Iterator[bytes]) -> ImageSetMetadata:
        """Read the metadata from the JSON document, in pieces of any size.

        Raises
        ------
        MetadataError
            See `contents_of`.
        """
        reader = AttributeReader(_KEYWORDS, _GROUPS)
        contents = contents_of(document, reader.take)
        return cls(
            tuple(
                (each, reader.attributes_of(each.series_instance_uid, each.sop_instance_uid))
                for each in contents.instances
            )
        )


def tables_of(
    state: ExportState,
    version_id: str,
    metadata: ImageSetMetadata,
    files: StoredFiles,
    hash_of: Callable[[str], str],
    identifying: Sequence[str],
) -> dict[str, pa.Table]:
    """Return the rows of an image set by table: those of instances and frames of which the bucket has a file.

    Parameters
    ----------
    state : ExportState
        The image set and its exports.
    version_id : str
        The version that the metadata describes, a decimal number.
    metadata : ImageSetMetadata
        The metadata.
    files : StoredFiles
        The files in the bucket.
    hash_of : callable
        Returns the hash that stands for a SOP instance UID.
    identifying : sequence of str
        The keywords of the identifying columns.
    """
    builders = {table: _Builder(columns_of(table, identifying)) for table in TABLES}
    for entry, attributes in metadata.instances:
        dicom_file = files.instances.get(entry.sop_instance_uid)
        frames = [
            (number, frame, files.frames.get(frame.image_frame_id))
            for number, frame in enumerate(entry.frames)
            if dicom_file or frame.image_frame_id in files.frames
        ]
        if dicom_file is None and not frames:
            continue
        shared = {
            "image_set_id": state.image_set.image_set_id,
            "image_set_version": int(version_id),
            "instance_hash": hash_of(entry.sop_instance_uid),
            "exported_at": state.exported_at,
            "dicom_key": dicom_file.key if dicom_file else None,
        }
        values = _Attributes(entry, attributes, identifying)
        own = {**shared, **values.of_instance()}
        builders["instances"].add(
            {
                **own,
                "dicom_size_bytes": dicom_file.size if dicom_file else None,
                "dicom_checksum_crc32": dicom_file.checksum if dicom_file else None,
                "stored_frames": sum(file is not None for _, _, file in frames),
            }
        )
        for number, frame, file in frames:
            builders["frames"].add({**own, **values.of_frame(number, frame), **_of_file(frame, number + 1, file)})
    return {table: builder.build() for table, builder in builders.items()}


def _of_file(frame: FrameEntry, number: int, file: StoredFile | None) -> dict[str, Any]:
    return {
        "image_frame_id": frame.image_frame_id,
        "frame_number": number,
        "frame_key": file.key if file else None,
        "frame_content_type": file.content_type if file else None,
        "frame_size_bytes": file.size if file else frame.size,
        "frame_checksum_crc32": file.checksum if file else None,
        "pixels_checksum_crc32": frame.checksum,
    }


class _Attributes:
    """The columns with attributes of an instance and its frames."""

    def __init__(self, entry: InstanceEntry, attributes: InstanceAttributes, identifying: Sequence[str]) -> None:
        self._entry = entry
        self._attributes = attributes
        columns = (*ATTRIBUTES, *(each for each in IDENTIFYING if each.keyword in identifying))
        self._own = {each.name: value_of(each, attributes.own) for each in columns if each.keyword}
        grouped = [each for each in columns if each.group]
        self._own |= _of_groups(grouped, attributes.groups)
        self._of_frames = [_of_groups(grouped, groups) for groups in attributes.frame_groups]

    def of_instance(self) -> dict[str, Any]:
        """Return the values of the instance. What its frames do not share is null."""
        frames = self._entry.frames
        count = self._own["number_of_frames"]
        values = {
            **self._own,
            "transfer_syntax_uid": self._entry.transfer_syntax_uid,
            "number_of_frames": len(frames) if count is None else count,
        }
        if self._of_frames:
            first, *others = self._of_frames
            for name in {name for each in self._of_frames for name in each}:
                shared = first.get(name)
                values[name] = shared if all(each.get(name) == shared for each in others) else None
        return values

    def of_frame(self, number: int, frame: FrameEntry) -> dict[str, Any]:
        """Return the values of a frame, counted from 0, that may differ from those of the instance."""
        values: dict[str, Any] = {}
        for column, size in ((_ROWS, frame.rows), (_COLUMNS, frame.columns)):
            if size is not None:
                values[column.name] = value_of(column, {column.keyword or "": size})
        if self._of_frames:
            names = {name for each in self._of_frames for name in each}
            values |= {name: self._own[name] for name in names}
            values |= self._of_frames[number] if number < len(self._of_frames) else {}
        return values


def _of_groups(columns: Sequence[Column], groups: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that functional groups have."""
    found = {}
    for column in columns:
        items = groups.get(column.group or "")
        group = items[0] if isinstance(items, list) and items and isinstance(items[0], dict) else {}
        if column.keyword in group:
            found[column.name] = value_of(column, group)
    return found


class _Builder:
    """Collects rows by column."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._values: dict[str, list[Any]] = {each.name: [] for each in columns}

    def add(self, row: Mapping[str, Any]) -> None:
        for name, values in self._values.items():
            values.append(row.get(name))

    def build(self) -> pa.Table:
        """Return the rows."""
        return pa.table(
            {each.name: pa.array(self._values[each.name], ARROW_TYPES[each.type]) for each in self._columns}
        )
