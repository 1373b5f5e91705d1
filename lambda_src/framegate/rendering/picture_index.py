"""The picture index: stores what is needed to draw the frames of an image set, once for each version.

It joins two answers of HealthImaging: the metadata of the image set, which lists the frames, and the metadata of its
series in DICOM JSON, which also has the binary attributes, such as palettes.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from framegate.bucket_layout import JSON_LINES, claim_key, digest, picture_index_key
from framegate.dicomweb.uids import SeriesAddress, StudyAddress
from framegate.identifiers import FrameRef, is_uid
from framegate.problems import FrameNotFound, InstanceNotFound, UpstreamFailed
from framegate.rendering.presentation import FRAME_GROUPS, TAGS
from framegate.storage.shared_work import SharedWork

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from framegate.healthimaging.client import FrameStream, HealthImaging
    from framegate.healthimaging.image_set_metadata import InstanceEntry
    from framegate.identifiers import ImageSetRef
    from framegate.storage.object_store import ObjectStore
    from framegate.time_budget import TimeBudget

FORMAT = 1
"""Format of an index's lines. The key contains it, so old lines are never read as new ones."""

MAX_INDEX_BYTES = 128 * 1024 * 1024
"""Maximum size of an index. One with 50,000 frames and a window for each has 15 MB."""

CACHE_MAX_BYTES = 64 * 1024 * 1024
"""Maximum size of the indexes that a function caches in memory, if there are several."""

