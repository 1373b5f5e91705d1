"""Brings the rows of image sets up to date with what exports have stored.

An update does not depend on the message that caused it: it reads what is true now. Updates may therefore be repeated,
reordered, and run in several invocations at once. Each update of an image set follows this order:

1. Note its home, if it has exports and no home.
2. Read the note, and then the files there.
3. Read the state of its exports, and the metadata.
4. Write the note again, if the image set gets rows.
5. Write the files.
6. Remove the note, if the image set has no rows.

Steps 1 and 4 to 6 succeed only if nobody has changed the object since it was read. If one fails, the update starts
again. Whoever writes last has therefore read the state after everybody else's writes. An update that finds no exports
also finds the note of any other update that may still write rows, and stops it by changing the files. Step 4 stops the
removal of a note that another update relies on.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

from framegate.aws.retries import pause_after
from framegate.export.report import report_unforeseen
from framegate.healthimaging.image_set_metadata import MetadataError
from framegate.problems import FrameNotFound, InternalError, Problem, Throttled, UpstreamFailed, UpstreamTimeout
from framegate.storage.concurrent_change import read_with_etag
from framegate.storage.object_store import ObjectChangedError, unless_changed
from framegate.storage.s3_put import SERVICE
from framegate.table_schema import SCHEMA, TABLES, columns_of
from framegate.tables.homes import Home, Homes, NotedHome
from framegate.tables.parquet import TablePart
from framegate.tables.rows import ImageSetMetadata, schema_of, tables_of
from framegate.tables.stored import ExportState, export_state, stored_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from concurrent.futures import Executor

    import pyarrow as pa

    from framegate.export.pace import Pace
    from framegate.healthimaging.client import HealthImaging
    from framegate.identifiers import ImageSetRef
    from framegate.storage.object_store import ObjectStore
    from framegate.time_budget import TimeBudget

MAX_IMAGE_SETS_PER_WRITE = 256
MAX_OBJECTS_PER_WRITE = 200_000
"""Maximum number of image sets whose rows one write changes, and of their objects, which bounds the memory for rows. A
single image set with more objects is written alone."""

PARQUET = "application/vnd.apache.parquet"
"""Media type of the files (IANA, "Media Types")."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of an image set by table, and the fingerprint of the state that they describe."""

    fingerprint: str
    tables: dict[str, pa.Table]


@dataclass(slots=True)
class UpdateResult:
    """What an update did.

    Attributes
    ----------
    written, removed, unchanged : int
        The number of image sets whose rows were written, whose rows were removed, and whose rows were up to date.
    failed : dict
        The problem of each image set that could not be updated.
    unfinished : list of ImageSetRef
        The image sets for which the time was too short, although others were updated.
    """

    written: int = 0
    removed: int = 0
    unchanged: int = 0
    failed: dict[ImageSetRef, Problem] = field(default_factory=dict)
    unfinished: list[ImageSetRef] = field(default_factory=list)


@dataclass(slots=True)
class _Update:
    """An image set in an attempt to write files.

    Attributes
    ----------
    image_set : ImageSetRef
        The image set.
    noted : NotedHome
        Its home, as read before the files.
    state : ExportState or None
        The state of its exports, as read after the files.
    rows : Rows or None
        The rows that it gets; None if its rows go.
    """

    image_set: ImageSetRef
    noted: NotedHome
    state: ExportState | None = None
    rows: Rows | None = None


class _ChangedError(Exception):
    """Another invocation has changed what this attempt has read."""


