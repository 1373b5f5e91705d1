"""Reads the sample events of AWS's service guides from ``tests/fixtures/events``."""

from __future__ import annotations

import json
from pathlib import Path

FOLDER = Path(__file__).parent / "fixtures" / "events"

DATASTORE = "bbc4f3cccbae4095a34170fddc19b13d"
IMAGE_SET = "5b3a711878c34d40e888253319388649"
"""The ids in the detail of HealthImaging's image set events."""


def documented(name):
    """Read a sample; the caller may change it."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def image_set_event(detail_type):
    """Read the sample of an image set event."""
    (found,) = (each for each in documented("healthimaging-image-sets") if each["detail-type"] == detail_type)
    return found


def health_imaging_events():
    """Read every sample of HealthImaging's events."""
    names = ("healthimaging-data-stores", "healthimaging-import-jobs", "healthimaging-image-sets")
    return [event for name in names for event in documented(name)]
