"""Encodes data sets of the DICOM JSON model in explicit VR little endian: pure, without I/O."""

from __future__ import annotations

import struct
from base64 import b64decode
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

UTF_8 = "ISO_IR 192"
"""The Specific Character Set of every encoded text (PS3.3, section C.12.1.1.2). DICOM JSON is UTF-8."""

UNDEFINED_LENGTH = 0xFFFFFFFF

MAX_LONG_VALUE_BYTES = 0xFFFFFFFE
"""Maximum length of a value in bytes (PS3.5, section 7.1.1)."""

MAX_SHORT_VALUE_BYTES = 0xFFFE
"""Maximum length of a value whose length has 16 bits."""

MAX_DECIMAL_STRING_CHARS = 16
"""Maximum length of a number of VR DS (PS3.5, section 6.2)."""

MAX_CACHED_TAGS = 8192
"""Maximum number of attribute names whose tags are cached."""

_CHARACTER_SET = 0x00080005
_PIXEL_DATA_GROUP = 0x7FE0

_OMITTED_TAGS = frozenset({0x00081190, 0x00083002})
"""Retrieve URL and Available Transfer Syntax UID, which HealthImaging adds to the metadata."""

_OMITTED_GROUPS = frozenset({0x0000, 0x0002, 0xFFFC, 0xFFFE})
"""Groups that are not part of a data set."""

_LONG_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})
"""The VRs whose length has 32 bits (PS3.5, section 7.1.2)."""

_INTEGERS = {"SL": "i", "SS": "h", "SV": "q", "UL": "I", "US": "H", "UV": "Q"}
_FLOATS = {"FD": "d", "FL": "f"}
_BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_TEXTS = frozenset({"AE", "AS", "CS", "DA", "DT", "LO", "LT", "SH", "ST", "TM", "UC", "UI", "UR", "UT"})
_NUMBERS_AS_TEXT = frozenset({"DS", "IS"})

_SHORT_HEADER, _LONG_HEADER = struct.Struct("<HH2sH"), struct.Struct("<HH2sHI")

_ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, UNDEFINED_LENGTH)
_END_OF_ITEM = struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
_END_OF_SEQUENCE = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


class DatasetError(ValueError):
    """The document is not the DICOM JSON of an instance; the text completes "The metadata …"."""


@dataclass(frozen=True, slots=True)
class BulkData:
    """A value that the metadata only refers to.

    Attributes
    ----------
    tag : int
        The attribute's tag.
    vr : str
        Its value representation.
    uri : str
        Where the value is.
    """

    tag: int
    vr: str
    uri: str

    def header(self, size: int) -> bytes:
        """Encode tag, VR and length; `size` is the length of the value in bytes, with its padding.

        Raises
        ------
        DatasetError
            If the value is too long for DICOM.
        """
        return element_header(self.tag, self.vr, size)


Part = bytes | BulkData
"""A part of an encoded data set."""

_Element = tuple[int, tuple[Part, ...]]
"""A tag, and the encoded attribute."""

SharedElements = dict[str, tuple[Mapping[str, Any], _Element]]
"""The attributes of the previous instance, as JSON and encoded, by name. Most of them are the same in the next one."""


@dataclass(frozen=True, slots=True)
class EncodedDataset:
    """An encoded data set without its pixel data.

    Attributes
    ----------
    before, after : tuple of Part
        The attributes that precede the pixel data, and those that follow it.
    """

    before: tuple[Part, ...]
    after: tuple[Part, ...]

    @property
    def parts(self) -> tuple[Part, ...]:
        """All parts, in order."""
        return self.before + self.after


def element_header(tag: int, vr: str, size: int) -> bytes:
    """Encode tag, VR and length of an attribute.

    A value that is too long for the 16 bits of its VR's length gets the VR UN (PS3.5, section 6.2.2, note 2).

    Raises
    ------
    DatasetError
        If the value is too long for DICOM.
    """
    group, element = tag >> 16, tag & 0xFFFF
    if size > MAX_LONG_VALUE_BYTES and size != UNDEFINED_LENGTH:
        raise DatasetError("has a value of more than 4 GiB")
    if vr in _LONG_VRS:
        return _LONG_HEADER.pack(group, element, vr.encode(), 0, size)
    if size > MAX_SHORT_VALUE_BYTES:
        return _LONG_HEADER.pack(group, element, b"UN", 0, size)
    return _SHORT_HEADER.pack(group, element, vr.encode(), size)


