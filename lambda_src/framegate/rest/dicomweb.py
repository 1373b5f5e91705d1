"""Handles the routes of DICOMweb (QIDO-RS and WADO-RS).

Their paths contain UIDs, and their queries patients' names. Log lines, problems and keys contain neither.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from itertools import chain
from typing import TYPE_CHECKING, NoReturn

from framegate.access.decision import Action
from framegate.bucket_layout import digest
from framegate.delivery.executor import LinkedFrame, QueuedFrame, read_beyond
from framegate.delivery.multipart import Envelope
from framegate.delivery.request import DeliveryMode, FrameRequest
from framegate.dicomweb.decoding import DecodedFrames
from framegate.dicomweb.instances import InstanceDirectory
from framegate.dicomweb.metadata import DicomMetadata
from framegate.dicomweb.searches import Searches, records_of_studies, studies_in
from framegate.dicomweb.studies import StudyDirectory
from framegate.dicomweb.uids import SeriesAddress, StudyAddress, hash_of, require_uid
from framegate.healthimaging.media_types import UNKNOWN
from framegate.identifiers import require_identifier
from framegate.problems import (
    DicomFilesOff,
    FrameNotFound,
    FramePending,
    ImageSetNotGranted,
    InstanceNotFound,
    InvalidRequest,
    NotSupported,
)
from framegate.rest import routes
from framegate.rest.access_check import require_access
from framegate.rest.dicom_files import DicomFileResponses
from framegate.rest.dicomweb_responses import DatasetResponses
from framegate.rest.frame_responses import inline_response, not_modified_response, redirect_response
from framegate.rest.frames import portion_record, redirect_to_frame
from framegate.rest.http import HttpResponse
from framegate.rest.negotiation import Form, FrameNegotiation, Representation, dicomweb_forms_of
from framegate.rest.parameters import accept_of, bulk_data_id, byte_range, frame_numbers, selection
from framegate.rest.preconditions import FrameTag, Preconditions, envelope
from framegate.rest.uid_addresses import UidAddresses
from framegate.settings import CHANGEABLE_CACHE_CONTROL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from framegate.access.image_sets import ImageSetAccess
    from framegate.delivery.executor import FrameDelivery
    from framegate.dicomweb.instances import InstanceFrame
    from framegate.dicomweb.study_lists import ImageSetVersion
    from framegate.healthimaging.client import FrameStream, HealthImaging
    from framegate.identifiers import ImageSetRef
    from framegate.index.frame_index import FrameIndex
    from framegate.rest.exchange import Exchange, Handler
    from framegate.settings import Settings
    from framegate.storage.body_store import BodyStore
    from framegate.storage.object_store import ObjectStore

_BULK_DATA_FORMS = (
    Form(Representation.RAW, UNKNOWN, None, (UNKNOWN,), is_default=True),
    Form(Representation.MULTIPART, UNKNOWN, None, (UNKNOWN,)),
)


@dataclass(frozen=True, slots=True)
class _Instance:
    """An instance, and the image sets that may contain it."""

    series: SeriesAddress
    image_sets: tuple[ImageSetVersion, ...]
    sop_instance_uid: str


class DicomWebHandlers:
    """The handlers of the DICOMweb routes.

    Parameters
    ----------
    settings : Settings
        The served data stores and the lifetime of pre-signed URLs.
    access : ImageSetAccess
        Decides who may read an image set.
    delivery : FrameDelivery
        Delivers frames.
    studies : StudyDirectory
        Finds the image sets of a series.
    instances : InstanceDirectory
        Finds the frames of an instance.
    metadata : DicomMetadata
        Keeps the metadata of series.
    source : HealthImaging
        Searches, decodes frames, and returns bulk data.
    bodies : BodyStore
        Keeps the bodies that exceed the inline limit.
    files : DicomFileResponses
        Delivers DICOM files.
    """

    def __init__(
        self,
        settings: Settings,
        access: ImageSetAccess,
        delivery: FrameDelivery,
        studies: StudyDirectory,
        instances: InstanceDirectory,
        metadata: DicomMetadata,
        source: HealthImaging,
        bodies: BodyStore,
        files: DicomFileResponses,
    ) -> None:
        self._files = files
        self._settings = settings
        self._access = access
        self._delivery = delivery
        self._studies = studies
        self._addresses = UidAddresses(settings.datastore_ids, access, studies)
        self._instances = instances
        self._source = source
        self._searches = Searches(source)
        self._decoded = DecodedFrames(source)
        self._bodies = bodies
        self._cache_control = CHANGEABLE_CACHE_CONTROL[settings.frame_caching]
        self._datasets = DatasetResponses(
            metadata, bodies, delivery.inline_limit, settings.presigned_url_lifetime_seconds
        )

    @classmethod
    def build(
        cls,
        settings: Settings,
        access: ImageSetAccess,
        delivery: FrameDelivery,
        index: FrameIndex,
        source: HealthImaging,
        objects: ObjectStore,
        bodies: BodyStore,
    ) -> DicomWebHandlers:
        """Build the handlers and their parts."""
        return cls(
            settings,
            access,
            delivery,
            StudyDirectory(source, objects, index.latest, settings.uid_hash_secret),
            InstanceDirectory(index, objects),
            DicomMetadata(source, objects),
            source,
            bodies,
            DicomFileResponses(settings, source, objects, bodies, delivery.inline_limit),
        )

    @property
    def by_operation(self) -> Mapping[str, Handler]:
        """The handler of each operation, by operation id."""
        handler_by_returns: dict[str, Handler] = {
            "Nothing": self._unsupported,
            "InstanceFrames": self._frames,
            "BulkData": self._bulk_data,
        }
        handlers = {
            operation.operation_id: handler_by_returns[operation.returns]
            for route in routes.ROUTES
            for operation in route.operations
            if operation.returns in handler_by_returns
        }
        searches = {
            operation.operation_id: partial(self._search, route.template)
            for route in routes.SEARCH_ROUTES
            for operation in route.operations
        }
        datasets = {
            routes.STUDY_METADATA_ROUTE: self._study_metadata,
            routes.SERIES_METADATA_ROUTE: self._series_metadata,
            routes.INSTANCE_METADATA_ROUTE: self._instance_metadata,
            routes.SERIES_FILES_ROUTE: self._series_files,
            routes.INSTANCE_FILE_ROUTE: self._instance_file,
        }
        return {
            **handlers,
            **searches,
            **{
                operation.operation_id: handler for route, handler in datasets.items() for operation in route.operations
            },
        }

    # Addresses

    def _instance(self, exchange: Exchange, action: Action) -> _Instance:
        series = self._addresses.series(exchange)
        uid = require_uid(routes.INSTANCE_UID.name, exchange.request.path[routes.INSTANCE_UID.name])
        return _Instance(series, self._addresses.image_sets(exchange, series, action), uid)

    # Searches and metadata

    def _search(self, template: str, exchange: Exchange) -> HttpResponse:
        request = exchange.request
        datastore_id = require_identifier("datastoreId", request.path["datastoreId"])
        self._addresses.require_served(exchange, datastore_id)
        _, _, *segments = template.strip("/").split("/")
        uids = {f"{{{each.name}}}": each.name for each in (routes.STUDY_UID, routes.SERIES_UID)}
        path = [require_uid(uids[each], request.path[uids[each]]) if each in uids else each for each in segments]
        form, query = self._datasets.form(request), request.query_pairs()
        study_uids = self._searchable_studies(exchange, datastore_id, studies_in(path, query))
        exchange.begin_read()
        found = self._searches.search(datastore_id, path, query, request.base_url, exchange.budget)
        if study_uids is not None:
            found = records_of_studies(found, study_uids)
        return self._datasets.search_response(exchange, form, found)

    def _searchable_studies(
        self, exchange: Exchange, datastore_id: str, study_uids: frozenset[str]
    ) -> frozenset[str] | None:
        """Return the studies whose records a search may show to the caller; None for all.

        A caller who may read only some image sets can search within a study of which all primary image sets are
        granted. A token that lists studies also allows other searches, whose results show those studies only.

        Raises
        ------
        ImageSetNotGranted
            If the caller may read only some image sets, and the search is not limited to what is granted.
        """
        caller = exchange.caller
        if not self._access.restricts(caller):
            return None
        if len(study_uids) == 1:
            study = self._studies.study(StudyAddress(datastore_id, *study_uids), exchange.budget)
            for each in study.image_sets:
                if each.is_primary:
                    require_access(exchange, self._access, each.image_set, Action.SEARCH)
            return study_uids
        if caller.study_uids is None or self._access.asks_function:
            raise ImageSetNotGranted
        return caller.study_uids

    def _series_metadata(self, exchange: Exchange) -> HttpResponse:
        series = self._addresses.series(exchange)
        form = self._datasets.form(exchange.request)
        image_sets = self._addresses.image_sets(exchange, series, Action.READ_METADATA)
        exchange.begin_read()
        return self._datasets.series_response(exchange, form, series, image_sets)

    def _study_metadata(self, exchange: Exchange) -> HttpResponse:
        address = self._addresses.study(exchange)
        form = self._datasets.form(exchange.request)
        study = self._studies.study(address, exchange.budget)
        parts = []
        for uid in study.series_uids:
            series = SeriesAddress(address, uid)
            try:
                parts.append((series, self._addresses.image_sets(exchange, series, Action.READ_METADATA)))
            except InstanceNotFound:
                # The series was deleted since the search.
                continue
        if not parts:
            raise InstanceNotFound
        exchange.begin_read()
        return self._datasets.study_response(exchange, form, parts)

    def _instance_metadata(self, exchange: Exchange) -> HttpResponse:
        instance = self._instance(exchange, Action.READ_METADATA)
        form = self._datasets.form(exchange.request)
        exchange.begin_read()
        return self._datasets.instance_response(
            exchange, form, instance.series, instance.image_sets, instance.sop_instance_uid
        )

    # Frames

    def _frames(self, exchange: Exchange) -> HttpResponse:
        numbers = frame_numbers(exchange.request)
        instance = self._instance(exchange, Action.READ_FRAME)
        requested = self._instances.frames(instance.image_sets, instance.sop_instance_uid, numbers, exchange.budget)
        read = {each.frame.image_set_id for each in requested}
        exchange.subjects = [each for each in exchange.subjects if each["image_set_id"] in read]
        exchange.record.update(exchange.subjects[0])
        exchange.record.update(frames=len(requested))
        if len(requested) == 1:
            exchange.record.update(image_frame_id=requested[0].frame.image_frame_id)
            return self._one_frame(exchange, instance, numbers[0], requested[0])
        return self._several_frames(exchange, instance, numbers, requested)

    def _one_frame(self, exchange: Exchange, instance: _Instance, number: int, entry: InstanceFrame) -> HttpResponse:
        request, frame_id = exchange.request, entry.frame.image_frame_id
        negotiation = _negotiation(exchange, entry)
        form = negotiation.form(entry.content_type)
        selected = selection(request)
        preconditions = Preconditions.of(request)
        tag = FrameTag.of(frame_id, form, selected)
        if preconditions.is_held(tag.value):
            return self._not_modified(exchange, tag)
        if form.is_decoded:
            if preconditions.evaluate(tag.value):
                return self._not_modified(exchange, tag)
            return self._decoded_frames(exchange, instance, [number], frame_id, tag)
        frame_request = FrameRequest(
            DeliveryMode.AUTO,
            negotiation,
            selected,
            byte_range(request, lambda: {tag.value}),
            headers_only=request.method == "HEAD",
            request_id=request.request_id,
        )
        exchange.begin_read()
        delivered = self._delivery.deliver(entry.frame, frame_request, exchange.budget)
        if isinstance(delivered, QueuedFrame):
            raise FramePending
        form = negotiation.form(delivered.content_type)
        tag, wrapping = FrameTag.of(frame_id, form, selected), envelope(frame_id, form, selected)
        exchange.record.update(content_type=delivered.content_type, **portion_record(delivered.portion))
        if isinstance(delivered, LinkedFrame):
            exchange.record.update(delivery="url", bytes=delivered.size)
            return redirect_to_frame(self._delivery, entry.frame, frame_request, delivered, form, exchange.budget)
        if preconditions.evaluate(tag.value):
            return self._not_modified(exchange, tag)
        exchange.record.update(delivery="inline", bytes=delivered.size, upstream_bytes=delivered.bytes_read)
        return inline_response(entry.frame, delivered, tag, wrapping, self._cache_control)

    def _several_frames(
        self, exchange: Exchange, instance: _Instance, numbers: Sequence[int], entries: Sequence[InstanceFrame]
    ) -> HttpResponse:
        request = exchange.request
        if selection(request) is not None:
            raise InvalidRequest("size, resolution and levels apply to a request for one frame.")
        negotiation = _negotiation(exchange, entries[0], multipart_only=True)
        form = negotiation.form(entries[0].content_type)
        name = digest(*(each.frame.image_frame_id for each in entries))
        tag = FrameTag.of(name, form)
        if Preconditions.of(request).evaluate(tag.value):
            return self._not_modified(exchange, tag)
        if form.is_decoded:
            return self._decoded_frames(exchange, instance, numbers, name, tag)
        wrapping = envelope(name, form)
        sizes = [each.size for each in entries if each.size is not None]
        size = wrapping.size_of(sizes) if len(sizes) == len(entries) else None
        exchange.record.update(content_type=entries[0].content_type)
        headers = self._frame_headers(tag)
        if request.method == "HEAD" and size is not None and size <= self._delivery.inline_limit:
            exchange.record.update(delivery="inline", bytes=size)
            return HttpResponse(HTTPStatus.OK, {"Content-Length": str(size), **headers})
        frame_request = FrameRequest(DeliveryMode.AUTO, negotiation, request_id=request.request_id)
        exchange.begin_read()
        parts = self._delivery.contents([each.frame for each in entries], frame_request, exchange.budget)
        return self._body(exchange, entries[0].frame, wrapping, wrapping.wrap(parts), headers, size)

    def _decoded_frames(
        self, exchange: Exchange, instance: _Instance, numbers: Sequence[int], name: str, tag: FrameTag
    ) -> HttpResponse:
        """Return frames that HealthImaging decodes, within its quota of 50 calls a second."""
        if selection(exchange.request) is not None:
            raise InvalidRequest("size, resolution and levels apply to stored frames, not to decoded ones.")
        wrapping, is_multipart = envelope(name, tag.form), tag.form.representation is Representation.MULTIPART
        image_set, headers = instance.image_sets[0].image_set, self._frame_headers(tag)
        exchange.begin_read()

        def use(parts: Iterator[Iterator[bytes]]) -> HttpResponse:
            pieces = wrapping.wrap(parts) if is_multipart else chain.from_iterable(parts)
            return self._body(exchange, image_set, wrapping, pieces, headers, None, tag.content_type)

        return self._decoded.fetch(instance.series, instance.sop_instance_uid, numbers, use, exchange.budget)

    def _body(
        self,
        exchange: Exchange,
        image_set: ImageSetRef,
        wrapping: Envelope,
        pieces: Iterable[bytes],
        headers: dict[str, str],
        size: int | None,
        content_type: str | None = None,
    ) -> HttpResponse:
        """``200`` with a body, or ``303`` to the stored body if it exceeds the inline limit."""
        content_type = content_type or wrapping.content_type
        name = f"{wrapping.name}.{digest(wrapping.part_type, content_type)}"
        is_stored = False
        rest = iter(pieces)
        if size is not None and size > self._delivery.inline_limit:
            head, is_stored = b"", self._bodies.has(image_set, name, exchange.budget)
        else:
            head = read_beyond(rest, self._delivery.inline_limit)
            if len(head) <= self._delivery.inline_limit:
                exchange.record.update(delivery="inline", bytes=len(head))
                return HttpResponse(HTTPStatus.OK, headers, head)
        if not is_stored:
            content = chain([head], rest)
            size = self._bodies.store(image_set, name, content_type, content, exchange.budget, expected_size=size).size
        exchange.record.update(delivery="url", bytes=size or 0)
        url = self._bodies.presigned_url(
            image_set,
            name,
            self._settings.presigned_url_lifetime_seconds,
            for_head=exchange.request.method == "HEAD",
            request_id=exchange.request.request_id,
        )
        return redirect_response(url)

    def _frame_headers(self, tag: FrameTag) -> dict[str, str]:
        return {"Content-Type": tag.content_type, "ETag": tag.value, "Cache-Control": self._cache_control}

    def _not_modified(self, exchange: Exchange, tag: FrameTag) -> HttpResponse:
        exchange.record.update(delivery="not-modified", bytes=0)
        return not_modified_response(tag, self._cache_control)

    # DICOM files

    def _series_files(self, exchange: Exchange) -> HttpResponse:
        series = self._series_of_files(exchange)
        return self._files.series(exchange, self._image_sets_of_files(exchange, series))

    def _instance_file(self, exchange: Exchange) -> HttpResponse:
        series = self._series_of_files(exchange)
        uid = require_uid(routes.INSTANCE_UID.name, exchange.request.path[routes.INSTANCE_UID.name])
        return self._files.instance(exchange, self._image_sets_of_files(exchange, series), uid)

    def _series_of_files(self, exchange: Exchange) -> SeriesAddress:
        series = self._addresses.series(exchange)
        if not self._settings.dicom_files:
            raise DicomFilesOff
        return series

    def _image_sets_of_files(self, exchange: Exchange, series: SeriesAddress) -> tuple[ImageSetVersion, ...]:
        """Find the image sets of a series. A DICOM file holds metadata and frames, so both must be granted."""
        image_sets = self._addresses.image_sets(exchange, series, Action.READ_METADATA)
        for each in image_sets:
            require_access(exchange, self._access, each.image_set, Action.READ_FRAME)
        return image_sets

    # Others

    def _bulk_data(self, exchange: Exchange) -> HttpResponse:
        identifier = bulk_data_id(exchange.request)
        instance = self._instance(exchange, Action.READ_METADATA)
        negotiation = FrameNegotiation(accept_of(exchange.request), lambda _: _BULK_DATA_FORMS)
        form = negotiation.form(UNKNOWN)
        name = hash_of(self._settings.uid_hash_secret, instance.sop_instance_uid, identifier)
        is_multipart = form.representation is Representation.MULTIPART

        def use(stream: FrameStream) -> HttpResponse:
            wrapping = Envelope(name, stream.content_type)
            pieces = wrapping.wrap([stream]) if is_multipart else iter(stream)
            content_type = wrapping.content_type if is_multipart else stream.content_type
            headers = {"Content-Type": content_type, "Cache-Control": "private, no-cache"}
            image_set = instance.image_sets[0].image_set
            return self._body(exchange, image_set, wrapping, pieces, headers, None, content_type)

        series = instance.series
        path = (*series.path, "instances", instance.sop_instance_uid, "bulkdata", identifier)
        exchange.begin_read()
        try:
            return self._source.fetch_dicomweb(
                series.study.datastore_id, path, series.query, UNKNOWN, use, exchange.budget
            )
        except FrameNotFound:
            raise InstanceNotFound from None

    def _unsupported(self, exchange: Exchange) -> NoReturn:
        raise NotSupported


def _negotiation(exchange: Exchange, entry: InstanceFrame, *, multipart_only: bool = False) -> FrameNegotiation:
    """Negotiate the forms of a frame. Several frames need a multipart body, so a wildcard requests one then."""

    def forms(content_type: str) -> tuple[Form, ...]:
        every = dicomweb_forms_of(content_type, entry.transfer_syntax)
        if not multipart_only:
            return every
        return tuple(
            replace(each, is_default=not each.is_decoded)
            for each in every
            if each.representation is Representation.MULTIPART
        )

    return FrameNegotiation(accept_of(exchange.request), forms)
