"""Reads the sample events of AWS's service guides from ``tests/fixtures/events``."""

from __future__ import annotations

import json
from pathlib import Path

FOLDER = Path(__file__).parent / "fixtures" / "events"

DATASTORE = "bbc4f3cccbae4095a34170fddc19b13d"
IMAGE_SET = "5b3a711878c34d40e888253319388649"
"""The identifiers in the detail of HealthImaging's image set events."""


def documented(name):
    """Read a sample. Each call returns a new object that a test may change."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def image_set_event(detail_type):
    """The sample of one of HealthImaging's image set events."""
    (found,) = (each for each in documented("healthimaging-image-sets") if each["detail-type"] == detail_type)
    return found


def health_imaging_events():
    """Every sample of HealthImaging's events."""
    names = ("healthimaging-data-stores", "healthimaging-import-jobs", "healthimaging-image-sets")
    return [event for name in names for event in documented(name)]
