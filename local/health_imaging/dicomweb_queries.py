"""Reads the queries of DICOMweb searches, and matches attributes (developer guide, "Searching DICOM data").

Where the guide is silent, the rules of the DICOM standard hold (PS3.18, section 8.3.4; PS3.4, section C.2.2.2).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword

from local.health_imaging.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

MAX_LIMIT = 1000
"""The maximum and the default of ``limit``."""
MAX_OFFSET = 1_000_000
MAX_INCLUDED_FIELDS = 50

STUDY_KEYS = frozenset(
    {
        "StudyDate",
        "StudyTime",
        "AccessionNumber",
        "ModalitiesInStudy",
        "ReferringPhysicianName",
        "StudyDescription",
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientBirthTime",
        "StudyInstanceUID",
        "StudyID",
    }
)
SERIES_KEYS = frozenset({"Modality", "SeriesInstanceUID"})
ALL_SERIES_KEYS = (
    STUDY_KEYS | SERIES_KEYS | {"SeriesNumber", "PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime"}
)
INSTANCE_KEYS = frozenset({"SOPClassUID", "SOPInstanceUID", "WarningReason"})
ALL_INSTANCE_KEYS = ALL_SERIES_KEYS | INSTANCE_KEYS
"""Search attributes (developer guide, "Searching for DICOM studies", "... series" and "... instances").

