"""What tests of the export share: image sets to export, and what is left of it."""

from __future__ import annotations

import json
import os

from framegate.identifiers import ImageSetRef
from tests.unit.conftest import BUCKET, SERVED

SIZES = (1_000, 30_000, 250_000)


def add_image_set(health_imaging, frames=5, content_type="image/jph", datastore_id=SERVED):
    """An image set of so many frames, small and larger ones; returns its address and the frames."""
    first = health_imaging.add_frame(datastore_id, os.urandom(SIZES[0]), content_type)
    rest = [
        health_imaging.add_frame(
            datastore_id, os.urandom(SIZES[number % len(SIZES)]), content_type, image_set_id=first.image_set_id
        )
        for number in range(1, frames)
    ]
    return ImageSetRef(datastore_id, first.image_set_id), [first, *rest]


def stored_frames(s3, image_set):
    """The stored frames of an image set, by their identifiers."""
    prefix = f"frames/{image_set.datastore_id}/{image_set.image_set_id}/"
    return {key.removeprefix(prefix): content(s3, key) for key in keys(s3, prefix)}


def keys(s3, prefix=""):
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    return [each["Key"] for page in pages for each in page.get("Contents", [])]


def content(s3, key):
    return s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()


def manifest_lines(s3, image_set, export_id="version-1"):
    key = f"exports/{image_set.datastore_id}/{image_set.image_set_id}/{export_id}/manifest.jsonl"
    return [json.loads(line) for line in content(s3, key).splitlines()]


def outcomes(lines):
    return [line["outcome"] for line in lines]


def is_exported(s3, health_imaging, image_set, frames, export_id="version-1"):
    """Whether S3 holds exactly the frames' bytes, and the manifest every frame once, stored."""
    expected = {frame.image_frame_id: health_imaging.content(frame) for frame in frames}
    lines = manifest_lines(s3, image_set, export_id)
    return (
        stored_frames(s3, image_set) == expected
        and sorted(line["imageFrameId"] for line in lines) == sorted(expected)
        and set(outcomes(lines)) <= {"copied", "present"}
    )
