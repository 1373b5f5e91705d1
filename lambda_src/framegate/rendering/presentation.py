"""What an instance's attributes say about how to draw one of its frames."""

from __future__ import annotations

import base64
import binascii
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MAX_LOOKUP_ENTRIES = 65_536
"""Maximum number of entries of a lookup table (DICOM PS3.3, section C.11.1.1.1)."""

VoiFunction = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]
VOI_FUNCTIONS: tuple[VoiFunction, ...] = ("LINEAR", "LINEAR_EXACT", "SIGMOID")

_ROWS, _COLUMNS = "00280010", "00280011"
_SAMPLES_PER_PIXEL, _PHOTOMETRIC, _PLANAR = "00280002", "00280004", "00280006"
_ASPECT_RATIO = "00280034"
_SPACINGS = ("00280030", "00181164", "00182010")  # Pixel, Imager Pixel, and Nominal Scanned Pixel Spacing
_BITS_ALLOCATED, _BITS_STORED, _HIGH_BIT, _REPRESENTATION = "00280100", "00280101", "00280102", "00280103"
_CENTER, _WIDTH, _FUNCTION = "00281050", "00281051", "00281056"
_INTERCEPT, _SLOPE = "00281052", "00281053"
_MODALITY_LUTS, _VOI_LUTS = "00283000", "00283010"
_DESCRIPTOR, _DATA = "00283002", "00283006"
_SHARED_GROUPS, _FRAME_GROUPS = "52009229", "52009230"
_FRAME_VOI, _TRANSFORMATION, _MEASURES = "00289132", "00289145", "00289110"
_PRESENTATION_SHAPE = "20500020"
_PALETTE = (
    ("00281101", "00281201", "00281221"),
    ("00281102", "00281202", "00281222"),
    ("00281103", "00281203", "00281223"),
)
"""Descriptor, data, and segmented data of red, green and blue."""

FRAME_GROUPS = _FRAME_GROUPS
"""The sequence with an item for each frame of an instance (DICOM PS3.3, section C.7.6.16)."""

TAGS = frozenset(
    {
        *(_ROWS, _COLUMNS, _SAMPLES_PER_PIXEL, _PHOTOMETRIC, _PLANAR, _ASPECT_RATIO, *_SPACINGS),
        *(_BITS_ALLOCATED, _BITS_STORED, _HIGH_BIT, _REPRESENTATION),
        *(_CENTER, _WIDTH, _FUNCTION, _INTERCEPT, _SLOPE, _MODALITY_LUTS, _VOI_LUTS, _DESCRIPTOR, _DATA),
        *(_SHARED_GROUPS, _FRAME_GROUPS, _FRAME_VOI, _TRANSFORMATION, _MEASURES, _PRESENTATION_SHAPE),
        *(tag for table in _PALETTE for tag in table),
    }
)
"""Every attribute that `Presentation.of_frame` reads. None of them identifies anybody."""


_DISCRETE, _LINEAR, _INDIRECT = range(3)  # Segments of a palette


class PresentationError(ValueError):
    """The attributes do not describe a picture. The text says which one, and repeats no value."""


@dataclass(frozen=True, slots=True)
class Window:
    """A window of values (DICOM PS3.3, section C.11.2.1.2).

    Attributes
    ----------
    center, width : float
        In the units of the rescaled values.
    function : str
        ``LINEAR``, ``LINEAR_EXACT`` or ``SIGMOID``.
    """

    center: float
    width: float
    function: VoiFunction = "LINEAR"


