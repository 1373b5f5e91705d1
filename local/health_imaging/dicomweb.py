"""Implements HealthImaging's DICOMweb services: QIDO-RS searches and WADO-RS retrieval.

Paths, parameters, order of results and transfer syntaxes follow the developer guide ("Using DICOMweb with AWS
HealthImaging"). The guide does not define a few things. There, the emulator follows the DICOM standard (PS3.18).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, unquote

from botocore import xform_name
from pydicom.datadict import tag_for_keyword

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
from local.health_imaging.dicomweb_attributes import (
    DEFAULT_INSTANCE_TAGS,
    DEFAULT_SERIES_TAGS,
    DEFAULT_STUDY_TAGS,
    SERIES_TAGS,
    STUDY_TAGS,
)
from local.health_imaging.dicomweb_queries import (
    ALL_INSTANCE_KEYS,
    ALL_SERIES_KEYS,
    INSTANCE_KEYS,
    SERIES_KEYS,
    STUDY_KEYS,
    Query,
    parse_query,
)
from local.health_imaging.errors import ServiceError
from local.health_imaging.frames import EXPLICIT_VR_LITTLE_ENDIAN, VIDEO
from local.health_imaging.identifiers import new_identifier
from local.health_imaging.import_warnings import WarningReason
from local.health_imaging.media_ranges import MULTIPART, MediaRange, parse_accept
from local.health_imaging.quiet_pydicom import quiet_pydicom
from local.health_imaging.transcoding import LOSSLESS_STORAGE_FORMATS, PIXEL_DATA

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from pydicom import Dataset

    from local.health_imaging.datastores import DataStore, DataStores
    from local.health_imaging.frames import FrameContent
    from local.health_imaging.image_sets import ImageSet, SourceFile

HOST_PREFIX = "dicom-"
"""The prefix of the service's host for DICOMweb."""

_DICOM_JSON = "application/dicom+json"
_JSON = "application/json"
_DICOM = "application/dicom"
_OCTET_STREAM = "application/octet-stream"

_STUDY = "/datastore/{datastoreId}/studies/{studyInstanceUid}"
_SERIES = f"{_STUDY}/series/{{seriesInstanceUid}}"
_INSTANCE = f"{_SERIES}/instances/{{sopInstanceUid}}"
_PATHS = {
    "SearchDICOMStudies": "/datastore/{datastoreId}/studies",
    "SearchDICOMSeries": f"{_STUDY}/series",
    "SearchDICOMInstances": f"{_SERIES}/instances",
    "SearchDICOMStudyInstances": f"{_STUDY}/instances",
    "SearchDICOMAllSeries": "/datastore/{datastoreId}/series",
    "SearchDICOMAllInstances": "/datastore/{datastoreId}/instances",
    "GetDICOMSeriesMetadata": f"{_SERIES}/metadata",
    "GetDICOMInstance": _INSTANCE,
    "GetDICOMInstanceMetadata": f"{_INSTANCE}/metadata",
    "GetDICOMInstanceFrames": f"{_INSTANCE}/frames/{{frameList}}",
    "GetDICOMBulkdata": f"{_INSTANCE}/bulkdata/{{bulkdataUriHash}}",
}

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

_BLOB_WARNINGS = {WarningReason.TRANSCODING_EXCEPTION, WarningReason.UNSUPPORTED_TRANSFER_SYNTAX}
"""Pixel data with these warnings can be retrieved as one blob (developer guide, "HealthImaging Warning Codes")."""

_MAX_FRAME_LIST_CHARACTERS = 100_000


@dataclass(frozen=True)
class DICOMwebOperation:
    """An operation of DICOMweb, in the form of `protocol.Operation`; botocore's model has none of them."""

    name: str

    method = "GET"
    host_prefix = HOST_PREFIX

    @property
    def python_name(self) -> str:
        """The operation's name in Python, such as ``get_dicom_instance``."""
        return xform_name(self.name)

    @cached_property
    def path(self) -> re.Pattern[str]:
        """The pattern of the percent-encoded path, with a group for each label."""
        return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", _PATHS[self.name]))


