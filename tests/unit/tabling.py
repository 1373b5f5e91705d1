"""Helpers for tests of the tables: an updater, and what the tables say, read by DuckDB from the bucket's files."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import botocore.session
import duckdb
import pyarrow.parquet as pq
import pytest

from framegate.bucket_layout import TABLE_PREFIX, table_homes_prefix, table_prefix
from framegate.dicomweb.uids import instance_hash
from framegate.export.pace import Pace
from framegate.healthimaging.client import HealthImaging
from framegate.table_schema import SCHEMA
from framegate.tables.updater import TableUpdater
from framegate.time_budget import TimeBudget
from tests.unit.conftest import SERVED
from tests.unit.exporting import content, keys

SECRET = "secret"


def new_updater(objects, threads, identifying=()):
    """An updater that calls the HealthImaging emulator and moto."""
    source = HealthImaging(botocore.session.Session(), max_connections=4)
    return TableUpdater(source, objects, Pace(100_000), threads, partial(instance_hash, SECRET), identifying)


@pytest.fixture
def updater(health_imaging, objects):
    with ThreadPoolExecutor(4) as threads:
        yield new_updater(objects, threads)


def update(updater, *image_sets, seconds=60):
    result = updater.update(image_sets, TimeBudget(seconds))
    assert (result.failed, result.unfinished) == ({}, [])
    return result


def table_keys(s3, table):
    return keys(s3, table_prefix(SCHEMA, table))


def homes(s3):
    """The ids of the image sets that have a home."""
    return {key.rpartition("/")[2].removesuffix(".json") for key in keys(s3, table_homes_prefix(SCHEMA, SERVED))}


def etags(s3):
    """The entity tags of everything under the prefix of tables, by key."""
    return {key: s3.head_object(Bucket="frames-of-the-test", Key=key)["ETag"] for key in keys(s3, TABLE_PREFIX)}


def rows(s3, table):
    """The rows of a table, as dictionaries, in the order of its files."""
    return [row for key in table_keys(s3, table) for row in pq.read_table(io.BytesIO(content(s3, key))).to_pylist()]


def download(s3, folder):
    """Write every file of the tables to a folder, under its key."""
    for key in (*table_keys(s3, "instances"), *table_keys(s3, "frames")):
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(s3, key))


def connect(folder):
    """A connection of DuckDB with a view of each table, as docs/datasets.md defines them."""
    connection = duckdb.connect()
    for table in ("instances", "frames"):
        files = folder / table_prefix(SCHEMA, table) / "*" / "*" / "*.parquet"
        connection.execute(
            f"CREATE VIEW {table} AS SELECT * FROM read_parquet('{files}', hive_partitioning = true, "
            "hive_types_autocast = false, union_by_name = true)"
        )
    return connection


def exported(s3):
    """What the manifests and the objects of the bucket say: the keys of frames and of DICOM files, by image set id."""
    stored = set(keys(s3, "frames/")) | set(keys(s3, "instances/"))
    found = {}
    for manifest in keys(s3, "exports/"):
        if manifest.endswith("/manifest.jsonl"):
            lines = map(json.loads, content(s3, manifest).splitlines())
            listed = {line["key"] for line in lines if line["outcome"] in ("copied", "present")} & stored
            found.setdefault(manifest.split("/")[2], set()).update(listed)
    return {image_set_id: listed for image_set_id, listed in found.items() if listed}


def tabled(s3):
    """What the tables say: the keys of frames and of DICOM files, by image set id. Each row must be there once."""
    found = {}
    identities = {"instances": ["image_set_id", "instance_hash"], "frames": ["image_frame_id"]}
    for table, names in identities.items():
        of_table = rows(s3, table)
        assert len({tuple(row[name] for name in names) for row in of_table}) == len(of_table)
        for row in of_table:
            named = {row.get("frame_key"), row["dicom_key"]} - {None}
            found.setdefault(row["image_set_id"], set()).update(named)
    frames = {}
    for row in rows(s3, "frames"):
        frames[row["instance_hash"]] = frames.get(row["instance_hash"], 0) + (row["frame_key"] is not None)
    assert all(frames.get(row["instance_hash"], 0) == row["stored_frames"] for row in rows(s3, "instances"))
    return found


def assert_tables_agree(s3):
    """Check that the tables list exactly what exports have stored, and that exactly these image sets have a home."""
    expected = exported(s3)
    assert tabled(s3) == expected
    assert homes(s3) == expected.keys()
