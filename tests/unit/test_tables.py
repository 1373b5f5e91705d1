"""The tables of exported instances and frames: their rows, and that they always agree with the exports."""

from __future__ import annotations

import pytest

from framegate.time_budget import TimeBudget
from tests.unit import dicom_files, exporting, tabling
from tests.unit.exporting import order_for
from tests.unit.tabling import rows, update

pace, exporter, dicom_exporter = exporting.pace, exporting.exporter, dicom_files.dicom_exporter
updater = tabling.updater

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def test_frames_of_an_export_are_rows(s3, health_imaging, exporter, updater):
    image_set, frames = exporting.add_image_set(health_imaging)
    exporter.export(order_for(image_set), TimeBudget(60))
    assert update(updater, image_set).written == 1
    found = {row["image_frame_id"]: row for row in rows(s3, "frames")}
    assert found.keys() == {frame.image_frame_id for frame in frames}
    assert len(rows(s3, "instances")) == 5
    print(found.popitem())
