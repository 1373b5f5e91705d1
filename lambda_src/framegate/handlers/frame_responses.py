"""Delivered frames as HTTP answers: bytes, base64 in JSON, or a pre-signed URL."""

from __future__ import annotations

import json
from base64 import b64encode
from http import HTTPStatus
from typing import TYPE_CHECKING

from framegate.aws.frame_store import CACHE_CONTROL
from framegate.handlers.http import HttpResponse
from framegate.handlers.negotiation import JSON, Representation, entity_tag

if TYPE_CHECKING:
    from framegate.dicom.identifiers import FrameRef
    from framegate.frames.delivery import InlineFrame, LinkedFrame

QUEUED_RETRY_AFTER_SECONDS = 30


def inline_response(frame: FrameRef, delivered: InlineFrame, representation: Representation) -> HttpResponse:
    """``200`` with the frame: its bytes, or JSON with them in base64."""
    headers = _caching_headers(entity_tag(frame.image_frame_id, representation))
    if representation is Representation.RAW:
        return HttpResponse(HTTPStatus.OK, {"Content-Type": delivered.content_type, **headers}, delivered.content)
    document = _frame_document(frame, delivered.content_type, len(delivered.content))
    # Not json.dumps of the whole: base64 has nothing to escape, and scanning megabytes for it takes milliseconds.
    blob = b64encode(delivered.content).decode("ascii")
    body = f'{json.dumps(document)[:-1]}, "imageFrameBlob": "{blob}"}}'
    return HttpResponse(HTTPStatus.OK, {"Content-Type": JSON, **headers}, body)


def linked_response(frame: FrameRef, delivered: LinkedFrame, representation: Representation) -> HttpResponse:
    """``303`` to the frame's pre-signed URL, or ``200`` with JSON that holds it and its end."""
    # The URL is a credential with an end: no cache may keep it.
    headers = {"Cache-Control": "no-store"}
    if representation is Representation.RAW:
        return HttpResponse(HTTPStatus.SEE_OTHER, {"Location": delivered.url, **headers})
    document = _frame_document(frame, delivered.content_type, delivered.size)
    document["url"] = delivered.url
    document["expiresAt"] = delivered.expires_at.isoformat(timespec="seconds").replace("+00:00", "Z")
    return HttpResponse(HTTPStatus.OK, {"Content-Type": JSON, **headers}, json.dumps(document))


def queued_response(request_id: str) -> HttpResponse:
    """``202``: the frame is on its way to S3, and this is when to ask again.

    References
    ----------
    RFC 9110, section 15.3.3. The document is in the form of a problem's (RFC 9457), though nothing is wrong.
    """
    document = {
        "type": "urn:framegate:frame-queued",
        "title": "The frame is being stored",
        "status": int(HTTPStatus.ACCEPTED),
        "detail": "Storing this frame takes longer than a request may last, so it goes on without you. "
        "Send the same request again after the seconds in Retry-After, until it redirects to the frame.",
        "requestId": request_id,
    }
    headers = {"Content-Type": JSON, "Cache-Control": "no-store", "Retry-After": str(QUEUED_RETRY_AFTER_SECONDS)}
    return HttpResponse(HTTPStatus.ACCEPTED, headers, json.dumps(document))


def _frame_document(frame: FrameRef, content_type: str, size: int) -> dict[str, str | int]:
    return {
        "datastoreId": frame.datastore_id,
        "imageSetId": frame.image_set_id,
        "imageFrameId": frame.image_frame_id,
        "contentType": content_type,
        "contentLength": size,
    }


def not_modified_response(tag: str) -> HttpResponse:
    """``304`` for a client that holds the representation with that entity tag."""
    return HttpResponse(HTTPStatus.NOT_MODIFIED, _caching_headers(tag))


def _caching_headers(tag: str) -> dict[str, str]:
    return {"ETag": tag, "Cache-Control": CACHE_CONTROL}
