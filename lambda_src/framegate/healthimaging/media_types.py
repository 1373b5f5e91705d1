"""Media types of image frames, as HealthImaging gives them."""

from __future__ import annotations

UNKNOWN = "application/octet-stream"
"""What HealthImaging says itself where it knows no better type."""

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
    f"{_PREFIX}107": "video/H256",  # spelt so
    f"{_PREFIX}108": "video/H256",
    f"{_PREFIX}112": "image/jxl",
    f"{_PREFIX}202": "image/jph",
    f"{_PREFIX}203": "image/jphc",
}
"""The media type that HealthImaging gives a frame, by the transfer syntax that it is stored in.

References
----------
AWS HealthImaging API reference, ``GetImageFrame``, ``contentType``.
"""

WITHOUT_SYNTAX = "image/jph"
"""The media type that the same reference gives for frames whose metadata names no transfer syntax."""

_OWN_SYNTAXES = {
    "image/jph": f"{_PREFIX}202",  # losslessStorageFormat HTJ2K
    "image/j2c": f"{_PREFIX}90",  # losslessStorageFormat JPEG_2000_LOSSLESS
    "image/jp2": f"{_PREFIX}90",
}
"""The two formats to which data stores transcode, by the media type of the frame."""

# RFC 6838 allows 127 characters on each side of the slash. A longer value is no media type, and the
# answer's headers have to stay within what the inline limit leaves for them.
MAX_CHARS = 255


def pass_through(content_type: str | None) -> str:
    """The media type to deliver a frame with: HealthImaging's own, also one that nobody here has heard of.

    Examples
    --------
    >>> pass_through("image/jph"), pass_through("image/something-new"), pass_through(None)
    ('image/jph', 'image/something-new', 'application/octet-stream')
    """
    if not content_type or len(content_type) > MAX_CHARS:
        return UNKNOWN
    return content_type


def of_stored(transfer_syntax_uid: str) -> str:
    """The media type that HealthImaging gives a frame stored in that transfer syntax, as far as AWS documents it.

    A frame of any other transfer syntax has HealthImaging's default.

    Examples
    --------
    >>> of_stored("1.2.840.10008.1.2.4.50"), of_stored("1.2.840.10008.1.2.4.112"), of_stored("1.2.840.10008.1.2.4.90")
    ('image/jpeg', 'image/jxl', 'application/octet-stream')
    """
    return STORED.get(transfer_syntax_uid, UNKNOWN)


def stored_syntax(transfer_syntax_uid: str | None, content_type: str) -> str | None:
    """The transfer syntax of a stored frame, or None if nothing tells it.

    Parameters
    ----------
    transfer_syntax_uid : str or None
        ``StoredTransferSyntaxUID`` of the metadata. Where HealthImaging leaves it out, the frame is in the data store's
        own format: HTJ2K or JPEG 2000, both lossless.
    content_type : str
        The media type that HealthImaging gave the frame; it tells the two formats apart.

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
    """A media type without its parameters, in lower case, to compare with.

    References
    ----------
    RFC 9110, section 8.3.1.

    Examples
    --------
    >>> essence("image/JPH; transfer-syntax=1.2.840.10008.1.2.4.202")
    'image/jph'
    """
    return content_type.partition(";")[0].strip().lower()
