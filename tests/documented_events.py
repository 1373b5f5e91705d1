"""The sample events of AWS's service guides, as ``tests/fixtures/events`` has them."""

from __future__ import annotations

import json
from pathlib import Path

FOLDER = Path(__file__).parent / "fixtures" / "events"

DATASTORE = "bbc4f3cccbae4095a34170fddc19b13d"
IMAGE_SET = "5b3a711878c34d40e888253319388649"
"""What the samples of HealthImaging's image set events have in their detail."""


def documented(name):
    """A sample, read anew: a test may change it."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def image_set_event(detail_type):
    """The sample of one of HealthImaging's image set events."""
    (found,) = (each for each in documented("healthimaging-image-sets") if each["detail-type"] == detail_type)
    return found


def health_imaging_events():
    """Every sample of HealthImaging's events."""
    names = ("healthimaging-data-stores", "healthimaging-import-jobs", "healthimaging-image-sets")
    return [event for name in names for event in documented(name)]
