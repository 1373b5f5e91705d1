"""Rewrites and cuts DICOM JSON as text, without parsing what it need not change."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_HELD_BYTES = 16 * 1024 * 1024
"""Maximum size of the text that is held back while it may contain part of a URI."""

# Within a JSON string, a quotation mark has a backslash before it, so these patterns match members only.
_BULK_DATA_URI = re.compile(rb'("BulkDataURI"\s*:\s*")https?://[^/"\\]+(/datastore/[^"\\]*)(?=")')
_RETRIEVE_URL = re.compile(
    rb'("00081190"\s*:\s*\{\s*(?:"vr"\s*:\s*"UR"\s*,\s*)?"Value"\s*:\s*\[\s*")https?://[^/"\\]+(?=/datastore/)'
)

_SOP_INSTANCE_UID = "00080018"


class UriRewriter:
    """Makes the URIs of HealthImaging in DICOM JSON lead to this API.

    Parameters
    ----------
    base_url : str
        The API's URL, without a trailing slash.
    image_set_id : str or None
        The image set that the client has chosen. HealthImaging leaves it out of the URIs of bulk data, and a request
        without it would mean the primary image set.

    References
    ----------
    DICOM PS3.18, section F.2.6: ``BulkDataURI``. PS3.18, table 10.6.3-3: Retrieve URL (0008,1190).
    """

    def __init__(self, base_url: str, image_set_id: str | None = None) -> None:
        suffix = f"?imageSetId={image_set_id}" if image_set_id else ""
        self._base_url = base_url.encode()
        self._suffix = suffix.encode()

    def rewrite(self, text: bytes) -> bytes:
        """Rewrite the URIs of a whole document, or of a part of one that cuts no member."""
        text = _BULK_DATA_URI.sub(self._bulk_data_uri, text)
        return _RETRIEVE_URL.sub(lambda match: match[1] + self._base_url, text)

    def rewritten(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Rewrite the URIs of a document that comes in pieces of any size."""
        held = b""
        for piece in pieces:
            held += piece
            # A URI has no brace, so a cut after one cuts no member with a URI.
            end = held.rfind(b"}") + 1
            if len(held) - end > MAX_HELD_BYTES:
                end = len(held)
            if end:
                yield self.rewrite(held[:end])
                held = held[end:]
        yield self.rewrite(held)

    def _bulk_data_uri(self, match: re.Match[bytes]) -> bytes:
        suffix = b"" if b"?" in match[2] else self._suffix
        return match[1] + self._base_url + match[2] + suffix


def instance_of(document: str, sop_instance_uid: str) -> str | None:
    """Cut the metadata of an instance out of the metadata of its series; None if it is not there.

    Raises
    ------
    ValueError
        If the document is not an array of JSON objects.
    """
    decoder, position = json.JSONDecoder(), document.index("[") + 1
    while True:
        while position < len(document) and document[position] in ", \t\r\n":
            position += 1
        if position >= len(document) or document[position] == "]":
            return None
        instance, end = decoder.raw_decode(document, position)
        value = instance.get(_SOP_INSTANCE_UID, {}).get("Value", [None])
        if value and value[0] == sop_instance_uid:
            return document[position:end]
        position = end


def elements_of(document: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the text between the brackets of an array that comes in pieces.

    Raises
    ------
    ValueError
        If the document is not an array.
    """
    held, is_open = b"", False
    for piece in document:
        held += piece
        if not is_open:
            held = held.lstrip()
            if not held:
                continue
            if not held.startswith(b"["):
                raise ValueError
            held, is_open = held[1:], True
        # The closing bracket is the last character that is not white space.
        end = len(held.rstrip()) - 1
        if end > 0:
            yield held[:end]
            held = held[end:]
    if not is_open or held.rstrip() != b"]":
        raise ValueError
