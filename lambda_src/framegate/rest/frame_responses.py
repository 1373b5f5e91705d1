"""Turns delivered frames into HTTP responses: bytes, base64 in JSON, or a pre-signed URL."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING

from framegate.rest.http import HttpResponse, JsonWithBase64, base64_size
from framegate.rest.negotiation import JSON, Representation
from framegate.rest.problem_documents import PENDING_RETRY_AFTER_SECONDS

if TYPE_CHECKING:
    from framegate.delivery.executor import InlineFrame, LinkedFrame
    from framegate.delivery.multipart import Envelope
    from framegate.delivery.portions import Portion
    from framegate.identifiers import FrameRef
    from framegate.rest.preconditions import FrameTag
    from framegate.storage.frame_store import PresignedUrl

HEADERS = {
    "wholeFrame": "Framegate-Whole-Frame",
    "resolution": "Framegate-Resolution",
    "resolutions": "Framegate-Resolutions",
    "rows": "Framegate-Rows",
    "columns": "Framegate-Columns",
    "skipDecompositions": "Framegate-Skip-Decompositions",
}
"""The headers that describe the delivered portion of a frame, by the JSON member with the same content."""


def inline_response(
    frame: FrameRef, delivered: InlineFrame, tag: FrameTag, envelope: Envelope, cache_control: str
) -> HttpResponse:
    """``200`` with the frame or its portion: bytes, multipart, or base64 in JSON; or ``206`` with a byte range.

    If the frame was not read, because the client needs only headers, the response has a Content-Length and no body.
    """
    headers = {
        "Content-Type": tag.content_type,
        **_caching_headers(tag, cache_control),
        **_portion_headers(delivered.portion),
    }
    if tag.form.representation is Representation.MULTIPART:
        if delivered.content is None:
            return HttpResponse(HTTPStatus.OK, {"Content-Length": str(envelope.size_of([delivered.size])), **headers})
        return HttpResponse(HTTPStatus.OK, headers, b"".join(envelope.wrap([[delivered.content]])))
    if tag.form.representation is Representation.RAW:
        headers["Accept-Ranges"] = "bytes"
        if delivered.content is None:
            return HttpResponse(HTTPStatus.OK, {"Content-Length": str(delivered.size), **headers})
        if (span := delivered.span) is None:
            return HttpResponse(HTTPStatus.OK, headers, delivered.content)
        headers["Content-Range"] = f"bytes {span.first}-{span.last}/{span.total}"
        return HttpResponse(HTTPStatus.PARTIAL_CONTENT, headers, delivered.content)
    document = _frame_document(frame, delivered.content_type, delivered.size, delivered.portion)
    # The base64 is joined by hand: it has nothing to escape, and json.dumps takes milliseconds to scan megabytes.
    before, after = f'{json.dumps(document)[:-1]}, "imageFrameBlob": "', '"}'
    if delivered.content is None:
        size = len(before) + base64_size(delivered.size) + len(after)
        return HttpResponse(HTTPStatus.OK, {"Content-Length": str(size), **headers})
    return HttpResponse(HTTPStatus.OK, headers, JsonWithBase64(before, delivered.content, after))


def linked_response(frame: FrameRef, delivered: LinkedFrame, signed: PresignedUrl) -> HttpResponse:
    """``200`` with a JSON document that has the frame's pre-signed URL and its expiry."""
    document = _frame_document(frame, delivered.content_type, delivered.size, delivered.portion)
    document["url"] = signed.url
    document["expiresAt"] = signed.expires_at.isoformat(timespec="seconds").replace("+00:00", "Z")
    headers = {"Content-Type": JSON, "Cache-Control": "no-store", **_portion_headers(delivered.portion)}
    return HttpResponse(HTTPStatus.OK, headers, json.dumps(document))


def redirect_response(url: str, portion: Portion | None = None) -> HttpResponse:
    """``303`` to a pre-signed URL."""
    headers = {
        "Location": url,
        # Without a Content-Type, API Gateway would declare the empty body as JSON.
        "Content-Type": "text/plain; charset=utf-8",
        # The URL is a credential that expires, so no cache may keep it.
        "Cache-Control": "no-store",
        **_portion_headers(portion),
    }
    return HttpResponse(HTTPStatus.SEE_OTHER, headers)


def queued_response(request_id: str) -> HttpResponse:
    """``202`` for a frame with a pending deferred store, with the time after which to request it again.

    References
    ----------
    RFC 9110, section 15.3.3. The document has the members of a problem document (RFC 9457).
    """
    document = {
        "type": "urn:framegate:frame-queued",
        "title": "The frame is being stored",
        "status": int(HTTPStatus.ACCEPTED),
        "detail": "Storing this frame takes longer than a request may last, so it continues in the background. "
        "Send the same request again after the seconds in Retry-After, until it redirects to the frame.",
        "requestId": request_id,
    }
    headers = {"Content-Type": JSON, "Cache-Control": "no-store", "Retry-After": str(PENDING_RETRY_AFTER_SECONDS)}
    return HttpResponse(HTTPStatus.ACCEPTED, headers, json.dumps(document))


def _frame_document(
    frame: FrameRef, content_type: str, size: int, portion: Portion | None
) -> dict[str, str | int | bool]:
    return {
        "datastoreId": frame.datastore_id,
        "imageSetId": frame.image_set_id,
        "imageFrameId": frame.image_frame_id,
        "contentType": content_type,
        "contentLength": size,
        **_portion_members(portion),
    }


def _portion_members(portion: Portion | None) -> dict[str, str | int | bool]:
    """The members that describe the delivered portion; none if the request selects no levels."""
    if portion is None:
        return {}
    members: dict[str, str | int | bool] = {"wholeFrame": portion.is_whole}
    if portion.resolutions is not None:
        members["resolutions"] = portion.resolutions
    if portion.resolution is not None and portion.resolutions is not None:
        members |= {
            "resolution": portion.resolution.number,
            "rows": portion.resolution.rows,
            "columns": portion.resolution.columns,
            "skipDecompositions": portion.resolutions - 1 - portion.resolution.number,
        }
    return members


def _portion_headers(portion: Portion | None) -> dict[str, str]:
    """The same members as headers: ``Framegate-Whole-Frame``, ``Framegate-Resolution`` and so on."""
    values = {HEADERS[name]: value for name, value in _portion_members(portion).items()}
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in values.items()}


def not_modified_response(tag: FrameTag, cache_control: str) -> HttpResponse:
    """``304`` for a client that holds the representation with this entity tag.

    The response repeats the Content-Type of the 200. Otherwise API Gateway would add ``application/json``, and a cache
    would store that in place of the media type (RFC 9111, sections 3.2 and 4.3.4).
    """
    return HttpResponse(
        HTTPStatus.NOT_MODIFIED, {"Content-Type": tag.content_type, **_caching_headers(tag, cache_control)}
    )


def _caching_headers(tag: FrameTag, cache_control: str) -> dict[str, str]:
    # The entity tag stays with `no-store`: If-Range and If-Match need it.
    return {"ETag": tag.value, "Cache-Control": cache_control}
