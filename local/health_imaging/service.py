"""The service without its HTTP side: data stores, imports, changes and events, with faults and recorded calls."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from local.health_imaging.changes import ImageSetChanges
from local.health_imaging.datastores import DataStores
from local.health_imaging.events import Events
from local.health_imaging.faults import Calls, Faults
from local.health_imaging.frames import FrameContent, GeneratedBody
from local.health_imaging.image_sets import Frame, FrameAddress, ImageSet
from local.health_imaging.jobs import Importer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

log = logging.getLogger(__name__)


class HealthImagingService:
    """What AWS HealthImaging holds and does, to be called in this process.

    Parameters
    ----------
    s3 : boto3 S3 client, optional
        The S3 that import jobs read from and write to. Without it, import jobs fail.
    events : boto3 EventBridge client, optional
        Receives the events of data stores, import jobs and image sets.
    event_source : str
        The source of these events.
    account_id, region : str
        The account and Region in ARNs.

    Attributes
    ----------
    stores : DataStores
        The data stores.
    importer : Importer
        Runs import jobs.
    changes : ImageSetChanges
        Updates and copies image sets.
    faults : Faults
        The armed faults.
    calls : Calls
        The calls answered so far.
    """

    def __init__(self, *, s3: Any, events: Any, event_source: str, account_id: str, region: str) -> None:
        self.arn_prefix = f"arn:aws:medical-imaging:{region}:{account_id}:"
        self.stores = DataStores()
        self.faults = Faults()
        self.calls = Calls()
        self._events = Events(events, event_source, self.arn_prefix)
        self.importer = Importer(self.stores, self._events, s3)
        self.changes = ImageSetChanges(self.stores, self._events)

    def create_datastore(
        self, name: str, datastore_id: str | None = None, *, lossless_storage_format: str = "HTJ2K"
    ) -> str:
        """Create a data store; return its id.

        Parameters
        ----------
        name : str
            Its name.
        datastore_id : str, optional
            Its id; a random one by default.
        lossless_storage_format : str
            The format of imported lossless frames: ``HTJ2K`` or ``JPEG_2000_LOSSLESS``.
        """
        store = self.stores.create(name, datastore_id, lossless_storage_format=lossless_storage_format)
        self._events.data_store("Data Store Creating", store, "CREATING")
        self._events.data_store("Data Store Created", store, "ACTIVE")
        return store.id

    def delete_datastore(self, datastore_id: str) -> None:
        """Delete an empty data store at once, and send its events."""
        store = self.stores.remove(datastore_id)
        self._events.data_store("Data Store Deleting", store, "DELETING")
        self._events.data_store("Data Store Deleted", store, "DELETED")

    def add_frame(
        self,
        datastore_id: str,
        content: bytes | Path | GeneratedBody,
        content_type: str,
        *,
        image_set_id: str | None = None,
        announce_length: bool = True,
    ) -> FrameAddress:
        """Add a frame of any content, size and media type, without a DICOM file.

        Parameters
        ----------
        datastore_id : str
            The data store to add it to.
        content : bytes, Path or GeneratedBody
            Its bytes. A file or a generator is streamed, so the frame may be larger than memory.
        content_type : str
            Its media type.
        image_set_id : str, optional
            The image set to add it to; a new one by default.
        announce_length : bool
            Whether responses carry Content-Length. Otherwise they are chunked.
        """
        frame = Frame(FrameContent(content), content_type, announce_length)
        (address,) = self.stores.add_frames(datastore_id, [frame], image_set_id)
        return address

    def add_frames(
        self,
        datastore_id: str,
        contents: Iterable[bytes | Path | GeneratedBody],
        content_type: str,
        *,
        image_set_id: str | None = None,
        per_instance: int = 1,
    ) -> list[FrameAddress]:
        """Add frames without DICOM files to one image set, in this order.

        This sends no event and makes no version; `announce` sends an event.

        Parameters
        ----------
        datastore_id : str
            The data store to add them to.
        contents : iterable of bytes, Path or GeneratedBody
            The bytes of each frame.
        content_type : str
            The media type of every frame.
        image_set_id : str, optional
            The image set to add them to; a new one by default.
        per_instance : int
            Frames per instance.
        """
        frames = (Frame(FrameContent(content), content_type) for content in contents)
        return self.stores.add_frames(datastore_id, frames, image_set_id, per_instance)

    def announce(self, detail_type: str, datastore_id: str, image_set_id: str, *, version: int | None = None) -> None:
        """Send an event of an image set, whether or not the change happened.

        Parameters
        ----------
        detail_type : str
            ``Image Set Created``, ``Image Set Updated``, ``Image Set Copied`` or ``Image Set Deleted``.
        datastore_id, image_set_id : str
            The image set, which may be deleted.
        version : int, optional
            The version in the event; the latest one by default.
        """
        status = detail_type.removeprefix("Image Set ").upper()
        image_set = self.stores.get(datastore_id).image_sets[image_set_id]
        state = "DELETED" if status == "DELETED" else "ACTIVE"
        self._events.image_set(detail_type, replace(image_set, state=state, workflow_status=status), version)

    def spoil_checksum(self, frame: Any) -> None:
        """Corrupt the pixel checksums of a frame in the metadata, for tests of pixel verification.

        A second call restores them. ``frame`` is any object with the three ids of an address. It must come from a
        DICOM file: other frames have no checksums.
        """
        self.stores.spoil_checksum(FrameAddress(frame.datastore_id, frame.image_set_id, frame.image_frame_id))

    def omit_stored_transfer_syntax(self, datastore_id: str, image_set_id: str) -> None:
        """Remove the stored transfer syntax from an image set's metadata, as the service may.

        Frames without it are in the data store's lossless storage format.
        """
        self.stores.omit_stored_transfer_syntax(datastore_id, image_set_id)

    def import_files(self, datastore_id: str, paths: Iterable[Path]) -> list[ImageSet]:
        """Import DICOM files from this machine; return their image sets.

        Files that cannot be imported are skipped. The log names them, and the files that were imported with a warning.
        """
        imported = self.importer.add_files(datastore_id, ((str(path), path.read_bytes()) for path in paths))
        for name, problem in imported.failures.items():
            log.warning("%s was not imported: %s", name, problem)
        for name, warnings in imported.warnings.items():
            for warning in warnings:
                log.warning("%s was imported with a warning: %s", name, warning.message)
        return imported.image_sets

    def content(self, frame: Any) -> bytes:
        """Return the bytes of a frame; ``frame`` is any object with the three ids of an address."""
        address = FrameAddress(frame.datastore_id, frame.image_set_id, frame.image_frame_id)
        return b"".join(self.stores.frame(address).content.pieces())

    def delete_image_set(self, datastore_id: str, image_set_id: str) -> ImageSet:
        """Delete an image set at once, and send its events."""
        image_set = self.stores.image_set(datastore_id, image_set_id)
        image_set.state, image_set.workflow_status, image_set.updated_at = "LOCKED", "DELETING", time.time()
        self._events.image_set("Image Set Deleting", image_set)
        image_set.state, image_set.workflow_status = "DELETED", "DELETED"
        image_set.frames.clear()
        image_set.files.clear()
        image_set.documents.clear()
        self._events.image_set("Image Set Deleted", image_set)
        return image_set
