"""Tables and exports agree in the end, whatever happens on the way: faults, deaths, repeats, interleavings."""

from __future__ import annotations

import random
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from framegate.bucket_layout import frame_key, image_set_prefix, manifest_key
from framegate.export.manifest import ExportedFrame, Outcome, encode_lines
from framegate.healthimaging.image_set_metadata import FrameEntry
from framegate.identifiers import FrameRef
from framegate.storage.image_set_remover import ImageSetRemover
from framegate.storage.object_store import ObjectChangedError
from framegate.tables import updater as updater_module
from framegate.time_budget import TimeBudget
from local.health_imaging import Fault
from tests.unit import exporting, tabling
from tests.unit.conftest import BUCKET, SERVED
from tests.unit.exporting import add_image_set, keys, order_for
from tests.unit.tabling import assert_tables_agree, new_updater, table_keys, update

pace, exporter, updater = exporting.pace, exporting.exporter, tabling.updater


@pytest.fixture
def exports(s3, health_imaging, exporter):
    """Three exported image sets, none of which is in the tables."""
    image_sets = [add_image_set(health_imaging, frames=count)[0] for count in (2, 1, 3)]
    for image_set in image_sets:
        exporter.export(order_for(image_set), TimeBudget(60))
    return image_sets


# Faults of S3 and HealthImaging


@pytest.mark.parametrize("after", range(6))
def test_update_that_dies_between_two_writes_is_repeated(s3, exports, updater, s3_server, after):
    image_set, other, _ = exports
    update(updater, other)
    with s3_server.refusing("PutObject", 403, "AccessDenied", after=after):
        updater.update([image_set, other], TimeBudget(5))
    # Another message comes first, and updates another image set.
    update(updater, exports[2])
    update(updater, image_set, other)
    assert_tables_agree(s3)


@pytest.mark.parametrize("after", range(4))
def test_removal_that_dies_between_two_writes_is_repeated(
    s3, exports, updater, s3_server, objects, health_imaging, after
):
    update(updater, *exports)
    health_imaging.delete_image_set(SERVED, exports[0].image_set_id)
    ImageSetRemover(objects).remove(exports[0], TimeBudget(60))
    operation = "PutObject" if after < 2 else "DeleteObject"
    with s3_server.refusing(operation, 403, "AccessDenied", after=after % 2):
        updater.update([exports[0]], TimeBudget(5))
    update(updater, *exports)
    assert_tables_agree(s3)


def test_write_without_an_answer_is_found_on_the_next_attempt(s3, exports, updater, s3_server):
    with s3_server.answering_nothing("PutObject", times=4):
        updater.update(exports, TimeBudget(20))
    update(updater, *exports)
    assert_tables_agree(s3)


def test_throttled_image_sets_come_again(s3, exports, updater, health_imaging):
    health_imaging.faults.arm(Fault("GetImageSetMetadata", error="ThrottlingException", probability=0.8))
    result = updater.update(exports, TimeBudget(10))
    health_imaging.faults.clear()
    assert len(result.failed) + result.written == 3
    update(updater, *exports)
    assert_tables_agree(s3)


def test_broken_metadata_fails_one_image_set(s3, exports, updater, health_imaging):
    stored = health_imaging.stores.image_set(SERVED, exports[0].image_set_id)
    stored.versions[0] = {"Study": {"Series": {"1": {"Instances": {"2": {"ImageFrames": [{"ID": None}]}}}}}}
    result = updater.update(exports, TimeBudget(20))
    assert (list(result.failed), result.written) == ([exports[0]], 2)


def test_update_without_time_fails_and_writes_nothing(s3, exports, updater):
    result = updater.update(exports, TimeBudget(0))
    assert result.failed.keys() == set(exports)
    assert table_keys(s3, "frames") == []


def test_many_updates_at_once_write_every_row_once(s3, health_imaging, exporter, objects):
    image_sets = [add_image_set(health_imaging, frames=2)[0] for _ in range(8)]
    for image_set in image_sets:
        exporter.export(order_for(image_set), TimeBudget(60))

    def run(seed):
        chosen = random.Random(seed).sample(image_sets, 6)
        with ThreadPoolExecutor(2) as threads:
            return new_updater(objects, threads).update(chosen, TimeBudget(60)).failed

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run, range(4))) == [{}] * 4
    assert_tables_agree(s3)


