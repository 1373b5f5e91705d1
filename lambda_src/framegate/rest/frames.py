"""Handles the routes that deliver frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from framegate.access.decision import Action
from framegate.delivery.executor import LinkedFrame, QueuedFrame
from framegate.delivery.request import DeliveryMode, FrameRequest
from framegate.identifiers import FrameRef
from framegate.problems import InvalidRequest
from framegate.rest.access_check import require_access
from framegate.rest.frame_responses import (
    inline_response,
    linked_response,
    not_modified_response,
    queued_response,
    redirect_response,
)
from framegate.rest.negotiation import Form, FrameNegotiation, Representation
from framegate.rest.parameters import accept_of, byte_range, delivery_mode, selection
from framegate.rest.preconditions import FrameTag, Preconditions, envelope, known_frame_tags
from framegate.rest.routes import FRAME_BY_BODY, FRAME_BY_PATH, FRAME_BY_QUERY, IMAGE_FRAME_ID_IN_QUERY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from framegate.access.image_sets import ImageSetAccess
    from framegate.delivery.executor import FrameDelivery
    from framegate.delivery.portions import Portion, Selection
    from framegate.rest.exchange import Exchange, Handler
    from framegate.rest.http import HttpResponse
    from framegate.time_budget import TimeBudget


class FrameHandlers:
    """The handlers of the routes that deliver frames.

    Parameters
    ----------
    access : ImageSetAccess
        Decides who may read an image set.
    delivery : FrameDelivery
        Delivers frames.
    cache_control : str
        The Cache-Control header of frames.
    """

    def __init__(self, access: ImageSetAccess, delivery: FrameDelivery, cache_control: str) -> None:
        self._access = access
        self._cache_control = cache_control
        self.delivery = delivery

    @property
    def by_operation(self) -> Mapping[str, Handler]:
        """The handler of each operation, by operation id."""
        return {
            FRAME_BY_PATH.operation_id: self._by_path,
            FRAME_BY_QUERY.operation_id: self._by_query,
            FRAME_BY_BODY.operation_id: self._by_body,
        }

    def _by_path(self, exchange: Exchange) -> HttpResponse:
        return self._answer(exchange, exchange.request.path["imageFrameId"])

    def _by_query(self, exchange: Exchange) -> HttpResponse:
        image_frame_id = exchange.request.query(IMAGE_FRAME_ID_IN_QUERY.name)
        if image_frame_id is None:
            raise InvalidRequest("The query must have the frame's id: ?imageFrameId=…")
        return self._answer(exchange, image_frame_id)

    def _by_body(self, exchange: Exchange) -> HttpResponse:
        return self._answer(exchange, _image_frame_id_of(exchange.request.json_object()))

    def _answer(self, exchange: Exchange, image_frame_id: str) -> HttpResponse:
        request = exchange.request
        frame = FrameRef(request.path["datastoreId"], request.path["imageSetId"], image_frame_id)
        exchange.record.update(
            datastore_id=frame.datastore_id, image_set_id=frame.image_set_id, image_frame_id=frame.image_frame_id
        )
        require_access(exchange, self._access, frame, Action.READ_FRAME)
        negotiation, preconditions = FrameNegotiation(accept_of(request)), Preconditions.of(request)
        selected = selection(request)
        frame_request = FrameRequest(
            delivery_mode(request),
            negotiation,
            selected,
            byte_range(request, lambda: _range_tags(image_frame_id, selected)),
            headers_only=request.method == "HEAD",
            request_id=request.request_id,
        )
        if frame_request.mode is not DeliveryMode.URL and preconditions.if_none_match:
            held = _held_tag(known_frame_tags(image_frame_id, selected), preconditions, negotiation)
            if held is not None:
                return self._not_modified(exchange, held)
        exchange.begin_read()
        delivered = self.delivery.deliver(frame, frame_request, exchange.budget)
        if isinstance(delivered, QueuedFrame):
            exchange.record.update(delivery="queued", bytes=0)
            return queued_response(request.request_id)
        form = negotiation.form(delivered.content_type)
        exchange.record.update(content_type=delivered.content_type, **portion_record(delivered.portion))
        if isinstance(delivered, LinkedFrame):
            return self._linked(exchange, frame, frame_request, delivered, form, preconditions)
        tag = FrameTag.of(image_frame_id, form, selected)
        if preconditions.evaluate(tag.value):
            return self._not_modified(exchange, tag)
        exchange.record.update(
            delivery="json" if form.representation is Representation.JSON else "inline",
            bytes=delivered.size,
            upstream_bytes=delivered.bytes_read,
        )
        wrapping = envelope(image_frame_id, form, selected)
        return inline_response(frame, delivered, tag, wrapping, self._cache_control)

    def _linked(
        self,
        exchange: Exchange,
        frame: FrameRef,
        request: FrameRequest,
        delivered: LinkedFrame,
        form: Form,
        preconditions: Preconditions,
    ) -> HttpResponse:
        exchange.record.update(delivery="url", bytes=delivered.size)
        if form.representation is Representation.JSON:
            # The document has no entity tag. The other form, a redirect, does not evaluate preconditions.
            preconditions.require_match(None)
            return linked_response(frame, delivered, self.delivery.frame_url(frame, request))
        return redirect_to_frame(self.delivery, frame, request, delivered, form, exchange.budget)

    def _not_modified(self, exchange: Exchange, tag: FrameTag) -> HttpResponse:
        exchange.record.update(delivery="not-modified", bytes=0)
        return not_modified_response(tag, self._cache_control)


def redirect_to_frame(
    delivery: FrameDelivery,
    frame: FrameRef,
    request: FrameRequest,
    delivered: LinkedFrame,
    form: Form,
    budget: TimeBudget,
) -> HttpResponse:
    """``303`` to the frame's copy, or to a multipart body with it."""
    if form.representation is Representation.MULTIPART:
        wrapping = envelope(frame.image_frame_id, form)
        url = delivery.multipart_url(frame, request, wrapping, delivered.size, budget)
    else:
        url = delivery.frame_url(frame, request, form.content_type).url
    return redirect_response(url, delivered.portion)