class TableUpdater:
    """Updates the tables.

    Parameters
    ----------
    source : HealthImaging
        Provides the metadata: one call of GetImageSetMetadata for each image set that has changed.
    objects : ObjectStore
        The bucket.
    pace : Pace
        Spaces the calls of HealthImaging.
    threads : concurrent.futures.Executor
        Reads several image sets at the same time.
    hash_of : callable
        Returns the hash that stands for the SOP instance UID of an image set.
    identifying : sequence of str
        The keywords of the identifying columns.
    """

    def __init__(
        self,
        source: HealthImaging,
        objects: ObjectStore,
        pace: Pace,
        threads: Executor,
        hash_of: Callable[[ImageSetRef, str], str],
        identifying: Sequence[str] = (),
    ) -> None:
        self._source = source
        self._objects = objects
        self._pace = pace
        self._threads = threads
        self._hash_of = hash_of
        self._identifying = identifying
        self._homes = Homes(objects)
        self._facts = tuple(str(each) for table in TABLES for each in (SCHEMA, *columns_of(table, identifying)))
        self._schemas = {table: schema_of(table, identifying) for table in TABLES}

    def update(self, image_sets: Iterable[ImageSetRef], budget: TimeBudget) -> UpdateResult:
        """Bring the rows of image sets up to date.

        An image set that fails does not stop the others.

        Parameters
        ----------
        image_sets : iterable of ImageSetRef
            The image sets.
        budget : TimeBudget
            The time for all of them.
        """
        result = UpdateResult()
        known: dict[ImageSetRef, Rows] = {}
        pending = list(dict.fromkeys(image_sets))
        for attempt in count(1):
            if attempt > 1:
                time.sleep(min(pause_after(min(attempt - 1, 5)), budget.remaining()))
            pending, is_finished = self._round(pending, known, result, budget)
            if is_finished or budget.exhausted:
                break
        if budget.exhausted:
            timed_out = [each for each, problem in result.failed.items() if isinstance(problem, UpstreamTimeout)]
            pending = [*pending, *timed_out]
            if result.written or result.removed or result.unchanged:
                result.failed = {each: result.failed[each] for each in result.failed if each not in timed_out}
                result.unfinished = pending
            else:
                # An image set that fills an invocation would come back forever.
                result.failed |= dict.fromkeys(pending, UpstreamTimeout(SERVICE))
        return result

    def _round(
        self,
        image_sets: Sequence[ImageSetRef],
        known: dict[ImageSetRef, Rows],
        result: UpdateResult,
        budget: TimeBudget,
    ) -> tuple[list[ImageSetRef], bool]:
        """Update each image set, or leave it for the next round; return those, and whether there are none."""
        remaining: list[ImageSetRef] = []
        by_home: dict[Home, list[ImageSetRef]] = defaultdict(list)
        new: dict[tuple[str, str], list[ImageSetRef]] = defaultdict(list)
        located = self._each(partial(self._locate, budget=budget), image_sets, result)
        for image_set, place in located:
            if isinstance(place, Home):
                by_home[place].append(image_set)
            elif place is not None:
                new[image_set.datastore_id, place].append(image_set)
            else:
                result.unchanged += 1
        for home, homed in by_home.items():
            remaining += self._write_all(home, homed, known, result, budget)
        for (datastore_id, month), homeless in new.items():
            waiting = homeless
            while waiting:
                # The first write may fill the files.
                try:
                    home = self._homes.choose(datastore_id, month, budget)
                except Problem as problem:
                    result.failed |= dict.fromkeys(waiting, problem.without_traceback())
                    break
                batch, waiting = waiting[:MAX_IMAGE_SETS_PER_WRITE], waiting[MAX_IMAGE_SETS_PER_WRITE:]
                noted = self._each(partial(self._settle, home=home, budget=budget), batch, result)
                remaining += [image_set for image_set, is_settled in noted if not is_settled]
                settled = [image_set for image_set, is_settled in noted if is_settled]
                remaining += self._write_all(home, settled, known, result, budget)
        return remaining, not remaining

    def _locate(self, image_set: ImageSetRef, budget: TimeBudget) -> Home | str | None:
        """Return the home of an image set, or the month for a new one; None if it needs neither."""
        noted = self._homes.find(image_set, budget)
        if noted.home:
            return noted.home
        state = export_state(self._objects, image_set, budget)
        return state.month if state else None

    def _settle(self, image_set: ImageSetRef, home: Home, budget: TimeBudget) -> bool:
        """Note the home of an image set that has none; return whether nobody else did."""
        return self._homes.note(image_set, home, None, budget)

    def _write_all(
        self,
        home: Home,
        image_sets: Sequence[ImageSetRef],
        known: dict[ImageSetRef, Rows],
        result: UpdateResult,
        budget: TimeBudget,
    ) -> list[ImageSetRef]:
        """Update image sets whose rows are in the same files; return those that have to be tried again."""
        remaining: list[ImageSetRef] = []
        for start in range(0, len(image_sets), MAX_IMAGE_SETS_PER_WRITE):
            batch = image_sets[start : start + MAX_IMAGE_SETS_PER_WRITE]
            if budget.exhausted:
                remaining += batch
                continue
            try:
                remaining += self._write(home, batch, known, result, budget)
            except _ChangedError:
                remaining += batch
            except Problem as problem:
                result.failed |= dict.fromkeys(batch, problem.without_traceback())
            except Exception as error:
                report_unforeseen(error)
                result.failed |= dict.fromkeys(batch, InternalError())
        return remaining

    def _write(
        self,
        home: Home,
        image_sets: Sequence[ImageSetRef],
        known: dict[ImageSetRef, Rows],
        result: UpdateResult,
        budget: TimeBudget,
    ) -> list[ImageSetRef]:
        """Update the files of a home for some image sets; return those that have to be tried again.

        Raises
        ------
        _ChangedError
            If another invocation has changed a note or a file. Nothing is lost then.
        Problem
            As `ObjectStore` raises it.
        """
        remaining: list[ImageSetRef] = []
        updates = []
        for image_set, noted in self._each(partial(self._homes.find, budget=budget), image_sets, result):
            if noted.home == home:
                updates.append(_Update(image_set, noted))
            else:
                remaining.append(image_set)
        files = {table: self._read(home, table, budget) for table in TABLES}
        updates, later = self._with_states(updates, result, budget)
        remaining += [each.image_set for each in later]
        changed = self._changed(updates, files, known, result, budget)
        if not changed:
            return remaining
        for update, is_noted in self._each(partial(self._note, home=home, budget=budget), changed, result):
            if update.rows and not is_noted:
                raise _ChangedError
        written = [each for each in changed if each.image_set not in result.failed]
        # Most readers begin with the instances. Their frames are there already.
        for table in reversed(TABLES):
            self._put(home, table, files[table], written, budget)
        for update in written:
            known.pop(update.image_set, None)
            if update.rows:
                result.written += 1
            else:
                result.removed += 1
                self._homes.forget(update.image_set, update.noted.etag or "", budget)
        return remaining

    def _read(self, home: Home, table: str, budget: TimeBudget) -> tuple[TablePart, str | None]:
        content, etag = read_with_etag(self._objects, home.key(table), budget)
        if content is None:
            return TablePart(self._schemas[table].empty_table()), etag
        return TablePart.decode(content, self._schemas[table]), etag

    def _put(
        self,
        home: Home,
        table: str,
        file: tuple[TablePart, str | None],
        updates: Sequence[_Update],
        budget: TimeBudget,
    ) -> None:
        part, etag = file
        removed = [each.image_set.image_set_id for each in updates if each.rows is None]
        added = {
            each.image_set.image_set_id: (each.rows.fingerprint, each.rows.tables[table])
            for each in updates
            if each.rows
        }
        content = part.replaced(removed, added).encode()
        try:
            self._objects.put(home.key(table), PARQUET, [content], budget, condition=unless_changed(etag))
        except ObjectChangedError:
            raise _ChangedError from None

    def _note(self, update: _Update, home: Home, budget: TimeBudget) -> bool:
        return update.rows is None or self._homes.note(update.image_set, home, update.noted.etag, budget)

    def _with_states(
        self, updates: Sequence[_Update], result: UpdateResult, budget: TimeBudget
    ) -> tuple[list[_Update], list[_Update]]:
        """Return the updates with the states of their exports, as many as one write takes, and the other updates."""
        now: list[_Update] = []
        later: list[_Update] = []
        object_count = 0
        for update, state in self._each(partial(self._state, budget=budget), updates, result):
            update.state = state
            object_count += len(state.frames) + len(state.instances) if state else 0
            (later if now and object_count > MAX_OBJECTS_PER_WRITE else now).append(update)
        return now, later

    def _state(self, update: _Update, budget: TimeBudget) -> ExportState | None:
        return export_state(self._objects, update.image_set, budget)

    def _changed(
        self,
        updates: Sequence[_Update],
        files: dict[str, tuple[TablePart, str | None]],
        known: dict[ImageSetRef, Rows],
        result: UpdateResult,
        budget: TimeBudget,
    ) -> list[_Update]:
        """Return the updates whose rows differ from those in the files, with their rows."""
        recorded = [part.states for part, _ in files.values()]
        outdated = []
        for update in updates:
            name = update.image_set.image_set_id
            fingerprint = update.state.fingerprint(*self._facts) if update.state else None
            if fingerprint and all(states.get(name) == fingerprint for states in recorded):
                result.unchanged += 1
            else:
                outdated.append(update)
        changed = self._each(partial(self._rows, known=known, budget=budget), outdated, result)
        for update, rows in changed:
            update.rows = rows
        return [update for update, _ in changed]

    def _rows(self, update: _Update, known: dict[ImageSetRef, Rows], budget: TimeBudget) -> Rows | None:
        """Return the rows of an image set; None if it has none."""
        state, image_set = update.state, update.image_set
        if state is None:
            return None
        fingerprint = state.fingerprint(*self._facts)
        if image_set in known and known[image_set].fingerprint == fingerprint:
            return known[image_set]
        try:
            files = stored_files(self._objects, state, budget)
        except KeyError:
            raise _ChangedError from None
        if not files.frames and not files.instances:
            return None
        try:
            version_id, metadata = self._metadata(state, budget)
        except FrameNotFound:
            # The image set is deleted. What is stored of it will be removed.
            return None
        hash_of = partial(self._hash_of, image_set)
        tables = tables_of(state, version_id, metadata, files, hash_of, self._identifying)
        if not tables["instances"].num_rows:
            return None
        known[image_set] = Rows(fingerprint, tables)
        return known[image_set]

    def _metadata(self, state: ExportState, budget: TimeBudget) -> tuple[str, ImageSetMetadata]:
        try:
            self._pace.wait(budget)
            version_id = state.version_id or self._source.image_set_version(state.image_set, budget)
            return version_id, self._source.fetch_metadata(state.image_set, version_id, _metadata_in, budget)
        except Throttled:
            self._pace.slow_down()
            raise

    def _each(self, call: Callable[[Any], Any], items: Sequence[Any], result: UpdateResult) -> list[tuple[Any, Any]]:
        """Call a function for each item in several threads; return the items with their results.

        Items whose call raised a problem are among the failed image sets of `result` instead.
        """
        found = []
        calls = [(item, self._threads.submit(call, item)) for item in items]
        is_changed = False
        for item, submitted in calls:
            try:
                found.append((item, submitted.result()))
            except Problem as problem:
                result.failed[_image_set_of(item)] = problem.without_traceback()
            except _ChangedError:
                is_changed = True
            except Exception as error:
                report_unforeseen(error)
                result.failed[_image_set_of(item)] = InternalError()
        if is_changed:
            raise _ChangedError
        return found


def _image_set_of(item: _Update | ImageSetRef) -> ImageSetRef:
    return item.image_set if isinstance(item, _Update) else item


def _metadata_in(document: Any) -> ImageSetMetadata:
    try:
        return ImageSetMetadata.read(document)
    except MetadataError as error:
        raise UpstreamFailed("HealthImaging", f"sent metadata that {error}") from None