@dataclass(frozen=True, slots=True)
class LookupTable:
    """A lookup table (DICOM PS3.3, sections C.11.1.1.1 and C.7.6.3.1.5).

    Attributes
    ----------
    first : int
        The value that the first entry is for. Lower values have the first entry, and higher ones than the last the
        last.
    bits : int
        Bits of an entry, 8 to 16.
    entries : tuple of int
        The entries.
    """

    first: int
    bits: int
    entries: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Presentation:
    """How to draw a frame.

    Attributes
    ----------
    rows, columns : int
        Height and width in pixels.
    samples_per_pixel : int
        1, or 3 for colour.
    photometric_interpretation : str
        What the samples mean (DICOM PS3.3, section C.7.6.3.1.2).
    bits_allocated, bits_stored, high_bit : int
        Where a sample's value is (DICOM PS3.5, section 8.1.1).
    is_signed : bool
        Whether samples are in two's complement.
    is_planar : bool
        Whether uncompressed colours are stored by plane.
    slope, intercept : float
        The rescaling to modality values.
    modality_table : LookupTable or None
        The table to modality values, instead of the rescaling.
    window : Window or None
        The first window.
    voi_table : LookupTable or None
        The first VOI table. It is used if there is no window.
    palette : tuple of LookupTable
        Red, green and blue, if the photometric interpretation is ``PALETTE COLOR``.
    aspect_ratio : float
        Height of a pixel over its width.
    is_inverted : bool
        Whether the presentation LUT shape inverts the values.
    value_range : tuple of int or None
        The least and the greatest stored value, for a frame that has neither a window nor a table. None takes them
        from the samples.
    """

    rows: int
    columns: int
    samples_per_pixel: int
    photometric_interpretation: str
    bits_allocated: int
    bits_stored: int
    high_bit: int
    is_signed: bool
    is_planar: bool = False
    slope: float = 1.0
    intercept: float = 0.0
    modality_table: LookupTable | None = None
    window: Window | None = None
    voi_table: LookupTable | None = None
    palette: tuple[LookupTable, ...] = ()
    aspect_ratio: float = 1.0
    is_inverted: bool = False
    value_range: tuple[int, int] | None = None

    @classmethod
    def of_frame(
        cls, instance: Mapping[str, Any], frame_number: int, value_range: tuple[int, int] | None = None
    ) -> Presentation:
        """Read the presentation of a frame from an instance's attributes.

        Parameters
        ----------
        instance : mapping
            The instance in the DICOM JSON model (PS3.18, annex F): attributes by tag.
        frame_number : int
            The frame's number, from 1.
        value_range : tuple of int, optional
            The frame's least and greatest stored value.

        Raises
        ------
        PresentationError
            If an attribute that every image has is missing or out of range.

        Examples
        --------
        >>> numbers = {"00280002": 1, "00280010": 2, "00280011": 3, "00280100": 16, "00280101": 12, "00280103": 0}
        >>> instance = {tag: {"vr": "US", "Value": [number]} for tag, number in numbers.items()}
        >>> instance["00280004"] = {"vr": "CS", "Value": ["MONOCHROME2"]}
        >>> instance["00281050"] = {"vr": "DS", "Value": [40]}
        >>> instance["00281051"] = {"vr": "DS", "Value": [400]}
        >>> Presentation.of_frame(instance, 1).window
        Window(center=40.0, width=400.0, function='LINEAR')
        """
        groups = [*_functional_groups(instance, frame_number), instance]
        bits_allocated = _bounded(instance, _BITS_ALLOCATED, "Bits Allocated", 1, 64)
        bits_stored = _bounded(instance, _BITS_STORED, "Bits Stored", 1, bits_allocated, default=bits_allocated)
        photometric = _text(instance, _PHOTOMETRIC) or "MONOCHROME2"
        samples = _bounded(instance, _SAMPLES_PER_PIXEL, "Samples per Pixel", 1, 3, default=1)
        is_signed = _integer(instance, _REPRESENTATION) == 1
        modality_table = _first_table(groups, _MODALITY_LUTS, is_signed=is_signed)
        return cls(
            rows=_bounded(instance, _ROWS, "Rows", 1, 2**32 - 1),
            columns=_bounded(instance, _COLUMNS, "Columns", 1, 2**32 - 1),
            samples_per_pixel=samples,
            photometric_interpretation=photometric,
            bits_allocated=bits_allocated,
            bits_stored=bits_stored,
            high_bit=_bounded(instance, _HIGH_BIT, "High Bit", 0, bits_allocated - 1, default=bits_stored - 1),
            is_signed=is_signed,
            is_planar=_integer(instance, _PLANAR) == 1,
            slope=_first_number(groups, _SLOPE, default=1.0),
            intercept=_first_number(groups, _INTERCEPT, default=0.0),
            modality_table=modality_table,
            window=_window(groups),
            # Values of a VOI table are signed if those before it are.
            voi_table=_first_table(groups, _VOI_LUTS, is_signed=is_signed and modality_table is None),
            palette=_palette(instance, is_signed=is_signed) if photometric == "PALETTE COLOR" else (),
            aspect_ratio=_aspect_ratio(groups),
            is_inverted=_text(instance, _PRESENTATION_SHAPE) == "INVERSE",
            value_range=value_range,
        )


