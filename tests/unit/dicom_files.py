"""Helpers for tests of exports of DICOM files."""

from __future__ import annotations

import io
import warnings
from concurrent.futures import ThreadPoolExecutor

import boto3
import pydicom
import pytest
from pydicom.uid import generate_uid

from framegate.aws.event_bus import EventBus
from framegate.datasets.instance_files import InstanceFiles
from framegate.datasets.series import SeriesReader
from framegate.datasets.writer import InstanceWriter
from framegate.export.copying import FrameCopier
from framegate.export.exporter import Exporter
from framegate.export.outputs import FrameOutput, InstanceOutput
from framegate.export.records import ExportRecords
from framegate.healthimaging.client import HealthImaging
from framegate.identifiers import ImageSetRef
from framegate.index.frame_index import FrameIndex
from framegate.messages import ExportOrder
from framegate.storage.image_set_remover import ImageSetRemover
from tests.unit.conftest import BUCKET, SERVED
from tests.unit.exporting import content, keys
from tests.unit.sessions import new_session

SECRET = "secret"


@pytest.fixture
def dicom_exporter(health_imaging, store, objects, moto, pace):
    """An exporter of DICOM files with four threads that calls the HealthImaging emulator and moto."""
    with ThreadPoolExecutor(4) as threads:
        yield new_dicom_exporter(store, objects, pace, threads)


def new_dicom_exporter(store, objects, pace, threads, workers=4):
    source = HealthImaging(new_session(), max_connections=8)
    copier, index, files = FrameCopier(source, store, pace), FrameIndex(source, objects), InstanceFiles(objects)
    writer = InstanceWriter(source, store, files, pace, threads)
    instances = InstanceOutput(source, SeriesReader(source, SECRET), files, writer, store, copier, threads)
    bus = EventBus(lambda: boto3.client("events"), "default")
    remover = ImageSetRemover(objects)
    outputs = {"frames": FrameOutput(source, store, copier, index), "dicom": instances}
    return Exporter(source, ExportRecords(objects), outputs, remover, bus, workers)


def import_together(health_imaging, folder, *files):
    """Import DICOM files as one image set of the emulator."""
    paths = [folder / f"{generate_uid()}.dcm" for _ in files]
    for path, file in zip(paths, files, strict=True):
        path.write_bytes(file)
    (image_set,) = health_imaging.import_files(SERVED, paths)
    return image_set


def dicom_order(image_set, **members):
    return ExportOrder.of_version(image_set, "1", verify=members.pop("verify", False), output="dicom", **members)


def image_set_of(imported):
    return ImageSetRef(SERVED, imported.id)


def exported_files(s3, image_set):
    """The bytes of the exported files of an image set, by SOP instance UID."""
    prefix = f"instances/{image_set.datastore_id}/{image_set.image_set_id}/"
    found = [content(s3, key) for key in keys(s3, prefix)]
    return {read(each).SOPInstanceUID: each for each in found}


def read(file):
    """Read the bytes of a DICOM file, and every element of it."""
    with warnings.catch_warnings(action="ignore"):
        dataset = pydicom.dcmread(io.BytesIO(file))
        for _ in dataset.iterall():
            pass
        return dataset


def content_type_of(s3, key):
    return s3.head_object(Bucket=BUCKET, Key=key)["ContentType"]