DICOMWEB_OPERATIONS = [DICOMwebOperation(name) for name in _PATHS]


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
class _Instance:
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
        return str(self.metadata["Study"]["DICOM"].get("StudyInstanceUID"))

    @property
    def file(self) -> SourceFile | None:
        return self.image_set.files.get(self.uid)

    @property
    def warning_codes(self) -> tuple[int, ...]:
        return self.file.warning_codes if self.file else ()

    @property
    def path(self) -> str:
        """The path of the instance in URLs."""
        uids = f"studies/{self.study_uid}/series/{self.series_uid}/instances/{self.uid}"
        return f"/datastore/{self.store.id}/{uids}"

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


@dataclass(frozen=True, slots=True)
class _Match:
    """A result of a search: the instance that stands for it, with attributes that are computed from several."""

    instance: _Instance
    computed: Mapping[str, Any]

    def value(self, keyword: str) -> Any:
        return self.computed[keyword] if keyword in self.computed else self.instance.attributes.get(keyword)


class DICOMweb:
    """The DICOMweb operations.

    Parameters
    ----------
    stores : DataStores
        Holds the image sets.
    """

    def __init__(self, stores: DataStores) -> None:
        self._stores = stores

    def answer(self, operation: DICOMwebOperation, request: DICOMwebRequest) -> Answer:
        """Answer a request.

        Raises
        ------
        ServiceError
            ResourceNotFoundException for an unknown resource, ValidationException for an invalid parameter,
            NotAcceptableException if the Accept header allows no form of the response.
        """
        answer: Answer = getattr(self, f"_{operation.python_name}")(request)
        return answer

    # Searches

    def _search_dicom_studies(self, request: DICOMwebRequest) -> Answer:
        query = parse_query(request.query, STUDY_KEYS)
        matches = [_study_match(study, request) for study in self._studies(request)]
        matches.sort(key=_by_update)
        return self._found(request, query, matches, DEFAULT_STUDY_TAGS, STUDY_TAGS)

    def _search_dicom_series(self, request: DICOMwebRequest) -> Answer:
        return self._find_series(request, SERIES_KEYS, DEFAULT_SERIES_TAGS)

    def _search_dicom_all_series(self, request: DICOMwebRequest) -> Answer:
        return self._find_series(request, ALL_SERIES_KEYS, DEFAULT_STUDY_TAGS | DEFAULT_SERIES_TAGS)

    def _search_dicom_instances(self, request: DICOMwebRequest) -> Answer:
        return self._find_instances(request, INSTANCE_KEYS, DEFAULT_INSTANCE_TAGS, _by_instance_number)

    def _search_dicom_study_instances(self, request: DICOMwebRequest) -> Answer:
        tags = DEFAULT_SERIES_TAGS | DEFAULT_INSTANCE_TAGS
        return self._find_instances(request, ALL_INSTANCE_KEYS, tags, _by_update)

    def _search_dicom_all_instances(self, request: DICOMwebRequest) -> Answer:
        tags = DEFAULT_STUDY_TAGS | DEFAULT_SERIES_TAGS | DEFAULT_INSTANCE_TAGS
        return self._find_instances(request, ALL_INSTANCE_KEYS, tags, _by_instance_number)

    def _find_series(self, request: DICOMwebRequest, keys: Collection[str], tags: frozenset[int]) -> Answer:
        query = parse_query(request.query, keys)
        matches = [match for match, _ in self._series_matches(request)]
        matches.sort(key=_by_series_number)
        return self._found(request, query, matches, tags, STUDY_TAGS | SERIES_TAGS)

    def _find_instances(
        self, request: DICOMwebRequest, keys: Collection[str], tags: frozenset[int], order: Callable[[_Match], Any]
    ) -> Answer:
        query = parse_query(request.query, keys)
        matches = [
            _instance_match(instance, match.computed, request)
            for match, series in self._series_matches(request)
            for instance in series
        ]
        matches.sort(key=_by_instance_number)
        matches.sort(key=order)
        return self._found(request, query, matches, tags, None)

    def _series_matches(self, request: DICOMwebRequest) -> Iterator[tuple[_Match, list[_Instance]]]:
        """The series within the study and series of the path, and their instances."""
        series_uid = request.label("seriesInstanceUid")
        for study in self._studies(request):
            computed = _study_match(study, request).computed
            for series in study:
                if series_uid in (None, series[0].series_uid):
                    yield _series_match(series, computed, request), series

    def _studies(self, request: DICOMwebRequest) -> list[list[list[_Instance]]]:
        """The instances of each series of each study in primary image sets, within the study of the path."""
        store = self._stores.get(request.datastore_id)
        study_uid = request.label("studyInstanceUid")
        studies: dict[str, dict[str, list[_Instance]]] = {}
        for image_set in _primary_image_sets(store):
            for each in _instances_of(store, image_set, study_uid):
                studies.setdefault(each.study_uid, {}).setdefault(each.series_uid, []).append(each)
        return [list(series.values()) for series in studies.values()]

    def _found(
        self,
        request: DICOMwebRequest,
        query: Query,
        matches: Iterable[_Match],
        default_tags: frozenset[int],
        all_tags: frozenset[int] | None,
    ) -> Answer:
        """Answer with a page of the results that match; `all_tags` are those of ``includefield=all``, None for all."""
        content_type = _acceptable(request.accept, _DICOM_JSON, _JSON)
        found = [each for each in matches if query.accepts(each.value)]
        page = found[query.offset : query.offset + query.limit]
        with quiet_pydicom():
            documents = [_result(each, query, default_tags, all_tags, request.origin) for each in page]
        return _bytes_answer(json.dumps(documents, allow_nan=False).encode(), content_type)

    # Retrieval

    def _get_dicom_series_metadata(self, request: DICOMwebRequest) -> Answer:
        instances = self._instances(request)
        return self._metadata(request, sorted(instances, key=lambda each: _number(each.attributes, "InstanceNumber")))

    def _get_dicom_instance_metadata(self, request: DICOMwebRequest) -> Answer:
        return self._metadata(request, [self._instance(request)])

    def _metadata(self, request: DICOMwebRequest, instances: list[_Instance]) -> Answer:
        content_type = _acceptable(request.accept, _DICOM_JSON, _JSON)
        documents = [_document(each, request.origin) for each in instances]
        return _bytes_answer(json.dumps(documents, allow_nan=False).encode(), content_type)

    def _get_dicom_instance(self, request: DICOMwebRequest) -> Answer:
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

    def _get_dicom_instance_frames(self, request: DICOMwebRequest) -> Answer:
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

    def _get_dicom_bulkdata(self, request: DICOMwebRequest) -> Answer:
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

    def _instances(self, request: DICOMwebRequest, uid: str | None = None) -> list[_Instance]:
        """The instances of a series, or one of them, in the image set of the query or in primary image sets."""
        store = self._stores.get(request.datastore_id)
        image_set_id = request.image_set_id
        image_sets = (
            _primary_image_sets(store)
            if image_set_id is None
            else [self._stores.image_set(request.datastore_id, image_set_id)]
        )
        study_uid, series_uid = request.label("studyInstanceUid"), request.label("seriesInstanceUid")
        found = [
            each for image_set in image_sets for each in _instances_of(store, image_set, study_uid, series_uid, uid)
        ]
        if not found:
            missing = "series" if uid is None else "instance"
            raise ServiceError("ResourceNotFoundException", f"There is no such {missing}")
        return found

    def _instance(self, request: DICOMwebRequest) -> _Instance:
        return self._instances(request, request.label("sopInstanceUid"))[0]


