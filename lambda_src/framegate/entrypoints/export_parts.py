"""Builds the parts of the two functions that export."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from framegate.aws import clients
from framegate.aws.event_bus import EventBus
from framegate.datasets.instance_files import InstanceFiles
from framegate.datasets.series import SeriesReader
from framegate.datasets.writer import InstanceWriter
from framegate.export.copying import FrameCopier
from framegate.export.exporter import Exporter
from framegate.export.outputs import FrameOutput, InstanceOutput
from framegate.export.pace import Pace
from framegate.export.records import ExportRecords
from framegate.healthimaging.client import HealthImaging
from framegate.index.frame_index import FrameIndex
from framegate.storage.frame_store import FrameStore
from framegate.storage.image_set_remover import ImageSetRemover
from framegate.storage.object_store import ObjectStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from framegate.dicomweb.study_lists import StudyLists
    from framegate.export.outputs import Output
    from framegate.messages import ExportOutput
    from framegate.settings import ExportSettings

WORKERS = 24
"""Frames that one function copies at the same time: it spends most of the time waiting for HealthImaging or S3."""

S3_CALLS = 32
"""Calls of S3 at the same time: one for each worker, and some for the parts of large frames."""


@dataclass(frozen=True, slots=True)
class ExportParts:
    """The parts of a function that exports."""

    settings: ExportSettings
    source: HealthImaging
    objects: ObjectStore
    store: FrameStore
    remover: ImageSetRemover
    exporter: Exporter

    @classmethod
    def build(cls, settings: ExportSettings, studies: Callable[[ObjectStore], StudyLists] | None = None) -> ExportParts:
        """Build the parts; a function does it once and keeps them.

        Parameters
        ----------
        settings : ExportSettings
            The function's settings.
        studies : callable, optional
            Returns the lists of studies, if the function keeps them.
        """
        threads = ThreadPoolExecutor(S3_CALLS, thread_name_prefix="s3")
        s3 = partial(clients.s3, S3_CALLS)
        # Build the client now: boto3 cannot build one in several threads at once.
        s3()
        objects = ObjectStore(clients.session(), s3, settings.frame_bucket, threads, S3_CALLS)
        source, store = HealthImaging(clients.session(), max_connections=WORKERS), FrameStore(objects)
        remover, pace = ImageSetRemover(objects), Pace(settings.calls_per_second)
        copier = FrameCopier(source, store, pace)
        lists = studies(objects) if studies else None
        outputs: dict[ExportOutput, Output] = {
            "frames": FrameOutput(source, store, copier, FrameIndex(source, objects), lists)
        }
        if settings.output == "dicom":
            outputs["dicom"] = cls._instances(settings, source, store, copier, objects, pace, lists)
        exporter = Exporter(
            source,
            ExportRecords(objects),
            outputs,
            remover,
            EventBus(clients.events, settings.event_bus),
            WORKERS,
            lists,
        )
        return cls(settings, source, objects, store, remover, exporter)

    @staticmethod
    def _instances(
        settings: ExportSettings,
        source: HealthImaging,
        store: FrameStore,
        copier: FrameCopier,
        objects: ObjectStore,
        pace: Pace,
        studies: StudyLists | None,
    ) -> InstanceOutput:
        series, files = SeriesReader(source, settings.uid_hash_secret), InstanceFiles(objects)
        threads = ThreadPoolExecutor(WORKERS, thread_name_prefix="frames")
        writer = InstanceWriter(source, store, files, pace, threads)
        return InstanceOutput(source, series, files, writer, store, copier, threads, studies)
