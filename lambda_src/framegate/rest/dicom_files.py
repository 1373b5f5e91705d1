"""Delivers DICOM files: builds each once, keeps it in the bucket, and redirects to what exceeds the inline limit."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from framegate.bucket_layout import claim_key, digest
from framegate.datasets.instance_files import TRANSFER_SYNTAX, InstanceFiles
from framegate.datasets.part10 import DICOM_FILE, FORMAT
from framegate.datasets.series import SeriesReader
from framegate.datasets.writer import InstanceWriter, StoredFrames, Unpaced
from framegate.delivery.executor import read_beyond
from framegate.delivery.multipart import Envelope
from framegate.problems import FrameNotFound, InstanceNotFound
from framegate.rest.frame_responses import redirect_response
from framegate.rest.http import HttpResponse
from framegate.rest.negotiation import Form, FrameNegotiation, Representation
from framegate.rest.parameters import accept_of
from framegate.rest.preconditions import Preconditions
from framegate.storage.frame_store import FrameStore
from framegate.storage.shared_work import SharedWork

if TYPE_CHECKING:
    from collections.abc import Iterator

    from framegate.datasets.series import InstanceSource
    from framegate.dicomweb.study_lists import ImageSetVersion
    from framegate.healthimaging.client import HealthImaging
    from framegate.identifiers import ImageSetRef
    from framegate.rest.exchange import Exchange
    from framegate.settings import Settings
    from framegate.storage.body_store import BodyStore
    from framegate.storage.object_store import ObjectStore, StoredObject
    from framegate.time_budget import TimeBudget

MAX_CONCURRENT_FILES = 8
"""Maximum number of files that a request for a series builds at the same time, and of frames that it fetches ahead."""

_CACHE_CONTROL = "private, no-cache"
"""The versions of the image sets may change, and the files have patients' names."""


def _forms(transfer_syntax: str | None, *, is_series: bool) -> tuple[Form, ...]:
    """Return the forms of a file, or of several. Without ``transfer-syntax``, a client gets what is stored."""
    parts = Form(Representation.MULTIPART, DICOM_FILE, transfer_syntax, (DICOM_FILE,), is_default=is_series)
    if is_series:
        return (parts,)
    return Form(Representation.RAW, DICOM_FILE, transfer_syntax, (DICOM_FILE,), is_default=True), parts


@dataclass(frozen=True, slots=True)
class _File:
    """A stored file: its image set, its name, its size in bytes, and its transfer syntax, if it is known."""

    image_set: ImageSetRef
    name: str
    size: int
    transfer_syntax: str | None

    @classmethod
    def of(cls, image_set: ImageSetRef, name: str, stored: StoredObject) -> _File:
        return cls(image_set, name, stored.size, stored.metadata.get(TRANSFER_SYNTAX))


