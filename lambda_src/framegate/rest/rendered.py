"""Handles the routes of pictures: rendered frames and thumbnails (DICOM PS3.18, sections 8.3.5 and 10.4)."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from framegate.access.decision import Action
from framegate.bucket_layout import digest
from framegate.dicomweb.studies import StudyDirectory
from framegate.dicomweb.uids import SeriesAddress, require_uid
from framegate.healthimaging.media_types import of_stored
from framegate.identifiers import FrameRef, ImageSetRef
from framegate.index.latest_version import RecentVersions
from framegate.problems import InstanceNotFound, InvalidRequest, NotAcceptable
from framegate.rendering.drawer import FrameDrawer
from framegate.rendering.picture_index import PictureIndex
from framegate.rendering.request import (
    MEDIA_TYPES,
    PictureParameterError,
    PictureRequest,
    Viewport,
    parse_quality,
    parse_viewport,
    parse_window,
)
from framegate.rest import routes
from framegate.rest.access_check import require_access
from framegate.rest.frame_responses import redirect_response
from framegate.rest.http import INLINE_LIMIT, HttpResponse
from framegate.rest.negotiation import Form, FrameNegotiation, Representation
from framegate.rest.parameters import accept_of, frame_numbers
from framegate.rest.preconditions import Preconditions
from framegate.rest.uid_addresses import UidAddresses
from framegate.settings import CHANGEABLE_CACHE_CONTROL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from framegate.access.image_sets import ImageSetAccess
    from framegate.dicomweb.study_lists import ImageSetVersion
    from framegate.healthimaging.client import HealthImaging
    from framegate.index.frame_index import FrameIndex
    from framegate.rendering.drawing_process import DrawingProcess
    from framegate.rendering.picture_index import FrameToDraw
    from framegate.rest.exchange import Exchange, Handler
    from framegate.rest.http import HttpRequest
    from framegate.settings import Settings
    from framegate.storage.body_store import BodyStore
    from framegate.storage.object_store import ObjectStore

DRAWING_FORMAT = 1
"""Part of the entity tag of a picture. It changes when the same frame is drawn differently."""

THUMBNAIL_PIXELS = 256
"""Width and height into which a thumbnail fits if the client names none."""

DELIVERY = "rendered"
"""What log lines, metrics and audit records call the delivery of a picture."""

_FORMS = tuple(Form(Representation.RAW, each, None, (each,), is_default=each == MEDIA_TYPES[0]) for each in MEDIA_TYPES)


class PictureHandlers:
    """The handlers of the routes of pictures.

    Parameters
    ----------
    settings : Settings
        The served data stores, the caching, and the lifetime of pre-signed URLs.
    access : ImageSetAccess
        Decides who may read an image set.
    index : FrameIndex
        Knows the latest version of an image set.
    studies : StudyDirectory
        Finds the image sets of a study.
    pictures : PictureIndex
        Knows what is needed to draw a frame.
    drawer : FrameDrawer
        Draws frames.
    bodies : BodyStore
        Keeps the pictures that exceed the inline limit.
    """

    def __init__(
        self,
        settings: Settings,
        access: ImageSetAccess,
        index: FrameIndex,
        studies: StudyDirectory,
        pictures: PictureIndex,
        drawer: FrameDrawer,
        bodies: BodyStore,
    ) -> None:
        self._access = access
        self._versions = RecentVersions(index.latest)
        self._studies = studies
        self._addresses = UidAddresses(settings.datastore_ids, access, studies)
        self._pictures = pictures
        self._drawer = drawer
        self._bodies = bodies
        self._cache_control = CHANGEABLE_CACHE_CONTROL[settings.frame_caching]
        self._url_lifetime_seconds = settings.presigned_url_lifetime_seconds

    @classmethod
    def build(
        cls,
        settings: Settings,
        access: ImageSetAccess,
        index: FrameIndex,
        source: HealthImaging,
        objects: ObjectStore,
        bodies: BodyStore,
        process: DrawingProcess,
    ) -> PictureHandlers:
        """Build the handlers and their parts."""
        return cls(
            settings,
            access,
            index,
            StudyDirectory(source, objects, index.latest, settings.uid_hash_secret),
            PictureIndex(source, objects),
            FrameDrawer(source, process),
            bodies,
        )

    @property
    def by_operation(self) -> Mapping[str, Handler]:
        """The handler of each operation, by operation id."""
        handlers: dict[routes.Route, Handler] = {
            routes.RENDERED_FRAME_BY_ID: self._by_id,
            routes.THUMBNAIL_BY_ID: self._by_id,
            routes.RENDERED_INSTANCE: self._instance,
            routes.RENDERED_FRAME: self._frame,
            routes.STUDY_THUMBNAIL: self._study,
            routes.SERIES_THUMBNAIL: self._series,
            routes.INSTANCE_THUMBNAIL: self._instance,
            routes.FRAME_THUMBNAIL: self._frame,
        }
        return {each.operation_id: handler for route, handler in handlers.items() for each in route.operations}

    def _by_id(self, exchange: Exchange) -> HttpResponse:
        path, request = exchange.request.path, _picture_request(exchange.request)
        frame = FrameRef(path["datastoreId"], path["imageSetId"], path["imageFrameId"])
        exchange.record.update(
            datastore_id=frame.datastore_id, image_set_id=frame.image_set_id, image_frame_id=frame.image_frame_id
        )
        require_access(exchange, self._access, frame, Action.READ_FRAME)
        self._drawer.prepare()
        image_set = ImageSetRef(frame.datastore_id, frame.image_set_id)
        version_id = self._versions.find(image_set, exchange.budget)
        exchange.record.update(version_id=version_id)
        return self._answer(exchange, request, self._pictures.by_id(frame, version_id, exchange.budget))

    def _instance(self, exchange: Exchange) -> HttpResponse:
        # A thumbnail shows what is typical, and the picture of an instance what comes first.
        return self._of_instance(exchange, None if _is_thumbnail(exchange.request) else 1)

    def _frame(self, exchange: Exchange) -> HttpResponse:
        numbers = frame_numbers(exchange.request)
        if len(numbers) > 1:
            raise InvalidRequest("A picture shows one frame: name one frame number.")
        return self._of_instance(exchange, numbers[0])

    def _of_instance(self, exchange: Exchange, number: int | None) -> HttpResponse:
        request = _picture_request(exchange.request)
        uid = require_uid(routes.INSTANCE_UID.name, exchange.request.path[routes.INSTANCE_UID.name])
        series = self._addresses.series(exchange)
        self._drawer.prepare()
        for each in self._addresses.image_sets(exchange, series, Action.READ_FRAME):
            found = self._pictures.by_number(each.image_set, each.version_id, uid, number, exchange.budget)
            if found is not None:
                return self._answer_with(exchange, request, each, found)
        raise InstanceNotFound

    def _series(self, exchange: Exchange) -> HttpResponse:
        request, series = _picture_request(exchange.request), self._addresses.series(exchange)
        self._drawer.prepare()
        response = self._middle_of(exchange, request, series)
        if response is None:
            raise InstanceNotFound
        return response

    def _study(self, exchange: Exchange) -> HttpResponse:
        request, address = _picture_request(exchange.request), self._addresses.study(exchange)
        self._drawer.prepare()
        for uid in self._studies.study(address, exchange.budget).series_uids:
            try:
                response = self._middle_of(exchange, request, SeriesAddress(address, uid))
            except InstanceNotFound:
                # The series was deleted since the search.
                continue
            if response is not None:
                return response
        raise InstanceNotFound

    def _middle_of(self, exchange: Exchange, request: PictureRequest, series: SeriesAddress) -> HttpResponse | None:
        """Answer with the middle frame of a series; return None if the series has no images."""
        for each in self._addresses.image_sets(exchange, series, Action.READ_FRAME):
            found = self._pictures.middle(each.image_set, each.version_id, exchange.budget)
            if found is not None:
                return self._answer_with(exchange, request, each, found)
        return None

    def _answer_with(
        self, exchange: Exchange, request: PictureRequest, version: ImageSetVersion, found: FrameToDraw
    ) -> HttpResponse:
        exchange.subjects = [each for each in exchange.subjects if each["image_set_id"] == found.frame.image_set_id]
        exchange.record.update(
            image_set_id=found.frame.image_set_id,
            image_frame_id=found.frame.image_frame_id,
            version_id=version.version_id,
        )
        return self._answer(exchange, request, found)

    def _answer(self, exchange: Exchange, request: PictureRequest, found: FrameToDraw) -> HttpResponse:
        _require_image(found)
        name = f"{found.frame.image_frame_id}.{digest(found.name, request.name, str(DRAWING_FORMAT))}"
        headers = {
            "Content-Type": request.media_type,
            "ETag": f'"{name}"',
            "Cache-Control": self._cache_control,
        }
        if Preconditions.of(exchange.request).evaluate(headers["ETag"]):
            exchange.record.update(delivery="not-modified", bytes=0)
            return HttpResponse(HTTPStatus.NOT_MODIFIED, headers)
        exchange.record.update(delivery=DELIVERY)
        exchange.begin_read()
        if request.may_exceed(INLINE_LIMIT) and self._bodies.has(found.frame, name, exchange.budget):
            exchange.record.update(bytes=0)
            return self._redirect(exchange, found, name)
        picture = self._drawer.draw(found, request, exchange.budget)
        exchange.record.update(bytes=len(picture.content), upstream_bytes=picture.bytes_read)
        if picture.resolution is not None:
            exchange.record.update(resolution=picture.resolution)
        if len(picture.content) <= INLINE_LIMIT:
            return HttpResponse(HTTPStatus.OK, headers, picture.content)
        self._bodies.store(found.frame, name, request.media_type, [picture.content], exchange.budget)
        return self._redirect(exchange, found, name)

    def _redirect(self, exchange: Exchange, found: FrameToDraw, name: str) -> HttpResponse:
        url = self._bodies.presigned_url(
            found.frame,
            name,
            self._url_lifetime_seconds,
            for_head=exchange.request.method == "HEAD",
            request_id=exchange.request.request_id,
        )
        return redirect_response(url)


def _is_thumbnail(request: HttpRequest) -> bool:
    return request.route.endswith("/thumbnail")


def _picture_request(request: HttpRequest) -> PictureRequest:
    """Read what the client asks of the picture.

    Raises
    ------
    InvalidRequest
        If a parameter has another form, or asks for what pictures never have.
    NotAcceptable
        If the client accepts no picture.

    References
    ----------
    DICOM PS3.18, sections 8.3.5.1 (rendering) and 10.4.1.1.5 (thumbnails).
    """
    media_type = FrameNegotiation(accept_of(request), lambda _: _FORMS).form(MEDIA_TYPES[0]).media_type
    if request.query_values("annotation"):
        raise InvalidRequest("annotation is not supported: pictures show pixels only, and nothing about the patient.")
    profile = request.query(routes.ICC_PROFILE.name)
    if profile not in (None, *routes.ICC_PROFILE.type.values):
        raise InvalidRequest("iccprofile must be no, or left out: pictures have no colour profile.")
    viewport = request.query(routes.VIEWPORT.name)
    try:
        if _is_thumbnail(request):
            default = Viewport(THUMBNAIL_PIXELS, THUMBNAIL_PIXELS)
            return PictureRequest(
                media_type, viewport=default if viewport is None else parse_viewport(viewport, with_region=False)
            )
        quality, window = request.query(routes.QUALITY.name), request.query(routes.WINDOW.name)
        return PictureRequest(
            media_type,
            **({} if quality is None else {"quality": parse_quality(quality)}),
            viewport=None if viewport is None else parse_viewport(viewport),
            window=None if window is None else parse_window(window),
        )
    except PictureParameterError as error:
        raise InvalidRequest(f"{error}.") from None


def _require_image(found: FrameToDraw) -> None:
    """Check that a frame is no video.

    Raises
    ------
    NotAcceptable
        If it is one. The problem names the media type in which the frame is available.
    """
    stored_type = of_stored(found.transfer_syntax_uid) if found.transfer_syntax_uid else ""
    if stored_type.startswith("video/"):
        raise NotAcceptable([stored_type])
