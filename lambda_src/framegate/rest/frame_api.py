"""The routes of the REST API: requests validated, frames and indexes delivered, problems put into HTTP."""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.metrics import MetricUnit

from framegate import upstream_time
from framegate.access.caller import admit
from framegate.delivery.delivery import HANDOVER_TIME, DeliveryMode, LinkedFrame, QueuedFrame, Wanted
from framegate.identifiers import FrameRef, ImageSetRef
from framegate.observability import SERVICE, Metric, logger, metrics, stack_of
from framegate.problems import (
    DatastoreNotServed,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    Problem,
    UnknownRoute,
)
from framegate.rest.frame_responses import (
    HEADERS,
    inline_response,
    linked_response,
    not_modified_response,
    queued_response,
)
from framegate.rest.http import HttpRequest, HttpResponse, NotAnHttpRequestError
from framegate.rest.index_responses import index_not_modified_response, index_response, index_tag
from framegate.rest.negotiation import Accept, FrameNegotiation, Representation
from framegate.rest.parameters import byte_range, delivery_mode, index_query, selection
from framegate.rest.preconditions import FrameTag, Preconditions, known_frame_tags
from framegate.rest.problem_documents import problem_response
from framegate.rest.routes import (
    FRAME_BY_BODY,
    FRAME_BY_PATH,
    FRAME_BY_QUERY,
    FRAME_INDEX,
    IMAGE_FRAME_ID_IN_QUERY,
    ROUTES,
)
from framegate.storage.object_writer import CLEANUP_SECONDS
from framegate.time_budget import TimeBudget

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from framegate.delivery.delivery import FrameDelivery
    from framegate.delivery.portions import Portion, Selection
    from framegate.index.frame_index import FrameIndex
    from framegate.settings import Settings

ANSWER_TIME = CLEANUP_SECONDS + HANDOVER_TIME + 1.0
"""Seconds of an invocation that are kept back from the work: to clean up, to hand the frame over, and to answer."""

_NOT_HTTP = "This function answers requests of API Gateway's Lambda proxy integration (payload format 1.0)"

_EXPOSED_HEADERS = ", ".join(
    [
        "Accept-Ranges",
        "Content-Length",
        "Content-Range",
        "ETag",
        "Location",
        "Retry-After",
        "x-amzn-Remapped-Content-Length",
        "x-amzn-RequestId",
        *HEADERS.values(),
    ]
)


@dataclass(slots=True)
class _Exchange:
    """One request being answered, and what there will be to log of it."""

    request: HttpRequest
    budget: TimeBudget
    record: dict[str, str | int | float] = field(default_factory=dict)


