"""Reads and writes the Parquet files of the tables.

A file also tells which state of each image set its rows describe.
"""

from __future__ import annotations

import io
import json
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

ROW_GROUP_ROWS = 16_384
"""Rows of a row group. Readers skip a row group by the statistics of its columns."""

SORT_COLUMNS = ("modality", "body_part_examined", "manufacturer", "image_set_id", "instance_number", "instance_hash")
"""The columns by which rows are sorted, so that the statistics tell row groups apart. Frames follow their numbers."""

_STATES, _WRITE = b"framegate.image_sets", b"framegate.write"


@dataclass(frozen=True, slots=True)
class TablePart:
    """The content of a file of a table.

    Attributes
    ----------
    rows : pa.Table
        The rows.
    states : mapping of str to str
        The state of each image set that the rows describe, by image set id; see `ExportState.fingerprint`.
    """

    rows: pa.Table
    states: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def decode(cls, content: bytes, schema: pa.Schema) -> TablePart:
        """Read a file. Columns that it lacks are null, and columns that the schema lacks are dropped."""
        file = pq.ParquetFile(pa.BufferReader(content))
        metadata = file.schema_arrow.metadata or {}
        names = set(file.schema_arrow.names)
        found = file.read(columns=[name for name in schema.names if name in names])
        columns = [
            found[each.name].cast(each.type) if each.name in names else pa.nulls(found.num_rows, each.type)
            for each in schema
        ]
        states = json.loads(metadata.get(_STATES, b"{}"))
        if file.schema_arrow.names != schema.names:
            # The rows lack the values of other columns now, so they describe no state completely.
            states = dict.fromkeys(states, "")
        return cls(pa.table(columns, schema=schema), states)

    def replaced(self, removed: Collection[str], added: Mapping[str, tuple[str, pa.Table]]) -> TablePart:
        """Return the content without the rows of some image sets, and with new rows of others.

        Parameters
        ----------
        removed : collection of str
            The ids of image sets whose rows go.
        added : mapping of str to tuple
            State and rows of the image sets whose rows are replaced, by image set id.
        """
        gone = {*removed, *added}
        column = self.rows["image_set_id"]
        kept = self.rows.filter(pc.invert(pc.is_in(column, pa.array(sorted(gone), pa.string()))))
        states = {name: state for name, state in self.states.items() if name not in gone}
        states |= {name: state for name, (state, _) in added.items()}
        return TablePart(pa.concat_tables([kept, *(rows for _, rows in added.values())]), states)

    def encode(self) -> bytes:
        """Return the file. It differs from every other file, so that its entity tag does, too."""
        names: Sequence[str] = [*SORT_COLUMNS, *(["frame_number"] if "frame_number" in self.rows.column_names else [])]
        order = pc.sort_indices(self.rows, sort_keys=[(name, "ascending") for name in names])
        metadata = {_STATES: json.dumps(dict(self.states)).encode(), _WRITE: uuid.uuid4().bytes.hex().encode()}
        rows = self.rows.take(order).replace_schema_metadata(metadata)
        target = io.BytesIO()
        pq.write_table(rows, target, compression="zstd", row_group_size=ROW_GROUP_ROWS, write_page_index=True)
        return target.getvalue()