def _functional_groups(instance: Mapping[str, Any], frame_number: int) -> Iterator[Mapping[str, Any]]:
    """Yield the items that hold a frame's own attributes, those of the frame before the shared ones."""
    per_frame = _items(instance, _FRAME_GROUPS)
    own = per_frame[frame_number - 1 : frame_number]
    for group in (*own, *_items(instance, _SHARED_GROUPS)[:1]):
        for macro in (_FRAME_VOI, _TRANSFORMATION, _MEASURES):
            yield from _items(group, macro)[:1]


def _items(attributes: Mapping[str, Any], tag: str) -> list[Mapping[str, Any]]:
    return [item for item in _values(attributes, tag) if isinstance(item, dict)]


def _values(attributes: Mapping[str, Any], tag: str) -> Sequence[Any]:
    element = attributes.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []


def _text(attributes: Mapping[str, Any], tag: str) -> str | None:
    values = _values(attributes, tag)
    return values[0].strip() if values and isinstance(values[0], str) else None


def _number(value: Any) -> float | None:
    """Return a finite number, which may be written as text."""
    try:
        number = float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _numbers(attributes: Mapping[str, Any], tag: str) -> list[float]:
    numbers = [_number(value) for value in _values(attributes, tag)]
    return [] if None in numbers else [number for number in numbers if number is not None]


def _integer(attributes: Mapping[str, Any], tag: str) -> int | None:
    numbers = _numbers(attributes, tag)
    return int(numbers[0]) if numbers and numbers[0] == int(numbers[0]) else None


def _bounded(
    attributes: Mapping[str, Any], tag: str, name: str, minimum: int, maximum: int, default: int | None = None
) -> int:
    number = _integer(attributes, tag) if tag in attributes else default
    if number is None and default is not None:
        number = default
    if number is None or not minimum <= number <= maximum:
        raise PresentationError(f"{name} is missing or out of range")
    return number


def _first_number(groups: Sequence[Mapping[str, Any]], tag: str, default: float) -> float:
    return next((numbers[0] for group in groups if (numbers := _numbers(group, tag))), default)


def _window(groups: Sequence[Mapping[str, Any]]) -> Window | None:
    """Return the first window, from the most specific group that has one."""
    for group in groups:
        centers, widths = _numbers(group, _CENTER), _numbers(group, _WIDTH)
        if centers and widths:
            named = _text(group, _FUNCTION)
            function: VoiFunction = next((each for each in VOI_FUNCTIONS if each == named), "LINEAR")
            # A linear window has a width of at least 1, any other a width above 0 (PS3.3, section C.11.2.1.2).
            if widths[0] >= 1 or (function != "LINEAR" and widths[0] > 0):
                return Window(centers[0], widths[0], function)
    return None


def _first_table(groups: Sequence[Mapping[str, Any]], tag: str, *, is_signed: bool = False) -> LookupTable | None:
    for group in groups:
        for item in _items(group, tag):
            if table := _table(item, _DESCRIPTOR, _DATA, is_signed=is_signed):
                return table
    return None


