"""Image sets that are deleted before, during or after their export."""

from __future__ import annotations

import threading
from dataclasses import replace

from framegate.export.records import ExportRecords
from framegate.identifiers import FrameRef
from framegate.storage.image_set_remover import ImageSetRemover
from framegate.time_budget import TimeBudget
from local.health_imaging import Fault
from tests.unit import exporting
from tests.unit.conftest import SERVED
from tests.unit.exporting import (
    add_image_set,
    finish,
    is_exported,
    keys,
    order_for,
)

events, pace, exporter = exporting.events, exporting.pace, exporting.exporter


def test_export_of_a_deleted_image_set_fails_without_a_retry(s3, health_imaging, exporter, events):
    image_set, _ = add_image_set(health_imaging, 3)
    health_imaging.delete_image_set(SERVED, image_set.image_set_id)
    result, _ = finish(exporter, order_for(image_set))
    assert (result.completed, result.problem.slug, result.manifest) == (False, "frame-not-found", None)
    ((detail_type, detail),) = events()
    assert (detail_type, detail["problem"]) == ("Frame Export Failed", "frame-not-found")
    assert keys(s3) == []


def test_deletion_during_an_export_leaves_nothing(s3, health_imaging, exporter):
    image_set, _ = add_image_set(health_imaging, 40)
    health_imaging.faults.arm(Fault(latency=0.1))
    deletion = threading.Timer(0.4, health_imaging.delete_image_set, (SERVED, image_set.image_set_id))
    deletion.start()
    result, _ = finish(exporter, order_for(image_set))
    deletion.join()
    assert result.problem.slug == "frame-not-found"
    assert keys(s3) == []
    # The first missing frame ended the export.
    assert sum(call.status == 404 for call in health_imaging.calls) < 20


def test_deletion_after_the_manifest_was_written_leaves_nothing(s3, health_imaging, exporter, monkeypatch):
    image_set, _ = add_image_set(health_imaging, 3)
    original = ExportRecords.write_manifest

    def then_delete(self, *arguments):
        key = original(self, *arguments)
        health_imaging.delete_image_set(SERVED, image_set.image_set_id)
        return key

    monkeypatch.setattr(ExportRecords, "write_manifest", then_delete)
    result, _ = finish(exporter, order_for(image_set))
    assert not result.completed
    assert keys(s3) == []


def test_unknown_version_removes_nothing(s3, health_imaging, exporter):
    image_set, frames = add_image_set(health_imaging, 2)
    finish(exporter, order_for(image_set))
    result, _ = finish(exporter, replace(order_for(image_set), version_id="7", export_id="other"))
    assert result.problem.slug == "version-not-found"
    assert is_exported(s3, health_imaging, image_set, frames)


def test_removal_affects_only_its_image_set(s3, health_imaging, exporter, objects, deferred_stores):
    (gone, frames), (kept, _) = add_image_set(health_imaging, 3), add_image_set(health_imaging, 2)
    for image_set in (gone, kept):
        finish(exporter, order_for(image_set))
    deferred_stores.enqueue(FrameRef(SERVED, gone.image_set_id, frames[0].image_frame_id), TimeBudget(60))
    # Three frames, the manifest, the frame index and the marker of the queued frame.
    assert ImageSetRemover(objects).remove(gone, TimeBudget(60)) == 6
    assert len(keys(s3)) == 4
    assert not [key for key in keys(s3) if gone.image_set_id in key]
    assert ImageSetRemover(objects).remove(gone, TimeBudget(60)) == 0