def encode_dataset(document: Mapping[str, Any], shared: SharedElements | None = None) -> EncodedDataset:
    r"""Encode the metadata of an instance.

    All text becomes UTF-8, and Specific Character Set says so. Group lengths, which are retired, are left out, and so
    are attributes that HealthImaging adds to the metadata.

    Parameters
    ----------
    document : mapping
        The instance in the DICOM JSON model. Numbers may be text, which keeps their digits.
    shared : dict, optional
        The attributes of the previous instance of the series, which this one's replace.

    Raises
    ------
    DatasetError
        If the document is not the DICOM JSON model, or has a value that its VR does not allow.

    References
    ----------
    DICOM PS3.5, sections 6.2 and 7; PS3.18, annex F.

    Examples
    --------
    >>> encode_dataset({"00080060": {"vr": "CS", "Value": ["CT"]}}).before
    (b'\x08\x00`\x00CS\x02\x00CT',)
    """
    encoder = _Encoder({} if shared is None else shared)
    try:
        elements = encoder.shared_elements(document)
    except DatasetError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, struct.error, RecursionError):
        # The cause could quote a value.
        raise DatasetError("is not DICOM JSON") from None
    if encoder.has_other_characters and not _has_character_set(document):
        elements = [each for each in elements if each[0] != _CHARACTER_SET]
        elements.append((_CHARACTER_SET, (_element(_CHARACTER_SET, "CS", UTF_8.encode()),)))
        elements.sort(key=lambda each: each[0])
    # The pixel data comes from the frames. That of an icon, in an item, stays.
    start, end = (bisect_left(elements, (group << 16,)) for group in (_PIXEL_DATA_GROUP, _PIXEL_DATA_GROUP + 1))
    return EncodedDataset(tuple(_joined(elements[:start])), tuple(_joined(elements[end:])))


def _has_character_set(document: Mapping[str, Any]) -> bool:
    return any(document.get("00080005", {}).get("Value", ()))


def _joined(elements: Sequence[_Element]) -> Iterator[Part]:
    """Join the bytes between bulk data."""
    parts = [part for _, parts in elements for part in parts]
    start = 0
    for position in [position for position, part in enumerate(parts) if type(part) is BulkData]:
        yield b"".join(parts[start:position])  # type: ignore[arg-type]
        yield parts[position]
        start = position + 1
    if start < len(parts):
        yield b"".join(parts[start:])  # type: ignore[arg-type]


def _element(tag: int, vr: str, value: bytes) -> bytes:
    if len(value) % 2:
        value += b"\0" if vr == "UI" or vr in _BINARY else b" "
    return element_header(tag, vr, len(value)) + value


