"""Searches studies, series and instances as HealthImaging's QIDO-RS does (developer guide, "Searching DICOM data")."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydicom.datadict import tag_for_keyword

from local.health_imaging.dicom_json import absolute_bulk_data, current_dataset, to_dicom_json
from local.health_imaging.dicomweb_attributes import (
    DEFAULT_INSTANCE_TAGS,
    DEFAULT_SERIES_TAGS,
    DEFAULT_STUDY_TAGS,
    SERIES_TAGS,
    STUDY_TAGS,
)
from local.health_imaging.dicomweb_instances import (
    StoredInstance,
    bytes_answer,
    instances_of,
    json_type,
    primary_image_sets,
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
from local.health_imaging.quiet_pydicom import quiet_pydicom

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from pydicom import Dataset

    from local.health_imaging.answers import Answer
    from local.health_imaging.datastores import DataStores
    from local.health_imaging.dicomweb_instances import DICOMwebRequest
    from local.health_imaging.image_sets import SourceFile


@dataclass(frozen=True, slots=True)
class _Match:
    """A result of a search: the instance that stands for it, with attributes that are computed from several."""

    instance: StoredInstance
    computed: Mapping[str, Any]

    def value(self, keyword: str) -> Any:
        return self.computed[keyword] if keyword in self.computed else self.instance.attributes.get(keyword)


class DICOMwebSearches:
    """The searches, by the Python names of their operations.

    Parameters
    ----------
    stores : DataStores
        Holds the image sets.
    """

    def __init__(self, stores: DataStores) -> None:
        self._stores = stores

    def search_dicom_studies(self, request: DICOMwebRequest) -> Answer:
        query = parse_query(request.query, STUDY_KEYS)
        matches = [_study_match(study, request) for study in self._studies(request)]
        matches.sort(key=_by_update)
        return self._found(request, query, matches, DEFAULT_STUDY_TAGS, STUDY_TAGS)

    def search_dicom_series(self, request: DICOMwebRequest) -> Answer:
        return self._find_series(request, SERIES_KEYS, DEFAULT_SERIES_TAGS)

    def search_dicom_all_series(self, request: DICOMwebRequest) -> Answer:
        return self._find_series(request, ALL_SERIES_KEYS, DEFAULT_STUDY_TAGS | DEFAULT_SERIES_TAGS)

    def search_dicom_instances(self, request: DICOMwebRequest) -> Answer:
        return self._find_instances(request, INSTANCE_KEYS, DEFAULT_INSTANCE_TAGS, _by_instance_number)

    def search_dicom_study_instances(self, request: DICOMwebRequest) -> Answer:
        tags = DEFAULT_SERIES_TAGS | DEFAULT_INSTANCE_TAGS
        return self._find_instances(request, ALL_INSTANCE_KEYS, tags, _by_update)

    def search_dicom_all_instances(self, request: DICOMwebRequest) -> Answer:
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

    def _series_matches(self, request: DICOMwebRequest) -> Iterator[tuple[_Match, list[StoredInstance]]]:
        """The series within the study and series of the path, and their instances."""
        series_uid = request.label("seriesInstanceUid")
        for study in self._studies(request):
            computed = _study_match(study, request).computed
            for series in study:
                if series_uid in (None, series[0].series_uid):
                    yield _series_match(series, computed, request), series

    def _studies(self, request: DICOMwebRequest) -> list[list[list[StoredInstance]]]:
        """The instances of each series of each study in primary image sets, within the study of the path."""
        store = self._stores.get(request.datastore_id)
        study_uid = request.label("studyInstanceUid")
        studies: dict[str, dict[str, list[StoredInstance]]] = {}
        for image_set in primary_image_sets(store):
            for each in instances_of(store, image_set, study_uid):
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
        content_type = json_type(request.accept)
        found = [each for each in matches if query.accepts(each.value)]
        page = found[query.offset : query.offset + query.limit]
        with quiet_pydicom():
            documents = [_result(each, query, default_tags, all_tags, request.origin) for each in page]
        return bytes_answer(json.dumps(documents, allow_nan=False).encode(), content_type)


def _study_match(all_series: list[list[StoredInstance]], request: DICOMwebRequest) -> _Match:
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


def _series_match(series: list[StoredInstance], study: Mapping[str, Any], request: DICOMwebRequest) -> _Match:
    path = series[0].path.partition("/instances/")[0]
    own = {"NumberOfSeriesRelatedInstances": len(series), "RetrieveURL": f"{request.origin}{path}"}
    return _Match(series[0], {**study, **own})


def _instance_match(instance: StoredInstance, series: Mapping[str, Any], request: DICOMwebRequest) -> _Match:
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


def _by_update(match: _Match) -> float:
    return -match.instance.image_set.updated_at


def _by_series_number(match: _Match) -> tuple[float, str]:
    return match.instance.number("SeriesNumber"), match.instance.series_uid


def _by_instance_number(match: _Match) -> tuple[float, str]:
    return match.instance.number("InstanceNumber"), match.instance.uid
