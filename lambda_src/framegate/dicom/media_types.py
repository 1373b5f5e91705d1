"""Media types of image frames, as HealthImaging gives them."""

from __future__ import annotations

UNKNOWN = "application/octet-stream"
"""What HealthImaging says itself where it knows no better type."""

# RFC 6838 allows 127 characters on each side of the slash. A longer value is no media type, and the
# answer's headers have to stay within what the inline limit leaves for them.
_MAX_LENGTH = 255


def pass_through(content_type: str | None) -> str:
    """The media type to deliver a frame with: HealthImaging's own, also one that nobody here has heard of.

    Examples
    --------
    >>> pass_through("image/jph"), pass_through("image/something-new"), pass_through(None)
    ('image/jph', 'image/something-new', 'application/octet-stream')
    """
    if not content_type or len(content_type) > _MAX_LENGTH:
        return UNKNOWN
    return content_type


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
