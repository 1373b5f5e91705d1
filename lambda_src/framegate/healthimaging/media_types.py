"""Media types of image frames in HealthImaging."""

from __future__ import annotations

UNKNOWN = "application/octet-stream"
"""HealthImaging's default media type."""

_PREFIX = "1.2.840.10008.1.2.4."

STORED = {
    "1.2.840.10008.1.2.1": UNKNOWN,
    f"{_PREFIX}50": "image/jpeg",
    f"{_PREFIX}91": "image/j2c",
    f"{_PREFIX}100": "video/mpeg",
    f"{_PREFIX}100.1": "video/mpeg",
    f"{_PREFIX}101": "video/mpeg",
    f"{_PREFIX}101.1": "video/mpeg",
    f"{_PREFIX}102": "video/mp4",
    f"{_PREFIX}102.1": "video/mp4",
    f"{_PREFIX}103": "video/mp4",
    f"{_PREFIX}103.1": "video/mp4",
    f"{_PREFIX}104": "video/mp4",
    f"{_PREFIX}104.1": "video/mp4",
    f"{_PREFIX}105": "video/mp4",
    f"{_PREFIX}105.1": "video/mp4",
    f"{_PREFIX}106": "video/mp4",
    f"{_PREFIX}106.1": "video/mp4",
    f"{_PREFIX}107": "video/H256",  # not H265: AWS spells it like this
    f"{_PREFIX}108": "video/H256",
    f"{_PREFIX}112": "image/jxl",
    f"{_PREFIX}202": "image/jph",
    f"{_PREFIX}203": "image/jphc",
}
"""The media type of a frame by its stored transfer syntax UID.

References
----------
AWS HealthImaging API reference, ``GetImageFrame``, ``contentType``.
"""

WITHOUT_SYNTAX = "image/jph"
"""The media type of a frame whose metadata names no transfer syntax (same reference)."""

_OWN_SYNTAXES = {
    "image/jph": f"{_PREFIX}202",  # losslessStorageFormat HTJ2K
    "image/j2c": f"{_PREFIX}90",  # losslessStorageFormat JPEG_2000_LOSSLESS
    "image/jp2": f"{_PREFIX}90",
}
"""The transfer syntaxes to which data stores transcode, by the media type of the frame."""

EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
"""The transfer syntax of uncompressed pixels, the default of DICOMweb (DICOM PS3.18, section 8.7.3.5.2)."""

_HTJ2K = ("image/jphc", "image/jph", "image/jhc")
_JPEG_2000 = ("image/j2c", "image/jp2")

_DICOM_NAMES: dict[str, tuple[str, ...]] = {
    EXPLICIT_LITTLE_ENDIAN: (UNKNOWN,),
    "1.2.840.10008.1.2.5": ("image/dicom-rle",),
    **dict.fromkeys([f"{_PREFIX}{each}" for each in (50, 51, 57, 70)], ("image/jpeg",)),
    **dict.fromkeys([f"{_PREFIX}{each}" for each in (80, 81)], ("image/jls",)),
    **dict.fromkeys([f"{_PREFIX}{each}" for each in (90, 91)], _JPEG_2000),
    **dict.fromkeys([f"{_PREFIX}{each}" for each in (92, 93)], ("image/jpx",)),
    **dict.fromkeys([f"{_PREFIX}{each}" for each in (110, 111, 112)], ("image/jxl",)),
    **dict.fromkeys([f"{_PREFIX}{each}" for each in (201, 202, 203)], _HTJ2K),
}

_SYNTAX_OF_TYPE = {
    "image/jph": f"{_PREFIX}202",
    "image/jphc": f"{_PREFIX}203",
    "image/jpeg": f"{_PREFIX}50",
    # This syntax covers lossless JPEG 2000, too (DICOM PS3.5, section A.4.4).
    "image/j2c": f"{_PREFIX}91",
    "image/jxl": f"{_PREFIX}112",
}


def dicom_names(transfer_syntax_uid: str | None, content_type: str) -> tuple[str, ...]:
    """Return the media types under which DICOMweb clients request frames in a transfer syntax; the usual one first.

    Parameters
    ----------
    transfer_syntax_uid : str or None
        The transfer syntax, if it is known.
    content_type : str
        HealthImaging's media type, which is the answer for any syntax without a media type of its own.

    References
    ----------
    DICOM PS3.18, table 8.7.3-5. HTJ2K has had several names in clients, and JPEG 2000 two.

    Examples
    --------
    >>> dicom_names("1.2.840.10008.1.2.4.202", "image/jph")
    ('image/jphc', 'image/jph', 'image/jhc')
    >>> dicom_names("1.2.840.10008.1.2.4.102", "video/mp4")
    ('video/mp4',)
    """
    return _DICOM_NAMES.get(transfer_syntax_uid or "", (essence(content_type),))


def implied_syntax(content_type: str) -> str | None:
    """Return the transfer syntax that HealthImaging's media type implies; None if it implies none.

    HealthImaging sends uncompressed pixels, and every frame of an unknown syntax, as octet streams. Each video type
    covers several syntaxes.

    Examples
    --------
    >>> implied_syntax("image/jph"), implied_syntax("video/mp4")
    ('1.2.840.10008.1.2.4.202', None)
    """
    return _SYNTAX_OF_TYPE.get(essence(content_type))


MAX_CHARS = 255
"""Maximum length of a media type (RFC 6838, section 4.2: 127 characters on each side of the slash).

The inline limit leaves room for headers of this length.
"""


def pass_through(content_type: str | None) -> str:
    """Return the media type with which to deliver a frame: HealthImaging's own, even an unknown one.

    Examples
    --------
    >>> pass_through("image/jph"), pass_through("image/something-new"), pass_through(None)
    ('image/jph', 'image/something-new', 'application/octet-stream')
    """
    if not content_type or len(content_type) > MAX_CHARS:
        return UNKNOWN
    return content_type


def of_stored(transfer_syntax_uid: str) -> str:
    """Return the media type that AWS documents for a stored transfer syntax; HealthImaging's default for all others.

    Examples
    --------
    >>> of_stored("1.2.840.10008.1.2.4.50"), of_stored("1.2.840.10008.1.2.4.112"), of_stored("1.2.840.10008.1.2.4.90")
    ('image/jpeg', 'image/jxl', 'application/octet-stream')
    """
    return STORED.get(transfer_syntax_uid, UNKNOWN)


def stored_syntax(transfer_syntax_uid: str | None, content_type: str) -> str | None:
    """Return the transfer syntax of a stored frame, or None if it is unknown.

    Parameters
    ----------
    transfer_syntax_uid : str or None
        ``StoredTransferSyntaxUID`` in the metadata. If it is missing, the frame has the data store's own format: HTJ2K
        or JPEG 2000, both lossless.
    content_type : str
        The frame's media type, which distinguishes the two formats.

    References
    ----------
    AWS HealthImaging developer guide, "Supported transfer syntaxes".

    Examples
    --------
    >>> stored_syntax(None, "image/jph"), stored_syntax(None, "image/j2c"), stored_syntax(None, "a/b")
    ('1.2.840.10008.1.2.4.202', '1.2.840.10008.1.2.4.90', None)
    """
    return transfer_syntax_uid or _OWN_SYNTAXES.get(essence(content_type))


def essence(content_type: str) -> str:
    """Return a media type without its parameters, in lower case.

    References
    ----------
    RFC 9110, section 8.3.1.

    Examples
    --------
    >>> essence("image/JPH; transfer-syntax=1.2.840.10008.1.2.4.202")
    'image/jph'
    """
    return content_type.partition(";")[0].strip().lower()