# Image sets


def _primary_image_sets(store: DataStore) -> list[ImageSet]:
    # The list is copied because an import may add to it at the same time.
    return [each for each in list(store.image_sets.values()) if each.state == "ACTIVE" and each.is_primary]


def _instances_of(
    store: DataStore,
    image_set: ImageSet,
    study_uid: str | None = None,
    series_uid: str | None = None,
    instance_uid: str | None = None,
) -> Iterator[_Instance]:
    """The instances of an image set with these UIDs; None allows any."""
    metadata = image_set.versions[-1]
    if study_uid not in (None, str(metadata["Study"]["DICOM"].get("StudyInstanceUID"))):
        return
    for uid, series in metadata["Study"]["Series"].items():
        if series_uid in (None, uid):
            instances = series["Instances"]
            uids = list(instances) if instance_uid is None else [instance_uid]
            yield from (_Instance(store, image_set, metadata, uid, each) for each in uids if each in instances)


def _document(instance: _Instance, origin: str) -> dict[str, Any]:
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


# Results of searches


def _study_match(all_series: list[list[_Instance]], request: DICOMwebRequest) -> _Match:
    latest = max((series[0] for series in all_series), key=lambda each: each.image_set.updated_at)
    path = latest.path.partition("/series/")[0]
    modalities = {str(series[0].attributes.get("Modality") or "") for series in all_series} - {""}
    classes = {str(each.sop_class_uid or "") for series in all_series for each in series} - {""}
    return _Match(
        latest,
        {
            "InstanceAvailability": "ONLINE",
            "ModalitiesInStudy": sorted(modalities),
            "SOPClassesInStudy": sorted(classes),
            "NumberOfStudyRelatedSeries": len(all_series),
            "NumberOfStudyRelatedInstances": sum(map(len, all_series)),
            "RetrieveURL": f"{request.origin}{path}",
        },
    )


