"""Helpers for tests of the frame index: requests to its route, and what they cause."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from pydicom.data import get_testdata_file

from framegate.identifiers import ImageSetRef
from framegate.rest.routes import INDEX_ROUTE
from tests.unit.conftest import SERVED

FRAMES = 23


def add_indexed_image_set(health_imaging):
    """Add an image set of 23 frames: three instances of seven frames, and one of two."""
    contents = [b"x" * size for size in range(1, FRAMES + 1)]
    frames = health_imaging.add_frames(SERVED, contents, "image/jph", per_instance=7)
    return ImageSetRef(SERVED, frames[0].image_set_id)


def sample(name):
    """The path of a DICOM file that pydicom ships."""
    return Path(get_testdata_file(name))


def ask(client, image_set, query="", headers=None, **options):
    """Request a page of an image set's index."""
    path = {"datastoreId": image_set.datastore_id, "imageSetId": image_set.image_set_id}
    return client.call("GET", INDEX_ROUTE, path, query, headers, **options)


def all_frames(client, image_set, query):
    """Request all pages, and return their frames."""
    token, frames = "", []
    while token is not None:
        document = ask(client, image_set, f"{query}&nextToken={token}" if token else query).json()
        frames += document["imageFrames"]
        token = document.get("nextToken")
    return frames


def called(health_imaging):
    """The number of calls of each of HealthImaging's operations."""
    return Counter(call.operation for call in health_imaging.calls)
