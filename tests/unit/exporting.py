"""Helpers for tests of exports: image sets, exporters, and what exports leave in the bucket."""

from __future__ import annotations

import json
import os
import uuid
from contextlib import contextmanager

import boto3
import pytest

from framegate.aws.event_bus import EventBus
from framegate.export.copying import FrameCopier
from framegate.export.exporter import Exporter, ExportResult
from framegate.export.outputs import FrameOutput
from framegate.export.pace import Pace
from framegate.export.records import ExportRecords
from framegate.healthimaging.client import HealthImaging
from framegate.identifiers import ImageSetRef
from framegate.index.frame_index import FrameIndex
from framegate.messages import ExportOrder
from framegate.storage.image_set_remover import ImageSetRemover
from framegate.time_budget import TimeBudget
from tests.unit.conftest import BUCKET, SERVED
from tests.unit.sessions import new_session

LONG_SECONDS = 60.0
SHORT_SECONDS = 1.2
"""Time for a whole export, and for a part of one. The exporter reserves a quarter of it for the manifest."""

SIZES = (1_000, 30_000, 250_000)


def add_image_set(health_imaging, frames=5, content_type="image/jph", datastore_id=SERVED):
    """Add an image set with frames of several sizes; return its reference and the frames."""
    first = health_imaging.add_frame(datastore_id, os.urandom(SIZES[0]), content_type)
    rest = [
        health_imaging.add_frame(
            datastore_id, os.urandom(SIZES[number % len(SIZES)]), content_type, image_set_id=first.image_set_id
        )
        for number in range(1, frames)
    ]
    return ImageSetRef(datastore_id, first.image_set_id), [first, *rest]


def stored_frames(s3, image_set):
    """The bytes of the stored frames of an image set, by image frame id."""
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
    """Whether S3 has exactly these frames, byte for byte, and the manifest lists each of them once as stored."""
    expected = {frame.image_frame_id: health_imaging.content(frame) for frame in frames}
    lines = manifest_lines(s3, image_set, export_id)
    return (
        stored_frames(s3, image_set) == expected
        and sorted(line["imageFrameId"] for line in lines) == sorted(expected)
        and set(outcomes(lines)) <= {"copied", "present"}
    )


def new_exporter(store, objects, pace):
    """An exporter with four threads that calls the HealthImaging emulator and moto."""
    source = HealthImaging(new_session(), max_connections=4)
    bus = EventBus(lambda: boto3.client("events"), "default")
    copier = FrameCopier(source, store, pace)
    records, index = ExportRecords(objects), FrameIndex(source, objects)
    outputs = {"frames": FrameOutput(source, store, copier, index)}
    return Exporter(source, records, outputs, ImageSetRemover(objects), bus, workers=4)


def order_for(image_set, **members):
    return ExportOrder(image_set, "version-1", "1", **members)


def finish(exporter, order, seconds=LONG_SECONDS):
    """Export in as many invocations as it takes; return the result and the number of invocations."""
    for invocation in range(1, 200):
        outcome = exporter.export(order, TimeBudget(seconds))
        if isinstance(outcome, ExportResult):
            return outcome, invocation
        order = outcome
    raise AssertionError("The export does not end.")


@pytest.fixture
def events(moto, sqs_client):
    """Returns the events of Framegate on the default bus since the last call."""
    with received_events(sqs_client) as received:
        yield received


@pytest.fixture
def pace():
    """The pace of the exporter, which never waits."""
    return Pace(100_000)


@pytest.fixture
def exporter(health_imaging, store, objects, moto, pace):
    return new_exporter(store, objects, pace)


@contextmanager
def received_events(sqs_client):
    """Give a function that returns the events of Framegate on the default bus since the last call."""
    client = boto3.client("events")
    name = f"received-{uuid.uuid4()}"
    url = sqs_client.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs_client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    client.put_rule(Name=name, EventPattern=json.dumps({"source": ["framegate"]}))
    client.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": arn}])

    def received():
        found = []
        while messages := sqs_client.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                sqs_client.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                event = json.loads(message["Body"])
                found.append((event["detail-type"], event["detail"]))
        return found

    yield received
    client.remove_targets(Rule=name, Ids=["queue"])
    client.delete_rule(Name=name)