_SOP_INSTANCE_UID, _INSTANCE_NUMBER = "00080018", "00200013"
_DICOM_JSON = "application/dicom+json"
_FRAME_COUNT = re.compile(rb'^\{"frameCount":(\d+),', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class FrameToDraw:
    """A frame, and what is needed to draw it.

    Attributes
    ----------
    frame : FrameRef
        The frame's address.
    transfer_syntax_uid : str or None
        The encoding of the stored frame; None means the data store's own lossless format.
    attributes : mapping
        The attributes of its instance in the DICOM JSON model, with no more functional groups than its own.
    value_range : tuple of int or None
        The least and the greatest stored value of a pixel, if HealthImaging lists them.
    name : str
        Identifies the frame and its attributes, for an entity tag. It changes when one of them does.
    """

    frame: FrameRef
    transfer_syntax_uid: str | None
    attributes: dict[str, Any]
    value_range: tuple[int, int] | None
    name: str


class PictureIndex:
    """The picture indexes of image sets. The first request for a version builds its index.

    Parameters
    ----------
    source : HealthImaging
        Provides the metadata: one call of GetImageSetMetadata, and one of GetDICOMSeriesMetadata for each series.
    objects : ObjectStore
        The bucket.
    """

    def __init__(self, source: HealthImaging, objects: ObjectStore) -> None:
        self._source = source
        self._objects = objects
        self._work = SharedWork(objects)
        self._recent: OrderedDict[str, bytes] = OrderedDict()

    def by_id(self, frame: FrameRef, version_id: str, budget: TimeBudget) -> FrameToDraw:
        """Return a frame by HealthImaging's identifier.

        Raises
        ------
        FrameNotFound
            If the version of the image set does not list the frame.
        Problem
            As `HealthImaging` and `ObjectStore` raise it.
        """
        line = _line_with(self._content(frame, version_id, budget), b'["%b"' % frame.image_frame_id.encode())
        if line is not None:
            instance = json.loads(line)
            for number, (image_frame_id, *_) in enumerate(instance["frames"], start=1):
                if image_frame_id == frame.image_frame_id:
                    return _to_draw(frame, instance, number)
        raise FrameNotFound

    def by_number(
        self,
        image_set: ImageSetRef,
        version_id: str,
        sop_instance_uid: str,
        number: int | None,
        budget: TimeBudget,
    ) -> FrameToDraw | None:
        """Return a frame of an instance by its number, from 1; with None, the middle one. None if it does not exist.

        Raises
        ------
        Problem
            As `HealthImaging` and `ObjectStore` raise it.
        """
        content = self._content(image_set, version_id, budget)
        line = _line_with(content, b'"sopInstanceUID":"%b"' % sop_instance_uid.encode())
        if line is None:
            return None
        instance = json.loads(line)
        chosen = (instance["frameCount"] + 1) // 2 if number is None else number
        return _to_draw(image_set, instance, chosen) if chosen <= instance["frameCount"] else None

    def middle(self, image_set: ImageSetRef, version_id: str, budget: TimeBudget) -> FrameToDraw | None:
        """Return the middle frame of an image set, in the order of its instances' numbers. None if it has no frames.

        Raises
        ------
        Problem
            As `HealthImaging` and `ObjectStore` raise it.
        """
        content = self._content(image_set, version_id, budget)
        counts = [(match.start(), int(match[1])) for match in _FRAME_COUNT.finditer(content)]
        before = (sum(count for _, count in counts) + 1) // 2
        for start, count in counts:
            if 0 < before <= count:
                return _to_draw(image_set, json.loads(content[start : content.index(b"\n", start)]), before)
            before -= count
        return None

    def _content(self, image_set: ImageSetRef, version_id: str, budget: TimeBudget) -> bytes:
        key = picture_index_key(image_set, version_id, FORMAT)
        if (recent := self._recent.get(key)) is not None:
            self._recent.move_to_end(key)
            return recent

        def make() -> bytes:
            content = b"".join(self._build(image_set, version_id, budget))
            if len(content) > MAX_INDEX_BYTES:
                raise UpstreamFailed("HealthImaging", "sent metadata that is too long to draw its frames")
            self._objects.put(key, JSON_LINES, [content], budget)
            return content

        claim = claim_key(image_set.datastore_id, f"{image_set.image_set_id}-{version_id}-pictures")
        content = self._work.result(claim, lambda: self._read(key, budget), make, budget)
        self._remember(key, content)
        return content

    def _read(self, key: str, budget: TimeBudget) -> bytes | None:
        try:
            return b"".join(self._objects.read(key, budget))
        except KeyError:
            return None

    def _remember(self, key: str, content: bytes) -> None:
        self._recent[key] = content
        while sum(map(len, self._recent.values())) > CACHE_MAX_BYTES and len(self._recent) > 1:
            self._recent.popitem(last=False)

    def _build(self, image_set: ImageSetRef, version_id: str, budget: TimeBudget) -> Iterator[bytes]:
        # Imported here to keep cold starts short: only a request that finds no index needs the metadata parser.
        from framegate.healthimaging.image_set_metadata import MetadataError, contents_of

        try:
            contents = self._source.fetch_metadata(image_set, version_id, contents_of, budget)
            by_series: dict[str, dict[str, InstanceEntry]] = {}
            for each in contents.instances:
                if each.frames:
                    by_series.setdefault(each.series_instance_uid, {})[each.sop_instance_uid] = each
            study_uid = contents.study_instance_uid
            if by_series and (study_uid is None or not is_uid(study_uid)):
                raise InstanceNotFound
            for series_uid, instances in by_series.items():
                study = StudyAddress(image_set.datastore_id, str(study_uid))
                series = SeriesAddress(study, series_uid, image_set.image_set_id)
                yield from _lines(instances, self._attributes(series, instances, budget))
        except MetadataError as error:
            raise UpstreamFailed("HealthImaging", f"sent metadata that {error}") from None

    def _attributes(
        self, series: SeriesAddress, instances: Iterable[str], budget: TimeBudget
    ) -> dict[str, tuple[float, str]]:
        """Return the number of each instance, and the attributes that drawing needs, as JSON."""
        from framegate.healthimaging.dicom_json import instances_of

        def read(stream: FrameStream) -> dict[str, tuple[float, str]]:
            found = {}
            for dataset in instances_of(stream, TAGS | {_SOP_INSTANCE_UID, _INSTANCE_NUMBER}):
                uid, number = (_first(dataset.pop(tag, None)) for tag in (_SOP_INSTANCE_UID, _INSTANCE_NUMBER))
                if uid in instances:
                    found[uid] = _number(number), json.dumps(dataset, separators=(",", ":"))
            return found

        path = (*series.path, "metadata")
        return self._source.fetch_dicomweb(series.study.datastore_id, path, series.query, _DICOM_JSON, read, budget)


def _first(element: dict[str, Any] | None) -> Any:
    values = (element or {}).get("Value") or [None]
    return values[0]


def _number(value: Any) -> float:
    """Return an instance number, which may be written as text; one that is missing sorts last."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("inf")


def _lines(instances: dict[str, InstanceEntry], attributes: dict[str, tuple[float, str]]) -> Iterator[bytes]:
    """Yield the line of each instance of a series, in the order of their numbers."""
    for uid in sorted(instances, key=lambda uid: attributes.get(uid, (float("inf"), ""))[0]):
        instance = instances[uid]
        frames = zip(instance.frames, instance.value_ranges, strict=True)
        head = {
            "frameCount": len(instance.frames),
            "sopInstanceUID": uid,
            "storedTransferSyntaxUID": instance.transfer_syntax_uid,
            "frames": [[frame.image_frame_id, *(value_range or ())] for frame, value_range in frames],
        }
        _, own = attributes.get(uid, (0.0, "{}"))
        yield f'{json.dumps(head, separators=(",", ":"))[:-1]},"attributes":{own}}}\n'.encode()


def _line_with(content: bytes, text: bytes) -> bytes | None:
    """Return the line that contains a text. Quotation marks within JSON strings are escaped, so the search is exact."""
    position = content.find(text)
    if position < 0:
        return None
    return content[content.rfind(b"\n", 0, position) + 1 : content.index(b"\n", position)]


def _to_draw(image_set: ImageSetRef, instance: dict[str, Any], number: int) -> FrameToDraw:
    """Return a frame of an instance by its number, from 1."""
    image_frame_id, *limits = instance["frames"][number - 1]
    attributes = dict(instance["attributes"])
    if groups := attributes.get(FRAME_GROUPS, {}).get("Value"):
        attributes[FRAME_GROUPS] = {"Value": groups[number - 1 : number]}
    syntax = instance["storedTransferSyntaxUID"]
    return FrameToDraw(
        FrameRef(image_set.datastore_id, image_set.image_set_id, image_frame_id),
        syntax,
        attributes,
        (limits[0], limits[1]) if len(limits) == 2 else None,
        f"{image_frame_id}-{digest(json.dumps([syntax, limits, attributes]))}",
    )
