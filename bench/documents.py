"""Writes the generated tables into the documents: ``make tables``.

A comment with the table's name, such as ``<!-- idle -->``, stands on the line above each generated table.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from bench import costs, scaling
from bench.durations import load_measured
from framegate.table_schema import IDENTIFYING, columns_of
from infra.config import config_table
from infra.openapi import routes_table
from infra.vpc import endpoints_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from framegate.table_schema import Column

FOLDER = Path(__file__).resolve().parent.parent / "docs"

_TABLE = re.compile(r"(?<=^<!-- )(?P<name>\w+)(?P<end> -->\n)(?P<rows>(?:\|.*\n)+)", re.MULTILINE)


def tables() -> dict[str, str]:
    """Return every generated table in Markdown, by name."""
    return {
        "configuration": config_table(),
        "routes": routes_table(),
        "vpc_endpoints": endpoints_table(),
        "frames": costs.table(load_measured()),
        "idle": costs.idle_table(),
        "thumbnails": costs.thumbnail_table(),
        "archive": costs.archive_table(),
        **scaling.tables(),
        "recovery": scaling.recovery(),
        "shared_columns": columns_table(each for each in columns_of("frames") if each in columns_of("instances")),
        "instance_columns": columns_table(each for each in columns_of("instances") if each not in columns_of("frames")),
        "frame_columns": columns_table(each for each in columns_of("frames") if each not in columns_of("instances")),
        "identifying_columns": identifying_columns_table(),
    }


def columns_table(columns: Iterable[Column]) -> str:
    """Return columns of the tables of exports as a Markdown table."""
    rows = [f"| `{each.name}` | `{each.type}` | {each.meaning} |" for each in columns]
    return "\n".join(["| column | type | meaning |", "| --- | --- | --- |", *rows])


def identifying_columns_table() -> str:
    """Return the identifying columns as a Markdown table."""
    rows = [f"| `{each.keyword}` | `{each.name}` | `{each.type}` | {each.meaning} |" for each in IDENTIFYING]
    return "\n".join(["| keyword | column | type | meaning |", "| --- | --- | --- | --- |", *rows])


def with_tables(page: str, generated: Mapping[str, str]) -> str:
    """Return a page with its generated tables replaced.

    Raises
    ------
    KeyError
        If the page names a table that does not exist.
    """
    return _TABLE.sub(lambda found: f"{found['name']}{found['end']}{generated[found['name']]}\n", page)


def table_names(page: str) -> list[str]:
    """Return the names of the generated tables of a page, in order."""
    return [found["name"] for found in _TABLE.finditer(page)]


def main() -> None:
    """Rewrite the pages whose tables have changed, and print their names."""
    generated = tables()
    for path in sorted(FOLDER.glob("*.md")):
        page = path.read_text()
        if (written := with_tables(page, generated)) != page:
            path.write_text(written)
            print(path.relative_to(FOLDER.parent))


if __name__ == "__main__":
    main()
