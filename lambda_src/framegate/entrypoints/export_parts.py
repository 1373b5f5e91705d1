"""Puts together what the functions that export are made of."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from framegate.aws import clients
from framegate.aws.event_bus import EventBus
from framegate.export.copying import FrameCopier
from framegate.export.exporter import Exporter
from framegate.export.pace import Pace
from framegate.export.records import ExportRecords
from framegate.healthimaging.client import HealthImaging
from framegate.settings import ExportSettings
from framegate.storage.frame_store import FrameStore
from framegate.storage.image_set_remover import ImageSetRemover
from framegate.storage.object_store import ObjectStore
from framegate.storage.object_writer import CLEANUP_TIME

RETURN_TIME = CLEANUP_TIME + 1.0
"""Seconds of an invocation that are kept back, to take a failed upload away, log and return."""

WORKERS = 24
"""Frames that one function copies at the same time: most of a frame's time it waits, for one service or the other."""

S3_CALLS = 32
"""Calls of S3 under way at the same time: one for each worker, and some for the parts of large frames."""


@dataclass(frozen=True, slots=True)
class ExportParts:
    """The parts, put together from the environment of a function."""

    settings: ExportSettings
    source: HealthImaging
    objects: ObjectStore
    store: FrameStore
    remover: ImageSetRemover
    exporter: Exporter

    @classmethod
    def from_environment(cls) -> ExportParts:
        """Build them; done once, and kept while the function lives."""
        settings = ExportSettings.from_environment(os.environ)
        threads = ThreadPoolExecutor(S3_CALLS, thread_name_prefix="s3")
        s3 = partial(clients.s3, S3_CALLS)
        # Built now: the first to use it may be many threads at once, and boto3 does not bear that.
        s3()
        objects = ObjectStore(clients.session(), s3, settings.frame_bucket, threads, S3_CALLS)
        source, store = HealthImaging(clients.session(), max_connections=WORKERS), FrameStore(objects)
        remover = ImageSetRemover(objects)
        exporter = Exporter(
            source,
            store,
            FrameCopier(source, store, Pace(settings.rate)),
            ExportRecords(objects),
            remover,
            EventBus(clients.events, settings.event_bus),
            WORKERS,
        )
        return cls(settings, source, objects, store, remover, exporter)