def _series_match(series: list[_Instance], study: Mapping[str, Any], request: DICOMwebRequest) -> _Match:
    path = series[0].path.partition("/instances/")[0]
    own = {"NumberOfSeriesRelatedInstances": len(series), "RetrieveURL": f"{request.origin}{path}"}
    return _Match(series[0], {**study, **own})


def _instance_match(instance: _Instance, series: Mapping[str, Any], request: DICOMwebRequest) -> _Match:
    own: dict[str, Any] = {"RetrieveURL": f"{request.origin}{instance.path}"}
    if instance.warning_codes:
        own["WarningReason"] = list(instance.warning_codes)
    return _Match(instance, {**series, **own})


def _result(
    match: _Match, query: Query, default_tags: frozenset[int], all_tags: frozenset[int] | None, origin: str
) -> dict[str, Any]:
    """A result in DICOM JSON: the default attributes, those that were matched, and those that were asked for."""
    instance = match.instance
    attributes = {**instance.attributes, **match.computed}
    wanted = set(default_tags) | {_tag_of(keyword) for keyword in query.matches}
    matching_creators = _matching_creators(instance.file, query)
    wanted |= {path[0] for path in query.included if len(path) == 1 and _is_allowed(path[0], matching_creators)}
    wanted |= matching_creators | (all_tags or set() if query.includes_all else set())
    parents = {path[0] for path in query.included if len(path) > 1} - wanted
    is_whole = query.includes_all and all_tags is None
    document = to_dicom_json(current_dataset(instance.file, attributes, None if is_whole else wanted | parents))
    for parent in () if is_whole else parents:
        name = f"{parent:08X}"
        if name in document:
            paths = [path[1:] for path in query.included if len(path) > 1 and path[0] == parent]
            document[name] = _pruned(document[name], paths)
    result: dict[str, Any] = absolute_bulk_data(document, f"{origin}{instance.path}")
    return result


