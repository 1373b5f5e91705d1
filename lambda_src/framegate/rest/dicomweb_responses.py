"""Turns DICOM JSON into HTTP responses: compressed if the client accepts that, by redirect if it is too large."""

from __future__ import annotations

from http import HTTPStatus
from itertools import chain
from typing import TYPE_CHECKING

from framegate.delivery.executor import read_beyond
from framegate.dicomweb.metadata import DICOM_JSON, StoredMetadata, compressed, study_name
from framegate.problems import ResultTooLarge
from framegate.rest.frame_responses import redirect_response
from framegate.rest.http import HttpResponse
from framegate.rest.negotiation import JSON, Form, FrameNegotiation, Representation
from framegate.rest.parameters import accept_of
from framegate.rest.preconditions import Preconditions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from framegate.dicomweb.metadata import DicomMetadata
    from framegate.dicomweb.study_lists import ImageSetVersion
    from framegate.dicomweb.uids import SeriesAddress
    from framegate.rest.exchange import Exchange
    from framegate.rest.http import HttpRequest
    from framegate.storage.body_store import BodyStore

MIN_COMPRESSED_BYTES = 1_024
"""Minimum size of a search result that is compressed. A shorter one fits into one packet anyway."""

_FORMS = (
    Form(Representation.RAW, DICOM_JSON, None, (DICOM_JSON,), is_default=True),
    Form(Representation.RAW, JSON, None, (JSON,)),
)


def accepts_gzip(request: HttpRequest) -> bool:
    """Whether the client accepts gzip.

    References
    ----------
    RFC 9110, section 12.5.3. Without the header, Framegate sends text, as clients like curl expect.
    """
    weights = {}
    for element in (request.header("Accept-Encoding") or "").lower().split(","):
        name, _, parameters = element.partition(";")
        weights[name.strip()] = parameters.replace(" ", "").rstrip("0.") != "q="
    return weights.get("gzip", weights.get("x-gzip", weights.get("*", False)))