# Interleavings


class Direct:
    """Runs what is submitted in the thread that submits it."""

    def submit(self, call, *arguments):
        future = Future()
        try:
            future.set_result(call(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future


class Interleaver:
    """Runs actors, one call of S3 at a time, in an order that a test chooses."""

    def __init__(self, choices):
        self._choices = choices
        self._changed = threading.Condition()
        self._waiting = {}
        self._ended = set()
        self.errors = []

    def turn(self):
        """Wait until it is the actor's turn to make a call."""
        mine = threading.Event()
        with self._changed:
            self._waiting[threading.current_thread().name] = mine
            self._changed.notify_all()
        assert mine.wait(30)

    def run(self, *actors):
        threads = [threading.Thread(target=self._act, args=(actor,), name=str(n)) for n, actor in enumerate(actors)]
        for thread in threads:
            thread.start()
        while True:
            with self._changed:
                # Every actor either waits for its turn or has ended.
                assert self._changed.wait_for(lambda: len(self._waiting) + len(self._ended) == len(actors), 30)
                if not self._waiting:
                    break
                names = sorted(self._waiting)
                turn = self._waiting.pop(self._choices.choice(names))
            turn.set()
        for thread in threads:
            thread.join(30)

    def _act(self, actor):
        self.turn()
        try:
            actor()
        except Exception as error:
            self.errors.append(error)
        with self._changed:
            self._ended.add(threading.current_thread().name)
            self._changed.notify_all()


class Stepwise:
    """The bucket, each call of which waits for its turn."""

    def __init__(self, objects, interleaver):
        self._objects = objects
        self._interleaver = interleaver

    def __getattr__(self, name):
        method = getattr(self._objects, name)

        def call(*arguments, **options):
            self._interleaver.turn()
            result = method(*arguments, **options)
            return result if not hasattr(result, "__next__") else iter(list(result))

        return call


class Hooked:
    """The bucket, with a hook that runs once, before the call with a number among the calls of these methods."""

    def __init__(self, objects, hook, *names, number=1):
        self._objects = objects
        self._hook = hook
        self._names = names
        self._number = number
        self.calls = 0

    def __getattr__(self, name):
        method = getattr(self._objects, name)

        def call(*arguments, **options):
            self.calls += name in self._names
            if self._hook and self.calls == self._number:
                hook, self._hook = self._hook, None
                hook(*arguments)
            return method(*arguments, **options)

        return call


METHODS = ("entries", "put", "put_if_unchanged", "remove_if_unchanged")
"""The calls of S3 between which the order matters; reads are between them."""


@pytest.fixture
def scene(s3, health_imaging, objects, updater, monkeypatch):
    """Image sets of a frame each, and what can happen to the first of them."""
    monkeypatch.setattr(updater_module, "pause_after", lambda _: 0.0)
    return Scene(s3, health_imaging, objects, updater)


class Scene:
    """What exports leave in the bucket, without the exports, which would take most of the time."""

    def __init__(self, s3, health_imaging, objects, updater):
        self._s3 = s3
        self._health_imaging = health_imaging
        self._objects = objects
        self._updater = updater
        self._frames = {}
        self.image_sets = []

    def begin(self, count, *, is_tabled):
        """Begin with an empty bucket and exported image sets; those in the tables are out of date there."""
        for key in keys(self._s3):
            self._s3.delete_object(Bucket=BUCKET, Key=key)
        self._frames = dict(add_image_set(self._health_imaging, frames=1) for _ in range(count))
        self.image_sets = list(self._frames)
        for image_set in self.image_sets:
            self.export(image_set, "version-1")
        if is_tabled:
            update(self._updater, *self.image_sets)
            for image_set in self.image_sets:
                self.export(image_set, "execution-1")

    def update(self, *image_sets, objects=None):
        updating = new_updater(objects or self._objects, Direct())
        assert updating.update(image_sets, TimeBudget(60)).failed == {}

    def export(self, image_set, export_id):
        (frame,) = self._frames[image_set]
        entry = FrameEntry(frame.image_frame_id, None, 1)
        ref = FrameRef(SERVED, image_set.image_set_id, frame.image_frame_id)
        exported = ExportedFrame(entry, frame_key(ref), "image/jph", 5, "VzU6yg==", Outcome.COPIED)
        self._s3.put_object(Bucket=BUCKET, Key=exported.key, Body=b"frame")
        manifest = b"".join(encode_lines([exported.to_line()]))
        self._s3.put_object(Bucket=BUCKET, Key=manifest_key(image_set, export_id), Body=manifest)

    def remove(self, image_set):
        for prefix in ("frames/", "exports/"):
            for key in keys(self._s3, image_set_prefix(prefix, image_set)):
                self._s3.delete_object(Bucket=BUCKET, Key=key)

    def delete(self, image_set):
        self._health_imaging.delete_image_set(SERVED, image_set.image_set_id)
        self.remove(image_set)

    def hooked(self, hook, *names, number=1):
        return Hooked(self._objects, hook, *names, number=number)

    def stepwise(self, interleaver):
        return Stepwise(self._objects, interleaver)


@pytest.mark.parametrize(
    ("is_tabled", "world"), [(False, "deleted"), (True, "expired and exported")], ids=["new", "in the tables"]
)
def test_update_may_be_interrupted_before_any_listing_and_write(s3, scene, is_tabled, world):
    number = 0
    is_interrupted = True
    while is_interrupted:
        number += 1
        scene.begin(2, is_tabled=is_tabled)
        first, second = scene.image_sets
        is_interrupted = False

        def interrupt(*_, first=first):
            nonlocal is_interrupted
            is_interrupted = True
            if world == "deleted":
                scene.delete(first)
                scene.update(first)
            else:
                scene.remove(first)
                scene.update(first)
                scene.export(first, "execution-1")
                scene.update(first)

        scene.update(second, first, objects=scene.hooked(interrupt, *METHODS, number=number))
        if is_interrupted:
            assert_tables_agree(s3)
    assert number > 8


def test_home_is_not_forgotten_while_another_update_writes_there(s3, scene, objects):
    scene.begin(2, is_tabled=True)
    first, _ = scene.image_sets
    scene.remove(first)

    def export_and_update(key, etag, budget):
        # The files have no rows of the image set anymore. It is exported again, and its home is about to be forgotten.
        scene.export(first, "execution-1")

        def forget(*_):
            with suppress(ObjectChangedError):
                objects.remove_if_unchanged(key, etag, budget)

        scene.update(first, objects=scene.hooked(forget, "put"))

    scene.update(first, objects=scene.hooked(export_and_update, "remove_if_unchanged"))
    assert_tables_agree(s3)


def test_home_of_an_image_set_that_was_exported_again_is_not_forgotten(s3, scene):
    scene.begin(2, is_tabled=True)
    first, _ = scene.image_sets
    scene.remove(first)

    def export_and_update(*_):
        scene.export(first, "execution-1")
        scene.update(first)

    scene.update(first, objects=scene.hooked(export_and_update, "remove_if_unchanged", "remove"))
    assert_tables_agree(s3)


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    seed=st.randoms(use_true_random=False),
    is_tabled=st.booleans(),
    world=st.sampled_from(["deleted", "expired", "expired and exported", "exported again"]),
)
def test_interleaved_updates_agree_with_the_exports(s3, scene, seed, is_tabled, world):
    scene.begin(3, is_tabled=is_tabled)
    first, second, third = scene.image_sets
    interleaver = Interleaver(seed)

    def updating(*image_sets):
        scene.update(*image_sets, objects=scene.stepwise(interleaver))

    def changing():
        # An update follows each change of the bucket, as its event would cause it.
        if world == "deleted":
            scene.delete(first)
        elif world != "exported again":
            scene.remove(first)
        updating(first)
        if "exported" in world:
            scene.export(first, "execution-1")
            updating(first)

    interleaver.run(lambda: updating(first, second), lambda: updating(third), changing)
    assert interleaver.errors == []
    assert_tables_agree(s3)
