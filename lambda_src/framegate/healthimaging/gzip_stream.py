"""Decompresses a gzip stream within bounds."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_PIECE_BYTES = 1024 * 1024
"""Maximum size of a decompressed piece: one compressed byte can become a thousand bytes."""

MAX_MEMBERS = 16_384
"""Maximum number of members, because each one copies the compressed piece. At `bgzip`'s 64 KiB each, 1 GiB."""


class GzipError(ValueError):
    """The bytes are not gzip, are truncated, or exceed a bound; the text completes "The metadata …"."""


def decompressed(content: Iterable[bytes], max_bytes: int) -> Iterator[bytes]:
    """Decompress gzip.

    A gzip file is a sequence of members, whose contents are concatenated. Zero bytes after a member are padding. Any
    other bytes there are an error, because they may be the rest of a document.

    Parameters
    ----------
    content : iterable of bytes
        The compressed bytes, in pieces of any size.
    max_bytes : int
        Maximum number of decompressed bytes.

    Yields
    ------
    bytes
        Decompressed bytes, from 1 byte to 1 MiB.

    Raises
    ------
    GzipError
        If the bytes are not gzip, are truncated, decompress to more than `max_bytes`, or have too many members.

    References
    ----------
    RFC 1952, section 2.2.

    Examples
    --------
    >>> from gzip import compress
    >>> b"".join(decompressed([compress(b"two ") + compress(b"members")], max_bytes=11))
    b'two members'
    """
    member: zlib._Decompress | None = None
    members = size = 0
    try:
        for piece in content:
            while piece:
                if member is None:
                    piece = piece.lstrip(b"\0") if members else piece
                    if not piece:
                        break
                    member = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
                    members += 1
                    if members > MAX_MEMBERS:
                        raise GzipError(f"has more than {MAX_MEMBERS:,} gzip members")
                # A few compressed bytes may not yield a byte yet.
                if found := member.decompress(piece, MAX_PIECE_BYTES):
                    size += len(found)
                    if size > max_bytes:
                        raise GzipError(f"decompresses to more than {max_bytes:,} bytes")
                    yield found
                piece = member.unconsumed_tail
                if member.eof:
                    piece, member = member.unused_data, None
    except zlib.error:
        raise GzipError("is not gzip" if members <= 1 else "has bytes after the gzip data that are not gzip") from None
    if member is not None or not members:
        raise GzipError("is truncated")
