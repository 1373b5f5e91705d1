"""Runs the emulator of HealthImaging in a process of its own, with series of CT slices and its documented quotas."""

from __future__ import annotations

import copy
import json
import multiprocessing
import threading
import urllib.request
from collections import Counter
from dataclasses import dataclass, replace
from io import BytesIO
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import psutil

from bench.origin import DATASTORE

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

SLICES = 500
"""Slices of a series."""

_ROOT = "1.2.826.0.1.3680043.8.498.15"
_SIDE_PIXELS, _NOISE = 512, 8
"""Each slice has this many pixels on a side. The noise makes its frame as large as that of a usual CT slice, 185 kB."""


@dataclass(frozen=True, slots=True)
class Series:
    """A series, which is the only one of its study."""

    number: int
    slices: int = SLICES

    @property
    def study_uid(self) -> str:
        """The study's UID."""
        return f"{_ROOT}.{self.number}"

    @property
    def series_uid(self) -> str:
        """The series' UID."""
        return f"{self.study_uid}.1"

    def instance_uid(self, slice_number: int) -> str:
        """The UID of a slice, counted from 1."""
        return f"{self.series_uid}.{slice_number}"

    def metadata_path(self) -> str:
        """The path of the metadata, as HealthImaging and Framegate have it."""
        return f"/datastore/{DATASTORE}/studies/{self.study_uid}/series/{self.series_uid}/metadata"

    def frame_paths(self) -> list[str]:
        """The path of each slice's frame."""
        base = self.metadata_path().removesuffix("/metadata")
        return [f"{base}/instances/{self.instance_uid(number + 1)}/frames/1" for number in range(self.slices)]


class EmulatedHealthImaging:
    """The emulator, while the ``with`` block runs.

    Parameters
    ----------
    series : list of Series
        What its data store holds.
    latency_seconds : float
        The delay of each response.

    Attributes
    ----------
    url : str
        Its endpoint.
    port : int
        Its port on 127.0.0.1.
    """

    url: str
    port: int

    def __init__(self, series: list[Series], latency_seconds: float) -> None:
        self._ready, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=_serve, args=(series, latency_seconds, theirs), daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        self.url = self._ready.recv()
        self.port = urlsplit(self.url).port or 0
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()

    def take_calls(self) -> Counter[tuple[str, int]]:
        """The number of calls by operation and status since the last time."""
        calls: list[dict[str, Any]] = json.loads(self._administer("GET"))["calls"]
        self._administer("DELETE")
        return Counter((each["operation"], each["status"]) for each in calls)

    def processor_seconds(self) -> float:
        """The processor time that it has used."""
        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system)

    def _administer(self, method: str) -> bytes:
        request = urllib.request.Request(f"{self.url}/_emulator/calls", method=method)  # noqa: S310 - on loopback
        with urllib.request.urlopen(request) as response:  # noqa: S310
            content: bytes = response.read()
            return content


def _serve(series: list[Series], latency_seconds: float, ready: Connection) -> None:
    from local.health_imaging import Fault, HealthImagingEmulator
    from local.health_imaging.dicomweb_instances import DICOMwebRequest
    from local.health_imaging.dicomweb_retrieval import DICOMwebRetrieval
    from local.health_imaging.instances import Instance, read_instance

    original = read_instance(_ct_slice(), "HTJ2K")

    def instance_of(each: Series, number: int) -> Instance:
        dataset = copy.copy(original.dataset)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = each.study_uid, each.series_uid
        dataset.SOPInstanceUID, dataset.InstanceNumber = each.instance_uid(number), number
        attributes = replace(
            original.attributes,
            study={**original.attributes.study, "StudyInstanceUID": each.study_uid},
            series={**original.attributes.series, "SeriesInstanceUID": each.series_uid},
            instance={
                **original.attributes.instance,
                "SOPInstanceUID": each.instance_uid(number),
                "InstanceNumber": number,
            },
        )
        return replace(original, dataset=dataset, attributes=attributes)

    with HealthImagingEmulator(throttles="documented") as emulator:
        emulator.create_datastore("bench", DATASTORE)
        retrieval = DICOMwebRetrieval(emulator.stores)
        for each in series:
            instances = [instance_of(each, number) for number in range(1, each.slices + 1)]
            emulator.stores.add_instances(DATASTORE, instances)
            # The emulator makes the documents of a series with its first metadata, and takes more than a second for it.
            labels = {
                "datastoreId": DATASTORE,
                "studyInstanceUid": each.study_uid,
                "seriesInstanceUid": each.series_uid,
            }
            retrieval.get_dicom_series_metadata(DICOMwebRequest(labels, "", None, emulator.url))
        emulator.faults.arm(Fault(operation=None, latency=latency_seconds))
        ready.send(emulator.url)
        threading.Event().wait()


def _ct_slice() -> bytes:
    """Make the file of a CT slice."""
    import numpy
    import pydicom
    from pydicom.data import get_testdata_file

    dataset = pydicom.dcmread(str(get_testdata_file("CT_small.dcm", download=False)))
    dataset.remove_private_tags()
    del dataset.DataSetTrailingPadding
    generator = numpy.random.default_rng(0)
    rows, columns = numpy.mgrid[:_SIDE_PIXELS, :_SIDE_PIXELS] - _SIDE_PIXELS / 2
    body = 1000 * numpy.exp(-(rows**2 + columns**2) / (_SIDE_PIXELS / 4) ** 2)
    pixels = body + generator.normal(0, _NOISE, (_SIDE_PIXELS, _SIDE_PIXELS))
    dataset.Rows = dataset.Columns = _SIDE_PIXELS
    dataset.PixelData = pixels.astype("<i2").tobytes()
    written = BytesIO()
    dataset.save_as(written)
    return written.getvalue()
