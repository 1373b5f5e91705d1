"""Identifiers of image sets and image frames in AWS HealthImaging, and UIDs of DICOM."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields

from framegate.problems import InvalidIdentifier

# Use fullmatch: `$` would let a trailing newline through, into a URL and a key.
IDENTIFIER_PATTERN = r"[0-9a-z]{32}"
_IDENTIFIER = re.compile(IDENTIFIER_PATTERN)

MAX_UID_LENGTH = 256
"""Maximum characters of a UID. DICOM allows 64 (PS3.5, section 9.1); HealthImaging accepts 256."""

UID_PATTERN = rf"[0-9.]{{1,{MAX_UID_LENGTH}}}"
_UID = re.compile(UID_PATTERN)


def is_identifier(value: object) -> bool:
    """Whether a value is a well-formed HealthImaging identifier."""
    return isinstance(value, str) and _IDENTIFIER.fullmatch(value) is not None


def require_identifier(name: str, value: str) -> str:
    """Return a value if it is a well-formed HealthImaging identifier; `name` is its name in the API.

    Raises
    ------
    InvalidIdentifier
        If it is not.
    """
    if not is_identifier(value):
        raise InvalidIdentifier(name)
    return value


def is_uid(value: object) -> bool:
    """Whether a value has the characters and the length of a DICOM UID."""
    return isinstance(value, str) and _UID.fullmatch(value) is not None


@dataclass(frozen=True, slots=True)
class ImageSetRef:
    """The address of an image set.

    Parameters
    ----------
    datastore_id, image_set_id : str
        HealthImaging identifiers: 32 characters, each ``0-9`` or ``a-z``.

    Raises
    ------
    InvalidIdentifier
        If an identifier is malformed. The message does not repeat the value, which may be anything.

    References
    ----------
    AWS HealthImaging API reference, ``GetImageSet``, URI request parameters.
    """

    datastore_id: str
    image_set_id: str

    def __post_init__(self) -> None:
        for field in fields(self):
            if not is_identifier(getattr(self, field.name)):
                raise InvalidIdentifier(_api_name(field.name))


@dataclass(frozen=True, slots=True)
class FrameRef(ImageSetRef):
    """The address of one image frame.

    Parameters
    ----------
    datastore_id, image_set_id, image_frame_id : str
        HealthImaging identifiers: 32 characters, each ``0-9`` or ``a-z``.

    Raises
    ------
    InvalidIdentifier
        If an identifier is malformed.

    Examples
    --------
    >>> FrameRef("d" * 32, "5" * 32, "f" * 32).image_frame_id
    'ffffffffffffffffffffffffffffffff'
    """

    image_frame_id: str


def _api_name(field_name: str) -> str:
    """Return the name in camel case, as in HealthImaging's API and in our paths: ``imageSetId``."""
    first, *rest = field_name.split("_")
    return first + "".join(word.capitalize() for word in rest)
