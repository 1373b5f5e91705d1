"""Measures queries of the table of frames with DuckDB: seconds, and bytes read, over a million generated rows."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.measure import Row, last_line_of_python, row

if TYPE_CHECKING:
    import pyarrow as pa

ROWS, ROWS_OF_IMAGE_SET, IMAGE_SETS_OF_FILE = 1_000_000, 400, 250
MEGABYTE = 1e6
TURNS = 5

KINDS = tuple(product(("CT", "MR", "CR", "PT", "US"), ("CHEST", "HEAD", "ABDOMEN", "KNEE"), ("ACME", "Globex")))
"""Modality, body part and manufacturer of the generated image sets, in turns."""

QUERIES = {
    "thin slices of chest CT": (
        "SELECT frame_key, image_position_patient_mm FROM frames "
        "WHERE modality = 'CT' AND body_part_examined = 'CHEST' AND slice_thickness_mm <= 1"
    ),
    "frames by modality and body part": "SELECT modality, body_part_examined, count(*) FROM frames GROUP BY ALL",
}

# Bytes are counted for a process, so each measurement has its own. The counter includes what the page cache has.
PROGRAM = """
import duckdb, json, psutil, time

connection = duckdb.connect()
connection.execute("SELECT 1").fetchall()
process = psutil.Process()
before, started = process.io_counters().read_chars, time.perf_counter()
connection.execute(
    "CREATE VIEW frames AS SELECT * FROM read_parquet({files!r}, hive_partitioning = true, "
    "hive_types_autocast = false, union_by_name = true)"
)
found = connection.execute({query!r}).fetchall()
assert found
print(json.dumps([time.perf_counter() - started, process.io_counters().read_chars - before]))
"""


def measure() -> list[Row]:
    """Write the rows as the table function does, and query them."""
    import json

    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        files = _write(Path(folder))
        total = sum(path.stat().st_size for path in Path(folder).rglob("*.parquet"))
        for name, query in QUERIES.items():
            program = PROGRAM.format(files=files, query=query)
            found = [json.loads(last_line_of_python("-c", program)) for _ in range(TURNS)]
            rows += [
                row(f"DuckDB over {ROWS:,} frames: {name}", [seconds for seconds, _ in found], unit="s", target=2.0),
                row(f"  MB read of {total / MEGABYTE:.0f}", [size / MEGABYTE for _, size in found], unit="MB"),
            ]
    return rows


def _write(folder: Path) -> str:
    """Write the files of the table to a folder; return the pattern of their names."""
    from framegate.bucket_layout import table_prefix
    from framegate.table_schema import SCHEMA
    from framegate.tables.homes import Home
    from framegate.tables.parquet import TablePart

    image_sets = range(ROWS // ROWS_OF_IMAGE_SET)
    for part, start in enumerate(image_sets[::IMAGE_SETS_OF_FILE]):
        numbers = image_sets[start : start + IMAGE_SETS_OF_FILE]
        path = folder / Home("d" * 32, f"2026-{1 + part % 12:02d}", part).key("frames")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(
            TablePart(_rows_of(numbers), {_identifier(number)[:32]: "state" for number in numbers}).encode()
        )
    return str(folder / table_prefix(SCHEMA, "frames") / "*" / "*" / "*.parquet")


def _rows_of(image_sets: range) -> pa.Table:
    """Generate the rows of image sets."""
    import pyarrow as pa

    from framegate.tables.rows import schema_of

    return pa.Table.from_pylist(
        [_row(image_set, number) for image_set in image_sets for number in range(ROWS_OF_IMAGE_SET)],
        schema=schema_of("frames", ()),
    )


def _identifier(*numbers: int) -> str:
    # Identifiers are random, so they do not compress.
    return sha256(repr(numbers).encode()).hexdigest()


def _row(image_set: int, number: int) -> dict[str, Any]:
    """Generate a row: a frame of an image set, which is a series. Columns that are left out are null."""
    modality, body_part, manufacturer = KINDS[image_set % len(KINDS)]
    image_set_id, instance_hash = _identifier(image_set)[:32], _identifier(image_set, number)
    frame_id = instance_hash[:32]
    return {
        "image_set_id": image_set_id,
        "image_set_version": 1,
        "instance_hash": instance_hash,
        "exported_at": datetime(2026, 1, 1, tzinfo=UTC),
        "image_frame_id": frame_id,
        "frame_number": 1,
        "frame_key": f"frames/{'d' * 32}/{image_set_id}/{frame_id}",
        "frame_content_type": "image/jph",
        "frame_size_bytes": 150_000 + (image_set * 31 + number * 17) % 50_000,
        "frame_checksum_crc32": instance_hash[-8:],
        "pixels_checksum_crc32": (image_set * 2654435761 + number) % 2**32,
        "transfer_syntax_uid": "1.2.840.10008.1.2.4.202",
        "modality": modality,
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
        "body_part_examined": body_part,
        "image_type": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "instance_number": number + 1,
        "number_of_frames": 1,
        "rows": 512,
        "columns": 512,
        "samples_per_pixel": 1,
        "photometric_interpretation": "MONOCHROME2",
        "bits_allocated": 16,
        "bits_stored": 12,
        "is_signed": False,
        "pixel_spacing_row_mm": 0.5 + image_set % 50 / 100,
        "pixel_spacing_column_mm": 0.5 + image_set % 50 / 100,
        "slice_thickness_mm": (0.625, 1.0, 1.25, 2.5, 5.0)[image_set // len(KINDS) % 5],
        "image_orientation_patient": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
        "image_position_patient_mm": [-125.0, -125.0, number * 0.625 - 100],
        "rescale_slope": 1.0,
        "rescale_intercept": -1024.0,
        "window_center": [40.0],
        "window_width": [400.0],
        "manufacturer": manufacturer,
        "manufacturer_model_name": f"Model {image_set % 7}",
    }