class DicomFileResponses:
    """The responses with DICOM files.

    Parameters
    ----------
    settings : Settings
        The secret of the hashes in keys, and the lifetime of pre-signed URLs.
    source : HealthImaging
        Provides what the files are made of.
    objects : ObjectStore
        Keeps the files.
    bodies : BodyStore
        Keeps multipart bodies that exceed the inline limit.
    inline_limit : int
        Bytes that a response can hold.
    """

    def __init__(
        self, settings: Settings, source: HealthImaging, objects: ObjectStore, bodies: BodyStore, inline_limit: int
    ) -> None:
        self._bodies = bodies
        self._inline_limit = inline_limit
        self._url_lifetime_seconds = settings.presigned_url_lifetime_seconds
        self._series_reader = SeriesReader(source, settings.uid_hash_secret)
        self._files = InstanceFiles(objects)
        self._frames = FrameStore(objects)
        self._work = SharedWork(objects)
        # Threads that fetch frames must not wait for threads that build files.
        self._builders = ThreadPoolExecutor(MAX_CONCURRENT_FILES, thread_name_prefix="files")
        fetchers = ThreadPoolExecutor(MAX_CONCURRENT_FILES, thread_name_prefix="ahead")
        self._writer = InstanceWriter(source, self._frames, self._files, Unpaced(), fetchers)

    def instance(
        self, exchange: Exchange, versions: tuple[ImageSetVersion, ...], sop_instance_uid: str
    ) -> HttpResponse:
        """``200`` with the file of an instance, alone or in a multipart body, or ``303`` to it.

        Raises
        ------
        InstanceNotFound
            If no image set has the instance.
        NotAcceptable
            If the client accepts no DICOM file.
        Problem
            As `SeriesReader` and `InstanceWriter` raise it.
        """
        name = digest(*_identities(versions), sop_instance_uid, str(FORMAT))
        form = _form(exchange, None, is_series=False)
        headers, not_modified = self._headers(exchange, f"{name}.{form.representation}", form, name)
        if not_modified:
            return not_modified
        exchange.begin_read()
        file = self._file(versions, sop_instance_uid, exchange.budget)
        form = _form(exchange, file.transfer_syntax, is_series=False)
        exchange.record.update(image_set_id=file.image_set.image_set_id)
        if form.representation is Representation.MULTIPART:
            return self._parts(exchange, Envelope(name, form.content_type), file.image_set, [file], headers)
        headers["Content-Type"] = form.content_type
        if file.size > self._inline_limit:
            url = self._files.presigned_url(
                file.image_set,
                file.name,
                self._url_lifetime_seconds,
                cache_control=_CACHE_CONTROL,
                for_head=exchange.request.method == "HEAD",
                request_id=exchange.request.request_id,
            )
            exchange.record.update(delivery="url", bytes=file.size)
            return redirect_response(url)
        content = b"".join(self._files.read(file.image_set, file.name, exchange.budget))
        exchange.record.update(delivery="inline", bytes=len(content))
        return HttpResponse(HTTPStatus.OK, headers, content)

    def series(self, exchange: Exchange, versions: tuple[ImageSetVersion, ...]) -> HttpResponse:
        """``200`` with the files of a series in a multipart body, or ``303`` to it; see `instance` for errors."""
        name = f"series-{digest(*_identities(versions), str(FORMAT))}"
        image_set = versions[0].image_set
        headers, not_modified = self._headers(exchange, name, _form(exchange, None, is_series=True), name)
        if not_modified:
            return not_modified
        exchange.begin_read()
        if self._bodies.has(image_set, name, exchange.budget):
            return self._redirect_to_body(exchange, image_set, name, 0)
        files = [file for version in versions for file in self._all_files(version, exchange.budget)]
        if not files:
            raise InstanceNotFound
        syntaxes = {file.transfer_syntax for file in files}
        form = _form(exchange, syntaxes.pop() if len(syntaxes) == 1 else None, is_series=True)
        return self._parts(exchange, Envelope(name, form.content_type), image_set, files, headers)

    def _headers(
        self, exchange: Exchange, tag_name: str, form: Form, name: str
    ) -> tuple[dict[str, str], HttpResponse | None]:
        """Return the headers of the response, and a ``304`` if the client holds the representation."""
        tag = f'"{tag_name}"'
        is_multipart = form.representation is Representation.MULTIPART
        content_type = Envelope(name, form.content_type).content_type if is_multipart else form.content_type
        headers = {"Content-Type": content_type, "ETag": tag, "Cache-Control": _CACHE_CONTROL}
        if not Preconditions.of(exchange.request).evaluate(tag):
            return headers, None
        exchange.record.update(delivery="not-modified", bytes=0)
        return headers, HttpResponse(HTTPStatus.NOT_MODIFIED, headers)

    # Files

    def _file(self, versions: tuple[ImageSetVersion, ...], sop_instance_uid: str, budget: TimeBudget) -> _File:
        for version in versions:
            name = self._series_reader.name_of(version.image_set, sop_instance_uid)
            stored = self._files.find_of_version(version, name, budget)
            if stored:
                return _File.of(version.image_set, name, stored)
        for version in versions:
            found = self._read(version, budget, sop_instance_uid)
            if found:
                return self._built(version, found[0], self._stored_frames(version, budget), budget)
        raise InstanceNotFound

    def _all_files(self, version: ImageSetVersion, budget: TimeBudget) -> list[_File]:
        sources, stored = self._read(version, budget), self._stored_frames(version, budget)
        built = (self._builders.submit(self._built, version, source, stored, budget) for source in sources)
        pending = list(built)
        try:
            return [each.result() for each in pending]
        finally:
            for each in pending:
                each.cancel()

    def _read(
        self, version: ImageSetVersion, budget: TimeBudget, sop_instance_uid: str | None = None
    ) -> list[InstanceSource]:
        def select(uid: str) -> bool:
            return sop_instance_uid in (None, uid)

        try:
            return self._series_reader.read(version.image_set, budget, select)
        except FrameNotFound:
            raise InstanceNotFound from None

    def _stored_frames(self, version: ImageSetVersion, budget: TimeBudget) -> StoredFrames:
        image_set = version.image_set
        return StoredFrames(
            set(self._frames.names(image_set, budget)), set(self._frames.mismatched_names(image_set, budget))
        )

    def _built(
        self, version: ImageSetVersion, source: InstanceSource, stored: StoredFrames, budget: TimeBudget
    ) -> _File:
        """Build a file, unless this or another invocation has built it."""
        image_set, name = version.image_set, source.name

        def find() -> _File | None:
            found = self._files.find_of_version(version, name, budget) or self._files.find(image_set, source, budget)
            return _File.of(image_set, name, found) if found else None

        def make() -> _File:
            written = self._writer.write(image_set, source, stored, version.version_id, budget)
            return _File(image_set, name, written.size, source.file_syntax)

        return self._work.result(claim_key(image_set.datastore_id, f"{name}-file"), find, make, budget)

    # Bodies

    def _parts(
        self,
        exchange: Exchange,
        envelope: Envelope,
        image_set: ImageSetRef,
        files: list[_File],
        headers: dict[str, str],
    ) -> HttpResponse:
        """``200`` with files in a multipart body, or ``303`` to the stored body if it exceeds the inline limit."""
        budget, name = exchange.budget, envelope.name
        headers["Content-Type"] = envelope.content_type

        def contents() -> Iterator[Iterator[bytes]]:
            for file in files:
                yield self._files.read(file.image_set, file.name, budget)

        size = envelope.size_of([file.size for file in files])
        pieces = envelope.wrap(contents())
        if size <= self._inline_limit:
            content = read_beyond(pieces, self._inline_limit)
            exchange.record.update(delivery="inline", bytes=len(content))
            return HttpResponse(HTTPStatus.OK, headers, content)
        if not self._bodies.has(image_set, name, budget):
            self._bodies.store(image_set, name, envelope.content_type, pieces, budget, expected_size=size)
        return self._redirect_to_body(exchange, image_set, name, size)

    def _redirect_to_body(self, exchange: Exchange, image_set: ImageSetRef, name: str, size: int) -> HttpResponse:
        exchange.record.update(delivery="url", bytes=size)
        url = self._bodies.presigned_url(
            image_set,
            name,
            self._url_lifetime_seconds,
            for_head=exchange.request.method == "HEAD",
            request_id=exchange.request.request_id,
        )
        return redirect_response(url)


def _form(exchange: Exchange, transfer_syntax: str | None, *, is_series: bool) -> Form:
    """Choose the form of the response.

    Raises
    ------
    NotAcceptable
        If the client accepts no form, or another transfer syntax only.
    """
    negotiation = FrameNegotiation(accept_of(exchange.request), lambda _: _forms(transfer_syntax, is_series=is_series))
    return negotiation.form(DICOM_FILE)


def _identities(versions: tuple[ImageSetVersion, ...]) -> list[str]:
    return [f"{each.image_set.image_set_id}.{each.version_id}" for each in versions]
