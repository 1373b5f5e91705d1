"""Reads what exports have stored of an image set: their manifests, and the objects that still exist."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from framegate.bucket_layout import (
    EXPORT_PREFIX,
    FRAME_PREFIX,
    INSTANCE_PREFIX,
    MANIFEST_NAME,
    image_set_prefix,
    manifest_key,
)
from framegate.export.manifest import Outcome, decode_lines
from framegate.problems import PixelMismatch

if TYPE_CHECKING:
    from datetime import datetime

    from framegate.identifiers import ImageSetRef
    from framegate.storage.object_store import ListedObject, ObjectStore
    from framegate.time_budget import TimeBudget

_MANIFEST = re.compile(rf"([^/]+)/{re.escape(MANIFEST_NAME)}")
_VERSION = re.compile(r"version-(\d+)(?:-dicom)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A frame or a DICOM file in the bucket.

    Attributes
    ----------
    key : str
        Its key.
    size : int
        Its size in bytes.
    content_type : str or None
        Its media type, as the latest manifest says.
    checksum : str or None
        CRC32 of its bytes in base64; None if S3 has none, or if the file was replaced after the manifest was written.
    """

    key: str
    size: int
    content_type: str | None
    checksum: str | None


@dataclass(frozen=True, slots=True)
class StoredFiles:
    """The files of an image set that exports have stored.

    Attributes
    ----------
    frames : dict of str to StoredFile
        Frames by image frame id.
    instances : dict of str to StoredFile
        DICOM files by SOP instance UID.
    """

    frames: dict[str, StoredFile] = field(default_factory=dict)
    instances: dict[str, StoredFile] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ExportState:
    """The manifests of an image set and the objects that its exports may have stored, as the bucket lists them.

    Attributes
    ----------
    image_set : ImageSetRef
        The image set.
    manifests : tuple of ListedObject
        The manifests, oldest first; the name of each is the export's id.
    frames, instances : dict of str to ListedObject
        The objects under the prefixes of frames and of DICOM files, by name.
    """

    image_set: ImageSetRef
    manifests: tuple[ListedObject, ...]
    frames: dict[str, ListedObject]
    instances: dict[str, ListedObject]

    @property
    def exported_at(self) -> datetime:
        """Time of the latest export."""
        return self.manifests[-1].modified_at.astimezone(UTC)

    @property
    def month(self) -> str:
        """Month of the oldest export in UTC, such as ``2026-11``."""
        return self.manifests[0].modified_at.astimezone(UTC).strftime("%Y-%m")

    @property
    def version_id(self) -> str | None:
        """The version that the exports name; None if the latest one did not name it, as those of request manifests."""
        versions = {each.name: _VERSION.fullmatch(each.name) for each in self.manifests}
        numbers = [int(match[1]) for match in versions.values() if match]
        return str(max(numbers)) if numbers and versions[self.manifests[-1].name] else None

    def fingerprint(self, *facts: str) -> str:
        """Return a digest of the state and of `facts`. It differs if a manifest or an object was written or removed."""
        digest = sha256(repr(facts).encode())
        for listed in (self.manifests, self.frames.values(), self.instances.values()):
            lines = sorted(f"{each.name} {each.etag} {each.modified_at.timestamp()}" for each in listed)
            digest.update("\n".join([*lines, ""]).encode())
        return digest.hexdigest()[:32]


def export_state(objects: ObjectStore, image_set: ImageSetRef, budget: TimeBudget) -> ExportState | None:
    """Return the state of an image set's exports; None if it has no manifest.

    Raises
    ------
    Problem
        As `ObjectStore` raises it.
    """
    manifests = [
        each.renamed(match[1])
        for each in objects.entries(image_set_prefix(EXPORT_PREFIX, image_set), budget)
        if (match := _MANIFEST.fullmatch(each.name))
    ]
    if not manifests:
        return None
    manifests.sort(key=lambda each: (each.modified_at, each.name))
    frames, instances = (
        {each.name: each for each in objects.entries(image_set_prefix(prefix, image_set), budget)}
        for prefix in (FRAME_PREFIX, INSTANCE_PREFIX)
    )
    return ExportState(image_set, tuple(manifests), frames, instances)


def stored_files(objects: ObjectStore, state: ExportState, budget: TimeBudget) -> StoredFiles:
    """Read the manifests of an image set, and return the files that they list and that exist. The latest line counts.

    Raises
    ------
    KeyError
        If a manifest was removed since the bucket was listed.
    Problem
        As `ObjectStore` raises it.
    """
    found = StoredFiles()
    for manifest in state.manifests:
        key = manifest_key(state.image_set, manifest.name)
        for line in decode_lines(objects.read(key, budget)):
            is_frame = "imageFrameId" in line
            files, identifier = (
                (found.frames, line["imageFrameId"]) if is_frame else (found.instances, line["sopInstanceUID"])
            )
            listed = (state.frames if is_frame else state.instances).get(line["key"].rpartition("/")[2])
            if line["outcome"] == PixelMismatch.slug or listed is None:
                files.pop(identifier, None)
            elif line["outcome"] in (Outcome.COPIED, Outcome.PRESENT):
                files[identifier] = _stored_file(line, listed, manifest)
    return found


def _stored_file(line: dict[str, Any], listed: ListedObject, manifest: ListedObject) -> StoredFile:
    is_current = listed.size == line["contentLength"] and listed.modified_at <= manifest.modified_at
    return StoredFile(line["key"], listed.size, line["contentType"], line["checksumCRC32"] if is_current else None)