def _image_frame_id_of(body: dict[str, Any]) -> str:
    """Read the frame's id from either form of the body: that of HealthImaging's API, or that of its SDKs."""
    information = body.get("imageFrameInformation", {})
    if not isinstance(information, dict):
        raise InvalidRequest('imageFrameInformation must be an object: {"imageFrameId": "…"}.')
    given = {holder["imageFrameId"] for holder in (body, information) if _has_text(holder, "imageFrameId")}
    if len(given) != 1:
        raise InvalidRequest(
            'The body must name one frame: {"imageFrameId": "…"} or {"imageFrameInformation": {"imageFrameId": "…"}}.'
        )
    return str(given.pop())


def _has_text(holder: dict[str, Any], name: str) -> bool:
    return isinstance(holder.get(name), str)


def _held_tag(
    known_tags: list[tuple[str, FrameTag]], preconditions: Preconditions, negotiation: FrameNegotiation
) -> FrameTag | None:
    """The entity tag of a form that the client holds and still accepts, if the request names one.

    A JSON document only has to be acceptable: whether the client would prefer the bytes depends on the frame's media
    type, which is not known yet.
    """
    for content_type, tag in known_tags:
        if preconditions.is_held(tag.value):
            if tag.form.representation is Representation.JSON:
                is_sent = negotiation.accept.accepts(tag.form)
            else:
                is_sent = negotiation.accept.form_among(negotiation.forms(content_type)) == tag.form
            if is_sent:
                return tag
    return None


def _range_tags(image_frame_id: str, selected: Selection | None) -> set[str]:
    """The entity tags that `If-Range` may name: every tag of the frame's bytes, whatever their media type."""
    of_another_type = FrameTag.of(image_frame_id, Form(Representation.RAW, ""), selected)
    known = [tag for _, tag in known_frame_tags(image_frame_id, selected)]
    return {tag.value for tag in (*known, of_another_type) if tag.form.representation is Representation.RAW}


def portion_record(portion: Portion | None) -> dict[str, int]:
    if portion is None or portion.resolution is None:
        return {}
    return {"resolution": portion.resolution.number}
