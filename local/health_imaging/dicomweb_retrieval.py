"""Retrieves metadata, frames, files and bulk data as HealthImaging's WADO-RS does.

The transfer syntaxes are those of the developer guide ("Getting DICOM instance frames from HealthImaging").
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from local.health_imaging.answers import Answer, Body
from local.health_imaging.decoders import DecodeError
from local.health_imaging.dicom_json import (
    absolute_bulk_data,
    bulk_data,
    current_dataset,
    part_10_file,
    to_dicom_json,
    uncompressed,
)
from local.health_imaging.dicomweb_instances import (
    StoredInstance,
    bytes_answer,
    instances_of,
    json_type,
    primary_image_sets,
)
from local.health_imaging.errors import ServiceError
from local.health_imaging.frames import EXPLICIT_VR_LITTLE_ENDIAN, VIDEO
from local.health_imaging.identifiers import new_identifier
from local.health_imaging.media_ranges import MULTIPART, MediaRange, parse_accept
from local.health_imaging.quiet_pydicom import quiet_pydicom
from local.health_imaging.transcoding import PIXEL_DATA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from local.health_imaging.datastores import DataStores
    from local.health_imaging.dicomweb_instances import DICOMwebRequest

_DICOM = "application/dicom"
_OCTET_STREAM = "application/octet-stream"

_PREFIX = "1.2.840.10008.1.2.4."
_MEDIA_TYPES = {
    **dict.fromkeys((f"{_PREFIX}50", f"{_PREFIX}51", f"{_PREFIX}57", f"{_PREFIX}70"), ("image/jpeg",)),
    **dict.fromkeys((f"{_PREFIX}80", f"{_PREFIX}81"), ("image/jls",)),
    **dict.fromkeys((f"{_PREFIX}90", f"{_PREFIX}91"), ("image/jp2", "image/j2c")),
    **dict.fromkeys((f"{_PREFIX}92", f"{_PREFIX}93"), ("image/jpx",)),
    **dict.fromkeys((f"{_PREFIX}201", f"{_PREFIX}202", f"{_PREFIX}203"), ("image/jphc", "image/jph")),
    f"{_PREFIX}112": ("image/jxl",),
    "1.2.840.10008.1.2.5": ("image/dicom-rle",),
    **dict.fromkeys(VIDEO, ("video/mp4", "video/mpeg", "video/H265")),
}
"""Media types of bulk data by transfer syntax (PS3.18, table 8.7.3-5, and those that the service itself uses)."""

_MAX_FRAME_LIST_CHARACTERS = 100_000


class DICOMwebRetrieval:
    """The operations that retrieve, by their Python names.

    Parameters
    ----------
    stores : DataStores
        Holds the image sets.
    """

    def __init__(self, stores: DataStores) -> None:
        self._stores = stores

    def get_dicom_series_metadata(self, request: DICOMwebRequest) -> Answer:
        instances = self._instances(request)
        return self._metadata(request, sorted(instances, key=lambda each: each.number("InstanceNumber")))

    def get_dicom_instance_metadata(self, request: DICOMwebRequest) -> Answer:
        return self._metadata(request, [self._instance(request)])

    def _metadata(self, request: DICOMwebRequest, instances: list[StoredInstance]) -> Answer:
        content_type = json_type(request.accept)
        documents = [_document(each, request.origin) for each in instances]
        return bytes_answer(json.dumps(documents, allow_nan=False).encode(), content_type)

    def get_dicom_instance(self, request: DICOMwebRequest) -> Answer:
        instance = self._instance(request)
        readers = instance.frames()
        stored = instance.stored_uid
        is_undecoded = _is_undecoded(instance)
        for media_range in parse_accept(request.accept):
            # The parts of a multipart response are DICOM files unless it names another type.
            is_untyped = media_range.is_multipart and "type" not in media_range.parameters
            if not is_untyped and not media_range.includes(_DICOM):
                continue
            frames: list[bytes] | None = None
            syntax = None
            for syntax in _candidate_syntaxes(media_range.transfer_syntax, stored):
                frames = [] if is_undecoded and syntax == stored else _frames_in(syntax, instance, readers)
                if frames is not None:
                    break
            if frames is None or syntax is None:
                continue
            with quiet_pydicom():
                dataset = current_dataset(instance.file, instance.attributes)
                content = part_10_file(dataset, instance.file, frames, stored, syntax)
            content_type = f"{_DICOM}; transfer-syntax={syntax}"
            return _parts_answer([(content, content_type)], media_range, _DICOM)
        raise _not_acceptable(_DICOM, stored)

    def get_dicom_instance_frames(self, request: DICOMwebRequest) -> Answer:
        numbers = _frame_numbers(request.label("frameList") or "")
        instance = self._instance(request)
        readers = instance.frames()
        if any(number > len(readers) for number in numbers):
            raise ServiceError("ResourceNotFoundException", f"The instance has {len(readers)} frames")
        chosen = [readers[number - 1] for number in numbers]
        stored = instance.stored_uid
        for media_range in parse_accept(request.accept):
            if not media_range.is_multipart and media_range.media_type != "*/*" and len(chosen) > 1:
                continue
            for syntax in _candidate_syntaxes(media_range.transfer_syntax, stored, media_range.content_type):
                media_type = _media_type(media_range, syntax)
                frames = _frames_in(syntax, instance, chosen) if media_type else None
                if frames is not None and media_type is not None:
                    content_type = f"{media_type}; transfer-syntax={syntax}"
                    return _parts_answer([(frame, content_type) for frame in frames], media_range, media_type)
        raise _not_acceptable(_OCTET_STREAM, stored)

    def get_dicom_bulkdata(self, request: DICOMwebRequest) -> Answer:
        instance = self._instance(request)
        with quiet_pydicom():
            dataset = current_dataset(instance.file, instance.attributes)
            content = bulk_data(dataset, request.label("bulkdataUriHash") or "")
        if content is None:
            raise ServiceError("ResourceNotFoundException", "The instance has no such bulk data")
        for media_range in parse_accept(request.accept):
            if media_range.includes(_OCTET_STREAM):
                return _parts_answer([(content, _OCTET_STREAM)], media_range, _OCTET_STREAM, single_by_default=True)
        raise ServiceError("NotAcceptableException", f"The response is of type {_OCTET_STREAM}")

    def _instances(self, request: DICOMwebRequest, uid: str | None = None) -> list[StoredInstance]:
        """The instances of a series, or one of them, in the image set of the query or in primary image sets."""
        store = self._stores.get(request.datastore_id)
        image_set_id = request.image_set_id
        image_sets = (
            primary_image_sets(store)
            if image_set_id is None
            else [self._stores.image_set(request.datastore_id, image_set_id)]
        )
        study_uid, series_uid = request.label("studyInstanceUid"), request.label("seriesInstanceUid")
        found = [
            each for image_set in image_sets for each in instances_of(store, image_set, study_uid, series_uid, uid)
        ]
        if not found:
            missing = "series" if uid is None else "instance"
            raise ServiceError("ResourceNotFoundException", f"There is no such {missing}")
        return found

    def _instance(self, request: DICOMwebRequest) -> StoredInstance:
        return self._instances(request, request.label("sopInstanceUid"))[0]


def _document(instance: StoredInstance, origin: str) -> dict[str, Any]:
    """The metadata of an instance in DICOM JSON."""
    documents = instance.image_set.documents
    metadata, document = documents.get(instance.uid, (None, {}))
    if metadata is not instance.metadata:
        with quiet_pydicom():
            document = to_dicom_json(current_dataset(instance.file, instance.attributes))
        documents[instance.uid] = (instance.metadata, document)
    syntax = {"00083002": {"vr": "UI", "Value": [instance.stored_uid]}}
    result: dict[str, Any] = absolute_bulk_data(document, f"{origin}{instance.path}")
    return dict(sorted((result | syntax).items()))


def _frame_numbers(text: str) -> list[int]:
    numbers = text.split(",") if len(text) <= _MAX_FRAME_LIST_CHARACTERS else []
    if not numbers or not all(re.fullmatch(r"[1-9][0-9]{0,9}", each) for each in numbers):
        raise ServiceError("ValidationException", "frameList must be frame numbers from 1, separated by commas")
    if len(set(numbers)) < len(numbers):
        raise ServiceError("ValidationException", "frameList must name each frame once")
    return [int(each) for each in numbers]


def _candidate_syntaxes(requested: str | None, stored: str, content_type: str = _OCTET_STREAM) -> list[str]:
    """The transfer syntaxes that satisfy a request, in order of preference (developer guide, "Getting DICOM ...")."""
    if requested == "*":
        return [stored]
    if requested is not None:
        return [requested] if requested in (stored, EXPLICIT_VR_LITTLE_ENDIAN) else []
    if content_type.startswith(("image/", "video/")):
        return [stored]
    # "If transcoding to ELE is not feasible [...] then pixels will be returned without transcoding."
    return [EXPLICIT_VR_LITTLE_ENDIAN, stored]


def _is_undecoded(instance: StoredInstance) -> bool:
    """Whether an import with a warning left the pixel data of an instance as it was."""
    file = instance.file
    return file is not None and any(file.dataset.get(tag) and file.dataset[tag].value for tag in PIXEL_DATA)


def _frames_in(syntax: str, instance: StoredInstance, readers: Iterable[Callable[[], bytes]]) -> list[bytes] | None:
    """The frames in a transfer syntax; None if they cannot be converted to it."""
    if syntax == instance.stored_uid:
        return [read() for read in readers]
    if _is_undecoded(instance):
        return None
    try:
        return [uncompressed(read(), instance.stored_uid, instance.attributes) for read in readers]
    except DecodeError:
        return None


def _media_type(media_range: MediaRange, syntax: str) -> str | None:
    """The media type of a frame in a transfer syntax, if the range includes one."""
    native = _MEDIA_TYPES.get(syntax, ())
    if media_range.includes(_OCTET_STREAM):
        return _OCTET_STREAM
    return next((each for each in native if media_range.includes(each)), None)


def _not_acceptable(media_type: str, stored: str) -> ServiceError:
    syntaxes = " or ".join(dict.fromkeys((stored, EXPLICIT_VR_LITTLE_ENDIAN)))
    problem = f"The response is of type {media_type} with the transfer syntax {syntaxes}; retry with transfer-syntax=*"
    return ServiceError("NotAcceptableException", problem)


def _parts_answer(
    parts: list[tuple[bytes, str]], media_range: MediaRange, media_type: str, *, single_by_default: bool = False
) -> Answer:
    """Send parts as multipart/related or, if the range asks for it, the only part alone."""
    is_single = not media_range.is_multipart and (
        media_range.media_type != "*/*" or single_by_default or media_type == _DICOM
    )
    if is_single:
        ((content, content_type),) = parts
        return bytes_answer(content, content_type)
    boundary = new_identifier()
    pieces: list[bytes | memoryview] = []
    for content, content_type in parts:
        head = f"--{boundary}\r\nContent-Type: {content_type}\r\nContent-Length: {len(content)}\r\n\r\n"
        pieces += [head.encode(), content, b"\r\n"]
    pieces.append(f"--{boundary}--\r\n".encode())
    header = f'{MULTIPART}; type="{media_type}"; boundary={boundary}'
    return Answer(200, Body(pieces, sum(map(len, pieces))), {"Content-Type": header})