class DatasetResponses:
    """The responses with DICOM JSON.

    Parameters
    ----------
    metadata : DicomMetadata
        Keeps the metadata of series.
    bodies : BodyStore
        Keeps the bodies that exceed the inline limit.
    inline_limit : int
        Bytes that a response can hold.
    url_lifetime_seconds : int
        Seconds for which a pre-signed URL is valid.
    """

    def __init__(
        self, metadata: DicomMetadata, bodies: BodyStore, inline_limit: int, url_lifetime_seconds: int
    ) -> None:
        self._metadata = metadata
        self._bodies = bodies
        self._inline_limit = inline_limit
        self._url_lifetime_seconds = url_lifetime_seconds

    def form(self, request: HttpRequest) -> Form:
        """Choose the media type.

        Raises
        ------
        NotAcceptable
            If the client accepts no JSON.
        """
        return FrameNegotiation(accept_of(request), lambda _: _FORMS).form(DICOM_JSON)

    def search_response(self, exchange: Exchange, form: Form, found: bytes) -> HttpResponse:
        """``200`` with the result of a search, which no cache keeps.

        Raises
        ------
        ResultTooLarge
            If the result does not fit into a response.
        """
        headers = {"Content-Type": form.content_type, "Cache-Control": "no-store", "Vary": "Accept-Encoding"}
        if len(found) >= MIN_COMPRESSED_BYTES and accepts_gzip(exchange.request):
            found = b"".join(compressed([found]))
            headers["Content-Encoding"] = "gzip"
        if len(found) > self._inline_limit:
            raise ResultTooLarge(self._inline_limit)
        exchange.record.update(datasets_bytes=len(found))
        return HttpResponse(HTTPStatus.OK, headers, found)

    def series_response(
        self, exchange: Exchange, form: Form, series: SeriesAddress, image_sets: tuple[ImageSetVersion, ...]
    ) -> HttpResponse:
        """``200`` with the metadata of a series, or ``303`` to it."""
        stored = self._metadata.describe(series, image_sets, exchange.request.base_url)
        return self._answer(
            exchange,
            form,
            stored,
            stored.name,
            plain=lambda: self._metadata.plain(stored, exchange.budget),
            packed=lambda: self._metadata.read(stored, exchange.budget),
            prepare=lambda: self._prepare(exchange, [(series, stored)]),
        )

    def study_response(
        self, exchange: Exchange, form: Form, parts: Sequence[tuple[SeriesAddress, tuple[ImageSetVersion, ...]]]
    ) -> HttpResponse:
        """``200`` with the metadata of all series of a study, or ``303`` to it."""
        base_url = exchange.request.base_url
        stored = [(series, self._metadata.describe(series, image_sets, base_url)) for series, image_sets in parts]
        every = [each for _, each in stored]

        def plain() -> Iterator[bytes]:
            return self._metadata.joined(every, exchange.budget)

        return self._answer(
            exchange,
            form,
            every[0],
            study_name(every),
            plain=plain,
            packed=lambda: compressed(plain()),
            prepare=lambda: self._prepare(exchange, stored),
        )

    def instance_response(
        self,
        exchange: Exchange,
        form: Form,
        series: SeriesAddress,
        image_sets: tuple[ImageSetVersion, ...],
        sop_instance_uid: str,
    ) -> HttpResponse:
        """``200`` with the metadata of an instance."""
        stored = self._metadata.describe(series, image_sets, exchange.request.base_url)
        self._prepare(exchange, [(series, stored)])
        instance = self._metadata.instance(stored, sop_instance_uid, exchange.budget)
        name = self._metadata.instance_name(stored, sop_instance_uid)

        def plain() -> Iterator[bytes]:
            return iter([b"[", instance.encode(), b"]"])

        return self._answer(
            exchange, form, stored, name, plain=plain, packed=lambda: compressed(plain()), prepare=lambda: None
        )

    def _prepare(self, exchange: Exchange, parts: Sequence[tuple[SeriesAddress, StoredMetadata]]) -> None:
        for series, stored in parts:
            self._metadata.series(series, stored, exchange.request.base_url, exchange.budget)

    def _answer(
        self,
        exchange: Exchange,
        form: Form,
        stored: StoredMetadata,
        name: str,
        *,
        plain: Callable[[], Iterable[bytes]],
        packed: Callable[[], Iterable[bytes]],
        prepare: Callable[[], None],
    ) -> HttpResponse:
        request = exchange.request
        is_packed = accepts_gzip(request)
        suffix = f"{'.gz' if is_packed else ''}.{'json' if form.media_type == JSON else 'dicom'}"
        headers = {
            "Content-Type": form.content_type,
            "ETag": f'"{name}{suffix}"',
            # The versions of the image sets may change, and the response has patients' names.
            "Cache-Control": "private, no-cache",
            "Vary": "Accept-Encoding",
        }
        if Preconditions.of(request).evaluate(headers["ETag"]):
            exchange.record.update(datasets_bytes=0)
            return HttpResponse(HTTPStatus.NOT_MODIFIED, headers)
        prepare()
        if is_packed:
            headers["Content-Encoding"] = "gzip"
        pieces = iter(packed() if is_packed else plain())
        head = read_beyond(pieces, self._inline_limit)
        if len(head) <= self._inline_limit:
            exchange.record.update(datasets_bytes=len(head))
            return HttpResponse(HTTPStatus.OK, headers, head)
        image_set, body_name = stored.image_sets[0].image_set, f"{name}{suffix}"
        if not self._bodies.has(image_set, body_name, exchange.budget):
            self._bodies.store(
                image_set,
                body_name,
                form.content_type,
                chain([head], pieces),
                exchange.budget,
                content_encoding="gzip" if is_packed else None,
            )
        exchange.record.update(datasets_bytes=0)
        url = self._bodies.presigned_url(
            image_set,
            body_name,
            self._url_lifetime_seconds,
            for_head=request.method == "HEAD",
            request_id=request.request_id,
        )
        return redirect_response(url)
