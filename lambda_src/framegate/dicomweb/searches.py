"""Passes searches (QIDO-RS) on to HealthImaging."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from framegate.dicomweb.dicom_json import UriRewriter
from framegate.dicomweb.metadata import DICOM_JSON
from framegate.healthimaging.client import SERVICE
from framegate.problems import ResultTooLarge, UpstreamFailed

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from framegate.healthimaging.client import FrameStream, HealthImaging
    from framegate.time_budget import TimeBudget

_STUDY_INSTANCE_UID = "0020000D"

_STUDY_KEYS = {"studyinstanceuid", _STUDY_INSTANCE_UID.lower()}

_UID = re.compile(r"[0-9]+(?:\.[0-9]+)*", re.ASCII)

MAX_RESULT_BYTES = 64 * 1024 * 1024
"""Maximum size of a result. HealthImaging returns at most 1,000 records."""


class Searches:
    """The searches of HealthImaging's DICOMweb. Nothing of a search or its result is stored or logged.

    Parameters
    ----------
    source : HealthImaging
        Searches.
    """

    def __init__(self, source: HealthImaging) -> None:
        self._source = source

    def search(
        self,
        datastore_id: str,
        path: Sequence[str],
        query: Sequence[tuple[str, str]],
        base_url: str,
        budget: TimeBudget,
    ) -> bytes:
        """Return the records that HealthImaging finds, as an array in DICOM JSON; ``[]`` if it finds none.

        Parameters
        ----------
        datastore_id : str
            The data store.
        path : sequence of str
            The segments of the path below the data store.
        query : sequence of pairs of str
            The query parameters of the request.
        base_url : str
            The URL to which URIs in the result lead.
        budget : TimeBudget
            The time for it.

        Raises
        ------
        ResultTooLarge
            If the result exceeds `MAX_RESULT_BYTES`.
        Problem
            As `HealthImaging.fetch_dicomweb` raises it.
        """
        passed_on = [pair for name, value in query for pair in _passed_on(name, value)]
        result = self._source.fetch_dicomweb(datastore_id, path, passed_on, DICOM_JSON, _array_of, budget)
        return UriRewriter(base_url).rewrite(result)


def studies_in(path: Sequence[str], query: Sequence[tuple[str, str]]) -> frozenset[str]:
    """Return the studies to which a search is limited; none if it is not limited to whole studies.

    Only a complete UID counts. A list or a wildcard could name other studies.
    """
    within = [path[1]] if path[0] == "studies" and len(path) > 1 else []
    matched = [value for name, value in query if name.lower() in _STUDY_KEYS]
    if any(_UID.fullmatch(value) is None for value in matched):
        matched = []
    return frozenset(within or matched)


def records_of_studies(result: bytes, study_uids: Collection[str]) -> bytes:
    """Leave only the records of these studies in the result of a search."""
    records = json.loads(result)
    kept = [record for record in records if _study_of(record) in study_uids]
    return result if len(kept) == len(records) else json.dumps(kept, separators=(",", ":")).encode()


def _study_of(record: Any) -> str | None:
    try:
        return str(record[_STUDY_INSTANCE_UID]["Value"][0])
    except (KeyError, IndexError, TypeError):
        return None


def _passed_on(name: str, value: str) -> list[tuple[str, str]]:
    """The parameters for HealthImaging. It takes several `includefield`, but no list in one of them."""
    # These belong to this API: the media type, and a signature in the query.
    if name == "accept" or name.lower().startswith("x-amz-"):
        return []
    if name == "includefield":
        return [(name, each) for each in (part.strip() for part in value.split(",")) if each]
    return [(name, value)]


def _array_of(stream: FrameStream) -> bytes:
    content = bytearray()
    for piece in stream:
        content += piece
        if len(content) > MAX_RESULT_BYTES:
            raise ResultTooLarge(MAX_RESULT_BYTES)
    if not content.strip():
        return b"[]"
    try:
        is_array = isinstance(json.loads(content), list)
    except (ValueError, RecursionError):
        is_array = False
    if not is_array:
        raise UpstreamFailed(SERVICE, "sent a search result that is not a JSON array")
    return bytes(content)