class FrameApi:
    """The REST API.

    Parameters
    ----------
    settings : Settings
        Which data stores are served, and to pages of which origins.
    delivery : FrameDelivery
        What delivers frames.
    index : FrameIndex
        What knows the frames of image sets.
    """

    def __init__(self, settings: Settings, delivery: FrameDelivery, index: FrameIndex) -> None:
        self._settings = settings
        self._delivery = delivery
        self._index = index

    def answer(self, event: Mapping[str, Any], remaining_ms: int) -> dict[str, Any]:
        """Answer an event of API Gateway's Lambda proxy integration.

        Any other event, such as the console's test event or a warm-up, is answered with ``invalid-request`` and one
        line in the log. The line has nothing of the event.

        Parameters
        ----------
        event : mapping
            The event, payload format 1.0.
        remaining_ms : int
            Milliseconds until Lambda ends the invocation.
        """
        try:
            request = HttpRequest.from_event(event)
        except NotAnHttpRequestError as error:
            logger.warning("event is not an HTTP request of API Gateway", extra={"reason": str(error)})
            return problem_response(InvalidRequest(f"{_NOT_HTTP}: {error}."), request_id="").to_event()
        upstream_time.reset()
        exchange = _Exchange(request, TimeBudget(remaining_ms / 1000 - ANSWER_TIME))
        try:
            admit(event, self._settings.auth)
            response = self._route(exchange)
        except Problem as problem:
            response = problem_response(problem, request.request_id)
            exchange.record.update(problem=problem.slug, **problem.evidence)
        except Exception as error:
            response = problem_response(InternalError(), request.request_id)
            exchange.record.update(problem=InternalError.slug, error=type(error).__name__, stack=stack_of(error))
        if request.method == "HEAD":
            response = response.without_body()
            if "bytes" in exchange.record:
                exchange.record["bytes"] = 0
        response.headers.update(self._cors_headers(request), Vary=self._vary())
        self._report(exchange, response.status)
        return response.to_event()

    def _route(self, exchange: _Exchange) -> HttpResponse:
        methods = _DISPATCH.get(exchange.request.route)
        if methods is None:
            raise UnknownRoute([route.template for route in ROUTES])
        if exchange.request.method not in methods:
            raise MethodNotAllowed(tuple(methods))
        return methods[exchange.request.method](self, exchange)

    def _frame_by_path(self, exchange: _Exchange) -> HttpResponse:
        return self._frame(exchange, exchange.request.path["imageFrameId"])

    def _frame_by_query(self, exchange: _Exchange) -> HttpResponse:
        image_frame_id = exchange.request.query(IMAGE_FRAME_ID_IN_QUERY.name)
        if image_frame_id is None:
            raise InvalidRequest("The query must have the frame's id: ?imageFrameId=…")
        return self._frame(exchange, image_frame_id)

    def _frame_by_body(self, exchange: _Exchange) -> HttpResponse:
        return self._frame(exchange, _image_frame_id_of(exchange.request.json_object()))

    def _frame(self, exchange: _Exchange, image_frame_id: str) -> HttpResponse:
        request = exchange.request
        frame = FrameRef(request.path["datastoreId"], request.path["imageSetId"], image_frame_id)
        exchange.record.update(
            datastore_id=frame.datastore_id, image_set_id=frame.image_set_id, image_frame_id=frame.image_frame_id
        )
        self._check_datastore(frame)
        negotiation, preconditions = FrameNegotiation(Accept.parse(request.header("Accept"))), Preconditions.of(request)
        selected = selection(request)
        known_tags = known_frame_tags(image_frame_id, selected)
        wanted = Wanted(
            delivery_mode(request),
            negotiation,
            selected,
            byte_range(request, _range_tags(image_frame_id, known_tags, selected)),
            headers_only=request.method == "HEAD",
        )
        if wanted.mode is not DeliveryMode.URL and (held := _held_tag(known_tags, preconditions, negotiation)):
            return self._not_modified(exchange, held)
        delivered = self._delivery.deliver(frame, wanted, exchange.budget)
        if isinstance(delivered, QueuedFrame):
            exchange.record.update(delivery="queued", bytes=0)
            return queued_response(request.request_id)
        representation = negotiation.representation(delivered.content_type)
        exchange.record.update(content_type=delivered.content_type, **_portion_record(delivered.portion))
        if isinstance(delivered, LinkedFrame):
            if representation is not Representation.RAW:
                # The document has no entity tag; a redirect, which is no success, answers no precondition.
                preconditions.require_match(None)
            exchange.record.update(delivery="url", bytes=delivered.size)
            return linked_response(frame, delivered, representation)
        tag = FrameTag.of(image_frame_id, representation, delivered.content_type, selected)
        preconditions.require_match(tag.value)
        if preconditions.is_not_modified(tag.value):
            return self._not_modified(exchange, tag)
        exchange.record.update(
            delivery="inline" if representation is Representation.RAW else "json",
            bytes=delivered.size,
            upstream_bytes=delivered.bytes_read,
        )
        return inline_response(frame, delivered, tag)

    def _page_of_index(self, exchange: _Exchange) -> HttpResponse:
        request = exchange.request
        image_set = ImageSetRef(request.path["datastoreId"], request.path["imageSetId"])
        exchange.record.update(datastore_id=image_set.datastore_id, image_set_id=image_set.image_set_id)
        self._check_datastore(image_set)
        query = index_query(request)
        version_id = self._index.version(image_set, query.version_id, exchange.budget)
        exchange.record.update(version_id=version_id)
        tag = index_tag(image_set, version_id)
        preconditions = Preconditions.of(request)
        preconditions.require_match(tag)
        if preconditions.is_not_modified(tag):
            return index_not_modified_response(tag)
        page = self._index.page(image_set, version_id, query, exchange.budget)
        exchange.record.update(frames=len(page.frames))
        return index_response(image_set, version_id, page)

    def _check_datastore(self, image_set: ImageSetRef) -> None:
        if image_set.datastore_id not in self._settings.datastore_ids:
            raise DatastoreNotServed

    def _not_modified(self, exchange: _Exchange, tag: FrameTag) -> HttpResponse:
        exchange.record.update(delivery="not-modified", bytes=0)
        return not_modified_response(tag)

    def _cors_headers(self, request: HttpRequest) -> dict[str, str]:
        """What a browser needs to let a page read the answer (Fetch standard, "CORS protocol")."""
        allowed = self._settings.cors_origins
        headers = {"Access-Control-Expose-Headers": _EXPOSED_HEADERS}
        if "*" in allowed:
            headers["Access-Control-Allow-Origin"] = "*"
        elif (origin := request.header("Origin")) in allowed:
            headers["Access-Control-Allow-Origin"] = str(origin)
        return headers

    def _vary(self) -> str:
        return "Accept" if "*" in self._settings.cors_origins else "Accept, Origin"

    def _report(self, exchange: _Exchange, status: int) -> None:
        """One log line and one set of metrics for a request."""
        record = exchange.record
        waited_ms = round(upstream_time.waited_ms(), 1)
        logger.set_correlation_id(exchange.request.request_id)
        log = logger.error if status >= HTTPStatus.INTERNAL_SERVER_ERROR else logger.info
        log(
            "request answered",
            extra={"route": exchange.request.route, "status": int(status), **record, "upstream_ms": waited_ms},
        )
        if status >= HTTPStatus.BAD_REQUEST:
            metrics.add_dimension("status", str(int(status)))
            metrics.add_metric(Metric.ERRORS, MetricUnit.Count, 1)
        elif "delivery" in record:
            metrics.add_dimension("delivery", str(record["delivery"]))
            metrics.add_metric(Metric.FRAMES, MetricUnit.Count, 1)
            metrics.add_metric(Metric.FRAME_BYTES, MetricUnit.Bytes, int(record["bytes"]))
        else:
            metrics.add_dimension("delivery", "index")
            metrics.add_metric(Metric.INDEX_PAGES, MetricUnit.Count, 1)
        if waited_ms:
            metrics.add_metric(Metric.UPSTREAM_LATENCY, MetricUnit.Milliseconds, waited_ms)
        # And all of it over all deliveries and statuses: percentiles of each cannot be put together.
        metrics.add_dimensions(service=SERVICE)
        metrics.flush_metrics()


