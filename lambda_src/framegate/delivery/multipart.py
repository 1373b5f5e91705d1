"""Writes and reads ``multipart/related`` bodies, the form in which DICOMweb clients request frames."""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.message import Message
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_PART_HEADER_BYTES = 16 * 1024
"""Maximum size of a part's headers."""

_BOUNDARY_PREFIX = "framegate-"


class MultipartError(ValueError):
    """The body is not the multipart body that its Content-Type announces; the text completes "The body …"."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """The bytes around the parts of a body. The same content always has the same envelope.

    Parameters
    ----------
    name : str
        Identifies the content: a frame's identifier, or a digest of several. The boundary contains it.
    part_type : str
        The Content-Type of every part, with its ``transfer-syntax``.

    References
    ----------
    RFC 2046, section 5.1.1; RFC 2387; DICOM PS3.18, section 8.6.1.2.1.
    """

    name: str
    part_type: str

    @property
    def boundary(self) -> str:
        """The boundary. HealthImaging assigns an identifier after it has the content, so no frame contains it."""
        return f"{_BOUNDARY_PREFIX}{self.name}"

    @property
    def content_type(self) -> str:
        """The Content-Type of the body."""
        root = self.part_type.partition(";")[0].strip()
        return f'multipart/related; type="{root}"; boundary={self.boundary}'

    @property
    def head(self) -> bytes:
        """The bytes before the first part. Clients search for ``Content-Type:`` in exactly this spelling."""
        return f"--{self.boundary}\r\nContent-Type: {self.part_type}\r\n\r\n".encode()

    @property
    def separator(self) -> bytes:
        """The bytes between two parts."""
        return b"\r\n" + self.head

    @property
    def tail(self) -> bytes:
        """The bytes after the last part."""
        return f"\r\n--{self.boundary}--\r\n".encode()

    def size_of(self, part_sizes: Iterable[int]) -> int:
        """Size in bytes of a body whose parts have these sizes."""
        sizes = tuple(part_sizes)
        return sum(sizes) + len(self.head) + len(self.separator) * (len(sizes) - 1) + len(self.tail)

    def wrap(self, parts: Iterable[Iterable[bytes]]) -> Iterator[bytes]:
        """Yield the bytes of a body. Each part comes in pieces."""
        between = self.head
        for part in parts:
            yield between
            yield from part
            between = self.separator
        yield self.tail


def boundary_of(content_type: str) -> str:
    """Return the boundary that a Content-Type announces.

    Raises
    ------
    MultipartError
        If it announces none.
    """
    message = Message()
    message["Content-Type"] = content_type
    boundary = message.get_boundary()
    if message.get_content_maintype() != "multipart" or not boundary:
        raise MultipartError("is not multipart")
    return boundary


class MultipartReader:
    """Reads a multipart body as a stream, part by part.

    Parameters
    ----------
    content_type : str
        The body's Content-Type.
    pieces : iterable of bytes
        The body, in pieces of any size.

    Raises
    ------
    MultipartError
        If the Content-Type announces no boundary.
    """

    def __init__(self, content_type: str, pieces: Iterable[bytes]) -> None:
        self._delimiter = b"\r\n--" + boundary_of(content_type).encode()
        self._pieces = iter(pieces)
        # The first delimiter needs no line break before it.
        self._buffer = bytearray(b"\r\n")

    def parts(self) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Yield the Content-Type and the content of each part. Read a part to its end before the next one.

        Raises
        ------
        MultipartError
            If the body is malformed, or ends before its last delimiter.
        """
        for _ in self._content():
            pass
        while not self._is_closed():
            yield self._headers(), self._content()

    def _is_closed(self) -> bool:
        self._read_until(2)
        return bytes(self._buffer[:2]) == b"--"

    def _headers(self) -> str:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > MAX_PART_HEADER_BYTES:
                raise MultipartError(f"has a part with more than {MAX_PART_HEADER_BYTES:,} bytes of headers")
            self._read_more()
        lines = bytes(self._buffer[:end]).decode("latin-1")
        del self._buffer[: end + 4]
        found = re.search(r"^content-type:[ \t]*(.*?)[ \t]*$", lines, re.IGNORECASE | re.MULTILINE)
        return found[1].strip() if found else ""

    def _content(self) -> Iterator[bytes]:
        """Yield the bytes up to the next delimiter, and remove the delimiter."""
        while (end := self._buffer.find(self._delimiter)) < 0:
            kept = len(self._delimiter) - 1
            if len(self._buffer) > kept:
                yield bytes(self._buffer[:-kept])
                del self._buffer[:-kept]
            self._read_more()
        if end:
            yield bytes(self._buffer[:end])
        del self._buffer[: end + len(self._delimiter)]

    def _read_until(self, size: int) -> None:
        while len(self._buffer) < size:
            self._read_more()

    def _read_more(self) -> None:
        piece = next(self._pieces, None)
        if piece is None:
            raise MultipartError("ends before its last delimiter")
        self._buffer += piece