class _Encoder:
    """Encodes the attributes of a data set.

    Parameters
    ----------
    shared : dict
        The attributes of the previous instance.

    Attributes
    ----------
    has_other_characters : bool
        Whether a text has other characters than those of ASCII.
    """

    def __init__(self, shared: SharedElements) -> None:
        self._shared = shared
        self.has_other_characters = False

    def shared_elements(self, document: Mapping[str, Any]) -> list[_Element]:
        """Encode the attributes of an instance, in the order of their tags, unless the previous one has the same."""
        previous, current, found = self._shared, {}, []
        for name in sorted(document, key=_tag):
            attribute = document[name]
            known = previous.get(name)
            if known is None or known[0] != attribute:
                if not _is_kept(name):
                    continue
                has_other_characters, self.has_other_characters = self.has_other_characters, False
                known = attribute, self._element_of(name, attribute)
                if not self.has_other_characters:
                    current[name] = known
                self.has_other_characters |= has_other_characters
            else:
                current[name] = known
            found.append(known[1])
        previous.clear()
        previous.update(current)
        return found

    def elements(self, document: Mapping[str, Any]) -> list[_Element]:
        """Encode the attributes of an item, in the order of their tags."""
        return [self._element_of(name, document[name]) for name in sorted(document, key=_tag) if _is_kept(name)]

    def _element_of(self, name: str, attribute: Mapping[str, Any]) -> _Element:
        tag = _tag(name)
        return tag, self._encode(tag, attribute)

    def _encode(self, tag: int, attribute: Mapping[str, Any]) -> tuple[Part, ...]:
        vr = attribute["vr"]
        values = attribute.get("Value")
        if values and any(type(each) is bool for each in values):
            # The DICOM JSON model has no truth values. Python takes them for numbers.
            raise DatasetError("has a truth value")
        if values is not None and vr in _TEXTS and tag != _CHARACTER_SET:
            # Most attributes are short texts.
            return (_element(tag, vr, self._text(values)),)
        if "BulkDataURI" in attribute:
            return (BulkData(tag, _known(vr), str(attribute["BulkDataURI"])),)
        if "InlineBinary" in attribute:
            if vr not in _BINARY:
                raise DatasetError("has binary data in an attribute of text")
            return (_element(tag, vr, b64decode(attribute["InlineBinary"] or b"", validate=True)),)
        values = values or ()
        if vr == "SQ":
            return self._sequence(tag, values)
        if tag == _CHARACTER_SET and any(values):
            values = (UTF_8,)
        return (_element(tag, vr, self._value(vr, values)),)

    def _value(self, vr: str, values: Any) -> bytes:
        if not values:
            _known(vr)
            return b""
        if vr in _TEXTS:
            return self._text(values)
        if vr in _NUMBERS_AS_TEXT:
            return "\\".join("" if each is None else number_text(each, vr) for each in values).encode()
        if vr == "PN":
            return self._text([_person_name(each) for each in values])
        if code := _INTEGERS.get(vr):
            return struct.pack(f"<{len(values)}{code}", *map(int, values))
        if code := _FLOATS.get(vr):
            return struct.pack(f"<{len(values)}{code}", *map(float, values))
        if vr == "AT":
            tags = (int(each, 16) for each in values)
            return b"".join(struct.pack("<HH", each >> 16, each & 0xFFFF) for each in tags)
        raise DatasetError("has an attribute of an unknown VR")

    def _text(self, values: Sequence[str | None]) -> bytes:
        text = values[0] or "" if len(values) == 1 else "\\".join("" if each is None else each for each in values)
        if text.isascii():
            return text.encode()
        self.has_other_characters = True
        return text.encode()

    def _sequence(self, tag: int, items: Any) -> tuple[Part, ...]:
        """Encode a sequence. Only one that contains bulk data, whose length is unknown, gets undefined lengths."""
        contents: list[list[Part]] = [
            [part for _, parts in self.elements(item or {}) for part in parts] for item in items
        ]
        if all(isinstance(part, bytes) for parts in contents for part in parts):
            whole = b"".join(_item(b"".join(parts)) for parts in contents)  # type: ignore[arg-type]
            return (element_header(tag, "SQ", len(whole)) + whole,)
        framed: list[Part] = [element_header(tag, "SQ", UNDEFINED_LENGTH)]
        for parts in contents:
            framed += [_ITEM, *parts, _END_OF_ITEM]
        return (*framed, _END_OF_SEQUENCE)


@lru_cache(maxsize=MAX_CACHED_TAGS)
def _is_kept(name: str) -> bool:
    """Whether an attribute is part of the file. Element 0000 is the retired length of its group."""
    tag = _tag(name)
    return tag >> 16 not in _OMITTED_GROUPS and tag not in _OMITTED_TAGS and tag & 0xFFFF != 0


@lru_cache(maxsize=MAX_CACHED_TAGS)
def _tag(name: str) -> int:
    if len(name) != 8 or not name.isalnum():
        raise DatasetError("has an attribute without a tag")
    return int(name, 16)


def _item(content: bytes) -> bytes:
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content


def _known(vr: str) -> str:
    if vr in _LONG_VRS or vr in _TEXTS or vr in _NUMBERS_AS_TEXT or vr in _INTEGERS or vr in _FLOATS:
        return vr
    if vr in ("PN", "AT"):
        return vr
    raise DatasetError("has an attribute of an unknown VR")


def _person_name(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    groups = (value.get(each) or "" for each in ("Alphabetic", "Ideographic", "Phonetic"))
    return "=".join(groups).rstrip("=")


def number_text(value: Any, vr: str) -> str:
    """Return a number as text of VR DS or IS. A DS of more than 16 characters is rounded.

    Examples
    --------
    >>> number_text("0.70312", "DS"), number_text(3, "IS"), number_text("-0.12345678901234567", "DS")
    ('0.70312', '3', '-0.1234567890123')
    """
    text = str(value).strip()
    if vr == "IS" or len(text) <= MAX_DECIMAL_STRING_CHARS:
        return text
    number = float(text)
    shortened: Callable[[int], str] = lambda digits: f"{number:.{digits}g}"  # noqa: E731
    return next(shorter for digits in range(17, 0, -1) if len(shorter := shortened(digits)) <= MAX_DECIMAL_STRING_CHARS)
