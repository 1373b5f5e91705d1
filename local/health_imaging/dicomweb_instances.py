"""Finds the instances that DICOMweb serves, in the latest versions of image sets."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, unquote

from local.health_imaging.answers import Answer, Body
from local.health_imaging.errors import ServiceError
from local.health_imaging.import_warnings import WarningReason
from local.health_imaging.media_ranges import parse_accept
from local.health_imaging.transcoding import LOSSLESS_STORAGE_FORMATS, PIXEL_DATA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from local.health_imaging.datastores import DataStore
    from local.health_imaging.frames import FrameContent
    from local.health_imaging.image_sets import ImageSet, SourceFile

DICOM_JSON = "application/dicom+json"
JSON = "application/json"

_BLOB_WARNINGS = {WarningReason.TRANSCODING_EXCEPTION, WarningReason.UNSUPPORTED_TRANSFER_SYNTAX}
"""Pixel data with these warnings can be retrieved as one blob (developer guide, "HealthImaging Warning Codes")."""


class DICOMwebRequest(NamedTuple):
    """A request.

    Parameters
    ----------
    labels : mapping
        The percent-encoded labels of the path.
    query : str
        The query string.
    accept : str, optional
        The Accept header.
    origin : str
        The start of absolute URLs in the response: scheme, host and port.
    """

    labels: Mapping[str, str]
    query: str
    accept: str | None
    origin: str

    @property
    def datastore_id(self) -> str:
        """The data store of the path."""
        return unquote(self.labels["datastoreId"])

    def label(self, name: str) -> str | None:
        """A label of the path, decoded; None if the path has no such label."""
        return unquote(self.labels[name]) if name in self.labels else None

    @property
    def image_set_id(self) -> str | None:
        """The query parameter ``imageSetId``."""
        values = parse_qs(self.query, keep_blank_values=True).get("imageSetId")
        return values[-1] if values else None


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """An instance in the latest version of an image set."""

    store: DataStore
    image_set: ImageSet
    metadata: Mapping[str, Any]
    series_uid: str
    uid: str

    @property
    def _series(self) -> Mapping[str, Any]:
        series: Mapping[str, Any] = self.metadata["Study"]["Series"][self.series_uid]
        return series

    @property
    def _entry(self) -> Mapping[str, Any]:
        entry: Mapping[str, Any] = self._series["Instances"][self.uid]
        return entry

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes of all levels, by keyword."""
        metadata = self.metadata
        levels = (metadata["Patient"], metadata["Study"], self._series, self._entry)
        return {keyword: value for level in levels for keyword, value in level["DICOM"].items()}

    @property
    def sop_class_uid(self) -> Any:
        """The SOP Class UID; None if there is none."""
        return self._entry["DICOM"].get("SOPClassUID")

    @property
    def study_uid(self) -> str:
        """The Study Instance UID."""
        return str(self.metadata["Study"]["DICOM"].get("StudyInstanceUID"))

    @property
    def file(self) -> SourceFile | None:
        """The DICOM file of the instance; None if its frames were added without one."""
        return self.image_set.files.get(self.uid)

    @property
    def warning_codes(self) -> tuple[int, ...]:
        """The codes of the warnings of its import."""
        return self.file.warning_codes if self.file else ()

    @property
    def path(self) -> str:
        """The path of the instance in URLs."""
        uids = f"studies/{self.study_uid}/series/{self.series_uid}/instances/{self.uid}"
        return f"/datastore/{self.store.id}/{uids}"

    def number(self, keyword: str) -> float:
        """A numeric attribute to sort by; infinity if there is none, so that the instance comes last."""
        value = self.attributes.get(keyword)
        return value if isinstance(value, int) and not isinstance(value, bool) else float("inf")

    @property
    def stored_uid(self) -> str:
        """The stored transfer syntax. Without one in the metadata, it is that of the data store."""
        format_uid = LOSSLESS_STORAGE_FORMATS[self.store.lossless_storage_format]
        return str(self._entry.get("StoredTransferSyntaxUID", format_uid))

    def frames(self) -> list[Callable[[], bytes]]:
        """Readers of its frames. Pixel data that the import stored as a blob is one frame."""
        entries = self._entry["ImageFrames"]
        if not entries and self.file is not None and not _BLOB_WARNINGS.isdisjoint(self.warning_codes):
            blobs = [self.file.dataset.get(tag) for tag in PIXEL_DATA]
            return [partial(bytes, each.value) for each in blobs if each is not None and each.value]
        contents = [self.image_set.frames[entry["ID"]].content for entry in entries]
        return [partial(_joined, content) for content in contents]


def _joined(content: FrameContent) -> bytes:
    return b"".join(content.pieces())


def primary_image_sets(store: DataStore) -> list[ImageSet]:
    """The primary image sets of a data store that are not deleted."""
    # The list is copied because an import may add to it at the same time.
    return [each for each in list(store.image_sets.values()) if each.state == "ACTIVE" and each.is_primary]


def instances_of(
    store: DataStore,
    image_set: ImageSet,
    study_uid: str | None = None,
    series_uid: str | None = None,
    instance_uid: str | None = None,
) -> Iterator[StoredInstance]:
    """The instances of an image set with these UIDs; None allows any."""
    metadata = image_set.versions[-1]
    if study_uid not in (None, str(metadata["Study"]["DICOM"].get("StudyInstanceUID"))):
        return
    for uid, series in metadata["Study"]["Series"].items():
        if series_uid in (None, uid):
            instances = series["Instances"]
            uids = list(instances) if instance_uid is None else [instance_uid]
            yield from (StoredInstance(store, image_set, metadata, uid, each) for each in uids if each in instances)


def json_type(accept: str | None) -> str:
    """The media type of a JSON response that an Accept header allows.

    Raises
    ------
    ServiceError
        NotAcceptableException if it allows none.
    """
    for media_range in parse_accept(accept):
        for media_type in (DICOM_JSON, JSON):
            if not media_range.is_multipart and media_range.includes(media_type):
                return media_type
    raise ServiceError("NotAcceptableException", f"The response is of type {DICOM_JSON}")


def bytes_answer(content: bytes, content_type: str) -> Answer:
    """Make a response with a body in one piece."""
    return Answer(200, Body([content], len(content)), {"Content-Type": content_type})
