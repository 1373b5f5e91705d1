"""Stores the DICOM files of instances in the bucket, each under a key without its UID."""

from __future__ import annotations

from typing import TYPE_CHECKING

from framegate.bucket_layout import INSTANCE_PREFIX, image_set_prefix, instance_key
from framegate.datasets.part10 import DICOM_FILE
from framegate.problems import UpstreamFailed
from framegate.settings import CACHE_CONTROL
from framegate.storage.s3_put import SERVICE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from framegate.datasets.series import InstanceSource
    from framegate.dicomweb.study_lists import ImageSetVersion
    from framegate.identifiers import ImageSetRef
    from framegate.storage.object_store import ObjectStore, StoredObject
    from framegate.storage.object_writer import ObjectWriter
    from framegate.time_budget import TimeBudget

CONTENT_ID, VERSION_ID, TRANSFER_SYNTAX = "framegate-content", "framegate-version", "framegate-transfer-syntax"
"""The user-defined metadata of a file: what it was made of, the latest version of its image set before that, and its
transfer syntax. The last two can be unknown."""


class InstanceFiles:
    """The stored DICOM files.

    Parameters
    ----------
    objects : ObjectStore
        The bucket.

    Notes
    -----
    Every method raises `Throttled`, `UpstreamFailed` or `UpstreamTimeout` as `ObjectStore` does.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def names(self, image_set: ImageSetRef, budget: TimeBudget) -> set[str]:
        """Return the names of an image set's stored files."""
        found = self._objects.names(image_set_prefix(INSTANCE_PREFIX, image_set), budget)
        return {name.removesuffix(".dcm") for name in found}

    def find(self, image_set: ImageSetRef, instance: InstanceSource, budget: TimeBudget) -> StoredObject | None:
        """Return the stored file of an instance; None if there is none, or if the instance has changed since."""
        stored = self._objects.head(instance_key(image_set, instance.name), budget)
        return stored if stored and stored.metadata.get(CONTENT_ID) == instance.content_id else None

    def find_of_version(self, version: ImageSetVersion, name: str, budget: TimeBudget) -> StoredObject | None:
        """Return the file with a name that was written for a version of its image set; None if there is none."""
        stored = self._objects.head(instance_key(version.image_set, name), budget)
        return stored if stored and stored.metadata.get(VERSION_ID) == version.version_id else None

    def writer(
        self,
        image_set: ImageSetRef,
        instance: InstanceSource,
        size: int | None,
        version_id: str | None,
        budget: TimeBudget,
    ) -> AbstractContextManager[ObjectWriter]:
        """Write a file piece by piece, in place of an earlier one; see `ObjectStore.writer`."""
        version = {} if version_id is None else {VERSION_ID: version_id}
        syntax = {} if instance.file_syntax is None else {TRANSFER_SYNTAX: instance.file_syntax}
        return self._objects.writer(
            instance_key(image_set, instance.name),
            DICOM_FILE,
            budget,
            CACHE_CONTROL["revalidate"],
            size,
            metadata={CONTENT_ID: instance.content_id, **version, **syntax},
        )

    def read(self, image_set: ImageSetRef, name: str, budget: TimeBudget) -> Iterator[bytes]:
        """Yield the bytes of a file.

        Raises
        ------
        UpstreamFailed
            If the file is gone since the caller found it.
        """
        try:
            yield from self._objects.read(instance_key(image_set, name), budget)
        except KeyError:
            raise UpstreamFailed(SERVICE, "no longer has the file") from None

    def presigned_url(
        self,
        image_set: ImageSetRef,
        name: str,
        lifetime_seconds: int,
        *,
        cache_control: str,
        for_head: bool,
        request_id: str | None,
    ) -> str:
        """Return a URL to GET a file, or with `for_head` to HEAD it; see `presigning.presigned_url`."""
        return self._objects.presigned_url(
            instance_key(image_set, name),
            lifetime_seconds,
            cache_control=cache_control,
            for_head=for_head,
            request_id=request_id,
        )