_HANDLERS: dict[str, Callable[[FrameApi, _Exchange], HttpResponse]] = {
    FRAME_BY_PATH.operation_id: FrameApi._frame_by_path,
    FRAME_BY_QUERY.operation_id: FrameApi._frame_by_query,
    FRAME_BY_BODY.operation_id: FrameApi._frame_by_body,
    FRAME_INDEX.operation_id: FrameApi._page_of_index,
}
_DISPATCH = {
    route.template: {
        method: _HANDLERS[operation.operation_id] for method, operation in route.operation_by_method.items()
    }
    for route in ROUTES
}
"""What answers each method of each path; an operation without a handler fails here, when the module is loaded."""


def _image_frame_id_of(body: dict[str, Any]) -> str:
    """The frame's id in the two forms that a body may have: HealthImaging's on the wire, and its SDKs'."""
    information = body.get("imageFrameInformation", {})
    if not isinstance(information, dict):
        raise InvalidRequest('imageFrameInformation must be an object: {"imageFrameId": "…"}.')
    given = {holder["imageFrameId"] for holder in (body, information) if _has_text(holder, "imageFrameId")}
    if len(given) != 1:
        raise InvalidRequest(
            'The body must name one frame: {"imageFrameId": "…"} or {"imageFrameInformation": {"imageFrameId": "…"}}.'
        )
    return str(given.pop())


def _held_tag(
    known_tags: list[FrameTag], preconditions: Preconditions, negotiation: FrameNegotiation
) -> FrameTag | None:
    """The entity tag of a representation that the client holds and still accepts, if the request names one."""
    return next(
        (
            tag
            for tag in known_tags
            if preconditions.is_held(tag.value) and negotiation.may_send(tag.representation, tag.content_type)
        ),
        None,
    )


def _range_tags(image_frame_id: str, known_tags: list[FrameTag], selected: Selection | None) -> set[str]:
    """The entity tags that `If-Range` may name: those of the bytes, with a known media type and with any other."""
    of_another_type = FrameTag.of(image_frame_id, Representation.RAW, "", selected)
    return {tag.value for tag in (*known_tags, of_another_type) if tag.representation is Representation.RAW}


def _has_text(holder: dict[str, Any], name: str) -> bool:
    return isinstance(holder.get(name), str)


def _portion_record(portion: Portion | None) -> dict[str, int]:
    if portion is None or portion.resolution is None:
        return {}
    return {"resolution": portion.resolution.number}
