"""Decides which file of a table holds the rows of an image set, once and for all invocations."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from framegate.bucket_layout import part_name, partition_prefix, table_home_key
from framegate.storage.concurrent_change import read_with_etag
from framegate.storage.object_store import ObjectChangedError
from framegate.table_schema import SCHEMA, TABLES

if TYPE_CHECKING:
    from framegate.identifiers import ImageSetRef
    from framegate.storage.object_store import ObjectStore
    from framegate.time_budget import TimeBudget

MAX_PART_BYTES = 16 * 1024 * 1024
"""Size from which a file takes no rows of further image sets. Each change rewrites a file, and a query opens each."""


@dataclass(frozen=True, slots=True, order=True)
class Home:
    """The files that hold the rows of an image set: one in each table, with the same name.

    Parameters
    ----------
    datastore_id : str
        The data store.
    month : str
        The month of the image set's first export, such as ``2026-11``.
    part : int
        The number of the files in their partition.
    """

    datastore_id: str
    month: str
    part: int

    def key(self, table: str) -> str:
        """Return the key of the file of a table."""
        return partition_prefix(SCHEMA, table, self.datastore_id, self.month) + part_name(self.part)


@dataclass(frozen=True, slots=True)
class NotedHome:
    """The home of an image set as the bucket notes it.

    Parameters
    ----------
    home : Home or None
        The home; None if none is noted.
    etag : str or None
        The entity tag of the note.
    """

    home: Home | None
    etag: str | None


class Homes:
    """The homes of image sets. A note in the bucket names each, so no image set has rows in two files.

    Parameters
    ----------
    objects : ObjectStore
        The bucket.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def find(self, image_set: ImageSetRef, budget: TimeBudget) -> NotedHome:
        """Return the noted home of an image set."""
        content, etag = read_with_etag(self._objects, table_home_key(SCHEMA, image_set), budget)
        if content is None:
            return NotedHome(None, etag)
        document = json.loads(content)
        return NotedHome(Home(image_set.datastore_id, document["month"], document["part"]), etag)

    def choose(self, datastore_id: str, month: str, budget: TimeBudget) -> Home:
        """Return the first files of a partition that take rows of further image sets."""
        sizes: dict[str, int] = {}
        for table in TABLES:
            for each in self._objects.entries(partition_prefix(SCHEMA, table, datastore_id, month), budget):
                sizes[each.name] = max(each.size, sizes.get(each.name, 0))
        part = 0
        while sizes.get(part_name(part), 0) >= MAX_PART_BYTES:
            part += 1
        return Home(datastore_id, month, part)

    def note(self, image_set: ImageSetRef, home: Home, etag: str | None, budget: TimeBudget) -> bool:
        """Note the home of an image set, unless the note has changed; return whether it was noted.

        Every note differs from the one before, so that its entity tag does, too.
        """
        note = {"month": home.month, "part": home.part, "change": uuid.uuid4().hex}
        return self._objects.put_if_unchanged(
            table_home_key(SCHEMA, image_set), json.dumps(note).encode(), etag, budget
        )

    def forget(self, image_set: ImageSetRef, etag: str, budget: TimeBudget) -> None:
        """Remove a note unless it has changed."""
        try:
            self._objects.remove_if_unchanged(table_home_key(SCHEMA, image_set), etag, budget)
        except ObjectChangedError:
            return