def _tag_of(keyword: str) -> int:
    return tag_for_keyword(keyword) or 0


def _matching_creators(file: SourceFile | None, query: Query) -> set[int]:
    dataset: Dataset | None = file.dataset if file else None
    return {
        tag
        for tag, creator in query.private_creators.items()
        if dataset is not None and tag in dataset and str(dataset[tag].value) == creator
    }


def _is_allowed(tag: int, creators: Collection[int]) -> bool:
    """Whether a search may return an attribute: a private one needs its creator as a match key."""
    group, element = tag >> 16, tag & 0xFFFF
    return group % 2 == 0 or (group << 16) + (element >> 8) in creators


def _pruned(element: dict[str, Any], paths: list[tuple[int, ...]]) -> dict[str, Any]:
    """Keep only some attributes in the items of a sequence."""
    if element.get("vr") != "SQ":
        return {name: value for name, value in element.items() if name == "vr"}
    items = []
    for item in element.get("Value", []):
        kept: dict[str, Any] = {}
        for path in paths:
            name = f"{path[0]:08X}"
            if name in item:
                deeper = [each[1:] for each in paths if each[0] == path[0] and len(each) > 1]
                is_whole = any(each == path[:1] for each in paths)
                kept[name] = item[name] if is_whole else _pruned(item[name], deeper)
        items.append(kept)
    return {"vr": "SQ", "Value": items}


def _number(attributes: Mapping[str, Any], keyword: str) -> float:
    """A number to sort by; results without one come last."""
    value = attributes.get(keyword)
    return value if isinstance(value, int) and not isinstance(value, bool) else float("inf")


def _by_update(match: _Match) -> float:
    return -match.instance.image_set.updated_at


def _by_series_number(match: _Match) -> tuple[float, str]:
    return _number(match.instance.attributes, "SeriesNumber"), match.instance.series_uid


def _by_instance_number(match: _Match) -> tuple[float, str]:
    return _number(match.instance.attributes, "InstanceNumber"), match.instance.uid


# Frames and media types


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


def _is_undecoded(instance: _Instance) -> bool:
    """Whether an import with a warning left the pixel data of an instance as it was."""
    file = instance.file
    return file is not None and any(file.dataset.get(tag) and file.dataset[tag].value for tag in PIXEL_DATA)


def _frames_in(syntax: str, instance: _Instance, readers: Iterable[Callable[[], bytes]]) -> list[bytes] | None:
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


def _acceptable(accept: str | None, *media_types: str) -> str:
    """The first of these media types that an Accept header allows."""
    for media_range in parse_accept(accept):
        for media_type in media_types:
            if not media_range.is_multipart and media_range.includes(media_type):
                return media_type
    raise ServiceError("NotAcceptableException", f"The response is of type {media_types[0]}")


def _bytes_answer(content: bytes, content_type: str) -> Answer:
    return Answer(200, Body([content], len(content)), {"Content-Type": content_type})


def _parts_answer(
    parts: list[tuple[bytes, str]], media_range: MediaRange, media_type: str, *, single_by_default: bool = False
) -> Answer:
    """Send parts as multipart/related or, if the range asks for it, the only part alone."""
    is_single = not media_range.is_multipart and (
        media_range.media_type != "*/*" or single_by_default or media_type == _DICOM
    )
    if is_single:
        ((content, content_type),) = parts
        return _bytes_answer(content, content_type)
    boundary = new_identifier()
    pieces: list[bytes | memoryview] = []
    for content, content_type in parts:
        head = f"--{boundary}\r\nContent-Type: {content_type}\r\nContent-Length: {len(content)}\r\n\r\n"
        pieces += [head.encode(), content, b"\r\n"]
    pieces.append(f"--{boundary}--\r\n".encode())
    header = f'{MULTIPART}; type="{media_type}"; boundary={boundary}'
    return Answer(200, Body(pieces, sum(map(len, pieces))), {"Content-Type": header})