WarningReason is searchable according to "HealthImaging Warning Codes".
"""

_FUZZY_KEYS = frozenset({"PatientName", "ReferringPhysicianName"})
_WITH_WILDCARDS = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
_DATE = re.compile(r"[0-9]{8}")
_TIME = re.compile(r"[0-9]{2}([0-9]{2}([0-9]{2}(\.[0-9]{1,6})?)?)?")
_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_WORD_SEPARATORS = re.compile(r"[\s^=,]+")
_LAST_TIME = "235959.999999"


@dataclass(frozen=True, slots=True)
class Query:
    """A search.

    Attributes
    ----------
    matches : dict
        The value to match for each keyword; empty values match everything.
    included : set of tuple of int
        The attributes to include, as paths of tags: a tag, or the tags of sequences and the tag in their items.
    includes_all : bool
        Whether the search asks for all attributes of its level.
    private_creators : dict of int to str
        The expected value of private creator elements, by tag.
    """

    matches: dict[str, str] = field(default_factory=dict)
    included: set[tuple[int, ...]] = field(default_factory=set)
    includes_all: bool = False
    private_creators: dict[int, str] = field(default_factory=dict)
    limit: int = MAX_LIMIT
    offset: int = 0
    fuzzy: bool = False

    def accepts(self, value_of: Callable[[str], Any]) -> bool:
        """Whether attributes match; `value_of` returns the value of a keyword, or None."""
        return all(
            _matches(keyword, value_of(keyword), wanted, fuzzy=self.fuzzy) for keyword, wanted in self.matches.items()
        )


def parse_query(query: str, keys: Collection[str]) -> Query:
    """Read the query of a search that supports these match keys.

    Raises
    ------
    ServiceError
        ValidationException if a parameter is unknown, repeated, out of range or malformed.
    """
    try:
        fields = parse_qsl(query, keep_blank_values=True, errors="strict")
    except ValueError as error:
        raise _invalid("The query is not valid percent-encoded UTF-8") from error
    included = [value for name, value in fields if name == "includefield"]
    if len(included) > MAX_INCLUDED_FIELDS:
        raise _invalid(f"A search can have at most {MAX_INCLUDED_FIELDS} includefield parameters")
    others = [(name, value) for name, value in fields if name != "includefield"]
    paging: dict[str, int] = {}
    matches: dict[str, str] = {}
    creators: dict[int, str] = {}
    fuzzy = None
    for name, value in others:
        tag = _tag(name)
        if name in ("limit", "offset") and name not in paging:
            minimum, maximum = (1, MAX_LIMIT) if name == "limit" else (0, MAX_OFFSET)
            paging[name] = _whole_number(name, value, minimum, maximum)
        elif name == "fuzzymatching" and fuzzy is None and value in ("true", "false"):
            fuzzy = value == "true"
        elif tag is not None and tag not in creators and _is_private_creator(tag):
            creators[tag] = value
        elif tag is not None and (keyword := keyword_for_tag(tag)) in keys and keyword not in matches:
            _check_value(keyword, value)
            matches[keyword] = value
        else:
            problem = "a search parameter with this value here, or it is given twice"
            raise _invalid(f"{_shown(name)} is not {problem}")
    return Query(
        matches,
        {path for each in included if (path := _path(each)) is not None},
        "all" in included,
        creators,
        fuzzy=bool(fuzzy),
        **paging,
    )


def _invalid(problem: str) -> ServiceError:
    return ServiceError("ValidationException", problem)


def _shown(name: str) -> str:
    """The name of a parameter for a message; other text could hold personal data."""
    return name if re.fullmatch(r"[A-Za-z0-9]{1,64}", name) else "A parameter"


def _whole_number(name: str, value: str, minimum: int, maximum: int) -> int:
    if not re.fullmatch(r"[0-9]{1,7}", value) or not minimum <= int(value) <= maximum:
        raise _invalid(f"{name} must be a whole number from {minimum} to {maximum}")
    return int(value)


def _tag(text: str) -> int | None:
    """The tag of an attribute that is named by its keyword or by eight hexadecimal digits."""
    return int(text, 16) if _TAG.fullmatch(text) else tag_for_keyword(text)


def _path(text: str) -> tuple[int, ...] | None:
    tags = [_tag(part) for part in text.split(".")]
    return tuple(tag for tag in tags if tag is not None) if None not in tags else None


def _is_private_creator(tag: int) -> bool:
    """Whether a tag names the creator of a block of private attributes (PS3.5, section 7.8.1)."""
    return bool((tag >> 16) % 2) and 0x10 <= (tag & 0xFFFF) <= 0xFF


def _check_value(keyword: str, value: str) -> None:
    vr = _vr(keyword)
    if not value:
        return
    if vr in ("DA", "TM"):
        pattern = _DATE if vr == "DA" else _TIME
        bounds = value.split("-")
        if len(bounds) > 2 or not any(bounds) or not all(pattern.fullmatch(each) for each in bounds if each):
            raise _invalid(f"{keyword} must be a value of VR {vr}, or a range of such values")
    elif vr in ("IS", "US") and not re.fullmatch(r"[+-]?[0-9]{1,12}", value):
        raise _invalid(f"{keyword} must be a whole number")


def _vr(keyword: str) -> str:
    tag = tag_for_keyword(keyword)
    return dictionary_VR(tag) if tag is not None else ""


def _matches(keyword: str, value: Any, wanted: str, *, fuzzy: bool) -> bool:
    if not wanted:
        # Universal matching (PS3.4, section C.2.2.2.3).
        return True
    vr = _vr(keyword)
    values = value if isinstance(value, list) else [value]
    texts = [str(each) for each in values if each is not None]
    if keyword in _FUZZY_KEYS and fuzzy:
        return any(_has_words(text, wanted) for text in texts)
    if vr == "UI":
        return not set(re.split(r"[,\\]", wanted)).isdisjoint(texts)
    if vr in ("IS", "US"):
        return any(re.fullmatch(r"[+-]?[0-9]+", text) and int(text) == int(wanted) for text in texts)
    if vr == "DA":
        return any(_is_within(text, wanted, str, str) for text in texts)
    if vr == "TM":
        return any(_is_within(text, wanted, _start_of_time, _end_of_time) for text in texts)
    has_wildcards = vr in _WITH_WILDCARDS
    return any(
        _fits(candidate, wanted) if has_wildcards else candidate == wanted
        for text in texts
        for candidate in _candidates(text, vr)
    )


def _is_within(text: str, wanted: str, start: Callable[[str], str], end: Callable[[str], str]) -> bool:
    first, is_range, last = wanted.partition("-")
    last = last if is_range else first
    return (not first or start(first) <= start(text)) and (not last or start(text) <= end(last))


def _start_of_time(text: str) -> str:
    """The first time that a time of lower precision stands for."""
    return f"{text}{'000000.000000'[len(text) :]}"


def _end_of_time(text: str) -> str:
    return f"{text}{_LAST_TIME[len(text) :]}"


def _has_words(text: str, wanted: str) -> bool:
    """Whether every word of the query is the start of a word of the name, in any case."""
    words = _words(text)
    return all(any(word.startswith(prefix) for word in words) for prefix in _words(wanted))


def _words(text: str) -> list[str]:
    return [word.casefold() for word in _WORD_SEPARATORS.split(text.strip('"*? ')) if word]


def _fits(text: str, pattern: str) -> bool:
    """Whether a text fits a pattern with ``*`` and ``?``, in at most the product of their lengths steps."""
    at, place = 0, 0
    star, resume = -1, 0
    while at < len(text):
        if place < len(pattern) and pattern[place] == "*":
            star, resume = place, at
            place += 1
        elif place < len(pattern) and pattern[place] in ("?", text[at]):
            at, place = at + 1, place + 1
        elif star >= 0:
            # Let the last asterisk match one more character.
            resume += 1
            at, place = resume, star + 1
        else:
            return False
    return not pattern[place:].strip("*")


def _candidates(text: str, vr: str) -> set[str]:
    """The texts to compare with: for names, also each representation without empty components at its end."""
    if vr != "PN":
        return {text}
    return {text, *(group.rstrip("^ ") for group in text.split("="))}
