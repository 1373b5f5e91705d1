"""Helpers for tests of the tables: an updater, and what the tables say, read by DuckDB from the bucket's files."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import botocore.session
import duckdb
import pyarrow.parquet as pq
import pytest

from framegate.bucket_layout import TABLE_PREFIX, table_prefix
from framegate.dicomweb.uids import instance_hash
from framegate.export.pace import Pace
from framegate.healthimaging.client import HealthImaging
from framegate.table_schema import SCHEMA
from framegate.tables.updater import TableUpdater
from framegate.time_budget import TimeBudget
from tests.unit.exporting import content, keys

SECRET = "secret"


def new_updater(objects, threads, identifying=(), calls_per_second=100_000):
    """An updater that calls the HealthImaging emulator and moto."""
    source = HealthImaging(botocore.session.Session(), max_connections=4)
    return TableUpdater(source, objects, Pace(calls_per_second), threads, partial(instance_hash, SECRET), identifying)


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


def all_keys(s3):
    return keys(s3, TABLE_PREFIX)


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
        files = folder / table_prefix(SCHEMA, table)
        connection.execute(
            f"CREATE VIEW {table} AS SELECT * FROM read_parquet('{files}/*/*/*.parquet', hive_partitioning = true, "
            "union_by_name = true)"
        )
    return connection


def rows(s3, table, tmp_path_factory=None):
    """The rows of a table, as dictionaries, in the order of its files."""
    found = []
    for key in table_keys(s3, table):
        import io

        found += pq.read_table(io.BytesIO(content(s3, key))).to_pylist()
    return found
