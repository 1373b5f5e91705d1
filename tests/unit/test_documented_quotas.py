"""Exports and indexes while HealthImaging enforces its documented quotas: nothing is lost."""

from __future__ import annotations

from collections import Counter
from http import HTTPStatus

import pytest

from framegate.rest.routes import INDEX_ROUTE
from local.health_imaging import HealthImagingEmulator
from tests.unit.conftest import SERVED
from tests.unit.export_invocations import event, export_function
from tests.unit.exporting import add_image_set, is_exported

IMAGE_SETS = 120
"""More than the burst of GetImageSetMetadata, which is 100, and of GetImageSet, which is 50."""


@pytest.fixture
def health_imaging(monkeypatch, clock):
    """An emulator of this test alone, with the quotas of the developer guide."""
    with HealthImagingEmulator(throttles="documented", clock=clock) as running:
        running.create_datastore("quotas", datastore_id=SERVED)
        monkeypatch.setenv("AWS_ENDPOINT_URL_MEDICAL_IMAGING", running.url)
        yield running


def test_exports_above_the_metadata_quota_lose_no_image_set(
    health_imaging, clock, s3, queue, deferred_store_queue, client, monkeypatch
):
    image_sets = [add_image_set(health_imaging, 1) for _ in range(IMAGE_SETS)]
    with export_function(queue, deferred_store_queue, monkeypatch) as invoke:
        pending = [event("Image Set Created", image_set) for image_set, _ in image_sets]
        while pending:
            failed = {int(each.removeprefix("message-")) for each in invoke(*pending)}
            pending = [body for number, body in enumerate(pending) if number in failed]
            clock.seconds += 10
    assert HTTPStatus.TOO_MANY_REQUESTS in {call.status for call in health_imaging.calls}
    assert all(is_exported(s3, health_imaging, image_set, frames) for image_set, frames in image_sets)

    # The exports have noted the versions, so that no index calls GetImageSet and its 25 calls a second.
    health_imaging.calls.clear()
    statuses = Counter(
        client.call("GET", INDEX_ROUTE, {"datastoreId": SERVED, "imageSetId": image_set.image_set_id}).status
        for image_set, _ in image_sets[:60]
    )
    assert statuses == {200: 60}
    assert "GetImageSet" not in {call.operation for call in health_imaging.calls}