def _palette(instance: Mapping[str, Any], *, is_signed: bool) -> tuple[LookupTable, ...]:
    tables = [
        _table(instance, descriptor, data, is_signed=is_signed)
        or _table(instance, descriptor, segmented, is_signed=is_signed, is_segmented=True)
        for descriptor, data, segmented in _PALETTE
    ]
    if None in tables:
        raise PresentationError("A lookup table of the palette is missing or incomplete")
    return tuple(table for table in tables if table)


def _table(
    attributes: Mapping[str, Any], descriptor_tag: str, data_tag: str, *, is_signed: bool, is_segmented: bool = False
) -> LookupTable | None:
    descriptor = [int(number) for number in _numbers(attributes, descriptor_tag)]
    if len(descriptor) != 3:
        return None
    # The data type of the descriptor is ambiguous, so its numbers can have the wrong sign.
    count = descriptor[0] % 65_536 or MAX_LOOKUP_ENTRIES
    first = descriptor[1] % 65_536
    if is_signed and first >= 32_768:
        first -= 65_536
    bits = descriptor[2]
    if is_segmented:
        entries = _expanded(_entries(attributes, data_tag, None if bits > 8 else MAX_LOOKUP_ENTRIES), count)
    else:
        entries = _entries(attributes, data_tag, count)
    if not 8 <= bits <= 16 or len(entries) < count:
        return None
    return LookupTable(first, bits, tuple(entries[:count]))


def _entries(attributes: Mapping[str, Any], tag: str, count: int | None) -> list[int]:
    """Return the entries of a table: numbers, or bytes of which each entry has one or two.

    Bytes are read as pairs if there are enough for `count` pairs, or if the count is not known.
    """
    element = attributes.get(tag)
    encoded = element.get("InlineBinary") if isinstance(element, dict) else None
    if not isinstance(encoded, str):
        return [int(number) % 65_536 for number in _numbers(attributes, tag)]
    try:
        content = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return []
    if count is not None and len(content) < 2 * count:
        return list(content)
    return [low | high << 8 for low, high in zip(content[::2], content[1::2], strict=False)]


def _expanded(segments: Sequence[int], count: int) -> list[int]:
    """Expand the segments of a palette (DICOM PS3.3, section C.7.9.2); stop after `count` entries."""
    entries: list[int] = []
    position = 0
    while position + 1 < len(segments) and len(entries) < count:
        position, complete = _append_segment(segments, position, entries)
        if not complete and position + 3 < len(segments) and segments[position] == _INDIRECT:
            repeated, offset = segments[position + 1], segments[position + 2] | segments[position + 3] << 16
            position += 4
            for _ in range(repeated):
                if offset + 1 >= len(segments) or segments[offset] == _INDIRECT or len(entries) >= count:
                    break
                offset, _ = _append_segment(segments, offset, entries)
        elif not complete:
            break
    return entries


def _append_segment(segments: Sequence[int], position: int, entries: list[int]) -> tuple[int, bool]:
    """Append a discrete or linear segment; return where the next one begins, and whether there was one."""
    kind, length = segments[position], segments[position + 1]
    if kind == _DISCRETE:
        end = position + 2 + length
        entries.extend(segments[position + 2 : end])
        return end, True
    if kind == _LINEAR and entries and position + 2 < len(segments):
        first, last = entries[-1], segments[position + 2]
        entries.extend(round(first + (last - first) * step / length) for step in range(1, length + 1))
        return position + 3, True
    return position, False


def _aspect_ratio(groups: Sequence[Mapping[str, Any]]) -> float:
    """Return the height of a pixel over its width (DICOM PS3.3, sections C.7.6.3.1.7 and 10.7.1.1)."""
    for tag in (_ASPECT_RATIO, *_SPACINGS):
        for group in groups:
            numbers = _numbers(group, tag)
            if len(numbers) == 2 and min(numbers) > 0:
                ratio = numbers[0] / numbers[1]
                return ratio if 0.01 <= ratio <= 100 else 1.0
    return 1.0
